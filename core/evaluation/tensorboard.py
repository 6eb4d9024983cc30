"""The evaluation's numbers as TensorBoard scalars."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from core.evaluation.report import Report, RunInfo
from core.evaluation.sources import CRF, ORACLE, PLAIN
from utils.errors import UserError
from utils.metrics import MEASURES, SegmentationScores, means, means_of_lacking_groups

NAMES = dict(zip(MEASURES, ("IoU", "precision", "recall"), strict=True))
MEAN_NAMES = dict(zip(MEASURES, ("mIoU", "mean_precision", "mean_recall"), strict=True))
FOLDERS = {PLAIN: "eval", CRF: "eval_crf", ORACLE: "eval_oracle"}


def require_tensorboard() -> None:
    """Raise `UserError` unless the packages that `write_events` takes are installed."""
    if lacks := [name for name in ("torch", "tensorboard") if not find_spec(name)]:
        raise UserError(
            f"--tensorboard takes {' and '.join(lacks)}, which this Python lacks; install "
            "requirements.txt, or leave it out"
        )


def write_events(folder: str | Path, report: Report, step: int) -> list[Path]:
    """Write scalars in [0, 1] below `folder`, to a writer for each source of masks (`FOLDERS`).

    00_background/IoU to 20_tv/monitor/IoU, the same with precision and recall; all/mIoU,
    all/mean_precision and all/mean_recall over all classes; all_wo_BG/... over the objects;
    occurring/mIoU and occurring_wo_BG/mIoU over those that occur in the ground truth, where some
    do not. They take the place of what an earlier evaluation wrote at the same step.

    Returns:
        The writers' folders.

    Raises:
        UserError: a folder cannot be written to.
    """
    # it imports torch, which takes seconds and which evaluating masks does without
    from utils.event_files import EventWriter

    folders = []
    for source, evaluation in report.results:
        target = Path(folder) / FOLDERS[source.name]
        suffix = f".step{step}"
        try:
            earlier = list(target.glob(f"events.out.tfevents.*{suffix}"))
            with EventWriter(target, filename_suffix=suffix) as writer:
                for tag, value in scalars(evaluation.scores, report.info.classes):
                    writer.add_scalar(tag, value, step)
            for path in earlier:
                path.unlink()
        except OSError as error:
            raise UserError(f"cannot write events to {target} ({error.strerror})") from error
        folders.append(target)
    return folders


def scalars(scores: SegmentationScores, classes: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Tags and values of one source of masks; see `write_events`."""
    for measure, name in NAMES.items():
        values = getattr(scores, measure)
        for index, label in enumerate(classes):
            yield f"{index:02d}_{label}/{name}", float(values[index])
    for group, first in (("all", 0), ("all_wo_BG", 1)):
        for measure, value in means(scores, first).items():
            yield f"{group}/{MEAN_NAMES[measure]}", value
    tags = {"objects": "occurring_wo_BG/mIoU", "classes": "occurring/mIoU"}
    for name, found in means_of_lacking_groups(scores).items():
        yield tags[name], found["iou"]


def snapshot_step(run: RunInfo | None) -> int:
    """The epoch of the snapshot that made the masks, or 0 where that is not known."""
    from core.checkpoint import snapshot_at

    environment = (run and run.environment) or {}
    snapshot = snapshot_at(Path(str(environment.get("snapshot", ""))))
    return snapshot.epoch if snapshot else 0
