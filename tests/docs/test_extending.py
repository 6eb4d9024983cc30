"""docs/extending.md: its snippets, applied to a copy of the repository, train."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
CODE = ("core", "datasets", "models", "utils", "configs", "train.py")
SETTINGS = {
    **{"NET.FREEZE_BN": "False", "NET.PRE_WEIGHTS_PATH": "", "DATASET.CROP_SIZE": "33"},
    **{"TRAIN.NUM_EPOCHS": "1", "TRAIN.PRETRAIN": "0", "TRAIN.BATCH_SIZE": "8"},
    **{"TRAIN.NUM_WORKERS": "0", "NET.LR": "0.0001"},
}

# in the copy: what the page adds is what a network, a loss, a rate and a view are made of
CHECK = """
import sys
import torch
from core.config import load_config
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer, rate_factor
from datasets.transforms import train_transform
from models import get_model
from train import main
from utils.errors import run_command

config = load_config(None, sys.argv[sys.argv.index("--set") + 1 :])
network = get_model(config.NET)
parts = (network.backbone, network.aspp, network._aff)
assert [type(part).__name__ for part in parts] == ["Tiny", "MeanContext", "Smoothing"]
assert network.mask_loss.__name__ == "plain_mask_loss"
assert Criterion(config).classify.__name__ == "_focal"
assert type(build_optimizer(network, config.NET)) is torch.optim.RMSprop
assert rate_factor(config.TRAIN.SCHEDULE, 0, 3, 4) == 0.5
assert "RandomGrayscale" in str(train_transform(33, 0.9, 1.0))
run_command(main)
"""


@dataclass(frozen=True)
class Snippet:
    """A fenced block: a new file's content, or changes of a file, and the section it is of."""

    section: str
    path: str
    is_new: bool
    lines: list[str]


def snippets() -> list[Snippet]:
    found = []
    for section in PAGE.split("\n## ")[1:]:
        title = section.partition("\n")[0]
        for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S):
            first, *lines = body.splitlines()
            assert language in ("python", "diff"), f"{title}: nothing runs {language}"
            found.append(Snippet(title, first.removeprefix("# "), language == "python", lines))
    return found


def apply(snippet: Snippet, root: Path) -> None:
    """Write the new file, or make the changes, whose unchanged and `-` lines must be found once."""
    path = root / snippet.path
    if snippet.is_new:
        assert not path.exists()
        path.write_text("\n".join(snippet.lines) + "\n", encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    for hunk in "\n".join(snippet.lines).split("\n@@\n"):
        # an empty line of a diff has lost its blank
        lines = [line or " " for line in hunk.split("\n")]
        old = "\n".join(line[1:] for line in lines if line[0] in " -") + "\n"
        new = "\n".join(line[1:] for line in lines if line[0] in " +") + "\n"
        assert text.count(f"\n{old}") == 1, f"{snippet.path}: {old}"
        text = text.replace(f"\n{old}", f"\n{new}")
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def copy(tmp_path) -> Path:
    for name in CODE:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pyc*"))
        else:
            shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def test_there_is_a_section_for_each_part():
    parts = {
        "backbone",
        "head",
        "class loss",
        "mask loss",
        "refinement",
        "augmentation",
        "schedule",
    }
    titles = {snippet.section.partition(" ")[2] for snippet in snippets()}
    assert titles >= parts


def test_the_table_counts_the_snippets_files_and_lines():
    files, lines = defaultdict(set), defaultdict(int)
    for each in snippets():
        files[each.section].add(each.path)
        added = [line for line in each.lines if line.startswith("+") and line != "+"]
        lines[each.section] += 0 if each.is_new else len(added)
    rows = re.findall(r"^\| \[(.*?)\]\(.*?\) \| .*? \| (\d+) \| (\d+) \| .*\|$", PAGE, re.M)
    assert {title: (int(some), int(more)) for title, some, more in rows} == {
        title: (len(paths), lines[title]) for title, paths in files.items()
    }


@pytest.mark.parametrize("section", list(dict.fromkeys(each.section for each in snippets())))
def test_each_part_alone_is_python(section, copy):
    for each in snippets():
        if each.section == section:
            apply(each, copy)
            path = copy / each.path
            compile(path.read_text(encoding="utf-8"), path, "exec")


@pytest.mark.slow
def test_a_network_with_all_of_them_trains(copy, mini_voc):
    for each in snippets():
        apply(each, copy)
    chosen = " ".join(re.findall(r"`--set (.*?)`", PAGE)).split()
    assert chosen[::2] == [
        *("NET.BACKBONE", "NET.LOSS", "NET.REFINE"),
        *("TRAIN.SCHEDULE", "TRAIN.WARMUP", "NET.OPT"),
    ]
    words = ["--set", *chosen, *(word for pair in SETTINGS.items() for word in pair)]
    place = ["--cfg", "configs/mini_resnet50.yaml", "--exp", "x", "--device", "cpu"]
    done = subprocess.run(
        [sys.executable, "-c", CHECK, *place, *words, "DATASET.PATH", str(mini_voc)],
        cwd=copy,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 1, trained" in done.stdout
    assert list(copy.glob("snapshots/pascal_voc/x/*/model_enc_*.pth"))
