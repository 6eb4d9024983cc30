"""TRAIN.AMP: what a lower precision changes, and what it must not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
from golden_recipe import quiet_network
from torch import Tensor, nn

from core.config import load_config
from core.training import precision as precision_module
from core.training.losses import Criterion
from core.training.precision import InPrecision, Precision
from models.network import Network
from utils.errors import UserError

CPU = torch.device("cpu")
TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def in_precision(kind: str) -> Precision:
    try:
        return Precision(kind, CPU)
    except UserError as error:
        if kind == "bf16":
            raise
        pytest.skip(str(error))  # older versions of PyTorch


@pytest.fixture(params=list(TYPES))
def low(request) -> Precision:
    return in_precision(request.param)


@pytest.fixture
def fp16() -> Precision:
    return in_precision("fp16")


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def loss_and_gradients(network: Network, precision: Precision) -> tuple[Tensor, dict[str, Tensor]]:
    torch.manual_seed(1)
    raw, labels = torch.rand(2, 3, 49, 57), torch.zeros(2, 20)
    labels[0, 3] = labels[1, 7] = 1
    network.zero_grad()
    outputs = InPrecision(network, precision).train()(4 * raw - 2, raw, labels)
    assert {value.dtype for value in outputs.values()} <= {torch.float32, torch.int64}
    losses = Criterion(load_config())(outputs, labels, epoch=0)
    loss = losses["loss"].mean() + outputs["mask_logits"].square().mean()
    loss.backward()
    gradients = {
        name: parameter.grad.clone()
        for name, parameter in network.named_parameters()
        if parameter.grad is not None and parameter.grad.norm() > 1e-6
    }
    return loss.detach(), gradients


@pytest.mark.parametrize("model", ["ae", "bsl"])
def test_a_step_in_low_precision_is_that_of_float32_within_rounding(model, low):
    """The yardstick: what it changes in float32 to round the weights once."""
    torch.manual_seed(0)
    network = quiet_network("vgg16", model)
    plain = Precision("off", CPU)
    loss, gradients = loss_and_gradients(network, plain)
    low_loss, low_gradients = loss_and_gradients(network, low)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter.to(TYPES[low.kind]))
    _, rounded = loss_and_gradients(network, plain)

    assert 0 < relative_error(low_loss, loss) < torch.finfo(TYPES[low.kind]).eps
    for name, gradient in gradients.items():
        assert low_gradients[name].dtype == torch.float32
        error = relative_error(low_gradients[name], gradient)
        assert error < 4 * relative_error(rounded[name], gradient), name


def small_problem() -> tuple[nn.Linear, torch.optim.Optimizer, Tensor]:
    torch.manual_seed(0)
    layer = nn.Linear(5, 3)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    return layer, optimizer, torch.rand(4, 5)


@pytest.mark.parametrize("kind", ["off", "bf16", "fp16"])
def test_steps_are_the_optimizers_own(kind):
    precision = Precision("off", CPU) if kind == "off" else in_precision(kind)
    (layer, optimizer, x), (twin, reference, _) = small_problem(), small_problem()
    for _ in range(3):
        precision.step(layer(x).square().sum(), optimizer)
        reference.zero_grad()
        twin(x).square().sum().backward()
        reference.step()
        assert all(parameter.grad is None for parameter in layer.parameters())
    # scaling by a power of two rounds nothing
    assert torch.equal(layer.weight, twin.weight) and torch.equal(layer.bias, twin.bias)


def test_gradients_too_small_for_float16_are_not_lost(fp16):
    layer, optimizer, x = small_problem()
    nn.init.zeros_(layer.weight)  # beside which the smallest step shows
    with fp16.autocast():
        unscaled = 1e-8 * layer(x).float().sum()
        scaled = 1e-8 * layer(x).float().sum()
    (lost,) = torch.autograd.grad(unscaled, layer.weight)
    assert not lost.any()
    fp16.step(scaled, optimizer)
    expected = -0.1 * 1e-8 * x.sum(dim=0).expand(3, 5)
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=1e-2, atol=0)


def test_a_step_that_overflows_is_left_out_and_the_scale_lowered(fp16):
    layer, optimizer, x = small_problem()
    before = layer.weight.detach().clone()
    scale = fp16.state_dict()["scale"]
    fp16.step(1e38 * layer(x).sum(), optimizer)
    assert torch.equal(layer.weight, before)
    assert fp16.state_dict()["scale"] == scale / 2
    fp16.step(layer(x).sum(), optimizer)
    assert not torch.equal(layer.weight, before)


def test_the_scale_goes_on_where_it_stopped(fp16):
    layer, optimizer, x = small_problem()
    fp16.step(1e38 * layer(x).sum(), optimizer)
    fp16.step(layer(x).sum(), optimizer)
    state = fp16.state_dict()
    assert state["_growth_tracker"] == 1
    again = Precision("fp16", CPU)
    again.load_state_dict(state)
    assert again.state_dict() == state
    other, other_optimizer, _ = small_problem()
    again.step(other(x).sum(), other_optimizer)
    assert again.state_dict()["_growth_tracker"] == 2


def test_another_precision_has_no_state_to_go_on_with(fp16):
    plain = Precision("off", CPU)
    assert plain.state_dict() == {}
    plain.load_state_dict(fp16.state_dict())
    scale = fp16.state_dict()["scale"]
    fp16.load_state_dict({})
    assert fp16.state_dict()["scale"] == scale


class Layer(nn.Module):
    """Says in which precision its convolution came out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> torch.dtype:
        return self.conv(x).dtype


def test_training_passes_are_low_in_any_thread_and_others_are_not():
    module = InPrecision(Layer(), Precision("bf16", CPU))
    x = torch.rand(1, 3, 4, 4)
    with ThreadPoolExecutor(1) as threads:  # as DataParallel has them
        assert threads.submit(module.train(), x).result() == torch.bfloat16
        assert threads.submit(module.eval(), x).result() == torch.float32
    off = InPrecision(Layer(), Precision("off", CPU)).train()
    assert off(x) == torch.float32


@pytest.mark.parametrize("lack", ["error", "ignored", "scaling"])
def test_a_precision_that_pytorch_lacks_is_refused_with_a_remedy(lack, monkeypatch):
    def no_convolution(*_arguments):
        raise RuntimeError("not implemented for 'Half'\nat some place")

    if lack == "error":
        monkeypatch.setattr(precision_module.F, "conv2d", no_convolution)
        expected = "not implemented for 'Half'"
    elif lack == "ignored":
        monkeypatch.setattr(torch, "autocast", lambda *_: nullcontext())
        expected = "it computes in torch.float32"
    else:
        monkeypatch.setattr(torch.amp.GradScaler, "is_enabled", lambda _: False)
        expected = "it cannot scale gradients"
    with pytest.raises(UserError, match=r"TRAIN\.AMP fp16.*cpu.*off, bf16, fp16") as error:
        Precision("fp16", CPU)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


def test_looking_for_support_draws_no_random_numbers():
    torch.manual_seed(5)
    Precision("bf16", CPU)
    first = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(first, torch.rand(1))
