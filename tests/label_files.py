"""The same image-level labels, written in every format that is read."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree

CLASSES = ("background", "cat", "Käfer", "hot dog", "cup, small", 'the "best"', "tv/monitor")
CAT, BEETLE, HOT_DOG, CUP, BEST, TV = range(1, 7)

OBJECTS: dict[str, list[int]] = {
    "a.jpg": [CAT],
    "b c.png": [HOT_DOG, CAT],
    unicodedata.normalize("NFC", "größe.jpg"): [BEETLE],
    unicodedata.normalize("NFD", "Käfer im Gras.jpg"): [BEETLE, CUP],
    "d, e.jpg": [CUP],
    'the "f".jpg': [BEST, TV],
    "G.JPG": [TV],
    "h.i.jpeg": [CAT, BEETLE, HOT_DOG, CUP, BEST, TV],
    "nothing.jpg": [],
    "2007_000032.jpg": [HOT_DOG],
    "k;l.tif": [CAT, CUP],
}

Writer = Callable[[Path, Mapping[str, Sequence[int]]], Path]


def write_rows(folder: Path, labels: Mapping[str, Sequence[int]], delimiter: str = ",") -> Path:
    return _write_table(
        folder / "rows.csv", [[n, *_names(o)] for n, o in labels.items()], delimiter
    )


def write_semicolons(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    return write_rows(folder, labels, ";")


def write_tabs(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    return write_rows(folder, labels, "\t").rename(folder / "rows.tsv")


def write_cells(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    rows = [[name, f"{name}.mask", "|".join(_names(found))] for name, found in labels.items()]
    return _write_table(folder / "cells.csv", [["Image", "mask", "labels"], *rows])


def write_one_hot(folder: Path, labels: Mapping[str, Sequence[int]], zero: str = "0") -> Path:
    order = range(len(CLASSES) - 1, 0, -1)
    rows = [["1.0" if i in found else zero for i in order] for found in labels.values()]
    header = ["image", *(CLASSES[index] for index in order)]
    rows = [header, *([name, *row] for name, row in zip(labels, rows, strict=True))]
    return _write_table(folder / "one_hot.txt", rows)


def write_blanks(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    return write_one_hot(folder, labels, "")


def write_json(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    content = {name: _names(found) for name, found in labels.items()}
    return _write(folder / "labels.json", json.dumps(content))


def write_json_lines(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    lines = []
    for name, found in labels.items():
        names = _names(found)
        lines.append({"file_name": name, "labels": names[0] if len(names) == 1 else names})
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    return _write(folder / "metadata.jsonl", text)


def write_class_folders(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    for name, found in labels.items():
        for index in found or [0]:
            place = folder / "folders" / CLASSES[index].replace("/", "_") / "deeper"
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(name.encode())
    return folder / "folders"


def write_voc(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    place = folder / "Annotations"
    place.mkdir()
    for name, found in labels.items():
        root = ElementTree.Element("annotation")
        for index in found:
            item = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(item, "name").text = CLASSES[index]
            part = ElementTree.SubElement(item, "part")
            ElementTree.SubElement(part, "name").text = "head"
        file = place / f"{Path(name).stem}.xml"
        ElementTree.ElementTree(root).write(file, encoding="utf-8")
    return place


def write_coco(folder: Path, labels: Mapping[str, Sequence[int]]) -> Path:
    categories = [{"id": 7 * index, "name": CLASSES[index]} for index in range(1, len(CLASSES))]
    images = [{"id": 100 + number, "file_name": name} for number, name in enumerate(labels)]
    annotations = [
        {"image_id": image["id"], "category_id": 7 * index, "iscrowd": crowd}
        for image in images
        for index in labels[image["file_name"]]
        for crowd in range(index % 2 + 1)
    ]
    categories.append({"id": 999, "name": "no class of ours"})
    content = {"images": images, "annotations": annotations, "categories": categories}
    return _write(folder / "instances_val.json", json.dumps(content))


WRITERS: dict[str, Writer] = {
    "rows": write_rows,
    "rows with semicolons": write_semicolons,
    "rows with tabs": write_tabs,
    "a column of labels": write_cells,
    "one-hot": write_one_hot,
    "one-hot with blanks": write_blanks,
    "JSON": write_json,
    "JSON lines": write_json_lines,
    "class folders": write_class_folders,
    "VOC": write_voc,
    "COCO": write_coco,
}


def _names(found: Sequence[int]) -> list[str]:
    return [CLASSES[index] for index in found]


def _write_table(path: Path, rows: Sequence[Sequence[str]], delimiter: str = ",") -> Path:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter).writerows(rows)
    return _write(path, text.getvalue())


def _write(path: Path, text: str) -> Path:
    path.write_bytes(text.encode())
    return path
