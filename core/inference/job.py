"""A run of inference: what it works on, its checks, and its part in a group of processes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from core.config import Config
from core.distributed import Group, main_goes_first
from core.inference.folder import Plan, origin, plan_results, prepare_folder
from core.inference.layout import describe_oversize
from core.inference.results import Outputs
from core.inference.run import infer, interruptible
from core.inference.samples import check_samples, load_sample
from core.inference.segmenter import Segmenter
from core.provenance import record_run
from datasets.files import ListEntry
from datasets.records import DatasetRecord
from utils.files import only_process, require_writable_folder


@dataclass(frozen=True)
class Job:
    """What a run of inference works on.

    Attributes:
        config: all of it.
        record: the data set's.
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
    record: DatasetRecord
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
        with main_goes_first(group):
            job = read_job()
            if group.is_main:
                lock.enter_context(only_process(job.outputs.folder, "inference"))
                require_folders(job.outputs)
                # the network before the images: to open all of them takes longer
                segmenter = Segmenter.from_snapshot(job.snapshot, job.config, device, job.record)
                plan = _checked_plan(job)
        left, snapshot = group.gather((plan.entries, job.snapshot))[0]
        if left:
            if not group.is_main:
                segmenter = Segmenter.from_snapshot(snapshot, job.config, device, job.record)
            with interruptible(group) as stop:
                if group.is_main:
                    _begin(job, plan, group, device)
                group.wait()  # nobody writes before the folder is in order
                test, workers = job.config.TEST, job.config.TRAIN.NUM_WORKERS
                own = left[group.rank :: group.size]
                samples = (load_sample(entry, test, job.labels) for entry in own)
                predictions = segmenter.predict_stream(samples)
                infer(predictions, len(left), job.outputs, workers=workers, group=group, stop=stop)
                group.wait()  # all is written
        if group.is_main:
            for kind in job.outputs.kinds:
                print(f"{len(job.entries)} {kind}: {job.outputs.folder_of(kind)}")


def require_folders(outputs: Outputs) -> None:
    """Make the folders of what is wanted; a `UserError` if files cannot be written there."""
    for kind in outputs.kinds:
        require_writable_folder(outputs.folder_of(kind), "--mask-output-dir (OUTPUT_DIR, OUTPUT)")


def _checked_plan(job: Job) -> Plan:
    made_from = origin(job.config, job.record.name, job.snapshot, job.labels_file)
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
    record_run(
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
