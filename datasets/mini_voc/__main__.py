"""`python -m datasets.mini_voc --out DIR`: write the mini data set."""

from __future__ import annotations

import argparse

from datasets.coco import COCO
from datasets.mini_voc.coco import MiniCocoSettings, generate_coco
from datasets.mini_voc.folder import FolderSettings, generate_folder
from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.voc import PASCAL_VOC
from utils.errors import UserError, run_command
from utils.files import user_path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.mini_voc", description=__doc__, allow_abbrev=False
    )
    add = parser.add_argument
    add("--out", type=user_path, required=True, help="the folder to write")
    add("--seed", type=int, default=0, help="same seed, same files (default: 0)")
    add(
        "--layout",
        choices=("voc", "coco", "folder"),
        default="voc",
        help="voc: 20 classes, laid out as VOC 2012 and SBD are; coco: the same objects, described "
        "as MS COCO 2014; folder: 6 other classes, as images/, labels.csv and, for evaluation, "
        "masks/ (default: %(default)s)",
    )
    add("--train", type=int, help="voc, coco: images to train on (default: 480)")
    add("--val", type=int, help="voc, coco: images to validate on (default: 100)")
    add("--images", type=int, help="folder: number of images (default: 360)")
    args = parser.parse_args()
    try:
        _generate(args)
    except OSError as error:
        raise UserError(f"{error}; give a folder that can be written as --out") from error


def _generate(args: argparse.Namespace) -> None:
    if args.layout == "folder":
        generate_folder(args.out, FolderSettings(args.seed, **_numbers(args, "images")))
        return
    if args.layout == "coco":
        generate_coco(args.out, MiniCocoSettings(args.seed, **_numbers(args, "train", "val")))
        print(f"next: {COCO.prepare_command(args.out)}")
        return
    generate(args.out, MiniVocSettings(args.seed, **_numbers(args, "train", "val")))
    print(f"next: {PASCAL_VOC.prepare_command(args.out)}")


def _numbers(args: argparse.Namespace, *names: str) -> dict[str, int]:
    """The numbers of images that are given; `names` are those that the layout has."""
    given = {name: getattr(args, name) for name in ("train", "val", "images")}
    given = {name: number for name, number in given.items() if number is not None}
    for name in given:
        if name not in names:
            options = " and ".join(f"--{each}" for each in names)
            raise UserError(f"--layout {args.layout} has no --{name}; give {options} instead")
    return given


if __name__ == "__main__":
    run_command(main)
