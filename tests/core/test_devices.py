"""What is said of the machine: the device, whether it works, and a GPU that cannot be used."""

from __future__ import annotations

import re
import shlex
import sys
from types import SimpleNamespace

import pytest
import torch

from core import devices
from core.devices import (
    describe_devices,
    gpus_used,
    out_of_memory,
    require_working,
    select_device,
    tune_convolutions,
)
from core.distributed import Group, join_group
from utils.errors import UserError

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
PROC = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  {}  Mon Oct  2\nGCC version:  12.3.0\n"


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """Lets a test say what the machine has and what PyTorch is built for."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.version, "hip", None)
    monkeypatch.setattr(devices.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(devices, "DRIVER_FILE", tmp_path / "version")
    monkeypatch.setattr(devices, "CONTROL_FILE", tmp_path / "nvidiactl")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))

    def having(driver=None, cuda="13.0", control=True):
        monkeypatch.setattr(torch.version, "cuda", cuda)
        if driver:
            (tmp_path / "version").write_text(PROC.format(driver))
        if control:
            (tmp_path / "nvidiactl").touch()

    return having


def pip(line):
    """The arguments of the `pip install` that a line asks for; "" if it asks for none."""
    found = re.search(r"(\S+) -m pip install ([^;,]+?)(?: installs| brings|, |$)", line)
    if not found:
        return ""
    assert found[1] == shlex.quote(sys.executable)
    return shlex.join(shlex.split(found[2]))


@pytest.mark.parametrize(
    ("driver", "cuda", "arguments"),
    [
        ("535.104.05", "13.0", "'torch<2.11' torchvision"),
        ("470.199.02", "13.0", ""),
        ("470.199.02", "12.8", ""),
        ("535.104.05", None, "--force-reinstall 'torch<2.11' torchvision"),
        ("580.65.06", None, "--force-reinstall torch torchvision"),
    ],
)
def test_a_driver_or_a_build_that_does_not_fit_is_told_with_one_that_does(
    machine, capsys, driver, cuda, arguments
):
    machine(driver, cuda)
    assert select_device("auto") == CPU
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: on the CPU: ") and driver in line
    assert pip(line) == arguments
    assert arguments or devices.BUILDS_PAGE in line
    with pytest.raises(UserError) as error:
        select_device("cuda")
    assert str(error.value) == line.replace("warning: on the CPU:", "--device cuda:")
    # asked for, the CPU needs no words
    assert select_device("cpu") == CPU
    assert capsys.readouterr().err == ""


def test_a_gpu_that_is_out_of_sight_is_told_by_what_hides_it(machine, monkeypatch, capsys):
    machine("580.65.06", control=False)
    select_device()
    assert "--gpus all" in capsys.readouterr().err
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    select_device()
    assert "CUDA_VISIBLE_DEVICES=7" in capsys.readouterr().err
    for hidden in ("", "-1"):  # on purpose
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        select_device()
        assert capsys.readouterr().err == ""


def test_a_gpu_that_fails_for_other_reasons_is_told_in_pytorchs_words(machine, monkeypatch, capsys):
    def init():
        raise RuntimeError("CUDA unknown error\nand more of it")

    monkeypatch.setattr(torch.cuda, "init", init)
    machine("580.65.06")
    select_device()
    [line] = capsys.readouterr().err.splitlines()
    assert "(CUDA unknown error)" in line


def test_the_driver_is_asked_of_nvidia_smi_where_linux_does_not_tell(machine, tmp_path, capsys):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 535.104\n")
    tool.chmod(0o755)
    machine()
    select_device()
    assert "535.104" in capsys.readouterr().err
    tool.write_text("#!/bin/sh\necho no driver 535.104; exit 9\n")
    select_device()
    assert capsys.readouterr().err == ""


def test_one_process_of_a_machine_warns(machine, monkeypatch, capsys):
    machine("535.104.05")
    monkeypatch.setenv("LOCAL_RANK", "1")
    select_device()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("built", "word"), [(True, "macOS"), (False, "torch torchvision")])
def test_a_macs_gpu_that_is_not_used_is_told(machine, monkeypatch, capsys, built, word):
    machine()
    assert select_device() == CPU
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(devices.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(devices.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
    select_device()
    assert word in capsys.readouterr().err
    with pytest.raises(UserError, match=f"--device mps: .*{word}"):
        select_device("mps")


@pytest.fixture
def gpus(monkeypatch):
    """Two GPUs whose convolutions fail as a test says, computed by the CPU."""
    tried, real = [], torch.ones

    def ones(*size, device=None):
        tried.append(device)
        return real(*size)

    def having(capability, kernels, error=None, fails=(0, 1)):
        def conv2d(images, weight):
            index = tried[-1].index if tried[-1].index is not None else 0
            if error is not None and index in fails:
                raise error
            return torch.zeros(1)

        monkeypatch.setattr(torch, "ones", ones)
        monkeypatch.setattr(torch.nn.functional, "conv2d", conv2d)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old GPU")
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: kernels)
        facts = SimpleNamespace(name="Old GPU", total_memory=8 * 2**30)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: facts)
        monkeypatch.setattr(torch.version, "cuda", "12.8")
        monkeypatch.setattr(torch.version, "hip", None)
        return tried

    return having


NO_KERNEL = RuntimeError("CUDA error: no kernel image is available for execution on the device\nX")
CUDNN = RuntimeError("cuDNN version 92300 is not compatible with devices with SM < 7.5.")
NEW = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_120"]


@pytest.mark.parametrize(
    ("capability", "kernels", "error", "arguments"),
    [
        ((6, 1), NEW, NO_KERNEL, "'torch<2.8' torchvision"),
        ((7, 0), NEW, CUDNN, "'torch<2.8' torchvision"),
        ((3, 7), NEW, NO_KERNEL, ""),
        ((12, 0), ["sm_80", "sm_90"], NO_KERNEL, "--upgrade torch torchvision"),
    ],
)
@pytest.mark.parametrize("name", ["auto", "cuda"])
def test_a_gpu_without_kernels_is_an_error_with_a_build_that_has_them(
    gpus, capsys, name, capability, kernels, error, arguments
):
    gpus(capability, kernels, error)
    with pytest.raises(UserError, match=r"^Old GPU \(sm_\d+\): .*--device cpu$") as caught:
        join_group(name)
    assert pip(str(caught.value)) == arguments
    assert "sm_{}{}".format(*capability) in str(caught.value)
    assert capsys.readouterr().out == "device: Old GPU (8 GiB), CUDA 12.8\n"


def test_a_newer_gpu_than_all_kernels_runs_what_is_compiled_for_it(gpus):
    """From PTX, so that an error is none of missing kernels."""
    gpus((12, 0), ["sm_80", "sm_90", "compute_90"], CUDNN)
    with pytest.raises(UserError, match=r"^cuda: .*CUDA_VISIBLE_DEVICES"):
        join_group("cuda")


@pytest.mark.parametrize("kind", ["cuda", "cpu"])
def test_convolutions_are_tuned_on_gpus_unless_bits_or_sizes_forbid_it(monkeypatch, kind):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", False)
    device = torch.device(kind)
    tune_convolutions(device)
    assert torch.backends.cudnn.benchmark == (kind == "cuda")
    tune_convolutions(device, sizes_vary=True)
    assert not torch.backends.cudnn.benchmark
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    tune_convolutions(device)
    assert not torch.backends.cudnn.benchmark


def test_a_gpu_that_fails_otherwise_is_named_with_the_reason(gpus):
    gpus((8, 6), NEW, RuntimeError("CUDA-capable device(s) is/are busy\nmore"), fails=[1])
    assert join_group("auto") == (Group(), CUDA)
    with pytest.raises(UserError, match=r"^cuda:1: .*busy\).*CUDA_VISIBLE_DEVICES"):
        join_group("auto", spread=True)


def test_a_gpu_that_does_not_even_tell_its_name_ends_in_one_line(gpus, monkeypatch, capsys):
    def busy(device):
        raise RuntimeError("CUDA error: all devices are busy\nmore")

    gpus((8, 6), NEW, RuntimeError("CUDA error: all devices are busy\nmore"))
    for name in ("get_device_properties", "get_device_capability", "get_device_name"):
        monkeypatch.setattr(torch.cuda, name, busy)
    with pytest.raises(UserError, match=r"^cuda: .*are busy\)"):
        join_group("auto")
    assert capsys.readouterr().out == "device: cuda, CUDA 12.8\n"


def test_every_gpu_that_is_used_is_named_and_tried(gpus, capsys):
    tried = gpus((8, 6), NEW)
    join_group("auto", spread=True)
    assert {device.index for device in tried} == {0, 1}
    assert capsys.readouterr().out == "device: 2 × Old GPU (8 GiB), CUDA 12.8\n"
    assert gpus_used(torch.device("cuda", 1), spread=True) == [torch.device("cuda", 1)]


@pytest.mark.parametrize("rank", [0, 1])
def test_in_a_group_the_main_process_names_the_device_for_all(gpus, monkeypatch, capsys, rank):
    tried = gpus((8, 6), NEW)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(torch.distributed, "new_group", lambda *, backend, **__: backend)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    sizes = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "LOCAL_RANK": rank, "RANK": rank}
    for key, value in sizes.items():
        monkeypatch.setenv(key, str(value))
    # what the processes tell each other goes from CPU to CPU, not through GPUs and their queues
    assert join_group("auto") == (Group(rank, 2, "gloo"), torch.device("cuda", rank))
    assert {device.index for device in tried} == {rank}
    expected = "device: Old GPU (8 GiB), CUDA 12.8, for each of 2 processes\n"
    assert capsys.readouterr().out == (expected if rank == 0 else "")


def test_the_cpu_is_named_by_linux_and_needs_no_trial(tmp_path, monkeypatch):
    path = tmp_path / "cpuinfo"
    path.write_text("processor : 0\nmodel name\t: Fast 5000\nmodel name\t: Fast 5000\n")
    monkeypatch.setattr(devices, "CPU_FILE", path)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert describe_devices([CPU]) == "CPU (Fast 5000, 1 thread)"
    path.unlink()
    assert describe_devices([CPU]).startswith("CPU (")
    assert describe_devices([MPS]).startswith("MPS (")
    require_working([CPU])


def test_what_tells_of_memory_that_is_short():
    told = ["CUDNN_STATUS_ALLOC_FAILED", "CUDA error: out of memory", "MPS backend out of memory"]
    assert all(out_of_memory(RuntimeError(f"{text} (more)\nand more")) for text in told)
    assert out_of_memory(torch.cuda.OutOfMemoryError())
    assert not out_of_memory(RuntimeError("shapes do not match"))


def test_memory_is_kept_on_a_cpu_alone(monkeypatch):
    """What glibc's malloc is told; other C libraries have no mallopt, and are told nothing."""
    told = []
    library = SimpleNamespace(mallopt=lambda *option: told.append(option))
    monkeypatch.setattr("core.devices.ctypes.CDLL", lambda _: library)
    devices.keep_memory(torch.device("cuda"))
    assert told == []
    devices.keep_memory(torch.device("cpu"))
    assert told == [(-4, 0), (-1, -1)]  # M_MMAP_MAX: none; M_TRIM_THRESHOLD: never
    monkeypatch.setattr("core.devices.ctypes.CDLL", lambda _: SimpleNamespace())
    devices.keep_memory(torch.device("cpu"))
    assert len(told) == 2
