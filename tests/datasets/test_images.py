"""Images of every mode and format, as RGB that is upright, opaque and of eight bits."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from datasets.files import read_image, read_mask
from datasets.images import image_suffixes, to_rgb
from datasets.voc.check import Finding, Sample, check_sample
from utils.errors import UserError

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (6, 9, 3), dtype=np.uint8)
GREY = RANDOM.integers(0, 256, (6, 9), dtype=np.uint8)
ALPHA = np.zeros((6, 9), np.uint8)
ALPHA[:3] = 255
LOSSLESS = {"png": {}, "tiff": {}, "webp": {"lossless": True}, "bmp": {}, "ppm": {}}


def pixels(path):
    image = read_image(path)
    assert image.mode == "RGB"
    return np.array(image)


def three(grey):
    return np.repeat(np.asarray(grey)[..., None], 3, axis=2)


def png(depth, colour_type, raw, *chunks):
    """A PNG of one row of two pixels, chunk by chunk."""
    header = struct.pack(">IIBBBBB", 2, 1, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + raw)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_colours_come_as_they_are(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(COLOURS).save(path, **LOSSLESS[suffix])
    np.testing.assert_array_equal(pixels(path), COLOURS)


def test_an_rgb_image_is_not_copied(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURS).save(path)
    np.testing.assert_array_equal(pixels(path), np.array(Image.open(path).convert("RGB")))
    assert isinstance(read_image(path), ImageFile.ImageFile)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, suffix, orientation):
    # what the standard says: where the first row and the first column of the file belong
    seen = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a.swapaxes(0, 1)[::-1, ::-1],
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = LOSSLESS.get(suffix, {})
    plain, turned = tmp_path / f"plain.{suffix}", tmp_path / f"turned.{suffix}"
    Image.fromarray(COLOURS).save(plain, **options)
    Image.fromarray(COLOURS).save(turned, exif=exif, **options)
    np.testing.assert_array_equal(pixels(turned), seen(pixels(plain)))


def test_damaged_exif_leaves_the_pixels(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    Image.fromarray(COLOURS).save(data, "JPEG", exif=exif)
    path = tmp_path / "a.jpg"
    path.write_bytes(data.getvalue().replace(exif.tobytes()[6:], b"\xff" * len(exif.tobytes()[6:])))
    assert pixels(path).shape == (6, 9, 3)


def test_the_check_of_data_compares_sizes_as_they_are_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOURS).save(tmp_path / "a.jpg", exif=exif)
    Image.fromarray(np.zeros((6, 9), np.uint8)).save(tmp_path / "a.png")
    assert check_sample(tmp_path, Sample(Path("a.jpg"), Path("a.png"))) == Finding()


def test_grey_and_one_bit(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GREY).save(path)
    np.testing.assert_array_equal(pixels(path), three(GREY))
    Image.fromarray(GREY > 99).save(path)
    np.testing.assert_array_equal(pixels(path), three((GREY > 99) * 255))


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix):
    deep = RANDOM.integers(0, 65536, (6, 9), dtype=np.uint16)
    deep[0, :2] = 0, 65535
    path = tmp_path / f"a.{suffix}"
    if suffix == "pgm":
        path.write_bytes(b"P5 9 6 65535\n" + deep.astype(">u2").tobytes())
    else:
        Image.fromarray(deep).save(path)
    np.testing.assert_array_equal(pixels(path), three(np.floor(deep / 65535 * 255 + 0.5)))


def test_big_endian_sixteen_bits(tmp_path):
    deep = np.array([[0, 1000, 65535]], np.uint16)
    Image.fromarray(deep.astype(">u2")).save(tmp_path / "a.tiff")
    np.testing.assert_array_equal(pixels(tmp_path / "a.tiff"), three([[0, 4, 255]]))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_is_white(tmp_path, mode):
    planes = [COLOURS[..., 0], COLOURS[..., 1], COLOURS[..., 2]] if mode == "RGBA" else [GREY]
    Image.merge(mode, [Image.fromarray(plane) for plane in [*planes, ALPHA]]).save(
        tmp_path / "a.png"
    )
    opaque = COLOURS if mode == "RGBA" else three(GREY)
    expected = np.where(ALPHA[..., None] == 255, opaque, 255)
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), expected)


def test_half_transparent(tmp_path):
    Image.new("RGBA", (1, 1), (100, 0, 255, 51)).save(tmp_path / "a.png")
    assert np.abs(pixels(tmp_path / "a.png") - [[[224, 204, 255]]]).max() <= 1


def palette_image():
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 1, 2, 3])
    return image


@pytest.mark.parametrize("transparency", [None, 2, bytes([255, 255, 0])])
@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palettes(tmp_path, suffix, transparency):
    if suffix == "gif" and isinstance(transparency, bytes):
        transparency = 2
    options = {} if transparency is None else {"transparency": transparency}
    palette_image().save(tmp_path / f"a.{suffix}", **options)
    third = [70, 80, 90] if transparency is None else [255, 255, 255]
    expected = [[[10, 20, 30], [40, 50, 60]], [third, [1, 2, 3]]]
    np.testing.assert_array_equal(pixels(tmp_path / f"a.{suffix}"), expected)


@pytest.mark.parametrize(
    "depth, colour_type, raw, key, expected",
    [
        (8, 0, bytes([7, 9]), struct.pack(">H", 7), [255, 9]),
        (16, 0, struct.pack(">HH", 1000, 60000), struct.pack(">H", 1000), [255, 233]),
        (8, 2, bytes([7, 7, 7, 9, 9, 9]), struct.pack(">3H", 7, 7, 7), [255, 9]),
    ],
)
def test_a_colour_that_stands_for_transparency(tmp_path, depth, colour_type, raw, key, expected):
    (tmp_path / "a.png").write_bytes(png(depth, colour_type, raw, (b"tRNS", key)))
    np.testing.assert_array_equal(pixels(tmp_path / "a.png"), three([expected]))


def test_the_first_of_several_images(tmp_path):
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "green", "blue")]
    for name in ("a.gif", "a.tiff", "a.webp", "a.png"):
        options = {"lossless": True} if name == "a.webp" else {}
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert Image.open(tmp_path / name).n_frames == 3
        np.testing.assert_array_equal(pixels(tmp_path / name), np.full((3, 4, 3), [255, 0, 0]))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_other_colour_spaces(mode):
    image = to_rgb(Image.new("RGB", (4, 3), (200, 30, 90)).convert(mode))
    assert image.mode == "RGB"
    assert np.abs(np.array(image).astype(int) - [200, 30, 90]).max() <= 4


def test_an_inverted_cmyk_jpeg(tmp_path):
    # as Adobe's programs write them
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    assert np.abs(pixels(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize(
    "values, words",
    [
        (np.full((2, 2), 0.5, np.float32), "floating-point"),
        (np.array([[-1, 5]], np.int32), "-1 to 5"),
        (np.array([[0, 70000]], np.int32), "0 to 70000"),
    ],
)
def test_values_without_a_meaning_are_refused(tmp_path, values, words):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match=rf"a\.tiff.*{words}"):
        read_image(tmp_path / "a.tiff")


def test_a_palette_that_is_missing(tmp_path):
    (tmp_path / "a.png").write_bytes(png(8, 3, bytes([0, 1])))
    with pytest.raises(UserError, match=r"a\.png.*palette is missing"):
        read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[0, 1]])


def test_a_document_starts_no_other_program(tmp_path):
    # Pillow would have Ghostscript draw it
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    (tmp_path / "a.jpg").write_text(text)
    with pytest.raises(UserError, match=r"a\.jpg.*EPS is no format of pictures"):
        read_image(tmp_path / "a.jpg")


def test_suffixes():
    assert {".jpg", ".jpeg", ".png", ".gif", ".tif", ".webp", ".bmp"} <= image_suffixes()
    assert not {".pdf", ".eps", ".h5", ".mpg", ".txt", ".json", ""} & image_suffixes()


def test_an_opened_image_of_any_mode():
    assert to_rgb(Image.new("L", (3, 2), 9)).getpixel((0, 0)) == (9, 9, 9)
    image = Image.new("RGB", (3, 2))
    assert to_rgb(image) is image
