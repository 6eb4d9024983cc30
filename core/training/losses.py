"""The training loss, image by image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor

from core.config import Config
from datasets.info import DatasetInfo
from utils.errors import UserError


def require_usable_loss(loss: str, info: DatasetInfo) -> None:
    """Raise `UserError` where NET.LOSS would be 0 whatever the network says of this data set."""
    if loss == "Hinge" and info.num_classes == 2:
        raise UserError(
            f"NET.LOSS Hinge compares objects with each other, but {info.name} has one; set it "
            "to SoftMargin"
        )


class Criterion:
    """Classification loss, and from epoch PRETRAIN on the mask loss.

    loss = loss_cls + [epoch ≥ PRETRAIN] · MASK_LOSS_BCE · loss_mask.
    """

    def __init__(self, config: Config) -> None:
        self.classify = LOSSES[config.NET.LOSS]
        self.mask_weight = config.NET.MASK_LOSS_BCE
        self.pretrain = config.TRAIN.PRETRAIN

    def __call__(
        self, outputs: Mapping[str, Tensor], labels: Tensor, epoch: int
    ) -> dict[str, Tensor]:
        """The losses of a batch, B values each; to be averaged over images.

        Args:
            outputs: what a model returned for images with labels.
            labels: B×(C − 1), 0 or 1.
            epoch: counted from 0.

        Returns:
            `loss`, `loss_cls`, `loss_fg` (for the log only), and `loss_mask` if the model has one.
        """
        loss = classification = self.classify(outputs["cls"], labels)
        losses = {"loss_cls": classification, "loss_fg": outputs["fg"]}
        if "loss_mask" in outputs:
            losses["loss_mask"] = outputs["loss_mask"]
            if epoch >= self.pretrain:
                loss = loss + self.mask_weight * outputs["loss_mask"]
        return {"loss": loss, **losses}


def _soft_margin(scores: Tensor, labels: Tensor) -> Tensor:
    return F.multilabel_soft_margin_loss(scores, labels, reduction="none")


def _hinge(scores: Tensor, labels: Tensor) -> Tensor:
    # the loss wants the indices of an image's classes in front, and −1 behind them
    present, order = labels.sort(dim=1, descending=True, stable=True)
    indices = torch.where(present > 0, order, -1)
    return F.multilabel_margin_loss(scores, indices, reduction="none")


LOSSES: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = MappingProxyType(
    {"SoftMargin": _soft_margin, "Hinge": _hinge}
)
"""NET.LOSS → the losses (B) of scores and labels (B×(C − 1), 0 or 1)."""
