"""One epoch of training, one pass of validation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from core.training.loaders import Batches
from core.training.losses import Criterion
from core.training.precision import Precision
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
    precision: Precision,
) -> dict[str, float]:
    """Take a step for every batch of the epoch; returns the mean of each loss.

    Raises:
        UserError: a file cannot be used, or the loss is not finite.
    """
    model.train()
    means = MeanLosses()
    steps = track(
        batches.epoch(epoch),
        len(batches),
        "step",
        f"epoch {epoch}",
        status=lambda: describe(means.means()),
    )
    for step, batch in enumerate(steps):
        outputs, labels = run_batch(model, batch, device)
        losses = criterion(outputs, labels, epoch)
        loss = losses["loss"].mean()
        _require_finite(loss, f"epoch {epoch}, step {step}")
        precision.step(loss, optimizer)
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
    steps = track(batches.epoch(0), len(batches), "batch", f"validation on {name}")
    for batch in steps:
        outputs, labels = run_batch(model, batch, device)
        losses = criterion(outputs, labels, epoch)
        _require_finite(losses["loss"].mean(), f"validation on {name}, epoch {epoch}")
        means.update(losses)
        targets.append(labels.cpu())
        scores.append(outputs["cls"].float().cpu())
    classes, mean = average_precision(torch.cat(targets).numpy(), torch.cat(scores).numpy())
    return Validation(means.means(), classes, mean)


def _require_finite(loss: Tensor, where: str) -> None:
    if not torch.isfinite(loss):
        raise UserError(
            f"{where}: the loss is {loss.item()}; lower NET.LR, or go on from an earlier snapshot "
            "with --resume"
        )
