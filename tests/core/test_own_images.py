"""From a folder of images and a table of labels to masks and their scores, as a user goes there."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml
from in_process import run_main
from own_dataset import best, run_infer, run_train, runs_files
from PIL import Image

import eval_seg
from datasets.dataset_file import read_dataset
from datasets.mini_voc import __main__ as mini_voc

IMAGES = 36
NAMES = ["cargo bike", "coach", "flask", "fox", "taxi", "wolf"]
DATASET = """
names: [cargo bike, coach, flask, fox, taxi, wolf]
train: my train.csv
val: my val.csv
labels: labels.csv
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where the data set lies in `garden`."""
    folder = tmp_path_factory.mktemp("home")
    words = ("--layout", "folder", "--out", "garden", "--images", IMAGES, "--seed", 3)
    done = run_main(mini_voc.main, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    data = folder / "garden"
    (data / "dataset.yaml").write_text(DATASET)
    images = sorted(path.name for path in (data / "images").iterdir())
    assert len(images) == IMAGES and any(" " in name for name in images)
    for name, part in (("train", images[::2]), ("val", images[1::2])):
        lines = "".join(f'"images/{image}"\n' for image in part)
        (data / f"my {name}.csv").write_text(f"image\n{lines}", encoding="utf-8")
    return folder


@pytest.mark.slow
def test_from_a_folder_of_images_to_scores(home):
    trained = run_train("garden", home, TRAIN__BATCH_SIZE=6, TRAIN__NUM_EPOCHS=1)
    for name in (*NAMES, "my train.csv", "my val.csv"):
        assert name in trained.stdout
    assert read_dataset(runs_files(home, name="garden") / "dataset.yaml").classes[1:] == (*NAMES,)

    snapshot = best(home, name="garden")
    given = ("--infer-list", "garden/images", "--mask-output-dir", "masks")
    labels = ("--labels", "garden/labels.csv")
    run_infer(home, "--snapshot", snapshot, *given, *labels, TEST__PAD_SIZE="(128, 128)")
    found = {path.name: np.array(Image.open(path)) for path in (home / "masks").glob("*.png")}
    truth = {path.name: np.array(Image.open(path)) for path in (home / "garden/masks").iterdir()}
    assert found.keys() == truth.keys() and len(found) == IMAGES
    for name, mask in found.items():
        assert mask.shape == truth[name].shape
        assert {*np.unique(mask)} <= {0, *np.unique(truth[name])}, name
    assert yaml.safe_load((home / "masks/dataset.yaml").read_text())["names"] == NAMES

    words = ("--dataset", "garden", "--ground-truth", "garden/masks", "--masks", "masks")
    done = run_main(eval_seg.main, *words, "--json", "scores.json", cwd=home)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in NAMES) and "sofa" not in done.stdout
    [scores] = json.loads((home / "scores.json").read_text())["evaluations"]
    counts = np.array(scores["histogram"])
    assert counts.shape == (7, 8)
    for index in range(7):
        pixels = sum(int((mask == index).sum()) for mask in truth.values())
        assert counts[index].sum() == pixels
