"""Networks and training steps of the check, on one device, and their gradients."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from benchmarks.training_cases import Step, remove_chance, step_config
from core.config import Config, load_config
from core.distributed import place
from core.precision import AutocastNetwork, lowers_convolutions, require_amp
from core.training.losses import Criterion
from models import get_model
from models.network import Network

MASK_LOSS_EPOCH = 9
"""An epoch in which the mask loss counts."""


def published_step(tiny: bool) -> tuple[str, int, int]:
    """Backbone, batch and crop of the published training."""
    return ("vgg16", 2, 33) if tiny else ("resnet38", 16, 321)


def training_step(config: Config, device: torch.device, batch: int, size: int) -> Step:
    """Training steps from one seed on one GPU, as training takes them but for several GPUs."""
    torch.manual_seed(0)
    with device:  # weights are drawn there, which is quicker
        network = get_model(config.NET)
    if config.TRAIN.CHECKPOINT:
        network.checkpoint_activations()
    if config.TRAIN.COMPILE:
        network.compile_layers()
    model = in_precision(network, config.TRAIN.AMP, device)
    lowers = lowers_convolutions(config.TRAIN.AMP, config.TRAIN.TF32, [device])
    model = place(model, device, low_precision=lowers)
    return Step(config, network, model, batch, size)


def in_precision(network: Network, amp: str, device: torch.device) -> nn.Module:
    """The network as training runs it under TRAIN.AMP; a `UserError` if PyTorch cannot."""
    require_amp("TRAIN.AMP", amp, device, trains=True)
    return AutocastNetwork(network, amp, device, eval_kind="off")


def network_without_chance(backbone: str, model: str = "ae") -> Network:
    """A network that computes the same every time, in training too (but for its BatchNorms)."""
    network = get_model(step_config(backbone, "NET.MODEL", model).NET)
    remove_chance(network)
    return network


class _EvaluatedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm that stays in evaluation mode."""

    def train(self, mode: bool = True) -> _EvaluatedBatchNorm2d:
        return super().train(False)


def fix_batch_norm(network: nn.Module) -> None:
    """Let BatchNorms that train normalise a part of a batch as they do the whole of it."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = _EvaluatedBatchNorm2d


def gradients_of(network: nn.Module) -> dict[str, Tensor]:
    """The gradient of every parameter that has one, in float32."""
    parameters = network.named_parameters()
    return {name: p.grad.float() for name, p in parameters if p.grad is not None}


def gradients_of_losses(network: Network, outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
    """The gradients of a batch's loss in one row, from a training pass of the network."""
    network.zero_grad()
    losses = Criterion(load_config())(outputs, labels, MASK_LOSS_EPOCH)
    # the logits' squares let gradients reach them where no image's pseudo labels count
    (losses["loss"].mean() + outputs["mask_logits"].float().square().mean()).backward()
    return flat(gradients_of(network))


def flat(tensors: dict[str, Tensor]) -> Tensor:
    """All numbers of tensors in one row."""
    return torch.cat([tensor.flatten() for tensor in tensors.values()])


def apart(found: Tensor, expected: Tensor) -> float:
    """‖found − expected‖ / ‖expected‖."""
    return float((found - expected).norm() / expected.norm())
