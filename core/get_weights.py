"""`python -m core.get_weights [NAME ...]`: ImageNet weights and the published snapshot.

Each is downloaded to where the configurations expect it, and verified: by its SHA-256 where that
is known, and by the names and shapes of its entries always. Beside the snapshot go config.yaml and
dataset.yaml, which inference reads.
"""

from __future__ import annotations

import argparse
import sys

from utils.errors import UserError, run_command
from utils.transfer import AddressError, require_http

# stated again, since reading them from the backbones' specs takes PyTorch, seconds to import
NAMES = ("resnet38", "vgg16", "resnet50", "resnet101", "snapshot")


def main() -> None:
    args = parse_args()
    # Imported here, not above: until PyTorch is loaded, Ctrl-C would end in a traceback.
    from core.weights import get

    failed = []
    for name in args.names:
        try:
            get(name, args.url)
        except UserError as error:
            if len(args.names) == 1:
                raise
            print(f"{name}: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
            failed.append(name)
    if failed:
        raise UserError(
            f"these failed, for the reasons above: {', '.join(failed)}; once those are mended: "
            f"`bash launch/get_weights.sh {' '.join(failed)}`"
        )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m core.get_weights", description=__doc__, allow_abbrev=False
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"of {', '.join(NAMES)} (default: all)"
    )
    parser.add_argument("--url", default="", help="a mirror: the folder that holds the files")
    args = parser.parse_args()
    for name in args.names:
        if name.startswith("timm/"):
            raise UserError(
                f"{name}: timm fetches its weights itself; train with --set NET.BACKBONE {name} "
                "NET.PRE_WEIGHTS_PATH timm"
            )
        if name not in NAMES:
            raise UserError(f"there are no weights called {name!r}; there are: {', '.join(NAMES)}")
    if args.url:
        try:
            require_http(args.url)
        except AddressError as error:
            problem = f"WEIGHTS_URL (--url) {args.url!r} is not an http or https address"
            raise UserError(problem) from error
    args.names = list(dict.fromkeys(args.names or NAMES))
    return args


if __name__ == "__main__":
    run_command(main)
