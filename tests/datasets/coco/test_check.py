"""`prepare --check --dataset coco`: each kind of damage is one line that names it."""

import numpy as np
import pytest
from coco_case import edit, prepare
from PIL import Image

from datasets.coco.layout import MINI_COCO_MARKER, TRAIN, VAL


def first(folder):
    return sorted(folder.iterdir())[0]


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def resize(path):
    image = Image.open(path)
    image.resize((9, 9), Image.Resampling.NEAREST).save(path)


def recolour(path):
    Image.open(path).convert("RGB").save(path)


def set_pixel(value):
    def change(path):
        image = Image.open(path)
        mask = np.array(image)
        mask[0, 0] = value
        changed = Image.fromarray(mask)
        changed.putpalette(image.getpalette())
        changed.save(path)

    return change


def append(path):
    path.write_text(path.read_text() + "coco/val2014/other.jpg,,cat\n")


def drop(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def outside(root):
    edit(
        root,
        VAL,
        lambda content: content["annotations"][4].update(segmentation=[[0, 0, 900, 0, 9, 9]]),
    )


def foreign_id(root):
    edit(root, VAL, lambda content: content["annotations"][0].update(image_id=10**9))


FILES = {
    "image missing": (VAL.images, lambda path: path.unlink(), "missing"),
    "training image missing": (TRAIN.images, lambda path: path.unlink(), "missing"),
    "image cut short": (TRAIN.images, cut, "cannot be read"),
    "image of another size": (TRAIN.images, resize, "by the annotations"),
    "mask missing": (VAL.masks, lambda path: path.unlink(), "missing"),
    "mask cut short": (VAL.masks, cut, "cannot be read"),
    "mask of another size": (VAL.masks, resize, "this mask is 9×9"),
    "mask in colours": (VAL.masks, recolour, "RGB colours"),
    "mask with other values": (VAL.masks, set_pixel(83), "holds 83"),
    "mask that was not painted so": (VAL.masks, set_pixel(79), "differs from"),
}


def only_error(root, *options):
    result = prepare(root, "--check", *options)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    errors = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stdout
    return errors[0]


def test_a_whole_one_is_whole(prepared_coco):
    result = prepare(prepared_coco, "--check")
    assert result.returncode == 0
    rows = [line.split() for line in result.stdout.splitlines()]
    assert ["train_coco.csv", "24", "-", "24", "-", "0"] in rows
    assert ["val_coco.csv", "40", "-", "40", "40", "0"] in rows


@pytest.mark.parametrize("kind", FILES)
def test_damaged_files(coco_copy, kind):
    folder, damage, problem = FILES[kind]
    path = first(coco_copy / folder)
    damage(path)
    line = only_error(coco_copy)
    assert (str(path) in line and problem in line and "run `" in line) or "draw mini" in line


def test_a_single_image_of_coco_s_own_is_fetched_by_itself(coco_copy):
    (coco_copy / MINI_COCO_MARKER).unlink()
    path = first(coco_copy / TRAIN.images)
    cut(path)
    address = f"http://images.cocodataset.org/train2014/{path.name}"
    assert f"`curl -fo {path} {address}`; or remove {path.parent} and run" in only_error(coco_copy)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (append, "1 line not by the annotations (coco/val2014/other.jpg"),
        (drop, "1 line missing by the annotations"),
        (lambda path: path.unlink(), "missing"),
        (lambda path: path.write_text(""), "header"),
    ],
)
def test_damaged_lists(coco_copy, damage, problem):
    damage(coco_copy / VAL.list)
    line = only_error(coco_copy)
    assert str(coco_copy / VAL.list) in line and problem in line and "--dataset coco" in line


def test_the_order_of_a_list_does_not_count(coco_copy):
    path = coco_copy / VAL.list
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, *reversed(lines)]) + "\n")
    assert prepare(coco_copy, "--check").returncode == 0


def test_a_polygon_outside_of_its_image(coco_copy):
    outside(coco_copy)
    line = only_error(coco_copy)
    assert str(coco_copy / VAL.annotations) in line and "outside of its image COCO_val" in line
    for path in (coco_copy / VAL.masks).iterdir():
        path.unlink()
    assert "outside of its image" in prepare(coco_copy).stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda root: cut(root / VAL.annotations), "cut short"),
        (lambda root: (root / VAL.annotations).unlink(), "missing"),
        (lambda root: (root / VAL.annotations).write_text("[]"), "not like COCO's"),
        (lambda root: (root / VAL.annotations).write_text("{}"), "'categories' is missing"),
        (foreign_id, "of image 1000000000"),
    ],
)
def test_damaged_annotations_are_one_line(coco_copy, damage, problem):
    damage(coco_copy)
    for options in ([], ["--check"]):
        result = prepare(coco_copy, *options)
        assert result.returncode == 2 and "Traceback" not in result.stderr
        line = result.stderr.splitlines()[-1]
        assert str(coco_copy / VAL.annotations) in line and problem in line


def test_official_numbers_are_demanded_on_request(prepared_coco):
    result = prepare(prepared_coco, "--check", "--official")
    assert result.returncode == 2
    assert "that published 82783" in result.stdout and "that published 40504" in result.stdout
