"""Segment the images of a list with a trained snapshot: masks, CRF masks and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.arguments import add_common_arguments, config_from_arguments, run_folder
from core.inference.results import Outputs
from datasets.files import read_list, require_unique_ids
from datasets.records import get_record
from utils.crf import require_crf
from utils.errors import UserError, run_command

if TYPE_CHECKING:
    from core.inference.job import Job

# PyTorch is imported by the functions that need it, not above: the processes that make masks import
# this file when they start, and it would cost each of them seconds and memory.


def main() -> None:
    from core.distributed import join_group, leave_group, lost_peers_are_named
    from core.inference.job import run_job

    args = parse_args()
    with lost_peers_are_named():
        run_job(partial(read_job, args), *join_group(args.device))
    leave_group()


def read_job(args: argparse.Namespace) -> Job:
    """What the arguments ask for."""
    from core.checkpoint import find_snapshot
    from core.inference.job import Job

    cfg = config_from_arguments(args)
    record = get_record(args.dataset)
    if record.num_classes != cfg.TEST.NUM_CLASSES:
        raise UserError(
            f"TEST.NUM_CLASSES is {cfg.TEST.NUM_CLASSES}, but {record.name} has "
            f"{record.num_classes} classes; set it to {record.num_classes}"
        )
    if cfg.TEST.CRF:
        require_crf("--set TEST.CRF False does without")
    snapshot = find_snapshot(run_folder(args.snapshot_dir, args), args.resume)
    entries = read_list(args.infer_list, cfg.TEST.DATA_ROOT or cfg.DATASET.PATH)
    require_unique_ids(entries, args.infer_list)
    outputs = Outputs(
        args.mask_output_dir,
        record.palette,
        record.ignore_index,
        crf=cfg.TEST.CRF,
        crf_present_only=cfg.TEST.CRF_PRESENT_ONLY,
        min_confidence=cfg.TEST.MIN_CONFIDENCE,
        probabilities=args.save_probabilities,
    )
    return Job(
        config=cfg,
        record=record,
        snapshot=snapshot.path,
        source=args.infer_list,
        entries=entries,
        outputs=outputs,
        skip_existing=args.skip_existing,
    )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument(
        "--infer-list",
        metavar="LIST",
        type=Path,
        default=Path("data/val_voc.txt"),
        help="lines of `IMAGE MASK` or `IMAGE`, relative to the data root "
        "(default: data/val_voc.txt)",
    )
    parser.add_argument(
        "--mask-output-dir",
        metavar="DIR",
        type=Path,
        default=Path("results"),
        help="where ID.png, crf/ID.png and vis/ID.png go (default: results)",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out images whose results are there, to go on after an interruption",
    )
    parser.add_argument(
        "--save-probabilities",
        action="store_true",
        help="keep the merged masks as prob/ID.npz too, about 0.5 MB an image of VOC",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
