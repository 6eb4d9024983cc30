"""Pseudo labels and the mask loss against their definitions, one pixel at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from golden_recipe import golden, random_state
from torch import Tensor

from models.self_supervision import balanced_mask_loss, make_pseudo_labels


def slow_pseudo_labels(masks: np.ndarray) -> np.ndarray:
    """Labels of one image's C×H×W masks."""
    _, height, width = masks.shape
    labels = np.full((height, width), 255)
    peaks = [max(float(value) for value in mask.flat) for mask in masks]
    for y, x in itertools.product(range(height), range(width)):
        confident = []
        for c, peak in enumerate(peaks):
            share = 0.7 if c == 0 else 0.6
            if masks[c, y, x] > max(0.2, share * peak):
                confident.append(c)
        if len(confident) == 1:
            labels[y, x] = confident[0]
    return labels


def slow_resize(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    """C×h×w maps to C×height×width, bilinear, the corner pixels' centres on each other."""
    resized = np.zeros((len(maps), height, width))
    for y, x in itertools.product(range(height), range(width)):
        v = y * (maps.shape[1] - 1) / max(height - 1, 1)
        u = x * (maps.shape[2] - 1) / max(width - 1, 1)
        top, left = math.floor(v), math.floor(u)
        bottom, right = min(top + 1, maps.shape[1] - 1), min(left + 1, maps.shape[2] - 1)
        for c, plane in enumerate(maps):
            upper = plane[top, left] * (1 - (u - left)) + plane[top, right] * (u - left)
            lower = plane[bottom, left] * (1 - (u - left)) + plane[bottom, right] * (u - left)
            resized[c, y, x] = upper * (1 - (v - top)) + lower * (v - top)
    return resized


def slow_loss(logits: np.ndarray, pseudo: np.ndarray, labels: np.ndarray) -> float:
    """The mask loss of one image: logits C×h×w, pseudo labels H×W, labels C − 1."""
    height, width = pseudo.shape
    counts: dict[int, int] = {}
    for label in pseudo.flat:
        if label != 255:
            counts[int(label)] = counts.get(int(label), 0) + 1
    if len(counts) != int(sum(labels)) + 1:
        return 0.0
    total = sum(counts.values())
    resized = slow_resize(logits.astype(np.float64), height, width)
    loss = 0.0
    for y, x in itertools.product(range(height), range(width)):
        label = int(pseudo[y, x])
        if label == 255:
            continue
        values = [float(value) for value in resized[:, y, x]]
        entropy = math.log(math.fsum(math.exp(value) for value in values)) - values[label]
        loss += entropy * (total - counts[label]) / (1 + total)
    return loss / (height * width)


def slow_losses(logits: Tensor, pseudo: Tensor, labels: Tensor) -> list[float]:
    images = zip(logits.detach().numpy(), pseudo.numpy(), labels.numpy(), strict=True)
    return [slow_loss(*image) for image in images]


def golden_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Masks, logits and labels of the golden record."""
    r = random_state("pseudo:masks")
    masks = r.dirichlet(np.full(21, 0.25), size=(3, 12, 16)).transpose(0, 3, 1, 2)
    masks = np.ascontiguousarray(masks.astype(np.float32))
    masks[..., 8:] = r.uniform(size=(3, 21, 12, 8))
    labels = torch.zeros(3, 20)
    for row, present in zip(labels, golden("pseudo_labels")["labels"], strict=True):
        row[present] = 1
    masks[:, 1:] *= labels.numpy()[:, :, None, None]
    masks[2, 1] *= 0.19
    logits = random_state("pseudo:logits").standard_normal((3, 21, 4, 5)).astype(np.float32)
    return torch.from_numpy(masks), torch.from_numpy(logits), labels


def test_golden_pseudo_labels():
    masks, _, _ = golden_inputs()
    assert make_pseudo_labels(masks).tolist() == golden("pseudo_labels")["pseudo_labels"]


def test_golden_loss():
    _, logits, labels = golden_inputs()
    record = golden("pseudo_labels")
    losses = balanced_mask_loss(logits, torch.tensor(record["pseudo_labels"]), labels)
    assert losses.tolist() == pytest.approx(record["loss_mask"], rel=1e-4, abs=1e-5)


def test_slow_formulations_meet_the_golden_numbers():
    masks, logits, labels = golden_inputs()
    record = golden("pseudo_labels")
    pseudo = torch.tensor(record["pseudo_labels"])
    for image, expected in zip(masks.numpy(), record["pseudo_labels"], strict=True):
        assert slow_pseudo_labels(image).tolist() == expected
    expected = pytest.approx(record["loss_mask"], rel=1e-4, abs=1e-5)
    assert slow_losses(logits, pseudo, labels) == expected


@pytest.mark.parametrize("classes", [2, 5, 21])
def test_pseudo_labels_pixel_by_pixel(classes):
    masks = np.random.default_rng(classes).dirichlet(np.full(classes, 0.3), size=(4, 9, 11))
    masks = masks.transpose(0, 3, 1, 2).copy()
    masks[1] *= 0.3  # few pixels reach 0.2
    masks[2] *= 0.1  # none does
    masks[3, 1:] = 0  # an image without objects
    found = make_pseudo_labels(torch.from_numpy(masks))
    assert found.dtype == torch.int64
    for labels, image in zip(found, masks, strict=True):
        assert labels.tolist() == slow_pseudo_labels(image).tolist()
    assert (found[2] == 255).all()


def test_pseudo_labels_at_the_thresholds():
    # one row of pixels; a threshold itself is not enough
    background = [1.0, 0.0, 0.70, 0.71, 0.0, 0.0, 0.0]
    objects = [0.0, 1.0, 0.0, 0.0, 0.60, 0.61, 0.19]
    masks = torch.tensor([background, objects], dtype=torch.float64)[None, :, None]
    masks[0, :, 0, 2] = torch.tensor([0.7 * 1.0, 0.0], dtype=torch.float64)
    masks[0, :, 0, 4] = torch.tensor([0.0, 0.6 * 1.0], dtype=torch.float64)
    assert make_pseudo_labels(masks).tolist() == [[[0, 1, 255, 0, 255, 1, 255]]]


def test_weak_masks_need_a_fifth():
    masks = torch.tensor([[0.0, 0.1, 0.25], [0.0, 0.0, 0.0], [0.19, 0.21, 0.0]])
    assert make_pseudo_labels(masks[None, :, None]).tolist() == [[[255, 2, 0]]]


def test_two_confident_masks_give_no_label():
    masks = torch.tensor([[0.0, 0.9, 0.0], [0.9, 0.9, 0.0], [0.0, 0.0, 0.9]])
    assert make_pseudo_labels(masks[None, :, None]).tolist() == [[[1, 255, 2]]]


def random_supervision(classes: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Logits 6×C×4×5, pseudo labels 6×9×13 and labels; four of the six images are complete."""
    rng = np.random.default_rng(7)
    logits = torch.from_numpy(3 * rng.standard_normal((6, classes, 4, 5)))
    labels = torch.zeros(6, classes - 1, dtype=torch.float64)
    pseudo = np.full((6, 9, 13), 255)
    for image, present in enumerate(([0, 1, 3], [0, 2], [0, 1, 2, 3, 4], [0, 4], [0, 1], [0])):
        pseudo[image] = rng.choice([*present, 255], size=(9, 13))
        labels[image, [c - 1 for c in present if c]] = 1
    pseudo[0][pseudo[0] == 3] = 255  # a label without pixels
    pseudo[3] = np.where(pseudo[3] == 4, 2, pseudo[3])  # the right number, not the right class
    pseudo[4, 0, 0] = 3  # a class too many
    return logits, torch.from_numpy(pseudo), labels


def test_loss_pixel_by_pixel():
    logits, pseudo, labels = random_supervision()
    expected = slow_losses(logits, pseudo, labels)
    assert [loss > 0 for loss in expected] == [False, True, True, True, False, False]
    found = balanced_mask_loss(logits, pseudo, labels)
    assert found.tolist() == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_incomplete_images_have_no_gradient_and_others_a_finite_one():
    logits, pseudo, labels = random_supervision()
    logits = (100 * logits).requires_grad_()
    balanced_mask_loss(logits, pseudo, labels).sum().backward()
    assert torch.isfinite(logits.grad).all()
    moved = logits.grad.abs().sum(dim=(1, 2, 3)) > 0
    assert moved.tolist() == [False, True, True, True, False, False]


def test_gradient_of_the_loss():
    logits, pseudo, labels = random_supervision()
    logits = logits[1:4].clone().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: balanced_mask_loss(x, pseudo[1:4], labels[1:4]), logits
    )


def test_nothing_labelled():
    logits = torch.randn(2, 5, 3, 3).requires_grad_()
    labels = torch.tensor([[1.0, 0, 0, 0], [0, 0, 0, 0]])
    losses = balanced_mask_loss(logits, torch.full((2, 7, 7), 255), labels)
    assert losses.tolist() == [0, 0]
    losses.sum().backward()
    assert not logits.grad.any()


def test_pixels_without_label_count_in_the_mean_only():
    logits = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    pseudo = torch.tensor([[[0, 0, 1, 255], [255, 255, 255, 255]]])
    labels = torch.tensor([[1.0, 0.0]])
    # two background pixels weigh 1/4 each and the object's 2/4; eight pixels share the loss
    expected = (2 * 1 / 4 + 2 / 4) * math.log(3) / 8
    assert balanced_mask_loss(logits, pseudo, labels).tolist() == pytest.approx([expected])
