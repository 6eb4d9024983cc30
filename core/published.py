"""The names that weights are published under, and ours.

A published snapshot is a plain dictionary of tensors: the backbone's entries without prefix, the
heads' as they are, and the aliases and constants that each model declares.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from models.network import Network

_PREFIX = "backbone."


def published_state(model: Network) -> dict[str, Tensor]:
    """The model's weights under the published names, in the published order."""
    state: dict[str, Tensor] = {}
    constants = model.published_constants()
    for child, _ in model.named_children():
        prefix = f"{child}."
        for name, tensor in model.get_submodule(child).state_dict(prefix=prefix).items():
            for published in model.published_aliases.get(name, (name.removeprefix(_PREFIX),)):
                state[published] = tensor
        state |= {name: value for name, value in constants.items() if name.startswith(prefix)}
    return state


def class_entries(model: Network) -> list[str]:
    """The published names of the entries of the model's class layer."""
    layer = f"{model.class_layer}."
    own = [name for name in model.state_dict() if name.startswith(layer)]
    return [alias for name in own for alias in model.published_aliases.get(name, (name,))]


def own_state(model: Network, published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights under published names, all that the model has, as its `load_state_dict` wants them.

    Where aliases of one tensor differ, the last one holds, as when the published code loads them.
    """
    constants = model.published_constants()
    backbone = model.backbone.state_dict()
    originals = {
        alias: name for name, aliases in model.published_aliases.items() for alias in aliases
    }
    own: dict[str, Tensor] = {}
    for name in published_state(model):
        if name not in constants:
            ours = f"{_PREFIX}{name}" if name in backbone else originals.get(name, name)
            own[ours] = published[name]
    return own
