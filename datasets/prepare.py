"""`python -m datasets.prepare --root DIR`: make SBD's PNG masks and the file lists.

For the real VOC 2012 and SBD and for mini-VOC alike; what is there already stays
as it is.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Mapping
from pathlib import Path

from datasets.layout import MINI_VOC_MARKER, SBD, VOC, VOC_TEST
from datasets.records import PASCAL_VOC
from datasets.sbd_masks import convert_masks
from datasets.sources import SBD_SOURCE, VOC_SOURCE
from utils.errors import UserError, run_command
from utils.files import write_text

# A file list before it is written: (image, mask or None), relative to the data root, by id.
ListLines = list[tuple[Path, "Path | None"]]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m datasets.prepare", description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="the data root")
    cpus = os.cpu_count() or 1
    parser.add_argument(
        "--workers", type=int, default=cpus, help="processes that convert masks (default: CPUs)"
    )
    args = parser.parse_args()
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give at least 1")
    try:
        prepare(args.root, min(args.workers, cpus))
    except OSError as error:
        raise UserError(f"{error}; {args.root} and what it links to must be writable") from error


def prepare(root: Path, workers: int = 1) -> None:
    """Convert SBD's masks under `root` and write the lists; say what changed.

    Nothing is written before every image and mask that a list names is known to be there. Raises
    `UserError` for missing or empty folders and files, naming them.
    """
    require_folders(root)
    lists = build_lists(root)
    for name, lines in lists.items():
        require_files(root, name, lines)

    converted = convert_masks(root, workers)
    if converted:
        print(f"converted {converted} SBD masks to {root / SBD.mask('ID')}")
    written = [write_list(root / name, lines) for name, lines in lists.items()]
    if not _is_mini_voc(root):
        note_unusual_counts({name: len(lines) for name, lines in lists.items()})
    if not (root / VOC_TEST.path).is_dir():
        print(f"note: no {root / VOC_TEST.path}, so no test.txt; only VOC's test set needs it")
    if not converted and not any(written):
        print("nothing to do: masks and lists were complete")


def require_folders(root: Path) -> None:
    """Raise `UserError` unless VOC and SBD are under `root`."""
    for source, folder in ((VOC_SOURCE, VOC.path), (SBD_SOURCE, SBD.path)):
        if (root / folder).is_dir():
            continue
        remedy = (
            f"download {source.url} (md5 {source.md5}), unpack it, and put what it holds (or a "
            f"link to it) at {root / folder.parts[0]}"
        )
        if _is_mini_voc(root):
            remedy = _how_to_restore(root)
        raise UserError(f"{source.name} is missing: there is no folder {root / folder}; {remedy}")


def _is_mini_voc(root: Path) -> bool:
    return (root / MINI_VOC_MARKER).is_file()


def _how_to_restore(root: Path) -> str:
    """What to do where a data set under `root` lacks files."""
    if _is_mini_voc(root):
        return f"draw mini-VOC again: python -m datasets.mini_voc --out {shlex.quote(str(root))}"
    return "unpack the data set again"


def build_lists(root: Path) -> dict[str, ListLines]:
    """The lists that can be made under `root`, each sorted by id.

    train_augvoc holds (SBD train ∪ SBD val ∪ VOC train) without VOC val, with SBD's image and mask
    wherever SBD has the id. test.txt is left out where there is no voc_test.
    """
    voc_train = read_ids(root, VOC.id_file("train"))
    voc_val = read_ids(root, VOC.id_file("val"))
    sbd = read_ids(root, SBD.id_file("train")) | read_ids(root, SBD.id_file("val"))
    augmented = {
        image_id: SBD if image_id in sbd else VOC for image_id in (sbd | voc_train) - voc_val
    }
    lists: dict[str, ListLines] = {
        "train_voc.txt": [(VOC.image(i), VOC.mask(i)) for i in sorted(voc_train)],
        "val_voc.txt": [(VOC.image(i), VOC.mask(i)) for i in sorted(voc_val)],
        "train_augvoc.txt": [
            (source.image(i), source.mask(i)) for i, source in sorted(augmented.items())
        ],
    }
    if (root / VOC_TEST.path).is_dir():
        test = read_ids(root, VOC_TEST.id_file("test"))
        lists["test.txt"] = [(VOC_TEST.image(i), None) for i in sorted(test)]
    return lists


def read_ids(root: Path, file: Path) -> set[str]:
    """The ids in `root`/`file`, one a line; a `UserError` if it is missing or has none."""
    path = root / file
    try:
        ids = set(path.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the id file {path}; {_how_to_restore(root)}") from error
    if not ids:
        raise UserError(f"the id file {path} holds no ids; {_how_to_restore(root)}")
    return ids


def require_files(root: Path, name: str, lines: ListLines) -> None:
    """Raise `UserError` if an image of the list `name`, or what its mask is made of, is missing."""
    needed = (_source(root, path) for columns in lines for path in columns if path is not None)
    missing = [path for path in needed if not path.is_file()]
    if missing:
        shown = ", ".join(str(path) for path in missing[:3])
        raise UserError(
            f"{name} names files that are missing, {len(missing)} in all: {shown}"
            f"{', ...' if len(missing) > 3 else ''}; {_how_to_restore(root)}"
        )


def _source(root: Path, path: Path) -> Path:
    """The file that `path` comes from: itself, or the .mat of a mask that is yet to be made."""
    if path == SBD.mask(path.stem) and not (root / path).is_file():
        return root / SBD.mat(path.stem)
    return root / path


def write_list(path: Path, lines: ListLines) -> bool:
    """Write a file list in one step unless it holds these lines already; True if written."""
    text = "".join(" ".join(str(column) for column in filter(None, row)) + "\n" for row in lines)
    unchanged = path.is_file() and path.read_bytes() == text.encode()
    if not unchanged:
        write_text(path, text)
    print(f"{path}: {len(lines)} lines{' (unchanged)' if unchanged else ''}")
    return not unchanged


def note_unusual_counts(counts: Mapping[str, int]) -> None:
    """Print a note for each list that has not as many lines as the whole data sets give it."""
    for name, expected in PASCAL_VOC.expected_counts.items():
        if counts.get(name, expected) != expected:
            print(
                f"note: {name} has {counts[name]} lines, but VOC 2012 and SBD as published give "
                f"{expected}; check that both are whole"
            )


if __name__ == "__main__":
    run_command(main)
