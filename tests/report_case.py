"""A data root for the tests of reports."""

import numpy as np
from in_process import run_main
from PIL import Image

from datasets.files import write_mask
from datasets.voc import PASCAL_VOC
from eval_seg import main

SIZE = (6, 8)
NAMES = [f"2007_{number:06d}" for number in range(9)]
CLASSES = (1, 2, 20)


def write(path, mask):
    write_mask(path, np.asarray(mask, dtype=np.uint8), PASCAL_VOC.palette)


def make_data(root, names, seed=0):
    """Images, ground truth, masks in `out` and in `out/crf`, which are nearer to the truth.

    An image has one of three classes; a tenth of the pixels is ambiguous, some predictions are no
    class.
    """
    rng = np.random.default_rng(seed)
    for number, name in enumerate(names):
        pixels = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        (root / "img").mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / "img" / f"{name}.jpg")
        truth = np.where(rng.random(SIZE) < 0.4, CLASSES[number % 3], 0)
        predicted = np.where(rng.random(SIZE) < 0.3, rng.choice([0, 2, 20, 255], SIZE), truth)
        refined = np.where(rng.random(SIZE) < 0.7, truth, predicted)
        write(root / "gt" / f"{name}.png", np.where(rng.random(SIZE) < 0.1, 255, truth))
        write(root / "out" / f"{name}.png", predicted)
        write(root / "out" / "crf" / f"{name}.png", refined)
    lines = [f"img/{name}.jpg gt/{name}.png\n" for name in names]
    (root / "list.txt").write_text("".join(lines))
    return root


def eval_seg(data, *arguments):
    """Run the command in the data root, on its list."""
    return run_main(main, "--data", data, "--filelist", "list.txt", *arguments, cwd=data)


def table(data, masks):
    """What is printed for the masks of one folder, before what follows them."""
    done = eval_seg(data, "--masks", masks)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.partition("left out\n")[0] + "left out\n"


def slow_counts(data, masks):
    """The histogram, counted pixel by pixel."""
    counts = np.zeros((21, 22), dtype=np.int64)
    for name in NAMES:
        truth = np.array(Image.open(data / "gt" / f"{name}.png"))
        predicted = np.array(Image.open(data / masks / f"{name}.png"))
        for row, column in zip(truth.flat, predicted.flat, strict=True):
            if row < 21:
                counts[row, min(column, 21)] += 1
    return counts
