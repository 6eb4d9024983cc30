"""The section `golden`: all networks against the published implementation's numbers."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu.check import Check
from benchmarks.gpu.processes import ROOT
from core.config import load_config
from core.precision import tf32
from core.published import own_state
from models.network import Network

sys.path.append(str(ROOT / "tests"))

import golden_recipe as recipe

SCORES, MASKS, LOSS, PIXELS, GRADIENTS = 1e-4, 1e-4, 1e-3, 5, 5e-3
"""How far each may be off; pixels are counted, the others relative to the expected values."""
LEAST_NORM = 2e-3
"""Gradients that are smaller are compared as if they had this norm."""


def golden(check: Check) -> None:
    """Evaluation, losses and gradients of each; one of them with TF32, and with channels last."""
    names = sorted(path.stem for path in recipe.GOLDEN.glob("*.json"))
    names.remove("pseudo_labels")
    if check.tiny:
        names = ["vgg16_bsl", "vgg16_ae_96x128"]
    for name in names:
        with check.guarded(name):
            _compare(check, name)
    name = names[-1] if check.tiny else "resnet50_ae"
    with check.guarded("with TF32"):
        _compare(check, name, allow_tf32=True)
    with check.guarded("channels last"):
        _compare(check, name, channels_last=True)


def _compare(
    check: Check, name: str, allow_tf32: bool = False, channels_last: bool = False
) -> None:
    record = recipe.golden(name)
    network = _network(record).to(check.device)
    if channels_last:
        network.to(memory_format=torch.channels_last)
    images, raw, labels = (tensor.to(check.device) for tensor in recipe.golden_images(record))
    with tf32(allow_tf32):
        evaluation, evaluated = _evaluate(network, images, record["eval"])
        training, trained = _train(network, images, raw, labels, record["train"])
    words = " with TF32" * allow_tf32 + " channels last" * channels_last
    fine = None if allow_tf32 else evaluated and trained
    check.row(f"{name}{words}", ", ".join(evaluation + training), fine)
    del network
    check.free()


def _network(record: dict[str, Any]) -> Network:
    backbone, model = record["backbone"], record["model"]
    network = recipe.quiet_network(backbone, model)
    weights = recipe.published_weights(backbone, model, record["salt"])
    network.load_state_dict(own_state(network, weights))
    return network


@torch.no_grad()
def _evaluate(network: Network, images: Tensor, want: dict[str, Any]) -> tuple[list[str], bool]:
    """How far scores and masks are off, and whether that is near enough."""
    network.eval()
    gate = getattr(network, "gate", None)
    if gate:
        gate.psi = load_config().NET.SG_PSI
    scores, masks = network(images)
    if gate:
        gate.psi = 0.0
    scores_off = _off(scores, want["cls"])
    masks_off = _off(masks[:, :, ::16, ::16], want["masks_sub"], scale=1)
    fine = scores_off < SCORES and masks_off < MASKS
    return [f"eval scores {scores_off:.1e}, masks {masks_off:.1e}"], fine


def _train(
    network: Network, images: Tensor, raw: Tensor, labels: Tensor, want: dict[str, Any]
) -> tuple[list[str], bool]:
    """How far losses, pseudo labels and gradients are off, and whether that is near enough."""
    network.train()
    outputs = network(images, raw, labels, with_masks=True)
    loss = nn.functional.multilabel_soft_margin_loss(outputs["cls"], labels)
    if "loss_mask" in outputs:
        loss = loss + outputs["loss_mask"].mean()
    loss.backward()
    loss_off = _off(loss, want["loss"])
    parts, fine = [f"loss {loss_off:.1e}"], loss_off < LOSS
    if "loss_mask" in want:
        pixels = _pixels_off(outputs["pseudo_labels"], want["pseudo_hist"])
        mask_loss_off = _off(outputs["loss_mask"], want["loss_mask"])
        parts.append(f"mask loss {mask_loss_off:.1e}, pseudo labels {pixels} pixels")
        fine &= pixels <= PIXELS
    norms_off, same = _norms_off(network, want["grad_norm"])
    parts.append(f"gradient norms {norms_off:.1e}" + ("" if same else ", of OTHER PARAMETERS"))
    return parts, fine and norms_off < GRADIENTS and same


def _off(found: Any, expected: Any, scale: float | None = None) -> float:
    """The largest difference, relative to the largest expected value or to `scale`."""
    found = torch.as_tensor(found).detach().double().cpu().reshape(-1)
    expected = torch.as_tensor(expected).double().reshape(-1)
    return float((found - expected).abs().max() / (scale or expected.abs().max()))


def _pixels_off(pseudo_labels: Tensor, histograms: list[dict[str, int]]) -> int:
    """The largest difference of a class's number of pixels in an image."""
    worst = 0
    for found, histogram in zip(pseudo_labels.cpu(), histograms, strict=True):
        counts = torch.bincount(found.reshape(-1), minlength=256)
        expected = torch.zeros(256, dtype=torch.int64)
        for label, count in histogram.items():
            expected[int(label)] = count
        worst = max(worst, int((counts - expected).abs().max()))
    return worst


def _norms_off(network: Network, want: dict[str, float]) -> tuple[float, bool]:
    """The largest relative difference, and whether the same parameters have gradients."""
    found = {
        name.removeprefix("backbone."): float(parameter.grad.norm())
        for name, parameter in network.named_parameters()
        if parameter.grad is not None
    }
    differences = [abs(found[name] - norm) / max(norm, LEAST_NORM) for name, norm in want.items()]
    return float(torch.tensor(differences).max()), found.keys() == want.keys()
