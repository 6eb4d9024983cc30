"""From opened images to tensors: random views for training, fixed ones for validation."""

from __future__ import annotations

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from datasets.crops import PublishedRandomCrop
from datasets.jitter import FastColorJitter

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def normalise(images: Tensor) -> Tensor:
    """Normalise ...×3×H×W images in [0, 1] by ImageNet's mean and deviation."""
    mean = images.new_tensor(MEAN)[:, None, None]
    deviation = images.new_tensor(DEVIATION)[:, None, None]
    return (images - mean).div_(deviation)


def unit_range(pixels: Tensor) -> Tensor:
    """Pixels of 0 to 255 (uint8) as float32 in [0, 1], bit by bit as the transforms give them."""
    return v2.functional.to_dtype(pixels, torch.float32, scale=True)


def train_transform(
    crop_size: int, scale_from: float, scale_to: float, dtype: torch.dtype = torch.float32
) -> v2.Transform:
    """A random view of a PIL image as a 3×crop_size×crop_size tensor in [0, 1].

    A crop of `scale_from` to `scale_to` of the image's area and ratio 3/4 to 4/3, or the central
    square where none fits (see `draw_crop`), resized bicubically; mirrored half of the time; its
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
    resize = v2.Resize((crop_size, crop_size), interpolation=v2.InterpolationMode.BICUBIC)
    return v2.Compose([resize, *_to_tensor(dtype)])


def to_unit_tensor(image: Image.Image) -> Tensor:
    """A PIL image as a 3×H×W float32 tensor in [0, 1]."""
    return v2.Compose(_to_tensor(torch.float32))(image)


def _to_tensor(dtype: torch.dtype) -> list[v2.Transform]:
    return [v2.ToImage(), v2.ToDtype(dtype, scale=True), v2.ToPureTensor()]
