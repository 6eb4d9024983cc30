"""Progress on a terminal and in a log."""

import sys
import time

import pytest

from utils.progress import track


@pytest.fixture(params=[False, True], ids=["log", "terminal"])
def either(request, monkeypatch):
    """A test with this runs in a log and on a terminal."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: request.param, raising=False)


@pytest.fixture
def clock(monkeypatch):
    """A clock that moves by a quarter of a second with every item, and never on its own."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def tick():
        now[0] += 0.25

    return tick


def lines(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err.splitlines()


def test_a_log_has_a_line_for_every_few_items_and_for_the_last(capsys, clock):
    for _ in track(range(7), 7, "step", "epoch 3", every=3):
        clock()
    assert lines(capsys) == [
        "epoch 3: 3/7, 4.00 step/s, 1 s left",
        "epoch 3: 6/7, 4.00 step/s, 0 s left",
        "epoch 3: 7/7, 4.00 step/s, 0 s left",
    ]


def test_the_status_is_that_after_the_item(capsys, clock):
    seen = []
    for item in track("abc", 3, "letter", "reading", every=2, status=lambda: f"seen {seen}"):
        seen.append(item)
        clock()
    assert lines(capsys) == [
        "reading: 2/3, 4.00 letter/s, 0 s left, seen ['a', 'b']",
        "reading: 3/3, 4.00 letter/s, 0 s left, seen ['a', 'b', 'c']",
    ]


@pytest.mark.usefixtures("clock")
def test_a_clock_that_has_not_moved(capsys):
    assert list(track([1], 1, "step", "work")) == [1]
    assert lines(capsys)[0].startswith("work: 1/1, ")


def test_nothing_to_do_in_a_log(capsys):
    assert list(track([], 0, "step", "work")) == []
    assert lines(capsys) == []


def test_a_terminal_has_a_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    seen = []
    for item in track(range(3), 3, "image", "inference", status=lambda: f"seen {seen}"):
        seen.append(item)
    bar = lines(capsys)[-1]
    assert bar.startswith("inference: 100%") and "3/3" in bar and "image" in bar
    assert "seen [0, 1, 2]" in bar


@pytest.mark.usefixtures("either")
def test_items_pass_through_one_by_one_unchanged():
    made = []

    def source():
        for _ in range(3):
            made.append(object())
            yield made[-1]

    for count, item in enumerate(track(source(), 3, "thing", "making"), start=1):
        assert item is made[-1] and len(made) == count
    assert count == 3


@pytest.mark.usefixtures("either")
def test_a_consumer_that_stops_early_closes_the_source(capsys):
    closed = []

    def source():
        try:
            yield from range(4)
        finally:
            closed.append(True)

    for item in track(source(), 4, "step", "work", every=1):
        if item == 1:
            break
    assert closed == [True]
    shown = capsys.readouterr().err
    assert "1/4" in shown and "4/4" not in shown


@pytest.mark.usefixtures("either")
def test_an_error_of_the_source_passes_through(capsys):
    def source():
        yield 1
        raise ValueError("no more")

    with pytest.raises(ValueError, match="no more"):
        list(track(source(), 2, "step", "work", every=1))
    shown = capsys.readouterr().err
    assert "1/2" in shown and "2/2" not in shown
