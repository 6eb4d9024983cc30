"""Test-time augmentation: the views of an image, and the way back from a view's masks.

Crop, padding and resizing are undone here; flips by `core.inference.predict.Merger`.

A TTA view says how the network sees an image: at which size, flipped or not, and through which
window. TEST.METHOD decides which views there are; the rest is the same for both methods.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from core.config import InferenceConfig
from datasets.transforms import MeanStd, normalise, to_pixels, unit_range
from utils.errors import UserError

Size = tuple[int, int]  # height, width

STEP = 16
"""Sides of fitting windows are multiples of it, and so of the published networks' stride of 8."""


def tta_views(image_size: Size, test: InferenceConfig) -> list[TTAView]:
    """The TTA views of an image, in the order in which the network sees them.

    multiscale: every scale in order, plain and then (FLIP) flipped, in the centre of its window,
    which is PAD_SIZE, or with TEST.WINDOW fit hardly larger than the view itself.
    multicrop: the crops of a grid over PAD_SIZE row by row, each (FLIP) flipped and then plain.

    What changes for an image larger than PAD_SIZE, see `Layout`.

    Args:
        image_size: the image's height and width.
        test: the configuration's TEST section.

    Raises:
        UserError: see `check_crops`.
    """
    layout = make_layout(image_size, test)
    if test.METHOD == "multicrop":
        check_crops(test)
        return _multicrop_views(layout, test)
    return _multiscale_views(layout, test)


def _multiscale_views(layout: Layout, test: InferenceConfig) -> list[TTAView]:
    views = []
    for size, window in zip(layout.sizes, layout.windows, strict=True):
        top, left = _padding(size, window)
        for flipped in (False, True) if test.FLIP else (False,):
            views.append(TTAView(size, flipped, (-top, -left), window))
    return views


def _multicrop_views(layout: Layout, test: InferenceConfig) -> list[TTAView]:
    views = []
    [size], [pad] = layout.sizes, layout.windows
    width, crop_width = size[1], test.CROP_SIZE[1]
    padding_top, padding_left = _padding(size, pad)
    rows, columns = (layout.crop_starts(axis, test.CROP_SIZE[axis]) for axis in (0, 1))
    for top in (row - padding_top for row in rows):
        for left in (column - padding_left for column in columns):
            if test.FLIP:
                # the same pixels in the flipped image
                corner = (top, width - left - crop_width)
                views.append(TTAView(size, True, corner, test.CROP_SIZE))
            views.append(TTAView(size, False, (top, left), test.CROP_SIZE))
    return views


@dataclass(frozen=True)
class TTAView:
    """One way to show an image to the network.

    The image is resized, flipped or not, and seen through a window, which may extend beyond the
    image; zeros are there.

    Attributes:
        size: height and width of the resized image.
        flipped: whether the resized image is flipped, left to right.
        corner: row and column of the window's upper left corner in the resized and flipped
            image; negative where it lies outside.
        window: the window's height and width.
    """

    size: Size
    flipped: bool
    corner: Size
    window: Size

    def cut(self, resized: Tensor, window: Tensor) -> None:
        """Copy the visible part of an image into a window.

        Args:
            resized: 3×(size), the image, not flipped.
            window: 3×(window) zeros, which stay outside the image.
        """
        in_image, in_window = self._overlap()
        flipped = resized.flip(-1) if self.flipped else resized
        window[in_window] = flipped[in_image]

    @property
    def geometry(self) -> tuple[Size, Size, Size]:
        """What views that differ only in their flip have in common."""
        return self.size, self.corner, self.window

    def invert(self, masks: Tensor, image_size: Size, classes: Tensor | None = None) -> Tensor:
        """Undo crop, padding and resizing of maps, but not a flip (see `predict.Merger`).

        Args:
            masks: B×C×(window), of any floating-point type.
            image_size: the original image's height and width.
            classes: indices of the K maps that are wanted; all C if None.

        Returns:
            B×K×(image_size) float32, zero where the window does not show the image.
        """
        in_image, in_window = self._overlap()
        maps = masks[in_window].float()
        if classes is not None:
            maps = maps[:, classes]
        if not self.shows_all:
            visible = maps
            maps = visible.new_zeros(*visible.shape[:2], *self.size)
            maps[in_image] = visible
        if self.size == image_size:  # resizing would change nothing, but take as much time
            return maps
        return F.interpolate(maps, image_size, mode="bilinear", align_corners=False)

    @property
    def shows_all(self) -> bool:
        """Whether the whole image is in the window."""
        in_image, _ = self._overlap()
        return in_image[1:] == tuple(slice(0, length) for length in self.size)

    def _overlap(self) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Indices of the visible part of the image, in the image and in the window."""
        in_image, in_window = [], []
        for length, corner, extent in zip(self.size, self.corner, self.window, strict=True):
            start = min(max(corner, 0), length)
            stop = min(max(corner + extent, 0), length)
            in_image.append(slice(start, stop))
            in_window.append(slice(start - corner, stop - corner))
        return (..., *in_image), (..., *in_window)


def resize_views(
    views: Sequence[TTAView], image: Image.Image, pinned: bool = False
) -> list[Tensor]:
    """The RGB `image` in each view's size, 3×(size) uint8; neighbours of one size share theirs.

    In `pinned` memory, the copy to a GPU need not be waited for.
    """
    resized = []
    for (height, width), alike in groupby(views, key=attrgetter("size")):
        pixels = to_pixels(image.resize((width, height), Image.Resampling.BICUBIC))
        resized += [pixels.pin_memory() if pinned else pixels] * len(list(alike))
    return resized


def show_views(
    views: Sequence[TTAView],
    resized: Sequence[Tensor],
    device: torch.device,
    mean_std: MeanStd | None = None,
) -> Tensor:
    """The network's input on `device`: B×3×(window) float32, normalised, zeros outside the image.

    Nothing else makes the network's input. All is done on the device, which bytes reach in a
    quarter of the time.

    Args:
        views: of one window.
        resized: see `resize_views`.
        device: where the network is.
        mean_std: as for `normalise`.
    """
    inputs = torch.zeros(len(views), 3, *views[0].window, device=device)
    triples = zip(views, resized, inputs, strict=True)
    for _, group in groupby(triples, key=lambda triple: triple[0].size):
        alike = list(group)
        _, pixels, _ = alike[0]
        # other memory than pinned may be gone before a copy that nobody waits for
        pixels = pixels.to(device, non_blocking=pixels.is_pinned())
        normalised = normalise(unit_range(pixels), mean_std)
        for view, _, window in alike:
            view.cut(normalised, window)
    return inputs


@dataclass(frozen=True)
class Layout:
    """The sizes of an image's views.

    All windows are TEST.PAD_SIZE. For an image that exceeds it at one of its scales, TEST.OVERSIZE
    is either "grow": the windows are the smallest that hold all views, with as many more crops as
    that takes; or "shrink": all `sizes` are smaller by the same factor.

    With TEST.WINDOW fit, a multiscale view's window is its own size, rounded up to multiples of
    `STEP`. But for rounding, no view has more pixels than PAD_SIZE: all `sizes` of an image that
    would exceed it are smaller by the same factor.

    Attributes:
        sizes: height and width of the resized image, one pixel at least, scale by scale.
        windows: height and width of the canvas whose centre each of them fills.
        grid: multicrop's rows and columns of crops over its only canvas.
    """

    sizes: tuple[Size, ...]
    windows: tuple[Size, ...]
    grid: Size

    def crop_starts(self, axis: int, crop: int) -> list[int]:
        """Where along `axis` of `pad` crops of that length begin, the last ones moved inside."""
        [pad] = self.windows
        stride, last = _crop_stride(pad[axis], self.grid[axis]), pad[axis] - crop
        return [min(index * stride, last) for index in range(self.grid[axis])]


def make_layout(image_size: Size, test: InferenceConfig) -> Layout:
    """The layout of an image of `image_size` (height, width) under the TEST section."""
    sizes = _scaled_sizes(image_size, test, factor=1.0)
    pad, grid = test.PAD_SIZE, test.CROP_GRID_SIZE
    if not _fit(sizes, test) and _shrinks(test):
        sizes = _scaled_sizes(image_size, test, _shrinkage(image_size, test))
    if fits_windows(test):
        return Layout(sizes, tuple(_window(size) for size in sizes), grid)
    if _fit(sizes, test):
        return Layout(sizes, (pad,) * len(sizes), grid)
    height, width = _extent((*sizes, pad))
    rows, columns = (
        max(count, -(-length // crop))
        for count, length, crop in zip(grid, (height, width), test.CROP_SIZE, strict=True)
    )
    return Layout(sizes, ((height, width),) * len(sizes), (rows, columns))


def fits_windows(test: InferenceConfig) -> bool:
    """Whether each view has a window of its own size; multicrop's are TEST.CROP_SIZE always."""
    return test.WINDOW == "fit" and test.METHOD == "multiscale"


def _shrinks(test: InferenceConfig) -> bool:
    """Whether too large images are seen smaller, rather than through larger windows."""
    return fits_windows(test) or test.OVERSIZE == "shrink"


def _window(size: Size) -> Size:
    height, width = (-(-length // STEP) * STEP for length in size)
    return height, width


def _padding(size: Size, window: Size) -> Size:
    """Rows above and columns left of an image of `size` in the centre of `window`."""
    return (window[0] - size[0]) // 2, (window[1] - size[1]) // 2


def _scaled_sizes(image_size: Size, test: InferenceConfig, factor: float) -> tuple[Size, ...]:
    height, width = image_size
    scales = [scale * factor for scale in _scales(test)]
    return tuple((max(1, round(height * scale)), max(1, round(width * scale))) for scale in scales)


def _scales(test: InferenceConfig) -> tuple[float, ...]:
    return test.SCALES if test.METHOD == "multiscale" else (1.0,)


def _shrinkage(image_size: Size, test: InferenceConfig) -> float:
    """The factor of all scales at which the largest view is as large as TEST.PAD_SIZE allows."""
    largest = max(_scales(test))
    if fits_windows(test):
        return math.sqrt(math.prod(test.PAD_SIZE) / math.prod(image_size)) / largest
    return min(
        pad / (length * largest) for pad, length in zip(test.PAD_SIZE, image_size, strict=True)
    )


def _fit(sizes: tuple[Size, ...], test: InferenceConfig) -> bool:
    """Whether views of these sizes are as TEST.PAD_SIZE allows: inside it, or of no more pixels."""
    pad = test.PAD_SIZE
    if fits_windows(test):
        return all(math.prod(size) <= math.prod(pad) for size in sizes)
    return all(height <= pad[0] and width <= pad[1] for height, width in sizes)


def _extent(sizes: Iterable[Size]) -> Size:
    """The least size that holds all."""
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    return height, width


def _crop_stride(pad: int, grid: int) -> int:
    return -(-pad // grid)


def check_crops(test: InferenceConfig) -> None:
    """Raise `UserError` unless multicrop's crops lie inside TEST.PAD_SIZE and cover it."""
    for axis, name in enumerate(("height", "width")):
        pad, crop, grid = test.PAD_SIZE[axis], test.CROP_SIZE[axis], test.CROP_GRID_SIZE[axis]
        if crop > pad:
            raise UserError(
                f"TEST.CROP_SIZE exceeds TEST.PAD_SIZE in {name} ({crop} > {pad}); lower the one "
                "or raise the other"
            )
        stride = _crop_stride(pad, grid)
        if stride > crop:
            raise UserError(
                f"TEST.CROP_GRID_SIZE {grid} leaves gaps between crops in {name}: a stride of "
                f"{stride} over TEST.PAD_SIZE {pad}; raise it to {-(-pad // crop)}, or "
                f"TEST.CROP_SIZE to {stride}"
            )


def describe_oversize(images: Mapping[str, Size], test: InferenceConfig) -> str:
    """A line about the images (name → height and width) that exceed TEST.PAD_SIZE, or "".

    It gives their number, the first one's name, what TEST.OVERSIZE does, and the alternative.
    """
    large = {
        name: size
        for name, size in images.items()
        if not _fit(_scaled_sizes(size, test, factor=1.0), test)
    }
    if not large:
        return ""
    name, first = next(iter(large.items()))
    extent = size_text(_extent(_scaled_sizes(first, test, factor=1.0)))
    seen = f"seen at {extent}" if test.METHOD == "multiscale" else "seen as it is"
    pad = f"TEST.PAD_SIZE {list(test.PAD_SIZE)} (height, width)"
    line = f"larger than {pad}: {len(large)} of {len(images)} images"
    line += f", the first {name} ({size_text(first)}, {seen}); "
    if _shrinks(test):
        remedy = "TEST.OVERSIZE grow enlarges windows instead"
        if fits_windows(test):
            remedy = "a larger TEST.PAD_SIZE allows for more pixels"
        least = min(_shrinkage(size, test) for size in large.values())
        return (
            f"{line}the network sees them smaller, all scales of an image times {least:.2g} or "
            f"more, and masks keep the image's size; {remedy}"
        )
    most = _extent(make_layout(size, test).windows[0] for size in large.values())
    return (
        f"{line}their windows grow, to {size_text(most)} at most, and take more memory and time; "
        "TEST.OVERSIZE shrink shows the images to the network smaller instead"
    )


def size_text(size: Size) -> str:
    """Height and width for readers."""
    return f"{size[0]}×{size[1]}"
