"""From opened images to tensors: random views for training, fixed ones for validation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from datasets.jitter import FastColorJitter

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""Of ImageNet's images, in [0, 1]."""
MeanStd = tuple[tuple[float, float, float], tuple[float, float, float]]

# of torchvision's random crop: how often it tries, and the range of its ratios, width to height
CROP_ATTEMPTS = 10
CROP_RATIOS = (3 / 4, 4 / 3)


def train_transform(
    crop_size: int, scale_from: float, scale_to: float, dtype: torch.dtype = torch.float32
) -> v2.Transform:
    """A random view of a PIL image as a 3×crop_size×crop_size tensor in [0, 1].

    A crop of `scale_from` to `scale_to` of the image's area and ratio 3/4 to 4/3, or the central
    square where none fits (see `draw_crop`), resized bicubically; flipped half of the time; its
    colours jittered.

    PyTorch resizes eight-bit tensors in a quarter of Pillow's time, to the same pixels but for the
    rounding of a few; colours change faster in Pillow.

    With `dtype` uint8 it is a quarter of the bytes, of which `unit_range` makes the same view.
    """
    return v2.Compose(
        [
            v2.PILToTensor(),
            PublishedRandomCrop(crop_size, (scale_from, scale_to)),
            v2.ToPILImage(),
            v2.RandomHorizontalFlip(),
            FastColorJitter(brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
            *_to_tensor(dtype),
        ]
    )


def val_transform(crop_size: int, dtype: torch.dtype = torch.float32) -> v2.Transform:
    """A PIL image, whole, as a 3×crop_size×crop_size tensor in [0, 1]; the same every time.

    `dtype` is as for `train_transform`.
    """
    resize = v2.Resize((crop_size, crop_size), interpolation=InterpolationMode.BICUBIC)
    return v2.Compose([resize, *_to_tensor(dtype)])


def to_pixels(image: Image.Image) -> Tensor:
    """A PIL image as a 3×H×W uint8 tensor; `unit_range` brings it to [0, 1]."""
    return v2.Compose(_to_tensor(torch.uint8))(image)


def _to_tensor(dtype: torch.dtype) -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(dtype, scale=True), v2.ToPureTensor()]


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
    attempts = torch.rand(CROP_ATTEMPTS, 5, dtype=torch.float64)
    for share, ratio, turn, down, right in attempts.tolist():
        area = _between(*scale, share) * height * width
        ratio = _between(*CROP_RATIOS, ratio)
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


def normalise(images: Tensor, mean_std: MeanStd | None = None) -> Tensor:
    """Normalise ...×3×H×W images in [0, 1].

    Args:
        images: their channels are RGB.
        mean_std: each channel's mean and deviation; ImageNet's if None.
    """
    mean, deviation = (_per_channel(values, images) for values in mean_std or (MEAN, STD))
    return (images - mean).div_(deviation)


def _per_channel(values: Sequence[float], images: Tensor) -> Tensor:
    """3×1×1 `values` of the images' type, on their device."""
    # filled there, for a copy of them would wait for a GPU
    return torch.stack([images.new_full((1, 1), value) for value in values])


def unit_range(pixels: Tensor) -> Tensor:
    """Pixels of 0 to 255 (uint8) as float32 in [0, 1], bit by bit as the transforms give them."""
    return F.to_dtype(pixels, torch.float32, scale=True)
