"""Work spread over processes: all of it, in order, and an end for everything that can go wrong."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils import processes
from utils.errors import UserError
from utils.processes import available_cpus, process_map

REPOSITORY = Path(__file__).resolve().parents[2]

SLEEPERS = """
import sys, time
from utils.errors import run_command
from utils.processes import process_map

def main():
    with process_map(time.sleep, [0.2] * 1000, 2, chunksize=1) as results:
        print("begun", flush=True)
        for _ in results:
            print("a result", flush=True)

if __name__ == "__main__":
    run_command(main)
"""


@pytest.fixture
def sleepers(tmp_path):
    """A command in a process group of its own whose workers have minutes of work."""
    script = tmp_path / "sleepers.py"
    script.write_text(SLEEPERS)
    process = subprocess.Popen(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def always_spread(monkeypatch):
    monkeypatch.setattr(processes, "FEW_ITEMS", 0)


def test_few_items_need_no_other_process():
    with process_map(own_process, range(processes.FEW_ITEMS), 2, chunksize=16) as results:
        assert set(results) == {os.getpid()}
    with process_map(own_process, range(processes.FEW_ITEMS + 1), 2, chunksize=16) as results:
        assert os.getpid() not in set(results)


def own_process(_):
    return os.getpid()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="not on this system")
def test_cpus_that_may_not_be_used_do_not_count():
    code = (
        "import os; from utils.processes import available_cpus\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(available_cpus())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert done.stdout == b"1\n"
    assert available_cpus() == len(os.sched_getaffinity(0))


@pytest.mark.usefixtures("always_spread")
@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers):
    with process_map(math.factorial, range(9), workers, chunksize=2) as results:
        assert list(results) == [math.factorial(n) for n in range(9)]


@pytest.mark.usefixtures("always_spread")
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_arrives(workers):
    with (
        pytest.raises(ValueError, match="negative"),
        process_map(math.factorial, [1, -1], workers, chunksize=1) as results,
    ):
        list(results)


@pytest.mark.usefixtures("always_spread")
def test_a_worker_that_dies_is_a_line_for_the_user():
    with (
        pytest.raises(UserError, match="worker process died"),
        process_map(os._exit, [1], 2, chunksize=1) as results,
    ):
        list(results)


@pytest.mark.parametrize("lines", [1, 2], ids=["while workers start", "while they work"])
def test_ctrl_c_ends_all_processes_in_one_line(sleepers, lines):
    for _ in range(lines):
        assert sleepers.stdout.readline()
    os.killpg(sleepers.pid, signal.SIGINT)
    _, error = sleepers.communicate(timeout=300)
    assert sleepers.returncode == 130
    assert error == "interrupted\n"


def test_workers_end_with_a_killed_main_process(sleepers):
    for _ in range(2):
        assert sleepers.stdout.readline()
    sleepers.kill()
    # its end of file comes when no worker holds the pipe any more
    sleepers.communicate(timeout=300)


def test_no_room_for_the_locks_of_processes(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(processes, "ProcessPoolExecutor", full)
    with pytest.raises(UserError, match=r"No space left.*; give --workers 0$"):
        processes.process_pool(2, "give --workers 0")
