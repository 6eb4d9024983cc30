"""The configuration: typed, checked and immutable once loaded.

A YAML file gives sections (`NET:` with `LR: 0.001` below it); `--set` gives dotted keys
(`NET.LR 0.001`). Both are held against the dataclasses below, which are the only place where keys,
types, defaults and permitted values stand.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import Any

import yaml

from core.config_reading import (
    AUTO,
    build,
    checked,
    flatten_fields,
    flatten_yaml,
    parse_pairs,
)
from datasets.info import DatasetInfo
from utils.errors import UserError
from utils.files import user_path
from utils.yaml_files import read_yaml

OLD_KEYS = ("DEBUG", "CUDA", "PYTORCH_VERSION_LESS_THAN_040")
"""People's old files have them; whatever their values, they are accepted and dropped."""


PRECISIONS = ("off", "bf16", "fp16", AUTO)
"""What TRAIN.AMP and TEST.AMP may say; core.precision settles `auto` for a machine."""


def _option(
    default: Any,
    *,
    choices: tuple[str | int, ...] = (),
    low: float = -math.inf,
    high: float = math.inf,
    unused: bool = False,
    path: bool = False,
) -> Any:
    """A key with a default and the values it may take (for a list: each of its items).

    What is `unused` is read by nothing, and kept because published files set it. A `path` may
    begin with ~, a home; the configuration holds what that stands for.
    """
    limits = {"choices": choices, "low": low, "high": high, "unused": unused, "path": path}
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class TrainConfig:
    """TRAIN.*"""

    BATCH_SIZE: int = _option(20, low=1)
    NUM_EPOCHS: int = _option(15, low=0)  # epochs run from 0 to NUM_EPOCHS, both included
    MIN_STEPS: int = _option(0, low=0)  # in all; epochs pass small lists more than once for it
    NUM_WORKERS: int = _option(4, low=0)
    MASK_LOSS: float = _option(0.0, unused=True)
    PRETRAIN: int = _option(5, low=0)  # epochs with the classification loss alone
    VAL_INTERVAL: int = _option(2, low=1)  # epochs between validations
    SYNC_BN: bool = False  # BatchNorm over the batches of all processes, on GPUs
    SCHEDULE: str = _option("constant", choices=("constant", "poly", "cosine"))  # of NET.LR
    WARMUP: int = _option(0, low=0)  # steps in which the learning rates grow linearly
    AMP: str = _option("off", choices=PRECISIONS)  # of convolutions; auto: bf16 where it is fast
    TF32: bool = True  # GPUs may round float32 convolutions to TF32; never outside of training
    CHECKPOINT: bool = False  # compute activations again instead of storing them
    COMPILE: bool = False  # torch.compile: faster after a slow first step


@dataclass(frozen=True)
class InferenceConfig:
    """TEST.*"""

    METHOD: str = _option("multiscale", choices=("multiscale", "multicrop"))
    DATA_ROOT: str = _option("", path=True)  # empty: DATASET.PATH
    SCALES: tuple[float, ...] = _option((1.0, 0.5, 1.5, 2.0), low=0.01)
    FLIP: bool = True
    # multiscale: pad: views are windows of PAD_SIZE; fit: of their own size, in multiples of 16
    WINDOW: str = _option("pad", choices=("pad", "fit"))
    PAD_SIZE: tuple[int, int] = _option((1024, 1024), low=1)  # height, width
    CROP_SIZE: tuple[int, int] = _option((448, 448), low=1)  # height, width
    CROP_GRID_SIZE: tuple[int, int] = _option((2, 2), low=1)  # rows, columns
    BATCH_SIZE: int = _option(8, low=1)
    BG_POW: float = _option(3.0, low=0)
    NUM_CLASSES: int = _option(0, low=0)  # 0: the data set's; another number is an error
    USE_GT_LABELS: bool = False
    FP_CUT_SCORE: float | str = 0.1  # auto: what suits the validation images' labels best
    # for images that PAD_SIZE does not hold: grow it, or shrink the image (always so with fit)
    OVERSIZE: str = _option("grow", choices=("grow", "shrink"))
    CRF: bool = True
    CRF_PRESENT_ONLY: bool = False  # a CRF over the classes that an image's masks have, faster
    MIN_CONFIDENCE: float = _option(0.0, low=0, high=1)  # below: 255; a class's share of the masks
    AMP: str = _option("off", choices=PRECISIONS)  # of convolutions; auto: bf16 where it is fast
    COMPILE: bool = False  # torch.compile: faster after a slow first batch


@dataclass(frozen=True)
class DatasetConfig:
    """DATASET.*"""

    CROP_SIZE: int = _option(321, low=1)
    SCALE_FROM: float = _option(0.9, low=0.01, high=1)
    SCALE_TO: float = _option(1.0, low=0.01, high=1)
    PATH: str = _option("./data", path=True)


@dataclass(frozen=True)
class NetConfig:
    """NET.*"""

    MODEL: str = "ae"
    BACKBONE: str = "resnet50"
    OUTPUT_STRIDE: int = _option(16, choices=(8, 16, 32))  # timm's; published ones have their own
    PRE_WEIGHTS_PATH: str = _option("", path=True)  # timm: timm's own, for its backbones
    FREEZE_BN: bool = True  # false: train from scratch, nothing is frozen
    OPT: str = _option("SGD", choices=("SGD", "Adam", "AdamW"))
    LR: float = _option(0.001, low=0)
    BETA1: float = _option(0.5, low=0, high=0.9999)
    MOMENTUM: float = _option(0.9, low=0)
    WEIGHT_DECAY: float = _option(1e-5, low=0)
    LOSS: str = _option("SoftMargin", choices=("SoftMargin", "Hinge"))
    MASK_LOSS_BCE: float = 1.0
    BG_SCORE: float = 0.1
    FOCAL_P: float = 3.0
    FOCAL_LAMBDA: float = _option(0.01, low=0)
    REFINE: str = _option("pamr", choices=("pamr", "none"))  # of masks, before pseudo labels
    PAMR_KERNEL: tuple[int, ...] = _option((1, 2, 4, 8, 12, 24), low=1)
    PAMR_ITER: int = _option(10, low=0)
    SG_PSI: float = _option(0.3, low=0, high=0.99)


@dataclass(frozen=True)
class CrfConfig:
    """MASKS.CRF.*"""

    ALPHA_LOW: float = _option(4.0, unused=True)
    ALPHA_HIGH: float = _option(32.0, unused=True)


@dataclass(frozen=True)
class MasksConfig:
    """MASKS.*"""

    CRF: CrfConfig = CrfConfig()


@dataclass(frozen=True)
class Config:
    """The whole configuration; attributes nest as the keys do (`cfg.NET.MODEL`)."""

    NUM_GPUS: int = _option(1, unused=True)  # all visible GPUs are used
    TRAIN: TrainConfig = TrainConfig()
    TEST: InferenceConfig = InferenceConfig()
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
            Values are Python literals; anything else is text. Of a repeated key the last one holds.

    Keys that are set but read by nothing are listed on stderr, once.

    Raises:
        UserError: the file cannot be read; an unknown key; a value of the wrong type or out of
            range; an override without its value. The message names the key, where it stands, and
            for an unknown key the nearest valid one.
    """
    known = flatten_fields(Config) | {key: (Any, {"old": True}) for key in OLD_KEYS}
    values: dict[str, Any] = {}
    if path is not None:
        path = user_path(path)
        source = str(path)
        content = read_yaml(path, "the configuration", "sections such as `NET:`")
        for key, value in flatten_yaml(content, known, source):
            values[key] = checked(key, value, known, source)
    for key, value in parse_pairs(overrides):
        values[key] = checked(key, value, known, "--set")
    config = build(Config, "", values)
    source = " with ".join(
        [*([] if path is None else [str(path)]), *(["--set"] if overrides else [])]
    )
    if config.DATASET.SCALE_FROM > config.DATASET.SCALE_TO:
        raise UserError(
            f"{source}: DATASET.SCALE_FROM ({config.DATASET.SCALE_FROM:g}) "
            f"exceeds DATASET.SCALE_TO ({config.DATASET.SCALE_TO:g})"
        )
    if unused := [key for key in values if _is_set_in_vain(key, values[key], known)]:
        _say_once(f"note: {source}: nothing reads {', '.join(unused)}")
    return config


def fit_to_dataset(config: Config, info: DatasetInfo, overrides: Sequence[str] = ()) -> Config:
    """The configuration, with the data root of a data set that is given as a file.

    Args:
        config: loaded with
        overrides: these; DATASET.PATH and TEST.DATA_ROOT among them win over the file's path.
        info: the data set.

    Raises:
        UserError: TEST.NUM_CLASSES is not the data set's number of classes.
    """
    if config.TEST.NUM_CLASSES not in (0, info.num_classes):
        raise UserError(
            f"TEST.NUM_CLASSES is {config.TEST.NUM_CLASSES}, but {info.name} has "
            f"{info.num_classes} classes with background; leave the key out, or set it to 0"
        )
    if info.path is None:
        return config
    given = overrides[::2]
    data, test = config.DATASET, config.TEST
    if "DATASET.PATH" not in given:
        data = replace(data, PATH=str(info.path))
    if "TEST.DATA_ROOT" not in given:
        test = replace(test, DATA_ROOT="")
    return replace(config, DATASET=data, TEST=test)


def cut_score(test: InferenceConfig) -> float:
    """TEST.FP_CUT_SCORE; a `UserError` if it is not settled yet."""
    if test.FP_CUT_SCORE == AUTO:
        raise UserError(
            "TEST.FP_CUT_SCORE is auto, which training settles with its first snapshot; set a "
            "number, as --set TEST.FP_CUT_SCORE 0.3"
        )
    return test.FP_CUT_SCORE


def with_cut_score(config: Config, score: float | None) -> Config:
    """The configuration, whose TEST.FP_CUT_SCORE is settled if it is auto and there is a score."""
    if config.TEST.FP_CUT_SCORE != AUTO or score is None:
        return config
    return replace(config, TEST=replace(config.TEST, FP_CUT_SCORE=score))


def data_root(config: Config) -> Path:
    """The data root of inference."""
    return Path(config.TEST.DATA_ROOT or config.DATASET.PATH)


def _is_set_in_vain(key: str, value: Any, known: dict[str, Any]) -> bool:
    if key in OLD_KEYS:
        return True
    # a run's own config.yaml has every key, at its default
    return known[key][1].get("unused", False) and value != attrgetter(key)(Config())


@cache
def _say_once(line: str) -> None:
    if os.environ.get("RANK", "0") == "0":  # torchrun's number of this process
        print(line, file=sys.stderr, flush=True)
