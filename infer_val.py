"""Segment the images of a list with a trained snapshot: masks, CRF masks and pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from core.arguments import add_common_arguments, config_from_arguments, run_folder
from core.inference.results import CRF_FOLDER, PICTURE_FOLDER
from datasets.files import read_list, require_unique_ids
from datasets.records import get_record
from utils.errors import UserError, run_command
from utils.files import require_writable_folder


def main() -> None:
    # Imported here, not above: the processes that make masks import this file when they start,
    # and PyTorch, which they do not need, would cost each of them seconds and memory.
    from core.checkpoint import find_snapshot, load_model
    from core.distributed import parallelise, select_device
    from core.inference.predict import predict
    from core.inference.run import infer
    from core.inference.samples import check_samples, load_sample
    from core.provenance import record_run
    from models import get_model

    args = parse_args()
    cfg = config_from_arguments(args)
    record = get_record(args.dataset)
    if record.num_classes != cfg.TEST.NUM_CLASSES:
        raise UserError(
            f"TEST.NUM_CLASSES is {cfg.TEST.NUM_CLASSES}, but {record.name} has "
            f"{record.num_classes} classes; set it to {record.num_classes}"
        )

    snapshot = find_snapshot(run_folder(args.snapshot_dir, args), args.resume)
    device = select_device(args.device)
    entries = read_list(args.infer_list, cfg.TEST.DATA_ROOT or cfg.DATASET.PATH)
    require_unique_ids(entries, args.infer_list)
    folders = [args.mask_output_dir / name for name in ("", CRF_FOLDER, PICTURE_FOLDER)]
    for folder in folders:
        require_writable_folder(folder, "--mask-output-dir")
    check_samples(entries, cfg.TEST, cfg.TRAIN.NUM_WORKERS)

    model = get_model(cfg.NET, num_classes=record.num_classes)
    print(load_model(model, snapshot.path))
    placed = parallelise(model, device)
    # only now: a run that fails a check leaves the record of the masks that are there
    record_run(
        args.mask_output_dir,
        cfg,
        device,
        snapshot=str(snapshot.path),
        filelist=str(args.infer_list),
        images=len(entries),
    )
    print(f"{len(entries)} images of {args.infer_list}, on {device.type}")
    samples = (load_sample(entry) for entry in entries)
    infer(
        predict(placed, samples, cfg.TEST, device),
        len(entries),
        args.mask_output_dir,
        record.palette,
        workers=cfg.TRAIN.NUM_WORKERS,
    )
    for kind, folder in zip(("masks", "masks with CRF", "pictures"), folders, strict=True):
        print(f"{len(entries)} {kind}: {folder}")


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
    return parser.parse_args(argv)


if __name__ == "__main__":
    run_command(main)
