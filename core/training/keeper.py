"""Which snapshots of a run are kept: the best so far, at most five of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

from core.checkpoint import (
    Snapshot,
    list_snapshots,
    load_file,
    save_file,
    save_model,
    snapshot_path,
)
from models.network import Network
from utils.errors import UserError

MOST_KEPT = 5


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
        drop, kept = written[:-MOST_KEPT], written[-MOST_KEPT:]
        state = {
            "optimizer": optimizer.state_dict(),
            "best_score": score,
            "written": [other.name for other in kept],
        }
        # the optimizer's state goes first: a model file says that the snapshot is complete
        save_file(state, _optimizer_path(path))
        save_model(model, path)
        for old in drop:
            old.unlink(missing_ok=True)
            _optimizer_path(old).unlink(missing_ok=True)
        self.best_score = score
        self.written = kept
        return path

    @classmethod
    def resume(cls, snapshot: Snapshot, optimizer: torch.optim.Optimizer) -> SnapshotKeeper:
        """Go on from a snapshot, with the optimizer's state if it has one, as ours do.

        Raises:
            UserError: the optimizer's file cannot be read or is of another network.
        """
        folder, path = snapshot.path.parent, snapshot.optimizer_path
        if not path.exists():
            print(f"{path} does not exist: the optimizer starts anew", flush=True)
            return cls(folder, snapshot.score)
        state = load_file(path)
        try:
            optimizer.load_state_dict(state["optimizer"])
            written = [folder / name for name in state["written"]]
            return cls(folder, state["best_score"], [path for path in written if path.exists()])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{path} does not fit this optimizer ({error}); resume with the NET.OPT it was "
                "written with, or remove the file to start the optimizer anew"
            ) from error


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


def _optimizer_path(path: Path) -> Path:
    return path.with_name(path.name.replace("model_enc_", "opt_enc_", 1))
