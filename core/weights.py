"""The weights that can be had by name: where each comes from, where it goes, what it must hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from core.arguments import DEFAULT_DATASET
from core.checkpoint import read_pretrained, read_snapshot
from core.config import Config, data_root, load_config
from core.snapshot_settings import CONFIG_FILE, write_settings
from core.weights_check import WeightsError
from datasets.dataset_file import DATASET_FILE, get_dataset_info
from models import get_model
from models.backbones import BACKBONES
from models.backbones.spec import BackboneSpec, WeightsFile
from utils.download import Checksum, download
from utils.errors import UserError
from utils.files import only_process, require_writable_folder

WEIGHTS_FOLDER = Path("models/weights")
SNAPSHOT_FOLDER = Path("snapshots/pascal_voc/published/resnet38")
SNAPSHOT_CONFIG = Path(__file__).parents[1] / "configs/voc_resnet38.yaml"
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
        read: raises `WeightsError` unless the file at a path holds what it should.
        complete: makes what belongs beside it, if some of it is missing.
    """

    file: WeightsFile
    folder: Path
    read: Callable[[Path], None]
    complete: Callable[[Path], None] = lambda folder: None

    @property
    def path(self) -> Path:
        """Where the file goes."""
        return self.folder / self.file.filename


def get(name: str, mirror: str = "") -> None:
    """Bring the weights called `name` into place, unless they are there, and verify them.

    Beside the snapshot go config.yaml and dataset.yaml, unless both are there.

    Args:
        name: a key of `ITEMS`.
        mirror: the address of a folder that holds the file, in place of the official one.

    Raises:
        UserError: the file cannot be had, or is not what it should be; nothing is left in place.
    """
    item = ITEMS[name]
    file, path = item.file, item.path
    url = f"{mirror.rstrip('/')}/{file.filename}" if mirror else file.url
    checksum = Checksum("sha256", file.sha256_prefix) if file.sha256_prefix else None
    _require_no_dangling_link(item.folder)
    if not path.exists():
        require_writable_folder(item.folder, "place for the clone")
    with only_process(item.folder, "get_weights"):
        is_new = not path.exists()
        if is_new:
            print(f"{name}: {url} (about {file.mebibytes * 2**20 / 1e6:.0f} MB)", flush=True)
        download(
            [url],
            path,
            name,
            checksum,
            partial(_check, item),
            remedy="try again later, name a mirror with WEIGHTS_URL, or put the file at "
            f"{path} yourself",
        )
        if is_new:
            print(f"{name}: {path}, verified", flush=True)
        item.complete(item.folder)


def _check(item: Item, path: Path) -> None:
    try:
        item.read(path)
    except WeightsError as error:
        # its remedy is to run what is running
        raise UserError(f"it {error.fault}") from error


def _require_no_dangling_link(folder: Path) -> None:
    for path in (folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            raise UserError(
                f"{path} leads to {path.readlink()}, which does not exist; make that folder, or "
                "remove the link"
            )


def _read_pretrained(spec: BackboneSpec, path: Path) -> None:
    with torch.device("meta"):  # shapes without memory
        backbone = spec.build(nn.BatchNorm2d)
    read_pretrained(backbone, spec, path)


def _write_snapshot_settings(folder: Path) -> None:
    """Write what the snapshot was trained with, as training does beside its own."""
    if (folder / CONFIG_FILE).exists() and (folder / DATASET_FILE).exists():
        return
    require_writable_folder(folder, "place for the clone")
    config = load_config(SNAPSHOT_CONFIG)
    write_settings(folder, config, get_dataset_info(DEFAULT_DATASET).at(data_root(config)))


def _read_snapshot(path: Path) -> None:
    net = replace(Config().NET, MODEL="ae", BACKBONE="resnet38")
    with torch.device("meta"):
        network = get_model(net)
    read_snapshot(network, path)


ITEMS: Mapping[str, Item] = MappingProxyType(
    {
        **{
            name: Item(spec.weights, WEIGHTS_FOLDER, partial(_read_pretrained, spec))
            for name, spec in BACKBONES.items()
        },
        "snapshot": Item(SNAPSHOT, SNAPSHOT_FOLDER, _read_snapshot, _write_snapshot_settings),
    }
)
