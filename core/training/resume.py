"""The `last` state: a run between two epochs, from which it goes on as if nothing had happened.

All randomness in an epoch follows from the seed, the epoch's number and the process, so the first
two are all the random state to save, as long as the number of processes stays the same.

The weights in `last` may have diverged before any loss shows it. So the `previous` state, one epoch
older, is kept until an epoch that started from `last` has ended with finite losses.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.checkpoint import (
    Snapshot,
    find_snapshot,
    how_to_get,
    list_snapshots,
    load_all_but_classes,
    load_file,
    load_model,
    load_pretrained,
    load_state,
    save_file,
    snapshot_content,
)
from core.config import Config
from core.precision import Precision
from core.training.engine import Trainer
from core.training.errors import NotFiniteError
from core.training.optimizer import optimizer_state, restore_optimizer
from core.weights_check import WeightsError
from models.backbones import get_backbone_spec
from models.network import Network
from utils.errors import UserError
from utils.files import atomic_path

LAST = "last.pth"
PREVIOUS = "previous.pth"


@dataclass(frozen=True)
class LastState:
    """A state file's content.

    Attributes:
        path: the file.
        epoch: the one to train next.
        best_score: the highest score so far, -inf before the first.
        seed: of the run.
        model: the weights under their published names.
        optimizer: see `optimizer_state`.
        precision: the gradients' scale, where they have one.
    """

    path: Path
    epoch: int
    best_score: float
    seed: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any]
    precision: dict[str, Any]


def save_last(
    folder: Path,
    trainer: Trainer,
    epoch: int,
    best_score: float,
    seed: int,
    goes_back: bool = False,
) -> None:
    """Write the state of a run that is to train `epoch` next; `last` so far becomes `previous`.

    Args:
        goes_back: the run resumes from a snapshot, which makes both earlier states void.

    Raises:
        NotFiniteError: a weight is not finite; the earlier states stay.
        UserError: the file cannot be written; the earlier states stay.
    """
    weights = snapshot_content(trainer.network)
    if broken := [name for name, tensor in weights.items() if not tensor.isfinite().all()]:
        # a finite loss may have had gradients that are not
        raise NotFiniteError(
            f"before epoch {epoch}{trainer.precision.caution}: weights are not finite "
            f"({broken[0]} for one of {len(broken)}); look at the losses above"
        )
    state = {
        "epoch": epoch,
        "best_score": best_score,
        "seed": seed,
        "model": weights,
        "optimizer": optimizer_state(trainer.optimizer),
        "precision": trainer.precision.state_dict(),
    }
    if goes_back:
        (folder / PREVIOUS).unlink(missing_ok=True)
    save_file(state, folder / LAST, earlier=None if goes_back else folder / PREVIOUS)


def make_last(path: Path) -> None:
    """Make the state at `path`, which may be `previous`, the run's `last` state."""
    if path.name != LAST:
        with atomic_path(path.with_name(LAST)) as temporary:
            shutil.copyfile(path, temporary)


def has_last(folder: Path) -> bool:
    """Whether there is a state that `load_last` finds."""
    return _path_of_last(folder).exists()


def load_last(folder: Path) -> LastState:
    """Read the newest state of the run in `folder`.

    Raises:
        UserError: there is none, or the file is damaged or something else.
    """
    path = _path_of_last(folder)
    if not path.exists():
        # without --resume, a run beside snapshots is refused
        remedy = how_to_resume(folder) if list_snapshots(folder) else "leave out --resume to start"
        raise UserError(
            f"--resume last: there is no {folder / LAST}, which is written after each epoch; "
            f"{remedy}"
        )
    return _load(path)


def load_previous(folder: Path) -> LastState:
    """Read the state of the run in `folder` that is an epoch before its last one.

    Raises:
        UserError: there is none, or the file is damaged or something else.
    """
    path = folder / PREVIOUS
    if not path.exists():
        raise UserError(
            f"--resume previous: there is no {path}, which is written from the second epoch on; "
            f"{how_to_resume(folder, useless=PREVIOUS)}"
        )
    return _load(path)


def best_score_of_last(folder: Path) -> float:
    """The best score in the run's newest state, -inf if that cannot be used."""
    try:
        return load_last(folder).best_score
    except UserError:
        return -math.inf


def how_to_resume(folder: Path, epoch: float = math.inf, useless: str = LAST) -> str:
    """How to resume a run that has diverged or lost a state, as words that follow "and".

    Args:
        folder: of the run's snapshots.
        epoch: the one that failed; snapshots of later epochs belong to another branch of the run.
            A state of this epoch is the one that the run has just started from.
        useless: the name of the state file that cannot be used.
    """
    for name in (LAST, PREVIOUS):
        state = None if name == useless else _epoch_of(folder / name)
        if state is not None and state < epoch:
            word = name.removesuffix(".pth")
            return f"go on with --resume {word} (RESUME={word})"
        if state == epoch:  # and so is a snapshot of it
            epoch -= 1
    before = [each for each in list_snapshots(folder) if each.epoch <= epoch]
    if before:
        best = max(before, key=lambda each: (each.score, each.epoch)).suffix
        return f"go on with --resume {best} (RESUME={best})"
    return "start again with --overwrite"


def _path_of_last(folder: Path) -> Path:
    # a process may have been killed between the two renamings of `save_last`
    return folder / (LAST if (folder / LAST).exists() else PREVIOUS)


def _load(path: Path) -> LastState:
    try:
        return _read(path)
    except (WeightsError, TypeError) as error:
        fault = error.fault if isinstance(error, WeightsError) else "is not the state of a run"
        remedy = how_to_resume(path.parent, useless=path.name)
        raise UserError(f"{path} {fault}; {remedy}") from error


def _read(path: Path) -> LastState:
    return LastState(path, **load_file(path))


def _epoch_of(path: Path) -> int | None:
    """The epoch that the state at `path` trains next; None if there is no usable state."""
    try:
        return _read(path).epoch
    except (UserError, TypeError):
        return None


Start = Snapshot | LastState | None


def find_start(folder: Path, resume: str, overwrite: bool, seed: int) -> Start:
    """The snapshot or state that a run resumes from, None for a fresh run.

    Args:
        folder: of the run's snapshots.
        resume: a snapshot's suffix, `best`, `last`, `previous` (the state before that), `auto`
            (`last` where there is one) or "".
        overwrite: an earlier run of this name is to be discarded.
        seed: of this run.

    Raises:
        UserError: there is no such thing, it was made with another seed, or an earlier run would be
            trained over.
    """
    if resume and overwrite:
        raise UserError("--resume goes on with a run, --overwrite discards it: give one of them")
    if resume in ("last", "previous") or (resume == "auto" and has_last(folder)):
        state = load_previous(folder) if resume == "previous" else load_last(folder)
        if state.seed != seed:
            raise UserError(
                f"{state.path} is of a run with --random-seed {state.seed}, not {seed}; give that "
                "one to go on with it"
            )
        return state
    if resume not in ("", "auto"):
        return find_snapshot(folder, resume)
    if not overwrite:
        refuse_existing(folder)
    return None


def refuse_existing(folder: Path) -> None:
    """Raise `UserError` if the run's folder already holds snapshots or a state to go on from."""
    existing = [snapshot.suffix for snapshot in list_snapshots(folder)]
    if has_last(folder):
        existing.append("last")
    if existing:
        raise UserError(
            f"{folder} already holds a run ({', '.join(existing)}); go on with --resume SUFFIX "
            "(RESUME=), choose another RUN_ID (--run), or discard it with --overwrite"
        )


def check_init_from(path: Path | None, folder: Path, resume: str, overwrite: bool) -> None:
    """Raise `UserError` where --init-from `path` and other options contradict each other.

    The others are those of `find_start`.
    """
    if path and resume not in ("", "auto"):
        raise UserError(
            f"--init-from starts a run, --resume {resume} goes on with one: give one of them"
        )
    if path and overwrite and path.absolute().parent.resolve() == folder.resolve():
        raise UserError(
            f"--overwrite would discard --init-from {path}; choose another RUN_ID (--run)"
        )


def load_weights(
    network: Network, config: Config, start: Start, init_from: Path | None = None
) -> None:
    """Load the weights that the run starts from, and print which they are.

    Args:
        init_from: a snapshot of other classes, which a fresh run starts from in place of ImageNet
            weights.

    Raises:
        UserError: files are missing, damaged or of another network.
    """
    net = config.NET
    backbone = get_backbone_spec(net.BACKBONE)
    if isinstance(start, LastState):
        load_state(network, start.model, start.path)
        unread = f"; --init-from {init_from} is for a fresh start, not read" if init_from else ""
        print(f"resuming from {start.path}, with epoch {start.epoch}{unread}", flush=True)
    elif start:
        print(f"resuming from {load_model(network, start.path)}", flush=True)
    elif init_from:
        print(f"starting from {load_all_but_classes(network, init_from)}", flush=True)
    elif net.PRE_WEIGHTS_PATH:
        print(load_pretrained(network, backbone, net.PRE_WEIGHTS_PATH), flush=True)
    elif net.FREEZE_BN and backbone.weights is None:
        raise UserError(
            f"NET.PRE_WEIGHTS_PATH is empty: {how_to_get(backbone)}; or train from scratch with "
            "--set NET.FREEZE_BN False"
        )
    elif net.FREEZE_BN:
        raise UserError(
            "NET.PRE_WEIGHTS_PATH is empty: get ImageNet weights with `bash "
            f"launch/get_weights.sh {backbone.name}` and set it to models/weights/"
            f"{backbone.weights.filename}, or train from scratch with --set NET.FREEZE_BN False"
        )


def restore(start: Start, optimizer: torch.optim.Optimizer, precision: Precision) -> float:
    """Load the optimizer's and the precision's state; returns the run's best score so far.

    A snapshot without an optimizer file, such as the published one, leaves the optimizer as it is.

    Raises:
        UserError: a file is damaged, or of another optimizer or network.
    """
    if start is None:
        return -math.inf
    if isinstance(start, LastState):
        restore_optimizer(optimizer, start.optimizer, start.path)
        precision.load_state_dict(start.precision)
        return start.best_score
    later = [each.suffix for each in list_snapshots(start.path.parent) if each.epoch > start.epoch]
    if later:
        print(f"later snapshots stay, and `best` may mean them: {', '.join(later)}", flush=True)
    path = start.optimizer_path
    if not path.exists():
        print(f"no {path}: the optimizer starts anew", flush=True)
        return start.score
    content = load_file(path)
    restore_optimizer(optimizer, content, path)
    return float(content.get("best_score", start.score))
