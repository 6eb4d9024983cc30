"""PAMR against its definition, one pixel and one neighbour at a time."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from models.heads import pamr as pamr_module
from models.heads.pamr import PAMR

PUBLISHED = (1, 2, 4, 8, 12, 24)
OFFSETS = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def clamped(y: int, x: int, height: int, width: int) -> tuple[int, int]:
    return min(max(y, 0), height - 1), min(max(x, 0), width - 1)


def slow_weights(
    image: np.ndarray, y: int, x: int, dilations: tuple[int, ...]
) -> list[tuple[tuple[int, int], float]]:
    """The (neighbour, weight) pairs of one pixel of a 3×h×w image."""
    size = image.shape[1:]
    windows = [
        clamped(y + dy * dilation, x + dx * dilation, *size)
        for dilation in dilations
        for dy, dx in OFFSETS
    ]
    neighbours = [
        clamped(y + dy * dilation, x + dx * dilation, *size)
        for dilation in dilations
        for dy, dx in OFFSETS
        if (dy, dx) != (0, 0)
    ]
    likeness = [0.0] * len(neighbours)
    for channel in image:
        values = [float(channel[place]) for place in windows]
        mean = math.fsum(values) / len(values)
        squares = math.fsum((value - mean) ** 2 for value in values)
        deviation = math.sqrt(squares / (len(values) - 1))
        for index, place in enumerate(neighbours):
            difference = abs(float(channel[y, x]) - float(channel[place]))
            likeness[index] -= difference / (1e-8 + 0.1 * deviation) / len(image)
    total = math.fsum(math.exp(value) for value in likeness)
    weights = [math.exp(value) / total for value in likeness]
    return list(zip(neighbours, weights, strict=True))


def slow_pamr(
    image: np.ndarray, masks: np.ndarray, num_iter: int, dilations: tuple[int, ...]
) -> np.ndarray:
    pixels = list(itertools.product(*map(range, image.shape[1:])))
    weights = {pixel: slow_weights(image, *pixel, dilations) for pixel in pixels}
    for _ in range(num_iter):
        refined = np.zeros_like(masks)
        for c, mask in enumerate(masks):
            for pixel in pixels:
                refined[c][pixel] = math.fsum(a * mask[place] for place, a in weights[pixel])
        masks = refined
    return masks


def random_maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).uniform(size=shape))


def check_against_slow(image: Tensor, masks: Tensor, num_iter: int, dilations: tuple) -> None:
    found = PAMR(num_iter, dilations)(image, masks)
    for i in range(len(image)):
        expected = slow_pamr(image[i].numpy(), masks[i].numpy(), num_iter, dilations)
        np.testing.assert_allclose(found[i].numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("size", "dilations", "num_iter"),
    [
        ((5, 7), (1,), 3),
        ((9, 8), (1, 2, 4), 4),
        ((7, 6), PUBLISHED, 2),
        ((13, 14), (12,), 2),
        ((3, 2), (24,), 2),
        ((1, 6), (1, 8), 3),
        ((1, 1), (1, 2), 1),
        ((4, 5), (3, 1), 0),
    ],
)
def test_pixel_by_pixel(size, dilations, num_iter):
    image, masks = random_maps(2, 3, *size), random_maps(2, 4, *size, seed=1)
    check_against_slow(image, masks, num_iter, dilations)


def test_pixel_by_pixel_where_windows_are_flat():
    image, masks = random_maps(3, 3, 6, 7), random_maps(3, 2, 6, 7, seed=1)
    image[0] = 0.3  # no pixel differs from another
    image[1, 1] = 0.7  # one channel says nothing
    image[2, :, :, :4] = 0.1  # some windows are flat, others are not
    check_against_slow(image, masks, 3, (1, 2))


def test_single_precision_of_bright_and_nearly_flat_images():
    image = 200 + 0.05 * random_maps(1, 3, 6, 7)
    image = image.float()
    masks = random_maps(1, 2, 6, 7, seed=1)
    expected = slow_pamr(image[0].double().numpy(), masks[0].numpy(), 2, (1, 2, 4))
    found = PAMR(2, (1, 2, 4))(image, masks.float())
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-4)


def test_flat_image_averages_all_neighbours_alike():
    masks = torch.zeros(1, 1, 5, 5, dtype=torch.float64)
    masks[0, 0, 2, 2] = 1
    refined = PAMR(1, (1, 2))(torch.full((1, 3, 5, 5), 0.3, dtype=torch.float64), masks)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for dilation, (dy, dx) in itertools.product((1, 2), OFFSETS):
        if (dy, dx) != (0, 0):
            expected[2 + dy * dilation, 2 + dx * dilation] = 1 / 16
    assert torch.allclose(refined[0, 0], expected)


def test_weights_are_a_distribution_over_all_neighbours():
    weights = PAMR(1, PUBLISHED).affinity(random_maps(2, 3, 6, 5))
    assert weights.shape == (2, 6, 5, 48)
    assert (weights > 0).all()
    assert torch.allclose(weights.sum(dim=-1), torch.ones(2, 6, 5, dtype=torch.float64))


def test_constant_masks_stay():
    masks = torch.tensor([0.0, 0.25, 1.0]).view(1, 3, 1, 1).expand(2, 3, 9, 10)
    refined = PAMR()(random_maps(2, 3, 9, 10).float(), masks)
    assert torch.allclose(refined, masks, atol=1e-6)


def test_masks_that_sum_to_one_still_do():
    masks = random_maps(1, 5, 8, 9).softmax(dim=1)
    refined = PAMR(4, (1, 2))(random_maps(1, 3, 8, 9, seed=1), masks)
    assert torch.allclose(refined.sum(dim=1), torch.ones(1, 8, 9, dtype=torch.float64))


def test_range_of_the_image_does_not_matter():
    image, masks = random_maps(1, 3, 7, 8), random_maps(1, 2, 7, 8, seed=1)
    pamr = PAMR(3, (1, 4))
    # the 1e-8 beside the deviation is what is left of the image's range
    assert torch.allclose(pamr(255 * image - 40, masks), pamr(image, masks), rtol=1e-5)


def test_mirrored_and_transposed_images_give_mirrored_and_transposed_masks():
    image, masks = random_maps(1, 3, 7, 9), random_maps(1, 2, 7, 9, seed=1)
    pamr = PAMR(3, (1, 2, 8))
    refined = pamr(image, masks)
    assert torch.allclose(pamr(image.flip(-1), masks.flip(-1)), refined.flip(-1))
    assert torch.allclose(pamr(image.flip(-2), masks.flip(-2)), refined.flip(-2))
    assert torch.allclose(pamr(image.mT, masks.mT), refined.mT)


def test_masks_are_refined_each_by_itself():
    image, masks = random_maps(2, 3, 6, 8), random_maps(2, 4, 6, 8, seed=1)
    pamr = PAMR(3, (1, 2))
    together = pamr(image, masks)
    for c in range(4):
        assert torch.allclose(pamr(image, masks[:, c : c + 1]), together[:, c : c + 1])


def test_edges_of_the_image_hold_masks_back():
    image = torch.zeros(1, 3, 8, 8)
    image[..., 4:] = 1
    masks = (image[:, :1] + 0.2 * random_maps(1, 1, 8, 8).float()).clamp(max=1)
    refined = PAMR(10, (1, 2))(image, masks)
    assert (refined[..., :4] < 0.3).all()
    assert (refined[..., 4:] > 0.7).all()


def test_input_masks_are_left_alone():
    image, masks = random_maps(1, 3, 5, 6), random_maps(1, 2, 5, 6, seed=1)
    before = masks.clone()
    PAMR(2, (1,))(image, masks)
    assert torch.equal(masks, before)


def test_nothing_is_learnt():
    assert not list(PAMR().parameters())
    assert not PAMR().state_dict()


def test_neighbours_in_turn_give_the_same(monkeypatch):
    image, masks = random_maps(2, 3, 6, 8), random_maps(2, 4, 6, 8, seed=1)
    expected = PAMR(3, (1, 2, 8))(image, masks)
    monkeypatch.setattr(pamr_module, "_weighted_rows", pamr_module._weighted_rows_in_turn)
    torch.testing.assert_close(PAMR(3, (1, 2, 8))(image, masks), expected)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_images_of_a_batch_do_not_see_each_other(memory_format):
    image, masks = random_maps(3, 3, 6, 8), random_maps(3, 4, 6, 8, seed=1)
    together = PAMR(3, (1, 2))(
        image.to(memory_format=memory_format), masks.to(memory_format=memory_format)
    )
    for i in range(3):
        alone = PAMR(3, (1, 2))(image[i : i + 1], masks[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)
