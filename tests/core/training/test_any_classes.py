"""Any number of classes: a step is trained, saved and resumed, and images are segmented."""

from __future__ import annotations

import numpy as np
import pytest
from own_dataset import best, make_dataset, run_infer, run_train, runs_files, weights
from PIL import Image
from training_command import error_of

from datasets.files import read_mask
from models.builder import MODELS
from utils.palette import voc_palette

CLASS_LAYERS = {"ae": "last_conv.8.weight", "bsl": "fc8.weight"}
LOSSES_OF_MANY = [(objects, "SoftMargin") for objects in (1, 2, 80, 254)]
CASES = [*LOSSES_OF_MANY, (2, "Hinge")]


def objects_of(count):
    """Names that are as numbers to YAML, of several words, and one that is a path."""
    return [f"{index}" if index % 2 else f"object/{index} Straße" for index in range(count)]


@pytest.mark.parametrize(
    ("objects", "loss", "model"),
    [
        pytest.param(
            objects, loss, model, marks=[pytest.mark.slow] if model == "ae" or objects > 2 else []
        )
        for objects, loss in CASES
        for model in MODELS
    ],
)
def test_any_number_of_objects(tmp_path, objects, loss, model):
    dataset = make_dataset(tmp_path / "data", objects_of(objects))
    changes = {"NET__MODEL": model, "NET__LOSS": loss}
    run_train(dataset, tmp_path, **changes)
    snapshot = best(tmp_path)
    assert weights(snapshot)[CLASS_LAYERS[model]].shape[0] == objects
    go_on = run_train(dataset, tmp_path, "--resume", "last", **changes, TRAIN__NUM_EPOCHS=1)
    assert "epoch 1, trained" in go_on.stdout and "epoch 0, trained" not in go_on.stdout
    assert weights(runs_files(tmp_path) / "last.pth")["epoch"] == 2

    run_infer(tmp_path, "--snapshot", snapshot, "--mask-output-dir", "out")
    masks = sorted((tmp_path / "out").glob("*.png"))
    assert len(masks) == 4
    for path in masks:
        mask = read_mask(path)
        assert mask.shape == (40, 48) and set(np.unique(mask)) <= {*range(objects + 1)}
        assert tuple(Image.open(path).getpalette()) == voc_palette()


def test_a_loss_between_objects_wants_two(tmp_path):
    dataset = make_dataset(tmp_path / "data", ["cat"])
    line = error_of(run_train(dataset, tmp_path, status=2, NET__LOSS="Hinge"))
    assert "NET.LOSS" in line and "SoftMargin" in line
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
