"""Progress on a terminal and in a log."""

import sys
import time

import pytest

from utils.progress import track, track_bytes


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


@pytest.fixture
def seconds(monkeypatch):
    """A clock that moves by so many seconds as a test lets pass."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def wait(count):
        now[0] += count

    return wait


def test_bytes_in_a_log_have_a_line_every_ten_seconds_and_one_at_the_end(capsys, seconds):
    with track_bytes(1_907_000_000, "VOC 2012", start=500_000_000) as advance:
        for _ in range(7):
            seconds(4)
            advance(40_000_000)
    assert lines(capsys) == [
        "VOC 2012: 620/1907 MB, 10.00 MB/s, 129 s left",
        "VOC 2012: 740/1907 MB, 10.00 MB/s, 117 s left",
        "VOC 2012: 780/1907 MB, 10.00 MB/s, 113 s left",
    ]


def test_bytes_of_no_known_total(capsys, seconds):
    with track_bytes(None, "SBD") as advance:
        seconds(2)
        advance(30_000_000)
    assert lines(capsys) == ["SBD: 30 MB, 15.00 MB/s"]


def test_more_bytes_than_the_total_leave_no_time(capsys, seconds):
    with track_bytes(10_000_000, "SBD") as advance:
        seconds(1)
        advance(20_000_000)
    assert lines(capsys) == ["SBD: 20/10 MB, 20.00 MB/s, 0 s left"]


def test_no_bytes_in_a_log(capsys, seconds):
    with track_bytes(0, "empty") as advance:
        seconds(20)
        advance(0)
    assert lines(capsys) == []


def test_bytes_that_end_in_an_error_have_no_last_line(capsys, seconds):
    with pytest.raises(ValueError, match="no more"), track_bytes(100, "work") as advance:
        seconds(1)
        advance(50)
        raise ValueError("no more")
    assert lines(capsys) == []


@pytest.mark.parametrize("total", [2_000_000, None])
def test_bytes_on_a_terminal_have_a_bar(capsys, monkeypatch, total):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with track_bytes(total, "VOC 2012", start=500_000) as advance:
        advance(750_000)
    bar = lines(capsys)[-1]
    assert "VOC 2012: " in bar and "1.25M" in bar and "B/s" in bar
    assert ("62%" in bar) == (total is not None)
