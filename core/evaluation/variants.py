"""What there is to evaluate: a folder's masks, those with CRF in it, or the oracle's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core.evaluation.evaluate import Evaluation, Predict, masks_from
from core.evaluation.oracle import oracle_mask
from core.inference.results import CRF_FOLDER
from datasets.records import DatasetRecord
from utils.metrics import SegmentationScores, segmentation_scores

ORACLE = "oracle"


@dataclass(frozen=True)
class Variant:
    """One kind of predictions.

    Attributes:
        name: `plain`, `crf` or `oracle`, for machines.
        title: the same for readers.
        source: what it is made from: the masks' folder, or the oracle's grid as `128x128`.
        predict: gives the masks, see `evaluate`.
    """

    name: str
    title: str
    source: str
    predict: Predict

    def heading(self, filelist: str) -> str:
        """The line above its table."""
        if self.name == ORACLE:
            return f"Oracle: the ground truth of {filelist}, taken to {self.source} and back"
        return f"Masks of {self.source} against {filelist}"


@dataclass(frozen=True)
class Evaluated:
    """A variant and what `evaluate` counted of it."""

    variant: Variant
    evaluation: Evaluation

    @property
    def scores(self) -> SegmentationScores:
        return segmentation_scores(self.evaluation.histogram)


def mask_variants(folder: str | Path, record: DatasetRecord) -> list[Variant]:
    """The masks FOLDER/ID.png and, where there is such a folder, FOLDER/crf/ID.png."""
    variants = [mask_variant(folder, record)]
    refined = Path(folder) / CRF_FOLDER
    if refined.is_dir():
        variants.append(mask_variant(refined, record))
    return variants


def mask_variant(folder: str | Path, record: DatasetRecord) -> Variant:
    """The masks FOLDER/ID.png; a `UserError` if there is no folder."""
    with_crf = Path(folder).name == CRF_FOLDER
    name, title = ("crf", "with CRF") if with_crf else ("plain", "without CRF")
    return Variant(name, title, str(folder), masks_from(folder, record))


def oracle_variant(size: tuple[int, int], record: DatasetRecord) -> Variant:
    """The ground truth taken to `size` (height, width) pixels and back; it needs no masks."""
    grid = "x".join(map(str, size))
    return Variant(
        ORACLE,
        "oracle",
        grid,
        lambda _entry, ground_truth: oracle_mask(ground_truth, size, record.num_classes),
    )
