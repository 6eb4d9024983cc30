"""`python -m core.get_weights [NAME ...]`: ImageNet weights and the published snapshot.

Each is downloaded to where the configurations expect it, and verified: by its SHA-256 where that
is known, and by the names and shapes of its entries always.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from core.checkpoint import read_pretrained, read_snapshot
from core.config import Config
from models import get_model
from models.backbones import BACKBONES
from models.backbones.record import BackboneRecord, WeightsFile
from utils.download import Checksum, download
from utils.errors import UserError, run_command
from utils.files import only_process, require_writable_folder

WEIGHTS_FOLDER = Path("models/weights")
SNAPSHOT_FOLDER = Path("snapshots/pascal_voc/published/resnet38")
SNAPSHOT = WeightsFile(
    "https://download.visinf.tu-darmstadt.de/data/2020-cvpr-araslanov-1-stage-wseg/models/"
    "model_enc_e020Xs0.928.pth",
    mebibytes=527,
)


@dataclass(frozen=True)
class Item:
    """A file to get.

    Attributes:
        file: where it comes from.
        folder: where it goes.
        check: raises `UserError` unless the file at a path holds what it should.
    """

    file: WeightsFile
    folder: Path
    check: Callable[[Path], None]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.get_weights", description=__doc__)
    parser.add_argument(
        "names", metavar="NAME", nargs="*", help=f"of {', '.join(ITEMS)} (default: all)"
    )
    parser.add_argument("--url", default="", help="a mirror: the folder that holds the files")
    args = parser.parse_args()
    for name in args.names:
        if name not in ITEMS:
            raise UserError(f"there are no weights called {name!r}; there are: {', '.join(ITEMS)}")
    for name in args.names or ITEMS:
        get(name, args.url)


def get(name: str, mirror: str = "") -> None:
    """Bring the weights called `name` into place, unless they are there, and verify them.

    Raises:
        UserError: the file cannot be had, or is not what it should be; nothing is left in place.
    """
    item = ITEMS[name]
    file = item.file
    path = item.folder / file.filename
    url = f"{mirror.rstrip('/')}/{file.filename}" if mirror else file.url
    require_writable_folder(item.folder, "place for the clone")
    with only_process(item.folder):
        if not path.exists():
            print(f"{name}: {url} (about {file.mebibytes} MB)", flush=True)
        download(
            [url],
            path,
            name,
            Checksum("sha256", file.sha256_prefix) if file.sha256_prefix else None,
            item.check,
        )


def _check_pretrained(record: BackboneRecord, path: Path) -> None:
    with torch.device("meta"):  # shapes without memory
        backbone = record.build(nn.BatchNorm2d)
    read_pretrained(backbone, record, path)


def _check_snapshot(path: Path) -> None:
    net = replace(Config().NET, MODEL="ae", BACKBONE="resnet38")
    with torch.device("meta"):
        network = get_model(net)
    read_snapshot(network, path)


ITEMS: Mapping[str, Item] = MappingProxyType(
    {
        **{
            name: Item(record.weights, WEIGHTS_FOLDER, partial(_check_pretrained, record))
            for name, record in BACKBONES.items()
        },
        "snapshot": Item(SNAPSHOT, SNAPSHOT_FOLDER, _check_snapshot),
    }
)


if __name__ == "__main__":
    run_command(main)
