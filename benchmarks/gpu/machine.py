"""The section `machine`: what the GPU and the software are, and what they can do at best."""

from __future__ import annotations

import os
import platform
from importlib.util import find_spec

import numpy as np
import PIL
import torch
import torchvision

from benchmarks.bounds import COPIED, bandwidth
from benchmarks.gpu.check import GIB, Check, has_crf
from benchmarks.measure import arithmetic

LAUNCHES = 1000


def machine(check: Check) -> None:
    """Versions and defaults, memory, matrix products, and what it costs to start an operation."""
    _describe_software(check)
    if check.on_gpu:
        _describe_gpu(check)
    _measure(check)


def _describe_software(check: Check) -> None:
    versions = (
        f"Python {platform.python_version()}, torch {torch.__version__}, "
        f"torchvision {torchvision.__version__}, NumPy {np.__version__}, Pillow {PIL.__version__}"
    )
    print("    CPUs:", len(os.sched_getaffinity(0)))
    if find_spec("triton"):
        import triton

        print("    triton", triton.__version__)
    else:
        print("    no triton")
    print("    pydensecrf:", "there" if has_crf() else "missing: the demo runs without CRF")
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    print(
        f"    defaults: cudnn.allow_tf32 {cudnn.allow_tf32}, matmul.allow_tf32 "
        f"{matmul.allow_tf32}, cudnn.benchmark {cudnn.benchmark}"
    )
    check.row("versions", versions)


def _describe_gpu(check: Check) -> None:
    gpu = torch.cuda.get_device_properties(0)
    check.row(
        "GPU",
        f"{gpu.name}, {gpu.total_memory / GIB:.0f} GiB, sm_{gpu.major}{gpu.minor}, "
        f"{gpu.multi_processor_count} SMs; CUDA {torch.version.cuda}, cuDNN "
        f"{torch.backends.cudnn.version()}, bf16 {torch.cuda.is_bf16_supported(False)}",
    )


def _measure(check: Check) -> None:
    device = check.device
    speed = bandwidth(device, 2**20 if check.tiny else COPIED)
    check.row("copy bandwidth (read + write)", f"{speed / 1e9:.0f} GB/s")

    side = 256 if check.tiny else 8192
    matmul = torch.backends.cuda.matmul
    before = matmul.allow_tf32
    for name, dtype, allow_tf32 in (
        ("float32", torch.float32, False),
        ("TF32", torch.float32, True),
        ("bfloat16", torch.bfloat16, False),
    ):
        matmul.allow_tf32 = allow_tf32
        speed = arithmetic(device, side, dtype)
        check.row(f"matrix product {side}, {name}", f"{speed / 1e12:.1f} TFLOP/s")
    matmul.allow_tf32 = before

    pinned = torch.empty(2**16 if check.tiny else 2**25, pin_memory=check.on_gpu)
    seconds = check.seconds(lambda: pinned.to(device, non_blocking=True))
    check.row("pinned memory to the GPU", f"{pinned.nbytes / seconds / 1e9:.1f} GB/s")

    one = torch.zeros(1, device=device)

    def launches() -> None:
        for _ in range(LAUNCHES):
            one.add_(1)

    microseconds = 1e6 * check.seconds(launches, 3) / LAUNCHES
    check.row(f"a small operation (Python, {LAUNCHES} in a row)", f"{microseconds:.1f} us")
