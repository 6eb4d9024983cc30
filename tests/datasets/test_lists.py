"""File lists: lines `IMAGE MASK`, and tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.inference.samples import find_images
from datasets.lists import ListEntry, read_list, require_files, require_unique_ids
from datasets.voc import PASCAL_VOC
from utils.errors import UserError


def read(folder: Path, content: str | bytes, name: str = "list.txt") -> list[ListEntry]:
    """The entries of a list, with `folder` as the data root."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_list(path, folder)


def refusal(folder: Path, content: str | bytes, name: str = "list.txt") -> str:
    """The line that a list is refused with."""
    with pytest.raises(UserError) as caught:
        read(folder, content, name)
    assert str(folder / name) in str(caught.value)
    return str(caught.value)


def test_list_columns_are_relative_to_the_root(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("/img/2007_00003jpg.jpg /m/2007_00003jpg.png\n\nimg/b.c.jpg\n")
    first, second = read_list(path, tmp_path / "root")
    assert first.image == tmp_path / "root/img/2007_00003jpg.jpg"
    assert first.mask == tmp_path / "root/m/2007_00003jpg.png"
    assert (first.id, second.id, second.mask) == ("2007_00003jpg", "b.c", None)


@pytest.mark.parametrize("text, named", [("", "empty"), ("\n \n", "empty"), ("a b c\n", "line 1")])
def test_lists_that_are_none_are_refused(tmp_path, text, named):
    path = tmp_path / "list.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=named) as caught:
        read_list(path, tmp_path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "own"),
    [("train_augvoc.txt", True), ("mine.txt", False), ("folder/train_augvoc.txt", False)],
)
def test_a_missing_list_names_the_command_that_makes_voc_s_own(tmp_path, name, own):
    def message():
        with pytest.raises(UserError) as caught:
            read_list(tmp_path / name, tmp_path, PASCAL_VOC)
        return str(caught.value)

    assert str(tmp_path / name) in message()
    assert (f"`DATA_ROOT={tmp_path} bash launch/get_data.sh`" in message()) == own
    (tmp_path / "voc").mkdir()  # so that the lists alone are missing
    assert (f"-m datasets.prepare --root {tmp_path}`" in message()) == own
    assert "get_data" not in message()


@pytest.mark.parametrize("content", [b"\xff\xd8\xff", b"a.jpg\0\0\n"])
def test_a_binary_list_is_refused(tmp_path, content):
    (tmp_path / "list.txt").write_bytes(content)
    with pytest.raises(UserError, match=r"list\.txt"):
        read_list(tmp_path / "list.txt", tmp_path)


def test_equal_ids_from_two_folders_are_refused(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("a/x.jpg\nb/x.png\n")
    with pytest.raises(UserError, match=r"x\.png"):
        require_unique_ids(read_list(path, tmp_path), path)
    path.write_text("a/x.jpg\nb/y.jpg\n")
    require_unique_ids(read_list(path, tmp_path), path)


TABLES = {
    "commas": "image,mask,labels\nmy img/a.jpg,gt/a b.png,cat dog\n/b.jpg,,\n",
    "semicolons": "image;mask;labels\nmy img/a.jpg;gt/a b.png;cat dog\nb.jpg;;\n",
    "tabs": "image\tmask\tlabels\nmy img/a.jpg\tgt/a b.png\tcat dog\nb.jpg\t\t\n",
    "another order and case": "Labels,MASK,Image\ncat dog,gt/a b.png,my img/a.jpg\n,,b.jpg\n",
    "quotes": '"image","mask","labels"\n"my img/a.jpg","gt/a b.png","cat dog"\n"b.jpg","",""\n',
    "blanks": ' image, mask, labels\n\nmy img/a.jpg , "gt/a b.png",cat dog\n,,\nb.jpg,,\n\n',
    "other columns": "id,image,mask,x,labels\n1,my img/a.jpg,gt/a b.png,x,cat dog\n2,b.jpg,,x,\n",
    "a spreadsheet's": "\ufeffimage,mask,labels,\r\n"
    "my img/a.jpg,gt/a b.png,cat dog,,\r\nb.jpg,,,,\r\n",
}


@pytest.mark.parametrize("form", TABLES)
@pytest.mark.parametrize("name", ["list.txt", "list.csv"])
def test_a_table_is_a_list(tmp_path, form, name):
    # told by its first line, not by its suffix
    first, second = read(tmp_path, TABLES[form], name)
    assert first.image == tmp_path / "my img/a.jpg" and first.mask == tmp_path / "gt/a b.png"
    assert (second.image, second.mask) == (tmp_path / "b.jpg", None)
    assert (first.labels, second.labels) == ("cat dog", "")


def test_columns_that_a_table_lacks_are_none(tmp_path):
    (entry,) = read(tmp_path, "image\na b.jpg\n")
    assert entry == ListEntry(tmp_path / "a b.jpg", None, labels=None)
    (entry,) = read(tmp_path, "mask;image\nm.png;a,b.jpg\n")
    assert (entry.image, entry.mask) == (tmp_path / "a,b.jpg", tmp_path / "m.png")
    assert read(tmp_path, "a.jpg a.png\n")[0].labels is None


def test_names_in_quotes_may_hold_anything(tmp_path):
    entries = read(tmp_path, 'image,mask\n"a, ""b"" ä.jpg","gt;c d.png"\ne\'f.jpg,\n')
    assert [entry.image.name for entry in entries] == ['a, "b" ä.jpg', "e'f.jpg"]
    assert [entry.mask for entry in entries] == [tmp_path / "gt;c d.png", None]


def test_a_one_hot_table_of_labels_is_a_list_of_images(tmp_path):
    entries = read(tmp_path, "image,cat,dog\na.jpg,1,0\nb.jpg,,1\n")
    assert [(entry.image.name, entry.mask, entry.labels) for entry in entries] == [
        ("a.jpg", None, None),
        ("b.jpg", None, None),
    ]


def test_images_of_a_table_are_turned_as_those_of_lines(tmp_path):
    for content in ("VOCdevkit/a.jpg\nb.jpg\n", "image\nVOCdevkit/a.jpg\nb.jpg\n"):
        (tmp_path / "list.txt").write_text(content)
        entries = read_list(tmp_path / "list.txt", tmp_path, PASCAL_VOC)
        assert [entry.exif for entry in entries] == [False, True]


def test_inference_reads_tables(tmp_path):
    (tmp_path / "images.csv").write_text("image\na b.jpg\n")
    entries, note = find_images(tmp_path / "images.csv", tmp_path)
    assert (entries, note) == ([ListEntry(tmp_path / "a b.jpg", None)], "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("image,mask\n", "is empty"),
        ("image,mask\na.jpg,a.png\n\n,b.png\n", "line 4: no image"),
        ("image,mask\na, b.jpg,a.png\n", "line 2: 3 cells, but the header has 2"),
        ("image,labels\na.jpg\n", "line 2: 1 cells, but the header has 2"),
        ("image,Image\na.jpg,b.jpg\n", "line 1: two columns are called `image`"),
        ("image,mask,cat,mask\na,b,c,d\n", "line 1: two columns are called `mask`"),
        ("file,mask\na.jpg,a.png\n", "has no column `image`"),
        ("Labels;file\ncat;a.jpg\n", "has no column `image`"),
        ('image,mask\na.jpg,a.png\n"b.jpg,b.png\nc.jpg,c.png\n', "line 3: not CSV"),
        ('image,mask\n"a\nb.jpg",a.png\n"b"c.jpg,b.png\n', "line 4: not CSV"),
    ],
)
def test_a_table_with_a_mistake_is_refused_with_its_line(tmp_path, content, words):
    assert words in refusal(tmp_path, content)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_an_encoding_that_is_not_utf_8_is_named(tmp_path, encoding):
    assert "save it as UTF-8" in refusal(tmp_path, "image,mask\nä.jpg,a.png\n".encode(encoding))


def test_names_with_spaces_in_lines_are_told_of_tables(tmp_path):
    assert "line 1" in (line := refusal(tmp_path, "my photo.jpg my mask.png\n"))
    assert "`image,mask`" in line
    # with one space it looks like an image and its mask
    (tmp_path / "img").mkdir()
    (tmp_path / "img/my photo.jpg").touch()
    for content, named in (("img/my photo.jpg\n", True), ("img/a.jpg img/a.png\n", False)):
        with pytest.raises(UserError, match=r"img/.* does not exist") as caught:
            require_files(read(tmp_path, content), tmp_path, PASCAL_VOC)
        assert ("`image,mask`" in str(caught.value)) == named
