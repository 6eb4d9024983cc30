"""launch/train_images.sh with Python itself: from a folder of images to masks and a page."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from launch_checkout import REPOSITORY, Checkout
from PIL import Image

from datasets.mini_voc.folder import FolderSettings, generate_folder

pytestmark = [pytest.mark.bash, pytest.mark.slow]

IMAGES = 24
KILLS = int(os.environ.get("KILLS", "2"))
"""The issue's ten take minutes; `KILLS=10 pytest tests/launch/test_train_images.py` has them."""

CONFIG = """
TRAIN: {BATCH_SIZE: 8, NUM_EPOCHS: 1, MIN_STEPS: 8, NUM_WORKERS: 0, PRETRAIN: 0, VAL_INTERVAL: 1}
DATASET: {CROP_SIZE: 40}
NET: {MODEL: bsl, BACKBONE: resnet50, FREEZE_BN: false, LR: 0.01}
TEST: {SCALES: [0.5], FLIP: false, PAD_SIZE: [64, 64], BG_POW: 1, FP_CUT_SCORE: auto}
"""


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("my photos")
    generate_folder(folder, FolderSettings(seed=2, images=IMAGES))
    (folder / "config.yaml").write_text(CONFIG)
    return folder


def start(photos: Path, place: Path, *arguments: str, **changes: str) -> subprocess.Popen[str]:
    given = {
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
        "CONFIG": str(photos / "config.yaml"),
        "SNAPSHOT_DIR": str(place / "snapshots"),
        "LOGDIR": str(place / "logs"),
        "OUTPUT": str(place / "out"),
        **changes,
    }
    place.mkdir(exist_ok=True)
    checkout = Checkout(REPOSITORY, place, place, Path(sys.executable))
    words = arguments or (str(photos / "images"), str(photos / "labels.csv"))
    return subprocess.Popen(
        ["bash", str(REPOSITORY / "launch/train_images.sh"), *words, "--device", "cpu"],
        env=checkout.environment(**given),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def picture(path: Path) -> None:
    Image.new("RGB", (9, 9), (len(path.name), path.name[0] > "a", 7)).save(path)


def results_of(place: Path) -> dict[str, str]:
    """Digests of the masks, the page, the description and the snapshots."""
    files = [*(place / "out").rglob("*.png"), *(place / "out/data").iterdir()]
    files += [place / "out/masks/index.html", *place.glob("snapshots/*/*/*/model_*.pth")]
    return {
        str(file.relative_to(place)): hashlib.sha256(
            file.read_bytes().replace(str(place).encode(), b"PLACE")
        ).hexdigest()
        for file in files
    }


@pytest.fixture(scope="module")
def whole(photos, tmp_path_factory) -> Path:
    """What an uninterrupted run leaves."""
    before = {path: path.stat().st_mtime_ns for path in photos.rglob("*")}
    place = tmp_path_factory.mktemp("whole")
    process = start(photos, place)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert "steps to train" in out
    assert {path: path.stat().st_mtime_ns for path in photos.rglob("*")} == before
    return place


def test_a_folder_ends_as_masks_and_a_page(photos, whole):
    masks = whole / "out/masks"
    names = {path.stem for path in (photos / "images").iterdir()}
    assert len(names) == IMAGES
    for folder in (masks, masks / "crf"):
        assert {path.stem for path in folder.glob("*.png")} == names
    assert (masks / "index.html").is_file()
    # known labels are kept to
    info = yaml.safe_load((whole / "out/data/dataset.yaml").read_text())
    rows = [line.split(",") for line in (whole / "out/data/labels.csv").read_text().splitlines()]
    for name, *objects in rows:
        found = set(np.unique(np.array(Image.open(masks / f"{Path(name).stem}.png")))) - {0}
        assert found <= {1 + info["names"].index(item) for item in objects}
    [config] = whole.glob("snapshots/*/*/*/config.yaml")
    assert isinstance(yaml.safe_load(config.read_text())["TEST"]["FP_CUT_SCORE"], float)


def test_killed_and_run_again_it_ends_with_the_same_files(photos, whole, tmp_path_factory):
    # as deep as the other, for the page's relative links
    place, chance = tmp_path_factory.mktemp("killed"), random.Random(4)
    for _ in range(KILLS):
        process = start(photos, place)
        time.sleep(chance.uniform(2, 14))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    process = start(photos, place)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert results_of(place) == results_of(whole)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: None, "no images"),
        (lambda folder: picture(folder / "a.jpg"), "one image"),
        (lambda folder: [picture(folder / name) for name in ("a.jpg", "b.jpg")], "--labels"),
    ],
)
def test_mistakes_are_one_line(photos, tmp_path, make, words):
    folder = tmp_path / "photos"
    folder.mkdir()
    make(folder)
    process = start(photos, tmp_path / "place", str(folder))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    [line] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert words in line
    assert not (tmp_path / "place/snapshots").exists()


def test_the_weights_are_those_of_trainings_own_arguments(photos, tmp_path):
    images = (str(photos / "images"), str(photos / "labels.csv"))
    gone = {"CONFIG": "configs/images_resnet50.yaml", "WEIGHTS_URL": "http://127.0.0.1:9"}
    wanted = ("NET.BACKBONE", "vgg16", "NET.PRE_WEIGHTS_PATH", f"models/weights/{tmp_path.name}")
    process = start(photos, tmp_path / "place", *images, "--set", *wanted, **gone)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "vgg16_20M.pth" in out + err and "resnet50-" not in out + err


def test_names_that_masks_would_share_are_refused_before_training(photos, tmp_path):
    folder = tmp_path / "photos"
    for kind in ("cat", "dog", "background"):
        (folder / kind).mkdir(parents=True)
        for number in range(2):
            colour = tuple(random.Random(f"{kind}{number}").choices(range(256), k=3))
            Image.new("RGB", (9, 9), colour).save(folder / kind / f"{number}.png")
    process = start(photos, tmp_path / "place", str(folder))
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert [line for line in err.splitlines() if line.startswith("error: ") and "rename" in line]
