"""Segment the images of a list or a folder with a trained snapshot: masks, CRF masks, pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from core.arguments import add_common_arguments, config_from_arguments, run_folder
from core.inference.writing import Outputs
from datasets.files import require_unique_ids
from datasets.info import get_dataset_info
from utils.crf import require_crf
from utils.errors import UserError, run_command
from utils.files import ignores_case, require_writable_folder, user_path

if TYPE_CHECKING:
    from core.inference.run import Job

# PyTorch is imported by the functions that need it, not above: the processes that make masks import
# this file when they start, and it would cost each of them seconds and memory.


def main() -> None:
    from core.distributed import join_group, process_group
    from core.inference.run import run_job

    args = parse_args()
    with process_group():
        run_job(partial(read_job, args), *join_group(args.device))


def read_job(args: argparse.Namespace) -> Job:
    """What the arguments ask for."""
    from core.checkpoint import find_snapshot
    from core.inference.image_labels import read_labels
    from core.inference.run import Job
    from core.inference.samples import find_images

    cfg = config_from_arguments(args)
    info = get_dataset_info(args.dataset)
    if args.labels and cfg.TEST.USE_GT_LABELS:
        raise UserError(
            f"labels come from --labels {args.labels} or from masks (TEST.USE_GT_LABELS), not "
            "from both; leave --labels out, or add --set TEST.USE_GT_LABELS False"
        )
    if cfg.TEST.CRF:
        require_crf("--set TEST.CRF False does without")
    if args.snapshot:
        snapshot = require_snapshot(args)
    else:
        snapshot = find_snapshot(run_folder(args.snapshot_dir, args), args.resume).path
    root = cfg.TEST.DATA_ROOT or cfg.DATASET.PATH
    entries, left_out = find_images(args.infer_list, root, info)
    require_writable_folder(args.mask_output_dir, "--mask-output-dir (OUTPUT_DIR, OUTPUT)")
    require_unique_ids(entries, args.infer_list, ignores_case(args.mask_output_dir))
    outputs = Outputs(
        args.mask_output_dir,
        info.palette,
        info.ignore_index,
        crf=cfg.TEST.CRF,
        crf_present_only=cfg.TEST.CRF_PRESENT_ONLY,
        min_confidence=cfg.TEST.MIN_CONFIDENCE,
        probabilities=args.save_probabilities,
    )
    return Job(
        config=cfg,
        info=info,
        snapshot=snapshot,
        source=args.infer_list,
        entries=entries,
        left_out=left_out,
        labels=read_labels(args.labels, entries, info.classes) if args.labels else None,
        labels_file=args.labels,
        outputs=outputs,
        skip_existing=args.skip_existing,
    )


def require_snapshot(args: argparse.Namespace) -> Path:
    """The file of --snapshot; a `UserError` where there is none, or --resume names another."""
    if args.resume:
        raise UserError("--snapshot and --resume both name a snapshot; leave one of them out")
    if not args.snapshot.is_file():
        raise UserError(f"--snapshot {args.snapshot}: there is no such file")
    return args.snapshot


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_common_arguments(parser)
    parser.add_argument(
        "--infer-list",
        metavar="LIST",
        type=user_path,
        default=Path("data/val_voc.txt"),
        help="a list, lines of `IMAGE MASK` or `IMAGE` relative to the data root; a folder of "
        "images; or one image (default: data/val_voc.txt)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        type=user_path,
        help='the objects that images have, as JSON ({"a.jpg": ["cat", "sofa"], ...}) or CSV '
        "(rows a.jpg,cat,sofa); without it they are predicted, or with TEST.USE_GT_LABELS those "
        "of the masks",
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
        "--save-probabilities",
        action="store_true",
        help="keep the merged masks as prob/ID.npz too, about 2 MB an image of VOC",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
