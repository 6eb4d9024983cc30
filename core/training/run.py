"""A training run: from files to snapshots."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from core.checkpoint import Snapshot, find_snapshot, load_model, load_pretrained
from core.config import Config
from core.distributed import parallelise
from core.provenance import record_run
from core.training.engine import describe, train_one_epoch, validate
from core.training.keeper import SnapshotKeeper, discard_existing, refuse_existing
from core.training.loaders import Batches, training_batches, validation_batches
from core.training.logbook import Logbook, discard_logs, draw_batch
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer
from core.training.precision import InPrecision, Precision
from datasets.records import DatasetRecord
from datasets.samples import mix_seed
from models import get_model
from models.backbones import get_backbone_record
from models.network import Network
from utils.errors import UserError
from utils.files import require_writable_folder

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


class TrainingRun:
    """A run's data, network and optimizer, and where it writes.

    Epochs run from 0 to TRAIN.NUM_EPOCHS, both included. Every VAL_INTERVAL-th one is preceded by a
    validation, and the last one followed by one, which counts as that of epoch NUM_EPOCHS + 1. A
    run that resumes goes on with the epoch its snapshot is named after.

    Building it checks all that can be checked; nothing of an earlier run is touched before.

    Raises:
        UserError: data, weights or snapshots are missing or do not fit; see the functions called.
    """

    def __init__(self, config: Config, record: DatasetRecord, settings: RunSettings) -> None:
        snapshot = _starting_point(settings)
        self.start = snapshot.epoch if snapshot else 0
        _check_plan(config, self.start, settings.device)
        self.config = config
        self.record = record
        self.settings = settings
        self.train_batches = training_batches(config, record, settings.seed, settings.device)
        self.val_batches = validation_batches(config, record, settings.device)
        self.criterion = Criterion(config)

        torch.manual_seed(settings.seed)
        self.network = get_model(config.NET, record.num_classes)
        _load_weights(self.network, config, snapshot)
        if config.TRAIN.CHECKPOINT:
            self.network.checkpoint_activations()
        self.precision = Precision(config.TRAIN.AMP, settings.device)
        self.model = parallelise(InPrecision(self.network, self.precision), settings.device)
        self.optimizer = build_optimizer(self.network, config.NET)
        if snapshot:
            self.keeper = SnapshotKeeper.resume(snapshot, self.optimizer)
        else:
            self.keeper = SnapshotKeeper(settings.snapshots)
        require_writable_folder(settings.snapshots, "--snapshot-dir")
        require_writable_folder(settings.logs, "--logdir")

    def run(self) -> None:
        """Train all epochs that are left.

        Raises:
            UserError: a file cannot be used, the loss is not finite, or the GPU's memory is short.
        """
        try:
            self._run()
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                "the GPU's memory does not hold this network and batch; set TRAIN.AMP bf16 or "
                "TRAIN.CHECKPOINT True, lower TRAIN.BATCH_SIZE or DATASET.CROP_SIZE, or use more "
                f"GPUs ({str(error).splitlines()[0]})"
            ) from error

    def _run(self) -> None:
        last = self.config.TRAIN.NUM_EPOCHS
        pictured = _first_images(self.val_batches["train"])
        self._open_logs()
        for epoch in range(self.start, last + 1):
            if epoch % self.config.TRAIN.VAL_INTERVAL == 0:
                self._validate(epoch)
            picture = draw_batch(self.model, pictured, self.record, self.settings.device)
            self.logbook.pictures(picture, epoch)
            self.logbook.learning_rates(self.optimizer, epoch)
            self._train(epoch)
            self.logbook.flush()
        self._validate(last + 1)
        self.logbook.close()

    def _open_logs(self) -> None:
        settings = self.settings
        if settings.overwrite:
            discard_existing(settings.snapshots)
            discard_logs(settings.logs, self.record)
        mark = f"_e{self.start:03d}" if settings.resume else ""
        record_run(settings.logs, self.config, settings.device, mark, seed=settings.seed)
        self.logbook = Logbook(settings.logs, self.record, self.start)

    def _train(self, epoch: int) -> None:
        # all chance in an epoch follows from the seed and its number, whatever came before it
        _seed_all(self.settings.seed, epoch, self.settings.device)
        losses = train_one_epoch(
            self.model,
            self.train_batches,
            self.optimizer,
            self.criterion,
            epoch,
            self.settings.device,
            self.precision,
        )
        print(f"epoch {epoch}, trained: {describe(losses)}", flush=True)

    def _validate(self, epoch: int) -> None:
        """Validate as of `epoch`, and keep the model if it is the best so far."""
        for name, batches in self.val_batches.items():
            device = self.settings.device
            result = validate(self.model, batches, self.criterion, epoch, device, name)
            self.logbook.validation(name, result, epoch)
            mean = 100 * result.mean_average_precision
            file = self.record.val_lists[name]
            print(f"epoch {epoch}, {file}: mAP {mean:.2f}, {describe(result.losses)}", flush=True)
            if name == "val" and epoch >= self.config.TRAIN.PRETRAIN:
                self._keep_if_best(1 - result.losses["loss"], epoch)

    def _keep_if_best(self, score: float, epoch: int) -> None:
        self.logbook.checkpoint_score(score, epoch)
        if path := self.keeper.offer(self.network, self.optimizer, epoch, score):
            print(f"epoch {epoch}: best score so far, {score:.3f}; saved {path}", flush=True)


def _seed_all(seed: int, epoch: int, device: torch.device) -> None:
    """Seed all that draws from PyTorch in an epoch; each GPU draws its own numbers."""
    torch.manual_seed(mix_seed(seed, epoch))
    for index in range(torch.cuda.device_count() if device.type == "cuda" else 0):
        with torch.cuda.device(index):
            torch.cuda.manual_seed(mix_seed(seed, epoch, index))


def _starting_point(settings: RunSettings) -> Snapshot | None:
    if settings.resume and settings.overwrite:
        raise UserError("--resume goes on with a run, --overwrite discards it: give one of them")
    if settings.resume:
        return find_snapshot(settings.snapshots, settings.resume)
    if not settings.overwrite:
        refuse_existing(settings.snapshots)
    return None


def _check_plan(config: Config, start: int, device: torch.device) -> None:
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
    devices = torch.cuda.device_count() if device.type == "cuda" else 1
    share = -(-config.TRAIN.BATCH_SIZE // devices)
    if not config.NET.FREEZE_BN and config.TRAIN.BATCH_SIZE % share == 1 % share:
        raise UserError(
            f"TRAIN.BATCH_SIZE {config.TRAIN.BATCH_SIZE} leaves a device with one image, whose "
            "pooled features give BatchNorm nothing to take statistics of, and with "
            "NET.FREEZE_BN False it trains; change the batch size or the number of GPUs"
        )


def _load_weights(network: Network, config: Config, snapshot: Snapshot | None) -> None:
    net = config.NET
    backbone = get_backbone_record(net.BACKBONE)
    if snapshot:
        print(f"resuming from {load_model(network, snapshot.path)}", flush=True)
    elif net.PRE_WEIGHTS_PATH:
        print(load_pretrained(network, backbone, net.PRE_WEIGHTS_PATH), flush=True)
    elif net.FREEZE_BN:
        raise UserError(
            "NET.PRE_WEIGHTS_PATH is empty, but training starts from ImageNet weights: `bash "
            f"launch/get_weights.sh {backbone.name}` gets them; set it to "
            f"models/weights/{backbone.weights.filename}, or train from scratch with --set "
            "NET.FREEZE_BN False"
        )


def _first_images(batches: Batches) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = next(batches.epoch(0))
    return images[:PICTURED_IMAGES], labels[:PICTURED_IMAGES]
