"""Segment the images of a list or a folder with a trained snapshot: masks, CRF masks, pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.arguments import add_common_arguments, config_from_arguments, run_folder
from core.inference.results import CRF_FOLDER, PICTURE_FOLDER
from datasets.files import require_unique_ids
from datasets.records import get_record
from utils.errors import UserError, run_command
from utils.files import ignores_case, require_writable_folder


def main() -> None:
    # Imported here, not above: the processes that make masks import this file when they start,
    # and PyTorch, which they do not need, would cost each of them seconds and memory.
    from core.checkpoint import find_snapshot
    from core.distributed import select_device
    from core.inference.inputs import find_images, require_inputs_kept
    from core.inference.labels import read_labels
    from core.inference.layout import describe_oversize
    from core.inference.run import infer
    from core.inference.samples import check_samples, load_sample
    from core.inference.segmenter import Segmenter
    from core.provenance import record_run

    args = parse_args()
    cfg = config_from_arguments(args)
    record = get_record(args.dataset)
    if args.labels and cfg.TEST.USE_GT_LABELS:
        raise UserError(
            f"labels come from --labels {args.labels} or from masks (TEST.USE_GT_LABELS), not "
            "from both; leave --labels out, or add --set TEST.USE_GT_LABELS False"
        )
    if args.snapshot:
        snapshot = require_snapshot(args)
    else:
        snapshot = find_snapshot(run_folder(args.snapshot_dir, args), args.resume).path
    device = select_device(args.device)

    entries, skipped = find_images(args.infer_list, cfg.TEST.DATA_ROOT or cfg.DATASET.PATH)
    folders = [args.mask_output_dir / name for name in ("", CRF_FOLDER, PICTURE_FOLDER)]
    for folder in folders:
        require_writable_folder(folder, "--mask-output-dir")
    require_unique_ids(entries, args.infer_list, ignores_case(args.mask_output_dir))
    require_inputs_kept(entries, folders, "--mask-output-dir")
    labels = read_labels(args.labels, entries, record.classes) if args.labels else None
    segmenter = Segmenter.from_snapshot(snapshot, cfg, device, record)
    sizes = check_samples(entries, cfg.TEST, cfg.TRAIN.NUM_WORKERS)

    # only now: a run that fails a check leaves the record of the masks that are there
    record_run(
        args.mask_output_dir,
        cfg,
        device,
        snapshot=str(snapshot),
        filelist=str(args.infer_list),
        labels=str(args.labels or "none"),
        images=len(entries),
    )
    print(f"{len(entries)} images of {args.infer_list}, on {device.type}, by {snapshot}")
    for note in filter(None, (skipped, describe_oversize(sizes, cfg.TEST))):
        print(note)
    samples = (load_sample(entry, cfg.TEST, labels) for entry in entries)
    infer(
        segmenter.predict_stream(samples),
        len(entries),
        args.mask_output_dir,
        record.palette,
        workers=cfg.TRAIN.NUM_WORKERS,
    )
    for kind, folder in zip(("masks", "masks with CRF", "pictures"), folders, strict=True):
        print(f"{len(entries)} {kind}: {folder}")


def require_snapshot(args: argparse.Namespace) -> Path:
    """The file of --snapshot; a `UserError` where there is none, or --resume names another."""
    if args.resume:
        raise UserError("--snapshot and --resume both name a snapshot; leave one of them out")
    if not args.snapshot.is_file():
        raise UserError(f"--snapshot {args.snapshot}: there is no such file")
    return args.snapshot


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    add_common_arguments(parser)
    parser.add_argument(
        "--infer-list",
        metavar="LIST",
        type=Path,
        default=Path("data/val_voc.txt"),
        help="a list, lines of `IMAGE MASK` or `IMAGE` relative to the data root; a folder of "
        "images; or one image (default: data/val_voc.txt)",
    )
    parser.add_argument(
        "--labels",
        metavar="FILE",
        type=Path,
        help='the objects that images have, as JSON ({"a.jpg": ["cat", "sofa"], ...}) or CSV '
        "(rows a.jpg,cat,sofa); without it they are predicted, or with TEST.USE_GT_LABELS those "
        "of the masks",
    )
    parser.add_argument(
        "--snapshot",
        metavar="FILE",
        type=Path,
        help="a snapshot's file, in place of --exp, --run and --resume",
    )
    parser.add_argument(
        "--mask-output-dir",
        metavar="DIR",
        type=Path,
        default=Path("results"),
        help="where ID.png, crf/ID.png and vis/ID.png go (default: results)",
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
