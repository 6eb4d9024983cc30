"""Activation checkpointing: the same step, with less stored for it."""

from __future__ import annotations

import pytest
import torch
from golden_recipe import golden_config
from step_case import group_of_one, require_same_in_wrapper, what_is_left
from torch import Tensor, nn

from benchmarks.accounting import MemoryAccount
from models import get_model
from models.grad_checkpointing import GradCheckpointing
from models.network import Network

BACKBONES = ("resnet38", "vgg16", "resnet50", "resnet101")


def build(backbone: str, model: str = "ae", **net: object) -> Network:
    torch.manual_seed(0)
    return get_model(golden_config(backbone, model, **net)).train()


def step(network: nn.Module) -> dict[str, Tensor]:
    """Losses, gradients and running statistics of a step with dropout and gate at work."""
    torch.manual_seed(1)
    raw = torch.rand(2, 3, 49, 57)
    labels = torch.zeros(2, 20)
    labels[0, 3] = labels[1, 7] = labels[1, 8] = 1
    outputs = network(raw - 0.5, raw, labels)
    loss = outputs["cls"].square().sum()
    if "loss_mask" in outputs:
        # fresh masks are seldom worth a mask loss; the logits' squares always have gradients
        loss = loss + outputs["loss_mask"].sum() + outputs["mask_logits"].square().mean()
    return what_is_left(network, loss)


@pytest.mark.parametrize(
    ("backbone", "model", "frozen"),
    [("vgg16", "ae", True), ("resnet50", "ae", False), ("resnet50", "bsl", True)],
)
def test_a_step_is_the_same_bit_for_bit(backbone, model, frozen, thin_vgg16):
    plain = step(build(backbone, model, FREEZE_BN=frozen))
    network = build(backbone, model, FREEZE_BN=frozen)
    network.checkpoint_activations()
    found = step(network)
    assert list(found) == list(plain)
    for name, value in plain.items():
        assert torch.equal(found[name], value), name


def test_a_step_under_distributed_data_parallel(tmp_path, thin_vgg16):
    plain = step(build("vgg16"))
    network = build("vgg16")
    network.checkpoint_activations()
    with group_of_one(tmp_path):
        found = step(nn.parallel.DistributedDataParallel(network))
    require_same_in_wrapper(found, plain)


def test_running_statistics_count_a_batch_once():
    class Block(GradCheckpointing):
        def __init__(self) -> None:
            super().__init__()
            self.part = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.run(self.part, x)

    block = Block()
    block.grad_checkpointing = True
    norm = block.part[1]
    mean = norm.running_mean
    block(torch.rand(2, 3, 5, 5)).sum().backward()
    assert norm.num_batches_tracked == 1
    assert norm.running_mean is mean and mean.any()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_less_is_stored(backbone):
    held = {}
    for checkpointed in (False, True):
        with torch.device("meta"), MemoryAccount() as account:
            network = build(backbone)
            if checkpointed:
                network.checkpoint_activations()
            images = torch.empty(2, 3, 97, 97)
            before = account.current
            # what is returned holds the graph
            outputs = network(images)
            held[checkpointed] = account.current - before
            del outputs
    assert held[True] < 0.6 * held[False]


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("model", ["ae", "bsl"])
def test_names_do_not_change(backbone, model):
    with torch.device("meta"):
        plain, network = build(backbone, model), build(backbone, model)
    network.checkpoint_activations()
    assert list(network.state_dict()) == list(plain.state_dict())


def test_nothing_is_recomputed_without_gradients(thin_vgg16):
    network = build("vgg16").eval()
    network.checkpoint_activations()
    calls = []
    network.fc8_x.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        network(torch.rand(1, 3, 33, 33))
    assert calls == [1]
