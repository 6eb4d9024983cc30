"""Arguments shared by train.py and infer_val.py."""

from __future__ import annotations

import argparse
import glob
from dataclasses import replace
from pathlib import Path

from core.config import Config, fit_to_dataset, load_config
from datasets.dataset_file import DATASET_FILE, KNOWN, get_dataset_info
from datasets.info import DatasetInfo
from utils.errors import UserError
from utils.files import user_path

DEFAULT_DATASET = "pascal_voc"


def add_common_arguments(parser: argparse.ArgumentParser, of_snapshot: bool = False) -> None:
    """Add what names a run, its configuration and its machine.

    Args:
        parser: the command's.
        of_snapshot: data set and configuration may be those of a snapshot.
    """
    add = parser.add_argument
    default = f"that of the snapshot, or {DEFAULT_DATASET}" if of_snapshot else DEFAULT_DATASET
    add(
        "--dataset",
        default=None if of_snapshot else DEFAULT_DATASET,
        help=f"{', '.join(KNOWN)}, or the path of a {DATASET_FILE} or of its folder (default: "
        f"{default})",
    )
    add(
        "--cfg",
        required=not of_snapshot,
        type=user_path,
        help=f"configuration file (YAML){' (default: that of the snapshot)' * of_snapshot}",
    )
    add("--exp", default="main", help="experiment name (default: %(default)s)")
    # torchrun without `--` would take --run for an abbreviation of an option of its own
    add("--run", "--run-id", default="v01", help="name of the run (default: %(default)s)")
    add(
        "--resume",
        default="",
        metavar="SUFFIX",
        help="snapshot, as e020Xs0.928, or best; training also takes last, the state after the "
        "last epoch that was finished, previous, the state an epoch before that, and auto, which "
        "is last where there is one",
    )
    add(
        "--workers",
        type=_count,
        help="processes beside the main one (default: TRAIN.NUM_WORKERS)",
    )
    add("--snapshot-dir", default=Path("snapshots"), type=user_path, help="default: ./%(default)s")
    add("--logdir", default=Path("logs"), type=user_path, help="default: ./%(default)s")
    add("--random-seed", default=64, type=_count, help="default: %(default)s")
    add(
        "--missing-to",
        metavar="FILE",
        type=user_path,
        help="where files or labels are missing, write the names of all of them here",
    )
    add("--device", default="auto", help="auto, cuda, mps or cpu (default: %(default)s)")
    add(
        "--set",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY VALUE",
        help="configuration keys to change, as NET.LR 0.01",
    )


def settings_from_arguments(args: argparse.Namespace) -> tuple[Config, DatasetInfo]:
    """The configuration of --cfg, changed by --set and --workers, and the data set of --dataset."""
    info = get_dataset_info(args.dataset)
    config = fit_to_dataset(load_config(args.cfg, args.set), info, args.set)
    return with_workers(config, args), info


def with_workers(config: Config, args: argparse.Namespace) -> Config:
    """The configuration, changed by --workers."""
    if args.workers is None:
        return config
    return replace(config, TRAIN=replace(config.TRAIN, NUM_WORKERS=args.workers))


def run_folder(base: Path, dataset: str, args: argparse.Namespace) -> Path:
    """The folder of a run below `base` (--snapshot-dir or --logdir): DATASET/EXP/RUN."""
    return base / dataset / args.exp / args.run


def existing_run_folder(args: argparse.Namespace) -> Path:
    """The snapshots of the run that --exp and --run name; --dataset is needed only to tell apart.

    Raises:
        UserError: several data sets have such a run.
    """
    base = args.snapshot_dir
    if args.dataset is not None:
        return run_folder(base, get_dataset_info(args.dataset).name, args)
    found = sorted(base.glob(f"*/{glob.escape(args.exp)}/{glob.escape(args.run)}"))
    if len(found) > 1:
        raise UserError(
            f"{found[0]} and {found[1]} are both such runs; name the data set with --dataset "
            "(DATASET)"
        )
    return found[0] if found else run_folder(base, DEFAULT_DATASET, args)


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    # PyTorch takes seeds of 63 bits
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, found {text!r}")
    return value
