"""The optimizer and its four groups of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.backbones import get_backbone_spec
from models.network import Network
from utils.errors import UserError

_TRAINED_LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.SyncBatchNorm)


def build_optimizer(model: Network, net: Any) -> torch.optim.Optimizer:
    """SGD or Adam over pretrained weights, pretrained biases, new weights and new biases.

    The backbone is pretrained, the heads are new. The learning rate of each group is
    constant: NET.LR times the multiplier in the backbone's spec. Only weights decay. Frozen
    parameters are in no group, so a group may be empty.

    Args:
        net: the NET section of the configuration.
    """
    groups = _group_parameters(model)
    multipliers = get_backbone_spec(net.BACKBONE).lr_multipliers
    options = [
        {
            "params": parameters,
            "lr": net.LR * multiplier,
            "weight_decay": net.WEIGHT_DECAY if index % 2 == 0 else 0.0,
        }
        for index, (parameters, multiplier) in enumerate(zip(groups, multipliers, strict=True))
    ]
    if net.OPT == "Adam":
        return torch.optim.Adam(options, betas=(net.BETA1, 0.999))
    return torch.optim.SGD(options, momentum=net.MOMENTUM)


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


def _group_parameters(model: Network) -> tuple[list[nn.Parameter], ...]:
    groups: tuple[list[nn.Parameter], ...] = ([], [], [], [])
    for name, module in model.named_modules():
        if not isinstance(module, _TRAINED_LAYERS):
            continue
        offset = 0 if name.startswith("backbone.") else 2
        for parameter, kind in ((module.weight, 0), (module.bias, 1)):
            if parameter is not None and parameter.requires_grad:
                groups[offset + kind].append(parameter)
    return groups
