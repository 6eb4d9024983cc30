"""`python -m datasets.mini_voc --out DIR`: write the mini data set."""

from __future__ import annotations

import argparse

from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.voc import PASCAL_VOC
from utils.errors import UserError, run_command
from utils.files import user_path


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m datasets.mini_voc", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("--out", type=user_path, required=True, help="the data root to write")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same files (default: 0)")
    parser.add_argument(
        "--train", type=int, default=480, help="lines of train_augvoc.txt (default: 480)"
    )
    parser.add_argument("--val", type=int, default=100, help="lines of val_voc.txt (default: 100)")
    args = parser.parse_args()
    try:
        generate(args.out, MiniVocSettings(args.seed, args.train, args.val))
    except OSError as error:
        raise UserError(f"{error}; give a folder that can be written as --out") from error
    print(f"next: {PASCAL_VOC.prepare_command(args.out)}")


if __name__ == "__main__":
    run_command(main)
