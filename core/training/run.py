"""A training run: from files to snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from core.checkpoint import Snapshot, find_snapshot, load_model, load_pretrained
from core.config import Config
from core.distributed import parallelise
from core.training.engine import train_one_epoch, validate
from core.training.keeper import SnapshotKeeper, discard_existing, refuse_existing
from core.training.loaders import Batches, training_batches, validation_batches
from core.training.logbook import Logbook, draw_batch
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer
from core.training.provenance import record_run
from datasets.records import DatasetRecord
from datasets.samples import mix_seed
from models import get_model
from models.backbones import get_backbone_record
from models.network import Network
from utils.errors import UserError

PICTURED_IMAGES = 8


@dataclass(frozen=True)
class RunSettings:
    """What names a run and its machine.

    Attributes:
        snapshots: folder of its snapshots.
        logs: folder of its TensorBoard events and records.
        resume: a snapshot's suffix, `best`, or "" for a fresh start.
        overwrite: discard the snapshots and events of an earlier run of this name.
        seed: of everything that is random.
        device: where to train.
    """

    snapshots: Path
    logs: Path
    resume: str
    overwrite: bool
    seed: int
    device: torch.device


def train(config: Config, record: DatasetRecord, settings: RunSettings) -> None:
    """Train as configured, validating before every VAL_INTERVAL-th epoch and at the end.

    Epochs run from 0 to TRAIN.NUM_EPOCHS, both included; the last validation is that of epoch
    NUM_EPOCHS + 1. A run that resumes goes on with the epoch its snapshot is named after.

    Raises:
        UserError: data, weights or snapshots are missing or do not fit; see the functions called.
    """
    snapshot = _starting_point(settings)
    start = snapshot.epoch if snapshot else 0
    last = config.TRAIN.NUM_EPOCHS
    _require_something_to_do(config, start)
    train_batches = training_batches(config, record, settings.seed)
    val_batches = validation_batches(config, record)

    torch.manual_seed(settings.seed)
    network = get_model(config.NET, record.num_classes)
    _load_weights(network, config, snapshot)
    model = parallelise(network, settings.device)
    optimizer = build_optimizer(network, config.NET)
    criterion = Criterion(config)
    keeper = (
        SnapshotKeeper.resume(snapshot, optimizer)
        if snapshot
        else SnapshotKeeper(settings.snapshots)
    )
    if settings.overwrite and not snapshot:
        discard_existing(settings.snapshots)
        _discard_events(settings.logs, record)
    record_run(settings.logs, config, settings.seed, settings.device, start)
    logbook = Logbook(settings.logs, record, start)
    pictured = _first_images(val_batches["train"])

    def check(epoch: int) -> None:
        """Validate as of `epoch`, and keep the model if it is the best so far."""
        for name, batches in val_batches.items():
            result = validate(model, batches, criterion, epoch, settings.device, name)
            logbook.validation(name, result, epoch)
            losses = ", ".join(f"{loss} {value:.4f}" for loss, value in result.losses.items())
            mean = 100 * result.mean_average_precision
            print(f"epoch {epoch}, {record.val_lists[name]}: mAP {mean:.2f}, {losses}", flush=True)
        if epoch >= config.TRAIN.PRETRAIN:
            score = 1 - result.losses["loss"]
            logbook.checkpoint_score(score, epoch)
            if path := keeper.offer(network, optimizer, epoch, score):
                print(f"epoch {epoch}: best score so far, {score:.3f}; saved {path}", flush=True)

    for epoch in range(start, last + 1):
        if epoch % config.TRAIN.VAL_INTERVAL == 0:
            check(epoch)
        logbook.pictures(draw_batch(model, pictured, record, settings.device), epoch)
        logbook.learning_rates(optimizer, epoch)
        # all chance in an epoch follows from the seed and its number, whatever came before it
        torch.manual_seed(mix_seed(settings.seed, epoch))
        means = train_one_epoch(model, train_batches, optimizer, criterion, epoch, settings.device)
        losses = ", ".join(f"{loss} {value:.4f}" for loss, value in means.items())
        print(f"epoch {epoch}, trained: {losses}", flush=True)
        logbook.flush()
    check(last + 1)
    logbook.close()


def _starting_point(settings: RunSettings) -> Snapshot | None:
    if settings.resume:
        return find_snapshot(settings.snapshots, settings.resume)
    if not settings.overwrite:
        refuse_existing(settings.snapshots)
    return None


def _require_something_to_do(config: Config, start: int) -> None:
    last = config.TRAIN.NUM_EPOCHS
    if start > last:
        raise UserError(
            f"--resume: the snapshot was taken after the last epoch ({last}); raise "
            "TRAIN.NUM_EPOCHS to go on"
        )
    if last + 1 < config.TRAIN.PRETRAIN:
        raise UserError(
            f"TRAIN.NUM_EPOCHS {last} ends before TRAIN.PRETRAIN {config.TRAIN.PRETRAIN}, from "
            "which on models are scored: no snapshot would be saved; raise the one or lower the "
            "other"
        )


def _load_weights(network: Network, config: Config, snapshot: Snapshot | None) -> None:
    net = config.NET
    backbone = get_backbone_record(net.BACKBONE)
    if snapshot:
        load_model(network, snapshot.path)
        print(f"resuming from {snapshot.path}", flush=True)
    elif net.PRE_WEIGHTS_PATH:
        print(load_pretrained(network, backbone, net.PRE_WEIGHTS_PATH), flush=True)
    elif net.FREEZE_BN:
        raise UserError(
            "NET.PRE_WEIGHTS_PATH is empty, and training starts from ImageNet weights: download "
            f"{backbone.weights.url} to models/weights/ and set it to "
            f"models/weights/{backbone.weights.filename}, or train from scratch with --set "
            "NET.FREEZE_BN False"
        )


def _first_images(batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = next(batches.epoch(0))
    return images[:PICTURED_IMAGES], labels[:PICTURED_IMAGES]


def _discard_events(folder: Path, record: DatasetRecord) -> None:
    for writer in record.val_lists:
        for path in (folder / writer).glob("events.out.tfevents.*"):
            path.unlink()
