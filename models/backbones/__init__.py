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
"""The published ones; all of timm's are known besides."""
TIMM = "timm/"
"""What their names begin with."""
DEFAULT_OUTPUT_STRIDE = 16
"""NET.OUTPUT_STRIDE where nobody sets it, which asks nothing of the published ones."""


def get_backbone_spec(name: str, output_stride: int | None = None) -> BackboneSpec:
    """The spec of the backbone `name`.

    Args:
        name: of a published one, or `timm/` and the name of one of timm's.
        output_stride: what NET.OUTPUT_STRIDE asks for; None where the stride plays no part.

    Raises:
        UserError: no backbone is called so (the message lists the known ones), it cannot have this
            stride, or timm is not installed.
    """
    if name.startswith(TIMM):
        return _timm_spec(name, output_stride)
    if name not in BACKBONES:
        raise UserError(
            f"NET.BACKBONE: unknown backbone {name!r}; known: {', '.join(BACKBONES)}, "
            f"and {TIMM}NAME for timm's"
        )
    spec = BACKBONES[name]
    if output_stride not in (None, DEFAULT_OUTPUT_STRIDE, spec.conv6.stride):
        raise UserError(
            f"NET.OUTPUT_STRIDE {output_stride}: {name} has {spec.conv6.stride}, always; leave the "
            f"key out, or choose a backbone of timm's ({TIMM}NAME)"
        )
    return spec


def _timm_spec(name: str, output_stride: int | None) -> BackboneSpec:
    try:
        from models.backbones.timm_backbone import timm_spec
    except ImportError as error:
        if error.name == "timm":
            problem = f"NET.BACKBONE {name} needs timm; install it with `pip install timm`"
        elif (error.name or "").startswith("timm."):
            problem = f"NET.BACKBONE {name} needs a newer timm; `pip install -U timm` gets it"
        else:
            raise
        raise UserError(problem) from error
    return timm_spec(name.removeprefix(TIMM), output_stride)
