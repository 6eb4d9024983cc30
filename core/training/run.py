"""A training run: from files to snapshots."""

from __future__ import annotations

import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from core.config import Config
from core.devices import gpus_used
from core.distributed import (
    SINGLE,
    Group,
    broadcast_buffers,
    parallelise,
    rank_zero_first,
    sync_batch_norm,
)
from core.precision import InPrecision, Precision, require_compiler, tf32
from core.run_info import write_run_info
from core.training.checkpoint_manager import SnapshotKeeper, discard_existing, discard_leftovers
from core.training.config_check import check_plan
from core.training.data import read_labels, training_batches, validation_batches
from core.training.engine import Validation, describe, train_one_epoch, validate
from core.training.errors import readable_ends
from core.training.losses import Criterion, require_usable_loss
from core.training.optimizer import build_optimizer
from core.training.resume import (
    LAST,
    LastState,
    best_score_of_last,
    find_start,
    load_weights,
    make_last,
    restore,
    save_last,
    way_back,
)
from core.training.tensorboard import Logbook, discard_logs, draw_batch
from datasets.info import DatasetInfo
from datasets.samples import mix_seed
from models import get_model
from utils.errors import InterruptionError, UserError, os_errors_end_in
from utils.files import only_process, require_utf_8, require_writable_folder
from utils.signals import StoppedError, StopRequest

PICTURED_IMAGES = 8
PATIENCE = 10.0  # seconds to wait for an earlier process of the run to be gone


@dataclass(frozen=True)
class RunSettings:
    """What names a run and its machine.

    Attributes:
        snapshots: folder of its snapshots.
        logs: folder of its TensorBoard events and records.
        resume: a snapshot's suffix, `best`, `last`, `previous`, `auto`, or "" for a fresh start.
        overwrite: discard the snapshots and events of an earlier run of this name.
        seed: of everything that is random.
        device: where to train.
        group: the processes that train together.
    """

    snapshots: Path
    logs: Path
    resume: str
    overwrite: bool
    seed: int
    device: torch.device
    group: Group = SINGLE


def train(config: Config, info: DatasetInfo, settings: RunSettings) -> None:
    """Carry out a run, alone in its folder.

    Raises:
        UserError, InterruptionError: see `TrainingRun`; another process is at work on the run.
    """
    folder, group = settings.snapshots, settings.group
    missing = [_missing(folder), _missing(settings.logs)]
    with ExitStack() as lock:
        # the main process holds it for all; only then may they look at what is in the folder
        with rank_zero_first(group):
            if group.is_rank_zero:
                # the loaders' processes outlive a main process that is killed by seconds, and
                # hold it
                with os_errors_end_in("choose another --snapshot-dir"):
                    lock.enter_context(only_process(folder, "training run", PATIENCE))
        run = None
        try:
            run = TrainingRun(config, info, settings)
            run.run()
        except BaseException:
            if group.is_rank_zero and not (run and run.takes_over):
                for folders in missing:
                    _remove_empty(folders)
            raise


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that are not there, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, that were made for a run that did not come about."""
    with suppress(OSError):  # others have put something there
        for path in folders:
            path.rmdir()


class TrainingRun:
    """A run's data, network and optimizer, and where it writes.

    Epochs run from 0 to TRAIN.NUM_EPOCHS, both included. Every VAL_INTERVAL-th one is preceded by a
    validation, and the last one followed by one, which counts as that of epoch NUM_EPOCHS + 1. The
    state after each epoch is kept as `last`. A run that resumes goes on with the epoch that its
    snapshot is named after, or that its last state is to train next.

    Building it checks all that can be checked; nothing of an earlier run is touched before. No
    other process may be at work in its folder.

    Raises:
        UserError: data, weights or snapshots are missing or do not fit; see the functions called.
    """

    def __init__(self, config: Config, info: DatasetInfo, settings: RunSettings) -> None:
        start = find_start(settings.snapshots, settings.resume, settings.overwrite, settings.seed)
        self.start = start.epoch if start else 0
        self.goes_on = start is not None
        self.start_path = start.path if start else None
        self.from_state = isinstance(start, LastState)
        self.takes_over = False  # whether anything of an earlier run may have changed
        # the epoch that `last` is to train next, once it is this run's
        self.saved: int | None = None
        check_plan(config, start, settings.device, settings.group)
        require_usable_loss(config.NET.LOSS, info)
        self.config = config
        self.info = info
        self.settings = settings
        self.group = group = settings.group
        device = settings.device
        self.train_batches = training_batches(config, info, settings.seed, device, group)
        self.val_batches = validation_batches(config, info, device, group)
        self.criterion = Criterion(config)
        self.stop = StopRequest()

        torch.manual_seed(settings.seed)
        self.network = get_model(config.NET, info.num_classes)
        load_weights(self.network, config, start)
        if config.TRAIN.SYNC_BN:
            sync_batch_norm(self.network)
        if config.TRAIN.CHECKPOINT:
            self.network.checkpoint_activations()
        if config.TRAIN.COMPILE:
            require_compiler("TRAIN.COMPILE", device)
            self.network.compile_layers()
        self.precision = Precision(config.TRAIN.AMP, device)
        self.model = parallelise(
            InPrecision(self.network, self.precision),
            device,
            group,
            low_precision=config.TRAIN.AMP != "off",
        )
        # validation has no gradients for the processes to share, and parts of unequal size
        self.eval_model = self.network if group.size > 1 else self.model
        self.optimizer = build_optimizer(self.network, config.NET)
        self.best_score = restore(start, self.optimizer, self.precision)
        require_writable_folder(settings.snapshots, "--snapshot-dir (SNAPSHOT_DIR)")
        require_writable_folder(settings.logs, "--logdir (LOGDIR)")
        require_utf_8(settings.logs, "--logdir (LOGDIR)")

    def run(self) -> None:
        """Train all epochs that are left.

        Raises:
            UserError: a file cannot be used, the loss is not finite, a worker died, or the GPU's
                memory is short.
            InterruptionError: Ctrl-C or SIGTERM came, and the step it came in is done.
        """
        try:
            with readable_ends(self._way_back), self.stop.listening():
                self._run()
        except (StoppedError, KeyboardInterrupt, UserError, RuntimeError) as error:
            # a signal to all processes may have ended workers or others of the group first
            asked = self.stop.signal is not None or isinstance(error, StoppedError)
            if not asked:
                raise
            status = 128 + (self.stop.signal or signal.SIGTERM)
            if not self.group.is_rank_zero:
                raise SystemExit(status) from error
            raise InterruptionError(f"interrupted; {self._how_to_go_on()}", status) from error

    def _way_back(self) -> str:
        return way_back(self.settings.snapshots, -1 if self.saved is None else self.saved)

    def _how_to_go_on(self) -> str:
        if not self.takes_over:
            return "nothing was changed; the same command goes on"
        if self.saved is None:
            again = "the same command goes on"
            return again if self.goes_on else "no epoch was finished, so start again"
        path = self.settings.snapshots / LAST
        return f"--resume last (RESUME=last) goes on with epoch {self.saved} from {path}"

    def _run(self) -> None:
        last = self.config.TRAIN.NUM_EPOCHS
        self._require_same_plan()
        self._read_labels()
        # behind this, what is there of an earlier run may be gone
        if self.group.any(self.stop.signal is not None, self.settings.device):
            raise StoppedError
        self.takes_over = True
        if self.group.is_rank_zero:
            self._take_over_folder()
        if self.goes_on:
            self.saved = self.start
        if self.group.is_rank_zero:
            self._open_logs()
        for epoch in range(self.start, last + 1):
            if epoch % self.config.TRAIN.VAL_INTERVAL == 0:
                self._validate(epoch)
            if self.group.is_rank_zero:
                self._picture(epoch)
            with tf32(self.config.TRAIN.TF32):
                self._train(epoch)
            self._save_last(epoch + 1)
        self._validate(last + 1)
        if self.group.is_rank_zero:
            self.logbook.close()

    def _require_same_plan(self) -> None:
        """Raise `UserError` unless the processes, perhaps on several machines, agree."""
        plan = {
            "start": f"epoch {self.start}",
            "seed": str(self.settings.seed),
            "configuration": self.config.to_yaml(),
        }
        for rank, other in enumerate(self.group.gather(plan)):
            if differing := [name for name in plan if plan[name] != other[name]]:
                raise UserError(
                    f"process {rank} and process {self.group.rank} differ in their "
                    f"{' and '.join(differing)}; give all machines the same arguments, and folders "
                    "that they share"
                )

    def _read_labels(self) -> None:
        lists = [(self.info.train_list, self.train_batches.samples)]
        for writer, batches in self.val_batches.items():
            lists.append((self.info.val_lists[writer], batches.samples))
        read_labels(lists, self.info, self.group, self.stop)

    def _take_over_folder(self) -> None:
        """Discard what is void of an earlier part of the run, but for its best score."""
        folder = self.settings.snapshots
        if self.settings.overwrite:
            discard_existing(folder)
        discard_leftovers(folder)
        if self.goes_on and self.start_path.name != LAST:
            self.best_score = max(self.best_score, best_score_of_last(folder))
        self.keeper = SnapshotKeeper(folder, self.best_score)
        self.keeper.drop_surplus()  # a run may have been killed before it came to that
        # a later state of a run that was gone back on would be of another branch of it
        if self.from_state:
            make_last(self.start_path)
        elif self.goes_on:
            self._save_last(self.start, goes_back=True)

    def _open_logs(self) -> None:
        settings = self.settings
        if settings.overwrite:
            discard_logs(settings.logs, self.info)
        mark = f"_e{self.start:03d}" if self.goes_on else ""
        facts = {"seed": settings.seed, "processes": self.group.size}
        facts["tf32"] = self.config.TRAIN.TF32
        devices = gpus_used(settings.device, spread=self.group.size == 1)
        write_run_info(settings.logs, self.config, devices, mark, **facts)
        self.logbook = Logbook(settings.logs, self.info, self.start)
        self.pictured = self.val_batches["train"].first(PICTURED_IMAGES)

    def _picture(self, epoch: int) -> None:
        image = draw_batch(self.eval_model, self.pictured, self.info, self.settings.device)
        self.logbook.pictures(image, epoch)
        self.logbook.learning_rates(self.optimizer, epoch)
        self.logbook.flush()

    def _save_last(self, epoch: int, goes_back: bool = False) -> None:
        if self.group.is_rank_zero:
            save_last(
                self.settings.snapshots,
                self.network,
                self.optimizer,
                self.precision,
                epoch=epoch,
                best_score=self.keeper.best_score,
                seed=self.settings.seed,
                goes_back=goes_back,
            )
        self.saved = epoch

    def _train(self, epoch: int) -> None:
        # all chance in an epoch follows from the seed and its number, whatever came before it
        _seed_all(self.settings.seed, epoch, self.settings.device, self.group)
        losses = train_one_epoch(
            self.model,
            self.train_batches,
            self.optimizer,
            self.criterion,
            epoch,
            self.settings.device,
            self.precision,
            self.group,
            self.stop,
        )
        broadcast_buffers(self.network, self.group)
        if self.group.is_rank_zero:
            print(f"epoch {epoch}, trained: {describe(losses)}", flush=True)

    def _validate(self, epoch: int) -> None:
        """Validate as of `epoch`, and keep the model if it is the best so far."""
        device = self.settings.device
        for name, batches in self.val_batches.items():
            result = validate(
                self.eval_model, batches, self.criterion, epoch, device, name, self.group, self.stop
            )
            if self.group.is_rank_zero:
                self._report(name, result, epoch)

    def _report(self, name: str, result: Validation, epoch: int) -> None:
        self.logbook.validation(name, result, epoch)
        mean = 100 * result.mean_average_precision
        file = self.info.val_lists[name]
        print(f"epoch {epoch}, {file}: mAP {mean:.2f}, {describe(result.losses)}", flush=True)
        if name == "val" and epoch >= self.config.TRAIN.PRETRAIN:
            self._keep_if_best(1 - result.losses["loss"], epoch)

    def _keep_if_best(self, score: float, epoch: int) -> None:
        self.logbook.checkpoint_score(score, epoch)
        if self.saved is None:
            # no snapshot without a state to go on from, or a killed run could not be taken up
            self._save_last(epoch)
        if path := self.keeper.offer(self.network, self.optimizer, epoch, score):
            print(f"epoch {epoch}: best score so far, {score:.3f}; saved {path}", flush=True)


def _seed_all(seed: int, epoch: int, device: torch.device, group: Group) -> None:
    """Seed all that draws from PyTorch in an epoch; each process and each GPU draws its own."""
    if not group.is_rank_zero:
        torch.manual_seed(mix_seed(seed, epoch, group.rank))
        return
    torch.manual_seed(mix_seed(seed, epoch))
    if device.type == "cuda" and group.size == 1:
        for index in range(torch.cuda.device_count()):
            with torch.cuda.device(index):
                torch.cuda.manual_seed(mix_seed(seed, epoch, index))
