"""A network for training as the published system runs it: the same layers, nothing saved."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from benchmarks import straightforward
from core.config import Config
from models import get_model
from models.layers import FixedStatsBatchNorm2d
from models.network import Network


class EvaluatedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation that stays in evaluation; PyTorch keeps its input for the backward pass.

    Shape:
        B×C×H×W to the same.
    """

    def train(self, mode: bool = True) -> EvaluatedBatchNorm2d:
        return super().train(False)


def straightforward_network(config: Config) -> Network:
    """The configured network with plain BatchNorm layers and straightforward supervision."""
    network = get_model(config.NET)
    for module in network.modules():
        if isinstance(module, FixedStatsBatchNorm2d):
            module.__class__ = EvaluatedBatchNorm2d
    network.supervise = straightforward_supervision(config)
    return network


def straightforward_supervision(config: Config) -> Callable[..., dict[str, Tensor]]:
    """`straightforward.supervise` for a network to call in the place of its own."""

    def supervise(
        logits: Tensor, raw_images: Tensor, labels: Tensor, with_masks: bool = True
    ) -> dict[str, Tensor]:
        # masks of full size are made whether they are wanted or not
        net = config.NET
        labels = labels.to(logits.device)
        return straightforward.supervise(logits, raw_images, labels, net.FOCAL_P, net.FOCAL_LAMBDA)

    return supervise
