"""Write a file list that pairs images with their pseudo labels, the masks of inference."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from core.mask_arguments import add_mask_arguments, can_check_list, mask_list
from datasets.lists import IMAGE, MASK, ListEntry, csv_text, read_list, require_unique_ids
from utils.errors import UserError, os_errors_end_in, run_command
from utils.files import require_writable_file, write_text


def write_mask_list(entries: Sequence[ListEntry], masks: Path, out: Path) -> tuple[Path, str]:
    """Write a list in which MASK is inference's ID.png in place of the list's own.

    It has lines `IMAGE MASK` or, where a path has a space, is a table. Paths are relative to the
    deepest folder that holds all images and the masks. Links are not followed: what is linked into
    a folder counts as being there.

    Args:
        entries: the images.
        masks: the folder with ID.png.
        out: the list.

    Returns:
        The folder that the paths are relative to, the root to read the list with; and which of the
        two it is, in words.

    Raises:
        UserError: a mask is missing, a path cannot be listed, or the list cannot be written.
    """
    missing = [
        mask for mask in (masks / f"{entry.id}.png" for entry in entries) if not mask.is_file()
    ]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(entries)} masks are missing, as {missing[0]}; infer these "
            "images first (--skip-existing leaves the others as they are)"
        )
    root, pairs = mask_pairs(entries, masks)
    if any(len(path.split()) > 1 for pair in pairs for path in pair):
        form, text = f"rows of a table `{IMAGE},{MASK}`", csv_text([(IMAGE, MASK), *pairs])
    else:
        form, text = "lines `IMAGE MASK`", "".join(f"{image} {mask}\n" for image, mask in pairs)
    with os_errors_end_in("make room there, or choose another --out"):
        write_text(out, text)
    return root, form


def mask_pairs(entries: Sequence[ListEntry], masks: Path) -> tuple[Path, list[tuple[str, str]]]:
    """The root and the paths of `write_mask_list`, whether the masks are there or not.

    Raises:
        UserError: a path has a line break, or begins or ends with a blank, which no list keeps.
    """
    pairs = [(_absolute(entry.image), _absolute(masks / f"{entry.id}.png")) for entry in entries]
    root = Path(os.path.commonpath({path.parent for pair in pairs for path in pair}))
    relative = []
    for pair in pairs:
        image, mask = (str(path.relative_to(root)) for path in pair)
        for path in (image, mask):
            if path.splitlines() != [path.strip()]:
                raise UserError(
                    f"{path!r} has a line break, or a blank at an end, which no list keeps; rename "
                    "it"
                )
        relative.append((image, mask))
    return root, relative


def _absolute(path: Path) -> Path:
    # resolve() would follow links
    return Path(os.path.normpath(path.absolute()))


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_mask_arguments(parser, "the images", out="the list to write")
    parser.add_argument(
        "--check", action="store_true", help="only say what can be known before there are masks"
    )
    return parser.parse_args(argv)


def main() -> None:
    args = parse_args()
    if args.check:
        require_writable_file(args.out, "--out")
        if not can_check_list(args):
            return
    listed = mask_list(args)
    entries = read_list(listed.path, listed.root, listed.info)
    require_unique_ids(entries, listed.path)
    if args.check:
        mask_pairs(entries, args.masks)
        return
    root, form = write_mask_list(entries, args.masks, args.out)
    print(f"{len(entries)} {form}: {args.out}, whose paths start at {root}")


if __name__ == "__main__":
    run_command(main)
