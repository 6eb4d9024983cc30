"""Which snapshots of a run are kept: the best so far, at most five of them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch

from core.checkpoint import list_snapshots, optimizer_path, save_file, save_model, snapshot_path
from core.training.optimizer import optimizer_state
from core.training.state import LAST
from models.network import Network
from utils.errors import UserError
from utils.files import remove_leftovers, write_text

MOST_KEPT = 5
WRITTEN = "written.json"  # names of the model files that the run has written, the oldest first


class SnapshotKeeper:
    """Saves a snapshot whenever a score is the best so far, and drops the oldest of its own.

    Snapshots that the run did not write are never dropped.

    Args:
        folder: the run's snapshot folder.
        best_score: to be exceeded.
    """

    def __init__(self, folder: Path, best_score: float = -math.inf) -> None:
        self.folder = folder
        self.best_score = best_score

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
        written = [*(other for other in _read_written(self.folder) if other != path), path]
        # before the files, so that those of a run that is killed here are known as its own
        write_text(self.folder / WRITTEN, json.dumps([other.name for other in written]))
        # the optimizer's state goes first: a model file says that the snapshot is complete
        save_file(optimizer_state(optimizer) | {"best_score": score}, optimizer_path(path))
        save_model(model, path)
        self.best_score = score
        for old in written[:-MOST_KEPT]:
            # the model last: while it is there, the pair is known
            optimizer_path(old).unlink(missing_ok=True)
            old.unlink(missing_ok=True)
        return path


def refuse_existing(folder: Path) -> None:
    """Raise `UserError` if the run's folder already holds snapshots or a state to go on from."""
    existing = [snapshot.suffix for snapshot in list_snapshots(folder)]
    if (folder / LAST).exists():
        existing.append("last")
    if existing:
        raise UserError(
            f"{folder} already holds a run ({', '.join(existing)}); go on with --resume SUFFIX "
            "(RESUME=), choose another RUN_ID (--run), or discard it with --overwrite"
        )


def discard_existing(folder: Path) -> None:
    """Remove what an earlier run wrote in its folder; snapshots of others stay, and are named."""
    (folder / LAST).unlink(missing_ok=True)
    for path in _read_written(folder):
        optimizer_path(path).unlink(missing_ok=True)
        path.unlink()
    (folder / WRITTEN).unlink(missing_ok=True)
    if foreign := [snapshot.suffix for snapshot in list_snapshots(folder)]:
        print(f"snapshots that no run wrote here stay: {', '.join(foreign)}", flush=True)


def discard_leftovers(folder: Path) -> None:
    """Remove what a killed run left of files that it was writing."""
    remove_leftovers(folder, rf"(model|opt)_enc_e.*\.pth|{re.escape(LAST)}|{re.escape(WRITTEN)}")


def _read_written(folder: Path) -> list[Path]:
    """The run's own model files that are still there; none where nothing tells."""
    try:
        names = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
        paths = [folder / name for name in names]
    except (OSError, ValueError, TypeError):
        return []
    return [path for path in paths if path.exists()]
