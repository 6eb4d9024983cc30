"""One section of the check, in this process: `python -m benchmarks.gpu NAME --out FOLDER`."""

from __future__ import annotations

import argparse
import warnings

import torch

from benchmarks.gpu.check import Check
from benchmarks.gpu.sections import SECTIONS
from core.devices import select_device
from utils.errors import run_command
from utils.files import user_path


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks.gpu", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--device", default="cuda", help="cuda (default) or cpu")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes")
    parser.add_argument("--out", type=user_path, required=True, metavar="FOLDER")
    args = parser.parse_args()
    device = select_device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    warnings.simplefilter("default")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=ResourceWarning)
    check = Check(args.section, device, args.tiny, args.out.resolve())
    with check.guarded("the section"):
        SECTIONS[args.section].load()(check)


if __name__ == "__main__":
    run_command(main)
