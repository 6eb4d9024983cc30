"""Runs that are killed, stopped, starved or broken, and go on."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from child_processes import children_of
from training_command import (
    REPOSITORY,
    THIN_TRAIN,
    arguments_of,
    error_of,
    snapshot_folder,
    snapshots,
    start,
    state_of,
    train,
)

import core.training.run
from core.config import load_config
from core.training.engine import Trainer
from core.training.resume import find_start, save_last
from core.training.run import TrainingRun
from models import get_model
from utils.errors import UserError

RUN = {"TRAIN__NUM_WORKERS": "1", "TRAIN__PRETRAIN": "0"}


@pytest.fixture(scope="module")
def whole(mini_voc, tmp_path_factory):
    """The folder of an uninterrupted run `v01`, and what it left."""
    folder = tmp_path_factory.mktemp("whole")
    train(mini_voc, folder, **RUN)
    return folder, state_of(folder, "v01")


def read_until(process, words: str) -> None:
    for line in process.stdout:
        if words in line:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_like_the_uninterrupted_run(mini_voc, whole, tmp_path):
    """A few, with all that a process holds; test_previous.py kills at every change of a file."""
    chance = random.Random(5)
    # the first of them in the first epoch, after its snapshot
    ends = []
    for words, latest in (
        ("epoch 0: best score so far", 0),
        ("epoch 0, trained", 0.3),
        ("epoch 2, val_voc.txt", 0.3),
    ):
        with start(mini_voc, tmp_path, "--resume", "auto", **RUN) as process:
            # where an earlier kill came late, the words do not come again
            any(words in line for line in process.stdout)
            time.sleep(chance.uniform(0, latest))
            process.kill()
        ends.append(process.returncode)
        for path in snapshot_folder(tmp_path, "v01").glob("*.pth"):
            torch.load(path, weights_only=True)
    # a later one may find the run at its end
    assert ends[0] == -signal.SIGKILL
    train(mini_voc, tmp_path, "--resume", "auto", **RUN)
    assert state_of(tmp_path, "v01") == whole[1]
    assert not list(snapshot_folder(tmp_path, "v01").glob(".*"))


@pytest.mark.slow
def test_a_finished_run_is_found_finished(mini_voc, whole):
    folder, expected = whole
    result = train(mini_voc, folder, "--resume", "last", **RUN)
    assert ", trained: " not in result.stdout
    assert state_of(folder, "v01") == expected


@pytest.mark.slow
def test_a_run_at_work_refuses_a_second_one_and_ends_with_one_line(mini_voc, tmp_path, monkeypatch):
    monkeypatch.setattr(core.training.run, "PATIENCE", 0.5)
    # more epochs than pass before the signal comes
    many = {"TRAIN__NUM_WORKERS": "1", "TRAIN__NUM_EPOCHS": "5000"}
    for sent, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        with start(mini_voc, tmp_path, "--resume", "auto", **many) as process:
            read_until(process, ", trained")
            if sent == signal.SIGTERM:
                message = error_of(train(mini_voc, tmp_path, "--resume", "auto", status=2, **many))
                assert "another training run is at work" in message
            process.send_signal(sent)
            out, err = process.communicate(timeout=300)
        assert process.returncode == status, out + err
        assert "Traceback" not in err
        path = snapshot_folder(Path(), "v01") / "last.pth"
        last = err.splitlines()[-1]
        assert last.startswith("interrupted; --resume last (RESUME=last) goes on with epoch ")
        assert last.endswith(f" from {path}")


def test_a_signal_in_the_first_epoch_says_that_nothing_is_kept(mini_voc, tmp_path, monkeypatch):
    # the last thing before the epoch's first step
    monkeypatch.setattr(TrainingRun, "_log_picture", lambda *_: signal.raise_signal(signal.SIGTERM))
    result = train(mini_voc, tmp_path, status=143)
    last = result.stderr.splitlines()[-1]
    assert last == "interrupted; no epoch was finished, so start again"
    assert not list(snapshot_folder(tmp_path, "v01").iterdir())


@pytest.mark.slow
def test_a_worker_that_dies_is_reported(mini_voc, tmp_path):
    with start(mini_voc, tmp_path, TRAIN__NUM_WORKERS="1", TRAIN__NUM_EPOCHS="50") as process:
        read_until(process, "epoch 0, trained")
        while process.poll() is None:  # they are new in every epoch; one is hit at its work
            for child in children_of(process.pid):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGKILL)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "Traceback" not in err
    assert "a process that loads images died" in err.splitlines()[-1]
    assert "TRAIN.NUM_WORKERS" in err.splitlines()[-1]


def can_mount() -> bool:
    mount = ["unshare", "-m", "mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", "/dev/shm"]
    try:
        return subprocess.run(mount, capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not can_mount(), reason="/dev/shm cannot be replaced here")
def test_it_needs_no_shared_memory(mini_voc, tmp_path):
    """Not even for a lock; containers have 64 MB unless told otherwise."""
    script = "mount -t tmpfs -o size=4k tmpfs /dev/shm && head -c 8192 /dev/zero > /dev/shm/full"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}
    words = arguments_of(mini_voc, [], {"TRAIN__NUM_WORKERS": "2", "TRAIN__NUM_EPOCHS": "0"})
    words = [sys.executable, str(THIN_TRAIN), *words, "TRAIN.PRETRAIN", "0"]
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f'({script}) 2>/dev/null; exec "$@"', "sh", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "epoch 0, trained" in done.stdout


def test_a_loss_that_explodes_names_epoch_step_and_images(mini_voc, tmp_path):
    message = error_of(train(mini_voc, tmp_path, status=2, NET__LR="1e30"))
    assert re.search(r"epoch 0, step 1: the loss is (nan|inf) for 20\d\d_\d{6}, ", message)
    assert not list(snapshot_folder(tmp_path, "v01").glob("*.pth"))
    # nothing was saved, and the remedy works
    assert "lower NET.LR" in message and "--overwrite" in message
    train(mini_voc, tmp_path, "--overwrite", TRAIN__NUM_EPOCHS="0")
    assert list(snapshot_folder(tmp_path, "v01").glob("last.pth"))


@pytest.mark.slow
def test_mistakes_about_the_last_state(mini_voc, whole, tmp_path):
    folder = whole[0]
    message = error_of(train(mini_voc, folder, status=2))
    assert "last" in message and "--overwrite" in message
    message = error_of(train(mini_voc, folder, "--resume", "last", status=2, NET__MODEL="ae"))
    assert "looks like a snapshot of bsl with vgg16" in message
    message = error_of(train(mini_voc, folder, "--resume", "last", status=2, NET__OPT="Adam"))
    assert "saved with SGD" in message
    fewer = {"TRAIN__NUM_EPOCHS": "1"}
    message = error_of(train(mini_voc, folder, "--resume", "last", status=2, **fewer))
    assert "after the last epoch (1)" in message


def refused(folder: Path, resume: str, seed: int = 64) -> str:
    with pytest.raises(UserError) as error:
        find_start(folder, resume, overwrite=False, seed=seed)
    return str(error.value)


def test_a_last_state_that_cannot_be_used_is_refused_at_once(whole, tmp_path):
    message = refused(tmp_path, "last")
    assert "last.pth" in message and "leave out --resume" in message
    assert find_start(tmp_path, "auto", overwrite=False, seed=64) is None

    folder = snapshot_folder(whole[0], "v01")
    assert find_start(folder, "auto", overwrite=False, seed=64).epoch == 3
    assert "--random-seed 64, not 3" in refused(folder, "auto", seed=3)
    (tmp_path / "last.pth").write_bytes((folder / "last.pth").read_bytes()[:1000])
    assert "damaged" in refused(tmp_path, "auto") and "--overwrite" in refused(tmp_path, "auto")
    torch.save({"epoch": 3}, tmp_path / "last.pth")
    assert "is not the state of a run" in refused(tmp_path, "last")


def test_weights_that_are_not_finite_do_not_replace_the_last_state(tmp_path):
    config = load_config(None, ["NET.BACKBONE", "vgg16", "NET.MODEL", "bsl"])
    network = get_model(config.NET)
    trainer = Trainer(network, config, torch.device("cpu"))
    where = {"epoch": 1, "best_score": 0.5, "seed": 3}
    save_last(tmp_path, trainer, **where)
    before = (tmp_path / "last.pth").read_bytes()
    with torch.no_grad():
        network.fc8.weight[0] = float("nan")
    with pytest.raises(UserError, match=r"weights are not finite \(fc8\.weight"):
        save_last(tmp_path, trainer, **where)
    assert (tmp_path / "last.pth").read_bytes() == before


@pytest.mark.slow
def test_going_back_to_a_snapshot_makes_the_later_state_void(mini_voc, tmp_path, monkeypatch):
    changes = {"TRAIN__VAL_INTERVAL": "1", "TRAIN__PRETRAIN": "0"}
    train(mini_voc, tmp_path, **changes)
    first = next(iter(snapshots(tmp_path, "v01")))
    # what is there when a kill ends it before the first epoch is trained
    monkeypatch.setattr(TrainingRun, "_train", lambda *_: sys.exit(9))
    train(mini_voc, tmp_path, "--resume", first, status=9, **changes)
    last = torch.load(snapshot_folder(tmp_path, "v01") / "last.pth", weights_only=True)
    assert last["epoch"] == int(first[1:4])
