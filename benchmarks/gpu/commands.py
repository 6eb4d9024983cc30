"""The sections `deterministic`, `demo`, `memory` and `benchmarks`: commands as users run them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.check import Check, has_crf
from benchmarks.gpu.mini_voc import mini_voc
from benchmarks.gpu.processes import ROOT

SMALL = {"DATASET.CROP_SIZE": 32, "NET.BACKBONE": "vgg16", "NET.LR": 0.001}
"""What makes a run tiny."""
ONE_EPOCH = {"TRAIN.NUM_EPOCHS": 1}
"""Epochs run from 0 to it, both included."""


def run_words(check: Check, run: str) -> list[object]:
    """Options that train.py and infer_val.py share."""
    folder = check.out / "runs"
    words = ["--cfg", "configs/mini_resnet50.yaml", "--exp", "check", "--run", run]
    words += ["--device", check.device.type]
    return [*words, "--snapshot-dir", folder / "snapshots", "--logdir", folder / "logs"]


def set_words(settings: Mapping[str, object]) -> list[object]:
    """--set with all keys and values."""
    return ["--set", *(word for pair in settings.items() for word in pair)]


def training_words(
    check: Check, data: Path, run: str, *more: str, **changes: object
) -> list[object]:
    """What follows train.py for a run of an epoch; `changes` are keys with __ for the dot."""
    settings = {
        "DATASET.PATH": data,
        "TRAIN.NUM_EPOCHS": 0,
        "TRAIN.PRETRAIN": 0,
        "TRAIN.VAL_INTERVAL": 9,
        "TRAIN.NUM_WORKERS": 2,
        **{key.replace("__", "."): value for key, value in changes.items()},
        **(SMALL if check.tiny else {}),
    }
    return [*run_words(check, run), *more, *set_words(settings)]


def deterministic(check: Check) -> None:
    """--deterministic twice, and a run that was taken up again; twice without it; and fp16."""
    data = mini_voc(check.out)
    begin = time.time()
    fixed, longer = ("--overwrite", "--deterministic"), {"TRAIN__NUM_EPOCHS": 1}
    runs = {
        "one": training_words(check, data, "one", *fixed, **longer),
        "two": training_words(check, data, "two", *fixed, **longer),
        "half": training_words(check, data, "half", *fixed),
    }
    if check.on_gpu:
        runs["plain"] = training_words(check, data, "plain", "--overwrite", **longer)
        runs["plain2"] = training_words(check, data, "plain2", "--overwrite", **longer)
        runs["fp16"] = training_words(check, data, "fp16", *fixed, TRAIN__AMP="fp16")
    _tell_warnings(check, _train_side_by_side(check, runs)["one"])
    with check.guarded("twice the same"):
        _compare_runs(check, "--deterministic twice", "one", "two", judged=True)
    with check.guarded("taken up again"):
        more = ("--resume", "last", "--deterministic")
        check.run("train.py", *training_words(check, data, "half", *more, **longer), limit=90)
        _compare_runs(check, "--resume last with --deterministic", "one", "half", judged=True)
    if "plain" in runs:
        with check.guarded("without"):
            _compare_runs(check, "twice without --deterministic", "plain", "plain2", judged=False)
    if "fp16" in runs:
        with check.guarded("fp16"):
            scale = _last_state(check, "fp16")["precision"].get("scale")
            check.row("fp16 from scratch", f"scale after an epoch {scale}", True)
    print(f"    {time.time() - begin:.0f} s")


def _train_side_by_side(check: Check, runs: Mapping[str, list[object]]) -> dict[str, str]:
    """What each run has said on stderr; their bits do not depend on who else uses the GPU."""
    running = {
        name: subprocess.Popen(
            [sys.executable, "train.py", *map(str, words)],
            cwd=ROOT,
            text=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for name, words in runs.items()
    }
    texts = {}
    for name, process in running.items():
        try:
            _, texts[name] = process.communicate(timeout=100 * check.patience)
        except subprocess.TimeoutExpired:
            process.kill()
            _, texts[name] = process.communicate()
        if process.returncode:
            last = texts[name].strip().splitlines()[-1:]
            result = f"ended with {process.returncode}: {''.join(last)[:150]}"
            check.row(f"train.py {name}", result, False)
    return texts


def _tell_warnings(check: Check, text: str) -> None:
    lines = [line for line in text.splitlines() if "deterministic" in line and "Warning" in line]
    found = sorted({line.split("Warning: ", 1)[-1][:110] for line in lines})
    for line in found:
        print("    | warned:", line)
    check.row("warnings of --deterministic", f"{len(found)} kinds")


def _compare_runs(check: Check, what: str, one: str, other: str, judged: bool) -> None:
    differences = _differences(_last_state(check, one), _last_state(check, other))
    result = f"{len(differences)} differ, as {differences[0][:90]}" if differences else "bit-equal"
    check.row(what, result, not differences if judged else None)


def _last_state(check: Check, run: str) -> dict[str, Any]:
    path = check.out / "runs/snapshots/pascal_voc/check" / run / "last.pth"
    return torch.load(path, weights_only=True, map_location="cpu")


def _differences(one: Any, other: Any, where: str = "") -> list[str]:
    """Where two nested states differ."""
    if isinstance(one, torch.Tensor):
        if torch.equal(one, other):
            return []
        return [f"{where} by {float((one.double() - other.double()).abs().max()):.1e}"]
    if isinstance(one, dict):
        pairs = [(key, one[key], other[key]) for key in one]
    elif isinstance(one, (list, tuple)):
        pairs = [(place, *pair) for place, pair in enumerate(zip(one, other, strict=True))]
    else:
        return [] if one == other else [f"{where}: {one} and {other}"]
    return [line for key, *pair in pairs for line in _differences(*pair, f"{where}/{key}")]


def demo(check: Check) -> None:
    """Train, infer, evaluate on mini-VOC. On the CPU it gives about 0.75 without CRF."""
    data = mini_voc(check.out)
    common = run_words(check, "demo")
    settings = {"DATASET.PATH": data, **(SMALL if check.tiny else {})}
    training = {
        "TRAIN.NUM_EPOCHS": 3 if check.tiny else 12,
        "TRAIN.PRETRAIN": 3,
        "TRAIN.VAL_INTERVAL": 4,
        "TRAIN.NUM_WORKERS": 4,
    }
    begin = time.time()
    words = [*common, "--overwrite", *set_words(settings | training)]
    done = check.run("train.py", *words, limit=200)
    last = [line for line in done.stdout.splitlines() if "mAP" in line][-1]
    check.row("demo: training", f"{time.time() - begin:.0f} s; {last[:100]}")

    begin = time.time()
    listed, masks = ["--infer-list", data / "val_voc.txt"], check.out / "masks"
    test = {"TEST.CRF": has_crf(), **({"TEST.PAD_SIZE": "[128, 128]"} if check.tiny else {})}
    words = [*common, "--resume", "best", *listed, "--mask-output-dir", masks]
    check.run("infer_val.py", *words, *set_words(settings | test), limit=100)
    check.row("demo: inference", f"{time.time() - begin:.0f} s")

    numbers = check.out / "numbers.json"
    words = ["--data", data, "--filelist", data / "val_voc.txt", "--masks", masks]
    check.run("eval_seg.py", *words, "--json", numbers, limit=60)
    for each in json.loads(numbers.read_text())["evaluations"]:
        mean = each["mean"]["all"]["iou"]
        fine = mean > (0.0 if check.tiny else 0.65)
        check.row(f"demo: mean IoU, {each['name']}", f"{mean:.4f}", fine)


def memory(check: Check) -> None:
    """The tables of peak memory; what else runs on the GPU is not counted."""
    if check.tiny:
        check.row("python -m benchmarks.memory", "left out")
        return
    done = check.run("-m", "benchmarks.memory", "--device", check.device.type, limit=220)
    for what, result in what_tables_say(done.stdout):
        check.row(what, result)


def what_tables_say(text: str) -> Iterator[tuple[str, str]]:
    """The rows of the tables of `benchmarks.memory`: which, and its values by their columns."""
    titles: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| Backbone"):
            titles = cells
        elif line.startswith("| "):
            columns = zip(titles[1:], cells[1:], strict=True)
            what = f"peak memory, {cells[0]}{titles[0].removeprefix('Backbone')}"
            yield what, ", ".join(" ".join(pair) for pair in columns)


def benchmarks(check: Check) -> None:
    """The project's own cases for a GPU; it says so where results differ by more than rounding."""
    if check.tiny:
        check.row("python -m benchmarks", "left out")
        return
    command = [sys.executable, "-m", "benchmarks", "--device", "cuda", "--seconds", "2"]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        for line in process.stdout:
            print("    " + line[:230].rstrip(), flush=True)
            found = what_a_line_says(line)
            if found:
                check.row(*found)
    status = process.returncode
    check.row("python -m benchmarks --device cuda", f"exit status {status}", status == 0)


def what_a_line_says(line: str) -> tuple[str, str] | None:
    """The case of a line of the benchmarks' table, and its result; None for other lines."""
    cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
    if len(cells) != 9 or cells[0] == "case" or cells[0].startswith("---"):
        return None
    name, baseline, ours, ratio, target, _, _, difference, _ = cells
    result = f"{baseline} -> {ours}, {ratio} (target {target or 'none'}), off by {difference}"
    return name[:70], result
