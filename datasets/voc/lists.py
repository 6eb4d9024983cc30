"""How the file lists follow from the id lists that VOC and SBD ship."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from datasets.lists import list_columns
from datasets.voc.errors import DataError, how_to_restore, missing
from datasets.voc.layout import SBD, SBD_AUG, VOC, VOC_TEST, parse_ids
from datasets.voc.sbd_aug import listed_aug_ids
from utils.errors import UserError, reason

# A file list before it is written: (image, mask) or (image,), relative to the data root, by id.
ListLines = list[tuple[Path, ...]]
SHOWN_LINES = 2


@dataclass(frozen=True)
class ListRule:
    """How a list comes from id lists.

    Attributes:
        id_lists: relative to the data root; a folder of masks, which has the ids in their names.
        lines: from the ids in each of these, in this order, to the list.
    """

    id_lists: tuple[Path, ...]
    lines: Callable[..., ListLines]


def voc_lines(ids: set[str]) -> ListLines:
    """VOC's images and masks."""
    return [(VOC.image(i), VOC.mask(i)) for i in sorted(ids)]


def augmented_lines(
    voc_train: set[str], voc_val: set[str], sbd_train: set[str], sbd_val: set[str]
) -> ListLines:
    """(SBD train ∪ SBD val ∪ VOC train) without VOC val; SBD's files wherever SBD has the id."""
    sbd = sbd_train | sbd_val
    sources = {i: SBD if i in sbd else VOC for i in (sbd | voc_train) - voc_val}
    return [(source.image(i), source.mask(i)) for i, source in sorted(sources.items())]


def lines_with_aug(voc_train: set[str], voc_val: set[str], aug: set[str]) -> ListLines:
    """(SegmentationClassAug ∪ VOC train) without VOC val; its masks wherever it has the id."""
    sources = {i: SBD_AUG if i in aug else VOC for i in (aug | voc_train) - voc_val}
    return [(source.image(i), source.mask(i)) for i, source in sorted(sources.items())]


def voc_test_lines(ids: set[str]) -> ListLines:
    """The images of VOC's test set, which has no masks."""
    return [(VOC_TEST.image(i),) for i in sorted(ids)]


TEST_LIST, AUGMENTED_LIST = "test.txt", "train_augvoc.txt"
_VOC_TRAIN, _VOC_VAL = VOC.id_list("train"), VOC.id_list("val")
LIST_RULES: Mapping[str, ListRule] = MappingProxyType(
    {
        "train_voc.txt": ListRule((_VOC_TRAIN,), voc_lines),
        "val_voc.txt": ListRule((_VOC_VAL,), voc_lines),
        AUGMENTED_LIST: ListRule(
            (_VOC_TRAIN, _VOC_VAL, SBD.id_list("train"), SBD.id_list("val")), augmented_lines
        ),
        TEST_LIST: ListRule((VOC_TEST.id_list("test"),), voc_test_lines),
    }
)


_WITH_AUG = ListRule((_VOC_TRAIN, _VOC_VAL, SBD_AUG.path), lines_with_aug)


def list_rules(root: Path) -> dict[str, ListRule]:
    """The rules of the lists that should be in `root`.

    test.txt is there only where there is a voc_test; sbd_aug takes the place of sbd. Raises
    `UserError` where both are.
    """
    has_test = (root / VOC_TEST.path).is_dir()
    rules = {name: rule for name, rule in LIST_RULES.items() if name != TEST_LIST or has_test}
    return rules | ({AUGMENTED_LIST: _WITH_AUG} if has_aug(root) else {})


def has_aug(root: Path) -> bool:
    """Whether `root` has SegmentationClassAug in SBD's place.

    Raises `UserError` where it has both, or a link that leads nowhere.
    """
    folder = root / SBD_AUG.path
    if folder.is_symlink() and not folder.exists():
        problem = f"this link leads nowhere ({folder.readlink()})"
        raise DataError(folder, problem, "mend it, or remove it to train on SBD")
    if not folder.is_dir():
        return False
    if (root / SBD.path).is_dir():
        raise UserError(
            f"{root} has both {SBD.path.parts[0]} and {SBD_AUG.path}, whose masks differ; remove "
            "the one that is not to be trained on"
        )
    return True


def build_lists(root: Path) -> dict[str, ListLines]:
    """The lists that should be in `root`, each sorted by id.

    Raises `DataError` for an id list that is missing or empty.
    """
    return {
        name: rule.lines(*(read_ids(root, file) for file in rule.id_lists))
        for name, rule in list_rules(root).items()
    }


def read_ids(root: Path, file: Path) -> set[str]:
    """The ids in `root`/`file`, one a line, or by the names of masks in a folder.

    Raises `DataError` if it is missing, has none or one that is no file name; `PermissionError` if
    it may not be read.
    """
    try:
        return listed_aug_ids(root / file) if file == SBD_AUG.path else parse_ids(root / file)
    except FileNotFoundError as error:
        raise missing(root, file) from error
    except PermissionError:
        raise
    except OSError as error:
        problem = f"this id list cannot be read ({reason(error)})"
        raise DataError(root / file, problem, how_to_restore(root, file)) from error
    except ValueError as error:
        raise DataError(root / file, str(error), how_to_restore(root, file)) from error


def read_lines(path: Path) -> list[tuple[int, str]] | None:
    """The lines of a list that are not blank, with their numbers; None if it is missing."""
    try:
        # bytes that are no text make a line that no list has
        text = path.read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        return None
    lines = enumerate(text.splitlines(), start=1)
    return [(number, line) for number, line in lines if line.strip()]


def describe_difference(lines: Sequence[tuple[int, str]], expected: ListLines) -> str:
    """What tells a list from the expected one, whose order does not count; "" if nothing does."""
    belonging, seen = set(expected), set()
    foreign, double = [], []
    for number, line in lines:
        columns = list_columns(line)
        if columns not in belonging:
            foreign.append(f"line {number}: {line}")
        elif columns in seen:
            double.append(f"line {number}: {line}")
        seen.add(columns)
    lacking = [" ".join(map(str, columns)) for columns in expected if columns not in seen]
    kinds = (
        ("missing by the id lists", lacking),
        ("not in the id lists", foreign),
        ("there twice", double),
    )
    return ", ".join(
        f"{len(some)} line{'s' * (len(some) > 1)} {kind} ({_shorten(some)})"
        for kind, some in kinds
        if some
    )


def _shorten(lines: Sequence[str]) -> str:
    shown = "; ".join(lines[:SHOWN_LINES])
    return f"{shown}; ..." if len(lines) > SHOWN_LINES else shown
