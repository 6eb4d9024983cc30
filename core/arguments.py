"""Arguments shared by train.py and infer_val.py, and by the commands on a list's masks."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from core.config import Config, load_config
from utils.files import expanded, user_path


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what names a run, its configuration and its machine."""
    add = parser.add_argument
    add("--dataset", default="pascal_voc", help="name of the data set (default: %(default)s)")
    add("--cfg", required=True, type=user_path, help="configuration file (YAML)")
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
    add("--device", default="auto", help="auto, cuda, mps or cpu (default: %(default)s)")
    add(
        "--set",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY VALUE",
        help="configuration keys to change, as NET.LR 0.01",
    )


def add_mask_arguments(parser: argparse.ArgumentParser, filelist: str, out: str) -> None:
    """Add --data, --filelist, --masks and --out, for a command on inference's masks of a list.

    Args:
        parser: the command's.
        filelist: what the list holds, for the help.
        out: what is written, for the help.
    """
    add = parser.add_argument
    add("--data", metavar="ROOT", type=expanded, default="./data", help="data root")
    add("--filelist", metavar="LIST", type=expanded, required=True, help=filelist)
    add("--masks", metavar="DIR", type=user_path, required=True, help="inference's")
    add("--out", metavar="FILE", type=user_path, required=True, help=out)


def config_from_arguments(args: argparse.Namespace) -> Config:
    """The configuration of --cfg, changed by --set and then by --workers."""
    config = load_config(args.cfg, args.set)
    if args.workers is None:
        return config
    return replace(config, TRAIN=replace(config.TRAIN, NUM_WORKERS=args.workers))


def run_folder(base: Path, args: argparse.Namespace) -> Path:
    """The folder of a run below `base` (--snapshot-dir or --logdir): DATASET/EXP/RUN."""
    return base / args.dataset / args.exp / args.run


def _count(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    # PyTorch takes seeds of 63 bits
    if not 0 <= value < 2**63:
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on, found {text!r}")
    return value
