"""Painted masks against a slow painter that knows nothing but the JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
from coco_case import annotation, edit, prepare, val_mask, write_root
from PIL import Image
from pycocotools import coco
from pycocotools import mask as rasters

from datasets.coco import COCO
from datasets.coco.annotations import EDGE, read_annotations
from datasets.coco.layout import VAL
from datasets.coco.masks import pixels_of
from datasets.files import read_mask


def pixels_of_json(shape, height, width):
    """H×W bool. Runs are counted out one by one; polygons, each by itself, are pycocotools'."""
    if isinstance(shape, dict):
        flat = [bool(turn % 2) for turn, run in enumerate(shape["counts"]) for _ in range(run)]
        return np.array(
            [flat[x * height + y] for y in range(height) for x in range(width)]
        ).reshape(height, width)
    found = np.zeros((height, width), bool)
    for polygon in shape:
        found |= rasters.decode(rasters.frPyObjects([polygon], height, width))[..., 0] > 0
    return found


def slow_mask(image, content):
    """Pixel by pixel: the smallest object that covers it, of equal ones the later; else a crowd."""
    names = [category["name"] for category in sorted(content["categories"], key=lambda c: c["id"])]
    name_of = {category["id"]: category["name"] for category in content["categories"]}
    height, width = image["height"], image["width"]
    covering = []
    for each in content["annotations"]:
        if each["image_id"] == image["id"]:
            inside = pixels_of_json(each["segmentation"], height, width)
            label = 1 + names.index(name_of[each["category_id"]])
            covering.append((inside, label, each["iscrowd"]))
    sizes = [int(inside.sum()) for inside, _, _ in covering]
    painted = np.zeros((height, width), np.uint8)
    for y in range(height):
        for x in range(width):
            here = [number for number, (inside, _, _) in enumerate(covering) if inside[y, x]]
            things = [number for number in here if not covering[number][2]]
            if things:
                painted[y, x] = covering[min(things, key=lambda number: (sizes[number], -number))][
                    1
                ]
            elif here:
                painted[y, x] = 255
    return painted


def test_masks_are_those_of_a_slow_painter(prepared_coco):
    content = json.loads((prepared_coco / VAL.annotations).read_text())
    kinds = set()
    for image in content["images"]:
        found = read_mask(prepared_coco / VAL.masks / image["file_name"].replace(".jpg", ".png"))
        assert np.array_equal(found, slow_mask(image, content)), image
        kinds |= {int(value) for value in np.unique(found)}
    # background, crowds, and objects from both ends of the ids
    assert {0, 255} < kinds and min(kinds - {0}) == 1 and max(kinds - {255}) > 60
    shapes = {type(each["segmentation"]) for each in content["annotations"]}
    assert shapes == {list, dict}


def test_pixels_are_those_of_ann_to_mask(prepared_coco, capsys):
    annotations = coco.COCO(str(prepared_coco / VAL.annotations))
    for image in read_annotations(prepared_coco, VAL, shapes=True):
        for instance in image.instances:
            expected = annotations.annToMask(annotations.anns[instance.id]).astype(bool)
            assert np.array_equal(pixels_of(instance, image.height, image.width), expected)


def box(left, top, right, bottom):
    return [[left, top, right, top, right, bottom, left, bottom]]


class TestOrder:
    """Boxes of whole pixels, so that what lies on top can be said."""

    @pytest.fixture
    def painted(self, tmp_path):
        def paint(*annotations):
            root = write_root(tmp_path / "data", annotations, (10, 12))
            assert prepare(root).returncode == 0
            return val_mask(root)

        return paint

    def test_smaller_objects_lie_on_top_in_whatever_order(self, painted):
        mask = painted(
            annotation(1, 1, "cat", box(2, 2, 4, 4)), annotation(2, 1, "dog", box(0, 0, 10, 8))
        )
        assert mask[3, 3] == COCO.classes.index("cat") and mask[0, 0] == COCO.classes.index("dog")

    def test_of_equal_ones_the_later_does(self, painted):
        mask = painted(
            annotation(9, 1, "cat", box(0, 0, 6, 6)), annotation(2, 1, "dog", box(3, 3, 9, 9))
        )
        assert mask[4, 4] == COCO.classes.index("dog") and mask[1, 1] == COCO.classes.index("cat")

    def test_crowds_lie_below_objects_that_are_larger(self, painted):
        crowd = {"size": [10, 12], "counts": [0, 20, 100]}
        mask = painted(
            annotation(1, 1, "person", box(0, 0, 9, 5)), annotation(2, 1, "person", crowd, crowd=1)
        )
        assert mask[0, 0] == 1 and mask[7, 0] == mask[9, 1] == 255 and mask[9, 5] == 0

    def test_compressed_runs_are_read(self, painted):
        inside = np.zeros((10, 12), np.uint8)
        inside[2:9, 3:7] = inside[0, 0] = inside[5, 11] = 1
        runs = rasters.encode(np.asfortranarray(inside))
        shape = {"size": [10, 12], "counts": runs["counts"].decode()}
        mask = painted(annotation(1, 1, "toothbrush", shape))
        assert np.array_equal(mask, 80 * inside)


class TestEdges:
    """Published polygons leave their images by fractions, some perhaps by several pixels."""

    SIZE = (10, 12)

    @pytest.mark.parametrize(
        ("shape", "inside"),
        [
            (box(-0.4, 2, 12.3, 8), np.s_[2:8, :]),
            (box(-9.5, 2, 5, 8), np.s_[2:8, :5]),
            (box(3, -8, 20.6, 17), np.s_[:, 3:]),
            (box(12, 2, 12.4, 8), np.s_[:0]),  # of a line at the edge nothing is in the image
            (box(3, 3, 3, 3), np.s_[:0]),
        ],
    )
    def test_what_is_outside_is_cut_off(self, tmp_path, shape, inside):
        root = write_root(tmp_path / "data", [annotation(1, 1, "cat", shape)], self.SIZE)
        assert prepare(root).returncode == 0
        wanted = np.zeros(self.SIZE, np.uint8)
        wanted[inside] = COCO.classes.index("cat")
        assert np.array_equal(val_mask(root), wanted)
        annotations = coco.COCO(str(root / VAL.annotations))
        assert np.array_equal(wanted > 0, annotations.annToMask(annotations.anns[1]))
        checked = prepare(root, "--check")
        assert checked.returncode == 0
        beyond = max(-min(shape[0]), max(shape[0][::2]) - 12, max(shape[0][1::2]) - 10)
        assert ("annotation 1 of COCO_val2014" in checked.stdout) == (beyond > EDGE)

    @pytest.mark.parametrize("shape", [box(18, 2, 20, 8), box(0, 0, 25, 5), box(0, 0, np.nan, 5)])
    def test_what_cannot_be_meant_is_refused(self, tmp_path, shape):
        root = write_root(tmp_path / "data", [annotation(123, 1, "cat", shape)], self.SIZE)
        line = prepare(root).stderr.splitlines()[-1]
        assert "annotation 123 lies outside" in line


def test_masks_have_voc_s_palette_and_hold_each_images_labels(prepared_coco):
    for image in read_annotations(prepared_coco, VAL, shapes=False):
        path = prepared_coco / VAL.masks / f"{Path(image.name).stem}.png"
        assert tuple(Image.open(path).getpalette()) == COCO.palette
        assert set(np.unique(read_mask(path))) - {0, 255} <= set(image.labels)


@pytest.mark.parametrize(
    "shape",
    [
        {"size": [10, 12], "counts": [0, 20]},
        {"size": [10, 12], "counts": [0, 20, 200]},
        {"size": [10, 12], "counts": [-3, 123]},
        {"size": [12, 10], "counts": [120]},
        {"size": [10, 12], "counts": "zz"},
        {"size": ["a", "b"], "counts": [120]},
        {"size": [10, 12]},
        [[1, 1, 4, 4]],
        [[1, 1, 4, 4, 5]],
        [],
        7,
        None,
        [["a", "b", "c", "d", "e", "f"]],
    ],
)
def test_a_shape_that_is_none_is_named(tmp_path, shape):
    root = write_root(tmp_path / "data", [annotation(123, 1, "cat", shape)], (10, 12))
    result = prepare(root)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    line = result.stderr.splitlines()[-1]
    assert "annotation 123" in line and str(root / VAL.annotations) in line
    assert "cut short" not in line


class TestRestart:
    def test_what_is_painted_stays(self, coco_copy):
        masks = sorted((coco_copy / VAL.masks).iterdir())
        before = {path: path.stat().st_mtime_ns for path in masks}
        masks[0].unlink()
        masks[1].write_bytes(b"")
        left = coco_copy / VAL.masks / f".{masks[2].name}.abcd1234.tmp"
        left.touch()
        result = prepare(coco_copy)
        assert result.returncode == 0
        after = {path: path.stat().st_mtime_ns for path in masks}
        assert {path for path in masks if before[path] != after[path]} == set(masks[:2])
        assert not left.exists()
        assert "nothing to do" in prepare(coco_copy).stdout

    def test_several_processes_paint_the_same(self, coco_copy, prepared_coco, monkeypatch):
        monkeypatch.setattr("utils.processes.FEW_ITEMS", 5)
        for path in (coco_copy / VAL.masks).iterdir():
            path.unlink()
        result = prepare(coco_copy, "--workers", "2")
        assert result.returncode == 0, result.stderr
        for path in (prepared_coco / VAL.masks).iterdir():
            assert (coco_copy / VAL.masks / path.name).read_bytes() == path.read_bytes()


def test_without_pycocotools_one_line_says_how_to_install_it(drawn_coco, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    result = prepare(drawn_coco)
    assert result.returncode == 2
    assert "pip install pycocotools" in result.stderr.splitlines()[-1]
    assert not (drawn_coco / VAL.masks).exists()


@pytest.mark.parametrize("key", ["image_id", "category_id"])
def test_an_object_of_no_image_or_category_is_named(coco_copy, key):
    edit(coco_copy, VAL, lambda content: content["annotations"][0].update({key: 999_999}))
    result = prepare(coco_copy)
    number = json.loads((coco_copy / VAL.annotations).read_text())["annotations"][0]["id"]
    assert result.returncode == 2
    line = result.stderr.splitlines()[-1]
    assert f"annotation {number}" in line and "999999" in line and "Traceback" not in result.stderr
