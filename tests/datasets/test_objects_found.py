"""The names of objects in every format of labels, before anyone knows the classes."""

from pathlib import Path

import pytest
from label_files import CLASSES, OBJECTS, WRITERS

from datasets.class_names import plain_name
from datasets.image_labels import find_objects
from utils.errors import UserError

A, B, C = IMAGES = [Path("x/a.jpg"), Path("x/b.jpg"), Path("x/c.jpg")]


@pytest.mark.parametrize("how", WRITERS)
def test_every_format_names_the_same_objects(tmp_path, how):
    path = WRITERS[how](tmp_path, OBJECTS)
    found = find_objects(path, [tmp_path / name for name in OBJECTS])
    plain = [{plain_name(name) for name in objects} for objects in found.objects]
    assert plain == [{plain_name(CLASSES[i]) for i in objects} for objects in OBJECTS.values()]
    assert found.unused == []
    assert sorted(map(plain_name, found.names)) == sorted(map(plain_name, CLASSES[1:]))


@pytest.mark.parametrize(
    "name, text, objects",
    [
        ("l.csv", "b.jpg,Dog,cat\na.jpg,dog\n", [["dog"], ["Dog", "cat"], None]),
        ("l.csv", "image,labels\na.jpg,cat dog\nc.jpg,\n", [["cat", "dog"], None, []]),
        ("l.csv", "image,labels\na.jpg,great tit\nb.jpg,a|b c\n", [["great tit"], ["a", "b c"]]),
        ("l.csv", "image,label\na.jpg,great tit\n", [["great tit"], None, None]),
        ("l.csv", "image,mask,1,dog\na.jpg,,1,0\nb.jpg,,,1\n", [["1"], ["dog"], None]),
        ("l.csv", "a,0\nb,1\nc,1\n", [["0"], ["1"], ["1"]]),
    ],
)
def test_tables(tmp_path, name, text, objects):
    (tmp_path / name).write_text(text)
    assert find_objects(tmp_path / name, IMAGES).objects == [*objects, None][:3]


def test_names_come_in_the_order_of_the_source(tmp_path):
    (tmp_path / "l.csv").write_text("z.jpg,unused\nc.jpg,Dog,cat\na.jpg,dog\n")
    found = find_objects(tmp_path / "l.csv", IMAGES)
    assert (found.names, found.unused) == (["Dog", "cat", "dog"], ["z.jpg"])


@pytest.mark.parametrize(
    "text, words",
    [
        ("a.jpg,cat|dog\n", r"row 1 \(a.jpg\): .*image,labels"),
        ("name,cat,dog\na,0,1\nb,1,0\n", "begins with `image`"),
        ("name,cat\na,0\nb,1\n", "begins with `image`"),
        ("image,cat,Cat\na,0,1\n", "one class"),
        ("image,background\na,1\n", "no object"),
        ("image,cat\na,?\n", "unknown"),
        ("image,mask\na,\n", "neither labels nor classes"),
        ("", "empty"),
        ("A.JPG,cat\na.JPG,dog\n", "may both mean a.jpg"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        find_objects(tmp_path / "l.csv", IMAGES)
