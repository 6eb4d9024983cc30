"""Write a file list that pairs images with their pseudo labels, the masks of inference."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from core.arguments import add_mask_arguments
from datasets.lists import ListEntry, read_list, require_unique_ids
from utils.errors import UserError, os_errors_end_in, run_command
from utils.files import require_writable_file, write_text


def write_mask_list(entries: Sequence[ListEntry], masks: Path, out: Path) -> Path:
    """Write lines `IMAGE MASK`, in which MASK is inference's ID.png in place of the list's own.

    Both are relative to the deepest folder that holds all images and the masks. Links are not
    followed: what is linked into a folder counts as being there.

    Args:
        entries: the images.
        masks: the folder with ID.png.
        out: the list.

    Returns:
        The folder that the paths are relative to: the root to read the list with.

    Raises:
        UserError: a mask is missing, a path has a space, or the list cannot be written.
    """
    missing = [
        mask for mask in (masks / f"{entry.id}.png" for entry in entries) if not mask.is_file()
    ]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(entries)} masks are missing, as {missing[0]}; infer these "
            "images first (--skip-existing leaves the others as they are)"
        )
    root, lines = mask_lines(entries, masks)
    with os_errors_end_in("make room there, or choose another --out"):
        write_text(out, "".join(lines))
    return root


def mask_lines(entries: Sequence[ListEntry], masks: Path) -> tuple[Path, list[str]]:
    """The root and the lines of `write_mask_list`, whether the masks are there or not.

    Raises:
        UserError: a path has a space.
    """
    pairs = [(_absolute(entry.image), _absolute(masks / f"{entry.id}.png")) for entry in entries]
    folders = {path.parent for pair in pairs for path in pair}
    root = Path(os.path.commonpath(folders))
    lines = []
    for pair in pairs:
        columns = [str(path.relative_to(root)) for path in pair]
        if len(" ".join(columns).split()) != len(columns):
            raise UserError(
                f"{' and '.join(columns)}: paths with spaces cannot be listed; rename the folders, "
                "or choose another OUTPUT_DIR, EXP or SAVE_ID"
            )
        lines.append(" ".join(columns) + "\n")
    return root, lines


def _absolute(path: Path) -> Path:
    # resolve() would follow links
    return Path(os.path.normpath(path.absolute()))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_mask_arguments(parser, filelist="the images", out="the list to write")
    parser.add_argument(
        "--check", action="store_true", help="only say what can be known before there are masks"
    )
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    entries = read_list(args.filelist, args.data)
    require_unique_ids(entries, args.filelist)
    if args.check:
        require_writable_file(args.out, "--out")
        mask_lines(entries, args.masks)
        return
    root = write_mask_list(entries, args.masks, args.out)
    print(f"{len(entries)} lines `IMAGE MASK`: {args.out}, whose paths start at {root}")


if __name__ == "__main__":
    run_command(main)
