"""Twenty photographs that come with scikit-image and scikit-learn, from a folder to masks."""

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

import infer_val
from datasets.files import read_mask

PHOTOGRAPHS = {
    "skimage/data": (
        *("astronaut.png", "brick.png", "camera.png", "cell.png", "chelsea.png"),
        *("clock_motion.png", "coffee.png", "coins.png", "grass.png", "gravel.png"),
        *("hubble_deep_field.jpg", "ihc.png", "microaneurysms.png", "moon.png"),
        *("motorcycle_left.png", "motorcycle_right.png", "retina.jpg", "rocket.jpg"),
    ),
    "sklearn/datasets/images": ("china.jpg", "flower.jpg"),
}
LONGEST_SIDE = 90  # as they are, their CRF alone would take half a minute


@pytest.fixture
def folder(tmp_path):
    """The photographs, smaller, in a folder."""
    (tmp_path / "photographs").mkdir()
    for place, names in PHOTOGRAPHS.items():
        package, *below = place.split("/")
        [location] = find_spec(package).submodule_search_locations
        for name in names:
            image = Image.open(Path(location, *below, name))
            image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
            image.save(tmp_path / "photographs" / name)
    return tmp_path / "photographs"


@pytest.mark.slow
def test_every_mask_has_the_size_of_its_image(folder, trained, tmp_path, monkeypatch):
    output = tmp_path / "masks"
    words = ["--cfg", trained.config, "--snapshot", trained.snapshot, "--device", "cpu"]
    words += ["--infer-list", folder, "--mask-output-dir", output, "--workers", "0"]
    words += ["--set", "TEST.OVERSIZE", "shrink"]
    monkeypatch.setattr(sys, "argv", ["infer_val.py", *map(str, words)])
    infer_val.main()
    images = sorted(folder.iterdir())
    assert len(images) == 20
    for path in images:
        width, height = Image.open(path).size
        for results in (output, output / "crf"):
            assert read_mask(results / f"{path.stem}.png").shape == (height, width)
        assert Image.open(output / "vis" / f"{path.stem}.png").size == (2 * width, height)
