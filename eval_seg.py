"""Evaluate segmentation masks against ground truth: per class IoU, precision and recall."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from core.evaluation.evaluate import Predict, evaluate, masks_from
from core.evaluation.oracle import oracle_mask
from core.evaluation.report import format_report, write_ranking
from datasets.files import read_list, require_unique_ids
from datasets.records import DATASETS, DatasetRecord, get_record
from utils.errors import UserError, run_command


def main() -> None:
    args = parse_args()
    record = get_record(args.dataset)
    entries = read_list(args.filelist, args.data)
    if args.oracle_from is None:
        require_unique_ids(entries, args.filelist)
        predict = masks_from(args.masks)
        print(f"Masks of {args.masks} against {args.filelist}\n")
    else:
        predict = oracle_from(args.oracle_from, record)
        size = "x".join(map(str, args.oracle_from))
        print(f"Oracle: the ground truth of {args.filelist}, taken to {size} and back\n")

    evaluation = evaluate(entries, predict, record.num_classes, allow_missing=args.allow_missing)
    for mask in evaluation.left_out:
        print(f"left out: {mask}", file=sys.stderr)
    print(format_report(evaluation, record.classes))
    if args.log_scores:
        write_ranking(args.log_scores, evaluation, record.classes)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", metavar="ROOT", default="./data", help="data root")
    parser.add_argument("--filelist", metavar="LIST", required=True, help="lines of `IMAGE MASK`")
    parser.add_argument("--masks", metavar="DIR", help="folder of the masks, ID.png")
    parser.add_argument(
        "--oracle-from",
        metavar="HxW",
        type=grid_size,
        help="evaluate, instead of DIR, the ground truth taken to H×W pixels and back",
    )
    parser.add_argument(
        "--log-scores",
        metavar="FILE",
        help="write each class's images here by TP − FN − FP, best first",
    )
    parser.add_argument("--dataset", default="pascal_voc", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out images whose mask is missing, unreadable or wrongly sized, and count them",
    )
    args = parser.parse_args(argv)
    if args.masks is None and args.oracle_from is None:
        raise UserError("nothing to evaluate: give --masks DIR or --oracle-from HxW")
    return args


def grid_size(text: str) -> tuple[int, int]:
    """Read `HxW` as (height, width), both at least 1."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--oracle-from {text}: expected HxW in pixels, as in 128x128")
    return int(match[1]), int(match[2])


def oracle_from(size: tuple[int, int], record: DatasetRecord) -> Predict:
    """A `predict` for `evaluate` that needs nothing but the ground truth."""
    return lambda _entry, ground_truth: oracle_mask(ground_truth, size, record.num_classes)


if __name__ == "__main__":
    run_command(main)
