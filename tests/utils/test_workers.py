"""Processes at the end of pipes: order, errors, and whatever befalls one of them."""

from __future__ import annotations

import os
import signal
from functools import partial
from multiprocessing.process import BaseProcess

import numpy as np
import pytest

from utils.errors import UserError
from utils.workers import Workers

REMEDY = "take fewer"


def workers(function, count=2, prepare=object):
    return Workers(function, count, "adds up", REMEDY, prepare)


def answer(number: int) -> object:
    """A large array of the number; some numbers end otherwise."""
    if number == 1:
        raise UserError("image a.jpg is gone")
    if number == 2:
        raise MemoryError("no room")
    if number == 3:
        raise type("Local", (Exception,), {})("cannot be pickled")
    if number == 4:
        return lambda: None  # nor can this
    if number == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    if number == 6:
        raise SystemExit(7)
    return np.full((500, 1000), number)


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_order_and_processes_end(count):
    with workers(answer, count) as pool:
        numbers = list(range(10, 20))
        assert [int(found[0, 0]) for found in pool.map(numbers)] == numbers
        assert list(pool.map([])) == []
        processes = [worker.process for worker in pool._workers]
        assert len(processes) == count
    assert not any(process.is_alive() for process in processes)


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (1, UserError, "a.jpg is gone"),
        (2, MemoryError, "no room"),
        (3, RuntimeError, "Local: cannot be pickled"),
        (4, Exception, "lambda"),
    ],
)
def test_an_error_is_raised_here_with_its_traceback(number, kind, words):
    with workers(answer) as pool:
        results = pool.map([10, number, 11])
        assert next(results)[0, 0] == 10
        with pytest.raises(kind, match=words) as raised:
            next(results)
        assert "in _answer" in str(raised.value.__cause__)


@pytest.mark.parametrize(("number", "how"), [(5, "SIGKILL"), (6, "exit status 7")])
def test_a_process_that_dies_is_told_of(number, how):
    with workers(answer) as pool:
        results = pool.map([10, number, 11, 12, 13])
        next(results)
        with pytest.raises(
            UserError, match=rf"a process that adds up died \({how}\).*{REMEDY}"
        ) as e:
            next(results)
        assert ("want of memory" in str(e.value)) == (how == "SIGKILL")


def test_one_that_is_killed_in_the_middle_of_a_result():
    """More than a pipe holds: the rest never comes, though other processes live."""
    with workers(answer) as pool:
        results = pool.map([10, 11, 12, 13])
        next(results)
        following = pool._workers[1]
        assert following.connection.poll(60)  # it has begun to send
        following.process.kill()
        following.process.join()
        with pytest.raises(UserError, match="SIGKILL"):
            next(results)


def test_one_that_dies_idle_is_told_of_when_it_is_asked():
    with workers(answer, 1) as pool:
        pool._workers[0].process.kill()
        pool._workers[0].process.join()
        with pytest.raises(UserError, match="SIGKILL"):
            list(pool.map([10]))


def test_no_room_for_another_process(monkeypatch):
    start, started = BaseProcess.start, []

    def limited(process):
        if started:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        started.append(process)
        start(process)

    monkeypatch.setattr(BaseProcess, "start", limited)
    with pytest.raises(UserError, match=f"cannot start .* unavailable.*{REMEDY}"):
        workers(answer)
    assert not started[0].is_alive()


def test_it_is_prepared_first():
    with workers(os.environ.get, 1, partial(os.environ.__setitem__, "OF_A_WORKER", "x")) as pool:
        assert list(pool.map(["OF_A_WORKER"])) == ["x"]
    assert "OF_A_WORKER" not in os.environ
