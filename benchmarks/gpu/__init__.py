"""What `benchmarks/gpu_check.py` runs: its sections, and what they share."""
