"""Work spread over processes: all of it, in order, and an end for everything that can go wrong."""

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import UserError
from utils.processes import process_map

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


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_items(workers):
    with process_map(math.factorial, range(9), workers, chunksize=2) as results:
        assert list(results) == [math.factorial(n) for n in range(9)]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_work_arrives(workers):
    with (
        pytest.raises(ValueError, match="negative"),
        process_map(math.factorial, [1, -1], workers, chunksize=1) as results,
    ):
        list(results)


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
    _, error = sleepers.communicate(timeout=60)
    assert sleepers.returncode == 130
    assert error == "interrupted\n"


def test_workers_end_with_a_killed_main_process(sleepers):
    for _ in range(2):
        assert sleepers.stdout.readline()
    sleepers.kill()
    # its end of file comes when no worker holds the pipe any more
    sleepers.communicate(timeout=60)
