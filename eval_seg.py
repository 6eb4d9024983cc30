"""Evaluate segmentation masks against ground truth: per class IoU, precision and recall."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime

from core.evaluation.html.page import write_page
from core.evaluation.json_report import write_json
from core.evaluation.report import Outcome, evaluate_variants, read_run
from core.evaluation.sources import mask_variant, mask_variants, oracle_variant
from core.evaluation.tensorboard import require_tensorboard, snapshot_step, write_events
from core.evaluation.text import write_ranking
from datasets.files import read_list, require_unique_ids
from datasets.info import DATASETS, get_dataset_info
from utils.errors import UserError, run_command
from utils.files import (
    expanded,
    require_utf_8,
    require_writable_file,
    require_writable_folder,
    user_path,
)


def main() -> None:
    args = parse_args()
    info = get_dataset_info(args.dataset)
    entries = read_list(args.filelist, args.data, info)
    # without these options the table of the masks alone is all that is asked for
    keeps_more = any((args.report, args.json, args.tensorboard))
    run = None
    if args.oracle_from is None or args.report:
        require_unique_ids(entries, args.filelist)
    if args.oracle_from is None:
        if keeps_more:
            variants = mask_variants(args.masks, info)
        else:
            variants = [mask_variant(args.masks, info)]
        run = read_run(args.masks) if keeps_more else None
    else:
        variants = [oracle_variant(args.oracle_from, info)]
    for option, folder in (("--report", args.report), ("--tensorboard", args.tensorboard)):
        if folder:
            require_writable_folder(folder, option)
    for option, file in (("--json", args.json), ("--log-scores", args.log_scores)):
        if file:
            require_writable_file(file, option)
    if args.tensorboard:
        require_tensorboard()
        require_utf_8(args.tensorboard, "--tensorboard")

    evaluated = evaluate_variants(
        variants, entries, args.filelist, info, allow_missing=args.allow_missing
    )
    if args.log_scores:
        write_ranking(args.log_scores, evaluated[0].evaluation, info.classes)

    date = datetime.now().astimezone()
    outcome = Outcome(info, args.filelist, entries, evaluated, run, date)
    if keeps_more:
        print(f"\nwith CRF: {outcome.lack_of_crf}" if outcome.lack_of_crf else "")
    if args.json:
        write_json(args.json, outcome)
        print(f"numbers: {args.json}")
    if args.tensorboard:
        step = snapshot_step(run) if args.step is None else args.step
        for folder in write_events(args.tensorboard, outcome, step):
            print(f"events of step {step}: {folder}")
    if args.report:
        print(f"report: {write_page(args.report, outcome)}")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", metavar="ROOT", type=expanded, default="./data", help="data root")
    parser.add_argument(
        "--filelist", metavar="LIST", type=expanded, required=True, help="lines of `IMAGE MASK`"
    )
    parser.add_argument("--masks", metavar="DIR", type=expanded, help="folder of the masks, ID.png")
    parser.add_argument(
        "--oracle-from",
        metavar="HxW",
        type=grid_size,
        help="evaluate, instead of DIR, the ground truth taken to H×W pixels and back",
    )
    parser.add_argument(
        "--log-scores",
        metavar="FILE",
        type=user_path,
        help="write each class's images here by TP − FN − FP, best first",
    )
    parser.add_argument("--dataset", default="pascal_voc", help=f"one of {', '.join(DATASETS)}")
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out images whose mask is missing, unreadable or wrongly sized, and count them",
    )
    more = parser.add_argument_group(
        "more than the table", "Each of these evaluates the masks in DIR/crf too, if there are any."
    )
    more.add_argument(
        "--report",
        metavar="DIR",
        type=user_path,
        help="write a page here, index.html: tables, confusion matrix, best and worst images",
    )
    more.add_argument("--json", metavar="FILE", type=user_path, help="write the numbers here")
    more.add_argument(
        "--tensorboard",
        metavar="DIR",
        type=user_path,
        help="write the scores here as scalars, to eval and eval_crf",
    )
    more.add_argument(
        "--step", type=int, help="of the scalars (the epoch of the masks' snapshot, else 0)"
    )
    args = parser.parse_args(argv)
    if args.masks is None and args.oracle_from is None:
        raise UserError("nothing to evaluate: give --masks DIR or --oracle-from HxW")
    if args.step is not None and (args.tensorboard is None or args.step < 0):
        raise UserError(f"--step {args.step}: expected 0 or more, and --tensorboard DIR with it")
    return args


def grid_size(text: str) -> tuple[int, int]:
    """Read `HxW` as (height, width), both at least 1."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--oracle-from {text}: expected HxW in pixels, as in 128x128")
    return int(match[1]), int(match[2])


if __name__ == "__main__":
    # files that are asked for are written even where nobody reads the table
    files = ("--report", "--json", "--tensorboard", "--log-scores")
    run_command(main, prints_result=not any(word.startswith(files) for word in sys.argv))
