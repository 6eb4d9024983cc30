"""The choice of device, and of one GPU or several."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from core.distributed import leave_group, membership, parallelise, place, select_device
from utils.errors import UserError


@pytest.fixture
def machine(monkeypatch):
    """Lets a test say which devices PyTorch finds."""

    def having(*devices):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in devices)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in devices)

    return having


@pytest.mark.parametrize(
    ("devices", "expected"),
    [((), "cpu"), (("mps",), "mps"), (("cuda",), "cuda"), (("cuda", "mps"), "cuda")],
)
def test_auto_takes_the_fastest_there_is(machine, devices, expected):
    machine(*devices)
    assert select_device("auto") == torch.device(expected)


def test_any_device_there_is_can_be_chosen(machine):
    machine("cuda", "mps")
    assert [select_device(name).type for name in ("cpu", "mps", "cuda")] == ["cpu", "mps", "cuda"]


@pytest.mark.parametrize(
    ("name", "there", "here"), [("cuda", "mps", "mps, cpu"), ("mps", "", "cpu")]
)
def test_a_device_that_is_not_there_is_an_error(machine, name, there, here):
    machine(there)
    with pytest.raises(UserError) as error:
        select_device(name)
    assert str(error.value) == f"--device {name}: PyTorch finds none here; available: {here}"


@pytest.mark.parametrize("name", ["gpu", "", "CUDA", "cuda:0"])
def test_an_unknown_device_is_an_error(machine, name):
    machine("cuda")
    with pytest.raises(UserError, match="unknown; choose auto, cuda, mps, cpu"):
        select_device(name)


class Elsewhere(nn.Conv2d):
    """A layer that notes where it is to go, on a machine without such a device."""

    def to(self, device, memory_format):
        self.moved = (device, memory_format)
        return self


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_batch_is_split_over_several_gpus_only(monkeypatch, count):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    layer = Elsewhere(3, 4, 3)
    assert place(layer, torch.device("cuda")) is layer
    model = parallelise(layer, torch.device("cuda"))
    assert layer.moved == (torch.device("cuda"), torch.contiguous_format)
    if count == 1:
        assert model is layer
    else:
        assert isinstance(model, nn.DataParallel) and model.module is layer


@pytest.mark.parametrize("device", ["cpu", "mps"])
def test_other_devices_than_gpus_are_one(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    layer = Elsewhere(3, 4, 3)
    assert parallelise(layer, torch.device(device)) is layer
    assert layer.moved[0] == torch.device(device)


def test_a_gpu_that_is_full_is_named():
    class Large(nn.Conv2d):
        def to(self, device, memory_format):
            raise torch.cuda.OutOfMemoryError

    with pytest.raises(UserError, match=r"no memory left for the network.*--device cpu"):
        parallelise(Large(3, 4, 3), torch.device("cuda"))


def test_the_memory_format_does_not_change_what_is_computed():
    layer, images = nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8)
    expected = layer(images)
    torch.testing.assert_close(parallelise(layer, torch.device("cpu"))(images), expected)


@pytest.mark.parametrize("low_precision", [True, False])
def test_channels_lie_innermost_where_a_gpu_computes_in_16_bits(monkeypatch, low_precision):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    layer = Elsewhere(3, 4, 3)
    parallelise(layer, torch.device("cuda"), low_precision=low_precision)
    expected = torch.channels_last if low_precision else torch.contiguous_format
    assert layer.moved == (torch.device("cuda"), expected)


@pytest.fixture
def group_of_one(tmp_path):
    """A function that joins a group, which is left after the test."""
    address = f"file://{tmp_path / 'meeting'}"
    yield lambda: dist.init_process_group("gloo", address, rank=0, world_size=1)
    leave_group()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (None, None),
        (UserError("a mistake"), UserError),
        (SystemExit(0), SystemExit),
        (RuntimeError("a bug"), RuntimeError),
        (RuntimeError("[gloo] Connection closed by peer"), UserError),
        (dist.DistError("no answer"), UserError),
    ],
)
def test_a_group_is_left_however_the_work_ends(group_of_one, error, expected):
    found = None
    try:
        with membership():
            group_of_one()
            if error is not None:
                raise error
    except BaseException as caught:
        found = type(caught)
    assert found is expected
    assert not dist.is_initialized()


def test_a_group_of_gpus_is_not_left_in_an_error(group_of_one, monkeypatch):
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    with pytest.raises(UserError), membership():
        group_of_one()
        raise UserError("a mistake")
    assert dist.is_initialized()
