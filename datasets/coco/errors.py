"""What is wrong with a file of COCO's under a data root, with the command that mends it."""

from __future__ import annotations

import shlex
from pathlib import Path

from datasets.coco import COCO
from datasets.coco.archives import HOST
from datasets.coco.layout import MASKS, SPLITS, TOP, is_mini_coco
from datasets.voc.errors import DataError
from utils.errors import python_command


def broken(root: Path, path: Path, problem: str) -> DataError:
    """The error of `root`/`path`, which is missing or wrong."""
    return DataError(root / path, problem, how_to_restore(root, path))


def how_to_restore(root: Path, path: Path) -> str:
    """What to do where `root`/`path`, a file or folder of COCO's, is missing or broken."""
    link = next(
        (root / part for part in (path, *path.parents[:-1]) if (root / part).is_symlink()), None
    )
    if link:
        return f"mend your copy ({link} is a link to {link.resolve()})"
    there = (root / path).exists()
    if path.is_relative_to(MASKS):
        return f"{'delete it and ' if there else ''}run `{COCO.prepare_command(root)}`"
    if is_mini_coco(root):
        command = python_command("datasets.mini_voc", "--layout", "coco", "--out", str(root))
        return f"{'delete it and ' if there else ''}draw mini-COCO again: {command}"
    part = root.joinpath(*path.parts[:2])
    one = ""
    if path.parent in (split.images for split in SPLITS):
        # one image of 13 GB; COCO's server has each by itself
        address = f"{HOST}/{path.relative_to(TOP)}"
        one = f"fetch it with `{shlex.join(['curl', '-fo', str(root / path), address])}`; or "
    gone = f"remove {part} and " if path != TOP and part.exists() else ""
    return (
        f"{one}{gone}run `{COCO.get_command(root)}`, which links the copy that COCO=PATH before it "
        "names, or else downloads it"
    )
