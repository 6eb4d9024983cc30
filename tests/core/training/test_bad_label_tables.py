"""Labels and lists that cannot be trained on: one line, exit status 2, and nothing is written."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from own_dataset import make_dataset, run_train
from training_command import error_of


def rows(folder):
    return (folder / "labels.csv").read_text(encoding="utf-8").splitlines()


def split(folder):
    return [row.split(",") for row in rows(folder)]


def write_rows(folder, lines):
    (folder / "labels.csv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def labels_are(folder, name):
    path = folder / "dataset.yaml"
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(content | {"labels": name}), encoding="utf-8")


def images_gone(folder):
    for number in (1, 9):
        (folder / f"images/Größe {number:02d}.png").unlink()


def rows_gone(folder):
    write_rows(folder, [row for row in rows(folder) if "03" not in row and "10" not in row])


def unknown_class(folder):
    write_rows(folder, [row.replace("hot dog", "hot dgo") for row in rows(folder)])


def header_of_names(folder):
    """A header that does not begin with `image`, above cells of several objects."""
    cells = ["{},{}".format(image, "|".join(found)) for image, *found in split(folder)]
    write_rows(folder, ["name,labels", *cells])


def row_as_header(folder):
    """One-hot cells whose header is missing."""
    write_rows(folder, [f"{row.split(',')[0]},0,1,0" for row in rows(folder)])


def unknown_cells(folder):
    cells = [f"{row.split(',')[0]},1,-1,0" for row in rows(folder)]
    write_rows(folder, ["image,Käfer,hot dog,tv/monitor", *cells])


def latin_1(folder):
    text = (folder / "labels.csv").read_text(encoding="utf-8")
    (folder / "labels.csv").write_bytes(text.encode("latin-1"))


def empty(folder):
    (folder / "labels.csv").write_bytes(b"")


def no_table(folder):
    (folder / "labels.csv").unlink()


def empty_class_folder(folder):
    for name in ("Käfer", "hot dog"):
        (folder / "classes" / name).mkdir(parents=True)
    shutil.copy(folder / "images/Größe 00.png", folder / "classes/Käfer")
    labels_are(folder, "classes")


def foreign_xml(folder):
    (folder / "xml").mkdir()
    (folder / "xml/Größe 00.xml").write_text("<page/>")
    labels_are(folder, "xml")


def coco_twice(folder):
    content = {
        "images": [{"id": 1, "file_name": "Größe 00.png"}],
        "annotations": [],
        "categories": [{"id": 7, "name": "Käfer"}, {"id": 7, "name": "hot dog"}],
    }
    (folder / "instances.json").write_text(json.dumps(content))
    labels_are(folder, "instances.json")


def no_list(folder):
    (folder / "train.csv").unlink()


def no_sample_list(folder):
    path = folder / "dataset.yaml"
    path.write_text(f"{path.read_text(encoding='utf-8')}val_train: gone.txt\n", encoding="utf-8")


def spaces_in_lines(folder):
    text = (folder / "train.csv").read_text(encoding="utf-8")
    (folder / "train.csv").write_text(text.replace("image\n", "", 1), encoding="utf-8")


def no_objects(folder):
    write_rows(folder, [row.split(",")[0] for row in rows(folder)])


def no_labels(folder):
    path = folder / "dataset.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("labels: labels.csv\n", ""), encoding="utf-8")


MISTAKES = {
    images_gone: ("Größe 01.png", "does not exist", "--missing-to"),
    rows_gone: ("labels.csv", "lacks 2 of the 12", "Größe 03.png", "--missing-to"),
    unknown_class: ("labels.csv", "'hot dgo'", "'hot dog'"),
    header_of_names: ("labels.csv", "`image,labels`"),
    row_as_header: ("labels.csv", "row 1"),
    unknown_cells: ("labels.csv", "-1"),
    latin_1: ("labels.csv", "UTF-8"),
    empty: ("labels.csv", "empty"),
    no_table: ("labels.csv",),
    empty_class_folder: ("hot dog",),
    foreign_xml: ("00.xml",),
    coco_twice: ("instances.json", "7"),
    no_list: ("train.csv", "dataset.yaml"),
    no_sample_list: ("gone.txt", "dataset.yaml"),
    spaces_in_lines: ("Größe does not exist", "`image,mask`"),
    no_objects: ("train.csv", "labels"),
    no_labels: ("dataset.yaml", "labels"),
}


@pytest.mark.parametrize("spoil", MISTAKES, ids=lambda spoil: spoil.__name__)
def test_a_mistake_ends_in_one_line_and_nothing_is_written(tmp_path, spoil):
    dataset = make_dataset(tmp_path / "data")
    spoil(dataset.parent)
    result = run_train(dataset, tmp_path, status=2)
    line = error_of(result)
    assert result.stderr.count("\n") == 1
    assert all(word in line for word in MISTAKES[spoil]), line
    words = line.replace(str(tmp_path), "").replace("Größe ", "").split()
    assert len(words) <= 40, line
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("spoil", "numbers"), [(images_gone, (1, 9)), (rows_gone, (3, 10))], ids=["images", "rows"]
)
def test_a_file_has_the_names_of_all(tmp_path, spoil, numbers):
    dataset = make_dataset(tmp_path / "data")
    spoil(dataset.parent)
    line = error_of(run_train(dataset, tmp_path, "--missing-to", "missing.txt", status=2))
    assert "missing.txt" in line
    named = (tmp_path / "missing.txt").read_text(encoding="utf-8").splitlines()
    images = tmp_path / "data/images"
    expected = {str(images / f"Größe {number:02d}.png") for number in numbers}
    assert expected <= set(named)


@pytest.mark.slow
def test_gaps_in_coco_ids_are_none_of_our_business(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    names = ("Käfer", "hot dog", "tv/monitor")
    ids = {name: 90 * number + 5 for number, name in enumerate(names)}
    content = {"images": [], "annotations": [], "categories": []}
    content["categories"] = [{"id": ids[name], "name": name} for name in names]
    for number, row in enumerate(rows(dataset.parent)):
        image, *objects = row.split(",")
        content["images"].append({"id": number, "file_name": image})
        content["annotations"] += [{"image_id": number, "category_id": ids[o]} for o in objects]
    (dataset.parent / "instances.json").write_text(json.dumps(content))
    tables = [run_train(dataset, tmp_path, "--run", "csv").stdout]
    labels_are(dataset.parent, "instances.json")
    tables.append(run_train(dataset, tmp_path, "--run", "coco").stdout)
    found = [[line for line in text.splitlines() if "hot dog" in line] for text in tables]
    assert found[0] == found[1] and len(found[0]) == 1
