"""A run of inference: its images, its checks, and its results on disk."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch

from core.arguments import existing_run_folder, with_workers
from core.checkpoint import find_snapshot
from core.config import Config, cut_score, data_root, load_config
from core.devices import tune_convolutions
from core.distributed import Group, interruptible, rank_zero_first, track_group
from core.inference.manifest import origin, plan_results, prepare_folder
from core.inference.page import write_page
from core.inference.predict import Prediction
from core.inference.samples import check_samples, find_images, known_labels, load_sample
from core.inference.segmenter import Segmenter
from core.inference.tta import describe_oversize, fits_windows
from core.inference.writing import KINDS, PAGE_FOLDER, Outputs, result_writer
from core.precision import settle_inference
from core.run_info import write_run_info
from core.snapshot_settings import settings_of
from datasets.image_labels import read_labels
from datasets.info import DatasetInfo
from datasets.lists import ListEntry, require_unique_ids
from utils.crf import require_crf
from utils.errors import UserError
from utils.files import ignores_case, only_process, require_writable_folder
from utils.progress import LINES_IN_A_LOG
from utils.signals import StoppedError, StopRequest

OUTPUT_OPTION = "--mask-output-dir (OUTPUT_DIR, OUTPUT)"


def run_inference(args: argparse.Namespace, group: Group, device: torch.device) -> None:
    """Segment images with a snapshot, and write their masks.

    Rank 0 checks everything, the folder of results included, before anything in it changes. All
    processes use its snapshot: a run that trains meanwhile may have a better one a moment later.

    Args:
        args: infer_val.py's.
        group: the processes that share the images.
        device: this process's.

    Raises:
        UserError: a file, a key or a folder cannot be used.
        InterruptionError: Ctrl-C or SIGTERM came.
    """
    with ExitStack() as lock:
        left: list[ListEntry] = []
        with rank_zero_first(group):
            given = load_config(args.cfg, args.set) if args.cfg else None
            snapshot = _find_snapshot(args)
            cfg, info = settings_of(snapshot, given, args.dataset, args.set)
            cfg, root = with_workers(cfg, args), data_root(cfg)
            cfg, settled = settle_inference(cfg, device)
            if settled and group.is_rank_zero:
                print(settled)
            _check_options(args, cfg)
            images, info = info.find_list(args.infer_list, root), info.at(root)
            entries = _find_images(images, root, args.mask_output_dir, info, group)
            labels, source = _known_labels(args, images, entries, cfg, info, group)
            outputs = _outputs(args, cfg, info)
            if group.is_rank_zero:
                lock.enter_context(only_process(outputs.folder, "inference"))
                for kind in outputs.kinds:
                    require_writable_folder(outputs.folder_of(kind), OUTPUT_OPTION)
                # before the images, since to open all of them takes longer
                segmenter = Segmenter.from_snapshot(snapshot, cfg, device, info)
                made_from = origin(cfg, info, snapshot, source)
                left, manifest = plan_results(
                    outputs, entries, made_from, args.skip_existing or args.renew, args.renew
                )
                _check_images(left, cfg, info, root)
        _require_one_precision(cfg, group)
        left, snapshot = group.gather((left, snapshot))[0]
        if left:
            tune_convolutions(device, sizes_vary=fits_windows(cfg.TEST))
            if not group.is_rank_zero:
                segmenter = Segmenter.from_snapshot(snapshot, cfg, device, info)
            stop = StopRequest()
            with interruptible(stop, group, _how_to_go_on), stop.listening():
                if group.is_rank_zero:
                    skipped = len(entries) - len(left)
                    _announce(f"{len(left)} images of {images}", snapshot, group, device)
                    prepare_folder(outputs, left, manifest, continued=skipped > 0)
                    write_run_info(
                        outputs.folder,
                        cfg,
                        info,
                        [device],
                        # keeps the run info of the part that made the other results
                        f"_from_{skipped:05d}" if skipped else "",
                        snapshot=str(snapshot),
                        filelist=str(images),
                        labels=str(source or "none"),
                        images=len(entries),
                        skipped=skipped,
                        processes=group.size,
                        tf32=False,
                    )
                group.barrier()  # nobody writes before the folder is in order
                own = left[group.rank :: group.size]
                samples = (load_sample(entry, cfg.TEST, info, labels) for entry in own)
                predictions = track_group(
                    segmenter.predict_stream(samples),
                    len(left),
                    group,
                    description="inference",
                    every=max(1, len(left) // group.size // LINES_IN_A_LOG),
                )
                infer(predictions, outputs, _share(cfg.TRAIN.NUM_WORKERS, group), stop)
                group.barrier()  # all is written
        if group.is_rank_zero:
            for kind in outputs.kinds:
                if KINDS[kind][0] != PAGE_FOLDER:
                    print(f"{len(entries)} {kind}: {outputs.folder_of(kind)}")
            if outputs.page:
                origins = {"images": images, "snapshot": snapshot, "labels": source}
                print(f"page: {write_page(outputs, entries, info, _about(origins, cfg, info))}")


def _require_one_precision(cfg: Config, group: Group) -> None:
    """Raise `UserError`, in every process, where TEST.AMP auto is not the same for all."""
    kinds = group.gather(cfg.TEST.AMP)
    if len(set(kinds)) > 1:
        raise UserError(
            f"TEST.AMP is {' and '.join(sorted(set(kinds)))} in different processes; set it to "
            "off, or use machines of one kind"
        )


def _about(origins: dict[str, Path | None], cfg: Config, info: DatasetInfo) -> dict[str, str]:
    """What the page says of a run, by name."""
    no_file = "those of the list's masks" if cfg.TEST.USE_GT_LABELS else "the network's own"
    return {
        **{name: str(path or no_file) for name, path in origins.items()},
        "data set": info.name,
    }


def infer(
    predictions: Iterable[Prediction], outputs: Outputs, workers: int, stop: StopRequest
) -> None:
    """Write each image's results: masks, CRF masks, pictures.

    Args:
        predictions: see `Segmenter.predict_stream`; the network works as this loop asks for them.
        outputs: what is written, and where.
        workers: processes for CRF and writing; 0 for none.
        stop: looked at after every image.

    Raises:
        UserError: an image or mask cannot be used, or results cannot be written.
        RuntimeError: something unforeseen went wrong while results were made; it names the image.
        StoppedError: it was requested; what was begun is written.
    """
    with result_writer(outputs, workers) as write:
        for sample, merged, scores in predictions:
            if stop.signal is not None:
                raise StoppedError
            image = np.array(sample.image)
            write(sample.id, image, merged, sample.ground_truth, scores, sample.labels)


def _check_options(args: argparse.Namespace, cfg: Config) -> None:
    """Raise `UserError` where options do not agree, or need what is not installed."""
    if args.labels and cfg.TEST.USE_GT_LABELS:
        raise UserError(
            f"labels come from --labels {args.labels} or from the data set (TEST.USE_GT_LABELS), "
            "not from both; leave --labels out, or add --set TEST.USE_GT_LABELS False"
        )
    if args.page or not args.labels:
        cut_score(cfg.TEST)
    if cfg.TEST.CRF:
        require_crf("--set TEST.CRF False does without")


def _find_snapshot(args: argparse.Namespace) -> Path:
    """The snapshot that --snapshot or --resume names."""
    if not args.snapshot:
        return find_snapshot(existing_run_folder(args), args.resume).path
    if args.resume:
        raise UserError("--snapshot and --resume both name a snapshot; leave one of them out")
    if not args.snapshot.is_file():
        raise UserError(f"--snapshot {args.snapshot}: there is no such file")
    return args.snapshot


def _find_images(
    images: Path, root: Path, output: Path, info: DatasetInfo, group: Group
) -> list[ListEntry]:
    """The images of --infer-list, whose ids are unique as names of files in the output folder."""
    entries, left_out = find_images(images, root, info)
    if left_out and group.is_rank_zero:
        print(left_out)
    require_writable_folder(output, OUTPUT_OPTION)
    require_unique_ids(entries, images, ignores_case(output))
    return entries


def _known_labels(
    args: argparse.Namespace,
    images: Path,
    entries: Sequence[ListEntry],
    cfg: Config,
    info: DatasetInfo,
    group: Group,
) -> tuple[dict[str, np.ndarray] | None, Path | None]:
    """The labels of --labels, or those that TEST.USE_GT_LABELS takes, and where they are from.

    They are by id, C−1 float32 zeros and ones. None: they are those of masks, or predicted, and so
    are those of images that a data set's labels table lacks, which is said.
    """
    if args.labels:
        found = read_labels(args.labels, [entry.image for entry in entries], info.classes)
        by_id = {
            entry.id: labels.astype(np.float32)
            for entry, labels in zip(entries, found, strict=True)
        }
        return by_id, args.labels
    by_id = known_labels(entries, cfg.TEST, info)
    if by_id is None:
        return None, None
    is_column = all(entry.labels is not None for entry in entries)
    source = images if is_column else info.labels_path
    if group.is_rank_zero:
        print(
            f"labels: {source} has {len(by_id)} of the {len(entries)} images; the network predicts "
            "the classes of the others (TEST.USE_GT_LABELS False: of all)"
        )
    return by_id, source


def _outputs(args: argparse.Namespace, cfg: Config, info: DatasetInfo) -> Outputs:
    return Outputs(
        args.mask_output_dir,
        info.palette,
        info.ignore_index,
        crf=cfg.TEST.CRF,
        crf_present_only=cfg.TEST.CRF_PRESENT_ONLY,
        min_confidence=cfg.TEST.MIN_CONFIDENCE,
        probabilities=args.save_probabilities,
        page=args.page,
        min_score=cfg.TEST.FP_CUT_SCORE,
    )


def _check_images(entries: Sequence[ListEntry], cfg: Config, info: DatasetInfo, root: Path) -> None:
    """Open all images, so that a long run does not fail on the last one; name large ones."""
    if entries:
        sizes = check_samples(entries, cfg.TEST, cfg.TRAIN.NUM_WORKERS, root, info)
        if oversize := describe_oversize(sizes, cfg.TEST):
            print(oversize)


def _how_to_go_on() -> str:
    return "the same command with --skip-existing goes on with the images that are left"


def _share(workers: int, group: Group) -> int:
    """The workers of one process: not 0, which would make it write itself, unless all have none."""
    return max(1, workers // group.size) if workers else 0


def _announce(images: str, snapshot: Path, group: Group, device: torch.device) -> None:
    where = device.type if group.size == 1 else f"{group.size} processes with {device.type}"
    print(f"{images}, on {where}, by {snapshot}")
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus > group.size:
        print(f"{group.size} of {gpus} GPUs used; NPROC={gpus} before the launch script uses all")
