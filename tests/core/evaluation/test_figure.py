"""The picture of results."""

import re

import numpy as np
import pytest
from in_process import run_main
from PIL import Image
from report_case import write

from core.evaluation import figure
from core.evaluation.figure import draw_results, spread
from datasets.lists import read_list
from datasets.voc import PASCAL_VOC
from utils.errors import UserError


@pytest.fixture
def data(tmp_path):
    """A data root with three images of 4×2 pixels; with CRF all of them is class 20."""
    root = tmp_path / "data root"
    for name in "abc":
        write(root / "gt" / f"{name}.png", np.zeros((2, 4)))
        write(root / "out" / f"{name}.png", np.zeros((2, 4)))
        write(root / "out" / "crf" / f"{name}.png", np.full((2, 4), 20))
        (root / "img").mkdir(exist_ok=True)
        Image.new("RGB", (4, 2), (10, 20, 30)).save(root / "img" / f"{name}.jpg")
    (root / "list.txt").write_text("".join(f"img/{name}.jpg gt/{name}.png\n" for name in "abc"))
    return root


def test_picture_shows_every_row_in_the_classes_colours(data):
    arguments = ["--data", data, "--filelist", "list.txt", "--masks", "out", "--count", "2"]
    done = run_main(figure.main, *arguments, "--out", "p/x.png", cwd=data)
    assert (done.returncode, done.stderr) == (0, "")
    drawn = np.array(Image.open(data / "p" / "x.png"))
    # two pixels high become 160; two rows of four panels of 320, and titles and names
    assert drawn.shape[1] == 4 * 320 + 5 * 6
    assert drawn.shape[0] > 2 * 160
    image = np.array(Image.open(data / "img" / "a.jpg"))[0, 0]
    tv = np.array(PASCAL_VOC.palette[60:63])
    expected = np.rint(0.7 * tv + 0.3 * image).astype(np.uint8)
    crf_column = drawn[:, 6 + 3 * 326 : 6 + 3 * 326 + 320].reshape(-1, 3)
    assert (crf_column == expected).all(axis=1).sum() >= 2 * 160 * 320

    (data / "out" / "crf" / "c.png").unlink()
    done = run_main(figure.main, *arguments, "--out", "p/y.png", cwd=data)
    assert done.returncode == 2
    assert re.fullmatch(r"error: mask out/crf/c\.png does not exist.*\n", done.stderr)
    assert not (data / "p" / "y.png").exists()

    write(data / "gt" / "a.png", np.full((2, 4), 128))
    with pytest.raises(UserError, match=r"gt/a\.png holds 128"):
        draw_results(read_list(data / "list.txt", data, PASCAL_VOC), data / "out", PASCAL_VOC)


def test_spread_takes_both_ends_and_no_entry_twice(data):
    entries = read_list(data / "list.txt", data, PASCAL_VOC)
    assert [entry.id for entry in spread(entries, 2)] == ["a", "c"]
    assert [entry.id for entry in spread(entries, 9)] == ["a", "b", "c"]
    assert [entry.id for entry in spread(entries, 1)] == ["a"]
