"""From the configuration's NET section to a network: which parts it is put together from.

A new part is a module, and a line here in place of the one that it replaces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import nn

from models.backbones import get_backbone_spec
from models.backbones.spec import BackboneSpec
from models.cam import CamBaseline
from models.heads.aspp import ASPP
from models.heads.gate import StochasticGate
from models.heads.gci import GlobalCueInjection
from models.heads.ngwp import normalised_global_weighted_pooling, size_focal_penalty
from models.heads.pamr import PAMR
from models.layers import FixedStatsBatchNorm2d
from models.network import Network
from models.segmentation import WIDTH, SegmentationNetwork
from models.self_supervision import Unrefined, balanced_mask_loss
from utils.errors import UserError

REFINEMENTS: Mapping[str, Callable[[Any], nn.Module]] = MappingProxyType(
    {
        "pamr": lambda net: PAMR(net.PAMR_ITER, net.PAMR_KERNEL),
        "none": lambda net: Unrefined(),
    }
)
"""NET.REFINE → what refines masks with the image, from the NET section."""


def _build_ae(net: Any, num_classes: int, backbone: nn.Module, spec: BackboneSpec) -> Network:
    shallow, deep = spec.conv3.channels, spec.conv6.channels
    return SegmentationNetwork(
        backbone,
        shallow,
        num_classes,
        aspp=ASPP(_fixed_norm(net), deep, WIDTH),
        shallow_mask=GlobalCueInjection(shallow, WIDTH, WIDTH),
        gate=StochasticGate(net.SG_PSI),
        pool=normalised_global_weighted_pooling,
        penalty=partial(size_focal_penalty, p=net.FOCAL_P, lam=net.FOCAL_LAMBDA),
        refine=REFINEMENTS[net.REFINE](net),
        mask_loss=balanced_mask_loss,
    )


def _build_bsl(net: Any, num_classes: int, backbone: nn.Module, spec: BackboneSpec) -> Network:
    return CamBaseline(backbone, spec.conv6.channels, num_classes, net.BG_SCORE)


MODELS: Mapping[str, Callable[[Any, int, nn.Module, BackboneSpec], Network]] = MappingProxyType(
    {"ae": _build_ae, "bsl": _build_bsl}
)
"""NET.MODEL → the network."""


def get_model(net: Any, num_classes: int = 21) -> Network:
    """Build the network that a NET section describes, with fresh weights.

    Unless NET.FREEZE_BN is false, the backbone's first layers and all its BatchNorms are frozen.

    Args:
        net: the section, `cfg.NET`.
        num_classes: background included.

    Raises:
        UserError: NET.MODEL or NET.BACKBONE names nothing known, or the backbone does not do what
            other keys ask of it.
    """
    if net.MODEL not in MODELS:
        raise UserError(f"NET.MODEL: unknown model {net.MODEL!r}; known: {', '.join(MODELS)}")
    spec = get_backbone_spec(net.BACKBONE, net.OUTPUT_STRIDE)
    backbone = spec.build(_fixed_norm(net))
    if net.FREEZE_BN:
        _freeze(backbone, spec.frozen)
    network = MODELS[net.MODEL](net, num_classes, backbone, spec)
    network.name, network.backbone_name = net.MODEL, net.BACKBONE
    network.mean_std = spec.mean_std
    return network


def _fixed_norm(net: Any) -> type[nn.BatchNorm2d]:
    """The BatchNorm of those layers whose statistics stay as they are on pretrained weights."""
    return FixedStatsBatchNorm2d if net.FREEZE_BN else nn.BatchNorm2d


def _freeze(backbone: nn.Module, prefixes: tuple[str, ...]) -> None:
    for name, parameter in backbone.named_parameters():
        if name.startswith(prefixes):
            parameter.requires_grad_(False)
    for module in backbone.modules():
        if isinstance(module, FixedStatsBatchNorm2d):
            module.requires_grad_(False)
