"""Views of an image: cut and undone here and nowhere else.

A view says how the network sees an image: at which size, mirrored or not, and through which
window. TEST.METHOD decides which views there are; what follows is the same for both methods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from core.config import InferenceConfig
from core.inference.layout import Layout, Size, check_crops, make_layout
from datasets.transforms import normalise, to_unit_tensor


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

    def cut(self, resized: Tensor, window: Tensor) -> None:
        """Put what the view shows of an image into its window.

        Args:
            resized: 3×(size), the image.
            window: 3×(window) zeros, which stay where it shows nothing of it.
        """
        in_image, in_window = self._overlap()
        turned = resized.flip(-1) if self.mirrored else resized
        window[in_window] = turned[in_image]

    @property
    def frame(self) -> tuple[Size, Size, Size]:
        """What views share that differ in mirroring alone."""
        return self.size, self.corner, self.window

    def undo(self, masks: Tensor, image_size: Size, classes: Tensor | None = None) -> Tensor:
        """Bring maps back to the size of the image that they were made for, mirrored or not.

        Args:
            masks: B×C×(window), of any floating-point type.
            image_size: the original image's height and width.
            classes: indices of the K maps that are wanted; all C if None.

        Returns:
            B×K×(image_size) float32, zero where the window does not show the image.
        """
        in_image, in_window = self._overlap()
        shown = masks[in_window].float()
        if classes is not None:
            shown = shown[:, classes]
        whole = shown
        if not self.shows_all:
            whole = shown.new_zeros(*shown.shape[:2], *self.size)
            whole[in_image] = shown
        if self.size == image_size:  # resizing would change nothing, in as much time
            return whole
        return F.interpolate(whole, image_size, mode="bilinear", align_corners=False)

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


def make_views(image_size: Size, test: InferenceConfig) -> list[View]:
    """The views of an image, in the order in which the network sees them.

    multiscale: every scale in order, plain and then (FLIP) mirrored, in the centre of PAD_SIZE.
    multicrop: the crops of a grid over PAD_SIZE row by row, each (FLIP) mirrored and then plain.

    For an image that PAD_SIZE does not hold, TEST.OVERSIZE says what is changed: see `Layout`.

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


def cut_views(views: Sequence[View], image: Image.Image, pinned: bool = False) -> Tensor:
    """The network's input: B×3×(window) float32, normalised, zeros outside the RGB `image`.

    The image is resized once for neighbouring views of one size. From `pinned` memory a GPU
    fetches it by itself.
    """
    inputs = torch.zeros(len(views), 3, *views[0].window, pin_memory=pinned)
    for size, pairs in groupby(zip(views, inputs, strict=True), key=lambda pair: pair[0].size):
        height, width = size
        resized = image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = normalise(to_unit_tensor(resized))
        for view, window in pairs:
            view.cut(pixels, window)
    return inputs


def _multiscale_views(layout: Layout, test: InferenceConfig) -> list[View]:
    views = []
    for size in layout.sizes:
        top, left = layout.padding(size)
        for mirrored in (False, True) if test.FLIP else (False,):
            views.append(View(size, mirrored, (-top, -left), layout.pad))
    return views


def _multicrop_views(layout: Layout, test: InferenceConfig) -> list[View]:
    views = []
    [size] = layout.sizes
    width, crop_width = size[1], test.CROP_SIZE[1]
    padding_top, padding_left = layout.padding(size)
    rows, columns = (layout.crop_starts(axis, test.CROP_SIZE[axis]) for axis in (0, 1))
    for top in (row - padding_top for row in rows):
        for left in (column - padding_left for column in columns):
            if test.FLIP:
                # the same pixels, seen in the mirrored image
                corner = (top, width - left - crop_width)
                views.append(View(size, True, corner, test.CROP_SIZE))
            views.append(View(size, False, (top, left), test.CROP_SIZE))
    return views
