"""A picture of results: image, ground truth, prediction and CRF for a few images of a list."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from core.evaluation.evaluate import read_prediction
from core.inference.writing import CRF_FOLDER
from core.mask_arguments import add_mask_arguments, mask_list
from datasets.files import read_pair, require_classes
from datasets.info import DatasetInfo
from datasets.lists import ListEntry, read_list, require_masks
from utils.drawing import blend, colorize, enlarge, legend, picture
from utils.errors import UserError, run_command
from utils.files import atomic_path

TITLES = ("image", "ground truth", "prediction", "prediction + CRF")
# panels below this many pixels are enlarged, so that small images can be seen
MIN_SIDE = 160


def draw_results(entries: list[ListEntry], masks: Path, info: DatasetInfo) -> np.ndarray:
    """Draw one row for each entry, with a legend of the classes that occur below them.

    Args:
        entries: images with their ground truth.
        masks: the folder with ID.png and crf/ID.png.
        info: gives the classes' names and colours.

    Returns:
        H×W×3 uint8.

    Raises:
        UserError: a file is missing or unreadable, its size is not the ground truth's, or it holds
            values that are no classes.
    """
    require_masks(entries, "draw from a list that names masks")
    rows = []
    shown: set[int] = set()
    for entry in entries:
        image, ground_truth = read_pair(entry)
        require_classes(ground_truth, entry.mask, info)
        paths = masks / f"{entry.id}.png", masks / CRF_FOLDER / f"{entry.id}.png"
        predictions = [read_prediction(path, ground_truth.shape, info) for path in paths]
        labels = [ground_truth, *predictions]
        shown.update(int(index) for mask in labels for index in np.unique(mask))
        factor = -(-MIN_SIDE // min(ground_truth.shape))
        photograph = enlarge(np.array(image), factor, smooth=True)
        colours = [enlarge(colorize(mask, info.palette), factor, smooth=False) for mask in labels]
        rows.append([photograph, *(blend(photograph, colour) for colour in colours)])

    grid = picture(rows, TITLES)
    classes = sorted(index for index in shown if index < info.num_classes)
    names = legend(info.classes, info.palette, classes, width=grid.shape[1])
    return np.concatenate([grid, names], axis=0)


def spread(entries: list[ListEntry], count: int) -> list[ListEntry]:
    """`count` entries evenly spaced over the list, the first and the last among them."""
    indices = np.linspace(0, len(entries) - 1, min(count, len(entries))).round().astype(int)
    return [entries[index] for index in indices]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    add_mask_arguments(parser, "lines of `IMAGE MASK`, or a table", out="a .png to write")
    parser.add_argument("--count", type=int, default=6, help="how many images (6)")
    args = parser.parse_args(argv)
    if args.count < 1:
        raise UserError(f"--count {args.count}: expected at least 1")
    if args.out.suffix.lower() != ".png":
        raise UserError(f"--out {args.out}: pictures are written as .png")
    return args


def main() -> None:
    args = parse_args()
    listed = mask_list(args)
    entries = spread(read_list(listed.path, listed.root, listed.info), args.count)
    drawn = draw_results(entries, args.masks, listed.info)
    try:
        with atomic_path(args.out) as temporary:
            Image.fromarray(drawn).save(temporary, format="PNG")
    except OSError as error:
        raise UserError(f"cannot write the picture to {args.out} ({error})") from error
    print(args.out)


if __name__ == "__main__":
    run_command(main)
