"""Inference in lower precision and compiled, against inference as it is."""

from __future__ import annotations

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from core import precision
from core.config import InferenceConfig
from core.inference.segmenter import Segmenter
from core.precision import AutocastNetwork, accelerate
from datasets.voc import PASCAL_VOC
from models.dilated import DilatedConv2d
from models.layers import at_least_float32
from utils.errors import UserError

CPU = torch.device("cpu")
PIXELS = np.kron(
    np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8),
    np.ones((8, 8, 1), np.uint8),
)


class Convolutions(nn.Module):
    """Masks and scores from two convolutions, whose precision it notes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 5, padding=2)
        self.second = nn.Conv2d(16, 21, 5, padding=2)
        self.precision = None

    def forward(self, images):
        maps = self.second(self.first(images).relu())
        self.precision = maps.dtype
        logits = 10 * at_least_float32(maps)
        return logits[:, 1:].mean((2, 3)), logits.softmax(dim=1)


def segment(**keys):
    test = InferenceConfig(PAD_SIZE=(80, 96), SCALES=(1.0, 0.5), FP_CUT_SCORE=0.0, **keys)
    network = Convolutions()
    result = Segmenter(network, test, CPU, PASCAL_VOC).predict(PIXELS)
    return network, result


@pytest.mark.parametrize(("name", "dtype"), [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_convolutions_alone_are_lowered(name, dtype, monkeypatch):
    monkeypatch.setattr(precision, "require_speed", lambda *_: None)
    _, full = segment()
    network, lowered = segment(AMP=name)
    assert network.precision == dtype
    assert lowered.probabilities.dtype == np.float32
    assert not np.array_equal(lowered.probabilities, full.probabilities)
    assert (lowered.labels == full.labels).mean() > 0.95
    np.testing.assert_allclose(lowered.probabilities, full.probabilities, atol=0.2)


class Standardised(nn.Conv2d):
    """A convolution that asks more of its weights than a product."""

    def forward(self, x):
        return self._conv_forward(x, self.weight / self.weight.std(), self.bias)


def test_weights_are_lowered_once_to_the_bits_of_autocast():
    torch.manual_seed(0)
    network = nn.Sequential(
        *(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), DilatedConv2d(16, 16, 12)),
        *(Standardised(16, 16, 3), nn.Flatten(2), nn.Linear(18 * 18, 4)),
    ).eval()
    images = torch.randn(2, 3, 22, 22)
    with torch.inference_mode():
        expected = AutocastNetwork(network, "bf16", CPU)(images)
        found = accelerate(network, InferenceConfig(AMP="bf16"), CPU)(images)
    assert expected.dtype == torch.bfloat16 and torch.equal(found, expected)
    lowered = [layer for layer in network if getattr(layer, "weight", images).dtype != images.dtype]
    assert [type(layer) for layer in lowered] == [nn.Conv2d, DilatedConv2d, nn.Linear]


def test_float16_on_a_cpu_is_refused():
    with pytest.raises(UserError, match=r"TEST\.AMP fp16 takes a CPU .*bf16"):
        segment(AMP="fp16")


def test_nothing_is_done_where_nothing_is_asked_for():
    network = Convolutions()
    assert accelerate(network, InferenceConfig(), CPU) is network
    assert segment()[0].precision == torch.float32


def test_a_precision_that_the_device_lacks_is_named(monkeypatch):
    def refuse(*arguments, **keywords):
        raise RuntimeError("no bfloat16 here\nand more of it")

    monkeypatch.setattr(torch.nn.functional, "conv2d", refuse)
    with pytest.raises(UserError, match=r"TEST.AMP bf16.*on cpu \(no bfloat16 here\)"):
        accelerate(nn.Identity(), InferenceConfig(AMP="bf16"), CPU)


def test_without_a_compiler_there_is_one_line(monkeypatch):
    def refuse(function):
        raise RuntimeError("No working C++ compiler found\nin a long text")

    monkeypatch.setattr(torch, "compile", refuse)
    network = SimpleNamespace(compile=lambda: pytest.fail("compiled without a compiler"))
    with pytest.raises(UserError, match=r"TEST.COMPILE.*\(No working C\+\+ compiler found\)"):
        accelerate(network, InferenceConfig(COMPILE=True), CPU)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile wants a C++ compiler")
def test_compiled_networks_answer_the_same():
    _, full = segment()
    network, compiled = segment(COMPILE=True, BATCH_SIZE=3)
    assert network._compiled_call_impl is not None
    np.testing.assert_allclose(compiled.probabilities, full.probabilities, atol=1e-4)
