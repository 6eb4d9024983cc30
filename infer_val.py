"""Segment the images of a list or a folder with a trained snapshot: masks, CRF masks, pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.arguments import add_common_arguments
from utils.errors import run_command
from utils.files import user_path
from utils.missing import missing_names_to


def main() -> None:
    # not above: the processes that write masks import this file, and PyTorch would cost each of
    # them seconds and memory
    from core.distributed import join_group, process_group
    from core.inference.run import run_inference

    args = parse_args()
    with process_group(), missing_names_to(args.missing_to):
        run_inference(args, *join_group(args.device))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_common_arguments(parser, of_snapshot=True)
    parser.add_argument(
        "--infer-list",
        metavar="LIST",
        type=user_path,
        default=Path("val"),
        help="a list, lines of `IMAGE MASK` or `IMAGE` relative to the data root; a folder of "
        "images; one image; or train, val or val_train, the data set's own list (default: val)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        type=user_path,
        help="the objects that images have: a table (rows a.jpg,cat,sofa), JSON, COCO's or VOC's "
        "annotations, or a folder a class; without it they are predicted, or with "
        "TEST.USE_GT_LABELS those of the data set's labels or masks",
    )
    parser.add_argument(
        "--snapshot",
        metavar="FILE",
        type=user_path,
        help="a snapshot's file, in place of --exp, --run and --resume",
    )
    parser.add_argument(
        "--mask-output-dir",
        metavar="DIR",
        type=user_path,
        default=Path("results"),
        help="where ID.png, crf/ID.png and vis/ID.png go (default: results)",
    )
    parser.add_argument(
        "--skip-existing",
        action="store_true",
        help="leave out images whose results are there, to go on after an interruption",
    )
    parser.add_argument(
        "--renew",
        action="store_true",
        help="as --skip-existing, but what other settings made is made anew, in place of an error",
    )
    parser.add_argument(
        "--save-probabilities",
        action="store_true",
        help="keep the merged masks as prob/ID.npz too, about 2 MB an image of VOC",
    )
    parser.add_argument(
        "--page",
        action="store_true",
        help="write index.html beside the masks: all of them to look through, least certain first, "
        "and those that lack an object of their labels",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
