"""infer_val.py as a user runs it, with the smallest network, and what it leaves."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from forked import Forked, fork_pair
from in_process import one_thread, run_main
from PIL import Image

from core import torchrun
from core.checkpoint import save_model, snapshot_path
from core.config import load_config
from datasets.files import write_mask
from datasets.voc import PASCAL_VOC
from infer_val import main
from models import get_model

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIG = """
TEST: {SCALES: [1.0], FLIP: false, PAD_SIZE: [64, 64], USE_GT_LABELS: true, BG_POW: 1}
DATASET: {PATH: .}
NET: {MODEL: bsl, BACKBONE: vgg16}
"""


def make_workplace(folder: Path, images: int) -> Path:
    """A data root with `images` images, their masks and list.txt, cfg.yaml and a snapshot."""
    random = np.random.default_rng(0)
    lines = []
    for number in range(images):
        name, height, width = f"image{number:02d}", 40 + number % 5, 50 - number % 7
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(folder / f"{name}.jpg")
        # of few classes, as images are
        mask = random.integers(0, PASCAL_VOC.num_classes, 3)[random.integers(0, 3, (height, width))]
        write_mask(folder / f"{name}_mask.png", mask, PASCAL_VOC.palette)
        lines.append(f"{name}.jpg {name}_mask.png\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "cfg.yaml").write_text(CONFIG)
    save_snapshot(folder, seed=0)
    return folder


def save_snapshot(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    model = get_model(load_config(folder / "cfg.yaml").NET, PASCAL_VOC.num_classes)
    save_model(model, snapshot_path(folder / "snapshots/pascal_voc/main/v01", 2, 0.5))


def words_of(output: Path, arguments: Sequence[object]) -> list[str]:
    """What follows infer_val.py; a test's own arguments come last, and override."""
    words = ["--cfg", "cfg.yaml", "--device", "cpu", "--resume", "best", "--workers", "1"]
    words += ["--infer-list", "list.txt", "--mask-output-dir", output, *arguments]
    return [str(word) for word in words]


def start(folder: Path, output: Path, *arguments: object) -> Forked:
    """Start infer_val.py from `folder` in a process of its own."""
    return Forked(main, ["infer_val.py", *words_of(output, arguments)], folder, {})


def start_pair(folder: Path, output: Path, *arguments: object) -> list[Forked]:
    """Start two processes of infer_val.py that share the images."""
    return fork_pair(main, ["infer_val.py", *words_of(output, arguments)], folder)


def start_torchrun(folder: Path, output: Path, *arguments: object) -> Forked:
    """Start `python -m core.torchrun` with two processes of infer_val.py."""
    door = str(REPOSITORY / "infer_val.py")
    words = ["--standalone", "--nproc-per-node", "2", door, *words_of(output, arguments)]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    return Forked(lambda: sys.exit(torchrun.main(words)), words, folder, environment)


def infer(
    folder: Path, output: Path, *arguments: object, status: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run infer_val.py from `folder` to its end, in this process, which has PyTorch loaded."""
    with one_thread():
        done = run_main(main, *words_of(output, arguments), cwd=folder)
    assert done.returncode == status, done.stdout + done.stderr
    return done


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one line that a user's mistake ends in."""
    assert "Traceback" not in result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    return last


def results_of(output: Path) -> dict[str, bytes]:
    """The results below a folder, and whatever else was left there but records of runs."""
    return {
        str(path.relative_to(output)): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.suffix not in (".yaml", ".patch", ".json")
    }


def mark(folder: Path) -> None:
    """Change every mask, so that it shows which are made anew."""
    for path in folder.glob("*.png"):
        path.write_bytes(b"marked")


def marked(folder: Path) -> list[str]:
    """The images whose masks are as `mark` left them."""
    return sorted(path.stem for path in folder.glob("*.png") if path.read_bytes() == b"marked")
