"""The least network that weights are saved and loaded with, and files of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
import torch
from golden_recipe import golden_config
from torch import Tensor, nn

from models import get_model
from models.backbones.spec import BackboneSpec, FeatureInfo, WeightsFile
from models.network import Network
from utils.errors import UserError


class SmallNetwork(Network):
    """All that a model may declare: an alias, a constant, batch normalisation, two heads."""

    published_aliases: Mapping[str, tuple[str, ...]] = {
        "head.weight": ("head.weight", "first.weight", "second.weight")
    }

    def __init__(self) -> None:
        super().__init__(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)))
        self.stencil = nn.Identity()
        self.head = nn.Conv2d(4, 2, 1, bias=False)
        self.tail = nn.Conv2d(2, 2, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def published_constants(self) -> dict[str, Tensor]:
        return {"stencil.kernel": torch.eye(3)}


# name → shape, in the order of the file
SMALL = {
    "0.weight": (4, 3, 3, 3),
    "0.bias": (4,),
    "1.weight": (4,),
    "1.bias": (4,),
    "1.running_mean": (4,),
    "1.running_var": (4,),
    "1.num_batches_tracked": (),
    "stencil.kernel": (3, 3),
    "head.weight": (2, 4, 1, 1),
    "first.weight": (2, 4, 1, 1),
    "second.weight": (2, 4, 1, 1),
    "tail.weight": (2, 2, 1, 1),
    "tail.bias": (2,),
}

SPEC = BackboneSpec(
    name="small",
    build=nn.Identity,
    conv3=FeatureInfo(256, 4),
    conv6=FeatureInfo(4, 8),
    frozen=(),
    lr_multipliers=(1, 2, 10, 20),
    weights=WeightsFile("https://example.org/small.pth", mebibytes=1),
    ignored_weights=("fc8.", "fc9."),
)


def shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def message(function: Callable[..., object], *arguments: object) -> str:
    """The one line that a mistake ends with."""
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def save_shapes(path: Path, pairs: Iterable[tuple[str, tuple[int, ...]]]) -> dict[str, Tensor]:
    """A file of entries with these names and shapes, each full of its number, in little space."""
    content = {}
    for number, (name, shape) in enumerate(pairs):
        is_count = name.endswith("num_batches_tracked")
        value = torch.tensor(number, dtype=torch.int64 if is_count else torch.float32)
        content[name] = value.expand(shape)
    torch.save(content, path)
    return content


def meta_network(backbone: str, model: str) -> Network:
    with torch.device("meta"):  # shapes without memory
        return get_model(golden_config(backbone, model))
