"""train.py whose vgg16 has an eighth of its channels: `python tests/thin_train.py` as train.py.

Layers, names and everything around the network are the real ones; a step takes a hundredth.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from core import weights_check
from models.backbones import get_backbone_spec
from models.backbones.vgg16 import VGG16
from models.layers import init_from_scratch
from train import main
from utils.errors import run_command

FACTOR = 8
SPEC = vars(get_backbone_spec("vgg16"))  # a frozen dataclass's own dictionary can be changed


class ThinVGG16(VGG16):
    def __init__(self, norm_layer: type[nn.BatchNorm2d] | None = None) -> None:
        with torch.device("meta"):
            super().__init__(norm_layer)
        for name, wide in list(self.named_children()):
            if isinstance(wide, nn.Conv2d):
                inputs = wide.in_channels if name == "conv1_1" else wide.in_channels // FACTOR
                options = {"padding": wide.padding, "dilation": wide.dilation}
                outputs = wide.out_channels // FACTOR
                setattr(self, name, nn.Conv2d(inputs, outputs, wide.kernel_size, **options))
        init_from_scratch(self)


THIN = {"build": ThinVGG16} | {
    name: replace(SPEC[name], channels=SPEC[name].channels // FACTOR) for name in ("conv3", "conv6")
}


@contextmanager
def thin_networks() -> Iterator[None]:
    """Give the vgg16 that is built in the body an eighth of its channels."""
    wide = {name: SPEC[name] for name in THIN}
    # what the weights check knows of vgg16 is of one width
    weights_check._known.cache_clear()
    SPEC.update(THIN)
    try:
        yield
    finally:
        SPEC.update(wide)
        weights_check._known.cache_clear()


if __name__ == "__main__":
    SPEC.update(THIN)
    run_command(main)
