"""TRAIN.COMPILE: training passes compiled, everything else as it is."""

from __future__ import annotations

import shutil

import pytest
import torch
from golden_recipe import golden_config
from torch import Tensor, nn
from torch.torch_version import TorchVersion

from core.config import load_config
from core.distributed import SINGLE, Group
from core.precision import require_compiler
from core.training.config_check import check_config
from models import get_model
from models.cam import CamBaseline
from utils.errors import UserError

CPU = torch.device("cpu")


class TinyBackbone(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, padding=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        deep = torch.relu(self.conv(images))
        return deep, deep


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_steps_are_those_of_float32():
    torch.manual_seed(0)
    network = CamBaseline(TinyBackbone(), 6, 5, bg_score=0.1)
    network.dropout.p = 0.0
    names = list(network.state_dict())
    images, labels = torch.rand(2, 3, 8, 9), torch.ones(2, 4)

    def loss_and_gradient() -> tuple[Tensor, Tensor]:
        loss = network.train()(images, images, labels)["cls"].square().sum()
        return loss.detach(), *torch.autograd.grad(loss, network.backbone.conv.weight)

    expected = loss_and_gradient()
    network.compile_layers()
    torch.testing.assert_close(loss_and_gradient(), expected)
    assert list(network.state_dict()) == names


@pytest.mark.parametrize("model", ["ae", "bsl"])
def test_training_passes_alone_are_compiled(monkeypatch, model):
    compiled = []

    def compile_it(function, **_options):
        return lambda images: compiled.append(len(images)) or function(images)

    monkeypatch.setattr(torch, "compile", compile_it)
    network = get_model(golden_config("vgg16", model, PAMR_ITER=1))
    network.compile_layers()
    images = torch.rand(2, 3, 33, 33)
    with torch.no_grad():
        network.eval()(images)
        network(images, images, torch.ones(2, 20))
        assert compiled == []
        network.train()(images, images, torch.ones(2, 20))
    assert compiled == [2]


def test_without_a_compiler_there_is_one_line(monkeypatch):
    def refuse(_function):
        raise RuntimeError("No working C++ compiler found\nin a long text")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.raises(UserError, match=r"TRAIN.COMPILE.*cpu \(No working C\+\+ compiler found\)"):
        require_compiler("TRAIN.COMPILE", CPU)


def plan(device: str, group: Group, *words: str) -> None:
    config = load_config(None, ["TRAIN.COMPILE", "True", *words])
    check_config(config, None, torch.device(device), group)


def test_what_it_does_not_go_with(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UserError, match=r"TRAIN\.COMPILE and TRAIN\.CHECKPOINT"):
        plan("cpu", SINGLE, "TRAIN.CHECKPOINT", "True")
    with pytest.raises(UserError, match=r"a process for each GPU.*NPROC=2"):
        plan("cuda", SINGLE)
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.5.1+cu121"))
    with pytest.raises(UserError, match=r"NPROC=2 and frozen BatchNorm needs PyTorch 2\.6"):
        plan("cuda", Group(0, 2))
    plan("cuda", Group(0, 2), "NET.FREEZE_BN", "False")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.10.0"))
    plan("cuda", Group(0, 2))
    plan("cpu", Group(0, 2), "TRAIN.AMP", "bf16")
