"""Added-up tensors against what PyTorch's own profiler sees allocated."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from benchmarks import memory
from benchmarks.accounting import BLOCK, MemoryAccount
from benchmarks.gpu.commands import what_tables_say
from core.config import load_config

CPU = torch.device("cpu")


def test_bytes_alive_and_their_peak():
    with MemoryAccount() as account:
        x = torch.zeros(100, BLOCK // 4)
        assert account.current == 100 * BLOCK
        y = x[10:].view(-1)  # no memory of its own
        del x
        assert account.current == 100 * BLOCK
        torch.ones(3)
        del y
        assert (account.current, account.peak) == (0, 101 * BLOCK)
        account.restart()
        assert account.peak == 0


def small_step() -> None:
    """Forward and backward of layers that take no memory but for their results."""
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Linear(48, 96), nn.BatchNorm1d(96), nn.ReLU(), nn.Dropout(), nn.Linear(96, 64)
    )
    layers(torch.rand(4096, 48)).softmax(dim=1).square().sum().backward()


def profiled_peak(trace: Path) -> int:
    """The peak of `small_step` as the CPU's allocator reports it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        small_step()
    profiler.export_chrome_trace(str(trace))
    events = json.loads(trace.read_text())["traceEvents"]
    events = sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"])
    totals = [event["args"]["Total Allocated"] for event in events]
    before = totals[0] - events[0]["args"]["Bytes"]
    return max(totals) - before


def test_the_peak_is_the_allocators(tmp_path):
    with MemoryAccount() as account:
        small_step()
    assert account.peak == pytest.approx(profiled_peak(tmp_path / "trace.json"), rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["TRAIN.CHECKPOINT", "True"], ["TRAIN.AMP", "bf16"]])
def test_tensors_without_memory_count_as_real_ones(options, thin_vgg16):
    words = ["NET.BACKBONE", "vgg16", "DATASET.CROP_SIZE", "33", "TRAIN.BATCH_SIZE", "2"]
    config = load_config(None, [*words, *options])
    with memory.like_a_gpu(), MemoryAccount() as account:
        memory.take_steps(config, CPU, account.restart)
    assert memory.peak_of_step(config, CPU) == account.peak


@pytest.mark.slow
@pytest.mark.parametrize("amp, most", [("off", 7.4), ("bf16", 4.1)])
def test_eight_views_through_the_widest_network_take_no_more_than_they_did(amp, most):
    """In GiB, of which the weights are half of one."""
    assert most - 0.2 < memory.peak_of_views("resnet38", amp, CPU) / 2**30 < most


@pytest.mark.slow
def test_the_table(monkeypatch, capsys):
    arguments = ["memory", "--device", "cpu", "--backbones", "vgg16"]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(memory, "OPTIONS", [("off", False), ("bf16", True)])
    memory.main()
    text = capsys.readouterr().out
    what, values = zip(*what_tables_say(text), strict=True)
    assert what == ("peak memory, vgg16", "peak memory, vgg16, 8 views of 1024×1024")
    assert values[0].startswith("crop 448, batch 16, neither ")
    steps, views = text.strip().split("\n\n| Backbone, ")
    assert views.splitlines()[-1].startswith("| vgg16 | ")
    source, _, head, _, row = steps.splitlines()
    assert "without allocating" in source
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (head, row)]
    assert cells[0] == ["Backbone", "crop", "batch", "neither", "bf16 + CHECKPOINT"]
    assert cells[1][:3] == ["vgg16", "448", "16"]
    plain, least = map(float, cells[1][3:])
    assert 2 < least < plain / 2 < 6
