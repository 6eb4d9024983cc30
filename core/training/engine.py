"""What trains and validates a network: one epoch of steps, one pass over a validation set."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from core.config import Config
from core.devices import gpus_used
from core.distributed import (
    SINGLE,
    Group,
    interleave,
    parallelise,
    sync_batch_norm,
    track_group,
)
from core.precision import (
    AutocastNetwork,
    Precision,
    caution,
    lowers_convolutions,
    require_amp,
    require_compiler,
    settled_amp,
    tf32,
)
from core.training.data import Batches
from core.training.errors import NotFiniteError
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer, rate_factor, set_learning_rates
from datasets.transforms import MeanStd, normalise
from models.network import Network
from utils.metrics import average_precision, best_threshold
from utils.signals import StoppedError, StopRequest

TIMED_STEPS = 10


@dataclass
class MeanLosses:
    """Running means of losses over images."""

    sums: dict[str, float] = field(default_factory=dict)
    images: int = 0

    def update(self, losses: Mapping[str, Tensor]) -> None:
        """Add a batch: B values for each loss."""
        self.images += len(losses["loss"])
        for name, values in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(values.detach().cpu().double().sum())

    def merge(self, other: MeanLosses) -> None:
        """Add the sums of another process."""
        self.images += other.images
        for name, total in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + total

    def means(self) -> dict[str, float]:
        """The mean of each loss over all images so far."""
        return {name: total / self.images for name, total in self.sums.items()}


def describe(losses: Mapping[str, float]) -> str:
    """Losses as words for a line of the log."""
    return ", ".join(f"{name} {value:.4f}" for name, value in losses.items())


def run_batch(
    model: nn.Module,
    batch: tuple[Tensor, Tensor],
    device: torch.device,
    with_masks: bool = False,
    mean_std: MeanStd | None = None,
) -> tuple[dict[str, Tensor], Tensor]:
    """Bring a batch to the device and through the model; returns the outputs and the labels.

    Images are normalised by `mean_std` (see `normalise`).
    """
    raw_images, labels = batch
    raw_images = raw_images.to(device, non_blocking=True)
    # by position: DataParallel gives a keyword to GPUs that have no images left; the labels as they
    # are, for the model asks how many there are, and a GPU's answer takes as long as its queue
    outputs = model(normalise(raw_images, mean_std), raw_images, labels, with_masks)
    return outputs, labels.to(device, non_blocking=True)


def read_late(
    items: Iterable[Mapping[str, Tensor]], device: torch.device
) -> Iterator[Mapping[str, Tensor]]:
    """Each item's tensors, on the CPU.

    A GPU's come when the next item has been asked for, and with it the next item's work: the host
    waits for what the GPU has done by then, and the GPU never for the host.
    """
    if device.type != "cuda":
        yield from items
        return
    late: list[tuple[Mapping[str, Tensor], torch.cuda.Event]] = []
    for item in items:
        copies = {key: x.detach().to("cpu", non_blocking=True) for key, x in item.items()}
        copied = torch.cuda.Event()
        copied.record()
        late.append((copies, copied))
        if len(late) > 1:
            yield _arrived(*late.pop(0))
    yield from (_arrived(*each) for each in late)


def _arrived(copies: Mapping[str, Tensor], copied: torch.cuda.Event) -> Mapping[str, Tensor]:
    copied.synchronize()
    return copies


@dataclass(frozen=True)
class Validation:
    """Scores of the model on a validation set.

    Attributes:
        losses: mean over all images of each loss.
        average_precision: of each object class, in [0, 1]; NaN if the set lacks the class.
        mean_average_precision: over the classes in the set.
        cut_score: the threshold of scores, in [0, 1], that suits the set's labels best.
    """

    losses: dict[str, float]
    average_precision: np.ndarray
    mean_average_precision: float
    cut_score: float


class Pace:
    """How long the steps of a run take, said once.

    Args:
        steps: those that are left; 0 to say nothing.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._start = 0.0

    def line(self, step: int) -> str:
        """What to print after this step, counted from 0; mostly nothing.

        The first step is not timed: it makes what later ones find made.
        """
        if step == 0:
            self._start = time.monotonic()
        if step != TIMED_STEPS or not self.steps:
            return ""
        seconds = (time.monotonic() - self._start) / TIMED_STEPS
        minutes = seconds * self.steps / 60
        left = f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
        return f"a step takes {seconds:.2f} s: {self.steps} steps about {left}, beside validation"


class Trainer:
    """A network with its loss and its optimizer: takes the steps of training, and validates.

    Args:
        network: holds the weights to start from; changed to what TRAIN says of it.
        config: all of it.
        device: this process's.
        group: the processes that train together.
        stop: ends an epoch or a validation once it is requested.

    Raises:
        UserError: PyTorch cannot compute as configured, or the GPU's memory is short.
    """

    def __init__(
        self,
        network: Network,
        config: Config,
        device: torch.device,
        group: Group = SINGLE,
        stop: StopRequest | None = None,
    ) -> None:
        if config.TRAIN.SYNC_BN:
            sync_batch_norm(network)
        if config.TRAIN.CHECKPOINT:
            network.checkpoint_activations()
        if config.TRAIN.COMPILE:
            require_compiler("TRAIN.COMPILE", device)
            network.compile_layers()
        devices = gpus_used(device, spread=group.size == 1)
        amp, eval_amp = (settled_amp(kind, devices) for kind in (config.TRAIN.AMP, config.TEST.AMP))
        self.network = network
        self.mean_std = network.mean_std
        self.device = device
        self.group = group
        self.stop = stop or StopRequest()
        self.criterion = Criterion(config)
        self.precision = Precision(amp, device)
        require_amp("TEST.AMP", eval_amp, device, trains=False)
        self.eval_amp = eval_amp
        # models are chosen as inference will use them
        in_precision = AutocastNetwork(network, amp, device, eval_amp)
        lowers = lowers_convolutions(amp, config.TRAIN.TF32, devices)
        self.model = parallelise(in_precision, device, group, low_precision=lowers)
        # validation has no gradients for the processes to share, and parts of unequal size
        self.eval_model = in_precision if group.size > 1 else self.model
        self.optimizer = build_optimizer(network, config.NET)
        self.train_config = config.TRAIN

    def schedule(self, epoch: int, step: int, steps: int) -> None:
        """Give the optimizer the learning rates of a step, as TRAIN.SCHEDULE and WARMUP have them.

        Args:
            epoch, step: the step of the epoch.
            steps: of an epoch.
        """
        config = self.train_config
        done, total = epoch * steps + step, (config.NUM_EPOCHS + 1) * steps
        factor = rate_factor(config.SCHEDULE, config.WARMUP, done, total)
        set_learning_rates(self.optimizer, factor)

    def train_one_epoch(
        self, batches: Batches, epoch: int, steps_left: int = 0
    ) -> dict[str, float]:
        """Take a step for every batch of the epoch; returns the mean of each loss, over the group.

        A loss that is not finite ends it: before that step on the CPU; on a GPU, whose losses are
        read late, after it, but always before this returns.

        Afterwards the optimizer has the learning rates of the next epoch's first step.

        Args:
            batches: of the training list.
            epoch: its number.
            steps_left: of the run, for a line after ten steps on how long they take; 0 for none.

        Raises:
            UserError: a file cannot be used, or the loss is not finite.
            StoppedError: one of the processes was requested to stop.
        """
        self.model.train()
        means = MeanLosses()
        progress = self._track(
            batches, epoch, description=f"epoch {epoch}", status=lambda: describe(means.means())
        )
        steps = self._steps(progress, epoch, len(batches), steps_left)
        for step, losses in enumerate(read_late(steps, self.device)):
            where = f"epoch {epoch}, step {step}{self.precision.caution}"
            _require_finite(losses["loss"], batches, epoch, step, where)
            means.update(losses)
        self.schedule(epoch + 1, 0, len(batches))
        total = MeanLosses()
        for part in self.group.gather(means):
            total.merge(part)
        return total.means()

    def _steps(
        self, batches: Iterable[tuple[Tensor, Tensor]], epoch: int, steps: int, steps_left: int
    ) -> Iterator[dict[str, Tensor]]:
        """The losses of each batch, B values each; the step is taken once the next are wanted."""
        pace = Pace(steps_left)
        for step, batch in enumerate(batches):
            # all processes stop before the same step, or one would wait for the others for ever
            self.end_if_requested()
            self.schedule(epoch, step, steps)
            outputs, labels = run_batch(self.model, batch, self.device, mean_std=self.mean_std)
            losses = self.criterion(outputs, labels, epoch)
            yield losses
            self.precision.step(losses["loss"].mean(), self.optimizer)
            if (line := pace.line(step)) and self.group.is_rank_zero:
                print(line, flush=True)

    @tf32(False)
    @torch.inference_mode()
    def validate(self, batches: Batches, epoch: int, name: str) -> Validation:
        """Losses and average precision over the validation set called `name`, as of `epoch`.

        Each process evaluates its share of the images; all return the combined result.

        Raises:
            UserError: a file cannot be used, or a loss is not finite.
            StoppedError: one of the processes was requested to stop.
        """
        self.eval_model.eval()
        title = f"validation on {name}"
        parts: dict[str, list[Tensor]] = defaultdict(list)
        answers = self._answers(self._track(batches, 0, description=title), epoch)
        for step, answer in enumerate(read_late(answers, self.device)):
            where = f"{title}, epoch {epoch}, step {step}{caution('TEST.AMP', self.eval_amp)}"
            _require_finite(answer["loss"], batches, 0, step, where)
            for key, values in answer.items():
                # copied, or all would stay in memory that is pinned for a GPU
                parts[key].append(values.to("cpu", torch.float32, copy=True))

        self.end_if_requested()
        gathered = self.group.gather({key: torch.cat(values) for key, values in parts.items()})
        results = {key: interleave([part[key] for part in gathered]) for key in parts}
        labels, scores = results.pop("labels"), results.pop("scores")
        classes, mean = average_precision(labels.numpy(), scores.numpy())
        losses = {key: values.double().mean().item() for key, values in results.items()}
        cut_score = best_threshold(labels.numpy(), scores.sigmoid().numpy())
        return Validation(losses, classes, mean, cut_score)

    def _answers(
        self, batches: Iterable[tuple[Tensor, Tensor]], epoch: int
    ) -> Iterator[dict[str, Tensor]]:
        """The losses, labels and scores of each batch, until the process is requested to stop."""
        for batch in batches:
            if self.stop.signal is not None:
                return
            outputs, labels = run_batch(self.eval_model, batch, self.device, mean_std=self.mean_std)
            losses = self.criterion(outputs, labels, epoch)
            yield {**losses, "labels": labels, "scores": outputs["cls"]}

    def end_if_requested(self) -> None:
        """Raise `StoppedError` if any process was requested to stop; all must call it."""
        if self.group.any(self.stop.signal is not None):
            raise StoppedError

    def _track(self, batches: Batches, epoch: int, **shown: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches of an epoch; rank 0 shows how far the group is."""
        items, total = batches.epoch(epoch), batches.images_of_all
        return track_group(items, total, self.group, lambda batch: len(batch[0]), **shown)


def _require_finite(losses: Tensor, batches: Batches, epoch: int, step: int, where: str) -> None:
    """Raise `NotFiniteError`, naming the images, unless the B losses of a batch are finite."""
    finite = losses.isfinite()
    if not finite.all():
        names = batches.names(epoch, step)
        broken = [name for name, fine in zip(names, finite.tolist(), strict=True) if not fine]
        raise NotFiniteError(
            f"{where}: the loss is {losses[~finite][0].item()} for {', '.join(broken)}; look at "
            "these images"
        )
