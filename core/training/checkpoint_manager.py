"""Which snapshots of a run are kept: the best so far, at most five of them."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import torch

from core.checkpoint import (
    list_snapshots,
    load_file,
    optimizer_path,
    save_file,
    save_model,
    snapshot_at,
    snapshot_path,
)
from core.training.optimizer import optimizer_state
from core.training.resume import LAST, PREVIOUS
from models.network import Network
from utils.errors import UserError
from utils.files import remove_leftovers, write_text

MAX_KEPT = 5
# names of the model files that the run has written, the oldest first, to their exact scores
WRITTEN = "written.json"


class CheckpointManager:
    """Saves a snapshot whenever a score is the best so far, and drops the oldest of its own.

    The best score is that of all snapshots that the run has written, wherever it goes on from.
    Those that it did not write are never dropped, or written over.

    Args:
        folder: the run's snapshot folder.
        best_score: known from elsewhere, such as the last state.
    """

    def __init__(self, folder: Path, best_score: float = -math.inf) -> None:
        self.folder = folder
        self.written = _read_written(folder)
        self.best_score = max([best_score, *self.written.values()])

    def save_if_best(
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
        if path.exists() and path not in self.written:
            # the published snapshot that the run started from: its name holds a rounded score
            self.best_score = score
            return None
        written = {
            each: its_score
            for each, its_score in self.written.items()
            if each != path and each.exists()
        } | {path: score}
        # before the files, so that a run killed here knows them as its own
        names = {each.name: its_score for each, its_score in written.items()}
        write_text(self.folder / WRITTEN, json.dumps(names))
        # the optimizer's state goes first: a model file says that the snapshot is complete
        save_file(optimizer_state(optimizer) | {"best_score": score}, optimizer_path(path))
        save_model(model, path)
        self.written, self.best_score = written, score
        self.drop_surplus()
        return path

    def drop_surplus(self) -> None:
        """Drop the oldest snapshots, but never the best, until no more than five are left."""
        newest_first = reversed(self.written)
        best = max(newest_first, key=self.written.__getitem__, default=None)
        others = [path for path in self.written if path != best]
        for old in others[: max(0, len(self.written) - MAX_KEPT)]:
            # the model last: while it is there, the pair is known
            optimizer_path(old).unlink(missing_ok=True)
            old.unlink(missing_ok=True)
            del self.written[old]


def discard_existing(folder: Path) -> None:
    """Remove what an earlier run wrote in its folder; snapshots of others stay, and are named."""
    (folder / PREVIOUS).unlink(missing_ok=True)
    (folder / LAST).unlink(missing_ok=True)
    for path in _read_names(folder):
        optimizer_path(path).unlink(missing_ok=True)
        path.unlink()
    (folder / WRITTEN).unlink(missing_ok=True)
    if foreign := [snapshot.suffix for snapshot in list_snapshots(folder)]:
        print(f"snapshots that no run wrote here stay: {', '.join(foreign)}", flush=True)


def discard_leftovers(folder: Path) -> None:
    """Remove what a killed run left of files that it was writing."""
    remove_leftovers(folder, rf"(model|opt)_enc_e.*\.pth|{re.escape(LAST)}|{re.escape(WRITTEN)}")


def _read_written(folder: Path) -> dict[Path, float]:
    """The run's own model files that are still there, the oldest first, and their scores."""
    return {
        path: score if isinstance(score, float) else _score_of(path)
        for path, score in _read_names(folder).items()
    }


def _read_names(folder: Path) -> dict[Path, float | None]:
    """The same, with None for scores that the file lacks; empty if it cannot be read."""
    try:
        content = json.loads((folder / WRITTEN).read_text(encoding="utf-8"))
        # a list of names is of an earlier version
        scores = dict.fromkeys(content) if isinstance(content, list) else content
        paths = {folder / name: score for name, score in scores.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
    # the last file listed is missing if the run was killed before writing it
    return {path: score for path, score in paths.items() if path.exists()}


def _score_of(path: Path) -> float:
    """The exact score of a snapshot, or the rounded one of its name if no file tells."""
    snapshot = snapshot_at(path)
    try:
        return float(load_file(optimizer_path(path))["best_score"])
    except (UserError, KeyError, TypeError, ValueError):
        return snapshot.score if snapshot else -math.inf
