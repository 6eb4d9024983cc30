"""Evaluate segmentation masks against ground truth: per class IoU, precision and recall."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from datetime import datetime

from core.evaluation.html.page import write_page
from core.evaluation.json_report import write_json
from core.evaluation.report import Report, evaluate_sources, read_run_info
from core.evaluation.sources import ground_truth_in, mask_sources, oracle_source
from core.evaluation.tensorboard import require_tensorboard, snapshot_step, write_events
from core.evaluation.text import write_ranking
from core.mask_arguments import (
    add_data_arguments,
    dataset_file_of,
    dataset_of_masks,
    mask_list,
)
from datasets.info import DatasetInfo
from datasets.lists import ListEntry, read_list, require_unique_ids
from utils.errors import UserError, run_command
from utils.files import (
    expanded,
    require_utf_8,
    require_writable_file,
    require_writable_folder,
    user_path,
)
from utils.streams import go_on_unread


def main() -> None:
    args = parse_args()
    if args.report or args.json or args.tensorboard or args.log_scores:
        go_on_unread()
    info, truth, entries = read_entries(args)
    if args.oracle_from is None or args.report:
        require_unique_ids(entries, truth)
    run = None
    if args.oracle_from is not None:
        sources = [oracle_source(args.oracle_from, info)]
    else:
        sources = mask_sources(args.masks, entries, info)
        if args.report or args.json or args.tensorboard:
            run = read_run_info(args.masks)
    require_writable_outputs(args)
    told = args.dataset or (args.masks and dataset_file_of(args.masks).exists())
    if args.ground_truth and not told:
        print(f"the classes are taken to be those of {info.name}; --dataset names others\n")

    results = evaluate_sources(sources, entries, truth, info, allow_missing=args.allow_missing)
    date = datetime.now().astimezone()
    report = Report(info, truth, entries, results, run, date)
    if report.lack_of_crf:
        print(f"\nwith CRF: {report.lack_of_crf}")
    write_outputs(args, report)


def read_entries(args: argparse.Namespace) -> tuple[DatasetInfo, str, list[ListEntry]]:
    """The data set; the list, or the folder of ground truth; and its images."""
    if args.ground_truth is None:
        listed = mask_list(args)
        entries = read_list(listed.path, listed.root, listed.info)
        return listed.info, str(listed.path), entries
    entries, note = ground_truth_in(args.ground_truth)
    if note:
        print(note, file=sys.stderr)
    return dataset_of_masks(args.masks, args.dataset), args.ground_truth, entries


def require_writable_outputs(args: argparse.Namespace) -> None:
    """Raise `UserError` for what cannot be written, before the work of an evaluation."""
    for option, folder in (("--report", args.report), ("--tensorboard", args.tensorboard)):
        if folder:
            require_writable_folder(folder, option)
    for option, file in (("--json", args.json), ("--log-scores", args.log_scores)):
        if file:
            require_writable_file(file, option)
    if args.tensorboard:
        require_tensorboard()
        require_utf_8(args.tensorboard, "--tensorboard")


def write_outputs(args: argparse.Namespace, report: Report) -> None:
    """Write the files that were asked for, and print where they are."""
    if args.log_scores:
        _, evaluation = report.results[0]
        write_ranking(args.log_scores, evaluation, report.info.classes)
    if (args.json or args.tensorboard or args.report) and not report.lack_of_crf:
        print()
    if args.json:
        write_json(args.json, report)
        print(f"numbers: {args.json}")
    if args.tensorboard:
        step = snapshot_step(report.run) if args.step is None else args.step
        for folder in write_events(args.tensorboard, report, step):
            print(f"events of step {step}: {folder}")
    if args.report:
        print(f"report: {write_page(args.report, report)}")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_data_arguments(parser, "lines of `IMAGE MASK`, or a table with the header `image,mask`")
    parser.add_argument(
        "--ground-truth",
        metavar="DIR",
        type=expanded,
        help="instead of a list: a folder whose ID.png are the ground truth",
    )
    parser.add_argument(
        "--masks", metavar="DIR", type=expanded, help="folder of the masks, ID.png and crf/ID.png"
    )
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
        help="write each class's images here by TP − FN − FP (without CRF), best first",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="leave out images whose mask is missing, unreadable or wrongly sized, and count them",
    )
    parser.add_argument(
        "--report",
        metavar="DIR",
        type=user_path,
        help="write a page here, index.html: tables, confusion matrix, best and worst images",
    )
    parser.add_argument("--json", metavar="FILE", type=user_path, help="write the numbers here")
    parser.add_argument(
        "--tensorboard",
        metavar="DIR",
        type=user_path,
        help="write the scores here as scalars, to eval and eval_crf",
    )
    parser.add_argument(
        "--step", type=int, help="of the scalars (the epoch of the masks' snapshot, else 0)"
    )
    args = parser.parse_args(argv)
    if args.filelist is not None and args.ground_truth is not None:
        raise UserError("give the ground truth as one of --filelist LIST and --ground-truth DIR")
    if args.ground_truth is not None and args.data is not None:
        raise UserError("--data is where a list's paths start; leave it out beside --ground-truth")
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
    run_command(main, prints_result=True)
