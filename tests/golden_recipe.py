"""The weights and images that the golden numbers were measured on, made from a seed."""

from __future__ import annotations

import json
import math
import zlib
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor, nn

from core.config import load_config
from datasets.transforms import normalise
from models import get_model
from models.network import Network

GOLDEN = Path(__file__).parent / "golden"


def random_state(key: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(key.encode()))


def golden(name: str) -> dict:
    return json.loads((GOLDEN / f"{name}.json").read_text())


def entries(backbone: str, model: str) -> list[tuple[str, tuple[int, ...]]]:
    """(name, shape) of every entry of a published snapshot, in its order."""
    lines = (GOLDEN / f"state_dict_{backbone}_{model}.txt").read_text().splitlines()
    pairs = (line.split() for line in lines)
    return [
        (name, () if shape == "scalar" else tuple(map(int, shape.split("x"))))
        for name, shape in pairs
    ]


def published_weights(backbone: str, model: str, salt: str) -> dict[str, Tensor]:
    """A snapshot as the published code would have written it, with the golden values."""
    drawn, state = _drawn_for(backbone), {}
    for name, shape in entries(backbone, model):
        if not name.startswith("_aff."):
            key = name, shape, salt
            if key not in drawn:
                drawn[key] = _value(*key)
            state[name] = drawn[key]
    if model == "bsl":
        state["fc8.weight"] = state["cls_branch.2.weight"] = state["mask_branch.0.weight"]
    else:
        places = torch.eye(9).reshape(9, 1, 3, 3)
        others = torch.cat([places[:4], places[5:]])
        state["_aff.aff_x.kernel"] = places[4:5] - others
        state["_aff.aff_m.kernel"] = others
        state["_aff.aff_std.kernel"] = places
    return {name: state[name] for name, _ in entries(backbone, model)}


@lru_cache(maxsize=1)
def _drawn_for(backbone: str) -> dict[tuple[str, tuple[int, ...], str], Tensor]:
    """What was drawn for a backbone, whose networks share most of it."""
    return {}


def _value(name: str, shape: tuple[int, ...], salt: str) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros((), dtype=torch.int64)
    n = random_state(salt + name).standard_normal(shape)
    if name.endswith("running_mean"):
        n = 0.1 * n
    elif name.endswith("running_var"):
        n = 1 + 0.1 * np.abs(n)
    elif name == "last_conv.8.bias":
        n = 0.1 * n - 7
    elif len(shape) == 1:
        n = 0.1 * n if name.endswith("bias") else 1 + 0.1 * n
    else:
        n = n * math.sqrt(1 / np.prod(shape[1:])) * (9 if name == "last_conv.8.weight" else 1)
    return torch.from_numpy(n.astype(np.float32))


def golden_images(record: dict) -> tuple[Tensor, Tensor, Tensor]:
    """The images, the raw images and the labels of a golden record."""
    salt, (batch, channels, height, width) = record["salt"], record["input"]
    coarse = random_state(salt + "image").uniform(size=(batch, channels, 5, 7))
    raw = nn.functional.interpolate(
        torch.from_numpy(coarse.astype(np.float32)),
        size=(height, width),
        mode="bilinear",
        align_corners=True,
    )
    noise = random_state(salt + "noise").uniform(-0.05, 0.05, (batch, channels, height, width))
    raw = (raw + torch.from_numpy(noise.astype(np.float32))).clamp(0, 1)
    labels = torch.zeros(batch, 20)
    for row, present in zip(labels, record["labels"], strict=True):
        row[present] = 1
    return normalise(raw), raw, labels


def golden_config(backbone: str, model: str, **net: object) -> SimpleNamespace:
    """The default NET section with this backbone and model, and `net` changed."""
    section = load_config().NET
    values = {name: getattr(section, name) for name in section.__dataclass_fields__}
    return SimpleNamespace(**{**values, "BACKBONE": backbone, "MODEL": model, **net})


def quiet_network(backbone: str, model: str) -> Network:
    """A network without its chance: every dropout's p is 0, and so is the gate's ψ."""
    network = get_model(golden_config(backbone, model, SG_PSI=0.0))
    for module in network.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    return network
