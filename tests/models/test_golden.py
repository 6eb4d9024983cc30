"""All eight networks against the numbers of the published implementation (tests/golden)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import pytest
import torch
from golden_recipe import (
    entries,
    golden,
    golden_config,
    golden_images,
    published_weights,
    quiet_network,
)
from torch import Tensor, nn

from core.checkpoint import load_model, published_state
from core.config import load_config
from core.training.optimizer import build_optimizer
from models.network import Network

BACKBONES = ("resnet38", "vgg16", "resnet50", "resnet101")
NAMES = [f"{b}_{record}" for b in BACKBONES for record in ("ae", "ae_96x128", "bsl")]


class Case(NamedTuple):
    """A golden record, the snapshot it speaks of, and the network that read it from a file."""

    record: dict
    snapshot: dict[str, Tensor]
    network: Network

    @property
    def pair(self) -> tuple[str, str]:
        return self.record["backbone"], self.record["model"]


def close(found: Tensor | np.ndarray | list, expected: list, rel: float = 1e-4, abs_=1e-5) -> None:
    found = found.detach().double().numpy() if isinstance(found, Tensor) else np.asarray(found)
    np.testing.assert_allclose(found.reshape(-1), np.asarray(expected), rtol=rel, atol=abs_)


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[] if name == "vgg16_bsl" else pytest.mark.slow) for name in NAMES
    ],
)
def case(request, tmp_path_factory):
    record = golden(request.param)
    backbone, model = record["backbone"], record["model"]
    snapshot = published_weights(backbone, model, record["salt"])
    path = tmp_path_factory.mktemp("golden") / "model_enc_e000Xs0.000.pth"
    torch.save(snapshot, path)
    network = quiet_network(backbone, model)
    load_model(network, path)
    path.unlink()
    yield Case(record, snapshot, network)
    gc.collect()


def test_snapshot_is_the_published_one(case):
    state = published_state(case.network)
    assert [(name, tuple(value.shape)) for name, value in state.items()] == entries(*case.pair)
    for name, value in state.items():
        assert torch.equal(value, case.snapshot[name]), name


def test_optimizer_groups(case):
    net = golden_config(*case.pair, LR=0.001, WEIGHT_DECAY=0.0005)
    names = {p: name.removeprefix("backbone.") for name, p in case.network.named_parameters()}
    groups = build_optimizer(case.network, net).param_groups
    for group, want in zip(groups, case.record["groups"], strict=True):
        assert sorted(names[p] for p in group["params"]) == sorted(want["params"])
        assert group["lr"] == pytest.approx(want["lr"])
        assert group["weight_decay"] == pytest.approx(want["weight_decay"])


def test_evaluation(case):
    """In float64, so that the rounding is that of the golden numbers alone, on every machine.

    A small mask of the baseline is a quotient of numbers that are themselves small differences:
    float32 moves it by 1e-5 and more, as kernels have it.
    """
    network = case.network.eval()
    images = golden_images(case.record)[0].double()
    maps = []
    with torch.no_grad(), default_gate(network), in_float64(network):
        handle = network.backbone.register_forward_hook(lambda *call: maps.append(call[-1]))
        scores, masks = network(images)
        handle.remove()
    [(_, conv6)] = maps
    want = case.record["eval"]
    close(torch.stack([conv6.mean(), conv6.std()]), case.record["conv6_mean_std"])
    close(scores, want["cls"])
    assert list(masks.shape) == want["masks_shape"]
    close(masks.mean(dim=(2, 3)), want["masks_mean"])
    close(masks[:, :, ::16, ::16], want["masks_sub"])


def test_training_step(case):
    network = case.network.train()
    images, raw, labels = golden_images(case.record)
    outputs = network(images, raw, labels, with_masks=True)
    loss_cls = nn.functional.multilabel_soft_margin_loss(outputs["cls"], labels)
    loss = loss_cls + (outputs["loss_mask"].mean() if "loss_mask" in outputs else 0)
    loss.backward()

    want = case.record["train"]
    close(outputs["cls"], want["cls"], abs_=1e-4)
    close(outputs["fg"], want["fg"])
    close(loss_cls, [want["loss_cls"]])
    assert list(outputs["mask_logits"].shape) == want["logits_shape"]
    if "loss_mask" in want:
        check_supervision(outputs, want)
    close(loss, [want["loss"]], rel=1e-3)
    check_gradients(network, want)


@contextmanager
def in_float64(network: Network) -> Iterator[None]:
    network.double()
    yield
    network.float()  # which every float32 comes back from unchanged


@contextmanager
def default_gate(network: Network) -> Iterator[None]:
    """The published evaluation numbers have the default ψ; the training numbers ψ = 0."""
    if not hasattr(network, "gate"):
        yield
        return
    network.gate.psi = load_config().NET.SG_PSI
    yield
    network.gate.psi = 0.0


def check_supervision(outputs: dict[str, Tensor], want: dict) -> None:
    equal_counts = True
    for labels, histogram in zip(outputs["pseudo_labels"], want["pseudo_hist"], strict=True):
        counts = torch.bincount(labels.reshape(-1), minlength=256)
        expected = torch.zeros(256, dtype=torch.int64)
        for label, count in histogram.items():
            expected[int(label)] = count
        assert (counts - expected).abs().max() <= 5
        equal_counts &= bool((counts == expected).all())
    close(outputs["refined_masks"].mean(dim=(2, 3)), want["dec_mean"])
    close(outputs["masks"].mean(dim=(2, 3)), want["cam_mean"])
    close(outputs["loss_mask"], want["loss_mask"], rel=1e-4 if equal_counts else 1e-2)


def check_gradients(network: Network, want: dict) -> None:
    norms: dict[str, float] = {}
    frozen: set[str] = set()
    for name, parameter in network.named_parameters():
        name = name.removeprefix("backbone.")
        if parameter.grad is None:
            frozen.add(name)
        else:
            norms[name] = float(parameter.grad.norm())
    assert norms == pytest.approx(want["grad_norm"], rel=5e-3, abs=1e-5)
    assert frozen == set(want["frozen"])
