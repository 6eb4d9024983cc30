"""Labels that cannot be used are refused in one line that names file, row and remedy."""

import json
from pathlib import Path

import pytest
from label_files import CLASSES, OBJECTS, write_coco, write_voc

from datasets.image_labels import find_labels, read_labels
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

IMAGES = [Path("x/a.jpg"), Path("x/b c.png"), Path("x/d.e.jpg")]
DIGITS = ("background", *"0123456789")


def refused(path, words, images=IMAGES, classes=PASCAL_VOC.classes):
    with pytest.raises(UserError, match=words) as error:
        read_labels(path, images, classes)
    text = str(error.value)
    assert str(path) in text and "\n" not in text
    assert len(text.replace(str(path), "").split()) <= 30, text


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("l.json", "{", "l.json"),
        ("l.json", "[]", "expected"),
        ("l.json", '{"a": "cat"}', "a: expected a list"),
        ("l.json", '{"a": [8]}', "a: expected a list"),
        ("l.json", '{"a": {"cat": 1}}', "a: expected a list"),
        ("l.json", '{"a": ["cat"], "a": []}', "names a twice"),
        ("l.json", "[" * 100000, "l.json"),
        ("l.json", '{"a": []}', r"lacks 2 of the 3 images, the first b c\.png"),
        ("l.json", '{"a": ["kat"], "b c": [], "d.e": []}', "a: .*'kat'; did you mean 'cat'"),
        ("l.json", "{}", "empty"),
        ("l.jsonl", "\n", "empty"),
        ("l.jsonl", '{"file_name": "a", "labels": []}\n{', "line 2"),
        ("l.jsonl", '\n["a"]\n', "line 2: expected"),
        ("l.jsonl", '{"file_name": "a", "labels": [8]}\n', "line 1: expected"),
        ("l.jsonl", '{"file_name": "a", "labels": null}\n', "line 1: expected"),
        ("l.jsonl", '{"file": "a", "labels": "cat"}\n', "line 1: expected"),
        ("l.jsonl", '{"file_name": "a", "labels": "kat"}\n', r"line 1 \(a\): .*'kat'.*'cat'"),
        ("l.jsonl", '{"file_name": "a", "labels": []}\n' * 2, "names a twice"),
        ("l.csv", "a\na,cat\n", "names a twice"),
        ("l.csv", "größe\ngro\u0308ße\n", "twice"),
        ("l.csv", "a,kat\nb c\nd.e\n", r"row 1 \(a\): .*'kat'; did you mean 'cat'"),
        ("l.csv", "b c\n\n,cat\n", "row 3: a row without an image"),
        ("l.csv", 'a,"cat\n', "l.csv.*close its quotes"),
        ("l.csv", "", "empty"),
        ("l.csv", "\n,,\n", "empty"),
        ("l.csv", "image,labels\n", "empty"),
        ("l.csv", "image,cat,dog\n", "empty"),
        ("l.csv", "a\0,cat\n", "UTF-8"),
        ("l.csv", "x.jpg,cat\n", r"lacks 3 of the 3 images, the first a\.jpg .*'x\.jpg'"),
        # a header that is a row, and the reverse
        ("l.csv", "name,cat,dog\na,0,1\nb c,0,0\nd.e,1,1\n", "begins with `image`"),
        ("l.csv", "name,katze\na,0\n", r"row 2 \(a\): '0' is no class.*image,OBJ"),
        ("l.csv", "image,x,y\na,cat,dog\nb c\nd.e\n", "header must be .*image,labels.*left out"),
        ("l.csv", "image,cat\na,dog\nb c\nd.e\n", r"row 2 \(a\): 'dog' for 'cat' is neither"),
        ("l.csv", "image,mask\na,a.png\n", "neither labels nor classes"),
        ("l.csv", "image\na\n", "neither labels nor classes"),
        ("l.csv", "a,cat;dog\nb c\nd.e\n", r"row 1 \(a\): 'cat;dog'.*several.*image,labels"),
        # a column of labels
        ("l.csv", "image,labels\na,cat kat\n", r"row 2 \(a\): .*'kat'; did you mean 'cat'"),
        ("l.csv", "image,labels\na,cat,dog\n", r"row 2 \(a\) has more cells"),
        # a column a class
        ("l.csv", "image,kat,dog\na,0,1\n", "header: .*'kat'; did you mean 'cat'"),
        ("l.csv", "image,cat,background\na,0,1\n", "header: 'background' is no object"),
        ("l.csv", "image,tv,cat,monitor\na,0,1,1\n", "header: 'tv' and 'monitor' are one class"),
        ("l.csv", "image,cat,,dog\na,0,1,1\n", "header must be"),
        ("l.csv", "image,cat,dog\na,0,-1\n", r"row 2 \(a\): .*'dog' is unknown \(-1\)"),
        ("l.csv", "image,cat,dog\na,?,1\n", r"row 2 \(a\): .*'cat' is unknown \(\?\)"),
        ("l.csv", "image,cat,dog\na,2,1\n", r"row 2 \(a\): '2' for 'cat' is neither"),
        ("l.csv", "image,cat\na,1,1\n", r"row 2 \(a\) has more cells"),
        ("l.xlsx", "", r"\.csv, \.tsv, \.txt, \.json, \.jsonl, \.ndjson"),
        ("labels", "a,cat\n", r"\.csv, \.tsv"),
    ],
)
def test_label_files_that_cannot_be_used(tmp_path, name, text, words):
    (tmp_path / name).write_bytes(text.encode())
    refused(tmp_path / name, words)


def test_a_header_above_digits_that_are_classes(tmp_path):
    """Each cell is a class there; that it is not the image's must still be noticed."""
    path = tmp_path / "l.csv"
    path.write_text("name,3,7\na,0,1\nb c,1,0\nd.e,1,1\n")
    refused(path, "begins with `image`", classes=DIGITS)
    path.write_text("a.jpg,3,7\nb c,0,1\nd.e,1\n")
    assert [list(v.nonzero()[0]) for v in read_labels(path, IMAGES, DIGITS)] == [
        [3, 7],
        [0, 1],
        [1],
    ]


def test_label_files_that_do_not_open(tmp_path):
    (tmp_path / "l.csv").write_bytes("größe.jpg,cat".encode("latin-1"))
    refused(tmp_path / "l.csv", "UTF-8")
    (tmp_path / "l.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("l.csv", "gone.json", "gone", "gone.xlsx"):
        refused(tmp_path / name, name)


def folders(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_class_folders_that_cannot_be_used(tmp_path):
    (tmp_path / "none").mkdir()
    refused(tmp_path / "none", "neither a folder a class nor")
    refused(folders(tmp_path / "stray", "a.jpg"), "neither a folder a class nor")
    refused(folders(tmp_path / "empty", "cat/a.jpg", "dog/deep/notes.txt"), "dog has no images")
    refused(folders(tmp_path / "foreign", "cat/a.jpg", "kow/b.jpg"), "kow is no class.*'cow'")


@pytest.mark.parametrize(
    "text, words",
    [
        ("<annotation><object>", "is no XML"),
        ("", "is no XML"),
        ("<svg><object><name>cat</name></object></svg>", "none of VOC's"),
        ("<annotation><object><label>cat</label></object></annotation>", "none of VOC's"),
        ("<annotation><object><name>kat</name></object></annotation>", "'kat'.*'cat'"),
    ],
)
def test_xml_that_is_not_vocs(tmp_path, text, words):
    folder = write_voc(tmp_path, OBJECTS)
    (folder / "a.xml").write_text(text)
    refused(folder, rf"a\.xml.*{words}", [Path("a.jpg")], CLASSES)
    find_labels(folder, [Path("G.JPG")], CLASSES)  # another image's file is no matter


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda c: c["categories"].append({"id": 7, "name": "dog"}), "'cat' and 'dog'.* id 7"),
        (lambda c: c["images"].append({"id": 100, "file_name": "z"}), "'a.jpg' and 'z'.* id 100"),
        (lambda c: c["images"].append({"id": 1, "file_name": "a.jpg"}), "names a.jpg twice"),
        (lambda c: c["annotations"].append({"image_id": 100, "category_id": 5}), "a.jpg: .* 5"),
        (lambda c: c["annotations"].append({"image_id": 100, "category_id": 999}), "a.jpg: .*'no"),
        (lambda c: c["annotations"].append({"image_id": 100}), "'category_id' is missing"),
        (lambda c: c["annotations"].append("cat"), "not like COCO's"),
        (lambda c: c.pop("annotations"), "'annotations' is missing"),
        (lambda c: c.pop("categories"), "'categories' is missing"),
        (lambda c: c.update(categories=3), "not like COCO's"),
    ],
)
def test_coco_that_cannot_be_used(tmp_path, spoil, words):
    path = write_coco(tmp_path, OBJECTS)
    content = json.loads(path.read_text())
    spoil(content)
    path.write_text(json.dumps(content))
    refused(path, words, [*map(Path, OBJECTS)], CLASSES)
