"""infer_val.py on folders, single images and labels of a file, as its users run it."""

import json
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

import infer_val
from datasets.files import read_mask
from utils.errors import UserError


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """A folder of images of several kinds, of 20×30 to 24×34 pixels, and what is no image."""
    folder = tmp_path_factory.mktemp("my photographs")
    coarse = np.random.default_rng(5).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    image = Image.fromarray(coarse)
    exif = Image.Exif()
    exif[0x0112] = 6
    image.resize((30, 20)).save(folder / "on the beach.jpg")
    image.resize((31, 21)).save(folder / "turned.JPG", format="JPEG", exif=exif)
    image.resize((32, 22)).convert("L").save(folder / "grey.png")
    image.resize((33, 23)).convert("P").save(folder / "colours.gif")
    image.resize((34, 24)).convert("CMYK").save(folder / "print.tif")
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.jpg").write_text("no image")
    return folder


SIZES = {
    "on the beach": (20, 30),
    "turned": (31, 21),
    "grey": (22, 32),
    "colours": (23, 33),
    "print": (24, 34),
}


def arguments(trained, output, *further):
    words = ["--cfg", trained.config, "--snapshot", trained.snapshot, "--device", "cpu"]
    words += ["--mask-output-dir", output, "--workers", "0", *further]
    return [str(word) for word in words]


@pytest.fixture
def infer(trained, tmp_path, monkeypatch, capsys):
    """The command without a process of its own: arguments → what it prints to stdout."""

    def run(*further):
        words = arguments(trained, tmp_path / "masks", *further)
        monkeypatch.setattr(sys, "argv", ["infer_val.py", *words])
        infer_val.main()
        return capsys.readouterr().out

    return run


def test_a_folder(infer, trained, photographs, tmp_path):
    printed = infer("--infer-list", photographs)
    assert f"5 images of {photographs}, on cpu" in printed
    assert f"no images by their suffix: notes.txt ({photographs})" in printed
    masks = tmp_path / "masks"
    for name, size in SIZES.items():
        for folder in ("", "crf"):
            assert read_mask(masks / folder / f"{name}.png").shape == size
        # without ground truth: prediction and CRF
        width, height = Image.open(masks / "vis" / f"{name}.png").size
        assert (height, width) == (size[0], 2 * size[1])
    record = yaml.safe_load((masks / "environment.yaml").read_text())
    assert (record["snapshot"], record["labels"]) == (str(trained.snapshot), "none")


def test_one_image_has_the_mask_that_it_has_in_its_folder(infer, photographs, tmp_path):
    infer("--infer-list", photographs)
    mask = read_mask(tmp_path / "masks" / "grey.png")
    (tmp_path / "masks" / "grey.png").unlink()
    infer("--infer-list", photographs / "grey.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "masks" / "grey.png"), mask)


def test_labels_of_a_file(infer, photographs, tmp_path):
    labels = {name: ["Potted Plant"] for name in SIZES} | {"grey.png": [], "more": ["cat"]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    infer("--infer-list", photographs, "--labels", tmp_path / "labels.json")
    found = {name: set(np.unique(read_mask(tmp_path / "masks" / f"{name}.png"))) for name in SIZES}
    assert found.pop("turned") <= {0, 16}
    assert set.union(*found.values()) == {0, 16}
    record = yaml.safe_load((tmp_path / "masks" / "environment.yaml").read_text())
    assert record["labels"] == str(tmp_path / "labels.json")


def test_labels_go_with_a_list_that_has_masks(infer, photographs, tmp_path):
    Image.fromarray(np.full((20, 30), 3, np.uint8)).save(tmp_path / "m.png")
    (photographs / "a.lst").write_text("beach.jpg m.png\n")
    (tmp_path / "beach.jpg").write_bytes((photographs / "on the beach.jpg").read_bytes())
    (tmp_path / "l.csv").write_text("beach,cat\n")
    set_root = ("--set", "TEST.DATA_ROOT", tmp_path)
    infer("--infer-list", photographs / "a.lst", "--labels", tmp_path / "l.csv", *set_root)
    assert set(np.unique(read_mask(tmp_path / "masks/beach.png"))) <= {0, 8}
    assert Image.open(tmp_path / "masks/vis/beach.png").width == 3 * 30


@pytest.mark.parametrize("how, other", [("grow", "shrink"), ("shrink", "grow")])
def test_large_images_are_told_of(infer, photographs, tmp_path, how, other):
    key = ("--set", "TEST.PAD_SIZE", "(30, 32)", "TEST.OVERSIZE", how)
    printed = infer("--infer-list", photographs, *key)
    [line] = [line for line in printed.splitlines() if "TEST.PAD_SIZE" in line]
    assert "3 of 5 images, the first" in line and f"TEST.OVERSIZE {other}" in line
    for name, size in SIZES.items():
        assert read_mask(tmp_path / "masks" / f"{name}.png").shape == size


def test_one_row_of_pixels(infer, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1, 40, 3), dtype=np.uint8)).save(
        tmp_path / "row.png"
    )
    infer("--infer-list", tmp_path / "row.png", "--set", "TEST.SCALES", "(1, 0.5)")
    for folder in ("", "crf"):
        assert read_mask(tmp_path / "masks" / folder / "row.png").shape == (1, 40)


MISTAKES = {
    "labels from two places": (
        ["--labels", "l.csv", "--set", "TEST.USE_GT_LABELS", "True"],
        "leave --labels out, or add --set TEST.USE_GT_LABELS False",
    ),
    "no masks": (["--set", "TEST.USE_GT_LABELS", "True"], "--labels FILE"),
    "labels that lack an image": (["--labels", "l.csv"], "lacks 4 of the 5 images"),
    "no such labels": (["--labels", "gone.csv"], "gone.csv"),
    "two snapshots": (["--resume", "best"], "--snapshot and --resume"),
    "no such snapshot": (["--snapshot", "gone.pth"], "--snapshot gone.pth"),
    "a folder without images": (["--infer-list", "."], "no images in ."),
    "two of a name": (["--infer-list", "twice"], "a.jpg and twice/a.png"),
    "over its own image": (["--infer-list", "x.png", "--mask-output-dir", "."], "overwritten"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_show_before_anything_is_written(
    infer, photographs, tmp_path, monkeypatch, mistake
):
    further, words = MISTAKES[mistake]
    place = tmp_path / "place"
    (place / "twice").mkdir(parents=True)
    (place / "l.csv").write_text("grey,cat\n")
    for name in ("twice/a.jpg", "twice/a.png"):
        Image.new("RGB", (3, 2)).save(place / name)
    if "x.png" in further:
        Image.new("RGB", (3, 2)).save(place / "x.png")
    monkeypatch.chdir(place)
    with pytest.raises(UserError) as error:
        infer("--infer-list", photographs, *further)
    assert words in str(error.value)
    assert not [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]
