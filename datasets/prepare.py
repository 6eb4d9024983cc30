"""`python -m datasets.prepare`: make PNG masks and the file lists of VOC or COCO, or check them.

For VOC 2012 with SBD, for COCO 2014 and for mini-VOC and mini-COCO alike; what is there already
stays as it is. With --check nothing is written: every list, image and mask is verified.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from datasets.coco import COCO
from datasets.coco.check import check_coco
from datasets.coco.prepare import prepare_coco, require_annotations
from datasets.dataset_file import KNOWN
from datasets.voc import PASCAL_VOC
from datasets.voc.check import check
from datasets.voc.errors import how_to_restore, is_mini_voc, missing
from datasets.voc.layout import SBD, SBD_AUG, VOC, VOC_TEST
from datasets.voc.lists import ListLines, build_lists, has_aug
from datasets.voc.sbd_masks import convert_masks
from utils.errors import UserError, os_errors_end_in, run_command
from utils.files import only_process, remove_leftovers, user_path, write_changed
from utils.processes import available_cpus
from utils.streams import go_on_unread


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.prepare", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--dataset", default=PASCAL_VOC.name, help=f"{' or '.join(KNOWN)} (default: %(default)s)")
    add("--root", type=user_path, default=Path("data"), help="the data root (default: data)")
    cpus = available_cpus()
    add("--workers", type=int, default=cpus, help="processes that share the work (default: CPUs)")
    add("--check", action="store_true", help="verify lists, images and masks; write nothing")
    add(
        "--official",
        action="store_true",
        help="with --check: demand the numbers of images as published",
    )
    add("--train-masks", action="store_true", help="coco: masks of the training images, too")
    add("--masks", type=user_path, help="coco: a folder of masks, in place of those painted here")
    args = parser.parse_args()
    _require_consistent(args)
    workers = min(args.workers, cpus)
    is_coco = args.dataset == COCO.name
    if args.check:
        (check_coco if is_coco else check)(args.root, workers, args.official)
        return
    go_on_unread()  # masks and lists are the result, not what is printed
    with _os_errors_named(args.root):
        if is_coco:
            require_annotations(args.root)
        else:
            require_folders(args.root)
        with only_process(args.root):
            if is_coco:
                prepare_coco(args.root, workers, args.train_masks, args.masks)
            else:
                prepare(args.root, workers)


def _require_consistent(args: argparse.Namespace) -> None:
    if args.dataset not in KNOWN:
        raise UserError(
            f"--dataset {args.dataset}: only {' and '.join(KNOWN)} are prepared; name one of them"
        )
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give at least 1")
    if args.official and not args.check:
        raise UserError("--official is an option of --check: give both, or neither")
    if args.dataset != COCO.name and (args.train_masks or args.masks):
        raise UserError("--train-masks and --masks are options of --dataset coco; add that")
    if args.check and (args.train_masks or args.masks):
        raise UserError("--train-masks and --masks change what --check only looks at; leave one")


def prepare(root: Path, workers: int = 1) -> None:
    """Convert SBD's masks under `root` and write the lists; say what changed.

    Nothing is written before every image and mask that a list names is known to be there. No other
    process may prepare `root` at the same time. Raises `UserError` for missing or empty folders
    and files, naming them, and for those that cannot be read or written.
    """
    with _os_errors_named(root):
        require_folders(root)
        lists = build_lists(root)
        for name, lines in lists.items():
            require_files(root, name, lines)
        _make(root, lists, workers)


def _make(root: Path, lists: Mapping[str, ListLines], workers: int) -> None:
    converted = 0 if has_aug(root) else convert_masks(root, workers)
    if converted:
        print(f"converted {converted} SBD masks to {root / SBD.mask('ID')}")
    remove_leftovers(root, "|".join(map(re.escape, lists)))
    written = [write_list(root / name, lines) for name, lines in lists.items()]
    if not is_mini_voc(root):
        note_unusual_counts({name: len(lines) for name, lines in lists.items()})
    if not (root / VOC_TEST.path).is_dir():
        print(f"note: no {root / VOC_TEST.path}, so no test.txt; only VOC's test set needs it")
    if not converted and not any(written):
        print("nothing to do: masks and lists were complete")


def _os_errors_named(root: Path) -> AbstractContextManager[None]:
    return os_errors_end_in(
        f"{root} and what it links to must be readable and writable, with room for masks and lists"
    )


def require_folders(root: Path) -> None:
    """Raise `UserError` unless VOC and SBD, or SegmentationClassAug in its place, are in `root`."""
    for data_set in (VOC, SBD_AUG if has_aug(root) else SBD):
        if not (root / data_set.path).is_dir():
            raise missing(root, data_set.path)


def require_files(root: Path, name: str, lines: ListLines) -> None:
    """Raise `UserError` if an image of the list `name`, or what its mask is made of, is missing."""
    needed = (_source(root, path) for columns in lines for path in columns)
    lacking = [path for path in needed if not (root / path).is_file()]
    if lacking:
        shown = ", ".join(str(root / path) for path in lacking[:3])
        remedy = how_to_restore(root, lacking[0])
        stray = root / SBD_AUG.mask(lacking[0].stem)
        if lacking[0] == VOC.image(lacking[0].stem) and has_aug(root) and stray.is_file():
            remedy = f"remove {stray} if VOC has no such image, or else {remedy}"
        raise UserError(
            f"{name} names files that are missing, {len(lacking)} in all: {shown}"
            f"{', ...' if len(lacking) > 3 else ''}; {remedy}"
        )


def _source(root: Path, path: Path) -> Path:
    """The file that `path` comes from: itself, or the .mat of a mask that is yet to be made."""
    if path == SBD.mask(path.stem) and not (root / path).is_file():
        return SBD.mat(path.stem)
    return path


def write_list(path: Path, lines: ListLines) -> bool:
    """Write a file list in one step unless it holds these lines already; True if written."""
    text = "".join(" ".join(map(str, columns)) + "\n" for columns in lines)
    written = write_changed(path, text)
    print(f"{path}: {len(lines)} lines{'' if written else ' (unchanged)'}")
    return written


def note_unusual_counts(counts: Mapping[str, int]) -> None:
    """Print a note for each list that has not as many lines as the whole data sets give it."""
    for name, expected in PASCAL_VOC.expected_counts.items():
        if counts.get(name, expected) != expected:
            print(
                f"note: {name} has {counts[name]} lines, but VOC 2012 and SBD as published give "
                f"{expected}; check that both are whole"
            )


if __name__ == "__main__":
    run_command(main, prints_result=True)
