"""The backbones: their maps' shapes, dropout, first weights, and what ImageNet training fixes."""

from __future__ import annotations

import math

import pytest
import torch
from layer_checks import check_default_bias, check_dropout, check_kaiming_normal, dropouts, recorded
from torch import nn

from models.backbones import BACKBONES, get_backbone_spec
from models.backbones.resnet38 import Bottleneck
from models.backbones.vgg16 import VGG16
from models.layers import FixedStatsBatchNorm2d, init_from_scratch
from utils.errors import UserError

CONV6 = {"resnet38": (4096, 8), "vgg16": (1024, 8), "resnet50": (2048, 16), "resnet101": (2048, 16)}


def shape_only(name: str, norm_layer: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> nn.Module:
    """A backbone without memory for its weights."""
    with torch.device("meta"):
        return get_backbone_spec(name).build(norm_layer)


@pytest.fixture(scope="module")
def vgg16() -> VGG16:
    torch.manual_seed(0)
    return VGG16()


def test_the_four_published_backbones_are_known():
    assert set(BACKBONES) == set(CONV6)


def test_unknown_backbone_lists_the_known_ones():
    with pytest.raises(UserError, match=r"resnet18.*resnet38, vgg16, resnet50, resnet101"):
        get_backbone_spec("resnet18")


@pytest.mark.parametrize("size", [(97, 129), (96, 128), (33, 41)])
@pytest.mark.parametrize("name", list(CONV6))
def test_shapes_of_the_two_maps(name, size):
    spec = get_backbone_spec(name)
    assert (spec.conv3.channels, spec.conv3.stride) == (256, 4)
    assert (spec.conv6.channels, spec.conv6.stride) == CONV6[name]
    maps = shape_only(name)(torch.empty(2, 3, *size, device="meta"))
    for found, info in zip(maps, (spec.conv3, spec.conv6), strict=True):
        grid = [math.ceil(length / info.stride) for length in size]
        assert list(found.shape) == [2, info.channels, *grid]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "resnet38",
            {
                "b6.dropout_2b1": (nn.Dropout2d, 0.3),
                "b6.dropout_2b2": (nn.Dropout2d, 0.3),
                "b7.dropout_2b1": (nn.Dropout2d, 0.5),
                "b7.dropout_2b2": (nn.Dropout2d, 0.5),
            },
        ),
        ("vgg16", {"drop6": (nn.Dropout2d, 0.5)}),
        ("resnet50", {}),
        ("resnet101", {}),
    ],
)
def test_all_dropout(name, expected):
    assert dropouts(shape_only(name)) == expected


def test_bottleneck_drops_channels_after_the_second_and_the_third_relu():
    torch.manual_seed(0)
    block = Bottleneck(nn.BatchNorm2d, inputs=8, outputs=256, dilation=4, dropout=0.3)
    watched = (
        (block.bn_branch2a, block.conv_branch2a),
        (block.bn_branch2b1, block.conv_branch2b1),
        (block.bn_branch2b2, block.conv_branch2b2),
    )
    maps = torch.randn(16, 8, 5, 6)
    with torch.no_grad(), recorded(*sum(watched, ()), block.conv_branch1) as calls:
        found = block.train()(maps)
    before = [torch.relu(calls[i][1][0]) for i in (0, 2, 4)]
    after = [calls[i][0][0] for i in (1, 3, 5)]
    assert torch.equal(after[0], before[0])
    check_dropout(before[1], after[1], 0.3, whole_channels=True)
    check_dropout(before[2], after[2], 0.3, whole_channels=True)
    shortcut_input, shortcut_output = (record[0] for record in calls[6])
    assert torch.equal(shortcut_input, before[0])
    torch.testing.assert_close(found, calls[5][1][0] + shortcut_output)


def test_vgg16_drops_channels_between_fc6_and_fc7(vgg16):
    torch.manual_seed(0)
    with torch.no_grad(), recorded(vgg16.fc6, vgg16.fc7) as (fc6, fc7):
        _, conv6 = vgg16.train()(torch.randn(2, 3, 33, 41))
    check_dropout(torch.relu(fc6[1][0]), fc7[0][0], 0.5, whole_channels=True)
    assert torch.equal(conv6, torch.relu(fc7[1][0]))


def test_first_weights_of_vgg16(vgg16):
    for name, parameter in vgg16.named_parameters():
        if name.endswith("weight"):
            check_kaiming_normal(parameter)
    for layer in vgg16.modules():
        if isinstance(layer, nn.Conv2d):
            check_default_bias(layer)


def test_first_weights_of_layers_from_scratch():
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(30, 40, 3, groups=2), nn.Sequential(nn.BatchNorm2d(40)))
    init_from_scratch(layers)
    check_kaiming_normal(layers[0].weight)
    check_default_bias(layers[0])
    assert (layers[1][0].weight == 1).all()
    assert not layers[1][0].bias.any()


def test_every_convolution_of_resnet38_starts_from_scratch(monkeypatch):
    """Its size forbids to look at the weights themselves."""
    started = []
    monkeypatch.setattr(nn.init, "kaiming_normal_", lambda weight: started.append(weight))
    network = shape_only("resnet38")
    weights = {id(m.weight) for m in network.modules() if isinstance(m, nn.Conv2d)}
    assert {id(weight) for weight in started} == weights


@pytest.mark.parametrize("norm_layer", [nn.BatchNorm2d, FixedStatsBatchNorm2d])
@pytest.mark.parametrize(("name", "count"), [("resnet38", 37), ("resnet50", 53), ("vgg16", 0)])
def test_all_batch_normalisation_is_of_the_given_class(name, count, norm_layer):
    norms = [m for m in shape_only(name, norm_layer).modules() if isinstance(m, nn.BatchNorm2d)]
    assert {type(norm) for norm in norms} <= {norm_layer}
    assert len(norms) == count


def test_residual_branches_of_a_fresh_resnet_start_at_zero():
    """Untrained, every block but those with a projection gives the rectified input."""
    block = get_backbone_spec("resnet50").build(nn.BatchNorm2d).layer1[1].eval()
    features = torch.randn(2, 256, 5, 5)
    torch.testing.assert_close(block(features), features.relu())
