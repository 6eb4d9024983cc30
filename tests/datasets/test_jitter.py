"""Changes of colours against those of torchvision, which go through Pillow."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import ColorJitter
from torchvision.transforms import functional as F

from datasets.jitter import FastColorJitter, mean_grey, scale_levels, turn_hue


@pytest.fixture(scope="module")
def image():
    """Random colours, greys, and pure colours, whose hues lie on the steps of eight bits."""
    pixels = np.random.default_rng(0).integers(0, 256, (120, 90, 3), dtype=np.uint8)
    pixels[:10] = pixels[:10, :, :1]
    pixels[10:20] = np.where(pixels[10:20] > 127, 255, 0)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("factor", [0.0, 0.7, 0.93, 1.0, 1.3, 2.5])
def test_brightness_and_contrast(image, factor):
    assert scale_levels(image, factor, 0) == F.adjust_brightness(image, factor)
    found = scale_levels(image, factor, mean_grey(image))
    assert found == F.adjust_contrast(image, factor)


@pytest.mark.parametrize("share", [-0.5, -0.1, -0.003, 0.0, 0.02, 0.1, 0.37, 0.5])
def test_hue(image, share):
    assert turn_hue(image, share) == F.adjust_hue(image, share)


def test_a_seed_gives_the_pixels_of_torchvision(image):
    theirs = ColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
    ours = FastColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1)
    for seed in range(30):
        torch.manual_seed(seed)
        expected = theirs(image)
        after = torch.rand(1)
        torch.manual_seed(seed)
        assert ours(image) == expected
        assert torch.equal(torch.rand(1), after)
