"""Inference that is killed, stopped or shared by processes ends with the same files."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from forked import Forked
from inference_command import (
    infer,
    make_workplace,
    refusal,
    results_of,
    start,
    start_pair,
    start_torchrun,
)
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from core import torchrun
from core.distributed import LAST_WORDS

IMAGES = 12
ALL = ("--save-probabilities", "--page")
GO_ON = (*ALL, "--skip-existing")


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_workplace(tmp_path_factory.mktemp("survival"), IMAGES)


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """What an uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    infer(place, folder, *ALL)
    results = results_of(folder)
    # ID.png, crf, vis, prob and page, and index.html
    assert len(results) == 5 * IMAGES + 1
    return results


def wait_for(process: Forked, folder: Path, pattern: str = "*.png", count: int = 1) -> None:
    """Until there are so many files, as masks."""
    while len(list(folder.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_like_the_uninterrupted_run(place, whole, tmp_path):
    chance = random.Random(3)
    for processes in (1, 2):
        there = len(list(tmp_path.glob("*.png")))
        begin = start_pair if processes == 2 else lambda *words: [start(*words)]
        started = begin(place, tmp_path, *GO_ON)
        try:
            wait_for(started[0], tmp_path, count=there + chance.randint(1, 3))
            time.sleep(chance.uniform(0, 0.2))
        finally:
            for process in started:
                process.kill()
                process.__exit__()
    done = infer(place, tmp_path, *GO_ON)
    assert f" of {IMAGES} images have their results and are skipped" in done.stdout
    assert results_of(tmp_path) == whole
    again = infer(place, tmp_path, *GO_ON)
    assert f"{IMAGES} of {IMAGES} images have their results" in again.stdout
    assert "images of list.txt" not in again.stdout


@pytest.mark.parametrize(
    ("sent", "begin"),
    [
        (signal.SIGINT, start),
        pytest.param(signal.SIGTERM, start, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, start_torchrun, marks=pytest.mark.slow),
    ],
)
def test_a_signal_ends_it_with_one_line(place, whole, tmp_path, sent, begin):
    with begin(place, tmp_path, *ALL) as process:
        wait_for(process, tmp_path, count=2)
        process.send_signal(sent)
        out, err = process.communicate()
    assert process.returncode == 128 + sent, out + err
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if line.startswith("interrupted")]
    assert "--skip-existing" in line
    there = results_of(tmp_path)
    if begin is start_torchrun:
        # torchrun's signal reaches the processes that write too; what they leave has other names
        there = {name: there[name] for name in there if not name.endswith(".tmp")}
    assert there.items() <= whole.items()
    masks = {name for name in there if "/" not in name}
    assert 2 <= len(masks) < IMAGES

    done = infer(place, tmp_path, *GO_ON)
    assert f"{len(masks)} of {IMAGES} images have their results" in done.stdout
    assert f"{IMAGES - len(masks)} images of list.txt, on cpu" in done.stdout
    assert results_of(tmp_path) == whole
    # what made each part is kept
    assert (tmp_path / "environment.yaml").is_file()
    assert (tmp_path / f"environment_from_{len(masks):05d}.yaml").is_file()


def ends_of(pair: list[Forked]) -> list[tuple[int | None, str, str]]:
    """Status, stdout and stderr of both."""
    ends = []
    for process in pair:
        with process:
            out, err = process.communicate()
        ends.append((process.returncode, out, err))
    return ends


@pytest.mark.slow
def test_two_processes_share_the_images(place, whole, tmp_path):
    first, second = ends_of(start_pair(place, tmp_path, *ALL))
    assert first[0] == second[0] == 0, (first, second)
    assert results_of(tmp_path) == whole
    assert f"{IMAGES} images of list.txt, on 2 processes with cpu" in first[1]
    assert first[2].count(f"{IMAGES}/{IMAGES}") == 1
    assert second[1:] == ("", "")

    first, second = ends_of(start_pair(place, tmp_path, "--skip-existing"))
    assert first[0] == second[0] == 0, (first, second)
    assert first[1].count("are skipped") == 1 and "images of list.txt" not in first[1]
    assert second[1:] == ("", "")


def test_several_processes_say_a_mistake_once(place, tmp_path):
    mistake = ("--set", "TEST.NUM_CLASSES", "20")
    first, second = ends_of(start_pair(place, tmp_path, *mistake))
    assert first[0] == 2 and first[2].count("TEST.NUM_CLASSES") == 1
    assert second == (0, "", "")
    assert results_of(tmp_path) == {}


def test_of_a_killed_process_torchrun_says_that_alone(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv(LAST_WORDS, "restored after the test")

    def run(_options):
        # torchrun's signal interrupts the others; what they would say goes to a file
        Path(os.environ[LAST_WORDS]).write_text("interrupted")
        failure = ProcessFailure(local_rank=1, pid=1, exitcode=-signal.SIGKILL, error_file="")
        raise ChildFailedError("infer_val.py", {1: failure})

    monkeypatch.setattr(torchrun, "run", run)
    assert torchrun.main(["--standalone", "infer_val.py"]) == 128 + signal.SIGKILL
    assert capsys.readouterr().err == "process 1 was killed by signal 9\n"


@pytest.mark.slow
def test_an_image_that_fails_in_another_process_ends_the_job(tmp_path):
    place, results = make_workplace(tmp_path, IMAGES), tmp_path / "results"
    with start_torchrun(place, results) as job:
        wait_for(job, results, "results.json")
        # it was there when rank 0 looked; the other process comes to it last
        (place / f"image{IMAGES - 1}.jpg").unlink()
        _, err = job.communicate()
    assert job.returncode == 2, err
    # nothing of rank 0, which is ended for the other's sake in the middle of its work
    [error] = [line for line in err.splitlines() if line.startswith(("error: ", "interrupted"))]
    assert f"image{IMAGES - 1}.jpg" in error
    assert "Traceback" not in err


def test_one_process_at_a_time(place, tmp_path):
    with start(place, tmp_path) as process:
        wait_for(process, tmp_path)
        message = refusal(infer(place, tmp_path, "--skip-existing", status=2))
        process.kill()
    assert "another inference is at work on" in message
