"""The frame of the benchmarks: what it measures, what it refuses, what it writes."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import __main__ as command
from benchmarks import bf16_cases, growth
from benchmarks.case import Case, largest_difference
from benchmarks.measure import FEWEST, DifferentResultsError, measure
from benchmarks.meters import python_peak, tensor_peak
from benchmarks.report import line
from utils.errors import UserError

KEYS = [
    *("case", "baseline_s", "ours_s", "ratio", "target", "baseline_mb", "ours_mb", "difference"),
    *("gflop", "peak_share"),
]


def ones_case() -> Case:
    """Both sides give the same, the straightforward one by way of ten times the memory."""
    return Case(
        "ones",
        baseline=lambda: torch.ones(10, 25_000).mean(dim=0),
        ours=lambda: torch.ones(25_000),
        tolerance=1e-6,
        target=2,
    )


def test_a_row_of_equal_sides():
    row = measure(ones_case(), budget=0)
    assert (row.case, row.target, row.difference) == ("ones", 2, 0)
    assert row.ratio == row.baseline_s / row.ours_s > 0
    assert row.ours_mb == pytest.approx(0.1, rel=0.01)
    assert row.baseline_mb == pytest.approx(1.1, rel=0.01)


@pytest.mark.parametrize("before", [True, False])
def test_a_case_computes_without_tf32_and_changes_no_switch(monkeypatch, before):
    """Whatever the cases before it did, and whatever PyTorch's default is."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", before)
    found = []

    def asks() -> torch.Tensor:
        found.append(torch.backends.cudnn.allow_tf32)
        return torch.ones(3)

    measure(replace(ones_case(), baseline=asks, ours=asks), budget=0)
    assert not any(found) and torch.backends.cudnn.allow_tf32 == before


@pytest.mark.parametrize("wrong", [1.1, math.nan])
def test_different_results_are_no_row(wrong):
    case = replace(ones_case(), ours=lambda: torch.full((25_000,), wrong))
    with pytest.raises(DifferentResultsError, match="ones: results differ by"):
        measure(case, budget=0)


def test_the_work_of_a_network_is_beside_its_row():
    matrix = torch.rand(64, 64)
    case = Case("product", lambda: matrix @ matrix, lambda: matrix @ matrix, 0, repetitions=1)
    assert measure(case, budget=0).gflop is None
    row = measure(replace(case, precision=torch.float32), budget=0)
    assert row.gflop == pytest.approx(2 * 64**3 / 1e9)
    assert row.peak_share > 0
    assert line(row).endswith(f" GFLOP, {row.peak_share:.0%} |")


def test_cases_in_16_bits_are_left_out_without_units_for_them(monkeypatch):
    for native in (True, False):
        monkeypatch.setattr(bf16_cases, "multiplies_bf16", lambda _, native=native: native)
        assert bf16_cases.cases_here() == (bf16_cases.CPU_CASES if native else {})


def test_sides_take_turns():
    calls = []
    case = Case("turns", lambda: calls.append("baseline"), lambda: calls.append("ours"), 0)
    measure(replace(case, difference=lambda *_: 0.0), budget=0)
    assert calls == ["baseline", "ours"] * (1 + FEWEST)


def test_a_baseline_on_a_sample_is_scaled_and_checked_by_another_pair():
    case = replace(ones_case(), check=(lambda: 3.0, lambda: 3.5), baseline_scale=1e6, tolerance=1)
    row = measure(case, budget=0)
    assert row.difference == 0.5
    assert row.baseline_s > 1  # a million times some microseconds


def test_differences_of_nested_results():
    expected = {"a": [torch.tensor([1, 2]), np.array([[0.5]])], "b": (True, 7)}
    found = {"a": [torch.tensor([1, 4]), np.array([[0.25]])], "b": (True, 7)}
    assert largest_difference(found, expected) == 2
    with pytest.raises(ValueError, match="shapes"):
        largest_difference(torch.ones(2, 1), torch.ones(2))
    with pytest.raises(ValueError, match="results of"):
        largest_difference({"a": 1}, {"b": 1})


def test_meters():
    result, peak = tensor_peak(lambda: torch.zeros(1000, 1000).sum())
    assert result == 0 and peak == pytest.approx(4e6, rel=0.01)
    result, peak = python_peak(lambda: int(np.zeros((1000, 1000), np.float32).sum()))
    assert result == 0 and peak == pytest.approx(4e6, rel=0.01)


def run(monkeypatch, *arguments: object) -> None:
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
    monkeypatch.setattr(command, "BUDGET", 0)
    wrong = replace(ones_case(), name="wrong", ours=lambda: torch.zeros(25_000))
    builders = {"ones": lambda _: ones_case(), "wrong": lambda _: wrong}
    monkeypatch.setattr(command, "CASES", {"cpu": builders})
    try:
        command.main()
    finally:
        torch.set_num_threads(threads)


def test_the_command_prints_a_table_and_writes_rows(monkeypatch, capsys, tmp_path):
    run(monkeypatch, "--only", "ones", "--json", tmp_path / "rows.json", "--threads", 1)
    machine, _, _, _, row = capsys.readouterr().out.strip().splitlines()
    assert torch.__version__ in machine and "1 threads" in machine
    assert row.startswith("| ones | ") and "| 2× |" in row
    (written,) = json.loads((tmp_path / "rows.json").read_text())
    assert list(written) == KEYS


def test_a_case_that_differs_fails_after_the_others(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="wrong: results differ by 1,") as end:
        run(monkeypatch)
    assert end.value.code not in (0, None)
    assert "| ones |" in capsys.readouterr().out


def test_mistakes_are_told(monkeypatch):
    with pytest.raises(UserError, match="--only twos: unknown; choose from ones, wrong"):
        run(monkeypatch, "--only", "twos")
    with pytest.raises(UserError, match="--threads 0"):
        run(monkeypatch, "--threads", 0)
    with pytest.raises(UserError, match="leave --only out"):
        run(monkeypatch, "--only", "ones", "--readme")


def test_the_table_in_the_readme(monkeypatch, tmp_path):
    before = Path(command.README).read_text()
    assert before.count("<!-- table of cpu: begin -->") == 1
    readme = tmp_path / "README.md"
    readme.write_text("A\n<!-- table of cpu: begin -->\nold\n<!-- table of cpu: end -->\nB\n")
    row = measure(ones_case(), budget=0)
    for _ in range(2):  # the second time over the first table
        command.write_readme(readme, [row], torch.device("cpu"))
    text = readme.read_text()
    assert text.startswith("A\n<!-- table of cpu: begin -->\n") and text.endswith("-->\nB\n")
    assert "old" not in text and text.count("| ones |") == 1
    readme.write_text("A\n")
    with pytest.raises(UserError, match="lacks the lines"):
        command.write_readme(readme, [row], torch.device("cpu"))


def test_a_table_that_could_not_be_kept_is_not_measured(monkeypatch, capsys, tmp_path):
    with pytest.raises(UserError, match="--json"):
        run(monkeypatch, "--only", "ones", "--json", tmp_path)
    monkeypatch.setattr(command, "README", tmp_path / "README.md")
    command.README.write_text("A\n")
    with pytest.raises(UserError, match="lacks the lines"):
        run(monkeypatch, "--readme")
    monkeypatch.setattr(sys, "argv", ["growth", "--output", str(tmp_path)])
    monkeypatch.setattr(growth, "find_spec", lambda _: True)
    with pytest.raises(UserError, match="--output"):
        growth.main()
    assert capsys.readouterr().out == ""
