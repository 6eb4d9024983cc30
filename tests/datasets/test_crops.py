"""Which part of an image a training sample shows: the published rule, by its distribution."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from PIL import Image

from datasets.transforms import draw_crop, train_transform

DRAWS = 3000
SCALE = (0.9, 1.0)


def slow_crop(height: int, width: int, chance: random.Random) -> tuple[int, int, int, int]:
    """The rule as spec.md words it, by Python's random numbers; rejects by comparing areas."""
    for _ in range(10):
        share, ratio = chance.uniform(*SCALE), chance.uniform(3 / 4, 4 / 3)
        sides = [
            int(math.sqrt(share * height * width * ratio) + 0.5),
            int(math.sqrt(share * height * width / ratio) + 0.5),
        ]
        if chance.random() < 0.5:
            sides.reverse()
        if sides[0] <= width and sides[1] <= height:
            left, top = chance.randint(0, width - sides[0]), chance.randint(0, height - sides[1])
            return top, left, sides[1], sides[0]
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def draws(height: int, width: int) -> np.ndarray:
    torch.manual_seed(0)
    return np.array([draw_crop((height, width), SCALE) for _ in range(DRAWS)])


def largest_gap(one: np.ndarray, other: np.ndarray) -> float:
    """Between the distribution functions of two samples (Kolmogorov and Smirnov's statistic)."""
    places = np.union1d(one, other)
    shares = [np.searchsorted(np.sort(x), places, side="right") / len(x) for x in (one, other)]
    return np.abs(shares[0] - shares[1]).max()


# shares as of the published version; 0.04 is four and a half standard deviations of 3000 draws
@pytest.mark.parametrize(
    ("width", "height", "fallbacks"),
    [(500, 375, 0.366), (500, 400, 0.144), (375, 500, 0.366)],
)
def test_crops_are_distributed_as_published(width, height, fallbacks):
    found = draws(height, width)
    side = min(height, width)
    central = ((height - side) // 2, (width - side) // 2, side, side)
    fell_back = (found == central).all(axis=1)
    assert abs(fell_back.mean() - fallbacks) < 0.04

    chance = random.Random(1)
    slow = np.array([slow_crop(height, width, chance) for _ in range(DRAWS)])
    for measure in (
        lambda box: box[:, 2] * box[:, 3] / (height * width),  # area
        lambda box: box[:, 3] / box[:, 2],  # ratio
        lambda box: box[:, 0],
        lambda box: box[:, 1],
    ):
        # a gap that two samples of one distribution exceed once in 100,000 times
        assert largest_gap(measure(found), measure(slow)) < 2.47 * math.sqrt(2 / DRAWS)

    top, left, crop_height, crop_width = found[~fell_back].T
    share = crop_height * crop_width / (height * width)
    assert share.min() > 0.897 and share.max() < 1.003  # sides are whole pixels
    assert top.min() == 0 and left.min() == 0
    assert (top + crop_height <= height).all() and (left + crop_width <= width).all()
    # places reach both edges
    assert (top + crop_height).max() == height and (left + crop_width).max() == width


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [(500, 333, (0, 83, 333, 333)), (333, 500, (83, 0, 333, 333)), (1, 1, (0, 0, 1, 1))],
)
def test_where_no_crop_fits_it_is_the_central_square(width, height, box):
    for seed in range(100):
        torch.manual_seed(seed)
        assert draw_crop((height, width), SCALE) == box


def test_ratios_are_uniform_and_turned_half_of_the_time():
    """In a square every small crop fits, so that nothing is rejected."""
    torch.manual_seed(0)
    boxes = np.array([draw_crop((1000, 1000), (0.2, 0.4)) for _ in range(DRAWS)])
    area, ratio = boxes[:, 2] * boxes[:, 3] / 1e6, boxes[:, 3] / boxes[:, 2]
    # turned: r → 1/r; unturned ones are uniform in 3/4 to 4/3
    cut = np.linspace(0.75, 4 / 3, 1000)
    expected = (cut - 0.75) / (7 / 12) / 2 + (4 / 3 - 1 / cut) / (7 / 12) / 2
    found = (ratio[:, None] <= cut).mean(axis=0)
    assert np.abs(found - expected).max() < 2.47 / math.sqrt(DRAWS) + 0.005
    expected = np.interp(np.linspace(0.2, 0.4, 1000), (0.2, 0.4), (0, 1))
    found = (area[:, None] <= np.linspace(0.2, 0.4, 1000)).mean(axis=0)
    assert np.abs(found - expected).max() < 2.47 / math.sqrt(DRAWS) + 0.01


def test_every_crop_has_pixels():
    """A hundredth of a small image is less than half a pixel wide: such a crop does not fit."""
    for seed in range(50):
        torch.manual_seed(seed)
        for size in ((1, 1), (2, 3), (4, 1)):
            top, left, height, width = draw_crop(size, (0.01, 0.02))
            assert 0 < height <= size[0] - top and 0 < width <= size[1] - left


@pytest.mark.parametrize(("width", "height"), [(500, 333), (333, 500)])
def test_a_view_shows_the_central_square_unstretched(width, height):
    """Red holds half the column, green half the row."""
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([columns / 2, rows / 2, np.zeros_like(rows)], axis=-1).astype(np.uint8)
    transform = train_transform(111, *SCALE)
    # without its colour jitter
    transform.transforms = [step for step in transform.transforms if "Jitter" not in str(step)]
    side = 333
    centres = (np.arange(111) + 0.5) * side / 111 - 0.5
    flipped = []
    for seed in range(8):
        torch.manual_seed(seed)
        view = transform(Image.fromarray(pixels)).numpy() * 255 * 2
        flipped.append(view[0, 0, 0] > view[0, 0, -1])
        if flipped[-1]:
            view = view[..., ::-1]
        # eight bits hold every other column, and the resize rounds once more
        assert np.abs(view[0] - ((width - side) // 2 + centres)).max() < 4
        assert np.abs(view[1] - ((height - side) // 2 + centres[:, None])).max() < 4
    assert len(set(flipped)) == 2
