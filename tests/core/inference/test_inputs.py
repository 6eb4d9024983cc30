"""Which images a list, a folder or a file stands for, and the labels that a user gives."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from core.config import load_config
from core.inference.samples import find_images, load_sample
from datasets.files import write_mask
from datasets.image_labels import label_vector, read_labels
from datasets.lists import ListEntry, require_unique_ids
from datasets.voc import PASCAL_VOC
from utils.errors import UserError
from utils.files import ignores_case

CLASSES = PASCAL_VOC.classes


def touch(folder, *names):
    for name in names:
        (folder / name).touch()


def test_a_folder_stands_for_its_images(tmp_path):
    touch(tmp_path, "b.JPG", "a photo.png", "c.tif", "notes.txt", ".hidden.jpg", "._b.JPG", "x")
    (tmp_path / "deeper.png").mkdir()
    touch(tmp_path / "deeper.png", "d.png")
    entries, skipped = find_images(tmp_path, "nowhere")
    assert entries == [
        ListEntry(tmp_path / name, None) for name in ("a photo.png", "b.JPG", "c.tif")
    ]
    others = "deeper.png/, notes.txt, x"
    assert skipped == f"left out, as folders or no images by their suffix: {others} ({tmp_path})"


def test_a_link_to_an_image_that_is_gone_is_not_passed_over(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.txt").symlink_to("gone.txt")
    assert [entry.id for entry in find_images(tmp_path, "")[0]] == ["a", "b"]
    (tmp_path / "c.jpg").symlink_to("gone.jpg")
    with pytest.raises(UserError, match=r"c\.jpg.* link"):
        find_images(tmp_path, "")


def test_many_other_files_are_counted(tmp_path):
    touch(tmp_path, "a.png", *(f"{number}.txt" for number in range(5)))
    _, skipped = find_images(tmp_path, "")
    assert "suffix: 0.txt, 1.txt, 2.txt and 2 more" in skipped


def test_a_folder_of_images_alone_needs_no_line(tmp_path):
    touch(tmp_path, "a.png")
    assert find_images(tmp_path, "")[1] == ""


def test_a_folder_without_images(tmp_path):
    touch(tmp_path, "a.txt")
    with pytest.raises(UserError, match=f"no images in {tmp_path}"):
        find_images(tmp_path, "")


def test_one_image(tmp_path):
    touch(tmp_path, "a b.jpeg")
    assert find_images(tmp_path / "a b.jpeg", "nowhere") == (
        [ListEntry(tmp_path / "a b.jpeg", None)],
        "",
    )
    with pytest.raises(UserError, match=r"no image .*gone\.jpg"):
        find_images(tmp_path / "gone.jpg", "nowhere")


def test_anything_else_is_a_list(tmp_path):
    (tmp_path / "list").write_text("a.jpg a.png\nb.jpg\n")
    root = tmp_path / "root"
    assert find_images(tmp_path / "list", root) == (
        [ListEntry(root / "a.jpg", root / "a.png"), ListEntry(root / "b.jpg", None)],
        "",
    )


def test_names_that_collide(tmp_path):
    touch(tmp_path, "a.jpg", "a.png", "b.jpg")
    with pytest.raises(UserError, match=r"a\.jpg and .*a\.png would write the same result a\.png"):
        require_unique_ids(find_images(tmp_path, "")[0], tmp_path)


def test_names_that_collide_where_case_does_not_count(tmp_path):
    entries = [ListEntry(tmp_path / name, None) for name in ("a.jpg", "A.png")]
    require_unique_ids(entries, tmp_path, ignore_case=False)
    with pytest.raises(UserError, match=r"a\.jpg and .*A\.png"):
        require_unique_ids(entries, tmp_path, ignore_case=True)
    touch(tmp_path, "x")
    assert ignores_case(tmp_path) == (tmp_path / "X").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def vector(*indices):
    expected = np.zeros(20, np.float32)
    for index in indices:
        expected[index - 1] = 1
    return expected


@pytest.mark.parametrize(
    "objects, indices",
    [
        (["cat", "sofa"], [8, 18]),
        (["Potted Plant", "pottedplant"], [16]),
        (["potted_plant", "dining table", "TV/Monitor"], [16, 11, 20]),
        (["tv"], [20]),
        (["tvmonitor"], [20]),
        ([1, np.int64(20)], [1, 20]),
        ([], []),
    ],
)
def test_objects_by_name(objects, indices):
    labels = label_vector(objects, CLASSES)
    assert labels.dtype == np.float32
    np.testing.assert_array_equal(labels, vector(*indices))


@pytest.mark.parametrize(
    "objects, words",
    [
        (["kat"], "'kat'; did you mean 'cat'"),
        (["motorbyke"], "did you mean 'motorbike'"),
        (["background"], "'background' is no object"),
        ([0], "1 to 20"),
        ([21], "1 to 20"),
        ([-1], "1 to 20"),
        ([1.0], "found 1.0"),
        ("cat", "several classes"),
    ],
)
def test_objects_that_there_are_not(objects, words):
    with pytest.raises(UserError, match=words):
        label_vector(objects, CLASSES)


@pytest.fixture
def entries(tmp_path):
    return [ListEntry(tmp_path / name, None) for name in ("a.jpg", "b c.png", "d.e.jpg")]


FILES = {
    "labels.json": json.dumps({"a.jpg": ["cat"], "b c": [], "d.e.jpg": ["sofa", "tv"], "x": ["?"]}),
    "labels.csv": '\ufeffimage,objects\na,cat\n\n"b c.png"\nd.e, sofa ,"tv/monitor",\nx,?\n',
}


@pytest.mark.parametrize("name", FILES)
def test_labels_of_a_file(tmp_path, entries, name):
    (tmp_path / name).write_text(FILES[name], encoding="utf-8")
    labels = read_labels(tmp_path / name, entries, CLASSES)
    assert list(labels) == ["a", "b c", "d.e"]
    for found, expected in zip(labels.values(), [vector(8), vector(), vector(18, 20)], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "text",
    [
        "image;objects\na.jpg;cat\nb c.png\nd.e.jpg;sofa;tv/monitor\n",
        "a.jpg\tcat\r\nb c.png\t\t\r\nd.e.jpg\tsofa\ttv\r\n",
        'a;"cat"\nb c;;\nd.e;sofa;tv\n',
        "images/a.jpg,cat\nimages/b c.png\nsome/where/d.e.jpg,sofa,tv\n",
        "C:\\images\\a.jpg,cat\nC:\\images\\b c.png\nC:\\images\\d.e.jpg,sofa,tv\n",
        "A.JPG,cat\nB C,\nD.E.JPG,sofa,tv\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_tables_as_other_programs_write_them(tmp_path, entries, text, encoding):
    """With another separator, byte order mark, folders, drives, capitals, UTF-16."""
    (tmp_path / "l.csv").write_bytes(text.encode(encoding))
    labels = read_labels(tmp_path / "l.csv", entries, CLASSES)
    for found, expected in zip(labels.values(), [vector(8), vector(), vector(18, 20)], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_names_with_separators_in_them_stay_whole(tmp_path):
    names = ("a;b.jpg", "c\td.jpg", "e,f.jpg", "g\\h.jpg")
    entries = [ListEntry(tmp_path / name, None) for name in names]
    text = 'a;b.jpg,cat\n"c\td.jpg",dog\n"e,f.jpg",sofa\ng\\h.jpg,cow\nh.jpg,person\n'
    (tmp_path / "l.csv").write_text(text)
    labels = read_labels(tmp_path / "l.csv", entries, CLASSES)
    for found, index in zip(labels.values(), (8, 12, 18, 10), strict=True):
        np.testing.assert_array_equal(found, vector(index))


def test_what_is_one_image_by_its_very_name_is_no_other_one(tmp_path):
    entries = [ListEntry(tmp_path / name, None) for name in ("a.jpg", "A.jpg")]
    (tmp_path / "l.csv").write_text("a.jpg,cat\n")
    with pytest.raises(UserError, match=r"lacks 1 of the 2 images, the first A\.jpg"):
        read_labels(tmp_path / "l.csv", entries, CLASSES)


def test_a_file_name_goes_before_an_id(tmp_path, entries):
    (tmp_path / "l.csv").write_text("a,dog\na.jpg,cat\nb c\nd.e\n")
    np.testing.assert_array_equal(read_labels(tmp_path / "l.csv", entries, CLASSES)["a"], vector(8))


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
        ("l.csv", "a\na,cat\n", "names a twice"),
        ("l.csv", "a,kat\nb c\nd.e\n", r"l.csv, a\.jpg: .*'kat'; did you mean 'cat'"),
        ("l.csv", ",cat\n", "a row without an image"),
        ("l.csv", 'a,"cat\n', "l.csv"),
        ("l.csv", "", "lacks 3 of the 3"),
        ("l.csv", "x.jpg,cat\n", r"lacks 3 of the 3 images, the first a\.jpg .*'x\.jpg'"),
        ("l.csv", "1/a.jpg,cat\n2/a.jpg\nb c\nd.e\n", "1/a.jpg.*2/a.jpg.*a.jpg"),
        # a column a class
        ("l.csv", "image,cat,dog\na,0,1\nb c,0,0\nd.e,1,1\n", "a.jpg: .*'0'.*names of classes"),
        ("l.csv", "a,cat;dog\nb c\nd.e\n", "a.jpg: .*'cat;dog'"),
        ("l.txt", "a,cat\n", r"\.json or \.csv"),
    ],
)
def test_label_files_that_cannot_be_used(tmp_path, entries, name, text, words):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=words) as error:
        read_labels(tmp_path / name, entries, CLASSES)
    assert str(tmp_path / name) in str(error.value)


def test_label_files_that_do_not_open(tmp_path, entries):
    (tmp_path / "l.csv").write_bytes("größe.jpg,cat".encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        read_labels(tmp_path / "l.csv", entries, CLASSES)
    (tmp_path / "l.csv").write_bytes(b"\xff\xfe\x00")
    for name in ("l.csv", "gone.json"):
        with pytest.raises(UserError, match=name):
            read_labels(tmp_path / name, entries, CLASSES)


def test_labels_of_a_sample(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.jpg")
    write_mask(tmp_path / "a.png", np.array([[0, 8, 255], [8, 8, 3]]), PASCAL_VOC.palette)
    entry = ListEntry(tmp_path / "a.jpg", tmp_path / "a.png")
    test = load_config(None).TEST
    assert load_sample(entry, test).labels is None
    with_masks = replace(test, USE_GT_LABELS=True)
    np.testing.assert_array_equal(load_sample(entry, with_masks).labels, vector(3, 8))
    given = load_sample(entry, test, {"a": vector(1)})
    np.testing.assert_array_equal(given.labels, vector(1))
    without_mask = load_sample(ListEntry(entry.image, None), test, {"a": vector(1)})
    np.testing.assert_array_equal(without_mask.labels, vector(1))
    assert without_mask.ground_truth is None
