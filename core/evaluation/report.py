"""Evaluates masks, and collects all results for the page, the JSON file and TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from core.evaluation.evaluate import Evaluation, evaluate, require_prediction
from core.evaluation.sources import ORACLE, PLAIN, MaskSource
from core.evaluation.text import format_report
from core.inference.writing import CRF_FOLDER
from datasets.info import DatasetInfo
from datasets.lists import ListEntry
from utils.errors import UserError, reason


@dataclass(frozen=True)
class Report:
    """An evaluation that is done.

    Attributes:
        info: the data set.
        filelist: the list's path; where there is none, the folder of the ground truth.
        entries: its images.
        results: each source of masks, the one without CRF first, and what was counted of it.
        run: the run that made the masks; None for the oracle, which takes none.
        date: when, with its time zone.
    """

    info: DatasetInfo
    filelist: str
    entries: list[ListEntry]
    results: list[tuple[MaskSource, Evaluation]]
    run: RunInfo | None
    date: datetime

    @property
    def lack_of_crf(self) -> str:
        """Why masks with CRF were not evaluated, empty if they were or make no sense."""
        sources = [source for source, _ in self.results]
        if [source.name for source in sources] != [PLAIN]:
            return ""
        folder = Path(sources[0].origin) / CRF_FOLDER
        if folder.is_dir():
            return f"not evaluated: {folder} holds no masks of these images"
        return f"not evaluated: there is no folder {folder}"


@dataclass(frozen=True)
class RunInfo:
    """What infer_val.py wrote beside the masks about the run that made them.

    Attributes:
        folder: where the files are looked for.
        environment: environment.yaml's content (command, commit, snapshot, versions), or None
            where there is no such file.
        config: config.yaml's text, or None where there is no such file.
        changed: whether the code differed from the commit, as diff.patch tells; None where there
            is no such file.
    """

    folder: Path
    environment: dict[str, Any] | None
    config: str | None
    changed: bool | None


def evaluate_sources(
    sources: Sequence[MaskSource],
    entries: list[ListEntry],
    filelist: str,
    info: DatasetInfo,
    *,
    allow_missing: bool,
) -> list[tuple[MaskSource, Evaluation]]:
    """Evaluate one source of masks after the other and print their tables.

    Raises:
        UserError: see `evaluate`.
    """
    results: list[tuple[MaskSource, Evaluation]] = []
    for source in sources:
        if results:
            print()
        if not allow_missing and source.name != ORACLE:
            # before any is read: the missing one may be the last
            for entry in entries:
                require_prediction(source.origin, entry)
        print(f"{source.heading(filelist)}\n")
        evaluation = evaluate(entries, source.predict, info, allow_missing=allow_missing)
        for mask in evaluation.left_out:
            print(f"left out: {mask}", file=sys.stderr)
        print(format_report(evaluation, info.classes))
        results.append((source, evaluation))
    return results


def folder_of_run(masks: str | Path) -> Path:
    """Where the files about a run are: beside its masks, or above the folder of those with CRF."""
    folder = Path(masks)
    return folder.parent if folder.name == CRF_FOLDER else folder


def read_run_info(masks: str | Path) -> RunInfo:
    """Read the files about the run beside the masks, or above the folder of those with CRF.

    Raises:
        UserError: a file is there, but cannot be read.
    """
    folder = folder_of_run(masks)
    patch = _read(folder / "diff.patch")
    return RunInfo(
        folder=folder,
        environment=_read_environment(folder / "environment.yaml"),
        config=_read(folder / "config.yaml"),
        changed=None if patch is None else bool(patch),
    )


def _read_environment(path: Path) -> dict[str, Any] | None:
    text = _read(path)
    if text is None:
        return None
    try:
        environment = yaml.safe_load(text)
    except yaml.YAMLError:
        environment = None
    if not isinstance(environment, dict):
        raise UserError(f"{path} holds no run info; restore it, or remove it")
    return environment


def _read(path: Path) -> str | None:
    try:
        # a patch may quote files of any encoding
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(
            f"cannot read {path} ({reason(error)}); restore it, or remove it"
        ) from error
