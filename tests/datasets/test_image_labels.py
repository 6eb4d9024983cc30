"""Image-level labels from every format, matched to the images that are wanted."""

import json
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from label_files import CLASSES, OBJECTS, WRITERS, write_class_folders, write_coco, write_voc

from datasets.image_labels import find_labels, read_labels
from datasets.voc import PASCAL_VOC
from utils.errors import MissingError, UserError

VOC = PASCAL_VOC.classes


def indices(labels):
    """Those of the objects, from 1."""
    return None if labels is None else (np.flatnonzero(labels) + 1).tolist()


def found_in(path, images, classes=VOC):
    return [indices(labels) for labels in find_labels(path, [*map(Path, images)], classes).labels]


def table(folder, text, name="l.csv"):
    (folder / name).write_bytes(text.encode())
    return folder / name


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize("name", WRITERS)
def test_all_formats_give_the_same_labels(tmp_path, name, form):
    """Names with blanks, umlauts, commas, quotes, capitals; no objects; all of them; an extra."""
    path = WRITERS[name](tmp_path, OBJECTS | {"extra.jpg": [1]})
    images = [tmp_path / "images" / unicodedata.normalize(form, file) for file in OBJECTS]
    labels = read_labels(path, images[::-1], CLASSES)[::-1]
    assert {(vector.dtype, vector.shape) for vector in labels} == {(np.dtype(np.uint8), (6,))}
    assert [indices(vector) for vector in labels] == [sorted(found) for found in OBJECTS.values()]
    [unused] = find_labels(path, images, CLASSES).unused
    assert Path(unused).stem == "extra"


@pytest.mark.parametrize("name", WRITERS)
def test_images_that_the_source_lacks(tmp_path, name):
    path = WRITERS[name](tmp_path, OBJECTS)
    images = [Path("x/gone.jpg"), *map(Path, OBJECTS), Path("y/gone 2.jpg"), Path("x/gone.jpg")]
    with pytest.raises(
        MissingError, match=r"lacks 2 of the 13 images, the first gone\.jpg"
    ) as error:
        read_labels(path, images, CLASSES)
    assert error.value.names == ["x/gone.jpg", "y/gone 2.jpg"] and str(path) in str(error.value)
    assert pickle.loads(pickle.dumps(error.value)).names == error.value.names
    labels = find_labels(path, images, CLASSES).labels
    assert [number for number, vector in enumerate(labels) if vector is None] == [0, 12, 13]
    assert find_labels(path, images, CLASSES).unused == []


FILES = {
    "labels.json": json.dumps({"a.jpg": ["cat"], "b c": [], "d.e.jpg": ["sofa", "tv"], "x": ["?"]}),
    "labels.csv": '\ufeffimage,objects\na,cat\n\n"b c.png"\nd.e, sofa ,"tv/monitor",\nx,?\n',
    "cells.csv": 'image,labels\na,cat\n"b c.png"\nd.e,sofa tv\nx,?\n',
    "hot.tsv": "image\ttv\tsofa\tcat\na\t\t\t1\nb c.png\nd.e\t1\t1\nx\t?\t?\t?\n",
    "lines.ndjson": '{"file_name": "a", "labels": "cat"}\n\n{"file_name": "b c", "labels": []}\n'
    '{"file_name": "d.e", "labels": ["sofa", "tv"], "width": 3}\n'
    '{"file_name": "x", "labels": "?"}\n',
}
IMAGES = ("a.jpg", "b c.png", "d.e.jpg")
EXPECTED = [[8], [], [18, 20]]


@pytest.mark.parametrize("name", FILES)
def test_images_that_nobody_wants_may_have_any_labels(tmp_path, name):
    path = table(tmp_path, FILES[name], name)
    assert found_in(path, IMAGES) == EXPECTED
    assert find_labels(path, [*map(Path, IMAGES)], VOC).unused == ["x"]


@pytest.mark.parametrize(
    "text",
    [
        "image;objects\na.jpg;cat\nb c.png\nd.e.jpg;sofa;tv/monitor\n",
        "a.jpg\tcat\r\nb c.png\t\t\r\nd.e.jpg\tsofa\ttv\r\n",
        'a;"cat"\nb c;;\nd.e;sofa;tv\n',
        "images/a.jpg,cat\nimages/b c.png\nsome/where/d.e.jpg,sofa,tv\n",
        "C:\\images\\a.jpg,cat\nC:\\images\\b c.png\nC:\\images\\d.e.jpg,sofa,tv\n",
        "A.JPG,cat\nB C,\nD.E.JPG,sofa,tv\n",
        "IMAGE;Labels\na;cat\nb c;\nd.e;sofa,tv\n",
        "image,labels\na,cat\nb c,\nd.e,sofa;tv\n",
        "file,labels\na,cat\nb c,\nd.e,sofa,tv\n",
        "image;tv;cat;sofa\na;0;1;0\nb c;0.0;;\nd.e;1;0;1.0\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_other_programs_write_them(tmp_path, text, encoding):
    """With another separator, byte order mark, folders, drives, capitals, UTF-16."""
    (tmp_path / "l.csv").write_bytes(text.encode(encoding))
    assert found_in(tmp_path / "l.csv", IMAGES) == EXPECTED


def test_names_with_separators_in_them_stay_whole(tmp_path):
    images = ("a;b.jpg", "c\td.jpg", "e,f.jpg", "g\\h.jpg")
    text = 'a;b.jpg,cat\n"c\td.jpg",dog\n"e,f.jpg",sofa\ng\\h.jpg,cow\nh.jpg,person\n'
    assert found_in(table(tmp_path, text), images) == [[8], [12], [18], [10]]
    quoted = '"a;1.jpg";cat\n"b;2.jpg";dog\n'
    assert found_in(table(tmp_path, quoted), ["a;1.jpg", "b;2.jpg"]) == [[8], [12]]


def test_a_file_name_goes_before_an_id(tmp_path):
    assert found_in(table(tmp_path, "a,dog\na.jpg,cat\n"), ["a.jpg"]) == [[8]]


@pytest.mark.parametrize(
    "names, expected",
    [
        (("cat/1.jpg", "dog/1.jpg"), [8, 12]),
        (("images/cat/1.jpg", "images/dog/1.jpg"), [8, 12]),
        (("/other/photos/cat/1.jpg", "/other/photos/dog/1.jpg"), [8, 12]),
        (("D:\\cat\\1.JPG", "D:\\Dog\\1.JPG"), [8, 12]),
        (("./cat/1", "./dog/1"), [8, 12]),
        # the longest name wins, whichever comes first
        (("1.jpg", "dog/1.jpg"), [8, 12]),
        (("cat/1.jpg", "1.jpg"), [8, 12]),
        # a name is not one of another folder's image
        (("bird/1.jpg", "dog/1.jpg"), [None, 12]),
        (("1.JPG", "dog/1.jpg"), [None, 12]),
        (("bird/1.jpg", "cow/1.jpg"), [None, None]),
    ],
)
def test_folders_tell_images_of_one_name_apart(tmp_path, names, expected):
    path = table(tmp_path, json.dumps({names[0]: ["cat"], names[1]: ["dog"]}), "l.json")
    images = ["/photos/images/cat/1.jpg", "/photos/images/dog/1.jpg"]
    assert found_in(path, images) == [index and [index] for index in expected]
    assert found_in(path, images[::-1]) == [index and [index] for index in expected[::-1]]


@pytest.mark.parametrize("name", ["1.jpg", "1"])
def test_a_name_that_may_mean_two_images_is_refused(tmp_path, name):
    path = table(tmp_path, f"{name},cat\n")
    with pytest.raises(UserError, match=r"1.* may mean x/cat/1\.jpg or x/dog/1\.jpg"):
        found_in(path, ["x/cat/1.jpg", "x/dog/1.jpg"])
    assert found_in(path, ["x/cat/1.jpg", "x/cat/1.jpg"]) == [[8], [8]]  # one image, twice


def test_two_names_that_may_mean_an_image(tmp_path):
    path = table(tmp_path, "1/a.jpg,cat\n2/a.jpg,cat\n")
    assert found_in(path, ["a.jpg"]) == [[8]]
    assert find_labels(path, [Path("a.jpg")], VOC).unused == []
    with pytest.raises(UserError, match=r"1/a\.jpg and 2/a\.jpg may both mean a\.jpg"):
        found_in(table(tmp_path, "1/a.jpg,cat\n2/a.jpg,dog\n"), ["a.jpg"])


def test_what_is_one_image_by_its_very_name_is_no_other_one(tmp_path):
    assert found_in(table(tmp_path, "a.jpg,cat\n"), ["a.jpg", "A.jpg"]) == [[8], None]


def test_class_folders_are_as_they_lie(tmp_path):
    """Files of one name are one image if they have the same bytes; images may lie elsewhere."""
    for file, content in {
        "cat/1.jpg": "x",
        "dog/1.jpg": "y",
        "cat/2.jpg": "z",
        "dog/deep/2.jpg": "z",
        "background/3.JPG": "w",
        "dog/.hidden.jpg": "",
        "dog/notes.txt": "",
        ".cache/4.jpg": "",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(content)
    own = [tmp_path / "cat/1.jpg", tmp_path / "dog/1.jpg", tmp_path / "dog/deep/2.jpg"]
    assert found_in(tmp_path, own) == [[8], [12], [8, 12]]
    assert found_in(tmp_path, ["x/2.jpg", "x/3.jpg"]) == [[8, 12], []]
    found = find_labels(tmp_path, [Path("x/2.jpg"), Path("x/3.jpg")], VOC)
    assert found.unused == ["cat/1.jpg", "dog/1.jpg"]
    with pytest.raises(UserError, match=r"cat/1\.jpg and dog/1\.jpg may both mean 1\.jpg"):
        found_in(tmp_path, ["x/1.jpg"])


def test_a_linked_class_folder_counts(tmp_path):
    real = write_class_folders(tmp_path, {"a.jpg": [1]})
    (tmp_path / "links").mkdir()
    (tmp_path / "links/cat").symlink_to(real / "cat")
    assert found_in(tmp_path / "links", ["a.jpg"]) == [[8]]


def test_the_folder_above_annotations_will_do(tmp_path):
    write_voc(tmp_path, OBJECTS)
    (tmp_path / "JPEGImages").mkdir()
    assert found_in(tmp_path, ["a.jpg"]) == [[8]]


def test_annotations_of_images_that_coco_lacks_concern_nobody(tmp_path):
    path = write_coco(tmp_path, OBJECTS)
    content = json.loads(path.read_text())
    del content["images"][0]
    path.write_text(json.dumps(content))
    assert found_in(path, OBJECTS, CLASSES)[0] is None


def test_json_may_name_an_image_as_coco_does_its_parts(tmp_path):
    path = table(tmp_path, '{"images": ["cat"], "annotations": [], "categories": []}', "l.json")
    assert found_in(path, ["images.jpg"]) == [[8]]
