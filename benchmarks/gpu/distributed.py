"""The section `distributed`: groups of processes, by NCCL and gloo, and train.py by torchrun."""

from __future__ import annotations

import time

import torch

from benchmarks.gpu.check import Check
from benchmarks.gpu.commands import training_words
from benchmarks.gpu.group_member import RESULT
from benchmarks.gpu.mini_voc import mini_voc
from benchmarks.gpu.processes import ROOT, show

TORCHRUN = ("-m", "core.torchrun", "--standalone", "--nproc-per-node")
LIMIT = 1e-2
"""How far gradients may be off; BatchNorms over several processes round the most."""


def distributed(check: Check) -> None:
    """NCCL with one process, two processes on one GPU by gloo, and training."""
    groups = [(1, "nccl", "plain"), (2, "gloo", "plain")]
    groups += [(2, "gloo", "sync_bn"), (2, "gloo", "checkpoint")]
    if not check.on_gpu:
        groups = [(1, "gloo", "plain"), (2, "gloo", "plain")]
    for size, backend, kind in groups:
        what = f"{size} processes, {backend}" + (f" {kind}" if kind != "plain" else "")
        with check.guarded(what):
            _run_group(check, what, size, backend, kind)
    with check.guarded("train.py by torchrun"):
        _train(check)


def _run_group(check: Check, what: str, size: int, backend: str, kind: str) -> None:
    words = ["--device", check.device.type, *(["--tiny"] if check.tiny else [])]
    threads = {"OMP_NUM_THREADS": "2"} if check.on_gpu else {}
    done = check.run(
        *TORCHRUN,
        size,
        "benchmarks/gpu/group_member.py",
        backend,
        kind,
        *words,
        limit=75,
        environment={"PYTHONPATH": str(ROOT), **threads},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if not lines:
        raise RuntimeError("the group printed no result")
    off = float(lines[-1].removeprefix(RESULT))
    what = f"DistributedDataParallel, {what}"
    check.row(what, f"gradients off by {off:.1e}", off < LIMIT)
    show(list(dict.fromkeys(_warnings(done.stderr)))[:6])


def _train(check: Check) -> None:
    data = mini_voc(check.out)
    processes = max(1, torch.cuda.device_count()) if check.on_gpu else 1
    words = training_words(check, data, "torchrun", "--overwrite")
    begin = time.time()
    done = check.run(*TORCHRUN, processes, "train.py", *words, limit=110)
    last = done.stdout.strip().splitlines()[-1]
    check.row(
        f"train.py with NPROC={processes}", f"{time.time() - begin:.0f} s; {last[:100]}", True
    )
    show(_warnings(done.stderr)[:6])


def _warnings(text: str) -> list[str]:
    return [line for line in text.splitlines() if "warn" in line.lower()]
