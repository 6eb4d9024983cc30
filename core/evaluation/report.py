"""All that is known when an evaluation is done, for the page, the JSON file and TensorBoard."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from core.evaluation.evaluate import evaluate, require_prediction
from core.evaluation.sources import ORACLE, Evaluated, Variant
from core.evaluation.text import format_report
from core.inference.writing import CRF_FOLDER
from datasets.files import ListEntry, reason
from datasets.info import DatasetInfo
from utils.errors import UserError


@dataclass(frozen=True)
class RunRecord:
    """What infer_val.py has noted of the run that made the masks, beside them.

    Attributes:
        folder: where that is looked for.
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


@dataclass(frozen=True)
class Outcome:
    """An evaluation that is done.

    Attributes:
        info: the data set.
        filelist: the list's path.
        entries: its lines.
        evaluated: what was evaluated, one or more variants, the one without CRF first.
        run: the run that made the masks; None for the oracle, which takes none.
        date: when, with its time zone.
    """

    info: DatasetInfo
    filelist: str
    entries: list[ListEntry]
    evaluated: list[Evaluated]
    run: RunRecord | None
    date: datetime

    @property
    def lack_of_crf(self) -> str:
        """Why masks with CRF were not evaluated, empty if they were or make no sense."""
        variants = [each.variant for each in self.evaluated]
        if [variant.name for variant in variants] != ["plain"]:
            return ""
        return f"not evaluated: there is no folder {Path(variants[0].source) / CRF_FOLDER}"


def read_run(masks: str | Path) -> RunRecord:
    """Read the records beside the masks, or above the folder of those with CRF.

    Raises:
        UserError: a record is there, but cannot be read.
    """
    folder = Path(masks)
    if folder.name == CRF_FOLDER:
        folder = folder.parent
    path = folder / "environment.yaml"
    text = _read(path)
    environment = None
    if text is not None:
        try:
            environment = yaml.safe_load(text)
        except yaml.YAMLError:
            environment = None
        if not isinstance(environment, dict):
            raise UserError(f"{path} holds no record of a run; restore it, or remove it")
    patch = _read(folder / "diff.patch")
    changed = None if patch is None else bool(patch)
    return RunRecord(folder, environment, _read(folder / "config.yaml"), changed)


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


def evaluate_variants(
    variants: Sequence[Variant],
    entries: list[ListEntry],
    filelist: str,
    info: DatasetInfo,
    *,
    allow_missing: bool,
) -> list[Evaluated]:
    """Evaluate variants one after the other and print their tables.

    Raises:
        UserError: see `evaluate`.
    """
    if not allow_missing:
        _require_masks(variants, entries)
    evaluated = []
    for variant in variants:
        if evaluated:
            print()
        print(f"{variant.heading(filelist)}\n")
        evaluation = evaluate(entries, variant.predict, info, allow_missing=allow_missing)
        for mask in evaluation.left_out:
            print(f"left out: {mask}", file=sys.stderr)
        print(format_report(evaluation, info.classes))
        evaluated.append(Evaluated(variant, evaluation))
    return evaluated


def _require_masks(variants: Sequence[Variant], entries: list[ListEntry]) -> None:
    """Say that a mask is missing before any are read: the last one's may be looked for last."""
    for variant in variants:
        if variant.name != ORACLE:
            for entry in entries:
                require_prediction(variant.source, entry)
