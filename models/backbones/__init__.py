"""The backbones by the name that NET.BACKBONE gives; a new one is a module and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from models.backbones.resnet import RESNET50, RESNET101
from models.backbones.resnet38 import RESNET38
from models.backbones.spec import BackboneSpec
from models.backbones.vgg16 import VGG16_20M
from utils.errors import UserError

BACKBONES: Mapping[str, BackboneSpec] = MappingProxyType(
    {spec.name: spec for spec in (RESNET38, VGG16_20M, RESNET50, RESNET101)}
)


def get_backbone_spec(name: str) -> BackboneSpec:
    """The spec of the backbone `name`; a `UserError` that lists the known ones if none is."""
    if name not in BACKBONES:
        raise UserError(f"NET.BACKBONE: unknown backbone {name!r}; known: {', '.join(BACKBONES)}")
    return BACKBONES[name]
