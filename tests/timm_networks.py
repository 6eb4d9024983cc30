"""Networks with backbones of timm's, as if they had been trained."""

from __future__ import annotations

import pytest
import torch
from golden_recipe import golden_config
from step_case import what_is_left
from torch import Tensor, nn

from models import get_model
from models.backbones import get_backbone_spec
from models.network import Network

STRIDES = {
    "timm/test_efficientnet": (8, 16, 32),
    "timm/test_convnext": (8, 16, 32),
    "timm/resnet18": (8, 16, 32),
    "timm/convnext_atto": (8, 16, 32),
    "timm/efficientnet_lite0": (8, 16, 32),
    "timm/mobilenetv4_conv_small": (8, 16, 32),
    "timm/swin_tiny_patch4_window7_224": (32,),
}
"""The deepest strides that they can have."""
NAMES = list(STRIDES)
SMALL_NAMES = NAMES[:2]
SWIN = NAMES[-1]
WITH_BATCH_NORM = [NAMES[index] for index in (0, 2, 4, 5)]


def each_of(names: list[str]) -> pytest.MarkDecorator:
    """A test of each; those of the small ones are fast."""
    marked = [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in SMALL_NAMES)) for name in names
    ]
    return pytest.mark.parametrize("name", marked)


EACH = each_of(NAMES)


def stride_of(name: str) -> int:
    """A stride that this backbone can have, the default where it can."""
    return get_backbone_spec(name).conv6.stride


def build(name: str, model: str = "ae", **net: object) -> Network:
    """A network in training mode, whose backbone is off its start, where some layers do nothing."""
    torch.manual_seed(0)
    settings = {"OUTPUT_STRIDE": stride_of(name), **net}
    network = get_model(golden_config(name, model, **settings))
    with torch.no_grad():
        for parameter in network.backbone.parameters():
            parameter += 0.1 * parameter.std(correction=0) * torch.randn_like(parameter)
            if parameter.dim() == 1:  # scales that start at 0 or 1e-6
                parameter += 0.1 * torch.rand_like(parameter)
    return network.train()


def loss_of(network: nn.Module, size: tuple[int, int] = (65, 70)) -> Tensor:
    """The loss of two images, of which all maps are a part."""
    torch.manual_seed(1)
    raw = torch.rand(2, 3, *size)
    labels = torch.zeros(2, 20)
    labels[0, 3] = labels[1, 7] = labels[1, 8] = 1
    outputs = network(raw - 0.5, raw, labels)
    # fresh masks are seldom worth a mask loss; the logits' squares always have gradients
    loss = outputs["cls"].square().sum() + outputs["mask_logits"].square().mean()
    return loss + outputs["loss_mask"].sum() if "loss_mask" in outputs else loss


def step(network: nn.Module) -> dict[str, Tensor]:
    """Loss, gradients and buffers of a step with dropout and gate at work."""
    return what_is_left(network, loss_of(network))
