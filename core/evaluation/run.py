"""Evaluating all that was asked for, each with its table."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from core.evaluation.evaluate import evaluate, require_prediction
from core.evaluation.report import format_report
from core.evaluation.variants import ORACLE, Evaluated, Variant
from datasets.files import ListEntry
from datasets.records import DatasetRecord


def evaluate_variants(
    variants: Sequence[Variant],
    entries: list[ListEntry],
    filelist: str,
    record: DatasetRecord,
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
        evaluation = evaluate(entries, variant.predict, record, allow_missing=allow_missing)
        for mask in evaluation.left_out:
            print(f"left out: {mask}", file=sys.stderr)
        print(format_report(evaluation, record.classes))
        evaluated.append(Evaluated(variant, evaluation))
    return evaluated


def _require_masks(variants: Sequence[Variant], entries: list[ListEntry]) -> None:
    """Say that a mask is missing before any are read: the last one's may be looked for last."""
    for variant in variants:
        if variant.name != ORACLE:
            for entry in entries:
                require_prediction(variant.source, entry)
