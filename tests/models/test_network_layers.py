"""Networks as `get_model` builds them: dropout, first weights, and what is frozen."""

from __future__ import annotations

import math

import pytest
import torch
from golden_recipe import golden_config
from layer_checks import check_default_bias, check_dropout, check_kaiming_normal, dropouts, recorded
from torch import Tensor, nn

from models import get_model
from models.network import Network

FROZEN = {
    "resnet38": ("conv1a.", "b2.", "b2_1.", "b2_2."),
    "vgg16": ("conv1_1.", "conv1_2."),
    "resnet50": ("conv1.", "bn1."),
    "resnet101": ("conv1.", "bn1."),
}
HEADS_OF_AE = ("aspp.", "shallow_mask.", "fc8_skip.", "fc8_x.", "last_conv.")


def build(backbone: str, model: str, **net: object) -> Network:
    torch.manual_seed(0)
    network = get_model(golden_config(backbone, model, **net))
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.affine:
            nn.init.ones_(module.weight)  # those at the end of a fresh ResNet's blocks are zero
    return network


def without_memory(backbone: str, model: str, **net: object) -> Network:
    with torch.device("meta"):
        return build(backbone, model, **net)


def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(2, 3, 33, 41)


def norms_of(network: nn.Module) -> dict[str, nn.BatchNorm2d]:
    return {name: m for name, m in network.named_modules() if isinstance(m, nn.BatchNorm2d)}


@pytest.fixture(scope="module")
def vgg16_ae() -> Network:
    return build("vgg16", "ae")


@pytest.fixture(scope="module")
def vgg16_bsl() -> Network:
    return build("vgg16", "bsl")


class TestDropout:
    @pytest.mark.parametrize(("backbone", "count"), [("vgg16", 1), ("resnet50", 0)])
    def test_all_of_ae(self, backbone, count):
        found = dropouts(without_memory(backbone, "ae"))
        heads = {name: d for name, d in found.items() if not name.startswith("backbone.")}
        assert len(found) - len(heads) == count
        assert heads == {
            "aspp.dropout": (nn.Dropout, 0.5),
            "last_conv.2": (nn.Dropout, 0.5),
            "last_conv.6": (nn.Dropout, 0.1),
        }

    def test_all_of_bsl(self):
        assert dropouts(without_memory("resnet50", "bsl")) == {"dropout": (nn.Dropout2d, 0.5)}

    def test_last_conv_drops_single_elements_of_each_relu(self, vgg16_ae):
        torch.manual_seed(0)
        layers = vgg16_ae.train().last_conv
        with torch.no_grad(), recorded(layers[1], layers[4], layers[5], layers[8]) as calls:
            vgg16_ae(images())
        norm1, conv2, norm2, conv3 = calls
        check_dropout(torch.relu(norm1[1][0]), conv2[0][0], 0.5, whole_channels=False)
        check_dropout(torch.relu(norm2[1][0]), conv3[0][0], 0.1, whole_channels=False)

    def test_bsl_drops_channels_before_pooling_for_the_scores_only(self, vgg16_bsl):
        torch.manual_seed(0)
        network = vgg16_bsl.train()
        with torch.no_grad(), recorded(network.backbone.fc7, network.fc8) as (fc7, fc8):
            network(images())
        conv6 = torch.relu(fc7[1][0])
        pooled, whole = sorted(fc8[0], key=Tensor.numel)
        assert torch.equal(whole, conv6)
        # had single elements been dropped, a mean would be neither twice what it was nor zero
        assert pooled.shape[-2:] == (1, 1)
        mean = conv6.mean(dim=(2, 3), keepdim=True)
        check_dropout(mean.expand(-1, -1, 1, 2), pooled.expand(-1, -1, 1, 2), 0.5, True)

    @pytest.mark.parametrize("model", ["ae", "bsl"])
    def test_none_in_evaluation(self, model, vgg16_ae, vgg16_bsl):
        network = {"ae": vgg16_ae, "bsl": vgg16_bsl}[model].eval()
        with torch.no_grad():
            first, second = network(images()), network(images())
        assert all(torch.equal(*pair) for pair in zip(first, second, strict=True))


class TestFirstWeights:
    def test_convolutions_of_the_heads(self, vgg16_ae):
        names = []
        for name, layer in vgg16_ae.named_modules():
            if isinstance(layer, nn.Conv2d) and name.startswith(HEADS_OF_AE):
                check_kaiming_normal(layer.weight)
                names.append(name)
        assert len(names) == 14
        last = vgg16_ae.last_conv[8]
        assert last.weight[0].numel() == 256  # so that its bias starts within ±1/16
        check_default_bias(last)

    def test_batch_normalisation(self):
        for name, norm in norms_of(build("vgg16", "ae")).items():
            assert (norm.running_mean == 0).all() and (norm.running_var == 1).all(), name
            if norm.affine:
                assert (norm.weight == 1).all() and (norm.bias == 0).all(), name

    def test_classifier_of_bsl(self):
        weight = build("vgg16", "bsl").fc8.weight.detach()
        assert weight.shape == (20, 1024, 1, 1)
        bound = math.sqrt(6 / (1024 + 20))
        assert 0.999 * bound < weight.abs().max() <= bound
        # a uniform distribution, to five standard deviations
        count = weight.numel()
        assert abs(weight.mean().item()) < 5 * bound / math.sqrt(3 * count)
        inner = (weight.abs() < bound / 2).double().mean().item()
        assert abs(inner - 0.5) < 5 * 0.5 / math.sqrt(count)


@pytest.mark.parametrize("model", ["ae", "bsl"])
@pytest.mark.parametrize("backbone", list(FROZEN))
class TestTrainableParameters:
    def test_on_pretrained_weights(self, backbone, model):
        network = without_memory(backbone, model)
        norms = tuple(f"{name}." for name in norms_of(network.backbone))
        found = {name for name, p in network.backbone.named_parameters() if not p.requires_grad}
        expected = {
            name
            for name, _ in network.backbone.named_parameters()
            if name.startswith(FROZEN[backbone]) or name.startswith(norms)
        }
        assert found == expected
        for name, parameter in network.named_parameters():
            assert name.startswith("backbone.") or parameter.requires_grad, name

    def test_from_scratch(self, backbone, model):
        network = without_memory(backbone, model, FREEZE_BN=False)
        assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.fixture(params=["vgg16", "resnet50"])
def backbone(request) -> str:
    return request.param


def train_once(network: Network) -> None:
    raw = images().sigmoid()
    labels = torch.zeros(2, 20)
    labels[0, 3] = labels[1, 7] = 1
    outputs = network.train()(images(), raw, labels)
    (outputs["cls"].sum() + outputs["loss_mask"].sum()).backward()


def moved(network: nn.Module) -> dict[str, bool]:
    """Which BatchNorm's running statistics are not those of the start."""
    return {
        name: bool(norm.running_mean.any())
        or bool((norm.running_var != 1).any())
        or norm.num_batches_tracked.item() > 0
        for name, norm in norms_of(network).items()
    }


def test_a_step_on_pretrained_weights(backbone):
    network = build(backbone, "ae")
    norms = norms_of(network)
    fixed = [name for name in norms if name.startswith(("backbone.", "aspp."))]
    with recorded(*norms.values()) as records:
        train_once(network)
    calls = dict(zip(norms, records, strict=True))

    assert moved(network) == {name: name not in fixed for name in norms}
    for name in fixed:
        inputs, outputs = calls[name]
        scale = 1 / math.sqrt(1 + norms[name].eps)
        torch.testing.assert_close(outputs[0], inputs[0] * scale, msg=name)
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    aspp = [norm for name, norm in norms.items() if name.startswith("aspp.")]
    assert all(norm.weight.grad.any() and norm.bias.grad.any() for norm in aspp)


def test_a_step_from_scratch(backbone):
    network = build(backbone, "ae", FREEZE_BN=False)
    norms = norms_of(network)
    with recorded(*norms.values()) as records:
        train_once(network)

    assert all(moved(network).values())
    for name, (inputs, outputs) in zip(norms, records, strict=True):
        maps = inputs[0]
        mean = maps.mean(dim=(0, 2, 3), keepdim=True)
        variance = maps.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
        expected = (maps - mean) / (variance + norms[name].eps).sqrt()
        torch.testing.assert_close(outputs[0], expected, rtol=1e-3, atol=1e-3, msg=name)
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
