"""Arguments of the commands on inference's masks: the data set, its list and its root.

They need not be given: inference writes them beside the masks.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from core.arguments import DEFAULT_DATASET
from core.evaluation.report import folder_of_run, read_run_info
from core.snapshot_settings import require_same_classes
from datasets.dataset_file import DATASET_FILE, KNOWN, get_dataset_info, read_dataset
from datasets.images import image_suffixes
from datasets.info import DatasetInfo
from utils.errors import UserError
from utils.files import expanded, user_path

DATA = Path("data")


@dataclass(frozen=True)
class MaskList:
    """The images that masks belong to.

    Attributes:
        info: the data set.
        path: the list.
        root: where its paths start.
    """

    info: DatasetInfo
    path: Path
    root: Path


def add_data_arguments(parser: argparse.ArgumentParser, listed: str) -> None:
    """Add --dataset, --data and --filelist; `listed` says what the list holds, for the help."""
    add = parser.add_argument
    add(
        "--dataset",
        help=f"{', '.join(KNOWN)}, or the path of a {DATASET_FILE} or of its folder (default: "
        f"that of the masks, or {DEFAULT_DATASET})",
    )
    add(
        "--data",
        metavar="ROOT",
        type=expanded,
        help=f"where a list's paths start (default: the data set's path, or ./{DATA})",
    )
    add(
        "--filelist",
        metavar="LIST",
        type=expanded,
        help=f"{listed}; or train, val or val_train, the data set's own list (default: the list "
        "that the masks were made of)",
    )


def add_mask_arguments(parser: argparse.ArgumentParser, listed: str, out: str) -> None:
    """Add `add_data_arguments`, --masks and --out, for a command on inference's masks of a list.

    Args:
        parser: the command's.
        listed: what the list holds, for the help.
        out: what is written, for the help.
    """
    add_data_arguments(parser, listed)
    add = parser.add_argument
    add("--masks", metavar="DIR", type=user_path, required=True, help="inference's")
    add("--out", metavar="FILE", type=user_path, required=True, help=out)


def can_check_list(args: argparse.Namespace) -> bool:
    """Whether the list is known before there are masks, which else name the data set."""
    return args.data is not None and args.filelist is not None and Path(args.filelist).is_file()


def mask_list(args: argparse.Namespace) -> MaskList:
    """What --dataset, --data and --filelist say, or else what lies beside --masks.

    Raises:
        UserError: see `dataset_of_masks`; no list is given, and the masks were made of none.
    """
    info = dataset_of_masks(args.masks, args.dataset)
    root = Path(args.data) if args.data is not None else info.path or DATA
    filelist = _list_made_of(args.masks) if args.filelist is None else args.filelist
    return MaskList(info, info.find_list(filelist, root), root)


def dataset_of_masks(masks: str | Path | None, dataset: str | None) -> DatasetInfo:
    """The data set that is given, or else the one beside the masks, or else Pascal VOC.

    A known one's `path` is the data root of the masks, if they are of the same.

    Args:
        masks: their folder, or crf in it; None where there are none.
        dataset: see `get_dataset_info`.

    Raises:
        UserError: a data set cannot be read, or the given one has other classes than the masks'.
    """
    file = dataset_file_of(masks) if masks is not None else None
    own = read_dataset(file) if file is not None and file.exists() else None
    if dataset is None:
        return own or get_dataset_info(DEFAULT_DATASET)
    info = get_dataset_info(dataset)
    if own is None:
        return info
    require_same_classes(info, own, file)
    return info.at(own.path) if info.path is None and info.name == own.name else info


def dataset_file_of(masks: str | Path) -> Path:
    """Where the data set of masks is described, if it is: beside them, or above crf."""
    return folder_of_run(masks) / DATASET_FILE


def _list_made_of(masks: str | Path | None) -> str:
    """The list that the run info beside the masks names."""
    if masks is not None and not Path(masks).is_dir():
        raise UserError(f"--masks {masks}: there is no such folder; infer_val.py makes it")
    remedy = "name a list with --filelist (FILELIST): train, val, val_train or a file"
    environment = (read_run_info(masks).environment if masks is not None else None) or {}
    made_of = environment.get("filelist")
    if not isinstance(made_of, str):
        raise UserError(f"{masks or 'the oracle'} does not say of which list it is; {remedy}")
    path = Path(made_of)
    if not path.is_file() or path.suffix.lower() in image_suffixes():
        raise UserError(f"{masks} has masks of {made_of}, which is no list here; {remedy}")
    return made_of
