"""A run of inference: its images, its checks, and its results on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core.config import Config
from core.distributed import SINGLE, Group, rank_zero_first
from core.inference.manifest import Plan, origin, plan_results, prepare_folder
from core.inference.samples import Sample, check_samples, load_sample
from core.inference.segmenter import Segmenter
from core.inference.tta import describe_oversize
from core.inference.writing import Outputs, Result, result_writer
from core.run_info import write_run_info
from datasets.files import ListEntry
from datasets.info import DatasetInfo
from utils.errors import InterruptionError, UserError
from utils.files import only_process, require_writable_folder
from utils.progress import LINES_IN_A_LOG, track
from utils.signals import StoppedError, StopRequest


@dataclass(frozen=True)
class Job:
    """What a run of inference works on.

    Attributes:
        config: all of it.
        info: the data set's.
        snapshot: the network's file.
        source: what the images are named by, such as a file list.
        entries: the images, their ids unique.
        left_out: a line on files of a folder that are no images, empty if there are none.
        labels: what is known of every image by its id (see `Sample.labels`), or None.
        labels_file: where that comes from.
        outputs: what is written, and where.
        skip_existing: whether images whose results are there are left out.
    """

    config: Config
    info: DatasetInfo
    snapshot: Path
    source: Path
    entries: list[ListEntry]
    left_out: str
    labels: Mapping[str, np.ndarray] | None
    labels_file: Path | None
    outputs: Outputs
    skip_existing: bool


def run_job(read_job: Callable[[], Job], group: Group, device: torch.device) -> None:
    """Segment the images of a job, which are dealt to the processes of the group in turn.

    The main process checks all that can be checked, and what is in the folder of results, before
    anything there changes. Its snapshot is that of all: a run that trains meanwhile may have
    another best one a moment later.

    Args:
        read_job: gives the job; it is called in every process, in the main one first.
        group: the processes that share the images.
        device: this process's.

    Raises:
        UserError: a file, a key or a folder cannot be used.
        InterruptionError: Ctrl-C or SIGTERM came.
    """
    with ExitStack() as lock:
        plan = Plan([], 0, [], {})
        with rank_zero_first(group):
            job = read_job()
            if group.is_rank_zero:
                lock.enter_context(only_process(job.outputs.folder, "inference"))
                require_folders(job.outputs)
                # the network before the images: to open all of them takes longer
                segmenter = Segmenter.from_snapshot(job.snapshot, job.config, device, job.info)
                plan = _checked_plan(job)
        left, snapshot = group.gather((plan.entries, job.snapshot))[0]
        if left:
            if not group.is_rank_zero:
                segmenter = Segmenter.from_snapshot(snapshot, job.config, device, job.info)
            with interruptible(group) as stop:
                if group.is_rank_zero:
                    _begin(job, plan, group, device)
                group.barrier()  # nobody writes before the folder is in order
                test, workers = job.config.TEST, job.config.TRAIN.NUM_WORKERS
                own = left[group.rank :: group.size]
                samples = (load_sample(entry, test, job.labels) for entry in own)
                predictions = segmenter.predict_stream(samples)
                infer(predictions, len(left), job.outputs, workers=workers, group=group, stop=stop)
                group.barrier()  # all is written
        if group.is_rank_zero:
            for kind in job.outputs.kinds:
                print(f"{len(job.entries)} {kind}: {job.outputs.folder_of(kind)}")


def require_folders(outputs: Outputs) -> None:
    """Make the folders of what is wanted; a `UserError` if files cannot be written there."""
    for kind in outputs.kinds:
        require_writable_folder(outputs.folder_of(kind), "--mask-output-dir (OUTPUT_DIR, OUTPUT)")


def _checked_plan(job: Job) -> Plan:
    made_from = origin(job.config, job.info.name, job.snapshot, job.labels_file)
    if job.left_out:
        print(job.left_out)
    plan = plan_results(job.outputs, job.entries, made_from, job.skip_existing)
    if job.skip_existing:
        print(f"{plan.skipped} of {len(job.entries)} images have their results and are skipped")
    if plan.strangers:
        print(
            f"warning: {job.outputs.folder} also holds the results of {len(plan.strangers)} other "
            f"images, as {plan.strangers[0]}, which were made otherwise; they stay"
        )
    if plan.entries:
        sizes = check_samples(plan.entries, job.config.TEST, job.config.TRAIN.NUM_WORKERS)
        if oversize := describe_oversize(sizes, job.config.TEST):
            print(oversize)
    return plan


def _begin(job: Job, plan: Plan, group: Group, device: torch.device) -> None:
    """Say what is done, and make the folder of results tell of it."""
    where = device.type if group.size == 1 else f"{group.size} processes with {device.type}"
    print(f"{len(plan.entries)} images of {job.source}, on {where}, by {job.snapshot}")
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if gpus > group.size:
        print(f"{group.size} of {gpus} GPUs used; NPROC={gpus} before the launch script uses all")
    prepare_folder(job.outputs, plan)
    write_run_info(
        job.outputs.folder,
        job.config,
        [device],
        plan.mark,
        snapshot=str(job.snapshot),
        filelist=str(job.source),
        labels=str(job.labels_file or "none"),
        images=len(job.entries),
        skipped=plan.skipped,
        processes=group.size,
        tf32=False,
    )


def infer(
    predictions: Iterable[tuple[Sample, np.ndarray]],
    count: int,
    outputs: Outputs,
    *,
    workers: int,
    group: Group = SINGLE,
    stop: StopRequest | None = None,
) -> None:
    """Write what is wanted of the images of this process.

    Args:
        predictions: each image with its C×H×W float32 merged masks, made while this loop asks.
        count: how many there are for all processes of the group.
        outputs: what is written, and where.
        workers: processes for CRF and writing, shared among those of the group; 0 for none.
        group: its main process shows how far all are.
        stop: looked at after every image.

    Raises:
        UserError: an image or mask cannot be used, or results cannot be written.
        RuntimeError: something unforeseen went wrong while results were made; it names the image.
        StoppedError: it was requested; what was begun is written.
    """
    # a share of 0 would make the main process do the work, which the network needs
    share = max(1, workers // group.size) if workers else 0
    with result_writer(outputs, share) as write:
        for sample, merged in _track(predictions, count, group):
            if stop is not None and stop.signal is not None:
                raise StoppedError
            write(Result(sample.id, np.array(sample.image), merged, sample.ground_truth))


@contextmanager
def interruptible(group: Group) -> Iterator[StopRequest]:
    """Note Ctrl-C and SIGTERM during the body, and end it with a line that says how to go on.

    Raises:
        InterruptionError: in the main process; the others end without a word.
    """
    stop = StopRequest()
    try:
        with stop.listening():
            yield stop
    except (StoppedError, KeyboardInterrupt, UserError, RuntimeError) as error:
        # a signal to all processes may have ended workers or others of the group first
        if stop.signal is None:
            raise
        status = 128 + stop.signal
        if not group.is_rank_zero:
            raise SystemExit(status) from error
        raise InterruptionError(
            "interrupted; the same command with --skip-existing goes on with the images that are "
            "left",
            status,
        ) from error


def _track(
    predictions: Iterable[tuple[Sample, np.ndarray]], count: int, group: Group
) -> Iterator[tuple[Sample, np.ndarray]]:
    """The predictions; the main process shows how far the group is."""
    if not group.is_rank_zero:
        return iter(predictions)
    done = 0

    def weigh(_: object) -> int:
        # the others are about as far; their parts may be an image shorter
        nonlocal done
        step = min(group.size, count - done)
        done += step
        return step

    every = max(1, count // group.size // LINES_IN_A_LOG)
    return track(predictions, count, "image", "inference", every, weigh=weigh)
