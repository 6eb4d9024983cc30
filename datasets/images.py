"""Decoding images with Pillow: bit depth and transparency to RGB, and EXIF orientation."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

# What Pillow warns of is an error here (no pixels) or changes none of them (damaged EXIF). Said
# once for all threads: `warnings.catch_warnings` in one of them would change the others' filters.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").addHandler(logging.NullHandler())

# Pillow knows these, but decodes them with the help of other programs or not at all
_NO_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")

# markers of formats: the start of a JPEG's pixels (or of some of them), the ends of both
_JPEG_SCAN = b"\xff\xda"
_JPEG_END = b"\xff\xd9"
_JPEG_LOST = bytes(8)
_PNG_END = b"IEND\xaeB`\x82"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def image_suffixes() -> frozenset[str]:
    """The suffixes, in small letters and with their dot, of files that `decode` may open."""
    formats = Image.registered_extensions().items()
    return frozenset(
        suffix for suffix, name in formats if name in Image.OPEN and name not in _NO_PICTURES
    )


def decode(path: str | Path) -> Image.Image:
    """Open an image, of several in a file the first, and decode its pixels.

    Raises `OSError` if that fails, whatever the reason.
    """
    with _damage_is_an_os_error(), Image.open(path) as image:
        if image.format in _NO_PICTURES:
            raise OSError(f"{image.format} is no format of pictures")
        image.load()
    if not image.width or not image.height:
        raise OSError("it has no pixels")
    return image


def decode_whole(path: str | Path) -> Image.Image:
    """Decode an image and verify what decoders do without; an `OSError` if anything is wrong.

    That is the end of a JPEG or a PNG, and a PNG's checksums.
    """
    image = decode(path)
    data = Path(path).read_bytes()
    # a disk or a download that lost the rest leaves zeros, which decoders take for grey
    zeros = data.endswith(_JPEG_LOST)
    if image.format == "JPEG" and zeros and data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN):
        raise OSError("its end is missing")
    if image.format == "PNG":
        if _PNG_END not in data:
            raise OSError("its end is missing")
        with _damage_is_an_os_error(), Image.open(path) as unread:
            unread.verify()
    return image


def read_header(path: str | Path, exif: bool) -> tuple[tuple[int, int], Image.Transpose | None]:
    """Height and width of an image as it is stored, and with `exif` how it is to be turned.

    Raises `OSError` if that fails, whatever the reason.
    """
    with _damage_is_an_os_error(), Image.open(path) as image:
        # formats that may have the orientation behind the pixels are decoded to find it
        return (image.height, image.width), orientation(image) if exif else None


@contextlib.contextmanager
def _damage_is_an_os_error() -> Iterator[None]:
    try:
        yield
    except (OSError, MemoryError):
        raise
    # damaged bytes lead to any exception: SyntaxError, struct.error, IndexError, ...
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from error


def orientation(image: Image.Image) -> Image.Transpose | None:
    """How an image is to be turned by its EXIF orientation; None if that says nothing."""
    try:
        return _TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # damaged EXIF, which says nothing; the pixels are there
        return None


def turned_size(size: tuple[int, int], turn: Image.Transpose | None) -> tuple[int, int]:
    """Height and width after a turn, or before it: one that exchanges them is undone by another."""
    swaps = turn in (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])
    return size[::-1] if swaps else size


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded image of any mode as RGB; itself if it is RGB and opaque.

    Grey values of 16 bits are scaled to 8, and what is transparent is seen on white.

    Raises `OSError` for pixels that have no meaning as colours.
    """
    if image.mode.startswith("I;16") or image.mode == "I":
        return _deep_grey_to_rgb(image)
    if image.mode == "F":
        raise OSError("nothing says which of its floating-point values are black and white")
    if image.mode == "P" and not image.getpalette():
        raise OSError("its palette is missing")
    try:
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
        return image if image.mode == "RGB" else image.convert("RGB")
    except ValueError as error:
        raise OSError(str(error)) from error


def _deep_grey_to_rgb(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise OSError(
            f"its grey values, {values.min()} to {values.max()}, are not those of 16 bits"
        )
    grey = np.rint(values / 257).astype(np.uint8)
    grey[values == image.info.get("transparency", -1)] = 255
    return Image.fromarray(grey).convert("RGB")
