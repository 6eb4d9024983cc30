"""Views of an image: cut and undone here and nowhere else.

A view says how the network sees an image: at which size, mirrored or not, and through which
window. TEST.METHOD decides which views there are; what follows is the same for both methods.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from core.config import InferenceConfig
from datasets.transforms import normalise, to_unit_tensor
from utils.errors import UserError

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class View:
    """One way to look at an image.

    The image is resized, mirrored if asked for, and seen through a window that may reach beyond
    it; out there are zeros.

    Attributes:
        size: height and width that the image is resized to.
        mirrored: whether the resized image is mirrored, left to right.
        corner: row and column of the window's upper left corner in the resized and mirrored
            image, negative where zeros come first.
        window: the window's height and width.
    """

    size: Size
    mirrored: bool
    corner: Size
    window: Size

    def cut(self, image: Image.Image) -> Tensor:
        """The network's input: 3×(window) float32, normalised, zeros outside the RGB `image`."""
        height, width = self.size
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        if self.mirrored:
            resized = resized.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        in_image, in_window = self._overlap()
        pixels = normalise(to_unit_tensor(resized))
        view = pixels.new_zeros(len(pixels), *self.window)
        view[in_window] = pixels[in_image]
        return view

    def undo(self, masks: Tensor, image_size: Size) -> Tensor:
        """Bring a view's maps back to the image they were made for.

        Args:
            masks: C×(window), of any floating-point type.
            image_size: the original image's height and width.

        Returns:
            C×(image_size) float32, zero where the window does not show the image.
        """
        in_image, in_window = self._overlap()
        whole = masks[in_window].float()
        if not self.shows_all:
            whole = whole.new_zeros(len(masks), *self.size)
            whole[in_image] = masks[in_window]
        if self.size != image_size:  # to the same size it would change nothing, in as much time
            whole = F.interpolate(whole[None], image_size, mode="bilinear", align_corners=False)[0]
        return whole.flip(-1) if self.mirrored else whole

    @property
    def shows_all(self) -> bool:
        """Whether the whole image is in the window."""
        in_image, _ = self._overlap()
        return in_image[1:] == tuple(slice(0, length) for length in self.size)

    def _overlap(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Indices of what image and window share: its rows and columns counted in each of them."""
        in_image, in_window = [], []
        for length, corner, extent in zip(self.size, self.corner, self.window, strict=True):
            start = min(max(corner, 0), length)
            stop = min(max(corner + extent, 0), length)
            in_image.append(slice(start, stop))
            in_window.append(slice(start - corner, stop - corner))
        return (..., *in_image), (..., *in_window)


def make_views(image_size: Size, test: InferenceConfig, name: str = "image") -> list[View]:
    """The views of an image, in the order in which the network sees them.

    multiscale: every scale in order, plain and then (FLIP) mirrored, in the centre of PAD_SIZE.
    multicrop: the crops of a grid over PAD_SIZE row by row, each (FLIP) mirrored and then plain.

    Args:
        image_size: the image's height and width.
        test: the configuration's TEST section.
        name: what error messages call the image.

    Raises:
        UserError: see `check_sizes`.
    """
    check_sizes({name: image_size}, test)
    if test.METHOD == "multicrop":
        return _multicrop_views(image_size, test)
    return _multiscale_views(image_size, test)


def check_sizes(images: Mapping[str, Size], test: InferenceConfig) -> None:
    """Raise `UserError` unless every image, at all its scales, fits TEST.PAD_SIZE.

    The message names the first that does not and the least PAD_SIZE that would do for all
    `images` (name → height and width). For multicrop, also raise unless the crops lie inside
    PAD_SIZE and cover it.
    """
    if test.METHOD == "multicrop":
        _check_crops(test)
    for name, image_size in images.items():
        for scale, (height, width) in _scaled_sizes(image_size, test):
            shown = f"{name} ({_shown(image_size)}) at scale {scale:g} is {_shown((height, width))}"
            if not height or not width:
                raise UserError(f"{shown}, which is no image; raise TEST.SCALES")
            if height > test.PAD_SIZE[0] or width > test.PAD_SIZE[1]:
                raise UserError(
                    f"{shown}, larger than TEST.PAD_SIZE {list(test.PAD_SIZE)} (height, width); "
                    f"set it to {_least_pad_size(images, test)} at least, or lower TEST.SCALES"
                )


def _multiscale_views(image_size: Size, test: InferenceConfig) -> list[View]:
    views = []
    for _, size in _scaled_sizes(image_size, test):
        top, left = _padding(size, test)
        for mirrored in (False, True) if test.FLIP else (False,):
            views.append(View(size, mirrored, (-top, -left), test.PAD_SIZE))
    return views


def _multicrop_views(image_size: Size, test: InferenceConfig) -> list[View]:
    views = []
    width, crop_width = image_size[1], test.CROP_SIZE[1]
    padding_top, padding_left = _padding(image_size, test)
    rows, columns = (_crop_starts(axis, test) for axis in (0, 1))
    for top in (row - padding_top for row in rows):
        for left in (column - padding_left for column in columns):
            if test.FLIP:
                # the same pixels, seen in the mirrored image
                corner = (top, width - left - crop_width)
                views.append(View(image_size, True, corner, test.CROP_SIZE))
            views.append(View(image_size, False, (top, left), test.CROP_SIZE))
    return views


def _scaled_sizes(image_size: Size, test: InferenceConfig) -> list[tuple[float, Size]]:
    height, width = image_size
    scales = test.SCALES if test.METHOD == "multiscale" else (1.0,)
    return [(scale, (round(height * scale), round(width * scale))) for scale in scales]


def _least_pad_size(images: Mapping[str, Size], test: InferenceConfig) -> list[int]:
    sizes = [size for image in images.values() for _, size in _scaled_sizes(image, test)]
    return [max(lengths) for lengths in zip(*sizes, strict=True)]


def _padding(size: Size, test: InferenceConfig) -> Size:
    """Rows above and columns left of an image of `size` in the centre of PAD_SIZE."""
    return (test.PAD_SIZE[0] - size[0]) // 2, (test.PAD_SIZE[1] - size[1]) // 2


def _crop_stride(axis: int, test: InferenceConfig) -> int:
    return -(-test.PAD_SIZE[axis] // test.CROP_GRID_SIZE[axis])


def _crop_starts(axis: int, test: InferenceConfig) -> list[int]:
    """Where along the padded image's `axis` the crops begin, the last ones moved inside."""
    stride, last = _crop_stride(axis, test), test.PAD_SIZE[axis] - test.CROP_SIZE[axis]
    return [min(index * stride, last) for index in range(test.CROP_GRID_SIZE[axis])]


def _check_crops(test: InferenceConfig) -> None:
    for axis, name in enumerate(("height", "width")):
        pad, crop, grid = test.PAD_SIZE[axis], test.CROP_SIZE[axis], test.CROP_GRID_SIZE[axis]
        if crop > pad:
            raise UserError(
                f"TEST.CROP_SIZE exceeds TEST.PAD_SIZE in {name} ({crop} > {pad}); lower the one "
                "or raise the other"
            )
        stride = _crop_stride(axis, test)
        if stride > crop:
            raise UserError(
                f"the crops leave gaps in {name}: TEST.PAD_SIZE {pad} over TEST.CROP_GRID_SIZE "
                f"{grid} is a stride of {stride}, more than TEST.CROP_SIZE {crop}; raise "
                f"TEST.CROP_GRID_SIZE to {-(-pad // crop)} or TEST.CROP_SIZE to {stride}"
            )


def _shown(size: Size) -> str:
    return f"{size[0]}×{size[1]}"
