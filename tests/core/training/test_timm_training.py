"""Runs of training with timm's backbones: resumed, normalised as their weights want, inferred."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_recipe import golden_config
from PIL import Image
from timm_networks import EACH, stride_of
from torch import Tensor, nn
from training_command import snapshot_folder, snapshots, state_of, train

from core.checkpoint import save_model
from core.config import load_config
from core.inference.segmenter import Segmenter
from core.training.engine import Trainer
from core.training.tensorboard import draw_batch
from datasets.transforms import normalise
from datasets.voc import PASCAL_VOC
from models import get_model

CPU = torch.device("cpu")
HALF = ((0.5,) * 3, (0.5,) * 3)
SMALL = "timm/test_resnet"
"""Its weights want pixels in [-1, 1]."""


@pytest.mark.slow
@EACH
def test_a_resumed_run_is_the_same_bit_for_bit(mini_voc, tmp_path, name):
    settings = {
        "NET__BACKBONE": name,
        "NET__OUTPUT_STRIDE": str(stride_of(name)),
        "NET__MODEL": "ae",
        "TRAIN__PRETRAIN": "0",
        "TRAIN__VAL_INTERVAL": "1",
    }
    for place in ("whole", "halves"):
        (tmp_path / place).mkdir()
    train(mini_voc, tmp_path / "whole", "--run", "x", TRAIN__NUM_EPOCHS="1", **settings)
    halves = tmp_path / "halves"
    train(mini_voc, halves, "--run", "x", TRAIN__NUM_EPOCHS="0", **settings)
    train(mini_voc, halves, "--run", "x", "--resume", "last", TRAIN__NUM_EPOCHS="1", **settings)
    whole, resumed = (state_of(tmp_path / place, "x") for place in ("whole", "halves"))
    assert whole["last.pth"] == resumed["last.pth"]

    folder = snapshot_folder(halves, "x")
    assert name == load_config(folder / "config.yaml").NET.BACKBONE
    for snapshot in snapshots(halves, "x").values():
        segmenter = Segmenter.from_snapshot(snapshot, device="cpu")
        image = Image.fromarray(np.zeros((50, 61, 3), dtype=np.uint8))
        found = segmenter.predict(image)
        assert found.mask.shape == (50, 61) and found.probabilities.shape == (21, 50, 61)


class Watched(nn.Module):
    """A network that keeps what it was last given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.images = torch.empty(0)

    def forward(self, images: Tensor, *others: object) -> object:
        self.images = images
        return self.network(images, *others)


class OneBatch:
    """The same batch in every epoch."""

    images_of_all = 2

    def __init__(self, raw: Tensor, labels: Tensor) -> None:
        self.batch = (raw, labels)

    def epoch(self, epoch: int):
        return iter([self.batch])

    def names(self, epoch: int, step: int) -> list[str]:
        return ["one", "other"]


@pytest.mark.parametrize(
    ("backbone", "mean_std"), [(SMALL, HALF), ("timm/test_efficientnet", None)]
)
def test_all_that_sees_images_normalises_as_the_weights_want(backbone, mean_std):
    network = get_model(golden_config(backbone, "bsl", FREEZE_BN=False))
    config = load_config(None, ["NET.BACKBONE", backbone, "NET.FREEZE_BN", "False"])
    trainer = Trainer(network, config, CPU)
    trainer.model = trainer.eval_model = watched = Watched(network)
    raw, labels = torch.rand(2, 3, 40, 40), torch.zeros(2, 20)
    labels[:, 3] = 1
    expected = (raw - 0.5) / 0.5 if mean_std else normalise(raw)
    batches = OneBatch(raw, labels)

    seen = []
    trainer.train_one_epoch(batches, 0)
    seen.append(watched.images)
    trainer.validate(batches, 0, "val")
    seen.append(watched.images)
    draw_batch(watched, (raw, labels), PASCAL_VOC, CPU, trainer.mean_std)
    seen.append(watched.images)
    for images in seen:
        torch.testing.assert_close(images, expected)


def test_inference_normalises_as_the_weights_want(tmp_path):
    words = ["NET.BACKBONE", SMALL, "NET.MODEL", "bsl", "TEST.SCALES", "[1.0]"]
    words += ["TEST.FLIP", "False", "TEST.PAD_SIZE", "[40, 48]"]
    config = load_config(None, words)
    save_model(get_model(config.NET), tmp_path / "model.pth")
    segmenter = Segmenter.from_snapshot(tmp_path / "model.pth", config, "cpu", PASCAL_VOC)
    inputs = []
    segmenter.model.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    segmenter.predict(np.full((20, 30, 3), 255, dtype=np.uint8))
    assert torch.equal(inputs[0][0, :, 10:30, 9:39], torch.ones(3, 20, 30))
    assert not inputs[0][0, :, :10].any()  # the padding is the mean
