"""A training run: from files to snapshots."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from core.config import Config, InferenceConfig, with_cut_score
from core.config_reading import AUTO
from core.devices import gpus_used, tune_convolutions
from core.distributed import SINGLE, Group, broadcast_buffers, interruptible, rank_zero_first
from core.precision import settle_training, tf32
from core.run_info import write_run_info
from core.snapshot_settings import (
    kept_config,
    require_classes_of_run,
    settled_cut_score,
    write_settings,
)
from core.training.checkpoint_manager import CheckpointManager, discard_existing, discard_leftovers
from core.training.config_check import check_config, require_stride_of_run
from core.training.data import (
    list_names,
    read_labels,
    require_listed_files,
    training_batches,
    validation_batches,
)
from core.training.engine import Trainer, Validation, describe
from core.training.errors import explain_errors
from core.training.losses import require_usable_loss
from core.training.optimizer import require_usable_warmup
from core.training.resume import (
    LAST,
    PREVIOUS,
    best_score_of_last,
    check_init_from,
    find_start,
    how_to_resume,
    load_weights,
    make_last,
    restore,
    save_last,
)
from core.training.tensorboard import TensorBoardLog, discard_logs, draw_batch
from datasets.dataset_file import dataset_yaml
from datasets.info import DatasetInfo
from datasets.samples import mix_seed
from models import get_model
from utils.errors import UserError, os_errors_end_in
from utils.files import only_process, require_utf_8, require_writable_folder
from utils.signals import StopRequest

PICTURED_IMAGES = 8
PATIENCE = 10.0  # seconds to wait for an earlier process of the run to be gone


@dataclass
class TrainingRun:
    """A training run: what is trained on what, where, and from which start.

    Epochs run from 0 to TRAIN.NUM_EPOCHS, both included. Every VAL_INTERVAL-th one is preceded by a
    validation, and the last one followed by one, which counts as that of epoch NUM_EPOCHS + 1. The
    state after each epoch is kept as `last`. A resumed run starts at the epoch in its snapshot's
    name, or at the next epoch recorded in `last`.

    Attributes:
        config: all of it.
        info: the data set's.
        snapshots: folder of the run's snapshots.
        logs: folder of its TensorBoard events and run info.
        resume: a snapshot's suffix, `best`, `last`, `previous`, `auto`, or "" for a fresh start.
        overwrite: discard the snapshots and events of an earlier run of this name.
        seed: of everything that is random.
        device: where this process trains.
        group: the processes that train together.
        init_from: a snapshot of other classes, which a fresh start takes all of but their layer.
    """

    config: Config
    info: DatasetInfo
    snapshots: Path
    logs: Path
    resume: str
    overwrite: bool
    seed: int
    device: torch.device
    group: Group = SINGLE
    init_from: Path | None = None

    def run(self) -> None:
        """Train all epochs that are left, alone in the run's folders.

        Nothing of an earlier run is touched before all that can be checked has been.

        Raises:
            UserError: data, weights or snapshots are missing or do not fit, another process is at
                work on the run, a file cannot be used, the loss is not finite, a worker died, or
                the GPU's memory is short.
            InterruptionError: Ctrl-C or SIGTERM came, and the step it came in is done.
        """
        with self._folders_to_itself():
            self._prepare()
            with (
                interruptible(self.stop, self.group, self._how_to_go_on),
                explain_errors(self._how_to_resume),
                self.stop.listening(),
            ):
                self._run_epochs()

    @contextmanager
    def _folders_to_itself(self) -> Iterator[None]:
        """Keep other runs out; folders made for a run that does not come about are removed."""
        missing = [_missing(self.snapshots), _missing(self.logs)]
        self.took_over = False  # whether anything of an earlier run may have changed
        with ExitStack() as lock:
            # rank 0 holds it for all; only then may they look at what is in the folder
            with rank_zero_first(self.group):
                if self.group.is_rank_zero:
                    # worker processes hold it, too, and outlive a killed run by seconds
                    with os_errors_end_in("choose another --snapshot-dir"):
                        lock.enter_context(only_process(self.snapshots, "training run", PATIENCE))
            try:
                yield
            except BaseException:
                if self.group.is_rank_zero and not self.took_over:
                    for folders in missing:
                        _remove_empty(folders)
                raise

    def _prepare(self) -> None:
        """Read the lists, build the network, and check all that can be checked."""
        device, group = self.device, self.group
        check_init_from(self.init_from, self.snapshots, self.resume, self.overwrite)
        start = find_start(self.snapshots, self.resume, self.overwrite, self.seed)
        # not the start itself, which may hold all weights
        self.start_path = start.path if start else None
        self.first_epoch = start.epoch if start else 0
        kept = kept_config(self.snapshots) if start else None
        self.cut_score = settled_cut_score(kept)
        self.saved: int | None = None  # the epoch that this run's `last` is to train next
        if start:
            require_classes_of_run(self.snapshots, self.info)
            require_stride_of_run(self.snapshots, self.config, kept)
        # kept as the threshold is, or the part that is resumed would differ from the others
        amp = kept.TRAIN.AMP if kept else None
        self.config, settled = settle_training(self.config, amp, self._devices())
        if settled and group.is_rank_zero:
            print(settled, flush=True)
        config = self.config
        check_config(config, start, device, group)
        require_usable_loss(config.NET.LOSS, self.info)
        self.train_batches = training_batches(config, self.info, self.seed, device, group)
        steps = len(self.train_batches)
        require_usable_warmup(config.TRAIN.WARMUP, (config.TRAIN.NUM_EPOCHS + 1) * steps)
        training = self.train_batches.samples.entries
        self.val_batches = validation_batches(config, self.info, training, device, group)
        require_listed_files([self.train_batches, *self.val_batches.values()], config, self.info)
        self.stop = StopRequest()

        tune_convolutions(device)
        torch.manual_seed(self.seed)
        network = get_model(config.NET, self.info.num_classes)
        load_weights(network, config, start, self.init_from)
        self.trainer = Trainer(network, config, device, group, self.stop)
        self.best_score = restore(start, self.trainer.optimizer, self.trainer.precision)
        self.trainer.schedule(self.first_epoch, 0, steps)
        require_writable_folder(self.snapshots, "--snapshot-dir (SNAPSHOT_DIR)")
        require_writable_folder(self.logs, "--logdir (LOGDIR)")
        require_utf_8(self.logs, "--logdir (LOGDIR)")

    def _run_epochs(self) -> None:
        config = self.config.TRAIN
        self._begin()
        for epoch in range(self.first_epoch, config.NUM_EPOCHS + 1):
            if epoch % config.VAL_INTERVAL == 0:
                self._validate(epoch)
            self._log_picture(epoch)
            self._train(epoch)
            self._save_last(epoch + 1)
        self._validate(config.NUM_EPOCHS + 1)
        if self.group.is_rank_zero:
            self._settle()
            self.tensorboard.close()

    def _begin(self) -> None:
        """Agree on the start, read the labels, and take the folders over."""
        self._require_same_start()
        lists = [(Path(self.info.train_list).name, self.train_batches.samples)]
        lists += [
            (list_names(self.info)[name], batches.samples)
            for name, batches in self.val_batches.items()
        ]
        read_labels(lists, self._located(), self.group, self.stop)
        if self.group.is_rank_zero:
            print(self._what_is_left(), flush=True)
        # from here on, an earlier run's files may be gone
        self.trainer.end_if_requested()
        self.took_over = True
        if self.group.is_rank_zero:
            self._take_over_folder()
        if self.start_path:
            self.saved = self.first_epoch
        if self.group.is_rank_zero:
            self._open_logs()

    def _require_same_start(self) -> None:
        """Raise `UserError` unless the processes, perhaps on several machines, agree."""
        facts = {
            "start": f"epoch {self.first_epoch}",
            "--init-from": str(self.init_from),
            "seed": str(self.seed),
            "TRAIN.AMP": self.config.TRAIN.AMP,
            "TEST.AMP": self.trainer.eval_amp,
            "configuration": self.config.to_yaml(),
            "data set": dataset_yaml(self._located()),
        }
        for rank, others in enumerate(self.group.gather(facts)):
            if differing := [name for name in facts if facts[name] != others[name]]:
                remedy = "give all machines the same arguments and shared folders"
                if any(name.endswith("AMP") for name in differing):
                    remedy = "set AMP to bf16 or off, for auto depends on the machine"
                raise UserError(
                    f"process {rank} and process {self.group.rank} differ in their "
                    f"{' and '.join(differing)}; {remedy}"
                )

    def _take_over_folder(self) -> None:
        """Remove files of an earlier run that are no longer valid, but keep its best score."""
        folder, start = self.snapshots, self.start_path
        if self.overwrite:
            discard_existing(folder)
        discard_leftovers(folder)
        if start and start.name != LAST:
            self.best_score = max(self.best_score, best_score_of_last(folder))
        self.checkpoints = CheckpointManager(folder, self.best_score)
        self.checkpoints.drop_surplus()  # a run may have been killed before it did
        # once a run has gone back, its later states belong to another branch
        if start and start.name in (LAST, PREVIOUS):
            make_last(start)
        elif start:
            self._save_last(self.first_epoch, goes_back=True)

    def _located(self) -> DatasetInfo:
        """The data set with its data root, for files that may lie anywhere."""
        return self.info.at(self.config.DATASET.PATH)

    def _devices(self) -> list[torch.device]:
        return gpus_used(self.device, spread=self.group.size == 1)

    def _open_logs(self) -> None:
        if self.overwrite:
            discard_logs(self.logs)
        mark = f"_e{self.first_epoch:03d}" if self.start_path else ""
        facts = {"seed": self.seed, "processes": self.group.size, "tf32": self.config.TRAIN.TF32}
        facts["validation"] = f"TEST.AMP {self.trainer.eval_amp}"
        write_run_info(self.logs, self.config, self._located(), self._devices(), mark, **facts)
        self.tensorboard = TensorBoardLog(self.logs, self.info, self.first_epoch)
        self.pictured = self.val_batches["train"].first(PICTURED_IMAGES)

    def _log_picture(self, epoch: int) -> None:
        """Log the masks of the same few images, and the learning rates."""
        if self.group.is_rank_zero:
            trainer = self.trainer
            image = draw_batch(
                trainer.eval_model, self.pictured, self.info, self.device, trainer.mean_std
            )
            self.tensorboard.pictures(image, epoch)
            self.tensorboard.learning_rates(self.trainer.optimizer, epoch)
            self.tensorboard.flush()

    def _train(self, epoch: int) -> None:
        # all chance in an epoch follows from the seed and its number, whatever came before it
        _seed_all(self.seed, epoch, self.device, self.group)
        with tf32(self.config.TRAIN.TF32):
            # how long it takes is said once, in the first epoch of this process
            left = self._steps_left() if epoch == self.first_epoch else 0
            losses = self.trainer.train_one_epoch(self.train_batches, epoch, left)
        broadcast_buffers(self.trainer.network, self.group)
        if self.group.is_rank_zero:
            print(f"epoch {epoch}, trained: {describe(losses)}", flush=True)

    def _what_is_left(self) -> str:
        if not self._steps_left():
            return "all epochs are trained; another run (--run, RUN_ID) trains anew"
        return (
            f"{self._steps_left()} steps to train: epochs {self.first_epoch} to "
            f"{self.config.TRAIN.NUM_EPOCHS}, {len(self.train_batches)} steps each"
        )

    def _steps_left(self) -> int:
        return (self.config.TRAIN.NUM_EPOCHS + 1 - self.first_epoch) * len(self.train_batches)

    def _validate(self, epoch: int) -> None:
        """Validate as of `epoch`, and keep the model if it is the best so far."""
        for name, batches in self.val_batches.items():
            result = self.trainer.validate(batches, epoch, name)
            if self.group.is_rank_zero:
                self._report(name, result, epoch)

    def _report(self, name: str, result: Validation, epoch: int) -> None:
        self.tensorboard.validation(name, result, epoch)
        mean = 100 * result.mean_average_precision
        listed = list_names(self.info)[name]
        print(f"epoch {epoch}, {listed}: mAP {mean:.2f}, {describe(result.losses)}", flush=True)
        if name == "val" and epoch >= self.config.TRAIN.PRETRAIN:
            score = 1 - result.losses["loss"]  # the one in the snapshot's name
            self._save_if_best(score, result.cut_score, epoch)

    def _save_if_best(self, score: float, cut_score: float, epoch: int) -> None:
        self.tensorboard.checkpoint_score(score, epoch)
        if self.saved is None:
            # no snapshot without a state to go on from, or a killed run could not be taken up
            self._save_last(epoch)
        network, optimizer = self.trainer.network, self.trainer.optimizer
        if path := self.checkpoints.save_if_best(network, optimizer, epoch, score):
            print(f"epoch {epoch}: best score so far, {score:.3f}; saved {path}", flush=True)
        # also where a killed run has saved it, and not got here
        is_best = score == self.checkpoints.best_score
        if is_best and self.config.TEST.FP_CUT_SCORE == AUTO and not math.isnan(cut_score):
            self.cut_score = cut_score
            print(f"epoch {epoch}: TEST.FP_CUT_SCORE {cut_score:.2f} suits its labels best")
            self._write_settings()

    def _save_last(self, epoch: int, goes_back: bool = False) -> None:
        if self.group.is_rank_zero:
            best_score = self.checkpoints.best_score
            self._write_settings()
            save_last(self.snapshots, self.trainer, epoch, best_score, self.seed, goes_back)
        self.saved = epoch

    def _settle(self) -> None:
        """Leave config.yaml as it stays: with a threshold, whether labels tell one or not."""
        if self.config.TEST.FP_CUT_SCORE == AUTO and self.cut_score is None:
            self.cut_score = InferenceConfig().FP_CUT_SCORE
            print(f"TEST.FP_CUT_SCORE {self.cut_score}: no validation image has an object")
        self._write_settings()

    def _write_settings(self) -> None:
        """Write config.yaml, with the threshold of the best snapshot, and dataset.yaml."""
        config = with_cut_score(self.config, self.cut_score)
        write_settings(self.snapshots, config, self._located())

    def _how_to_resume(self) -> str:
        return how_to_resume(self.snapshots, -1 if self.saved is None else self.saved)

    def _how_to_go_on(self) -> str:
        """What a line on an interruption ends with."""
        if not self.took_over:
            return "nothing was changed; the same command goes on"
        if self.saved is None:
            again = "the same command goes on"
            return again if self.start_path else "no epoch was finished, so start again"
        path = self.snapshots / LAST
        return f"--resume last (RESUME=last) goes on with epoch {self.saved} from {path}"


def _missing(folder: Path) -> list[Path]:
    """The folder and those above it that do not exist, the innermost first."""
    return [path for path in (folder, *folder.parents) if not path.exists()]


def _remove_empty(folders: list[Path]) -> None:
    """Remove folders, the innermost first, that were made for a run that did not come about."""
    with suppress(OSError):  # others have put something there
        for path in folders:
            path.rmdir()


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
