"""The manifest of a folder of results: what they were made from, and which of them can stay.

The manifest, results.json, names the settings and files that the results beside it were made from.
Results that do not match it are removed, then it is written, and only then are results made; so it
describes whatever is there when a process is killed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from core.config import Config
from core.inference.writing import KINDS, PAGE_FOLDER, Outputs
from datasets.info import DatasetInfo
from datasets.lists import ListEntry
from utils.errors import UserError, os_errors_end_in
from utils.files import file_digest, remove_leftovers, write_text

MANIFEST = "results.json"
PAGE = "index.html"
# keys without influence on results: where images lie (their files identify them), and training's
NO_INFLUENCE = frozenset(
    {"TEST.BATCH_SIZE", "TEST.DATA_ROOT", "TEST.NUM_CLASSES", "NET.PRE_WEIGHTS_PATH", "NET.OPT"}
    | {"NET.LR", "NET.BETA1", "NET.MOMENTUM", "NET.WEIGHT_DECAY", "NET.LOSS", "NET.MASK_LOSS_BCE"}
    | {"NET.REFINE"}
)
# run info of runs that continued an earlier one
LATER_RUN_INFO = re.compile(r"(config|dataset|environment|diff)_from_\d{5,}\.(yaml|patch)")
SHOWN_DIGITS = 15

Manifest = dict[str, Any]
Identity = list[int]


def origin(
    config: Config, info: DatasetInfo, snapshot: Path, labels: Path | None = None
) -> dict[str, Any]:
    """All that results depend on except the images: names to values that JSON can hold.

    Args:
        config: its sections TEST and NET count, except for keys that results do not depend on.
        info: the data set; its name and classes count.
        snapshot: its content counts.
        labels: the file or folder with the images' labels, if there is one; its content counts.

    Raises:
        UserError: a file cannot be read.
    """
    files = {"the snapshot": snapshot, "the labels": labels}
    return {
        "the data set": info.name,
        "the classes": list(info.classes),
        **{name: path and f"sha256 {_sha256(path)}" for name, path in files.items()},
        **_keys(config),
    }


def _keys(config: Config) -> dict[str, Any]:
    """The keys of TEST and NET that results depend on."""
    sections = {"TEST": config.TEST, "NET": config.NET}
    keys = {
        f"{section}.{key}": list(value) if isinstance(value, tuple) else value
        for section, values in sections.items()
        for key, value in dataclasses.asdict(values).items()
    }
    return {key: value for key, value in keys.items() if key not in NO_INFLUENCE}


def plan_results(
    outputs: Outputs,
    entries: Sequence[ListEntry],
    made_from: dict[str, Any],
    skip_existing: bool,
    renew: bool = False,
) -> tuple[list[ListEntry], Manifest]:
    """Decide which images of a list are to be segmented; nothing is changed.

    With `skip_existing`, an image is skipped if all its wanted files exist and were made from the
    same, and neither size nor modification time of the image (and its mask) has changed since. How
    many are skipped is printed, and a warning if the folder also holds results of other images
    which were made from something else.

    Args:
        outputs: what is wanted, and where.
        entries: the list, its ids unique.
        made_from: see `origin`.
        skip_existing: whether existing results may stay.
        renew: make anew all that were made from something else, in place of an error.

    Returns:
        The images that are to be segmented, and the folder's new manifest.

    Raises:
        UserError: `skip_existing`, but the existing results were made from something else; a result
            would overwrite an image or mask of the list.
    """
    _require_no_input_among(outputs, entries)
    path = outputs.folder / MANIFEST
    found = {kind: _ids(outputs, kind) for kind in KINDS}
    earlier = _read_manifest(path)
    # ID.png alone does not count as a result of ours: people keep pictures of their own there
    existing = set().union(*(ids for kind, ids in found.items() if kind != "masks"))
    if skip_existing and not renew and (earlier or existing):
        _require_same(earlier, made_from, path)
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
    if skip_existing:
        print(f"{len(done)} of {len(entries)} images have their results and are skipped")
    if others := sorted(existing - images.keys() - known.keys()):
        print(
            f"warning: {outputs.folder} also holds the results of {len(others)} other images, as "
            f"{others[0]}, which were made otherwise; they stay"
        )
    left = [entry for entry in entries if entry.id not in done]
    return left, {"made_from": made_from, "images": {**known, **images}}


def prepare_folder(
    outputs: Outputs, left: Sequence[ListEntry], manifest: Manifest, continued: bool
) -> None:
    """Remove results that are to be made anew, and leftovers of killed processes; write a manifest.

    No other process may be writing there.

    Args:
        outputs: what is wanted, and where.
        left: the images that are to be segmented.
        manifest: see `plan_results`.
        continued: whether results of the list stay, and with them the run info about them.

    Raises:
        UserError: the folder cannot be changed.
    """
    with os_errors_end_in(
        "make it writable, or choose another --mask-output-dir (OUTPUT_DIR, OUTPUT)"
    ):
        # what it shows is about to change; without the folder, a file of this name is not ours
        if (outputs.folder / PAGE_FOLDER).is_dir():
            (outputs.folder / PAGE).unlink(missing_ok=True)
        for kind in KINDS:
            folder = outputs.folder_of(kind)
            remove_leftovers(folder, r".+\.(png|npz|jpg|json|yaml|patch|html)")
            for entry in left:
                outputs.path(kind, entry.id).unlink(missing_ok=True)
            if kind not in outputs.kinds and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        if not continued:
            for path in outputs.folder.iterdir():
                if LATER_RUN_INFO.fullmatch(path.name):
                    path.unlink()
        write_text(outputs.folder / MANIFEST, json.dumps(manifest, indent=1) + "\n")


def _require_no_input_among(outputs: Outputs, entries: Sequence[ListEntry]) -> None:
    inputs = [path for entry in entries for path in (entry.image, entry.mask) if path is not None]
    # resolving takes time, and most lists have one folder or two
    resolved = {folder: folder.resolve() for folder in {path.parent for path in inputs}}
    targets = {(outputs.folder_of(kind).resolve(), suffix) for kind, (_, suffix) in KINDS.items()}
    ids = {entry.id for entry in entries}
    for path in inputs:
        if (resolved[path.parent], path.suffix) in targets and path.stem in ids:
            raise UserError(
                f"{path} would be overwritten by a result; choose another --mask-output-dir "
                "(OUTPUT_DIR, OUTPUT)"
            )


def _require_same(earlier: Manifest | None, made_from: dict[str, Any], path: Path) -> None:
    remedy = (
        "choose another --mask-output-dir (OUTPUT_DIR, SAVE_ID, OUTPUT), or leave out "
        "--skip-existing to make all anew"
    )
    if earlier is None:
        raise UserError(f"--skip-existing: {path} does not exist or is damaged; {remedy}")
    before = earlier["made_from"]
    differing = [
        f"{name} was {_shown(before.get(name))}, is {_shown(made_from.get(name))}"
        for name in {**before, **made_from}
        if before.get(name) != made_from.get(name)
    ]
    if differing:
        raise UserError(
            f"--skip-existing: other settings made the results in {path.parent} "
            f"({'; '.join(differing)}); {remedy}"
        )


def _read_manifest(path: Path) -> Manifest | None:
    """The content of results.json, or None if it is missing or damaged.

    Keys that the version which wrote it did not know yet had the effect of their defaults.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    valid = isinstance(manifest, dict) and all(
        isinstance(manifest.get(name), dict) for name in ("made_from", "images")
    )
    if not valid:
        return None
    manifest["made_from"] = {**_keys(Config()), **manifest["made_from"]}
    return manifest


def _ids(outputs: Outputs, kind: str) -> set[str]:
    """The images that have a file of this kind."""
    folder, suffix = outputs.folder_of(kind), KINDS[kind][1]
    return {path.name.removesuffix(suffix) for path in folder.glob(f"*{suffix}")}


def _identity(entry: ListEntry) -> Identity | None:
    """Sizes and modification times of an entry's files; None if one is missing."""
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
    """The digest of a file; of a folder, that of its files' names and sizes, or what XML says."""
    try:
        if path.is_dir():
            files = sorted(file for file in path.rglob("*") if file.is_file())
            facts = [(str(file.relative_to(path)), _identity_as_label(file)) for file in files]
            return hashlib.sha256(repr(facts).encode(errors="surrogateescape")).hexdigest()
        return file_digest(path, "sha256")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _identity_as_label(file: Path) -> int | str:
    # of images in class folders only the names say something; annotations may change in place
    return file_digest(file, "sha256") if file.suffix.lower() == ".xml" else file.stat().st_size


def _shown(value: object) -> str:
    text = str(value)
    return text[:SHOWN_DIGITS] if text.startswith("sha256 ") else text
