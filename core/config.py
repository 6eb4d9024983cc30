"""The configuration: typed, checked and immutable once loaded.

A YAML file gives sections (`NET:` with `LR: 0.001` below it); `--set` gives dotted keys
(`NET.LR 0.001`). Both are held against the dataclasses below, which are the only place where keys,
types, defaults and permitted values stand.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import math
import typing
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from reprlib import repr as short_repr
from typing import Any

import yaml

from utils.errors import UserError


def _option(
    default: Any,
    *,
    choices: tuple[str, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
) -> Any:
    """A key with a default and the values it may take (for a list: each of its items)."""
    return field(default=default, metadata={"choices": choices, "low": low, "high": high})


@dataclass(frozen=True)
class TrainConfig:
    """TRAIN.*"""

    BATCH_SIZE: int = _option(20, low=1)
    NUM_EPOCHS: int = _option(15, low=0)  # epochs run from 0 to NUM_EPOCHS, both included
    NUM_WORKERS: int = _option(4, low=0)
    MASK_LOSS: float = 0.0  # used by nothing; kept because published files set it
    PRETRAIN: int = _option(5, low=0)  # epochs with the classification loss alone
    VAL_INTERVAL: int = _option(2, low=1)  # epochs between validations


@dataclass(frozen=True)
class TestConfig:
    """TEST.*"""

    __test__ = False  # not a pytest class

    METHOD: str = _option("multiscale", choices=("multiscale", "multicrop"))
    DATA_ROOT: str = ""  # empty: DATASET.PATH
    SCALES: tuple[float, ...] = _option((1.0, 0.5, 1.5, 2.0), low=0.01)
    FLIP: bool = True
    PAD_SIZE: tuple[int, int] = _option((1024, 1024), low=1)  # height, width
    CROP_SIZE: tuple[int, int] = _option((448, 448), low=1)  # height, width
    CROP_GRID_SIZE: tuple[int, int] = _option((2, 2), low=1)  # rows, columns
    BATCH_SIZE: int = _option(8, low=1)
    BG_POW: float = _option(3.0, low=0)
    NUM_CLASSES: int = _option(21, low=2)
    USE_GT_LABELS: bool = False
    FP_CUT_SCORE: float = 0.1


@dataclass(frozen=True)
class DatasetConfig:
    """DATASET.*"""

    CROP_SIZE: int = _option(321, low=1)
    SCALE_FROM: float = _option(0.9, low=0.01, high=1)
    SCALE_TO: float = _option(1.0, low=0.01, high=1)
    PATH: str = "./data"


@dataclass(frozen=True)
class NetConfig:
    """NET.*"""

    MODEL: str = "ae"
    BACKBONE: str = "resnet50"
    PRE_WEIGHTS_PATH: str = ""
    FREEZE_BN: bool = True  # false: train from scratch, nothing is frozen
    OPT: str = _option("SGD", choices=("SGD", "Adam"))
    LR: float = _option(0.001, low=0)
    BETA1: float = _option(0.5, low=0, high=0.9999)
    MOMENTUM: float = _option(0.9, low=0)
    WEIGHT_DECAY: float = _option(1e-5, low=0)
    LOSS: str = _option("SoftMargin", choices=("SoftMargin", "Hinge"))
    MASK_LOSS_BCE: float = 1.0
    BG_SCORE: float = 0.1
    FOCAL_P: float = 3.0
    FOCAL_LAMBDA: float = _option(0.01, low=0)
    PAMR_KERNEL: tuple[int, ...] = _option((1, 2, 4, 8, 12, 24), low=1)
    PAMR_ITER: int = _option(10, low=0)
    SG_PSI: float = _option(0.3, low=0, high=0.99)


@dataclass(frozen=True)
class CrfConfig:
    """MASKS.CRF.*; used by nothing, kept because published files set it."""

    ALPHA_LOW: float = 4.0
    ALPHA_HIGH: float = 32.0


@dataclass(frozen=True)
class MasksConfig:
    """MASKS.*"""

    CRF: CrfConfig = CrfConfig()


@dataclass(frozen=True)
class Config:
    """The whole configuration; attributes nest as the keys do (`cfg.NET.MODEL`)."""

    NUM_GPUS: int = 1  # used by nothing: all visible GPUs are
    TRAIN: TrainConfig = TrainConfig()
    TEST: TestConfig = TestConfig()
    DATASET: DatasetConfig = DatasetConfig()
    NET: NetConfig = NetConfig()
    MASKS: MasksConfig = MasksConfig()

    def to_yaml(self) -> str:
        """The full configuration as YAML that `load_config` reads back to an equal one."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False)


def load_config(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Load a configuration file and apply overrides to it.

    Args:
        path: a YAML file, or None for the defaults.
        overrides: `["NET.LR", "0.01", ...]`, dotted keys and their values in turn, as from `--set`.
            Values are Python literals; what is none, is text. Of a repeated key the last one holds.

    Raises:
        UserError: the file cannot be read; an unknown key; a value of the wrong type or out of
            range; an override without its value. The message names the key, where it stands, and
            for an unknown key the nearest valid one.
    """
    known = _flatten_fields(Config)
    values: dict[str, Any] = {}
    if path is not None:
        source = str(path)
        for key, value in _flatten_yaml(_read_yaml(Path(path)), known, source):
            values[key] = _checked(key, value, known, source)
    for key, value in _pairs(overrides):
        values[key] = _checked(key, value, known, "--set")
    config = _build(Config, "", values)
    if config.DATASET.SCALE_FROM > config.DATASET.SCALE_TO:
        sources = [*([] if path is None else [str(path)]), *(["--set"] if overrides else [])]
        raise UserError(
            f"{' with '.join(sources)}: DATASET.SCALE_FROM ({config.DATASET.SCALE_FROM:g}) "
            f"exceeds DATASET.SCALE_TO ({config.DATASET.SCALE_TO:g})"
        )
    return config


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"cannot read the configuration {path}: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise UserError(f"the configuration {path} is not UTF-8 text: {error}") from error
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise UserError(f"{path}{line} is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2020-99-99
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected sections such as `NET:`, found {short_repr(content)}")
    return content


def _flatten_yaml(
    section: dict[Any, Any], known: dict[str, Any], source: str, prefix: str = ""
) -> list[tuple[str, Any]]:
    """Turn nested sections into (dotted key, value) pairs; leaves are not checked yet."""
    pairs: list[tuple[str, Any]] = []
    for name, value in section.items():
        key = f"{prefix}{name}"
        is_section = any(other.startswith(f"{key}.") for other in known)
        if is_section and isinstance(value, dict):
            pairs += _flatten_yaml(value, known, source, f"{key}.")
        elif is_section and value is not None:
            raise UserError(
                f"{source}: {key} is a section with keys of its own, found {short_repr(value)}"
            )
        elif not is_section:
            pairs.append((key, value))
    return pairs


def _pairs(overrides: Sequence[str]) -> list[tuple[str, Any]]:
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


def _flatten_fields(cls: type, prefix: str = "") -> dict[str, tuple[Any, dict[str, Any]]]:
    """Dotted key → (type, metadata) of every leaf below a configuration dataclass."""
    hints = typing.get_type_hints(cls)
    leaves: dict[str, tuple[Any, dict[str, Any]]] = {}
    for item in dataclasses.fields(cls):
        key = f"{prefix}{item.name}"
        if dataclasses.is_dataclass(hints[item.name]):
            leaves |= _flatten_fields(hints[item.name], f"{key}.")
        else:
            leaves[key] = (hints[item.name], dict(item.metadata))
    return leaves


def _checked(key: str, value: Any, known: dict[str, Any], source: str) -> Any:
    if key not in known:
        raise UserError(f"{source}: unknown key {key}{_suggestion(key, known)}")
    kind, limits = known[key]
    try:
        value = _coerce(value, kind)
    except TypeError as error:
        raise UserError(f"{source}: {key} must be {error}, found {short_repr(value)}") from error
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


def _coerce_float(value: Any) -> float:
    # YAML reads 1e-5, without a dot, as text
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        with contextlib.suppress(ValueError, OverflowError):
            number = float(value)
            if math.isfinite(number):
                return number
    raise TypeError("a finite number")


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
        raise UserError(f"{where} must be one of {', '.join(limits['choices'])}, found {value!r}")
    if not isinstance(value, (int, float)):
        return
    if not limits["low"] <= value <= limits["high"]:
        bounds = f"at least {limits['low']:g}"
        if limits["high"] < math.inf:
            bounds += f" and at most {limits['high']:g}"
        raise UserError(f"{where} must be {bounds}, found {value!r}")


def _build(cls: type, prefix: str, values: dict[str, Any]) -> Any:
    hints = typing.get_type_hints(cls)
    arguments: dict[str, Any] = {}
    for item in dataclasses.fields(cls):
        key = f"{prefix}{item.name}"
        if dataclasses.is_dataclass(hints[item.name]):
            arguments[item.name] = _build(hints[item.name], f"{key}.", values)
        elif key in values:
            arguments[item.name] = values[key]
    return cls(**arguments)
