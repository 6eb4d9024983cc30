"""Whether weights are those of a network; if not, what they are and what to do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from core.config import Config, load_config
from core.published import class_entries, published_state
from core.snapshot_settings import CONFIG_FILE
from models import get_model
from models.backbones import BACKBONES, TIMM
from models.builder import MODELS
from utils.errors import UserError, first_few

# least intersection over union of their entries
MIN_OVERLAP = 0.5

Entries = frozenset[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class Architecture:
    """The network, or the backbone, that weights belong to.

    Attributes:
        backbone: as NET.BACKBONE calls it.
        model: of a snapshot, as NET.MODEL calls it; "" for ImageNet weights, of the backbone alone.
    """

    backbone: str
    model: str = ""

    def __str__(self) -> str:
        if self.model:
            return f"a snapshot of {self.model} with {self.backbone}"
        return f"ImageNet weights of {self.backbone}"


def closest_architecture(
    state: Mapping[str, Tensor], others: Mapping[Architecture, Mapping[str, Tensor]] | None = None
) -> Architecture | None:
    """The architecture with most entries in common with `state`, None if too few are.

    Of how many classes a snapshot is plays no part.

    Args:
        state: entries of a weights file.
        others: entries of architectures to think of beside the published ones.
    """
    found = _entries(state)
    known = {each: _entries(entries) for each, entries in (others or {}).items()} | _known()
    overlaps = {
        architecture: len(found & entries) / max(1, len(found | entries))
        for architecture, entries in known.items()
    }
    best = max(overlaps, key=overlaps.__getitem__)
    return best if overlaps[best] >= MIN_OVERLAP else None


@cache
def _known() -> Mapping[Architecture, Entries]:
    """Every published network's entries."""
    known = {}
    # on this device tensors have a shape but no memory
    with torch.device("meta"):
        for backbone, spec in BACKBONES.items():
            weights = spec.build(nn.BatchNorm2d).state_dict()
            known[Architecture(backbone)] = _entries(weights)
            for model in MODELS:
                network = get_model(replace(Config().NET, MODEL=model, BACKBONE=backbone))
                known[Architecture(backbone, model)] = _entries(published_state(network))
    return known


@cache
def _class_entries() -> frozenset[str]:
    """The names of entries whose first dimension is the number of objects."""
    with torch.device("meta"):
        networks = [get_model(replace(Config().NET, MODEL=model)) for model in MODELS]
    return frozenset(name for network in networks for name in class_entries(network))


def _entries(state: Mapping[str, Tensor]) -> Entries:
    # old files have no batch counters
    return frozenset(
        (name, tuple(tensor.shape[name in _class_entries() :]))
        for name, tensor in state.items()
        if not name.endswith("num_batches_tracked")
    )


class WeightsError(UserError):
    """A weights file that cannot be used.

    Attributes:
        fault: what is wrong, as the end of a sentence that begins with the file.
    """

    def __init__(self, path: str | Path, fault: str, remedy: str) -> None:
        super().__init__(f"{path} {fault}; {remedy}")
        self.fault = fault


def require_tensors(path: str | Path, content: Any) -> None:
    """Raise `WeightsError` unless a file's content is a dictionary of ordinary tensors."""
    if found := _strange_content(content):
        raise WeightsError(
            path,
            f"is no weights file: expected a dictionary of tensors, {found}",
            "take another file, or save the network's state_dict alone",
        )


def require_match(
    path: str | Path,
    found: Mapping[str, Tensor],
    expected: Mapping[str, Tensor],
    needed: Architecture | None,
    remedy: str,
) -> None:
    """Raise `WeightsError` unless the weights are those of a network, and finite.

    Args:
        path: the file that they are of.
        found: what it holds.
        expected: entries of the same names, shapes and kinds of number.
        needed: the architecture of `expected`, if it is one of ours.
        remedy: how to get the right weights.
    """
    both = [name for name in expected if name in found]
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    differing = [text for name in both if (text := _difference(name, found[name], expected[name]))]
    if missing or unknown or differing:
        closest = closest_architecture(found, {needed: expected} if needed else None)
        if closest is None and needed and needed.model:
            closest = _kept_architecture(Path(path).parent)
        if needed and closest == needed and (counts := _objects_of_both(found, expected)):
            raise WeightsError(
                path,
                f"is {needed} of {counts[0]} objects, and the data set has {counts[1]}",
                f"give the data set it was trained on (--dataset, DATASET), or {remedy}",
            )
        faults = [_identity(closest, needed)]
        is_another = closest and closest.model and needed and closest != needed
        if not is_another:  # which says it all
            faults += [
                f"it lacks {first_few(missing)}" if missing else "",
                f"the network does not have {first_few(unknown)}" if unknown else "",
                first_few(differing),
            ]
        raise WeightsError(
            path,
            f"does not fit: {'; '.join(filter(None, faults))}; {len(both) - len(differing)} of "
            f"the network's {len(expected)} entries match",
            ", or ".join(filter(None, [_changes(closest, needed), remedy])),
        )
    require_finite(path, {name: found[name] for name in both}, remedy)


def _kept_architecture(folder: Path) -> Architecture | None:
    """What the config.yaml beside a snapshot says that it is, if its backbone is one of timm's.

    Those of the published ones are known by their entries.
    """
    path = folder / CONFIG_FILE
    if not path.exists():
        return None
    try:
        net = load_config(path).NET
    except UserError:  # which is not what is wrong with the weights
        return None
    return Architecture(net.BACKBONE, net.MODEL) if net.BACKBONE.startswith(TIMM) else None


def describe_misfit(found: Mapping[str, Tensor], needed: Architecture, difference: str) -> str:
    """The fault of weights that are not those of `needed`; see `WeightsError`."""
    return f"does not fit: {_identity(closest_architecture(found), needed)}; {difference}"


def require_finite(path: str | Path, entries: Mapping[str, Tensor], remedy: str) -> None:
    """Raise `WeightsError` unless the entries of the file at `path` are finite numbers."""
    broken = [name for name, tensor in entries.items() if not tensor.isfinite().all()]
    if broken:
        raise WeightsError(path, f"holds weights that are not finite: {first_few(broken)}", remedy)


def _objects_of_both(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> tuple[int, int] | None:
    """The numbers of objects of both sides, if these differ and nothing else does."""
    if found.keys() != expected.keys():
        return None
    counts = set()
    for name in found:
        one, other = found[name], expected[name]
        if name in _class_entries() and one.dim() == other.dim():
            counts.add((len(one), len(other)))
            one, other = one[:1], other[:1]
        if _difference(name, one, other):
            return None
    return counts.pop() if len(counts) == 1 else None


def _difference(name: str, found: Tensor, expected: Tensor) -> str:
    if found.shape != expected.shape:
        return f"{name} is {_shape(found)}, the network's is {_shape(expected)}"
    if _kind(found) != _kind(expected):
        return f"{name} holds {_dtype(found)}, the network's {_dtype(expected)}"
    return ""


def _strange_content(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"found {_type(content)}"
    if not content:
        return "found an empty dictionary"
    if not any(isinstance(value, Tensor) for value in content.values()):
        return f"found a dictionary with {first_few([repr(name) for name in content])}"
    for name, value in content.items():
        if not isinstance(value, Tensor):
            return f"but its entry {name!r} is {_type(value)}"
        if value.is_meta or value.layout != torch.strided:
            kind = "without values" if value.is_meta else f"of layout {value.layout}"
            return f"but its entry {name!r} is a tensor {kind}"
    return ""


def _identity(found: Architecture | None, needed: Architecture | None) -> str:
    if found and found == needed:
        return f"it is nearly {needed}"
    looks = f"it looks like {found}" if found else "it is of no network known here"
    return f"{looks}, needed is {needed}" if needed else looks


def _changes(found: Architecture | None, needed: Architecture | None) -> str:
    """What to set for a network that these weights do fit."""
    if not found or not needed or bool(found.model) != bool(needed.model):
        return ""
    changes = []
    if found.backbone != needed.backbone:
        changes.append(f"set CONFIG (--cfg) to a configuration with NET.BACKBONE {found.backbone}")
    if found.model != needed.model:
        changes.append(f"give --set NET.MODEL {found.model}")
    return " and ".join(changes)


def _kind(tensor: Tensor) -> str:
    if tensor.is_complex():
        return "complex"
    return "real" if tensor.is_floating_point() else "whole"


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _type(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _shape(tensor: Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "scalar"
