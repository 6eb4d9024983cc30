"""Training steps: all that is no convolution, and whole ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.case import Builders, Case
from benchmarks.inputs import plausible_logits, random_images, random_labels
from benchmarks.straightforward_network import straightforward_network, straightforward_supervision
from core.config import Config, load_config
from core.distributed import parallelise
from core.precision import AutocastNetwork, Precision, lowers_convolutions, tf32
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer
from datasets.transforms import normalise
from models import get_model
from models.network import Network

Call = Callable[[], dict[str, Tensor]]


def without_convolutions(
    device: torch.device, batch: int = 16, size: int = 321, num_classes: int = 21
) -> Case:
    """From mask logits to losses, and back to the logits' gradient."""
    config = load_config()
    labels = random_labels(batch, num_classes)
    logits = plausible_logits(labels, -(-size // 4)).to(device).requires_grad_()
    raw_images, labels = random_images(batch, size).to(device), labels.to(device)
    criterion = Criterion(config)

    def through(supervise: Callable[..., dict[str, Tensor]]) -> Call:
        def run() -> dict[str, Tensor]:
            outputs = supervise(logits, raw_images, labels)
            losses = criterion(outputs, labels, config.TRAIN.PRETRAIN)
            (gradient,) = torch.autograd.grad(losses["loss"].sum(), logits)
            return {"gradient": gradient, **losses}

        return run

    return Case(
        f"a training step but for its convolutions, {batch}×{size}×{size}",
        baseline=through(straightforward_supervision(config)),
        ours=through(get_model(config.NET, num_classes).supervise),
        difference=largest_relative_difference,
        tolerance=1e-3,
        target=10,
    )


def step_on_cpu(device: torch.device, batch: int = 8, size: int = 161) -> Case:
    """In float32 on both sides."""
    case = whole_step(device, "resnet50", batch, size, options=(), target=1.3)
    return replace(case, precision=torch.float32)


def step_on_gpu(device: torch.device, batch: int = 16, size: int = 321) -> Case:
    """In float32, and with bfloat16."""
    return whole_step(device, "resnet38", batch, size, ("TRAIN.AMP", "bf16"), target=2.5)


def step_in_tf32(device: torch.device, batch: int = 16, size: int = 321) -> Case:
    """In float32, and as by default on a GPU."""
    return whole_step(device, "resnet38", batch, size, ("TRAIN.TF32", "True"), target=1.5)


def whole_step(
    device: torch.device,
    backbone: str,
    batch: int,
    size: int,
    options: tuple[str, ...],
    target: float,
) -> Case:
    """Forward pass, backward pass and the optimizer's step.

    Results, the losses and what the weights change by, are compared without dropout and the gate's
    chance, whose random numbers depend on how tensors lie in memory. Without options, both sides
    compute them in float64.

    Args:
        options: keys and values of the configuration for our side.
    """
    # A step amplifies a rounding error 10⁴ to 10⁵ times, with some kernels more than with others:
    # in float32 (2⁻²⁴) that hides a wrong formula, in float64 (2⁻⁵³) it is 10⁻¹¹. bfloat16 rounds
    # to 8 bits.
    dtype, tolerance = (torch.float32, 0.5) if options else (torch.float64, 1e-8)
    plain = step_config(backbone, "TRAIN.TF32", "False")
    config = step_config(backbone, *options)

    def baseline() -> Step:
        torch.manual_seed(0)
        network = straightforward_network(plain)
        return Step(plain, network, network.to(device), batch, size)

    def ours() -> Step:
        return our_step(config, device, batch, size)

    timed = baseline(), ours()
    for step in timed:
        step.take()  # the first one makes the optimizer's state, which is no cost of others
    words = f" with {' '.join(options)}" if options else ""
    return Case(
        f"a whole training step, {backbone}, batch {batch}, {size}×{size}{words}",
        baseline=timed[0].take,
        ours=timed[1].take,
        check=(partial(certain_results, baseline, dtype), partial(certain_results, ours, dtype)),
        difference=largest_relative_difference,
        tolerance=tolerance,
        target=target,
    )


def certain_results(build: Callable[[], Step], dtype: torch.dtype) -> dict[str, Tensor]:
    """The results of a step that is built and taken in `dtype`, and in which nothing is random."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return build().without_chance()
    finally:
        torch.set_default_dtype(usual)


def step_config(backbone: str, *options: str) -> Config:
    """The default configuration with this backbone and these keys and values."""
    return load_config(None, ["NET.BACKBONE", backbone, *options])


def our_step(
    config: Config, device: torch.device, batch: int, size: int, num_classes: int = 21
) -> Step:
    """Training steps as training takes them."""
    torch.manual_seed(0)
    network = get_model(config.NET, num_classes)
    if config.TRAIN.COMPILE:
        network.compile_layers()
    amp = config.TRAIN.AMP
    in_precision = AutocastNetwork(network, amp, device, eval_kind="off")
    lowers = lowers_convolutions(amp, config.TRAIN.TF32, [device])
    model = parallelise(in_precision, device, low_precision=lowers)
    return Step(config, network, model, batch, size, num_classes)


class Step:
    """Training steps on one batch, whose masks find the objects as those of a trained network do.

    Args:
        config: of the network.
        network: to be trained.
        model: `network` on its device, and in the precision of training.
        batch, size: images and their height and width.
        num_classes: of the network.
    """

    def __init__(
        self,
        config: Config,
        network: Network,
        model: nn.Module,
        batch: int,
        size: int,
        num_classes: int = 21,
    ) -> None:
        device = next(network.parameters()).device
        labels = random_labels(batch, num_classes)
        cue = plausible_logits(labels, -(-size // 4))[:, 1:].to(device)
        network.last_conv.register_forward_hook(lambda _module, _inputs, output: output + cue)
        self.network = network
        self.model = model.train()
        self.given_labels, self.labels = labels, labels.to(device)
        self.raw_images = random_images(batch, size).to(device)
        self.tf32 = config.TRAIN.TF32
        self.precision = Precision(config.TRAIN.AMP, device)
        self.criterion = Criterion(config)
        self.optimizer = build_optimizer(network, config.NET)
        self.epoch = config.TRAIN.PRETRAIN

    def losses(self) -> dict[str, Tensor]:
        """The forward pass: B values for each loss."""
        outputs = self.model(normalise(self.raw_images), self.raw_images, self.given_labels)
        return self.criterion(outputs, self.labels, self.epoch)

    def take(self) -> dict[str, Tensor]:
        """Take a step; returns its losses."""
        with tf32(self.tf32):
            losses = self.losses()
            self.precision.step(losses["loss"].mean(), self.optimizer)
        return {name: values.detach() for name, values in losses.items()}

    def without_chance(self) -> dict[str, Tensor]:
        """Take a step in which nothing is random; returns losses and changes of the weights."""
        remove_chance(self.network)
        before = self._weights()
        losses = self.take()
        return {"change": self._weights() - before, **losses}

    def _weights(self) -> Tensor:
        return torch.cat([weight.detach().flatten() for weight in self.network.parameters()])


def remove_chance(network: Network) -> None:
    """Let a network compute the same every time in training too: no dropout, no stochastic gate."""
    if hasattr(network, "gate"):
        network.gate.psi = 0.0
    for module in network.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0


def largest_relative_difference(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """The largest ‖found − expected‖ / ‖expected‖ of the entries of two results."""
    return max(
        float((found[name] - value).detach().norm() / value.detach().norm().clamp(min=1e-12))
        for name, value in expected.items()
    )


CPU_CASES: Builders = {"training-rest": without_convolutions, "training-step": step_on_cpu}
CUDA_CASES: Builders = {
    "training-rest": without_convolutions,
    "training-step": step_on_gpu,
    "training-step-tf32": step_in_tf32,
}
