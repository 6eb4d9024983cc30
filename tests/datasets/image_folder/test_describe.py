"""`python -m datasets.describe`: the files it writes, the table it prints, and what it warns of."""

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from image_folder_case import numbered, write_images, write_rows
from label_files import CLASSES, OBJECTS, WRITERS
from PIL import ExifTags, Image

from datasets.class_names import plain_name
from datasets.dataset_file import get_dataset_info
from datasets.image_folder.describe import describe
from datasets.image_folder.output import FILES
from datasets.labels import given_labels
from datasets.lists import read_list

REPOSITORY = Path(__file__).parents[3]
FEW = "fewer than 20"


def read_back(out):
    """The data set as training reads it: objects by image, and the names in each list."""
    info = get_dataset_info(out)
    objects, lists = {}, {}
    for name in ("train", "val"):
        entries = read_list(info.find_list(name, info.path), info.path, info)
        lists[name] = [entry.image.relative_to(info.path).as_posix() for entry in entries]
        labels, _ = given_labels(entries, info)
        assert all(entry.image.is_file() for entry in entries)
        for entry, image in zip(entries, lists[name], strict=True):
            found = labels[entry].nonzero()[0]
            objects[image] = {plain_name(info.classes[1 + index]) for index in found}
    return info, objects, lists


def described(folder, out, capsys, *arguments, **options):
    """What describing prints: lines of stdout, and those of stderr but progress."""
    describe(folder, out, *arguments, **options)
    streams = capsys.readouterr()
    lines = [line for line in streams.err.splitlines() if not line.startswith("opening")]
    return streams.out.splitlines(), lines


def files_of(out):
    return {name: (out / name).read_bytes() for name in FILES}


@pytest.fixture
def folder(tmp_path):
    """60 images, of which every other one has a cat, and their labels beside them."""
    objects = numbered(60)
    write_rows(tmp_path / "labels.csv", objects)
    return write_images(tmp_path / "photos", objects)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.mark.parametrize("how", WRITERS)
def test_labels_in_every_format(tmp_path, out, how):
    labels = WRITERS[how](tmp_path, OBJECTS)
    folder = labels if how == "class folders" else write_images(tmp_path / "photos", OBJECTS)
    if how == "class folders":  # of copies, which have the objects of all the folders they are in
        numbers = {name: number for number, name in enumerate(OBJECTS)}
        for path in labels.rglob("*.*"):
            write_images(path.parent, [path.name], numbers[path.name])
    describe(folder, out, labels, 0.3)
    info, objects, lists = read_back(out)
    expected = {name: {plain_name(CLASSES[i]) for i in found} for name, found in OBJECTS.items()}
    assert {name.rpartition("/")[2] for name in objects} == set(expected)
    assert all(found == expected[name.rpartition("/")[2]] for name, found in objects.items())
    assert list(info.classes[1:]) == sorted(info.classes[1:]) and info.num_classes == len(CLASSES)
    assert not set(lists["train"]) & set(lists["val"])


def test_dataset_yaml(folder, out):
    path = describe(folder, out)
    assert path == out / "dataset.yaml"
    info = get_dataset_info(path)
    assert (info.name, info.path, info.classes) == ("photos", folder, ("background", "cat"))
    assert info.train_list == str(out / "train.csv") and info.val_list == str(out / "val.csv")
    assert info.labels == str(out / "labels.csv")
    assert info.exif


@pytest.mark.parametrize(
    "name", [" blank.png", "a,b.png", 'the "b".png', "x;y.png", "ä/ö.png", "new\nline.png"]
)
def test_names_that_tables_make_difficult(tmp_path, out, name, capsys):
    objects = {name: ["great tit", "a, b"], "z.png": []}
    folder = write_images(tmp_path / "photos", objects)
    (tmp_path / "l.json").write_text(json.dumps(objects))
    describe(folder, out, tmp_path / "l.json")
    assert read_back(out)[1] == {name: {"greattit", "a,b"}, "z.png": set()}
    capsys.readouterr()
    lines, _ = described(folder, out, capsys, tmp_path / "l.json")
    assert "since the last run no image and no label changed" in lines


def test_rows_have_paths_as_on_the_disk_and_composed_objects(tmp_path, out):
    name = unicodedata.normalize("NFD", "Käfer.png")
    folder = write_images(tmp_path / "photos", [f"in/{name}", "b.png"])
    write_rows(
        tmp_path / "labels.csv", {"Käfer.png": [unicodedata.normalize("NFD", "Käfer")], "b": []}
    )
    describe(folder, out)
    text = (out / "labels.csv").read_text()
    assert text == f"b.png\nin/{name},{unicodedata.normalize('NFC', 'Käfer')}\n"
    assert set(read_back(out)[2]["train"] + read_back(out)[2]["val"]) == {f"in/{name}", "b.png"}


def test_same_input_same_bytes_and_nothing_touched(folder, out, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    describe(folder, out)
    first = files_of(out)
    describe(folder, out, workers=2)
    assert files_of(out) == first and {path.name for path in out.iterdir()} == set(FILES)
    describe(folder, tmp_path / "other", tmp_path / "labels.csv")
    assert (tmp_path / "other" / "val.csv").read_bytes() == first["val.csv"]
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before


@pytest.mark.parametrize("written", range(len(FILES) + 1))
def test_killed_while_writing(folder, out, written):
    describe(folder, out)
    first = files_of(out)
    for name in FILES[written:]:
        (out / name).unlink()
    (out / ".labels.csv.abcd1234.tmp").touch()
    describe(folder, out)
    assert files_of(out) == first and {path.name for path in out.iterdir()} == set(FILES)


def test_dataset_yaml_is_written_last(folder, out, monkeypatch):
    written = []
    monkeypatch.setattr(
        "datasets.image_folder.output.write_text", lambda path, _: written.append(path.name)
    )
    describe(folder, out)
    assert sorted(written) == sorted(FILES) and written[-1] == "dataset.yaml"


def test_table(tmp_path, out, capsys):
    objects = {f"{n}.png": ["cat", "dog"] if n < 4 else ["dog"] if n < 9 else [] for n in range(10)}
    folder = write_images(tmp_path / "photos", objects)
    Image.new("RGB", (30, 4)).save(folder / "0.png")
    for name in ("notes.txt", ".hidden.png", ".folder/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    lines, _ = described(folder, out, capsys, write_rows(tmp_path / "l.csv", objects))
    assert "10 images" in lines[0] and "other files left out: 1;" in lines[0]
    rows = {tuple(line.split()[:3]) for line in lines}
    assert {("cat", "4", "40.0%"), ("dog", "9", "90.0%")} <= rows
    assert any(line.split()[:4] == ["no", "object", "1", "10.0%"] for line in lines)
    assert "  cat and dog: 4" in lines
    assert "width in pixels: 9 to 30, median 9" in lines
    assert "height in pixels: 4 to 7, median 7" in lines


def test_sizes_are_of_turned_images(folder, out, capsys):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (50, 20)).save(folder / "0.png", exif=exif)
    lines, _ = described(folder, out, capsys)
    assert "width in pixels: 9 to 20, median 9" in lines
    assert "height in pixels: 7 to 50, median 7" in lines


def test_what_came_and_went(folder, out, tmp_path, capsys):
    lines, _ = described(folder, out, capsys)
    assert not any("since" in line for line in lines)
    lines, _ = described(folder, out, capsys)
    assert "since the last run no image and no label changed" in lines
    before = read_back(out)[2]
    (folder / "7.png").unlink()
    objects = numbered(64) | {"8.png": ["cat"], "9.png": ["Cat"]}
    write_images(folder, list(objects)[60:], 60)
    write_rows(tmp_path / "labels.csv", objects)
    lines, notes = described(folder, out, capsys)
    since = [line for line in lines if line.startswith("since")]
    assert "4 images came: 60.png, 61.png, 62.png and 1 more" in since[0]
    assert "1 image went: 7.png" in since[1]
    assert "1 image changed labels: 8.png" in since[2]
    assert any("7.png" in note for note in notes)  # the labels still have it
    after = read_back(out)[2]
    assert set(before["val"]) - {"7.png"} <= set(after["val"])
    assert set(before["train"]) - {"7.png"} <= set(after["train"])


def test_spellings_of_a_class(tmp_path, out, capsys):
    objects = {"0.png": ["hot_dog"], "1.png": ["Hot Dog"], "2.png": ["HOT-DOG"], "3.png": []}
    folder = write_images(tmp_path / "photos", objects)
    reverse = dict(reversed(objects.items()))
    _, lines = described(folder, out, capsys, write_rows(tmp_path / "l.csv", reverse))
    assert get_dataset_info(out).classes[1:] == ("HOT-DOG",)  # as it is first written there
    assert [line for line in lines if line.startswith("note")] == [
        "note: 'HOT-DOG' and 'Hot Dog' and 'hot_dog' are one class, 'HOT-DOG'"
    ]


def test_a_class_that_one_part_must_lack(tmp_path, out, capsys):
    objects = {"a.png": ["cat", "dog"], "b.png": ["cat", "cow"], "c.png": ["cow", "dog"]}
    folder = write_images(tmp_path / "photos", objects)
    labels = write_rows(tmp_path / "l.csv", objects)
    _, lines = described(folder, out, capsys, labels, val_share=0.01)
    [line] = [line for line in lines if FEW not in line]
    assert "is missing in val" in line


@pytest.mark.parametrize(
    "objects, words",
    [
        ({n: ["cat", "dog"] if n % 2 else ["cat"] for n in range(60)}, ["'cat' is in every image"]),
        ({n: ["cat", "dog"] for n in range(60)}, ["'cat' is in every", "'dog' is in every"]),
        ({n: ["cat", "dog"] if n % 2 else [] for n in range(60)}, ["always come together"]),
        ({n: ["cat"] if n < 19 else [] for n in range(60)}, ["'cat' has 19 images, " + FEW]),
        ({n: ["cat"] for n in range(60)}, ["one class, and no image lacks it"]),
        ({n: ["cat"] if n < 20 else [] for n in range(60)}, []),
        ({n: ["cat", *(["dog"] * (n == 5))] if n % 2 else [] for n in range(60)}, ["has 1 image,"]),
    ],
)
def test_warnings_of_what_cannot_be_learnt(tmp_path, out, capsys, objects, words):
    objects = {f"{number}.png": found for number, found in objects.items()}
    folder = write_images(tmp_path / "photos", objects)
    _, lines = described(folder, out, capsys, write_rows(tmp_path / "l.csv", objects))
    assert len(lines) == len(words)
    for line, word in zip(lines, words, strict=True):
        assert line.startswith("warning: ") and word in line and ("add" in line)


def test_many_rare_classes_are_not_many_lines(tmp_path, out, capsys):
    objects = {f"{n}.png": [f"class {n // 3}"] for n in range(60)}
    folder = write_images(tmp_path / "photos", objects)
    _, lines = described(folder, out, capsys, write_rows(tmp_path / "l.csv", objects))
    assert sum(FEW in line for line in lines) == 11 and any("10 other classes" in x for x in lines)


def test_one_image_with_different_labels(folder, out, tmp_path, capsys):
    write_images(folder, ["3 again.png", "5 again.png"], 3)
    Image.open(folder / "5.png").save(folder / "5 again.png", format="PNG")
    rows = numbered(60) | {"3 again.png": [], "5 again.png": ["cat"]}
    write_rows(tmp_path / "labels.csv", rows)
    _, lines = described(folder, out, capsys)
    [line] = lines
    assert "3 again.png and 3.png are one image with different labels;" in line


def test_masks_of_one_name(tmp_path, out, capsys):
    names = [f"{kind}/{number}.png" for kind in ("cat", "dog") for number in range(20)]
    folder = write_images(tmp_path / "photos", names)
    _, lines = described(folder, out, capsys)
    assert get_dataset_info(out).classes[1:] == ("cat", "dog")
    [line] = lines
    assert "cat/0.png and dog/0.png" in line and "19 more" in line


def test_labels_are_found(tmp_path, out, capsys):
    objects = numbered(4)
    folder = write_images(tmp_path / "photos", objects)
    inside = write_rows(folder / "labels.csv", objects)
    assert f"labels from {inside}" in described(folder, out, capsys)[0][0]
    assert "other files" not in described(folder, out, capsys)[0][0]
    text = "".join(f'{{"file_name": "{name}", "labels": "cat"}}\n' for name in objects)
    inside.rename(tmp_path / "given.csv")
    (tmp_path / "metadata.jsonl").write_text(text)
    assert "metadata.jsonl" in described(folder, out, capsys)[0][0]
    assert "given.csv" in described(folder, out, capsys, tmp_path / "given.csv")[0][0]


def test_what_was_written_beside_the_folder_is_no_source(tmp_path, capsys):
    folder = write_images(tmp_path / "photos", [f"{kind}/{n}.png" for kind in "ab" for n in "12"])
    describe(folder, tmp_path)
    first = files_of(tmp_path)
    assert described(folder, tmp_path, capsys)[0][0].endswith(f"labels from {folder}")
    assert files_of(tmp_path) == first


def test_links_to_a_folder_above_are_not_followed_for_ever(folder, out):
    (folder / "deep").mkdir()
    (folder / "deep" / "up").symlink_to(folder)
    describe(folder, out)
    assert len((out / "labels.csv").read_text().splitlines()) == 60


@pytest.mark.slow
def test_the_command(folder, out):
    command = [sys.executable, "-m", "datasets.describe", str(folder), "--out", str(out)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "cat" in done.stdout and str(out / "dataset.yaml") in done.stdout
    assert "opening: 60/60" in done.stderr
    assert get_dataset_info(out).name == "photos"
