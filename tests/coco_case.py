"""Small annotations like COCO's, written by hand, and what tests ask of a data root with them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from get_data_case import REPOSITORY
from in_process import run_main
from PIL import Image

from datasets.coco.layout import SPLITS, VAL, Split
from datasets.mini_voc.coco import CATEGORY_IDS
from datasets.prepare import main

CATEGORIES = [{"id": number, "name": name} for name, number in CATEGORY_IDS.items()]


def prepare(root: Path, *options: object) -> subprocess.CompletedProcess[str]:
    return run_main(main, "--dataset", "coco", "--root", root, "--workers", "1", *options)


def edit(root: Path, split: Split, change: Callable[[dict[str, Any]], object]) -> None:
    """Let `change` alter the content of a split's annotations."""
    path = root / split.annotations
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def annotation(number: int, image: int, name: str, shape: Any, crowd: int = 0) -> dict[str, Any]:
    category = CATEGORY_IDS[name]
    return {"id": number, "image_id": image, "category_id": category, "iscrowd": crowd} | {
        "segmentation": shape
    }


def write_root(root: Path, annotations: Sequence[dict[str, Any]], size: tuple[int, int]) -> Path:
    """A data root with image 1 of each split, H×W; the annotations are those of val's."""
    for split in SPLITS:
        name = f"COCO_{split.name}_000000000001.jpg"
        (root / split.images).mkdir(parents=True)
        Image.fromarray(np.zeros((*size, 3), np.uint8)).save(root / split.images / name)
        image = {"id": 1, "file_name": name, "height": size[0], "width": size[1]}
        content = {
            "images": [image],
            "annotations": list(annotations) if split is VAL else [],
            "categories": CATEGORIES,
        }
        (root / split.annotations).parent.mkdir(parents=True, exist_ok=True)
        (root / split.annotations).write_text(json.dumps(content))
    return root


def val_mask(root: Path) -> np.ndarray:
    """The mask of image 1 of `write_root`."""
    return np.array(Image.open(root / VAL.masks / "COCO_val2014_000000000001.png"))


def get_coco(root: Path, **variables: object) -> dict[str, Any]:
    """What subprocess needs to run launch/get_coco.sh as in a shell with these variables."""
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHON": sys.executable, "DATA_ROOT": str(root), "NO_PROXY": "127.0.0.1"}
    return {
        "args": ["bash", str(REPOSITORY / "launch/get_coco.sh"), "--workers", "1"],
        "env": environment | {name: str(value) for name, value in variables.items()},
        "text": True,
    }
