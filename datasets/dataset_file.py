"""Data sets as files: `dataset.yaml`, and the known ones beside this module.

Keys, all but `names`, `train` and `val` optional; relative paths start at `path`:

    name: birds                 # folders of runs carry it; default: the name of the file's folder
    path: .                     # the data root; default: the file's folder
    names: [robin, great tit]   # objects in index order; 0 is background, which is implied
    train: train.txt            # lists, see `datasets.lists`
    val: val.csv
    val_train: some.txt         # the part of train that is validated too; default: a sample of it
    labels: labels.csv          # see `datasets.image_labels`; default: the masks of the lists
    palette: [[0, 0, 0], "#ff8000", [0, 90, 180]]   # background first; default: VOC's colour map
    ignore_index: 255           # the mask value that counts nowhere
    exif: true                  # turn images as their EXIF orientation says
    counts: {train.txt: 900}    # lines that the lists have officially
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from reprlib import repr as short_repr
from types import MappingProxyType
from typing import Any

import yaml

from datasets.class_names import plain_name
from datasets.info import DatasetInfo
from utils.errors import UserError
from utils.files import expanded, user_path
from utils.palette import IGNORE_INDEX, voc_palette
from utils.yaml_files import read_yaml

DATASET_FILE = "dataset.yaml"
KNOWN: Mapping[str, Path] = MappingProxyType(
    {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
)
MAX_OBJECTS = 254
"""Masks have 256 values: 0 is background, 255 is ignored."""

PATHS = ("train", "val", "val_train", "labels")
INSTALL = {"folders": "folders", "top": "top", "script": "get_script", "module": "prepare_module"}
KEYS = (
    *("name", "path", "names", *PATHS, "palette", "ignore_index", "exif"),
    *("counts", "install"),
)
BACKGROUND = "background"


def get_dataset_info(dataset: str | Path) -> DatasetInfo:
    """The data set that `--dataset` names.

    Args:
        dataset: the name of a known one, or the path of a dataset.yaml or of its folder.

    Raises:
        UserError: there is no such data set; see `read_dataset`.
    """
    if str(dataset) in KNOWN:
        return _known(str(dataset))
    path = user_path(dataset)
    if path.is_dir():
        path /= DATASET_FILE
    if not path.is_file():
        raise UserError(
            f"--dataset {dataset}: there is no file {path}; name a {DATASET_FILE} or its folder, "
            f"or a known data set: {', '.join(KNOWN)}"
        )
    return read_dataset(path)


@cache
def _known(name: str) -> DatasetInfo:
    return _build(_Reader(KNOWN[name]), path=None)


def read_dataset(path: Path) -> DatasetInfo:
    """Read a dataset.yaml; its lists and labels are not opened.

    Raises:
        UserError: it cannot be read, lacks a key or has an unknown one, or a value is wrong.
    """
    reader = _Reader(path)
    root = path.parent / reader.text("path", ".")
    return _build(reader, root)


def dataset_yaml(info: DatasetInfo) -> str:
    """A data set, whose `path` is known, as a file for `read_dataset` that may lie anywhere.

    Its lists still start at `path`, so that another one, as DATASET.PATH, moves them too.
    """
    paths = {**info.lists, "labels": info.labels}
    content: dict[str, Any] = {
        "name": info.name,
        "path": os.path.normpath(info.path.absolute()),
        "names": list(info.classes[1:]),
        **{key: path for key, path in paths.items() if path},
        "ignore_index": info.ignore_index,
        "exif": info.exif,
    }
    if info.palette != voc_palette():
        colours = info.palette[: 3 * info.num_classes]
        content["palette"] = [list(colours[i : i + 3]) for i in range(0, len(colours), 3)]
    if info.expected_counts:
        content["counts"] = dict(info.expected_counts)
    if info.get_script:
        install = {key: getattr(info, name) for key, name in INSTALL.items()}
        content["install"] = {**install, "folders": list(info.folders)}
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _build(reader: _Reader, path: Path | None) -> DatasetInfo:
    classes = (BACKGROUND, *reader.names())
    lists = {key: reader.text(key, None if key in ("train", "val") else "") for key in PATHS}
    return DatasetInfo(
        name=reader.name(),
        classes=classes,
        train_list=lists["train"],
        val_list=lists["val"],
        val_train_list=lists["val_train"],
        labels=lists["labels"],
        palette=reader.palette(len(classes)),
        ignore_index=reader.whole("ignore_index", len(classes), 255, IGNORE_INDEX),
        exif=reader.truth("exif", True),
        path=path,
        expected_counts=reader.counts(),
        **reader.install(),
    )


class _Reader:
    """The checked values of a dataset.yaml; every `UserError` names the file and the key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = read_yaml(path, "the data set", "keys such as `names: [cat, dog]`")
        for key in self.content:
            if key not in KEYS:
                near = get_close_matches(str(key), KEYS, n=1, cutoff=0.0)[0]
                raise self.error(f"unknown key {key}; did you mean {near}?")

    def error(self, problem: str) -> UserError:
        return UserError(f"{self.path}: {problem}")

    def _get(self, key: str, default: Any, accepts: Callable[[Any], bool], expected: str) -> Any:
        """The value of a key, or the default; None means that there is none."""
        value = self.content.get(key)
        if value is None:
            if default is None:
                raise self.error(f"there is no {key}; add it, {expected}")
            return default
        if not accepts(value):
            raise self.error(f"{key} must be {expected}, found {short_repr(value)}")
        return value

    def text(self, key: str, default: str | None) -> str:
        """A path, its home expanded."""
        return expanded(self._get(key, default, _is_text, "a path as text"))

    def truth(self, key: str, default: bool) -> bool:
        return self._get(key, default, lambda value: isinstance(value, bool), "true or false")

    def whole(self, key: str, low: int, high: int, default: int) -> int:
        return self._get(
            key,
            default,
            lambda value: type(value) is int and low <= value <= high,
            f"a whole number from {low} to {high}",
        )

    def name(self) -> str:
        folder = self.path.absolute().parent.name
        default = folder if self.path.name == DATASET_FILE else self.path.stem
        return self._get(
            "name",
            default or self.path.stem,
            lambda value: _is_text(value) and re.fullmatch(r"[^\s./\\-][^/\\]*", value) is not None,
            "the name of a folder, as text that does not begin with a dot or a hyphen",
        )

    def names(self) -> tuple[str, ...]:
        """The objects, in index order."""
        names = self._get(
            "names", None, lambda value: isinstance(value, (list, dict)), "a list of objects"
        )
        if isinstance(names, dict):
            names = self._in_order(names)
        if not 1 <= len(names) <= MAX_OBJECTS:
            raise self.error(f"names has {len(names)} objects; a mask holds 1 to {MAX_OBJECTS}")
        seen: dict[str, str] = {}
        for name in names:
            if not _is_text(name):
                raise self.error(
                    f"names holds {short_repr(name)}, which is no text; put it in quotes"
                )
            if plain_name(name) == BACKGROUND:
                raise self.error(f"names holds {name!r}, which is implied; remove it")
            other = seen.setdefault(plain_name(name), name)
            if other is not name:
                twice = f"{name!r} twice" if other == name else f"{other!r} and {name!r}"
                raise self.error(f"names holds {twice}, one class to its readers; rename one")
        return tuple(unicodedata.normalize("NFC", name) for name in names)

    def _in_order(self, names: dict[Any, Any]) -> list[Any]:
        """The values of a mapping from indices, which count from 0 or 1."""
        if not all(type(index) is int for index in names) or not names:
            raise self.error("names must be a list, or a mapping from indices to objects")
        indices = sorted(names)
        if indices not in (list(range(len(names))), list(range(1, len(names) + 1))):
            raise self.error(f"the indices in names must count from 0, found {short_repr(indices)}")
        return [names[index] for index in indices]

    def palette(self, num_classes: int) -> tuple[int, ...]:
        """768 values: the given colours, and VOC's for all else."""
        colours = self._get(
            "palette", [], lambda value: isinstance(value, list), "a list of colours"
        )
        if not colours:
            return voc_palette()
        if len(colours) != num_classes:
            raise self.error(
                f"palette has {len(colours)} colours, but there are {num_classes} classes with "
                "background, which comes first"
            )
        values = [level for colour in colours for level in self._colour(colour)]
        return (*values, *voc_palette()[len(values) :])

    def _colour(self, colour: Any) -> Sequence[int]:
        if isinstance(colour, str) and re.fullmatch(r"#[0-9a-fA-F]{6}", colour):
            return bytes.fromhex(colour[1:])
        if (
            isinstance(colour, list)
            and len(colour) == 3
            and all(type(level) is int and 0 <= level <= 255 for level in colour)
        ):
            return colour
        raise self.error(
            f'palette: expected [red, green, blue] of 0 to 255 or "#rrggbb", found '
            f"{short_repr(colour)}"
        )

    def counts(self) -> Mapping[str, int]:
        def accepts(value: Any) -> bool:
            return isinstance(value, dict) and all(type(count) is int for count in value.values())

        expected = "the lists' numbers of lines, as {train.txt: 900}"
        return MappingProxyType(self._get("counts", {}, accepts, expected))

    def install(self) -> dict[str, Any]:
        """The arguments of `DatasetInfo` that messages on missing files are made of."""
        given = self._get("install", {}, lambda value: isinstance(value, dict), "a section")
        if not given:
            return {}
        folders = given.get("folders")
        texts = [given.get(key) for key in INSTALL if key != "folders"]
        if set(given) != set(INSTALL) or not isinstance(folders, list):
            raise self.error(
                f"install takes the keys {', '.join(INSTALL)}, all of them; folders is a list"
            )
        if not all(map(_is_text, [*folders, *texts])):
            raise self.error("install takes text alone; put its values in quotes")
        return {INSTALL[key]: value for key, value in given.items()} | {"folders": tuple(folders)}


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value
