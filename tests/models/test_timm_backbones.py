"""Backbones of timm's: maps, strides, normalisation, what is frozen, activation checkpointing."""

from __future__ import annotations

import math
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
from golden_recipe import golden_config
from small_network import message
from step_case import group_of_one, require_same_in_wrapper
from timm_networks import (
    EACH,
    NAMES,
    SMALL_NAMES,
    STRIDES,
    SWIN,
    WITH_BATCH_NORM,
    build,
    each_of,
    loss_of,
    step,
    stride_of,
)
from torch import nn

from core.distributed import sync_batch_norm
from core.training.optimizer import build_optimizer
from models import get_model
from models.backbones import BACKBONES, get_backbone_spec
from models.backbones.timm_backbone import fix_statistics
from models.layers import FixedStatsBatchNorm2d
from models.network import Network
from utils.errors import UserError

ROOT = Path(__file__).parents[2]
OTHERS = ("timm/test_vit", "timm/test_resnet", "timm/hrnet_w18_small", "timm/mambaout_femto")


def meta_network(name: str, **net: object) -> Network:
    with torch.device("meta"):  # shapes without memory
        return get_model(golden_config(name, "ae", OUTPUT_STRIDE=stride_of(name), **net))


@EACH
def test_shapes_of_the_two_maps(name):
    for stride in STRIDES[name]:
        spec = get_backbone_spec(name, stride)
        assert (spec.name, spec.conv3.stride, spec.conv6.stride) == (name, 4, stride)
        with torch.device("meta"):
            backbone = spec.build(nn.BatchNorm2d)
        for size in ((64, 96), (5, 7)):
            maps = backbone(torch.empty(2, 3, *size, device="meta"))
            for found, info in zip(maps, (spec.conv3, spec.conv6), strict=True):
                grid = [math.ceil(length / info.stride) for length in size]
                assert list(found.shape) == [2, info.channels, *grid]


@pytest.mark.parametrize(
    ("name", "conv3", "conv6"),
    [
        ("timm/test_vit", (64, 16), (64, 16)),
        ("timm/mambaout_femto", (48, 4), (288, 32)),  # channels come last
        pytest.param("timm/hrnet_w18_small", (128, 4), (1024, 32), marks=pytest.mark.slow),
    ],
)
def test_maps_of_other_kinds(name, conv3, conv6):
    spec = get_backbone_spec(name)
    assert (spec.conv3.channels, spec.conv3.stride) == conv3
    assert (spec.conv6.channels, spec.conv6.stride) == conv6
    with torch.device("meta"):
        maps = spec.build(nn.BatchNorm2d)(torch.empty(1, 3, 50, 70))
    for found, (channels, stride) in zip(maps, (conv3, conv6), strict=True):
        assert list(found.shape) == [1, channels, -(-50 // stride), -(-70 // stride)]


def test_what_is_padded_is_zeros_below_and_on_the_right():
    torch.manual_seed(0)
    backbone = get_backbone_spec("timm/test_resnet", 16).build(nn.BatchNorm2d).eval()
    images = torch.randn(1, 3, 40, 47)
    padded = torch.zeros(1, 3, 48, 48)
    padded[..., :40, :47] = images
    with torch.no_grad():
        conv3, conv6 = backbone(images)
        whole3, whole6 = backbone(padded)
    assert torch.equal(conv3, whole3[..., :10, :12]) and torch.equal(conv6, whole6)


@pytest.mark.slow
def test_a_stride_that_the_model_cannot_have_names_those_that_it_can():
    for stride in (8, 16):
        line = message(get_backbone_spec, SWIN, stride)
        assert line.startswith("NET.OUTPUT_STRIDE") and SWIN in line and line.endswith(" 32")
    assert get_backbone_spec(SWIN).conv6.stride == 32


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("timm/test_vit2.none", "timm/test_vit2"),  # no such tag
        ("timm/resnet81", "timm/resnet18"),
        # its convolutions do not pad
        pytest.param("timm/inception_v3", "cannot serve", marks=pytest.mark.slow),
        ("timm/mixer_s16_224", "size"),  # one size only
        pytest.param("timm/convmixer_1024_20_ks9_p14", "14", marks=pytest.mark.slow),
        ("timm/", "timm/"),
    ],
)
def test_models_that_cannot_serve(name, word):
    line = message(get_backbone_spec, name)
    assert line.startswith("NET.BACKBONE") and word in line and len(line.split()) <= 25


def test_published_backbones_have_their_own_stride():
    for name, spec in BACKBONES.items():
        stride = spec.conv6.stride
        assert get_backbone_spec(name, stride) is get_backbone_spec(name, 16) is spec
        line = message(get_backbone_spec, name, 32)
        assert line.startswith("NET.OUTPUT_STRIDE 32") and f" {stride}," in line


def test_without_timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.delitem(sys.modules, "models.backbones.timm_backbone", raising=False)
    assert message(get_backbone_spec, "timm/resnet18").endswith("`pip install timm`")


def test_published_backbones_do_without_timm():
    """No module but those of timm's backbones imports it where it is imported itself."""
    wanting = re.compile(r"^(import timm|from (timm|models\.backbones\.timm))", re.M)
    folders = [ROOT / name for name in ("core", "datasets", "models", "utils")]
    files = [*ROOT.glob("*.py"), *(path for each in folders for path in each.rglob("*.py"))]
    found = {path.stem for path in files if wanting.search(path.read_text(encoding="utf-8"))}
    assert found == {"timm_backbone", "timm_plan", "timm_weights"}


def test_mean_and_deviation_are_those_of_the_weights():
    assert get_backbone_spec("timm/test_resnet").mean_std == ((0.5,) * 3, (0.5,) * 3)
    assert meta_network("timm/test_resnet").mean_std == ((0.5,) * 3, (0.5,) * 3)
    assert get_backbone_spec("timm/resnet18").mean_std == (
        (0.485, 0.456, 0.406),
        (0.229, 0.224, 0.225),
    )
    assert meta_network("resnet50").mean_std is None


@EACH
def test_names_do_not_depend_on_what_is_frozen(name):
    frozen, free = meta_network(name), meta_network(name, FREEZE_BN=False)
    assert list(frozen.state_dict()) == list(free.state_dict())
    assert all(each.startswith("backbone.timm.") for each, _ in frozen.backbone.named_parameters(
        prefix="backbone"))  # fmt: skip


@EACH
def test_what_is_frozen(name):
    network = meta_network(name)
    norms = [m for m in network.backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    assert bool(norms) == (name in WITH_BATCH_NORM)
    assert all(isinstance(norm, FixedStatsBatchNorm2d) for norm in norms)
    fixed = {id(p) for norm in norms for p in norm.parameters()}
    for each, parameter in network.named_parameters():
        assert parameter.requires_grad == (id(parameter) not in fixed), each
    assert all(p.requires_grad for p in meta_network(name, FREEZE_BN=False).parameters())


@each_of(WITH_BATCH_NORM)
def test_frozen_batch_normalisation_keeps_its_activation_and_its_statistics(name):
    frozen = build(name).backbone
    for each, buffer in frozen.named_buffers():
        if each.endswith(("mean", "var")):
            buffer += torch.rand_like(buffer)
    free = build(name, FREEZE_BN=False).backbone
    free.load_state_dict(frozen.state_dict())
    before = {each: buffer.clone() for each, buffer in frozen.named_buffers()}
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        expected = free.eval()(images)
    for found, other in zip(frozen.train()(images), expected, strict=True):
        torch.testing.assert_close(found, other)
    assert all(torch.equal(buffer, before[each]) for each, buffer in frozen.named_buffers())


def test_batch_normalisation_of_another_kind_cannot_be_frozen():
    layers = nn.Sequential(nn.BatchNorm2d(3), nn.BatchNorm1d(3))
    line = message(fix_statistics, "nextvit_small", layers)
    assert line.startswith("NET.FREEZE_BN: BatchNorm1d in timm/nextvit_small")


@EACH
def test_a_step_changes_every_parameter_that_trains(name):
    network = build(name)
    optimizer = build_optimizer(network, golden_config(name, "ae", LR=0.1, MOMENTUM=0.0))
    grouped = [id(p) for group in optimizer.param_groups for p in group["params"]]
    trained = {id(p) for p in network.parameters() if p.requires_grad}
    assert len(grouped) == len(set(grouped)) and set(grouped) == trained
    before = {each: p.detach().clone() for each, p in network.named_parameters()}
    loss_of(network).backward()
    optimizer.step()
    for each, parameter in network.named_parameters():
        # its decay alone would change it, too
        assert parameter.requires_grad == (parameter.grad is not None and parameter.grad.any()), (
            each
        )
        assert torch.equal(parameter, before[each]) != parameter.requires_grad, each


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_in_the_baseline_every_parameter_has_a_gradient(name):
    network = build(name, "bsl")
    found = step(network)
    for each, parameter in network.named_parameters():
        assert (each in found) == parameter.requires_grad, each


@pytest.mark.slow
def test_parameters_that_no_map_depends_on_are_frozen():
    network = meta_network("timm/hrnet_w18_small", FREEZE_BN=False)
    unused = [each for each, p in network.backbone.named_parameters() if not p.requires_grad]
    assert unused and all("incre_modules" in each or "fuse_layers" in each for each in unused)


@EACH
def test_checkpointed_a_step_is_the_same_bit_for_bit(name):
    frozen = name == "timm/resnet18"
    plain = step(build(name, FREEZE_BN=frozen))
    network = build(name, FREEZE_BN=frozen)
    names = list(network.state_dict())
    network.checkpoint_activations()
    calls = [0]
    count(network.backbone.timm, calls)
    found = step(network)
    assert calls[0] > len(leaves(network.backbone.timm))  # some were computed again
    assert list(found) == list(plain) and list(network.state_dict()) == names
    for each, value in plain.items():
        assert torch.equal(found[each], value), each


def test_checkpointed_transformers():
    plain = step(build("timm/test_vit"))
    network = build("timm/test_vit")
    network.checkpoint_activations()
    calls = [0]
    count(network.backbone.timm, calls)
    found = step(network)
    assert calls[0] > len(leaves(network.backbone.timm))
    assert all(torch.equal(found[each], value) for each, value in plain.items())


def leaves(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]


def count(module: nn.Module, calls: list[int]) -> None:
    """Count the calls of convolutions and linear layers."""
    for leaf in leaves(module):
        leaf.register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))


def test_checkpointed_statistics_stay_the_modules_own():
    network = build("timm/test_efficientnet", FREEZE_BN=False)
    network.checkpoint_activations()
    buffers = {each: id(buffer) for each, buffer in network.named_buffers()}
    step(network)
    assert {each: id(buffer) for each, buffer in network.named_buffers()} == buffers
    counters = [b for each, b in network.backbone.named_buffers() if each.endswith("tracked")]
    assert counters and all(counter == 1 for counter in counters)


def test_a_model_that_cannot_checkpoint(monkeypatch):
    network = build("timm/test_resnet")

    def refuse(enable: bool) -> None:
        raise AssertionError("gradient checkpointing not supported")

    monkeypatch.setattr(network.backbone.timm, "set_grad_checkpointing", refuse)
    assert message(network.checkpoint_activations).startswith("TRAIN.CHECKPOINT: timm/test_resnet")


class Elsewhere(nn.Module):
    """Its module's passes run in another thread, as DataParallel's replicas do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs):
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(self.module, *inputs).result()


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL_NAMES)
def test_a_checkpointed_step_in_another_thread(name):
    plain = step(build(name))
    network = build(name)
    network.checkpoint_activations()
    require_same_in_wrapper(step(Elsewhere(network)), plain)


@pytest.mark.slow
@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("name", SMALL_NAMES)
def test_a_step_under_distributed_data_parallel(name, checkpointed, tmp_path):
    plain = step(build(name))
    network = build(name)
    if checkpointed:
        network.checkpoint_activations()
    with group_of_one(tmp_path):
        found = step(nn.parallel.DistributedDataParallel(network))
    require_same_in_wrapper(found, plain)


def test_synchronised_batch_normalisation_keeps_its_activation():
    network = meta_network("timm/test_efficientnet", FREEZE_BN=False)
    names = list(network.state_dict())
    acts = [m.act for m in network.backbone.modules() if hasattr(m, "act")]
    sync_batch_norm(network)
    norms = [m for m in network.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert norms and all(isinstance(norm, nn.SyncBatchNorm) for norm in norms)
    assert [m.act for m in network.backbone.modules() if hasattr(m, "act")] == acts
    assert list(network.state_dict()) == names
    frozen = meta_network("timm/test_efficientnet")
    sync_batch_norm(frozen)
    assert not any(isinstance(m, nn.SyncBatchNorm) for m in frozen.backbone.modules())


@pytest.mark.slow
@pytest.mark.parametrize("name", [*SMALL_NAMES, SWIN])
def test_the_whole_network_compiles(name):
    network = build(name, "bsl")
    torch.compiler.reset()
    compiled = torch.compile(network.forward_dense, dynamic=False, fullgraph=True, backend="eager")
    images = torch.randn(2, 3, 65, 70)
    torch.manual_seed(2)
    expected = network.forward_dense(images)
    torch.manual_seed(2)
    torch.testing.assert_close(compiled(images), expected)


def test_channels_last_maps_are_those_of_timm():
    torch.manual_seed(0)
    backbone = get_backbone_spec("timm/mambaout_femto", 32).build(nn.BatchNorm2d).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        maps = backbone.timm(images)
        conv3, conv6 = backbone(images)
    assert torch.equal(conv3, maps[0].permute(0, 3, 1, 2))
    assert torch.equal(conv6, maps[-1].permute(0, 3, 1, 2))


def test_every_name_is_one_of_timms():
    assert all(timm.is_model(name.removeprefix("timm/")) for name in (*NAMES, *OTHERS))


def test_an_unknown_backbone_names_timm_too():
    with pytest.raises(UserError, match="timm/NAME"):
        get_backbone_spec("resnet18")
