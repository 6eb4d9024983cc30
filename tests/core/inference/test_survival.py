"""Inference that is killed, stopped or shared by processes ends with the same files."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from child_processes import children_of
from inference_command import infer, make_workplace, refusal, results_of, start

TWO = ("-m", "core.torchrun", "--standalone", "--nproc-per-node", "2")
IMAGES = 24


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    return make_workplace(tmp_path_factory.mktemp("survival"), IMAGES)


@pytest.fixture(scope="module")
def whole(place, tmp_path_factory):
    """What an uninterrupted run leaves."""
    folder = tmp_path_factory.mktemp("whole")
    with start(place, folder, "--save-probabilities") as process:
        _, err = process.communicate()
    assert process.returncode == 0, err
    results = results_of(folder)
    assert len(results) == 4 * IMAGES
    return results


def wait_for(process: subprocess.Popen, folder: Path, count: int) -> None:
    """Until there are so many masks."""
    while len(list(folder.glob("*.png"))) < count:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def test_killed_at_random_moments_it_ends_like_the_uninterrupted_run(place, whole, tmp_path):
    go_on = ("--save-probabilities", "--skip-existing")
    chance = random.Random(3)
    for _ in range(3):
        with start(place, tmp_path, *go_on) as process:
            there = len(list(tmp_path.glob("*.png")))
            wait_for(process, tmp_path, there + chance.randint(1, 5))
            time.sleep(chance.uniform(0, 0.3))
            process.kill()
    done = infer(place, tmp_path, *go_on)
    assert f" of {IMAGES} images have their results and are skipped" in done.stdout
    assert results_of(tmp_path) == whole
    again = infer(place, tmp_path, *go_on)
    assert f"{IMAGES} of {IMAGES} images have their results" in again.stdout
    assert "images of list.txt" not in again.stdout


@pytest.mark.parametrize(
    ("sent", "launcher"), [(signal.SIGINT, ()), (signal.SIGTERM, ()), (signal.SIGTERM, TWO)]
)
def test_a_signal_ends_it_with_one_line(place, whole, tmp_path, sent, launcher):
    with start(place, tmp_path, "--save-probabilities", launcher=launcher) as process:
        wait_for(process, tmp_path, 2)
        process.send_signal(sent)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + sent, out + err
    assert "Traceback" not in err
    [line] = [line for line in err.splitlines() if line.startswith("interrupted")]
    assert "--skip-existing goes on" in line
    there = results_of(tmp_path)
    if launcher:
        # torchrun's signal reaches the processes that write too; what they leave has other names
        there = {name: there[name] for name in there if not name.endswith(".tmp")}
    assert there.items() <= whole.items()
    masks = {name for name in there if "/" not in name}
    assert 2 <= len(masks) < IMAGES

    done = infer(place, tmp_path, "--save-probabilities", "--skip-existing")
    assert f"{len(masks)} of {IMAGES} images have their results" in done.stdout
    assert f"{IMAGES - len(masks)} images of list.txt, on cpu" in done.stdout
    assert results_of(tmp_path) == whole
    # what made each part is kept
    assert (tmp_path / "environment.yaml").is_file()
    assert (tmp_path / f"environment_from_{len(masks):05d}.yaml").is_file()


def test_two_processes_share_the_images(place, whole, tmp_path):
    with start(place, tmp_path, "--save-probabilities", launcher=TWO) as job:
        out, err = job.communicate(timeout=300)
    assert job.returncode == 0, out + err
    assert results_of(tmp_path) == whole
    assert out.count(f"{IMAGES} images of list.txt, on 2 processes with cpu") == 1
    assert err.count(f"{IMAGES}/{IMAGES}") == 1

    with start(place, tmp_path, "--skip-existing", launcher=TWO) as job:
        out, err = job.communicate(timeout=300)
    assert job.returncode == 0, out + err
    assert out.count("are skipped") == 1 and "images of list.txt" not in out


def test_several_processes_say_a_mistake_once(place, tmp_path):
    mistake = ("--set", "TEST.NUM_CLASSES", "20")
    with start(place, tmp_path, *mistake, launcher=TWO) as job:
        out, err = job.communicate(timeout=300)
    assert job.returncode == 2, out + err
    assert err.count("TEST.NUM_CLASSES") == 1 and "Traceback" not in err
    assert results_of(tmp_path) == {}


def test_a_process_that_dies_ends_the_job(place, whole, tmp_path):
    with start(place, tmp_path, "--save-probabilities", launcher=TWO) as job:
        wait_for(job, tmp_path, 1)
        os.kill(children_of(job.pid, "infer_val.py")[-1], signal.SIGKILL)
        _, err = job.communicate(timeout=300)
    assert job.returncode == 128 + signal.SIGKILL
    assert "was killed by signal 9" in err and "Traceback" not in err
    assert "interrupted" not in err and "error: " not in err
    infer(place, tmp_path, "--save-probabilities", "--skip-existing")
    assert results_of(tmp_path) == whole


def test_an_image_that_fails_in_another_process_ends_the_job(tmp_path):
    place, results = make_workplace(tmp_path, IMAGES), tmp_path / "results"
    with start(place, results, launcher=TWO) as job:
        while not (results / "results.json").exists():
            assert job.poll() is None, job.stderr.read()
            time.sleep(0.001)
        # it was there when the main process looked; the other one comes to it last
        (place / f"image{IMAGES - 1}.jpg").unlink()
        _, err = job.communicate(timeout=300)
    assert job.returncode == 2, err
    # nothing of the main process, which is ended for the other's sake in the middle of its work
    [error] = [line for line in err.splitlines() if line.startswith(("error: ", "interrupted"))]
    assert f"image{IMAGES - 1}.jpg" in error
    assert "Traceback" not in err


def test_one_process_at_a_time(place, tmp_path):
    with start(place, tmp_path) as process:
        wait_for(process, tmp_path, 1)
        message = refusal(infer(place, tmp_path, "--skip-existing", status=2))
        process.kill()
    assert "another inference is at work on" in message
