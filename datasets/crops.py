"""Random crops of training images, drawn as the published system drew them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

ATTEMPTS = 10
RATIOS = (3 / 4, 4 / 3)


class PublishedRandomCrop:
    """A random part of a 3×H×W uint8 image, resized bicubically to 3×crop_size×crop_size.

    torchvision's `RandomResizedCrop` was another one when the method was published (0.2.1): today's
    draws the logarithm of the ratio, and where no crop fits it takes as much of the image as the
    ratio allows, stretched, in place of the central square.
    """

    def __init__(self, crop_size: int, scale: tuple[float, float]) -> None:
        self.crop_size = crop_size
        self.scale = scale

    def __call__(self, image: Tensor) -> Tensor:
        box = draw_crop(image.shape[-2:], self.scale)
        size = [self.crop_size, self.crop_size]
        return F.resized_crop(image, *box, size, interpolation=InterpolationMode.BICUBIC)


def draw_crop(size: tuple[int, int], scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """Draw the (top, left, height, width) of a crop from PyTorch's global generator.

    Up to ten times: an area, uniform in `scale` of the image's, and a ratio r, uniform in 3/4 to
    4/3; width √(area·r), height √(area/r), rounded, the two swapped half of the time. The first one
    that fits is taken, at a uniform place; if none does, the central square of the shorter side.

    Args:
        size: (H, W) of the image.
        scale: lowest and highest share of the image's area, in (0, 1].
    """
    height, width = size
    for share, ratio, turn, down, right in torch.rand(ATTEMPTS, 5, dtype=torch.float64).tolist():
        area = _between(*scale, share) * height * width
        ratio = _between(*RATIOS, ratio)
        sides = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        crop_height, crop_width = sides if turn < 0.5 else reversed(sides)
        if 0 < crop_height <= height and 0 < crop_width <= width:
            top = int(down * (height - crop_height + 1))
            left = int(right * (width - crop_width + 1))
            return top, left, crop_height, crop_width
    side = min(height, width)
    return (height - side) // 2, (width - side) // 2, side, side


def _between(low: float, high: float, share: float) -> float:
    return low + share * (high - low)
