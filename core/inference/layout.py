"""At which sizes an image is seen and what surrounds it, also where it is too large for that."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.config import InferenceConfig
from utils.errors import UserError

Size = tuple[int, int]  # height, width


@dataclass(frozen=True)
class Layout:
    """The sizes of an image's views.

    All of `sizes` fit `pad`. For an image that exceeds TEST.PAD_SIZE at one of its scales,
    TEST.OVERSIZE is either "grow": `pad` is the least size that holds all views, with as many more
    crops as that takes; or "shrink": `sizes` are smaller, all by the same factor.

    Attributes:
        sizes: height and width that the image is resized to, one pixel at least, scale by scale.
        pad: height and width in whose centre they are put.
        grid: multicrop's rows and columns of crops over `pad`.
    """

    sizes: tuple[Size, ...]
    pad: Size
    grid: Size

    def padding(self, size: Size) -> Size:
        """Rows above and columns left of an image of `size` in the centre of `pad`."""
        return (self.pad[0] - size[0]) // 2, (self.pad[1] - size[1]) // 2

    def crop_starts(self, axis: int, crop: int) -> list[int]:
        """Where along `axis` of `pad` crops of that length begin, the last ones moved inside."""
        stride, last = _crop_stride(self.pad[axis], self.grid[axis]), self.pad[axis] - crop
        return [min(index * stride, last) for index in range(self.grid[axis])]


def make_layout(image_size: Size, test: InferenceConfig) -> Layout:
    """The layout of an image of `image_size` (height, width) under the TEST section."""
    sizes = _scaled_sizes(image_size, test, factor=1.0)
    pad, grid = test.PAD_SIZE, test.CROP_GRID_SIZE
    if _fit(sizes, pad):
        return Layout(sizes, pad, grid)
    if test.OVERSIZE == "shrink":
        return Layout(_scaled_sizes(image_size, test, _shrinkage(image_size, test)), pad, grid)
    height, width = _extent((*sizes, pad))
    rows, columns = (
        max(count, -(-length // crop))
        for count, length, crop in zip(grid, (height, width), test.CROP_SIZE, strict=True)
    )
    return Layout(sizes, (height, width), (rows, columns))


def describe_oversize(images: Mapping[str, Size], test: InferenceConfig) -> str:
    """A line on the images (name → height and width) that exceed TEST.PAD_SIZE; empty if all fit.

    It says how many they are, names the first, and tells what is done and how to choose otherwise.
    """
    large = {
        name: size
        for name, size in images.items()
        if not _fit(_scaled_sizes(size, test, factor=1.0), test.PAD_SIZE)
    }
    if not large:
        return ""
    name, first = next(iter(large.items()))
    extent = size_text(_extent(_scaled_sizes(first, test, factor=1.0)))
    seen = f"seen at {extent}" if test.METHOD == "multiscale" else "seen as it is"
    pad = f"TEST.PAD_SIZE {list(test.PAD_SIZE)} (height, width)"
    line = f"larger than {pad}: {len(large)} of {len(images)} images"
    line += f", the first {name} ({size_text(first)}, {seen}); "
    if test.OVERSIZE == "shrink":
        least = min(_shrinkage(size, test) for size in large.values())
        return (
            f"{line}the network sees them smaller, all scales of an image times {least:.2g} or "
            "more, and masks keep the image's size; TEST.OVERSIZE grow enlarges windows instead"
        )
    most = _extent(make_layout(size, test).pad for size in large.values())
    return (
        f"{line}their windows grow, to {size_text(most)} at most, and take more memory and time; "
        "TEST.OVERSIZE shrink shows the images to the network smaller instead"
    )


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
                f"the crops leave gaps in {name}: TEST.PAD_SIZE {pad} over TEST.CROP_GRID_SIZE "
                f"{grid} is a stride of {stride}, more than TEST.CROP_SIZE {crop}; raise "
                f"TEST.CROP_GRID_SIZE to {-(-pad // crop)} or TEST.CROP_SIZE to {stride}"
            )


def _scaled_sizes(image_size: Size, test: InferenceConfig, factor: float) -> tuple[Size, ...]:
    height, width = image_size
    scales = [scale * factor for scale in _scales(test)]
    return tuple((max(1, round(height * scale)), max(1, round(width * scale))) for scale in scales)


def _scales(test: InferenceConfig) -> tuple[float, ...]:
    return test.SCALES if test.METHOD == "multiscale" else (1.0,)


def _shrinkage(image_size: Size, test: InferenceConfig) -> float:
    """The factor of all scales at which the largest view fits TEST.PAD_SIZE exactly."""
    largest = max(_scales(test))
    return min(
        pad / (length * largest) for pad, length in zip(test.PAD_SIZE, image_size, strict=True)
    )


def _fit(sizes: tuple[Size, ...], pad: Size) -> bool:
    return all(height <= pad[0] and width <= pad[1] for height, width in sizes)


def _extent(sizes: Iterable[Size]) -> Size:
    """The least size that holds all."""
    height, width = (max(lengths) for lengths in zip(*sizes, strict=True))
    return height, width


def _crop_stride(pad: int, grid: int) -> int:
    return -(-pad // grid)


def size_text(size: Size) -> str:
    """Height and width for readers."""
    return f"{size[0]}×{size[1]}"
