"""`python -m datasets.describe FOLDER --out DIR`: make a data set of a folder of images.

Writes DIR/dataset.yaml, labels.csv, images.csv, train.csv and val.csv, prints what the images hold,
and warns of what cannot be learnt from them. FOLDER, with its subfolders, is never touched. Run
again on a changed folder it says what came and went.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from datasets.image_folder.content import LABELS_FILES
from datasets.image_folder.describe import describe
from utils.errors import UserError, run_command
from utils.files import user_path
from utils.missing import missing_names_to
from utils.processes import available_cpus


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.describe", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("folder", metavar="FOLDER", type=user_path, help="the images, subfolders too")
    add(
        "--labels",
        metavar="FILE",
        type=user_path,
        help="what is in the images, in any format of docs/data.md (default: the file called "
        f"{', '.join(LABELS_FILES)} in FOLDER or beside it, or FOLDER as a folder a class)",
    )
    add("--out", metavar="DIR", type=user_path, required=True, help="the folder to write")
    add(
        "--val-share",
        type=float,
        default=0.1,
        help="share of the images to validate on (default: %(default)s)",
    )
    cpus = available_cpus()
    add("--workers", type=int, default=cpus, help="processes that open images (default: CPUs)")
    add(
        "--missing-to",
        metavar="FILE",
        type=user_path,
        help="where images are unreadable or without labels, write the names of all of them here",
    )
    args = parser.parse_args()
    _check(args)
    with missing_names_to(args.missing_to):
        describe(args.folder, args.out, args.labels, args.val_share, min(args.workers, cpus))


def _check(args: argparse.Namespace) -> None:
    if not 0 < args.val_share < 1:
        raise UserError(f"--val-share {args.val_share}: give a number between 0 and 1, as 0.1")
    if args.workers < 1:
        raise UserError(f"--workers {args.workers}: give at least 1")
    file: Path | None = args.missing_to
    if file and file.resolve().is_relative_to(args.folder.resolve()):
        raise UserError(
            f"--missing-to {file} is in {args.folder}, which is never touched; choose another"
        )


if __name__ == "__main__":
    run_command(main)
