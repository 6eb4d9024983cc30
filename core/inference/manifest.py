"""The folder of results: what made them, which of them can stay, and which are made anew.

A record beside the results, results.json, says what they were made from, and of which files. It is
written before the first result, and what it does not hold for is removed before that; so whatever
is there when a process is killed, is what the record says.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from core.config import Config
from core.inference.writing import KINDS, Outputs
from datasets.files import ListEntry
from utils.errors import UserError, os_errors_end_in
from utils.files import remove_leftovers, write_text

RECORD = "results.json"
# keys without influence on results: images are told apart by their files, and the rest of these is
# about training
NO_INFLUENCE = frozenset(
    {"TEST.BATCH_SIZE", "TEST.DATA_ROOT", "NET.PRE_WEIGHTS_PATH", "NET.OPT", "NET.LR", "NET.BETA1"}
    | {"NET.MOMENTUM", "NET.WEIGHT_DECAY", "NET.LOSS", "NET.MASK_LOSS_BCE"}
)
# of a run that went on, see `Plan.mark`
LATER_RECORD = re.compile(r"(config|environment|diff)_from_\d{5,}\.(yaml|patch)")
CHUNK = 1 << 20
SHOWN_DIGITS = 15

Identity = list[int]


@dataclass(frozen=True)
class Plan:
    """What is to be done in a folder of results.

    Attributes:
        entries: the images whose results are to be made.
        skipped: how many others of the list have theirs.
        strangers: ids with results in the folder of which nobody knows what made them, or that
            were made otherwise.
        record: what results.json is to hold.
    """

    entries: list[ListEntry]
    skipped: int
    strangers: list[str]
    record: dict[str, Any]

    @property
    def mark(self) -> str:
        """Stands in the names of a run's records, so that it keeps those of the part before it."""
        return f"_from_{self.skipped:05d}" if self.skipped else ""


def origin(
    config: Config, dataset: str, snapshot: Path, labels: Path | None = None
) -> dict[str, Any]:
    """All that results depend on but the images: names to values that JSON can hold.

    Args:
        config: its sections TEST and NET count, but for keys that results do not depend on.
        dataset: the data set's name.
        snapshot: its content counts.
        labels: the file with the images' labels, if there is one; its content counts.

    Raises:
        UserError: a file cannot be read.
    """
    sections = {"TEST": config.TEST, "NET": config.NET}
    keys = {
        f"{section}.{key}": list(value) if isinstance(value, tuple) else value
        for section, values in sections.items()
        for key, value in dataclasses.asdict(values).items()
    }
    files = {"the snapshot": snapshot, "the labels": labels}
    return {
        "the data set": dataset,
        **{name: path and f"sha256 {_sha256(path)}" for name, path in files.items()},
        **{key: value for key, value in keys.items() if key not in NO_INFLUENCE},
    }


def plan_results(
    outputs: Outputs, entries: Sequence[ListEntry], made_from: dict[str, Any], skip_existing: bool
) -> Plan:
    """Decide which images of a list are to be segmented; nothing is changed.

    With `skip_existing`, an image is left out if all its wanted files are there, made from the
    same, and of an image (and mask) that has not changed since by its size and time of change.

    Args:
        outputs: what is wanted, and where.
        entries: the list, its ids unique.
        made_from: see `origin`.
        skip_existing: whether results that are there may stay.

    Raises:
        UserError: `skip_existing`, but the results that are there were made from something else;
            a result would overwrite an image or mask of the list.
    """
    _require_no_input_among(outputs, entries)
    record_path = outputs.folder / RECORD
    found = {kind: _ids(outputs, kind) for kind in KINDS}
    earlier = _read_record(record_path)
    # the mask itself alone is no result of ours: people keep pictures of their own beside it
    there = set().union(*(ids for kind, ids in found.items() if kind != "masks"))
    if skip_existing and (earlier or there):
        _require_same(earlier, made_from, record_path)
    known = earlier["images"] if earlier and earlier["made_from"] == made_from else {}

    images = {entry.id: _identity(entry) for entry in entries}
    done = {
        name
        for name, identity in images.items()
        if skip_existing
        and identity
        and known.get(name) == identity
        and all(name in found[kind] for kind in outputs.kinds)
    }
    left = [entry for entry in entries if entry.id not in done]
    return Plan(
        left,
        len(done),
        sorted(there - images.keys() - known.keys()),
        {"made_from": made_from, "images": {**known, **images}},
    )


def prepare_folder(outputs: Outputs, plan: Plan) -> None:
    """Remove what is to be made anew, and what killed processes left; write the record.

    No other process may be writing there.

    Raises:
        UserError: the folder cannot be changed.
    """
    with os_errors_end_in(
        "make it writable, or choose another --mask-output-dir (OUTPUT_DIR, OUTPUT)"
    ):
        for kind in KINDS:
            folder = outputs.folder_of(kind)
            remove_leftovers(folder, r".+\.(png|npz|json|yaml|patch)")
            for entry in plan.entries:
                outputs.path(kind, entry.id).unlink(missing_ok=True)
            if kind not in outputs.kinds and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if not plan.skipped:
            # records of parts of a run that is void now
            for path in outputs.folder.iterdir():
                if LATER_RECORD.fullmatch(path.name):
                    path.unlink()
        write_text(outputs.folder / RECORD, json.dumps(plan.record, indent=1) + "\n")


def _require_no_input_among(outputs: Outputs, entries: Sequence[ListEntry]) -> None:
    inputs = [path for entry in entries for path in (entry.image, entry.mask) if path is not None]
    # one folder or two hold them all, and resolving takes time
    resolved = {folder: folder.resolve() for folder in {path.parent for path in inputs}}
    places = {(outputs.folder_of(kind).resolve(), suffix) for kind, (_, suffix) in KINDS.items()}
    ids = {entry.id for entry in entries}
    for path in inputs:
        if (resolved[path.parent], path.suffix) in places and path.stem in ids:
            raise UserError(
                f"{path} would be overwritten by a result; choose another --mask-output-dir "
                "(OUTPUT_DIR, OUTPUT)"
            )


def _require_same(earlier: Mapping[str, Any] | None, made_from: dict[str, Any], path: Path) -> None:
    remedy = (
        "choose another --mask-output-dir (OUTPUT_DIR, SAVE_ID, OUTPUT), or leave out "
        "--skip-existing, which makes all anew"
    )
    if earlier is None:
        raise UserError(
            f"--skip-existing: {path}, which says what made the results there, does not exist or "
            f"is damaged; {remedy}"
        )
    before = earlier["made_from"]
    differing = [
        f"{name} was {_shown(before.get(name))}, is {_shown(made_from.get(name))}"
        for name in {**before, **made_from}
        if before.get(name) != made_from.get(name)
    ]
    if differing:
        raise UserError(
            f"--skip-existing: the results in {path.parent} were made otherwise "
            f"({'; '.join(differing)}); {remedy}"
        )


def _read_record(path: Path) -> dict[str, Any] | None:
    """What results.json holds, or None if it is not there or not whole."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(record, dict) and all(
        isinstance(record.get(name), dict) for name in ("made_from", "images")
    )
    return record if whole else None


def _ids(outputs: Outputs, kind: str) -> set[str]:
    """The images that have a file of this kind."""
    folder, suffix = outputs.folder_of(kind), KINDS[kind][1]
    return {path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}")}


def _identity(entry: ListEntry) -> Identity | None:
    """What tells an entry's files from others without opening them; None if they are not there."""
    identity = []
    for path in (entry.image, entry.mask):
        if path is not None:
            try:
                status = path.stat()
            except OSError:
                return None
            identity += [status.st_size, status.st_mtime_ns]
    return identity


def _sha256(path: Path) -> str:
    digest = hashlib.sha256(usedforsecurity=False)
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    return digest.hexdigest()


def _shown(value: object) -> str:
    text = str(value)
    return text[:SHOWN_DIGITS] if text.startswith("sha256 ") else text
