"""One epoch of training, one pass of validation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from core.distributed import SINGLE, Group, interleave, track_group
from core.precision import Precision, tf32
from core.training.data import Batches
from core.training.errors import NotFiniteError
from core.training.losses import Criterion
from datasets.transforms import normalise
from utils.metrics import average_precision
from utils.signals import StoppedError, StopRequest


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
        """Add what another process has seen."""
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
) -> tuple[dict[str, Tensor], Tensor]:
    """Bring a batch to the device and through the model; returns the outputs and the labels."""
    raw_images, labels = (tensor.to(device, non_blocking=True) for tensor in batch)
    # by position: DataParallel gives a keyword to GPUs that have no images left
    return model(normalise(raw_images), raw_images, labels, with_masks), labels


@dataclass(frozen=True)
class Validation:
    """What a validation set says of the model.

    Attributes:
        losses: mean over all images of each loss.
        average_precision: of each object class, in [0, 1]; NaN where the set lacks it.
        mean_average_precision: over the classes that the set has.
    """

    losses: dict[str, float]
    average_precision: np.ndarray
    mean_average_precision: float


def train_one_epoch(
    model: nn.Module,
    batches: Batches,
    optimizer: torch.optim.Optimizer,
    criterion: Criterion,
    epoch: int,
    device: torch.device,
    precision: Precision,
    group: Group = SINGLE,
    stop: StopRequest | None = None,
) -> dict[str, float]:
    """Take a step for every batch of the epoch; returns the mean of each loss, over the group.

    Raises:
        UserError: a file cannot be used, or the loss is not finite.
        StoppedError: one of the processes was requested to stop.
    """
    model.train()
    means = MeanLosses()
    shown = {"description": f"epoch {epoch}", "status": lambda: describe(means.means())}
    steps = track_group(batches.epoch(epoch), batches.images_of_all, group, _images_in, **shown)
    for step, batch in enumerate(steps):
        # all processes stop before the same step, or one would wait for the others for ever
        if group.any(_is_requested(stop), device):
            raise StoppedError
        outputs, labels = run_batch(model, batch, device)
        losses = criterion(outputs, labels, epoch)
        where = f"epoch {epoch}, step {step}{precision.caution}"
        _require_finite(losses["loss"], batches, epoch, step, where)
        precision.step(losses["loss"].mean(), optimizer)
        means.update(losses)
    whole = MeanLosses()
    for part in group.gather(means):
        whole.merge(part)
    return whole.means()


@tf32(False)
@torch.inference_mode()
def validate(
    model: nn.Module,
    batches: Batches,
    criterion: Criterion,
    epoch: int,
    device: torch.device,
    name: str,
    group: Group = SINGLE,
    stop: StopRequest | None = None,
) -> Validation:
    """Losses and average precision over the validation set called `name`, as of `epoch`.

    The processes of the group pass a part of it each; every one returns the result of the whole.

    Raises:
        UserError: a file cannot be used, or a loss is not finite.
        StoppedError: one of the processes was requested to stop.
    """
    model.eval()
    parts: dict[str, list[Tensor]] = defaultdict(list)
    title = f"validation on {name}"
    steps = track_group(
        batches.epoch(0), batches.images_of_all, group, _images_in, description=title
    )
    for step, batch in enumerate(steps):
        if _is_requested(stop):
            break
        outputs, labels = run_batch(model, batch, device)
        losses = criterion(outputs, labels, epoch)
        _require_finite(losses["loss"], batches, 0, step, f"{title}, epoch {epoch}, step {step}")
        for key, values in {**losses, "labels": labels, "scores": outputs["cls"]}.items():
            parts[key].append(values.float().cpu())

    if group.any(_is_requested(stop), device):
        raise StoppedError
    gathered = group.gather({key: torch.cat(values) for key, values in parts.items()})
    whole = {key: interleave([part[key] for part in gathered]) for key in parts}
    labels, scores = whole.pop("labels"), whole.pop("scores")
    classes, mean = average_precision(labels.numpy(), scores.numpy())
    means = {key: values.double().mean().item() for key, values in whole.items()}
    return Validation(means, classes, mean)


def _images_in(batch: tuple[Tensor, Tensor]) -> int:
    return len(batch[0])


def _is_requested(stop: StopRequest | None) -> bool:
    return stop is not None and stop.signal is not None


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
