"""The optimizer's groups, its kinds, and the schedules of learning rates."""

from __future__ import annotations

import copy
import dataclasses
import math

import pytest
import torch
from golden_recipe import golden_config
from torch import nn

from core.config import NetConfig, TrainConfig, load_config
from core.precision import Precision
from core.training import optimizer as module
from core.training.losses import LOSSES
from core.training.optimizer import (
    OPTIMIZERS,
    SCHEDULES,
    build_optimizer,
    group_parameters,
    optimizer_state,
    rate_factor,
    require_usable_warmup,
    restore_optimizer,
    set_learning_rates,
)
from models import get_model
from models.backbones import BACKBONES
from models.builder import MODELS, REFINEMENTS
from models.network import Network
from utils.errors import UserError

FOUR_KINDS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d, nn.SyncBatchNorm)


class LayerScale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((4,), 1e-5))
        self.temperature = nn.Parameter(torch.ones(()))
        self.frozen = nn.Parameter(torch.ones(4), requires_grad=False)


class OtherLayers(Network):
    """What is neither a convolution nor a linear layer nor batch normalisation."""

    def __init__(self) -> None:
        attention = nn.MultiheadAttention(4, 2)
        super().__init__(nn.Sequential(nn.LayerNorm(4), attention, LayerScale()))
        self.backbone.token = nn.Parameter(torch.zeros(1, 1, 4))
        self.norm = nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose2d(4, 4, 2)
        self.words = nn.Embedding(3, 4)


def names_of(model: nn.Module, groups) -> list[list[str]]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names[id(parameter)] for parameter in group] for group in groups]


def tiny(**net: object) -> tuple[Network, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = OtherLayers()
    return model, build_optimizer(model, golden_config("vgg16", "ae", **net))


def test_a_parameter_of_any_layer_is_in_the_group_of_its_name():
    model = OtherLayers()
    weights, biases, new_weights, new_biases = names_of(model, group_parameters(model))
    attention = "backbone.1"
    # the module's own parameters come before those of the modules in it
    assert weights == [
        "backbone.token",
        "backbone.0.weight",
        f"{attention}.in_proj_weight",
        f"{attention}.out_proj.weight",
    ]
    assert biases == [
        "backbone.0.bias",
        f"{attention}.in_proj_bias",
        f"{attention}.out_proj.bias",
        "backbone.2.gamma",
        "backbone.2.temperature",
    ]
    assert new_weights == ["norm.weight", "up.weight", "words.weight"]
    assert new_biases == ["norm.bias", "up.bias"]


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_every_parameter_that_wants_a_gradient_changes_in_a_step(kind):
    model, optimizer = tiny(OPT=kind)
    before = {name: parameter.clone() for name, parameter in model.named_parameters()}
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) != parameter.requires_grad, name


@pytest.mark.parametrize("times", [0, 2])
def test_a_parameter_in_no_group_or_in_two_is_an_error(times, monkeypatch):
    def careless(model):
        *groups, new_biases = group_parameters(model)
        kept = [[p for p in group if p is not model.up.weight] for group in groups]
        return *kept, new_biases + [model.up.weight] * times

    monkeypatch.setattr(module, "group_parameters", careless)
    with pytest.raises(ValueError, match=r"up\.weight"):
        tiny()


@pytest.mark.parametrize("model", list(MODELS))
@pytest.mark.parametrize("backbone", list(BACKBONES))
@pytest.mark.parametrize("freeze", [True, False])
def test_the_order_of_earlier_optimizer_files_is_kept(backbone, model, freeze):
    """Which was that of the four kinds of layers: an optimizer's file counts its parameters."""
    net = golden_config(backbone, model, FREEZE_BN=freeze)
    with torch.device("meta"):
        network = get_model(net)
    expected: list[list[nn.Parameter]] = [[], [], [], []]
    for name, layer in network.named_modules():
        if isinstance(layer, FOUR_KINDS):
            offset = 0 if name.startswith("backbone.") else 2
            for place, parameter in enumerate((layer.weight, layer.bias)):
                if parameter is not None and parameter.requires_grad:
                    expected[offset + place].append(parameter)
    found = [group["params"] for group in build_optimizer(network, net).param_groups]
    assert names_of(network, found) == names_of(network, expected)


def test_an_optimizer_file_of_an_earlier_version_loads(tmp_path):
    """It has no `initial_lr`; what is configured now holds."""
    model, optimizer = tiny(LR=0.1)
    sum(p.sum() for p in model.parameters() if p.requires_grad).backward()
    optimizer.step()
    state = optimizer_state(optimizer)
    for group in state["optimizer"]["param_groups"]:
        del group["initial_lr"]
    _, fresh = tiny(LR=0.2, WEIGHT_DECAY=0.5)
    restore_optimizer(fresh, state, tmp_path)
    assert [group["lr"] for group in fresh.param_groups] == pytest.approx([0.2, 0.4, 2, 4])
    assert [group["weight_decay"] for group in fresh.param_groups] == [0.5, 0, 0.5, 0]
    set_learning_rates(fresh, 0.5)
    assert [group["lr"] for group in fresh.param_groups] == pytest.approx([0.1, 0.2, 1, 2])
    for old, new in zip(
        optimizer.state_dict()["state"].values(), fresh.state_dict()["state"].values(), strict=True
    ):
        assert torch.equal(old["momentum_buffer"], new["momentum_buffer"])


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_a_first_step_that_fp16_leaves_out_leaves_no_trace(kind, monkeypatch):
    def uninitialised(like: torch.Tensor, **_: object) -> torch.Tensor:
        return torch.full_like(like, 7)

    monkeypatch.setattr(torch, "empty_like", uninitialised)

    def weights(*factors: float) -> torch.Tensor:
        model, optimizer = tiny(OPT=kind, LR=0.1)
        precision = Precision("fp16", torch.device("cpu"))
        for factor in factors:
            loss = sum(p.cos().sum() for p in model.parameters() if p.requires_grad)
            precision.step(factor * loss, optimizer)
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    assert torch.equal(weights(math.inf), weights())
    torch.testing.assert_close(weights(math.inf, 1), weights(1))


@pytest.mark.parametrize("kind", list(OPTIMIZERS))
def test_a_run_may_go_on_with_another_layout_of_its_weights(tmp_path, kind):
    """As one of float32 on a GPU that is resumed in bf16, or on the CPU."""

    def step(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
        sum(p.sin().sum() for p in model.parameters() if p.requires_grad).backward()
        optimizer.step()
        optimizer.zero_grad()
        return [p.detach().clone() for p in model.parameters()]

    model, optimizer = tiny(OPT=kind, LR=0.1)
    step(model, optimizer)
    resumed, fresh = tiny(OPT=kind, LR=0.1)
    resumed.load_state_dict(model.state_dict())
    resumed.to(memory_format=torch.channels_last)
    restore_optimizer(fresh, copy.deepcopy(optimizer_state(optimizer)), tmp_path)
    assert not resumed.up.weight.is_contiguous()
    for found, expected in zip(step(resumed, fresh), step(model, optimizer), strict=True):
        torch.testing.assert_close(found, expected)


def test_a_scheduled_rate_in_a_file_is_not_what_a_run_goes_on_with(tmp_path):
    _, optimizer = tiny(LR=0.1)
    set_learning_rates(optimizer, 0.01)
    state = optimizer_state(optimizer)
    _, fresh = tiny(LR=0.3)
    restore_optimizer(fresh, state, tmp_path)
    set_learning_rates(fresh, 0.5)
    assert fresh.param_groups[0]["lr"] == pytest.approx(0.15)


def test_adamw_decays_weights_apart_from_gradients():
    model, optimizer = tiny(OPT="AdamW", LR=0.01, WEIGHT_DECAY=0.5, BETA1=0.8)
    assert type(optimizer) is torch.optim.AdamW
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.999)}
    weight, bias = model.up.weight, model.up.bias
    with torch.no_grad():
        weight.fill_(1.0), bias.fill_(1.0)
    weight.grad, bias.grad = torch.zeros_like(weight), torch.zeros_like(bias)
    optimizer.step()
    # new weights have ten times the rate
    torch.testing.assert_close(weight.data, torch.full_like(weight, 1 - 0.1 * 0.5))
    assert (bias == 1).all()


@pytest.mark.parametrize(
    ("table", "section", "key"),
    [
        (OPTIMIZERS, NetConfig, "OPT"),
        (LOSSES, NetConfig, "LOSS"),
        (REFINEMENTS, NetConfig, "REFINE"),
        (SCHEDULES, TrainConfig, "SCHEDULE"),
    ],
)
def test_the_configuration_lets_through_what_the_tables_have(table, section, key):
    (field,) = (each for each in dataclasses.fields(section) if each.name == key)
    assert sorted(field.metadata["choices"]) == sorted(table)


def slow_factor(schedule: str, warmup: int, step: int, steps: int) -> float:
    done = step / steps
    factor = {
        "constant": 1.0,
        "poly": math.exp(0.9 * math.log(1 - done)) if done < 1 else 0.0,
        "cosine": math.cos(math.pi * done / 2) ** 2,
    }[schedule]
    for k in range(warmup):
        if step == k:
            factor *= (k + 1) / warmup
    return factor


@pytest.mark.parametrize("schedule", list(SCHEDULES))
@pytest.mark.parametrize("warmup", [0, 1, 7])
def test_schedules_against_slow_formulas(schedule, warmup):
    found = [rate_factor(schedule, warmup, step, 20) for step in range(21)]
    expected = [slow_factor(schedule, warmup, step, 20) for step in range(21)]
    assert found == pytest.approx(expected, abs=1e-12)
    # the last step of a run trains, too
    assert all(0 < factor <= 1 for factor in found[:20])
    if warmup == 0:
        assert found == sorted(found, reverse=True) and found[0] == 1.0


def test_a_constant_schedule_changes_no_bit_of_a_rate():
    _, optimizer = tiny(LR=1 / 3)
    before = [group["lr"] for group in optimizer.param_groups]
    for step in (0, 3, 999):
        set_learning_rates(optimizer, rate_factor("constant", 0, step, 1000))
        assert [group["lr"] for group in optimizer.param_groups] == before


def test_a_warmup_that_never_ends_is_refused():
    require_usable_warmup(0, 1)
    require_usable_warmup(10, 10)
    with pytest.raises(UserError, match=r"TRAIN\.WARMUP 11 .*10 steps.*TRAIN\.NUM_EPOCHS"):
        require_usable_warmup(11, 10)


def test_defaults_are_the_published_ones():
    config = load_config()
    assert (config.NET.OPT, config.NET.LOSS, config.NET.REFINE) == ("SGD", "SoftMargin", "pamr")
    assert (config.TRAIN.SCHEDULE, config.TRAIN.WARMUP) == ("constant", 0)
