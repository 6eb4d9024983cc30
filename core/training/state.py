"""The `last` state: a run between two epochs, from which it goes on as if nothing had happened.

All that is random in an epoch follows from the seed, the epoch's number and the process, so the
first two are the whole random state that there is to keep, as long as processes stay as many.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.checkpoint import load_file, save_file, snapshot_content
from core.matching import WeightsError
from core.training.optimizer import optimizer_state
from core.training.precision import Precision
from models.network import Network
from utils.errors import UserError

LAST = "last.pth"


@dataclass(frozen=True)
class LastState:
    """What the file holds.

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
    model: Network,
    optimizer: torch.optim.Optimizer,
    precision: Precision,
    *,
    epoch: int,
    best_score: float,
    seed: int,
) -> None:
    """Write the state of a run that is to train `epoch` next, in one step.

    Raises:
        UserError: a weight is not finite, or the file cannot be written; the earlier state stays.
    """
    content = snapshot_content(model)
    broken = [name for name, tensor in content.items() if not tensor.isfinite().all()]
    if broken:
        # a finite loss may have had gradients that are not
        raise UserError(
            f"before epoch {epoch}: weights are not finite ({broken[0]} for one of {len(broken)}); "
            "lower NET.LR, and go on with --resume last from the epoch before"
        )
    state = {
        "epoch": epoch,
        "best_score": best_score,
        "seed": seed,
        "model": content,
        "optimizer": optimizer_state(optimizer),
        "precision": precision.state_dict(),
    }
    save_file(state, folder / LAST)


def load_last(folder: Path) -> LastState:
    """Read the state of the run in `folder`.

    Raises:
        UserError: there is none, or the file is damaged or something else.
    """
    path = folder / LAST
    if not path.exists():
        raise UserError(
            f"--resume last: there is no {path}, which is written after each epoch; leave out "
            "--resume to start, or name a snapshot"
        )
    remedy = "go on with --resume best, or remove it"
    try:
        return LastState(path, **load_file(path))
    except WeightsError as error:
        raise UserError(f"{path} {error.fault}; {remedy}") from error
    except TypeError as error:
        raise UserError(f"{path} is not the state of a run; {remedy}") from error
