"""train.py as a user runs it, with a thin network (thin_train.py), and what it leaves."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from in_process import one_thread, run_main
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from thin_train import thin_networks

from core.training.run import TrainingRun
from train import main

REPOSITORY = Path(__file__).resolve().parents[1]
MINI = REPOSITORY / "configs" / "mini_resnet50.yaml"
THIN_TRAIN = REPOSITORY / "tests" / "thin_train.py"
SETTINGS = {
    "NET.MODEL": "bsl",
    "NET.BACKBONE": "vgg16",
    "DATASET.CROP_SIZE": "32",
    "TRAIN.BATCH_SIZE": "16",
    "TRAIN.NUM_WORKERS": "0",
    "TRAIN.NUM_EPOCHS": "2",
    "TRAIN.PRETRAIN": "1",
    "TRAIN.VAL_INTERVAL": "2",
    "TRAIN.SCHEDULE": "constant",  # the same if a run is made longer
    "NET.LR": "0.001",
    "TRAIN.AMP": "off",  # the same on every machine
}


def arguments_of(data: Path, arguments: Sequence[str], changes: Mapping[str, str]) -> list[str]:
    """What follows train.py; `changes` are keys with __ for the dot."""
    settings = SETTINGS | {key.replace("__", "."): value for key, value in changes.items()}
    words = ["--set", "DATASET.PATH", str(data), *(w for pair in settings.items() for w in pair)]
    return ["--cfg", str(MINI), "--exp", "tests", "--device", "cpu", *arguments, *words]


def start(
    data: Path, folder: Path, *arguments: str, launcher: Sequence[str] = (), **changes: str
) -> subprocess.Popen[str]:
    """Start train.py from `folder`, with `launcher` between Python and it."""
    command = [sys.executable, *launcher, str(THIN_TRAIN)]
    return subprocess.Popen(
        [*command, *arguments_of(data, arguments, changes)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONUNBUFFERED": "1",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
        },
    )


def train(
    data: Path, folder: Path, *arguments: str, status: int = 0, **changes: str
) -> subprocess.CompletedProcess[str]:
    """Run train.py from `folder` to its end, in this process, which has PyTorch loaded."""
    with one_thread(), thin_networks():
        done = run_main(main, *arguments_of(data, arguments, changes), cwd=folder)
    gc.collect()  # what an error holds on to ends now
    assert done.returncode == status, done.stdout + done.stderr
    return done


def train_together(
    data: Path, folder: Path, *arguments: str, launcher: Sequence[str], status: int = 0, **changes
) -> subprocess.CompletedProcess[str]:
    """Run train.py to its end in processes of its own."""
    with start(data, folder, *arguments, launcher=launcher, **changes) as process:
        out, err = process.communicate()
    assert process.returncode == status, out + err
    return subprocess.CompletedProcess(process.args, status, out, err)


def error_of(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a user's mistake ends in."""
    lines = result.stderr.strip().splitlines()
    assert "Traceback" not in result.stderr
    assert lines[-1].startswith("error: ")
    return lines[-1]


def snapshot_folder(folder: Path, run: str) -> Path:
    return folder / "snapshots/pascal_voc/tests" / run


def snapshots(folder: Path, run: str) -> dict[str, Path]:
    found = snapshot_folder(folder, run).glob("model_enc_*.pth")
    return {path.stem.removeprefix("model_enc_"): path for path in sorted(found)}


def scalars(folder: Path, run: str, writer: str) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "logs/pascal_voc/tests" / run / writer))
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def state_of(folder: Path, run: str) -> dict:
    """All that a run leaves, in a form that can be compared."""
    files = {
        path.name: flatten(torch.load(path, weights_only=True))
        for path in snapshot_folder(folder, run).glob("*.pth")
    }
    return files | {writer: scalars(folder, run, writer) for writer in ("train", "val")}


def flatten(content: object, name: str = "") -> dict[str, object]:
    """Nested containers as one dictionary, tensors as their bytes."""
    if isinstance(content, torch.Tensor):
        return {name: (content.dtype, content.shape, content.contiguous().numpy().tobytes())}
    if isinstance(content, dict):
        pairs = content.items()
    elif isinstance(content, (list, tuple)):
        pairs = enumerate(content)
    else:
        return {name: content}
    return {k: v for key, value in pairs for k, v in flatten(value, f"{name}/{key}").items()}


def stop_before(epoch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs end, as if killed, before this epoch is trained."""
    real = TrainingRun._train
    monkeypatch.setattr(
        TrainingRun, "_train", lambda run, e: sys.exit(9) if e == epoch else real(run, e)
    )
