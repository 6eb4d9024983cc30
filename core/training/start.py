"""Where a run starts: with ImageNet weights, from scratch, at a snapshot or at its last state."""

from __future__ import annotations

import math
from pathlib import Path

import torch

from core.checkpoint import (
    Snapshot,
    find_snapshot,
    list_snapshots,
    load_file,
    load_model,
    load_pretrained,
    load_state,
)
from core.config import Config
from core.training.keeper import refuse_existing
from core.training.optimizer import restore_optimizer
from core.training.precision import Precision
from core.training.state import LastState, has_last, load_last, load_previous
from models.backbones import get_backbone_record
from models.network import Network
from utils.errors import UserError

Start = Snapshot | LastState | None


def find_start(folder: Path, resume: str, overwrite: bool, seed: int) -> Start:
    """What a run goes on from, None for a fresh one.

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


def load_weights(network: Network, config: Config, start: Start) -> None:
    """Bring the network's weights to where the run starts, and say which they are.

    Raises:
        UserError: files are missing, damaged or of another network.
    """
    net = config.NET
    backbone = get_backbone_record(net.BACKBONE)
    if isinstance(start, LastState):
        load_state(network, start.model, start.path)
        print(f"resuming from {start.path}, with epoch {start.epoch}", flush=True)
    elif start:
        print(f"resuming from {load_model(network, start.path)}", flush=True)
    elif net.PRE_WEIGHTS_PATH:
        print(load_pretrained(network, backbone, net.PRE_WEIGHTS_PATH), flush=True)
    elif net.FREEZE_BN:
        raise UserError(
            "NET.PRE_WEIGHTS_PATH is empty, but training starts from ImageNet weights: `bash "
            f"launch/get_weights.sh {backbone.name}` gets them; set it to "
            f"models/weights/{backbone.weights.filename}, or train from scratch with --set "
            "NET.FREEZE_BN False"
        )


def restore(start: Start, optimizer: torch.optim.Optimizer, precision: Precision) -> float:
    """Bring optimizer and precision to where the run starts; returns the best score it knows of.

    A snapshot that has no optimizer's state, as a published one, leaves it as it is.

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
