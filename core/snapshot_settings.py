"""A snapshot's own settings: the configuration and the data set that lie beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from core.arguments import DEFAULT_DATASET
from core.config import Config, fit_to_dataset, load_config, with_cut_score
from core.config_reading import AUTO
from datasets.dataset_file import DATASET_FILE, dataset_yaml, get_dataset_info, read_dataset
from datasets.info import DatasetInfo
from utils.errors import UserError, os_errors_end_in
from utils.files import write_text

CONFIG_FILE = "config.yaml"


def write_settings(folder: Path, config: Config, info: DatasetInfo, mark: str = "") -> None:
    """Write the configuration and the data set to config.yaml and dataset.yaml in `folder`.

    The data set's `path` is the data root; `mark` is added to the files' stems. Raises `UserError`
    if one cannot be written.
    """
    files = {CONFIG_FILE: config.to_yaml(), DATASET_FILE: dataset_yaml(info)}
    with os_errors_end_in("make room there, or choose another folder"):
        for name, text in files.items():
            path = folder / name
            write_text(path.with_stem(f"{path.stem}{mark}"), text)


def kept_config(folder: Path) -> Config | None:
    """The config.yaml beside snapshots; None if there is no such file."""
    path = folder / CONFIG_FILE
    return load_config(path) if path.exists() else None


def settled_cut_score(kept: Config | None) -> float | None:
    """TEST.FP_CUT_SCORE of a kept configuration; None if it is not settled there."""
    return None if kept is None or kept.TEST.FP_CUT_SCORE == AUTO else kept.TEST.FP_CUT_SCORE


def settings_of(
    snapshot: Path,
    cfg: Config | str | Path | None = None,
    dataset: DatasetInfo | str | Path | None = None,
    overrides: Sequence[str] = (),
) -> tuple[Config, DatasetInfo]:
    """The configuration and the data set of a snapshot.

    Args:
        snapshot: its file; config.yaml and dataset.yaml lie beside it, unless these are given:
        cfg: a configuration, or its file;
        dataset: a data set, its name or its file. Without it and a dataset.yaml it is Pascal VOC.
        overrides: see `load_config`.

    Raises:
        UserError: a file is missing or wrong, or the given data set is not the snapshot's.
    """
    own_config, own_dataset = snapshot.parent / CONFIG_FILE, snapshot.parent / DATASET_FILE
    given = cfg is not None
    if cfg is None:
        if not own_config.exists():
            raise UserError(
                f"{snapshot} lies without its run's {CONFIG_FILE} and {DATASET_FILE}; copy both "
                "beside it, or give --cfg and --dataset (CONFIG, DATASET)"
            )
        cfg = own_config
    config = cfg if isinstance(cfg, Config) else load_config(cfg, overrides)
    if config.TEST.FP_CUT_SCORE == AUTO:
        config = with_cut_score(config, settled_cut_score(kept_config(snapshot.parent)))
    own = read_dataset(own_dataset) if own_dataset.exists() else None
    if dataset is None:
        info = own or get_dataset_info(DEFAULT_DATASET)
        if given and info.get_script:
            info = replace(info, path=None)  # a known one is where a given configuration says
    else:
        info = dataset if isinstance(dataset, DatasetInfo) else get_dataset_info(dataset)
        if own:
            require_same_classes(info, own, own_dataset)
    return fit_to_dataset(config, info, overrides), info


def require_classes_of_run(folder: Path, info: DatasetInfo) -> None:
    """Raise `UserError` unless the data set has the classes that a run's own had, in their order.

    Args:
        folder: of the run's snapshots; early runs have no dataset.yaml there.
        info: the data set to go on with.
    """
    path = folder / DATASET_FILE
    own = read_dataset(path) if path.exists() else info
    if own.classes != info.classes:
        raise UserError(
            f"--resume: the data set {info.name} has {differing(info, own)} ({path}); go on with "
            "those classes, or start another run (--run) with --init-from"
        )


def require_same_classes(info: DatasetInfo, own: DatasetInfo, path: Path) -> None:
    """Raise `UserError` unless a given data set has the classes of `own`, which lies at `path`."""
    if own.classes != info.classes:
        raise UserError(
            f"the data set {info.name} has {differing(info, own)}; leave --dataset (DATASET) out "
            f"to use {path}"
        )


def differing(info: DatasetInfo, own: DatasetInfo) -> str:
    """How two data sets' classes differ, in words."""
    if info.num_classes != own.num_classes:
        return f"{info.num_classes} classes, {own.name} has {own.num_classes}"
    pairs = zip(info.classes, own.classes, strict=True)
    here, there = next(pair for pair in pairs if pair[0] != pair[1])
    return f"the class {here!r} where {own.name} has {there!r}"
