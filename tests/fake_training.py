"""A training run whose network is one number: all of its files, and none of its work.

Files are written, read, renamed and removed by the code that real runs use; what an epoch makes of
the number, and what loss that has, is told by a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

import core.training.checkpoint_manager
import core.training.run
from core.config import load_config
from core.distributed import SINGLE, Group
from core.training.engine import Trainer, Validation
from core.training.errors import NotFiniteError
from core.training.run import TrainingRun
from datasets.voc import PASCAL_VOC
from models.network import Network

CPU = torch.device("cpu")


CUT_SCORE = 0.5
"""The threshold that every validation finds best."""


class KilledError(BaseException):
    """The end of a process that has no say in it."""


class OneNumber(Network):
    """A network with a single weight."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 1, 1, bias=False))
        nn.init.zeros_(self.backbone.weight)


def number_in(path: Path) -> float:
    """The weight in a snapshot's file."""
    return float(torch.load(path, weights_only=True)["weight"])


class NoBatches:
    """Stands in for `Batches`."""

    samples = SimpleNamespace(entries=[])

    def __len__(self) -> int:
        return 1

    def first(self, count: int) -> None:
        return None


@dataclass
class FakeRun:
    """What drives a run, and what it is seen to do.

    Attributes:
        folder: takes `snapshots` and `logs`.
        step: the weight after an epoch, from the weight before, the epoch and NET.LR; NaN is a loss
            that is not finite.
        loss: the loss on the validation lists, from the weight.
        events: ("trained", epoch), ("validated", epoch, score), ("wrote", path, score), in order.
        kill_after: file operations (renames and removals) until the process is killed; None: never.
        patience: seconds that it waits for another process of the run to be gone.
        read_labels: what happens in place of it.
        group: what answers for the processes that train together.
    """

    folder: Path
    step: Callable[[float, int, float], float] = lambda weight, epoch, rate: weight + 1
    loss: Callable[[float], float] = lambda weight: 0.5
    events: list[tuple] = field(default_factory=list)
    kill_after: int | None = None
    patience: float = 0.0
    read_labels: Callable[..., None] = lambda *_: None
    group: Group = SINGLE

    @property
    def snapshots(self) -> Path:
        return self.folder / "snapshots"

    def train(self, resume: str = "", *, overwrite: bool = False, **changes: object) -> None:
        """Carry out a run in this process; `changes` are keys with __ for the dot."""
        settings = {"TRAIN__NUM_WORKERS": 0, "TRAIN__PRETRAIN": 0, "NET__FREEZE_BN": False}
        words = []
        for key, value in (settings | changes).items():
            words += [key.replace("__", "."), str(value)]
        logs = self.folder / "logs"
        place = (self.snapshots, logs, resume, overwrite)
        with self._in_place():
            TrainingRun(load_config(None, words), PASCAL_VOC, *place, 64, CPU, self.group).run()

    @contextmanager
    def _in_place(self) -> Iterator[None]:
        run = core.training.run

        def train_one_epoch(trainer, batches, epoch, steps_left):
            weight = trainer.network.backbone.weight
            value = self.step(weight.item(), epoch, trainer.optimizer.param_groups[0]["lr"])
            if not math.isfinite(value):
                raise NotFiniteError(f"epoch {epoch}, step 0: the loss is nan")
            with torch.no_grad():
                weight.fill_(value)
            self.events.append(("trained", epoch))
            return {"loss": self.loss(weight.item())}

        def validate(trainer, batches, epoch, name):
            loss = self.loss(trainer.network.backbone.weight.item())
            if name == "val":
                self.events.append(("validated", epoch, 1 - loss))
            return Validation({"loss": loss}, np.zeros(20), 0.0, CUT_SCORE)

        def save_model(model, path):
            real_save_model(model, path)
            score = next(event[2] for event in reversed(self.events) if event[0] == "validated")
            self.events.append(("wrote", path, score))

        def counted(operation):
            def one_of_them(*arguments, **keywords):
                if self.kill_after is not None:
                    if self.kill_after == 0:
                        raise KilledError
                    self.kill_after -= 1
                return operation(*arguments, **keywords)

            return one_of_them

        real_save_model = core.training.checkpoint_manager.save_model
        nothing = SimpleNamespace(
            **dict.fromkeys(
                ("validation", "checkpoint_score", "pictures", "learning_rates", "flush", "close"),
                lambda *_: None,
            )
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(core.training.checkpoint_manager, "save_model", save_model)
            patch.setattr(run, "get_model", lambda *_: OneNumber())
            patch.setattr("core.training.engine.parallelise", lambda model, *_, **__: model)
            batches = NoBatches()
            both = dict.fromkeys(("train", "val"), batches)
            patch.setattr(run, "training_batches", lambda *_: batches)
            patch.setattr(run, "validation_batches", lambda *_: both)
            patch.setattr(run, "read_labels", self.read_labels)
            patch.setattr(Trainer, "train_one_epoch", train_one_epoch)
            patch.setattr(Trainer, "validate", validate)
            patch.setattr(run, "draw_batch", lambda *_: None)
            patch.setattr(run, "write_run_info", lambda *_, **__: None)
            patch.setattr(run, "TensorBoardLog", lambda *_: nothing)
            patch.setattr(run, "PATIENCE", self.patience)
            patch.setattr("os.fsync", lambda _: None)
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, counted(getattr(Path, name)))
            yield
