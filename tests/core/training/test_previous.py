"""The state before the last one: what a diverged run goes on from, and what a kill leaves."""

from __future__ import annotations

import json
import math
import re
import signal
from pathlib import Path

import pytest
import torch
from fake_training import FakeRun, KilledError
from training_command import flatten

import core.training.checkpoint_manager
from core.training.resume import find_start, load_last
from utils.errors import InterruptionError, UserError

HIGH, LOW = 0.1, 0.001


def exploding(weight: float, epoch: int, rate: float) -> float:
    """At a high rate, diverge in epoch 2; from there, no rate helps."""
    if weight > 1e9:
        return math.nan
    return 1e10 if epoch >= 2 and rate == pytest.approx(HIGH) else weight + rate


def epochs_of(run: FakeRun) -> dict[str, int]:
    """The epoch that each of the run's states is to train next."""
    found = {}
    for path in run.snapshots.glob("[lp]*.pth"):
        found[path.stem] = torch.load(path, weights_only=True)["epoch"]
    return found


def follow(run: FakeRun, error: pytest.ExceptionInfo[UserError], **changes: object) -> str:
    """Do what the message says, to the letter; returns the words that were followed."""
    text = str(error.value)
    assert "lower NET.LR" in text and len(text.split()) < 40
    word = re.search(r"--resume (\S+)", text)
    assert bool(word) != ("--overwrite" in text)
    run.events.clear()
    run.train(word[1] if word else "", overwrite=not word, NET__LR=LOW, **changes)
    return word[1] if word else "--overwrite"


@pytest.mark.parametrize("pretrain", [0, 3], ids=["with snapshots", "before any"])
def test_a_diverged_run_goes_on_from_before(tmp_path, pretrain):
    longer = {"TRAIN__NUM_EPOCHS": 4, "TRAIN__PRETRAIN": pretrain, "TRAIN__VAL_INTERVAL": 1}
    run = FakeRun(tmp_path, exploding, loss=lambda weight: min(weight, 1e30) / 10)
    with pytest.raises(UserError, match="epoch 3") as error:
        run.train(NET__LR=HIGH, **longer)
    assert epochs_of(run) == {"last": 3, "previous": 2}
    # the last state is of no use, at whatever rate
    with pytest.raises(UserError, match="epoch 3"):
        run.train("last", NET__LR=LOW, **longer)
    assert epochs_of(run) == {"last": 3, "previous": 2}
    # the remedy remains one while it is not followed well enough
    for _ in range(2):
        with pytest.raises(UserError, match="epoch 3") as error:
            run.train("previous", NET__LR=HIGH, **longer)
    assert follow(run, error, **longer) == "previous"
    assert [event[1] for event in run.events if event[0] == "trained"] == [2, 3, 4]
    assert epochs_of(run) == {"last": 5, "previous": 4}


def test_with_nothing_before_it_something_else_is_offered(tmp_path):
    def at_once(weight: float, epoch: int, rate: float) -> float:
        return math.nan if rate == pytest.approx(HIGH) else weight + rate

    settings = {"TRAIN__NUM_EPOCHS": 1, "TRAIN__VAL_INTERVAL": 1}
    run = FakeRun(tmp_path / "unscored", at_once)
    with pytest.raises(UserError, match="epoch 0") as error:
        run.train(NET__LR=HIGH, TRAIN__PRETRAIN=1, **settings)
    assert epochs_of(run) == {}
    assert follow(run, error, **settings) == "--overwrite"
    assert epochs_of(run) == {"last": 2, "previous": 1}

    run = FakeRun(tmp_path / "scored", at_once, loss=lambda weight: 1 - weight)
    with pytest.raises(UserError, match="epoch 0") as error:
        run.train(NET__LR=HIGH, **settings)
    assert epochs_of(run) == {"last": 0}
    assert follow(run, error, **settings) == "e000Xs0.000"
    # after going back, what comes later is of another branch
    with pytest.raises(UserError, match="epoch 0") as error:
        run.train("e000Xs0.000", NET__LR=HIGH, **settings)
    assert epochs_of(run) == {"last": 0}
    assert follow(run, error, **settings) == "e000Xs0.000"


@pytest.mark.parametrize("pretrain", [0, 3], ids=["with snapshots", "before any"])
def test_where_no_rate_helps_the_way_back_leads_to_before_the_previous_state(tmp_path, pretrain):
    def from_epoch_2(weight: float, epoch: int, rate: float) -> float:
        return math.nan if epoch >= 2 and weight >= 2 else weight + 1

    longer = {"TRAIN__NUM_EPOCHS": 4, "TRAIN__PRETRAIN": pretrain, "TRAIN__VAL_INTERVAL": 1}
    run = FakeRun(tmp_path, loss=lambda weight: 1 / (2 + weight))
    run.train(**longer | {"TRAIN__NUM_EPOCHS": 2})
    assert epochs_of(run) == {"last": 3, "previous": 2}
    run.step = from_epoch_2
    # last then is the same as previous
    for resume in ("previous", "previous", "last"):
        with pytest.raises(UserError, match="epoch 2") as error:
            run.train(resume, NET__LR=LOW, **longer)
        words = "--overwrite" if pretrain else "--resume e001Xs0.667"
        assert words in str(error.value) and "--resume previous" not in str(error.value)


def contents(run: FakeRun) -> dict[str, object]:
    files = {p.name: flatten(torch.load(p, weights_only=True)) for p in run.snapshots.glob("*.pth")}
    return files | json.loads((run.snapshots / "written.json").read_text())


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_like_the_uninterrupted_run(tmp_path, monkeypatch):
    settings = {"TRAIN__NUM_EPOCHS": 2, "TRAIN__VAL_INTERVAL": 1}
    monkeypatch.setattr(
        core.training.checkpoint_manager, "MAX_KEPT", 2
    )  # so that some are dropped soon

    def run_in(name: str) -> FakeRun:
        return FakeRun(tmp_path / name, loss=lambda weight: 1 / (2 + weight))

    whole = run_in("whole")
    whole.kill_after = 1000
    whole.train(**settings)
    moments = 1000 - whole.kill_after
    assert moments > 20
    for moment in range(moments):
        part = run_in(str(moment))
        part.kill_after = moment
        with pytest.raises(KilledError):
            part.train(**settings)
        part.kill_after = None
        part.train("auto", **settings)
        assert contents(part) == contents(whole), moment


def test_states_that_cannot_be_used_name_others_that_can(tmp_path):
    run = FakeRun(tmp_path)

    def refused(resume: str) -> str:
        with pytest.raises(UserError) as error:
            find_start(run.snapshots, resume, overwrite=False, seed=64)
        return str(error.value)

    assert "--overwrite" in refused("previous")
    run.train(TRAIN__NUM_EPOCHS=1)
    last, previous = (run.snapshots / f"{name}.pth" for name in ("last", "previous"))
    whole = {path: path.read_bytes() for path in (last, previous)}
    assert find_start(run.snapshots, "previous", overwrite=False, seed=64).epoch == 1

    last.write_bytes(b"damaged")
    assert f"{last} " in refused("last") and "--resume previous" in refused("auto")
    run.train("previous", TRAIN__NUM_EPOCHS=1)
    assert load_last(run.snapshots).epoch == 2
    previous.write_bytes(b"damaged")
    assert "--resume last" in refused("previous")
    last.write_bytes(b"damaged")
    for resume in ("last", "previous"):
        assert f"{resume}.pth " in refused(resume) and "--resume e000Xs0.500" in refused(resume)
    last.unlink()
    assert "--resume e000Xs0.500" in refused("last")
    previous.unlink()
    assert "--resume e000Xs0.500" in refused("last") and "leave out" not in refused("last")
    run.train("e000Xs0.500", TRAIN__NUM_EPOCHS=1)
    assert {path: path.read_bytes() for path in (last, previous)}.keys() == whole.keys()


def test_a_run_of_which_only_the_previous_state_is_left_is_not_trained_over(tmp_path):
    run = FakeRun(tmp_path)
    run.train(TRAIN__NUM_EPOCHS=1, TRAIN__PRETRAIN=2)
    for path in run.snapshots.glob("[!p]*"):
        path.unlink()
    with pytest.raises(UserError, match="already holds a run"):
        run.train(TRAIN__NUM_EPOCHS=1)
    run.train("last", TRAIN__NUM_EPOCHS=1)
    assert epochs_of(run) == {"last": 2, "previous": 1}
    run.train(overwrite=True, TRAIN__NUM_EPOCHS=0)
    assert epochs_of(run) == {"last": 1, "previous": 0}
    assert sorted(path.name for path in Path(run.snapshots).glob("model*")) == [
        "model_enc_e000Xs0.500.pth"
    ]


@pytest.mark.parametrize(
    ("resume", "overwrite"), [("", True), ("e000Xs0.500", False), ("previous", False)]
)
def test_a_signal_while_labels_are_read_leaves_an_earlier_run_as_it_was(
    tmp_path, resume, overwrite
):
    run = FakeRun(tmp_path)
    run.train(TRAIN__NUM_EPOCHS=1)
    before = {path: path.read_bytes() for path in run.snapshots.iterdir()}
    run.read_labels = lambda *_: signal.raise_signal(signal.SIGTERM)
    with pytest.raises(InterruptionError) as end:
        run.train(resume, overwrite=overwrite, TRAIN__NUM_EPOCHS=1)
    assert {path: path.read_bytes() for path in run.snapshots.iterdir()} == before
    assert end.value.status == 143
    assert str(end.value) == "interrupted; nothing was changed; the same command goes on"


def test_only_errors_of_files_are_the_disks(tmp_path):
    def fails(*_):
        raise error

    run = FakeRun(tmp_path, step=fails)
    error = ConnectionResetError(104, "Connection reset by peer")
    with pytest.raises(ConnectionResetError):
        run.train(TRAIN__NUM_EPOCHS=0)
    error = OSError(28, "No space left on device", "last.pth")
    with pytest.raises(UserError, match=r"'last\.pth'; make room there"):
        run.train(overwrite=True, TRAIN__NUM_EPOCHS=0)
