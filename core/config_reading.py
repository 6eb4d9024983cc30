"""How configuration files and overrides become checked values; `core.config` says of which keys."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Sequence
from itertools import accumulate
from reprlib import repr as short_repr
from typing import Any

from utils.errors import UserError
from utils.files import expanded

AUTO = "auto"
"""The value of a key of numbers that is settled later."""


def flatten_yaml(
    section: dict[Any, Any], known: dict[str, Any], source: str, prefix: str = ""
) -> list[tuple[str, Any]]:
    """Turn nested sections into (dotted key, value) pairs; leaves are not checked yet."""
    pairs: list[tuple[str, Any]] = []
    for name, value in section.items():
        key = f"{prefix}{name}"
        is_section = any(other.startswith(f"{key}.") for other in known)
        if is_section and isinstance(value, dict):
            pairs += flatten_yaml(value, known, source, f"{key}.")
        elif is_section and value is not None:
            raise UserError(
                f"{source}: {key} is a section with keys of its own, found {short_repr(value)}"
            )
        elif not is_section:
            pairs.append((key, value))
    return pairs


def parse_pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
    """The (key, value) pairs of `KEY VALUE ...` words; a `UserError` if one is left over."""
    if len(overrides) % 2:
        raise UserError(
            f"--set takes KEY VALUE pairs, found an odd number of words: {' '.join(overrides)} "
            f"(which key lacks its value?)"
        )
    keys, texts = overrides[::2], overrides[1::2]
    return [(key, _literal(text)) for key, text in zip(keys, texts, strict=True)]


def _literal(text: str) -> Any:
    # YAML spells truth in lower case, and users carry values over from the files
    if text in ("true", "false"):
        return text == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return text


def flatten_fields(cls: type, prefix: str = "") -> dict[str, tuple[Any, dict[str, Any]]]:
    """Dotted key → (type, metadata) of every leaf below a configuration dataclass."""
    hints = typing.get_type_hints(cls)
    leaves: dict[str, tuple[Any, dict[str, Any]]] = {}
    for item in dataclasses.fields(cls):
        key = f"{prefix}{item.name}"
        if dataclasses.is_dataclass(hints[item.name]):
            leaves |= flatten_fields(hints[item.name], f"{key}.")
        else:
            leaves[key] = (hints[item.name], dict(item.metadata))
    return leaves


def checked(key: str, value: Any, known: dict[str, Any], source: str) -> Any:
    """`value` in the type of `key`; a `UserError` names both and the `source` they stand in."""
    if key not in known:
        raise UserError(f"{source}: unknown key {key}{_suggestion(key, known)}")
    kind, limits = known[key]
    if limits.get("old"):
        return value
    if value is False and "off" in limits.get("choices", ()):
        value = "off"  # YAML reads a bare off as false
    try:
        value = _coerce(value, kind)
    except TypeError as error:
        raise UserError(f"{source}: {key} must be {error}, found {short_repr(value)}") from error
    if limits.get("path"):
        try:
            return expanded(value)
        except UserError as error:
            raise UserError(f"{source}: {key} {error}") from error
    for item in value if isinstance(value, tuple) else (value,):
        _check_limits(f"{source}: {key}", item, limits)
    return value


def _suggestion(key: str, known: dict[str, Any]) -> str:
    sections = {
        section for leaf in known for section in accumulate(leaf.split(".")[:-1], "{}.{}".format)
    }
    if key in sections:
        return f" ({key} is a section: name a key below it, as {key}.NAME)"
    # a right name in the wrong section is as likely as a slip of the pen
    known = {other: leaf for other, leaf in known.items() if not leaf[1].get("old")}
    last = key.rsplit(".", 1)[-1].upper()
    same_name = [other for other in known if other.rsplit(".", 1)[-1] == last]
    candidates = same_name or [*known, *sorted(sections)]
    nearest = difflib.get_close_matches(key.upper(), candidates, n=1, cutoff=0)
    return f"; did you mean {nearest[0]}?"


def _coerce(value: Any, kind: Any) -> Any:
    """Bring `value` to the type `kind`; a TypeError says in words what is expected."""
    if typing.get_origin(kind) is tuple:
        return _coerce_tuple(value, kind)
    if kind is float:
        return _coerce_float(value)
    if kind == float | str:
        return value if value == AUTO else _coerce_float(value, f"a finite number, or {AUTO}")
    if kind is int:
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        raise TypeError("a whole number")
    if kind is bool:
        if isinstance(value, bool):
            return value
        raise TypeError("true or false")
    if isinstance(value, str):
        return value
    raise TypeError("text")


def _coerce_float(value: Any, expected: str = "a finite number") -> float:
    # YAML reads 1e-5, without a dot, as text
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
            if math.isfinite(number):
                return number
    raise TypeError(expected)


def _coerce_tuple(value: Any, kind: Any) -> tuple[Any, ...]:
    if isinstance(value, str):
        value = _literal(value)  # YAML reads Python's (1, 2) as text
    item, last = typing.get_args(kind)
    length = None if last is Ellipsis else 2
    words = "whole numbers" if item is int else "numbers"
    expected = f"a list of {words}" if length is None else f"a list of {length} {words}"
    if not isinstance(value, (list, tuple)) or not value:
        raise TypeError(expected)
    if length is not None and len(value) != length:
        raise TypeError(expected)
    try:
        return tuple(_coerce(part, item) for part in value)
    except TypeError:
        raise TypeError(expected) from None


def _check_limits(where: str, value: Any, limits: dict[str, Any]) -> None:
    if not limits:
        return
    if limits["choices"] and value not in limits["choices"]:
        choices = ", ".join(map(str, limits["choices"]))
        raise UserError(f"{where} must be one of {choices}, found {value!r}")
    if not isinstance(value, (int, float)):
        return
    if not limits["low"] <= value <= limits["high"]:
        bounds = f"at least {limits['low']:g}"
        if limits["high"] < math.inf:
            bounds += f" and at most {limits['high']:g}"
        raise UserError(f"{where} must be {bounds}, found {value!r}")


def build(cls: type, prefix: str, values: dict[str, Any]) -> Any:
    """A configuration dataclass with the given values of dotted keys, else its defaults."""
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        key = f"{prefix}{item.name}"
        if dataclasses.is_dataclass(hints[item.name]):
            arguments[item.name] = build(hints[item.name], f"{key}.", values)
        elif key in values:
            arguments[item.name] = values[key]
    return cls(**arguments)
