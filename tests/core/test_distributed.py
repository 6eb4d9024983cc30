"""The choice of device, and of one GPU or several."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

import core.devices
from core import distributed
from core.devices import select_device
from core.distributed import (
    LAST_WORDS,
    Group,
    interruptible,
    parallelise,
    place,
    process_group,
    rank_zero_speaks_first,
    track_group,
)
from utils.errors import InterruptionError, UserError
from utils.signals import StoppedError, StopRequest

REPOSITORY = Path(__file__).resolve().parents[2]


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
def silences(monkeypatch):
    """How long a process held back what it ends with, each time, without waiting for it."""
    seconds = []
    monkeypatch.setattr(distributed.time, "sleep", seconds.append)
    return seconds


@pytest.mark.parametrize(
    ("error", "expected", "waits"),
    [
        (None, None, False),
        (UserError("a mistake"), UserError, False),
        (SystemExit(0), SystemExit, False),
        (RuntimeError("a bug"), RuntimeError, False),
        (RuntimeError("[gloo] Connection closed by peer"), UserError, True),
        (RuntimeError("Gloo connectFullMesh failed with [gloo] timeout"), UserError, True),
        (dist.DistError("no answer"), UserError, True),
    ],
)
def test_only_the_end_of_another_process_is_not_said_at_once(silences, error, expected, waits):
    found = None
    try:
        with process_group():
            if error is not None:
                raise error
    except BaseException as caught:
        found = type(caught)
    assert found is expected
    assert len(silences) == waits


@pytest.mark.parametrize(("rank", "waits"), [(0, False), (1, True)])
def test_what_all_most_likely_say_is_said_by_the_main_process(silences, rank, waits):
    with pytest.raises(UserError), rank_zero_speaks_first(Group(rank, 2)):
        raise UserError("a mistake")
    assert len(silences) == waits


@pytest.mark.parametrize(("rank", "waits"), [(0, False), (1, True)])
@pytest.mark.parametrize(
    ("gpus", "words"), [(0, "--device cuda: "), (1, "NPROC=2 "), (2, "cuda:.: it fails")]
)
def test_mistakes_about_devices_are_said_by_the_main_process(
    silences, monkeypatch, gpus, words, rank, waits
):
    def fail(devices):
        raise UserError(f"{devices[0]}: it fails")

    monkeypatch.setattr(core.devices, "is_available", lambda kind: kind == "cpu" or gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(distributed, "describe_devices", str)
    monkeypatch.setattr(distributed, "require_working", fail)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, str(rank))
    for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(UserError, match=f"^{words}"):
        distributed.join_group("cuda")
    assert len(silences) == waits


def test_an_interruption_is_left_to_torchrun_to_tell(tmp_path, monkeypatch):
    monkeypatch.delenv(LAST_WORDS, raising=False)
    with pytest.raises(InterruptionError), process_group():
        raise InterruptionError("interrupted", 143)
    monkeypatch.setenv(LAST_WORDS, str(tmp_path / "words"))
    with pytest.raises(SystemExit) as end, process_group():
        raise InterruptionError("interrupted", 143)
    assert end.value.code == 143
    assert (tmp_path / "words").read_text() == "interrupted"


# the main process waits for the other, which is slow to end once it has failed
SLOW_FAILURE = """
import time
from core import distributed
from utils.errors import UserError, run_command

leave = distributed.leave_group

def leave_slowly(*groups):
    leave(*groups)
    time.sleep(1)

def main():
    distributed.leave_group = leave_slowly
    with distributed.process_group():
        group, _ = distributed.join_group("cpu")
        if not group.is_rank_zero:
            raise UserError("the cause")
        group.barrier()

run_command(main)
"""


@pytest.mark.slow
def test_the_cause_is_said_alone_whoever_is_faster(tmp_path):
    script = tmp_path / "job.py"
    script.write_text(SLOW_FAILURE)
    job = subprocess.run(
        [sys.executable, "-m", "core.torchrun", "--standalone", "--nproc-per-node", "2", script],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert job.returncode == 2, job.stderr
    errors = [line for line in job.stderr.splitlines() if line.startswith("error: ")]
    assert errors == ["error: the cause"]
    # an aborted process would say so
    assert "terminate called" not in job.stderr and "Traceback" not in job.stderr


def test_progress_over_a_group_counts_the_images_of_all(monkeypatch):
    seen = []

    def track(items, total, unit, weigh, **shown):
        for item in items:
            seen.append(weigh(item))
            yield item

    monkeypatch.setattr(distributed, "track", track)
    batches = ["abc", "abc", "a"]
    # 11 images in all: the other process has one less than this one's batches would make
    assert list(track_group(batches, 11, Group(0, 2), len, description="")) == batches
    assert seen == [6, 5, 0]
    assert list(track_group(batches, 11, Group(1, 2), len)) == batches
    assert len(seen) == 3


@pytest.mark.parametrize(("came", "status"), [(None, 143), (2, 130)])
def test_a_stop_of_the_group_ends_each_process_with_its_status(came, status):
    def stopped(rank):
        stop = StopRequest()
        stop.signal = came  # None: another process was asked to stop
        with interruptible(stop, Group(rank, 2), lambda: "the same command goes on"):
            raise StoppedError

    with pytest.raises(InterruptionError, match="interrupted; the same command goes on") as first:
        stopped(0)
    assert first.value.status == status
    with pytest.raises(SystemExit) as other:
        stopped(1)
    assert other.value.code == status


@pytest.mark.parametrize("error", [UserError("no"), RuntimeError("no"), KeyboardInterrupt()])
def test_what_is_no_stop_passes_through(error):
    with pytest.raises(type(error)), interruptible(StopRequest(), Group(), str):
        raise error
