"""The check of a GPU: what it makes of its sections, and that they run on the CPU, if tiny."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu_check
from benchmarks.file_cases import on_one_thread
from benchmarks.gpu import profiling
from benchmarks.gpu.check import Check
from benchmarks.gpu.commands import what_a_line_says
from benchmarks.gpu.findings import Finding, decode
from benchmarks.gpu.processes import ROOT, Outcome, SectionProcess
from benchmarks.gpu.sections import ALONE, FIRST, LANES, SECTIONS
from benchmarks.gpu.steps import training_step
from benchmarks.measure import Row
from benchmarks.report import head, line
from benchmarks.training_cases import Step, step_config
from utils.errors import UserError

CPU = torch.device("cpu")
FOUND = Finding("pamr", "  one iteration", "1.2 ms", ok=True)


def python(script: str) -> list[str]:
    return [sys.executable, "-S", "-c", script]


def test_findings_survive_the_way_between_processes():
    for ok in (True, False, None):
        finding = Finding("pamr", "  one | two", "ä", ok)
        assert decode(finding.encoded() + "\n") == finding
    encoded = FOUND.encoded()
    for other in ("", "ROW ", "ROW []", "ROW {}", encoded[:-1], FOUND.text()):
        assert decode(other) is None
    assert FOUND.table_line() == "| pamr | one iteration | 1.2 ms | ok |"


def test_a_section_that_crashes_is_reported():
    script = f"print({FOUND.encoded()!r}); print('last words', flush=True); import os; os._exit(3)"
    outcome = SectionProcess("pamr", python(script)).finish(60)
    assert outcome.findings == [FOUND, Finding("pamr", "the section", "exit status 3", ok=False)]
    assert outcome.text.startswith("last words\n") and FOUND.encoded() not in outcome.text


def test_a_section_that_hangs_is_killed_with_all_that_it_has_started():
    # whoever holds the pipe open would keep finish() waiting
    section = SectionProcess("pamr", ["sh", "-c", "sleep 300 & sleep 300"])
    outcome = section.finish(0.1)
    assert section.process.returncode == -9
    assert [(each.what, each.ok) for each in outcome.findings] == [("the section", False)]
    assert outcome.findings[0].result.startswith("killed after")


def run(monkeypatch, scripts: dict[str, str], *more: object) -> int:
    """Run the check with these in place of its sections; returns the exit status."""
    words = ["--device", "cpu", "--only", *scripts, *more]
    monkeypatch.setattr(sys, "argv", ["gpu_check", *map(str, words)])
    monkeypatch.setattr(gpu_check.Session, "_command", lambda _, name: python(scripts[name]))
    try:
        gpu_check.main()
    except SystemExit as end:
        return end.code
    return 0


def prints(*findings: Finding) -> str:
    return "".join(f"print({finding.encoded()!r});" for finding in findings) or "pass"


def test_the_report_and_the_rows(monkeypatch, tmp_path, capsys):
    good = [FOUND, Finding("machine", "GPU", "none")]
    scripts = {"machine": prints(good[1]), "golden": prints(), "pamr": prints(good[0])}
    assert run(monkeypatch, scripts, "--out", tmp_path / "a") == 0
    rows = json.loads((tmp_path / "a/results.json").read_text())
    assert rows == [
        {"section": "machine", "what": "GPU", "result": "none", "ok": None},
        {"section": "pamr", "what": "  one iteration", "result": "1.2 ms", "ok": True},
    ]
    text = (tmp_path / "a/report.txt").read_text()
    assert text == capsys.readouterr().out
    assert text.endswith("| machine | GPU | none |  |\n| pamr | one iteration | 1.2 ms | ok |\n")


@pytest.mark.parametrize(
    "script, budget",
    [
        (prints(Finding("pamr", "PAMR", "off by 1", ok=False)), 480),
        ("raise SystemExit(1)", 480),
        (prints(FOUND), 1),  # too few seconds for any section
    ],
)
def test_what_is_not_as_it_should_be_ends_in_status_1(monkeypatch, tmp_path, script, budget):
    out = tmp_path / "out"
    assert run(monkeypatch, {"pamr": script}, "--out", out, "--budget", budget) == 1
    assert [row["ok"] for row in json.loads((out / "results.json").read_text())] == [False]


@pytest.mark.parametrize("name, following", [("machine", "golden"), ("golden", "options")])
def test_an_interrupted_check_takes_its_sections_along(monkeypatch, tmp_path, name, following):
    interrupt = f"import os, time; os.kill({os.getpid()}, 2); time.sleep(300)"
    touch = f"open({str(tmp_path / 'next')!r}, 'w')"
    with pytest.raises(KeyboardInterrupt):  # at once: the check waits for what it has not killed
        run(monkeypatch, {name: interrupt, following: touch}, "--out", tmp_path / "out")
    assert not (tmp_path / "next").exists()
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert not any(timer.is_alive() for timer in timers)


def test_an_interrupt_is_noticed_where_it_wakes_nobody(monkeypatch, tmp_path):
    """As one that comes just before the main thread waits: here another thread takes it."""

    class Interrupted(SectionProcess):
        def finish(self, limit: float) -> Outcome:
            time.sleep(0.1)  # the main thread waits by then
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            return super().finish(20)

    monkeypatch.setattr(gpu_check, "SectionProcess", Interrupted)
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        scripts = {"golden": "import time; time.sleep(300)", "options": "pass"}
        run(monkeypatch, scripts, "--out", tmp_path / "out")
    assert time.monotonic() - begin < 15


def test_mistakes_are_told(monkeypatch, tmp_path):
    (tmp_path / "report.txt").write_text("an earlier one")
    with pytest.raises(UserError, match="give a new folder"):
        run(monkeypatch, {"pamr": prints()}, "--out", tmp_path)
    assert (tmp_path / "report.txt").read_text() == "an earlier one"
    with pytest.raises(UserError, match="another folder with --out"):
        run(monkeypatch, {"pamr": prints()}, "--out", tmp_path / "report.txt")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="--device cuda"):
        run(monkeypatch, {"pamr": prints()}, "--device", "cuda", "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_every_section_is_there_and_runs_once():
    assert sorted([*FIRST, *sum(LANES, ()), *ALONE]) == sorted(SECTIONS)
    for section in SECTIONS.values():
        assert callable(section.load())


def test_an_exception_costs_a_row_and_no_section(tmp_path, capsys):
    check = Check("pamr", CPU, True, tmp_path)
    with check.guarded("PAMR"):
        raise RuntimeError("two\nlines")
    check.row("next", "1 ms")
    findings = [decode(text) for text in capsys.readouterr().out.splitlines()]
    assert [finding for finding in findings if finding] == [
        Finding("pamr", "PAMR", "RuntimeError: two lines", ok=False),
        Finding("pamr", "next", "1 ms"),
    ]


class FakeEvent:
    """A moment on a stream that nothing runs on."""

    def __init__(self, enable_timing: bool) -> None:
        self.recorded = False

    def record(self) -> None:
        self.recorded = True

    def elapsed_time(self, end: FakeEvent) -> float:
        assert self.recorded and end.recorded
        return 2.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_where_a_steps_time_goes(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", lambda _: None)
    for steps in ("TAKEN", "PROFILED"):
        monkeypatch.setattr(profiling, steps, 1)
    check = Check("launches", CPU, True, tmp_path)

    def explain() -> Step:
        step = training_step(step_config("vgg16"), CPU, 1, 17)
        profiling._phases(check, step, "float32")
        profiling._profile(check, step, "float32")
        profiling._waits(check, step)
        return step

    step = on_one_thread(explain)()
    rows = [found for text in capsys.readouterr().out.splitlines() if (found := decode(text))]
    assert [row.what.removeprefix("float32: ") for row in rows] == [
        "before the layers",
        "layers",
        "supervise, before PAMR",
        "PAMR",
        "supervise, after PAMR",
        "losses",
        "backward",
        "optimizer",
        "means",
        "PAMR's share of a step",
        "kernels",
        "kernels under 8 us",
        "places where the host waits, in a step",
    ]
    assert rows[0].result.startswith("2.50 ms on the GPU's stream")
    assert "run_dense" not in vars(step.network)  # what was marked is as before


@pytest.mark.parametrize(
    "device, capability, tiny, judged",
    [
        ("cuda", (9, 0), False, [False, False]),
        ("cuda", (8, 0), False, [None, False]),
        ("cuda", (9, 0), True, [None, None]),
        ("cpu", (9, 0), False, [None, None]),
    ],
)
def test_targets_are_judged_where_they_apply(
    monkeypatch, tmp_path, device, capability, tiny, judged
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    check = Check("wrn38", torch.device(device), tiny, tmp_path)
    found = [check.meets("110 ms", False, anywhere=anywhere) for anywhere in (False, True)]
    assert [ok for _, ok in found] == judged
    assert [told.endswith("MISSED") for told, _ in found] == [ok is False for ok in judged]


def test_the_benchmarks_rows_are_read():
    assert what_a_line_says(line(Row("PAMR", 2.0, 0.5, 4.0, 3, 1.0, 1.0, 1e-6))) == (
        "PAMR",
        "2.00 s -> 500 ms, 4.0× (target 3×), off by 1e-06",
    )
    for other in (*head().splitlines(), "a machine; PyTorch", "", "| a | b |"):
        assert what_a_line_says(other) is None


@pytest.mark.slow
def test_a_tiny_check_on_the_cpu(tmp_path):
    sections = ["machine", "golden", "pamr", "pooling", "inference"]
    out = tmp_path / "out"
    # as a file, from anywhere; each section's limit is four times that on a GPU
    words = ["--device", "cpu", "--tiny", "--only", *sections, "--budget", "1500", "--out", out]
    done = subprocess.run(
        [sys.executable, ROOT / "benchmarks/gpu_check.py", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((out / "results.json").read_text())
    assert {row["section"] for row in rows} == set(sections)
    assert [row for row in rows if row["ok"] is False] == []
    judged = {row["section"] for row in rows if row["ok"]}
    assert judged == {"golden", "pamr"}
    assert done.stdout == Path(out / "report.txt").read_text()
    assert done.stdout.count("\n| ") == 1 + len(rows)
