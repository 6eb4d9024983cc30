"""The page of masks: its numbers, its rows, and the names in it."""

import os
from pathlib import Path

import numpy as np
import pytest
from page_case import CAT, CLASSES, DOG, HEN, INFO, NAMES, data_of, make_pages, outputs_in, target
from PIL import Image
from result_case import PALETTE, files_below, make_result, outputs

from core.inference import page
from core.inference.page import Row, build_page, most_doubtful, read_rows, write_page
from core.inference.page_files import MAX_SIDE, measure, read_numbers, write_panels
from core.inference.writing import write_result
from datasets.lists import ListEntry
from utils.errors import UserError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page") / "100% & #1"
    return folder, make_pages(folder)


def test_confidence_is_the_mean_share_of_a_class_over_its_pixels():
    merged = make_result(height=9, width=11).merged
    merged[0] **= 3
    merged[:, 2, 3] = 0
    mask = np.random.default_rng(1).choice([0, 4, 7, 255], (9, 11))
    found = measure(mask, merged, None, None, 0.0)["classes"]
    assert set(found) == {"0", "4", "7"}
    for index in (0, 4, 7):
        shares = [
            merged[index, row, column] / max(float(merged[:, row, column].sum()), 1e-9)
            for row, column in np.argwhere(mask == index)
        ]
        assert found[str(index)][0] == pytest.approx(len(shares) / mask.size, abs=1e-6)
        assert found[str(index)][1] == pytest.approx(np.mean(shares), abs=1e-5)


def test_scores_are_those_of_the_objects_that_the_network_sees():
    merged = make_result().merged
    mask, scores = merged.argmax(axis=0), np.linspace(0, 1, 20)
    numbers = measure(mask, merged, scores, None, 17 / 19)
    assert numbers["given"] is None
    # whether the mask has them or not
    assert numbers["scores"] == pytest.approx({"19": 18 / 19, "20": 1.0}, abs=1e-6)
    labels = np.zeros(20)
    labels[[1, 6]] = 1
    numbers = measure(mask, merged, scores, labels, 17 / 19)
    assert (numbers["given"], numbers["scores"]) == ([2, 7], {})


def test_panels_are_the_image_and_its_masks(tmp_path):
    image = np.full((300, 800, 3), 200, np.uint8)
    masks = [np.zeros((300, 800)), np.full((300, 800), 15)]
    write_panels(tmp_path / "a.jpg", image, masks, PALETTE)
    with Image.open(tmp_path / "a.jpg") as picture:
        assert (picture.format, picture.size) == ("JPEG", (3 * MAX_SIDE, 120))
        middles = [picture.getpixel(((2 * panel + 1) * MAX_SIDE // 2, 60)) for panel in range(3)]
    tinted = [0.6 * colour + 0.4 * 200 for colour in PALETTE[45:48]]
    for found, expected in zip(middles, [[200] * 3, [200] * 3, tinted], strict=True):
        np.testing.assert_allclose(found, expected, atol=3)


def test_files_are_written_only_where_a_page_is_wanted(tmp_path):
    result = make_result()
    write_result(outputs(tmp_path / "without"), *result)
    write_result(outputs(tmp_path / "with", page=True), *result)
    without = files_below(tmp_path / "without")
    assert set(files_below(tmp_path / "with")) == {*without, "page/a.jpg", "page/a.json"}
    with Image.open(tmp_path / "with/page/a.jpg") as picture:
        assert picture.size == (3 * 12, 10)


@pytest.mark.parametrize("content", [None, "", '{"size": [1, 2]}', "[]", '{"scores": 3}', "\xff"])
def test_numbers_that_cannot_be_read_are_named(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(UserError, match=r"a\.json.*--skip-existing"):
        read_numbers(path)


def test_rows_know_what_disagrees(made):
    folder, entries = made
    rows = {row.entry.image.name: row for row in read_rows(outputs_in(folder), entries)}
    assert list(rows) == sorted(NAMES)
    found = [(rows[name].missing, rows[name].extra) for name in NAMES]
    assert found == [([], []), ([], []), ([DOG], []), ([], []), ([], [HEN]), ([], [])]
    assert [rows[name].objects for name in NAMES[:2]] == [[CAT], [CAT, HEN]]
    # that of the least certain object, or of the background
    expected = [0.9, 0.6, 0.99, 1.0, 0.7, 0.75]
    assert [rows[name].confidence for name in NAMES] == pytest.approx(expected, abs=1e-5)
    assert rows[NAMES[-1]].scores == pytest.approx({CAT: 0.9, DOG: 0.8})


def test_the_page_holds_all_of_them_and_its_links_lead_to_files(made):
    folder, entries = made
    path = folder / "masks/index.html"
    data = data_of(path)
    assert [each["name"] for each in data["classes"]] == list(CLASSES)
    assert [each["name"] for each in data["images"]] == sorted(NAMES)
    by_name = {entry.image.name: entry for entry in entries}
    for image in data["images"]:
        entry = by_name[image["name"]]
        assert target(path, image["file"]).samefile(entry.image)
        for _, before, suffix in data["links"]:
            link = f"{before}/{image['id']}{suffix}".lstrip("/")
            assert target(path, link).is_file()
            assert not set("#?\"'<> ") & set(link)
    assert [[title, before] for title, before, _ in data["links"]] == [
        ["mask", ""],
        ["picture", "vis"],
    ]


def test_names_are_no_markup_and_need_not_be_utf_8(tmp_path):
    folder = tmp_path / "masks"
    name = os.fsdecode(b"caf\xe9 <img src=x>.jpg")
    entry = ListEntry(tmp_path / name, None)
    settings = outputs_in(tmp_path)
    result = make_result(entry.id)
    write_result(settings, entry.id, result.image, result.merged[:4], None)
    path = write_page(settings, [entry], INFO, {"images": name})
    text = path.read_bytes().decode()
    assert "<img src=x>" not in text and "</script><dog>" not in text
    (image,) = data_of(path)["images"]
    assert target(path, f"{image['id']}.png") == folder / f"{entry.id}.png"


def rows_of(*facts):
    """Rows of confidences and whether a label lacks its mask."""
    return [
        Row(ListEntry(Path(f"{n}.jpg"), None), (2, 3), [1, 2][: 1 + lacks], {}, {1: (0.5, sure)})
        for n, (sure, lacks) in enumerate(facts)
    ]


def test_those_that_need_a_look_are_kept():
    rows = rows_of((0.9, False), (0.2, False), (0.99, True), (0.3, False))
    assert most_doubtful(rows, 4) == rows
    assert most_doubtful(rows, 3) == rows[1:]
    assert most_doubtful(rows, 2) == rows[1:3]
    assert most_doubtful(rows, 1) == [rows[2]]


def test_what_is_left_out_is_said(made, monkeypatch):
    folder, entries = made
    rows = read_rows(outputs_in(folder), entries)
    whole = build_page(outputs_in(folder), rows, INFO, {"images": "x"})
    assert 'class="warning">2 images' not in whole
    monkeypatch.setattr(page, "MAX_IMAGES", 4)
    (folder / "some.html").write_text(build_page(outputs_in(folder), rows, INFO, {"images": "x"}))
    assert 'class="warning">2 images' in (folder / "some.html").read_text()
    shown = [image["name"] for image in data_of(folder / "some.html")["images"]]
    # both that disagree, then the least certain
    assert set(shown) == {NAMES[2], NAMES[4], NAMES[1], NAMES[5]}


def test_the_table_counts_pixels_over_all_images(made):
    folder, entries = made
    rows = read_rows(outputs_in(folder), entries)
    table = {each["name"]: each for each in page._classes(rows, INFO)}
    cat = table["cat"]
    assert (cat["images"], cat["given"], cat["missing"]) == (3, 3, 0)
    assert cat["share"] == pytest.approx((10 + 4 + 5) / 120, abs=1e-5)
    assert cat["confidence"] == pytest.approx((10 * 0.9 + 4 * 0.6 + 5 * 0.99) / 19, abs=1e-5)
    assert [table[CLASSES[DOG]][key] for key in ("images", "given", "missing")] == [1, 1, 1]
    assert sum(each["share"] for each in table.values()) == pytest.approx(1, abs=1e-4)


def test_a_page_that_cannot_be_written_is_named(tmp_path):
    entries = make_pages(tmp_path)
    path = tmp_path / "masks/index.html"
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"index\.html .*--skip-existing"):
        write_page(outputs_in(tmp_path), entries, INFO, {"images": "x"})
