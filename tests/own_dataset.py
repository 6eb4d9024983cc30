"""A data set of a user's own, without a mask, and the commands on it with a thin network."""

from __future__ import annotations

import csv
import gc
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import torch
import yaml
from in_process import one_thread, run_main
from PIL import Image
from thin_train import thin_networks
from training_command import MINI, SETTINGS

import infer_val
import train

NAMES = ("Käfer", "hot dog", "tv/monitor")
QUICK = {"TRAIN.BATCH_SIZE": "4", "TRAIN.NUM_EPOCHS": "0", "TRAIN.PRETRAIN": "0"}
"""One epoch, with the mask loss."""


def make_dataset(
    folder: Path,
    names: Sequence[str] = NAMES,
    *,
    lists: str = "csv",
    column: bool = False,
    images: int = 8,
    **keys: object,
) -> Path:
    """Write images, lists and labels, and the dataset.yaml whose path is returned.

    Args:
        folder: where.
        names: the objects; every image has some of them but the last one.
        lists: "csv" with names with spaces, or "lines".
        column: the labels are a column of the lists, not a table.
        images: how many train; half as many more validate.
        keys: other ones of dataset.yaml; None takes one out.
    """
    random = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    space, suffix = (" ", "csv") if lists == "csv" else ("_", "txt")
    count = images + images // 2
    files = [f"images/Größe{space}{number:02d}.png" for number in range(count)]
    objects = [{names[n % len(names)], names[n * n % len(names)]} for n in range(count - 1)]
    rows = list(zip(files, [*map(sorted, objects), []], strict=True))
    for name, _ in rows:
        pixels = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((48, 40)).save(folder / name)
    for part, of_part in (("train", rows[:images]), ("val", rows[images:])):
        _write_list(folder / f"{part}.{suffix}", of_part, column)
    if not column:
        _write_csv(folder / "labels.csv", [[name, *found] for name, found in rows])
    content = {
        "name": "own",
        "names": list(names),
        "train": f"train.{suffix}",
        "val": f"val.{suffix}",
        "labels": None if column else "labels.csv",
        **keys,
    }
    content = {key: value for key, value in content.items() if value is not None}
    path = folder / "dataset.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def _write_list(path: Path, rows: Sequence[tuple[str, list[str]]], column: bool) -> None:
    if path.suffix == ".txt":
        path.write_text("".join(f"{name}\n" for name, _ in rows), encoding="utf-8")
    elif column:
        _write_csv(path, [["image", "labels"], *([name, "|".join(found)] for name, found in rows)])
    else:
        _write_csv(path, [["image"], *([name] for name, _ in rows)])


def _write_csv(path: Path, rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)


def run_train(
    dataset: object, folder: Path, *arguments: object, status: int = 0, **changes: object
) -> CompletedProcess[str]:
    """Run train.py from `folder`, by default for one epoch; `changes` have __ for the dot."""
    settings = SETTINGS | QUICK | {k.replace("__", "."): v for k, v in changes.items()}
    words = ["--dataset", dataset, "--cfg", MINI, "--device", "cpu", *arguments]
    words += ["--set", *(word for pair in settings.items() for word in pair)]
    return _run(train.main, folder, words, status)


def run_infer(
    folder: Path, *arguments: object, status: int = 0, **changes: object
) -> CompletedProcess[str]:
    """Run infer_val.py from `folder`, small and without CRF; `changes` have __ for the dot."""
    settings = {"TEST.PAD_SIZE": "(64, 64)", "TEST.SCALES": "[1.0]", "TEST.CRF": "False"}
    settings |= {key.replace("__", "."): value for key, value in changes.items()}
    words = ["--device", "cpu", "--workers", "0", *arguments]
    words += ["--set", *(word for pair in settings.items() for word in pair)]
    return _run(infer_val.main, folder, words, status)


def _run(main, folder: Path, words: list[object], status: int) -> CompletedProcess[str]:
    with one_thread(), thin_networks():
        done = run_main(main, *words, cwd=folder)
    gc.collect()  # what an error holds on to ends now
    assert done.returncode == status, done.stdout + done.stderr
    return done


def runs_files(folder: Path, run: str = "v01", name: str = "own") -> Path:
    """The folder of a run's snapshots."""
    return folder / "snapshots" / name / "main" / run


def best(folder: Path, run: str = "v01", name: str = "own") -> Path:
    """The run's only or best snapshot."""
    return max(runs_files(folder, run, name).glob("model_enc_*"), key=lambda path: path.stem)


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)
