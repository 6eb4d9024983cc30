"""The scripts of inference with Python itself: a snapshot of other classes is all they are told."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from launch_checkout import REPOSITORY, Checkout
from report_case import write

from core.checkpoint import save_model, snapshot_path
from core.config import load_config
from core.snapshot_settings import write_settings
from datasets.dataset_file import read_dataset
from models import get_model

pytestmark = [pytest.mark.bash, pytest.mark.slow]

CONFIG = """
TEST: {SCALES: [1.0], FLIP: false, PAD_SIZE: [64, 64], BG_POW: 1, CRF: false}
NET: {MODEL: bsl, BACKBONE: vgg16}
"""


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A baseline's snapshot, in a run of a data set of two objects with two images."""
    pets = tmp_path / "my pets"
    for name in ("a", "b"):
        for folder in ("img", "gt"):
            write(pets / folder / f"{name} 1.png", torch.full((40, 50), folder == "gt").numpy())
    (pets / "all.csv").write_text("image,mask\nimg/a 1.png,gt/a 1.png\nimg/b 1.png,gt/b 1.png\n")
    (pets / "labels.csv").write_text("a 1.png,cat\nb 1.png,cat\n")
    (pets / "dataset.yaml").write_text(
        "name: pets\nnames: [cat, dog]\ntrain: all.csv\nval: all.csv\nlabels: labels.csv\n"
    )
    (tmp_path / "cfg.yaml").write_text(CONFIG)
    config, info = load_config(tmp_path / "cfg.yaml"), read_dataset(pets / "dataset.yaml")
    path = snapshot_path(tmp_path / "snapshots/pets/main/v01", 2, 0.5)
    save_model(get_model(config.NET, info.num_classes), path)
    write_settings(path.parent, config, info)
    return path


def run(folder: Path, script: str, *arguments: str, **variables: str) -> list[str]:
    """The lines that a script of the repository prints."""
    places = {"SNAPSHOT_DIR": "snapshots", "LOGDIR": "logs", "OUTPUT_DIR": "results"}
    given = {name: str(folder / place) for name, place in places.items()}
    given |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", **variables}
    checkout = Checkout(REPOSITORY, folder, folder, Path(sys.executable))
    done = subprocess.run(
        ["bash", str(REPOSITORY / "launch" / script), *arguments],
        env=checkout.environment(**given),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_snapshot_is_enough(snapshot: Path, tmp_path: Path) -> None:
    cpu = ("--device", "cpu", "--workers", "0")
    run_of_pets = {"EXP": "main", "RUN_ID": "v01", "SNAPSHOT": "best"}
    run(tmp_path, "infer_val.sh", *cpu, **run_of_pets)
    masks = tmp_path / "results/main/v01"
    lines = run(tmp_path, "eval_seg.sh", SAVE_DIR=str(masks))
    assert any(line.startswith("2 of 2 images evaluated") for line in lines)
    assert any(line.split()[:1] == ["dog"] for line in lines)
    assert (tmp_path / "logs/pets/main/v01.log").is_file()

    run(tmp_path, "pseudo_labels.sh", *cpu, **run_of_pets)
    listed = (tmp_path / "results/main/v01_pseudo/pseudo_labels.txt").read_text()
    assert listed.splitlines()[1] == "my pets/img/a 1.png,results/main/v01_pseudo/a 1.png"

    given = {"SNAPSHOT": str(snapshot), "OUTPUT": str(tmp_path / "own")}
    run(tmp_path, "infer_images.sh", str(tmp_path / "my pets/img"), *cpu, **given)
    assert (tmp_path / "own/a 1.png").is_file()
