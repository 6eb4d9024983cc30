"""Backbones of the package timm: any of its models that gives feature maps of images of any size.

Imported only where NET.BACKBONE begins with `timm/`, since timm is optional.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import timm
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, set_reentrant_ckpt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbones.spec import BackboneSpec
from models.backbones.timm_plan import Plan, create_features, find_plan
from models.backbones.timm_weights import convert_weights
from models.grad_checkpointing import GradCheckpointing
from models.layers import FixedStatsBatchNorm2d
from utils.errors import UserError


def timm_spec(name: str, output_stride: int | None = None) -> BackboneSpec:
    """The spec of timm's model `name`.

    The skip connection takes the map of stride 4, or the shallowest of those beyond, and the
    decoder the deepest map.

    Args:
        name: as timm calls it, with a tag or without: resnet18, convnext_atto.d2_in1k.
        output_stride: of the deepest map; None for 16, or what the model has in its place.

    Raises:
        UserError: there is no such model, or it cannot serve: it has no maps of this stride, none
            at all, or none of images of any size.
    """
    plan = find_plan(name, output_stride)
    config = timm.get_pretrained_cfg(name)
    return BackboneSpec(
        name=f"timm/{name}",
        build=partial(_build, name, plan),
        conv3=plan.conv3,
        conv6=plan.conv6,
        frozen=(),
        lr_multipliers=(1, 1, 10, 10),
        weights=None,
        mean_std=(tuple(config.mean), tuple(config.std)),
        convert=partial(convert_weights, name, plan),
    )


class FixedStatsBatchNormAct2d(FixedStatsBatchNorm2d):
    """timm's batch normalisation with an activation behind it, on fixed statistics.

    Only layers of timm's become one; they have the dropout and the activation.
    """

    def forward(self, input: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(input)))


_FIXED = {
    nn.BatchNorm2d: FixedStatsBatchNorm2d,
    BatchNormAct2d: FixedStatsBatchNormAct2d,
}


class TimmBackbone(GradCheckpointing):
    """A model of timm's as a pair of feature maps.

    Images are padded with zeros, the mean, below and on the right to a multiple of the deepest
    stride; what the maps have beyond ⌈H/stride⌉×⌈W/stride⌉ is cut off.

    Shape:
        images B×3×H×W to conv3, B×C₃×H/s₃×W/s₃, and conv6, B×C₆×H/s₆×W/s₆, as `plan` says.
    """

    def __init__(self, name: str, features: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.name = name
        self.plan = plan
        self.timm = features

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        height, width = images.shape[-2:]
        multiple = max(self.plan.strides)
        below, right = -height % multiple, -width % multiple
        if below or right:
            images = F.pad(images, (0, right, 0, below))
        if self.grad_checkpointing:
            with _first_computation():
                maps = self.timm(images)
        else:
            maps = self.timm(images)
        conv3, conv6 = maps[self.plan.skip], maps[-1]
        if self.plan.channels_last:
            conv3, conv6 = conv3.permute(0, 3, 1, 2), conv6.permute(0, 3, 1, 2)
        return (
            _cut(conv3, height, width, self.plan.conv3.stride),
            _cut(conv6, height, width, self.plan.conv6.stride),
        )

    def set_grad_checkpointing(self) -> None:
        """As timm does it, but for batch normalisation, which counts a batch once.

        Raises:
            UserError: the model cannot.
        """
        # the other kind of PyTorch's gives no gradients where a part's input needs none
        set_reentrant_ckpt(False)
        # what gives the maps of transformers wraps the model
        model = self.timm
        if not hasattr(model, "set_grad_checkpointing"):
            model = getattr(model, "model", model)
        try:
            model.set_grad_checkpointing(True)
        except (AttributeError, AssertionError, NotImplementedError) as error:
            raise UserError(
                f"TRAIN.CHECKPOINT: timm/{self.name} cannot compute activations again; leave the "
                "key out"
            ) from error
        super().set_grad_checkpointing()
        for module in self.timm.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, FixedStatsBatchNorm2d):
                module.register_forward_pre_hook(_lend_copies)
                module.register_forward_hook(_put_back, always_call=True)


def _cut(maps: Tensor, height: int, width: int, stride: int) -> Tensor:
    return maps[..., : -(-height // stride), : -(-width // stride)]


def _build(name: str, plan: Plan, norm_layer: type[nn.BatchNorm2d]) -> TimmBackbone:
    features, _ = create_features(name, dict(plan.options))
    for each, parameter in features.named_parameters():
        if each in plan.unused:
            parameter.requires_grad_(False)
    if issubclass(norm_layer, FixedStatsBatchNorm2d):
        fix_statistics(name, features)
    return TimmBackbone(name, features, plan)


def fix_statistics(name: str, features: nn.Module) -> None:
    """Let each batch normalisation use its running statistics for ever."""
    for module in features.modules():
        if isinstance(module, _BatchNorm):
            if type(module) not in _FIXED or module.weight is None:
                raise UserError(
                    f"NET.FREEZE_BN: {type(module).__name__} in timm/{name} cannot be frozen; set "
                    "NET.FREEZE_BN False, or choose another NET.BACKBONE"
                )
            # the same layer, with its entries and its activation, that computes otherwise
            module.__class__ = _FIXED[type(module)]


_thread = threading.local()  # DataParallel computes in several


@contextmanager
def _first_computation() -> Iterator[None]:
    """Outside of this, a batch normalisation computes again what it has counted already."""
    _thread.counts = True
    try:
        yield
    finally:
        _thread.counts = False


def _lend_copies(norm: nn.Module, inputs: Any) -> None:
    """Let a second computation update copies of the running statistics."""
    if norm.training and not getattr(_thread, "counts", False):
        norm.__dict__["kept_statistics"] = dict(norm.named_buffers(recurse=False))
        for name, value in norm.kept_statistics.items():
            setattr(norm, name, value.clone())


def _put_back(norm: nn.Module, inputs: Any, output: Any) -> None:
    for name, value in norm.__dict__.pop("kept_statistics", {}).items():
        setattr(norm, name, value)
