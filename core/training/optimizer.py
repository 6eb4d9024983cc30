"""The optimizer, its four groups of parameters, and the schedule of their learning rates."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from models.backbones import get_backbone_spec
from models.network import Network
from utils.errors import UserError

Groups = Sequence[Mapping[str, Any]]


def _sgd(groups: Groups, net: Any) -> torch.optim.Optimizer:
    # in one pass over memory in place of four, where PyTorch can
    kinds = {parameter.device.type for group in groups for parameter in group["params"]}
    optimizer = torch.optim.SGD(groups, momentum=net.MOMENTUM, fused=kinds <= {"cpu", "cuda"})
    # made here, as zeros: a fused step that makes them and that fp16 leaves out, as it mostly does
    # the first one, would keep whatever was in their memory
    for group in optimizer.param_groups if net.MOMENTUM else ():
        for parameter in group["params"]:
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


OPTIMIZERS: Mapping[str, Callable[[Groups, Any], torch.optim.Optimizer]] = MappingProxyType(
    {
        "SGD": _sgd,
        "Adam": lambda groups, net: torch.optim.Adam(groups, betas=(net.BETA1, 0.999)),
        "AdamW": lambda groups, net: torch.optim.AdamW(groups, betas=(net.BETA1, 0.999)),
    }
)
"""NET.OPT → the optimizer of groups, which have their rates and decays; and the NET section."""

SCHEDULES: Mapping[str, Callable[[float], float]] = MappingProxyType(
    {
        "constant": lambda progress: 1.0,
        "poly": lambda progress: (1 - progress) ** 0.9,
        "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,
    }
)
"""TRAIN.SCHEDULE → the learning rates' factor, from how much of training is done, in [0, 1]."""


def build_optimizer(model: Network, net: Any) -> torch.optim.Optimizer:
    """NET.OPT over pretrained weights, pretrained biases, new weights and new biases.

    The learning rate of each group is NET.LR times the multiplier in the backbone's spec, and that
    times the schedule's factor (see `set_learning_rates`). Only weights decay. A group may be
    empty.

    Args:
        net: the NET section of the configuration.

    Raises:
        ValueError: a parameter that wants a gradient is in no group, or in two.
    """
    groups = group_parameters(model)
    _require_each_once(model, groups)
    multipliers = get_backbone_spec(net.BACKBONE).lr_multipliers
    options = [
        {
            "params": parameters,
            "lr": net.LR * multiplier,
            "initial_lr": net.LR * multiplier,  # PyTorch's name for what schedules start from
            "weight_decay": net.WEIGHT_DECAY if index % 2 == 0 else 0.0,
        }
        for index, (parameters, multiplier) in enumerate(zip(groups, multipliers, strict=True))
    ]
    return OPTIMIZERS[net.OPT](options, net)


def group_parameters(model: Network) -> tuple[list[nn.Parameter], ...]:
    """Pretrained weights, pretrained biases, new weights and new biases, in the model's order.

    The backbone is pretrained, all else is new. By their names, whatever module they are of,
    parameters are biases if the last part has `bias` in it (`bias`, `in_proj_bias`), or if they are
    vectors or scalars that are not called `weight`: a layer scale or a temperature is, like a bias,
    no weight to be pulled towards 0. All others are weights, those of normalisation layers
    included, which decay in the published code. What wants no gradient is in no group.
    """
    groups: tuple[list[nn.Parameter], ...] = ([], [], [], [])
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            offset = 0 if name.startswith("backbone.") else 2
            groups[offset + _is_bias(name, parameter)].append(parameter)
    return groups


def rate_factor(schedule: str, warmup: int, step: int, steps: int) -> float:
    """What the learning rates of a step are multiplied with.

    factor = min(1, (step + 1) / warmup) · SCHEDULES[schedule](step / steps): a linear warm-up over
    the first `warmup` steps, times the schedule. It depends on nothing else, so that a resumed run
    has the rates of one that was never interrupted, or, where TRAIN.NUM_EPOCHS was raised, those of
    a run that was to be as long from the start. A step that fp16 leaves out counts.

    Args:
        schedule: TRAIN.SCHEDULE.
        warmup: TRAIN.WARMUP, 0 for none.
        step: counted from 0 over all epochs.
        steps: of the whole run.
    """
    ramp = min(1.0, (step + 1) / warmup) if warmup else 1.0
    return ramp * SCHEDULES[schedule](min(1.0, step / steps))


def set_learning_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Give every group its configured learning rate times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def require_usable_warmup(warmup: int, steps: int) -> None:
    """Raise `UserError` where a run of so many steps would end before its warm-up."""
    if warmup > steps:
        raise UserError(
            f"TRAIN.WARMUP {warmup} is longer than the whole run of {steps} steps; lower it, or "
            "raise TRAIN.NUM_EPOCHS"
        )


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """An optimizer's state with its kind, as plain values and tensors."""
    return {"kind": type(optimizer).__name__, "optimizer": optimizer.state_dict()}


def restore_optimizer(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Any], path: Path
) -> None:
    """Load what `optimizer_state` gave, from the file at `path`.

    Learning rates and the like stay those that `optimizer` was built with.

    Raises:
        UserError: the state is of another optimizer or network.
    """
    remedy = "resume with the configuration it was written with, or remove it to start anew"
    options = [
        {key: value for key, value in group.items() if key != "params"}
        for group in optimizer.param_groups
    ]
    try:
        kind = state["kind"]
        if kind != type(optimizer).__name__:
            raise UserError(
                f"{path} was saved with {kind}, NET.OPT is {type(optimizer).__name__}; {remedy}"
            )
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not fit this network ({error}); {remedy}") from error
    # the state has the options it was written with; those of the configuration hold
    for group, configured in zip(optimizer.param_groups, options, strict=True):
        group.update(configured)
    _lay_out_as_parameters(optimizer)


def _lay_out_as_parameters(optimizer: torch.optim.Optimizer) -> None:
    """Bring the state into the parameters' order in memory, by which fused steps match values.

    A run that goes on in another precision or on another device may have channels_last weights and
    the state of contiguous ones.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            alike = isinstance(value, Tensor) and value.shape == parameter.shape
            if alike and value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter).copy_(value)


def _is_bias(name: str, parameter: nn.Parameter) -> bool:
    last = name.rpartition(".")[2]
    return "bias" in last or (parameter.ndim <= 1 and last != "weight")


def _require_each_once(model: Network, groups: Sequence[Sequence[nn.Parameter]]) -> None:
    counts = Counter(id(parameter) for parameters in groups for parameter in parameters)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and counts[id(parameter)] != 1:
            count = counts[id(parameter)]
            raise ValueError(f"{name} wants a gradient, but is {count} times in the groups")
