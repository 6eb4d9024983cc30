"""One epoch of training, one pass of validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from core.training.loaders import Batches
from core.training.losses import Criterion
from datasets.transforms import normalise
from utils.errors import UserError
from utils.metrics import average_precision
from utils.progress import track


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
) -> dict[str, float]:
    """Take a step for every batch of the epoch; returns the mean of each loss.

    Raises:
        UserError: a file cannot be used, or the loss is not finite.
    """
    model.train()
    means = MeanLosses()
    steps = track(
        batches.epoch(epoch),
        batches.images,
        "image",
        f"epoch {epoch}",
        status=lambda: describe(means.means()),
        weigh=_count_images,
    )
    for step, batch in enumerate(steps):
        outputs, labels = run_batch(model, batch, device)
        losses = criterion(outputs, labels, epoch)
        _require_finite(losses["loss"], batches, epoch, step, f"epoch {epoch}, step {step}")
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].mean().backward()
        optimizer.step()
        means.update(losses)
    return means.means()


@torch.inference_mode()
def validate(
    model: nn.Module,
    batches: Batches,
    criterion: Criterion,
    epoch: int,
    device: torch.device,
    name: str,
) -> Validation:
    """Losses and average precision over the validation set called `name`, as of `epoch`.

    Raises:
        UserError: a file cannot be used, or a loss is not finite.
    """
    model.eval()
    means = MeanLosses()
    targets, scores = [], []
    title = f"validation on {name}"
    steps = track(batches.epoch(0), batches.images, "image", title, weigh=_count_images)
    for step, batch in enumerate(steps):
        outputs, labels = run_batch(model, batch, device)
        losses = criterion(outputs, labels, epoch)
        _require_finite(losses["loss"], batches, 0, step, f"{title}, epoch {epoch}, step {step}")
        means.update(losses)
        targets.append(labels.cpu())
        scores.append(outputs["cls"].float().cpu())
    classes, mean = average_precision(torch.cat(targets).numpy(), torch.cat(scores).numpy())
    return Validation(means.means(), classes, mean)


def _count_images(batch: tuple[Tensor, Tensor]) -> int:
    return len(batch[0])


def _require_finite(losses: Tensor, batches: Batches, epoch: int, step: int, where: str) -> None:
    """Raise `UserError`, which names the images, unless the B losses of a batch are finite."""
    finite = losses.isfinite()
    if not finite.all():
        names = batches.names(epoch, step)
        broken = [name for name, fine in zip(names, finite.tolist(), strict=True) if not fine]
        raise UserError(
            f"{where}: the loss is {losses[~finite][0].item()} for {', '.join(broken)}; look at "
            "these images, or lower NET.LR and go on with --resume last"
        )
