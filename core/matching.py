"""Whether what a file holds are the weights of a network; if not, what it is and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.recognition import WeightsLabel, recognise
from utils.errors import UserError


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
    needed: WeightsLabel | None,
    remedy: str,
) -> None:
    """Raise `WeightsError` unless the weights are those of a network, and finite.

    Args:
        path: the file that they are of.
        found: what it holds.
        expected: entries of the same names, shapes and kinds of number.
        needed: what these are of, if it is a network that the configuration names.
        remedy: where to get others.
    """
    missing = [name for name in expected if name not in found]
    unknown = [name for name in found if name not in expected]
    both = [name for name in expected if name in found]
    shapes = [
        f"{name} is {_shape(found[name])}, the network's is {_shape(expected[name])}"
        for name in both
        if found[name].shape != expected[name].shape
    ]
    kinds = [
        f"{name} holds {_dtype(found[name])}, the network's {_dtype(expected[name])}"
        for name in both
        if found[name].shape == expected[name].shape and _kind(found[name]) != _kind(expected[name])
    ]
    faults = [
        f"it lacks {_some(missing)}" if missing else "",
        f"the network does not have {_some(unknown)}" if unknown else "",
        _some(shapes),
        _some(kinds),
    ]
    if any(faults):
        label = recognise(found)
        matched = len(both) - len(shapes) - len(kinds)
        parts = [_identity(label, needed), *faults]
        raise WeightsError(
            path,
            f"does not fit: {'; '.join(filter(None, parts))}; {matched} of the network's "
            f"{len(expected)} entries match",
            ", or ".join(filter(None, [_changes(label, needed), remedy])),
        )
    broken = [name for name in both if not found[name].isfinite().all()]
    if broken:
        raise WeightsError(path, f"holds weights that are not finite: {_some(broken)}", remedy)


def _strange_content(content: Any) -> str:
    if not isinstance(content, Mapping):
        return f"found {_type(content)}"
    if not content:
        return "found an empty dictionary"
    if not any(isinstance(value, Tensor) for value in content.values()):
        return f"found a dictionary with {_some([repr(name) for name in content])}"
    for name, value in content.items():
        if not isinstance(value, Tensor):
            return f"but its entry {name!r} is {_type(value)}"
        if value.is_meta or value.layout != torch.strided:
            kind = "without values" if value.is_meta else f"of layout {value.layout}"
            return f"but its entry {name!r} is a tensor {kind}"
    return ""


def _identity(found: WeightsLabel | None, needed: WeightsLabel | None) -> str:
    if found and found == needed:
        return f"it is nearly {needed}"
    looks = f"it looks like {found}" if found else "it is of no network known here"
    return f"{looks}, needed is {needed}" if needed else looks


def _changes(found: WeightsLabel | None, needed: WeightsLabel | None) -> str:
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


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
