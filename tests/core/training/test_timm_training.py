"""Runs of training with timm's backbones: resumed, normalised as their weights want, inferred."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from golden_recipe import golden_config
from PIL import Image
from timm_networks import EACH, build, stride_of
from torch import Tensor, nn
from training_command import error_of, snapshot_folder, snapshots, state_of, stop_before, train

from core.checkpoint import load_model, save_model
from core.config import load_config
from core.inference.segmenter import Segmenter
from core.training.engine import Trainer
from core.training.optimizer import optimizer_state, restore_optimizer
from core.training.tensorboard import draw_batch
from datasets.transforms import normalise
from datasets.voc import PASCAL_VOC
from models import get_model

CPU = torch.device("cpu")
HALF = ((0.5,) * 3, (0.5,) * 3)
SMALL = "timm/test_resnet"
"""Its weights want pixels in [-1, 1]."""


class SomeBatches:
    """The same batches in every epoch."""

    def __init__(self, *batches: tuple[Tensor, Tensor]) -> None:
        self.batches = batches
        self.images_of_all = sum(len(raw) for raw, _ in batches)

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int):
        return iter(self.batches)

    def names(self, epoch: int, step: int) -> list[str]:
        return ["one", "other"]


def random_batch(seed: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    labels = torch.zeros(2, 20)
    labels[:, 3 + seed] = 1
    return torch.rand(2, 3, 32, 40, generator=random), labels


def bits_of(trainer: Trainer) -> dict[str, Tensor]:
    """All that training has changed: the network's tensors and SGD's momentum."""
    momentum = trainer.optimizer.state_dict()["state"]
    buffers = {f"momentum {key}": value["momentum_buffer"] for key, value in momentum.items()}
    assert len(buffers) == sum(p.requires_grad for p in trainer.network.parameters())
    return trainer.network.state_dict() | buffers


@EACH
def test_training_goes_on_from_a_snapshot_bit_for_bit(name, tmp_path):
    frozen = name == "timm/resnet18"
    words = ["NET.BACKBONE", name, "NET.MODEL", "bsl", "TRAIN.SCHEDULE", "poly"]
    config = load_config(None, [*words, "TRAIN.NUM_EPOCHS", "1", "NET.LR", "0.01"])
    batches = SomeBatches(random_batch(0), random_batch(1))

    def trainer() -> Trainer:
        trainer = Trainer(build(name, "bsl", FREEZE_BN=frozen), config, CPU)
        assert all(group["fused"] for group in trainer.optimizer.param_groups)
        return trainer

    def train_epoch(trainer: Trainer, epoch: int) -> None:
        torch.manual_seed(epoch)
        trainer.train_one_epoch(batches, epoch)

    whole, resumed = trainer(), trainer()
    train_epoch(whole, 0)
    path, optimizer_path = tmp_path / "model.pth", tmp_path / "opt.pth"
    save_model(whole.network, path)
    torch.save(optimizer_state(whole.optimizer), optimizer_path)
    train_epoch(whole, 1)
    load_model(resumed.network, path)
    restore_optimizer(
        resumed.optimizer, torch.load(optimizer_path, weights_only=True), optimizer_path
    )
    train_epoch(resumed, 1)
    expected, found = bits_of(whole), bits_of(resumed)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[each], value) for each, value in expected.items())


@pytest.mark.slow
def test_a_resumed_run_is_the_same_bit_for_bit(mini_voc, tmp_path):
    name = "timm/test_efficientnet"
    settings = {
        "NET__BACKBONE": name,
        "TRAIN__PRETRAIN": "0",
        "TRAIN__VAL_INTERVAL": "1",
        "TRAIN__SCHEDULE": "poly",
        "TRAIN__WARMUP": "2",
        "TRAIN__NUM_EPOCHS": "1",
    }
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    whole.mkdir(), halves.mkdir()
    train(mini_voc, whole, "--run", "x", **settings)
    with pytest.MonkeyPatch.context() as patch:
        stop_before(1, patch)
        train(mini_voc, halves, "--run", "x", status=9, **settings)
    train(mini_voc, halves, "--run", "x", "--resume", "last", **settings)
    assert state_of(whole, "x")["last.pth"] == state_of(halves, "x")["last.pth"]
    # weights of the same shapes, but another network
    other = {**settings, "NET__OUTPUT_STRIDE": "32", "TRAIN__NUM_EPOCHS": "2"}
    line = error_of(train(mini_voc, halves, "--run", "x", "--resume", "last", status=2, **other))
    assert "NET.OUTPUT_STRIDE 32" in line and " 16;" in line

    folder = snapshot_folder(halves, "x")
    assert name == load_config(folder / "config.yaml").NET.BACKBONE
    for snapshot in snapshots(halves, "x").values():
        segmenter = Segmenter.from_snapshot(snapshot, device="cpu")
        found = segmenter.predict(Image.fromarray(np.zeros((50, 61, 3), dtype=np.uint8)))
        assert found.mask.shape == (50, 61) and found.probabilities.shape == (21, 50, 61)


@EACH
def test_inference_with_a_snapshot(name, tmp_path):
    words = ["NET.BACKBONE", name, "NET.OUTPUT_STRIDE", str(stride_of(name))]
    config = load_config(None, [*words, "TEST.PAD_SIZE", "[64, 64]", "TEST.CRF", "False"])
    save_model(build(name), tmp_path / "model.pth")
    segmenter = Segmenter.from_snapshot(tmp_path / "model.pth", config, "cpu", PASCAL_VOC)
    found = segmenter.predict(np.zeros((21, 30, 3), dtype=np.uint8))
    assert found.mask.shape == (21, 30) and found.probabilities.shape == (21, 21, 30)


class Watched(nn.Module):
    """A network that keeps what it was last given."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.images = torch.empty(0)

    def forward(self, images: Tensor, *others: object) -> object:
        self.images = images
        return self.network(images, *others)


@pytest.mark.parametrize(
    ("backbone", "mean_std"), [(SMALL, HALF), ("timm/test_efficientnet", None)]
)
def test_all_that_sees_images_normalises_as_the_weights_want(backbone, mean_std):
    network = get_model(golden_config(backbone, "bsl", FREEZE_BN=False))
    config = load_config(None, ["NET.BACKBONE", backbone, "NET.FREEZE_BN", "False"])
    trainer = Trainer(network, config, CPU)
    trainer.model = trainer.eval_model = watched = Watched(network)
    raw, labels = random_batch(0)
    expected = (raw - 0.5) / 0.5 if mean_std else normalise(raw)
    batches = SomeBatches((raw, labels))

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
