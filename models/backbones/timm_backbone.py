"""Backbones of the package timm: any of its models that gives feature maps of images of any size.

Imported only where NET.BACKBONE begins with `timm/`, since timm is optional.
"""

from __future__ import annotations

import difflib
import logging
import re
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import BatchNormAct2d, set_reentrant_ckpt
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.backbones.spec import BackboneSpec, ConversionError, FeatureInfo
from models.grad_checkpointing import GradCheckpointing
from models.layers import FixedStatsBatchNorm2d
from utils.errors import UserError, first_few

OUTPUT_STRIDES = (8, 16, 32)
"""What NET.OUTPUT_STRIDE may say."""
SKIP_STRIDE = 4
CLASSES = 1000  # of ImageNet
ANY_SIZE = {"strict_img_size": False, "dynamic_img_size": True}
"""What makes those transformers that are built for one size of images take others."""

_UNEXPECTED = re.compile(r"unexpected keyword argument\S* (.*)")


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
    _require_known(name)
    asked = (16, 32, 8) if output_stride is None else (output_stride,)
    plan = next((plan for stride in asked if (plan := _plan(name, stride))), None)
    if plan is None:
        raise _no_such_stride(name, output_stride)
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
        convert=partial(_convert, name, plan),
    )


def _require_known(name: str) -> None:
    try:
        if timm.is_model(name):
            timm.get_pretrained_cfg(name, allow_unregistered=False)
            return
    except RuntimeError:  # the model has no weights of this tag
        pass
    known = timm.list_models()
    if "." in name:
        known += timm.list_pretrained()
    nearest = difflib.get_close_matches(name, known, n=3, cutoff=0)
    raise UserError(
        f"NET.BACKBONE: timm {timm.__version__} has no model {name!r}; the nearest: "
        f"{', '.join(f'timm/{each}' for each in nearest)}"
    )


def _no_such_stride(name: str, output_stride: int | None) -> UserError:
    if possible := [stride for stride in OUTPUT_STRIDES if _plan(name, stride)]:
        words = " or ".join(map(str, possible))
        return UserError(
            f"NET.OUTPUT_STRIDE: timm/{name} cannot have {output_stride}; set it to {words}"
        )
    try:
        strides = _measure(name, {}).strides
        reason = f"its deepest map has stride {strides[-1]}, not 8, 16 or 32"
    except _UnfitError as error:
        reason = str(error)
    return UserError(
        f"NET.BACKBONE: timm/{name} cannot serve, {reason}; choose another, as timm/convnext_atto"
    )


@dataclass(frozen=True)
class Plan:
    """How a model of timm's is built and which of its maps are used.

    Attributes:
        options: of `timm.create_model`, as pairs.
        strides: of all maps.
        skip: the index of the map for the skip connection; the decoder takes the last.
        conv3, conv6: these two.
        channels_last: whether maps are B×h×w×C.
        unused: parameters that neither map depends on.
    """

    options: tuple[tuple[str, Any], ...]
    strides: tuple[int, ...]
    skip: int
    conv3: FeatureInfo
    conv6: FeatureInfo
    channels_last: bool
    unused: frozenset[str]


class _UnfitError(Exception):
    """A model that gives no two maps; the text says why."""


@cache
def _plan(name: str, output_stride: int) -> Plan | None:
    """How to get a deepest map of that stride; None if there is no way."""
    for options in ({"output_stride": output_stride}, {}):
        try:
            plan = _measure(name, options)
        except _UnfitError:
            continue
        if plan.conv6.stride == output_stride:
            return plan
    return None


def _measure(name: str, options: Mapping[str, Any]) -> Plan:
    """Build a model without memory and look at its maps, since not all models are as they say."""
    try:
        with torch.device("meta"):
            features, options = _create(name, {**ANY_SIZE, **options})
    except Exception as error:  # models refuse what they cannot do in many ways
        raise _UnfitError("it gives no feature maps") from error
    strides = tuple(features.feature_info.reduction())
    size = (5 * strides[-1], 4 * strides[-1])
    try:
        maps = features(torch.empty(2, 3, *size, device="meta"))
    except Exception as error:
        raise _UnfitError("it takes no images of any size") from error
    skip = next((i for i, stride in enumerate(strides) if stride >= SKIP_STRIDE), None)
    if skip is None:
        raise _UnfitError(f"its maps have strides below {SKIP_STRIDE}")
    used = (maps[skip], maps[-1])
    channels = [features.feature_info.channels()[index] for index in (skip, -1)]
    grids = [tuple(length // strides[index] for length in size) for index in (skip, -1)]
    shapes = [tuple(each.shape) for each in used]
    channels_last = shapes == [(2, *g, c) for g, c in zip(grids, channels, strict=True)]
    if not channels_last and shapes != [(2, c, *g) for g, c in zip(grids, channels, strict=True)]:
        raise _UnfitError("its maps do not cover the image in steps of their strides")
    sum(each.sum() for each in used).backward()
    return Plan(
        tuple(options.items()),
        strides,
        skip,
        FeatureInfo(channels[0], strides[skip]),
        FeatureInfo(channels[1], strides[-1]),
        channels_last,
        frozenset(each for each, p in features.named_parameters() if p.grad is None),
    )


def _create(
    name: str, options: Mapping[str, Any], **others: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """A model that gives feature maps, with those of the options that it knows, and these."""
    options = dict(options)
    while True:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of initialisation on the meta device
                model = timm.create_model(name, features_only=True, **options, **others)
            return model, options
        except TypeError as error:
            found = _UNEXPECTED.search(str(error))
            unknown = [option for option in options if found and option in found[1]]
            if not unknown:
                raise
            options = {key: value for key, value in options.items() if key not in unknown}


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
    features, _ = _create(name, dict(plan.options))
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


def _convert(name: str, plan: Plan, state: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
    """Let timm load weights as it does, and give them under the backbone's names.

    timm renames what comes from elsewhere, and cuts off what the maps do not need.

    Args:
        state: entries of a weights file of timm's or of one that it knows, or None for its own,
            from its hub or cache.

    Raises:
        ConversionError: entries are missing or of another network; a classifier may be missing.
        UserError: the weights cannot be downloaded, or there are none.
    """
    if state is None and not timm.is_model_pretrained(name):
        raise UserError(
            f"NET.PRE_WEIGHTS_PATH timm: timm has no weights of {name}; train from scratch with "
            '--set NET.FREEZE_BN False NET.PRE_WEIGHTS_PATH ""'
        )
    overlay = None if state is None else {"state_dict": dict(state)}
    loads: list[tuple[Mapping[str, Tensor], Any]] = []
    try:
        with _watched_loads(loads):
            features, _ = _create(
                name, dict(plan.options), pretrained=True, pretrained_cfg_overlay=overlay
            )
    except Exception as error:  # of the hub, of requests, of the renaming, of loading
        if state is None:
            raise UserError(_how_to_fetch(name, error)) from error
        # the first line of PyTorch's says only that there are more
        lines = [line.strip() for line in str(error).splitlines()]
        raise ConversionError(first_few(lines[1:] or lines) or type(error).__name__) from error
    for loaded, result in loads:
        try:
            # of its own, timm knows what to leave out
            unexpected = [] if state is None else result.unexpected_keys
            _require_all(name, loaded, result.missing_keys, unexpected)
        except ConversionError as error:
            if state is not None:
                raise
            raise UserError(
                f"NET.PRE_WEIGHTS_PATH timm: timm's weights of {name} are not its model's "
                f"({error}); name a file, or choose another NET.BACKBONE"
            ) from error
    return {f"timm.{each}": value for each, value in features.state_dict().items()}


def _how_to_fetch(name: str, error: Exception) -> str:
    config = timm.get_pretrained_cfg(name)
    file = f"model.safetensors of {config.hf_hub_id}" if config.hf_hub_id else config.url
    return (
        f"NET.PRE_WEIGHTS_PATH timm: no weights of {name} could be had ({type(error).__name__}); "
        f"mend the network, or fetch {file} yourself and name that file"
    )


def _require_all(
    name: str, loaded: Mapping[str, Tensor], missing: list[str], unexpected: list[str]
) -> None:
    """Raise `ConversionError` for missing and unexpected entries other than a classifier's.

    What the whole model has behind the deepest map is not unexpected.
    """
    classifiers = timm.get_pretrained_cfg(name).classifier or ()
    if isinstance(classifiers, str):
        classifiers = (classifiers,)
    prefixes = tuple(f"{each}." for each in classifiers)
    missing = [each for each in missing if not each.startswith(prefixes)]
    if unexpected:
        with torch.device("meta"):
            whole = timm.create_model(name).state_dict()
        # others call the classifier otherwise, but it has this number of classes
        unexpected = [
            each
            for each in unexpected
            if each not in whole and loaded[each].shape[:1] != (CLASSES,)
        ]
    faults = [
        f"it lacks {first_few(missing)}" if missing else "",
        f"the network does not have {first_few(unexpected)}" if unexpected else "",
    ]
    if any(faults):
        raise ConversionError("; ".join(filter(None, faults)))


@contextmanager
def _watched_loads(loads: list[tuple[Mapping[str, Tensor], Any]]) -> Iterator[None]:
    """Note what modules load in the body and what PyTorch says of it.

    timm goes on without missing and unexpected entries where only maps are wanted.
    """
    load, logger = nn.Module.load_state_dict, logging.getLogger("timm")
    level = logger.level

    def watched(self: nn.Module, state_dict: Mapping[str, Tensor], *args: Any, **kwargs: Any):
        result = load(self, state_dict, *args, **kwargs)
        loads.append((state_dict, result))
        return result

    nn.Module.load_state_dict = watched
    logger.setLevel(logging.ERROR)  # it warns of the classifier, which nobody wants
    try:
        yield
    finally:
        nn.Module.load_state_dict = load
        logger.setLevel(level)
