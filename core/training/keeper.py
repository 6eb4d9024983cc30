"""Which snapshots of a run are kept: the best so far, at most five of them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch

from core.checkpoint import (
    Snapshot,
    list_snapshots,
    load_file,
    optimizer_path,
    save_file,
    save_model,
    snapshot_path,
)
from models.network import Network
from utils.errors import UserError
from utils.files import write_text

MOST_KEPT = 5
WRITTEN = "written.json"  # names of the model files that the run has written, the oldest first


class SnapshotKeeper:
    """Saves a snapshot whenever a score is the best so far, and drops the oldest of its own.

    Args:
        folder: the run's snapshot folder.
        best_score: to be exceeded.
        written: model files that this run has written, the oldest first; no others are dropped.
    """

    def __init__(
        self, folder: Path, best_score: float = -math.inf, written: Sequence[Path] = ()
    ) -> None:
        self.folder = folder
        self.best_score = best_score
        self.written = list(written)

    def offer(
        self, model: Network, optimizer: torch.optim.Optimizer, epoch: int, score: float
    ) -> Path | None:
        """Save the model if `score` is the best so far; returns its path if so.

        Args:
            epoch: the epoch that is trained next.

        Raises:
            UserError: a file cannot be written; the earlier snapshots are whole.
        """
        if score <= self.best_score:
            return None
        path = snapshot_path(self.folder, epoch, score)
        written = [*(other for other in self.written if other != path), path]
        state = {
            "kind": type(optimizer).__name__,
            "optimizer": optimizer.state_dict(),
            "best_score": score,
        }
        # the optimizer's state goes first: a model file says that the snapshot is complete
        save_file(state, optimizer_path(path))
        save_model(model, path)
        self.best_score = score
        self.written = written[-MOST_KEPT:]
        write_text(self.folder / WRITTEN, json.dumps([other.name for other in self.written]))
        for old in written[:-MOST_KEPT]:
            old.unlink(missing_ok=True)
            optimizer_path(old).unlink(missing_ok=True)
        return path

    @classmethod
    def resume(cls, snapshot: Snapshot, optimizer: torch.optim.Optimizer) -> SnapshotKeeper:
        """Go on from a snapshot, with the optimizer's state if it has one, as ours do.

        Learning rates and the like stay those that `optimizer` was built with.

        Raises:
            UserError: the optimizer's file cannot be read, or is of another optimizer or network.
        """
        folder = snapshot.path.parent
        written = _read_written(folder)
        later = [other.suffix for other in list_snapshots(folder) if other.epoch > snapshot.epoch]
        if later:
            print(f"later snapshots stay, and `best` may mean them: {', '.join(later)}", flush=True)
        if not snapshot.optimizer_path.exists():
            print(f"no {snapshot.optimizer_path}: the optimizer starts anew", flush=True)
            return cls(folder, snapshot.score, written)
        return cls(folder, _restore_optimizer(snapshot.optimizer_path, optimizer), written)


def refuse_existing(folder: Path) -> None:
    """Raise `UserError` if the run's folder already holds snapshots."""
    if snapshots := list_snapshots(folder):
        existing = ", ".join(snapshot.suffix for snapshot in snapshots)
        raise UserError(
            f"{folder} already holds snapshots ({existing}); go on with --resume SUFFIX, choose "
            "another RUN_ID (--run), or discard them with --overwrite"
        )


def discard_existing(folder: Path) -> None:
    """Remove the snapshots in a run's folder."""
    for snapshot in list_snapshots(folder):
        snapshot.path.unlink()
        snapshot.optimizer_path.unlink(missing_ok=True)
    (folder / WRITTEN).unlink(missing_ok=True)


def _restore_optimizer(path: Path, optimizer: torch.optim.Optimizer) -> float:
    """Load an optimizer's state and return the best score that lies with it."""
    state = load_file(path)
    remedy = "resume with the configuration it was written with, or remove it to start anew"
    try:
        kind, best_score = state["kind"], float(state["best_score"])
        if kind != type(optimizer).__name__:
            raise UserError(f"{path} is of {kind}, not {type(optimizer).__name__}; {remedy}")
        options = [
            {key: value for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ]
        optimizer.load_state_dict(state["optimizer"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} does not fit this network ({error}); {remedy}") from error
    # the file has the options it was written with; those of the configuration hold
    for group, configured in zip(optimizer.param_groups, options, strict=True):
        group.update(configured)
    return best_score


def _read_written(folder: Path) -> list[Path]:
    """The run's own model files that are still there; none where nothing tells."""
    try:
        names = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
        paths = [folder / name for name in names]
    except (OSError, ValueError, TypeError):
        return []
    return [path for path in paths if path.exists()]
