"""How a model of timm's becomes a backbone: whether it can serve, and which maps are used."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
from torch import nn

from models.backbones.spec import FeatureInfo
from utils.errors import UserError

OUTPUT_STRIDES = (8, 16, 32)
"""What NET.OUTPUT_STRIDE may say."""
SKIP_STRIDE = 4
ANY_SIZE = {"strict_img_size": False, "dynamic_img_size": True}
"""What makes those transformers that are built for one size of images take others."""

_UNEXPECTED = re.compile(r"unexpected keyword argument\S* (.*)")


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


def find_plan(name: str, output_stride: int | None) -> Plan:
    """The plan of timm's model `name`; see `timm_spec` for what is asked and raised."""
    _require_known(name)
    asked = (16, 32, 8) if output_stride is None else (output_stride,)
    plan = next((plan for stride in asked if (plan := _plan(name, stride))), None)
    if plan is None:
        raise _no_such_stride(name, output_stride)
    return plan


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
            features, options = create_features(name, {**ANY_SIZE, **options})
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


def create_features(
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
