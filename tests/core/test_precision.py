"""TRAIN.AMP: what a lower precision changes, and what it must not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
import yaml
from golden_recipe import quiet_network
from torch import Tensor, nn
from training_command import train

from core.config import Config, InferenceConfig, TrainConfig, load_config
from core.distributed import SINGLE
from core.precision import (
    AutocastNetwork,
    Precision,
    accelerate,
    autocast,
    lowers_convolutions,
    require_speed,
    settle_inference,
    settle_training,
    settled_amp,
    tf32,
)
from core.training.config_check import check_config
from core.training.losses import Criterion
from models.cam import CamBaseline
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


@pytest.fixture(
    params=["bf16", pytest.param("fp16", marks=pytest.mark.slow)]  # CPUs emulate fp16
)
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
    in_precision = AutocastNetwork(network, precision.kind, CPU, eval_kind="off").train()
    outputs = in_precision(4 * raw - 2, raw, labels)
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
def test_a_step_in_low_precision_is_that_of_float32_within_rounding(model, low, thin_vgg16):
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
    with autocast("fp16", CPU):
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
    module = AutocastNetwork(Layer(), "bf16", CPU, eval_kind="off")
    x = torch.rand(1, 3, 4, 4)
    with ThreadPoolExecutor(1) as threads:  # as DataParallel has them
        assert threads.submit(module.train(), x).result() == torch.bfloat16
        assert threads.submit(module.eval(), x).result() == torch.float32
    off = AutocastNetwork(Layer(), "off", CPU, eval_kind="off").train()
    assert off(x) == torch.float32


@pytest.mark.parametrize("lack", ["error", "ignored", "scaling"])
def test_a_precision_that_pytorch_lacks_is_refused_with_a_remedy(lack, monkeypatch):
    def no_convolution(*_arguments):
        raise RuntimeError("not implemented for 'Half'\nat some place")

    if lack == "error":
        monkeypatch.setattr(torch.nn.functional, "conv2d", no_convolution)
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


def test_float16_on_a_cpu_is_refused_before_training():
    config = Config(TRAIN=TrainConfig(AMP="fp16"))
    with pytest.raises(UserError, match=r"TRAIN\.AMP fp16 takes a CPU .*bf16"):
        check_config(config, None, CPU, SINGLE)
    check_config(config, None, torch.device("mps"), SINGLE)
    check_config(Config(TRAIN=TrainConfig(AMP="bf16")), None, CPU, SINGLE)


@pytest.mark.parametrize(
    ("facts", "warned"),
    [("flags : avx2 fma", True), ("flags : amx_bf16 avx512_bf16", False), (None, False)],
)
def test_a_cpu_without_units_for_bf16_is_told_of(tmp_path, monkeypatch, capsys, facts, warned):
    path = tmp_path / "cpuinfo"
    if facts:
        path.write_text(facts)
    monkeypatch.setattr("core.devices.CPU_FILE", path)
    for device in (CPU, torch.device("cuda")):
        require_speed("TEST.AMP", "bf16", device)
    require_speed("TEST.AMP", "off", CPU)
    told = capsys.readouterr().err
    assert told.count("\n") == warned and ("TEST.AMP off" in told) == warned


class TestAuto:
    """What `auto` settles on: by the machine, or by the earlier part of a run."""

    @pytest.fixture(params=[True, False], ids=["AMX", "no AMX"])
    def amx(self, request, tmp_path, monkeypatch) -> bool:
        path = tmp_path / "cpuinfo"
        path.write_text(f"flags : avx512_bf16 {'amx_bf16' if request.param else ''}")
        monkeypatch.setattr("core.devices.CPU_FILE", path)
        return request.param

    def test_bf16_where_it_is_multiplied_natively(self, amx, monkeypatch):
        capabilities = [(7, 0), (8, 0), (9, 0)]  # V100, A100, H100
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(
            torch.cuda, "get_device_capability", lambda device: capabilities[device.index]
        )
        cuda = [torch.device("cuda", index) for index in range(3)]
        assert settled_amp("auto", [CPU]) == ("bf16" if amx else "off")
        assert [settled_amp("auto", [device]) for device in cuda] == ["off", "bf16", "bf16"]
        assert settled_amp("auto", cuda[1:]) == "bf16" and settled_amp("auto", cuda) == "off"
        assert settled_amp("auto", [torch.device("mps")]) == "off"
        monkeypatch.setattr(torch.version, "hip", "6.0")
        assert settled_amp("auto", cuda[2:]) == "off"
        for kind in ("off", "bf16", "fp16"):
            assert settled_amp(kind, [CPU]) == kind

    @pytest.mark.parametrize("kept", [None, "auto", "off", "bf16"])
    def test_a_run_keeps_what_it_began_with(self, amx, kept):
        config, other = (
            Config(TRAIN=TrainConfig(AMP=amp), TEST=InferenceConfig(AMP="auto"))
            for amp in ("auto", "off")
        )
        assert settle_training(other, kept, [CPU]) == (other, "")
        if kept == "bf16" and not amx:
            with pytest.raises(UserError, match=r"TRAIN\.AMP auto.*bf16.*--set TRAIN\.AMP bf16"):
                settle_training(config, kept, [CPU])
            return
        settled, line = settle_training(config, kept, [CPU])
        here = "bf16" if amx else "off"
        assert (here if kept in (None, "auto") else kept) == settled.TRAIN.AMP
        assert line.startswith(f"TRAIN.AMP auto: {settled.TRAIN.AMP}, ")
        assert settled.TEST.AMP == "auto"  # another machine may infer

    def test_inference_settles_its_own(self, amx):
        config = Config(TEST=InferenceConfig(AMP="auto"))
        settled, line = settle_inference(config, CPU)
        assert ("bf16" if amx else "off") == settled.TEST.AMP and settled.TEST.AMP in line
        assert settle_inference(Config(), CPU) == (Config(), "")
        wrapped = accelerate(nn.Identity(), config.TEST, CPU)
        assert isinstance(wrapped, AutocastNetwork) == amx


@pytest.mark.parametrize(
    "capability, amp, rounds, lowers",
    [
        ((7, 5), "off", True, False),
        ((7, 5), "fp16", False, True),
        ((8, 0), "off", True, True),
        ((8, 0), "off", False, False),
        ((9, 0), "bf16", False, True),
    ],
)
def test_what_matrix_units_compute(monkeypatch, capability, amp, rounds, lowers):
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert lowers_convolutions(amp, rounds, [torch.device("cuda", 0)]) == lowers


def switches() -> list:
    """All that PyTorch has to say of TF32; what contradicts something else cannot be read."""
    backends = torch.backends
    found = []
    for read in (
        lambda: backends.cudnn.allow_tf32,
        lambda: backends.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision,
        *(lambda part=part: part.fp32_precision for part in new_parts()),
    ):
        try:
            found.append(read())
        except RuntimeError:
            found.append("contradictory")
    return found


def new_parts() -> list:
    """PyTorch's newer switches, from the whole to its parts; there are none before 2.9."""
    backends = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        return []
    cudnn, mkldnn = backends.cudnn, backends.mkldnn
    parts = [cudnn.conv, cudnn.rnn, backends.cuda.matmul, mkldnn.conv, mkldnn.matmul]
    return [backends, cudnn, mkldnn, *parts]


@pytest.fixture
def restored() -> Iterator[None]:
    """Puts PyTorch's switches back, whatever a test has made of them."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    values = [part.fp32_precision for part in new_parts()]
    yield
    torch.backends.cudnn.allow_tf32 = before[0]
    torch.set_float32_matmul_precision(before[1])
    for part, value in zip(new_parts(), values, strict=True):
        part.fp32_precision = value


def set_new(path: str, value: str) -> None:
    owner = torch.backends
    if not new_parts():
        pytest.skip("this PyTorch has no such switch")
    for name in path.split("."):
        owner = getattr(owner, name) if name else owner
    owner.fp32_precision = value


@pytest.mark.parametrize(
    "earlier",
    [
        lambda: None,
        lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
        lambda: setattr(torch.backends.cuda.matmul, "allow_tf32", True),
        lambda: torch.set_float32_matmul_precision("medium"),
        lambda: set_new("", "tf32"),
        lambda: set_new("", "ieee"),
        lambda: set_new("cudnn", "ieee"),
        lambda: set_new("cudnn.conv", "ieee"),
        lambda: set_new("cuda.matmul", "tf32"),
    ],
)
def test_tf32_is_switched_and_switched_back_whatever_was_said_before(earlier, restored):
    earlier()
    before = switches()
    for allowed in (True, False):
        with pytest.raises(KeyError), tf32(allowed):
            word = "tf32" if allowed else "ieee"
            parts = new_parts()[3:6]  # what a GPU computes
            assert [part.fp32_precision for part in parts] == [word] * len(parts)
            told = {value for value in switches()[:2] if isinstance(value, bool)}
            assert told <= {allowed} and (parts or told)
            raise KeyError
        assert switches() == before


@pytest.mark.slow
def test_training_may_round_to_tf32_and_what_judges_it_does_not(
    monkeypatch, mini_voc, tmp_path, restored
):
    """Seen from inside of the network, in one run."""
    asked = []
    real = CamBaseline.forward

    def asking(self, *arguments):
        asked.append((self.training, torch.backends.cudnn.allow_tf32))
        return real(self, *arguments)

    monkeypatch.setattr(CamBaseline, "forward", asking)
    for allowed in (True, False):
        asked.clear()
        name = str(allowed)
        keys = {"TRAIN__NUM_EPOCHS": "0", "TRAIN__PRETRAIN": "0", "TRAIN__TF32": name}
        train(mini_voc, tmp_path, "--run", name, **keys)
        assert set(asked) == {(True, allowed), (False, False)}
        [path] = tmp_path.rglob(f"{name}/environment.yaml")
        environment = yaml.safe_load(path.read_text())
        assert environment["tf32"] is allowed
        assert torch.backends.cudnn.allow_tf32
