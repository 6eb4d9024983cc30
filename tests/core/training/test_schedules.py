"""Runs with a schedule of learning rates: resumed, gone back, made longer."""

from __future__ import annotations

import pytest
import torch
from training_command import (
    error_of,
    scalars,
    snapshot_folder,
    snapshots,
    state_of,
    stop_before,
    train,
)

from core.training.optimizer import rate_factor

# three epochs of two steps; a snapshot may be taken before each
STEPS = 2
RUN = {"TRAIN__PRETRAIN": "0", "TRAIN__VAL_INTERVAL": "1", "TRAIN__WARMUP": "3"}
LR = 0.001


def rates(folder, schedule: str, epochs: int) -> None:
    """That the rates of each epoch's first step are in TensorBoard, those of vgg16's groups."""
    logged = scalars(folder, "v01", "train")
    for index, multiplier in enumerate((1, 2, 10, 20)):
        expected = [
            (epoch, LR * multiplier * rate_factor(schedule, 3, STEPS * epoch, STEPS * epochs))
            for epoch in range(epochs)
        ]
        assert logged[f"lr/enc_group_{index:02d}"] == [
            (epoch, pytest.approx(rate)) for epoch, rate in expected
        ]


@pytest.mark.slow
# the constant one is that of every other test of resumed runs
@pytest.mark.parametrize(("kind", "schedule"), [("SGD", "poly"), ("AdamW", "cosine")])
def test_a_resumed_run_ends_like_one_that_ran_through(
    mini_voc, tmp_path, monkeypatch, schedule, kind
):
    changes = {**RUN, "TRAIN__SCHEDULE": schedule, "NET__OPT": kind}
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir(), broken.mkdir()
    train(mini_voc, whole, **changes)
    rates(whole, schedule, epochs=3)

    with monkeypatch.context() as patch:
        stop_before(2, patch)
        train(mini_voc, broken, status=9, **changes)
    train(mini_voc, broken, "--resume", "last", **changes)
    assert state_of(broken, "v01") == state_of(whole, "v01")
    # and so does one that was at its end
    train(mini_voc, broken, "--resume", "last", **changes)
    assert state_of(broken, "v01") == state_of(whole, "v01")


@pytest.mark.slow
def test_a_run_that_goes_back_to_a_snapshot_has_its_epochs_rates(mini_voc, tmp_path):
    changes = {**RUN, "TRAIN__SCHEDULE": "poly"}
    train(mini_voc, tmp_path, **changes)
    last = snapshot_folder(tmp_path, "v01") / "last.pth"
    model = torch.load(last, weights_only=True)["model"]
    earlier = [name for name in snapshots(tmp_path, "v01") if name.startswith(("e001", "e002"))]
    assert earlier, "the example must have a snapshot between two epochs"
    train(mini_voc, tmp_path, "--resume", earlier[0], **changes)
    rates(tmp_path, "poly", epochs=3)
    again = torch.load(last, weights_only=True)["model"]
    assert all(torch.equal(again[name], value) for name, value in model.items())


@pytest.mark.slow
def test_a_run_that_is_made_longer_has_the_rates_of_the_longer_one(mini_voc, tmp_path):
    changes = {**RUN, "TRAIN__SCHEDULE": "cosine"}
    train(mini_voc, tmp_path, **changes)
    train(mini_voc, tmp_path, "--resume", "last", **changes, TRAIN__NUM_EPOCHS="4")
    logged = scalars(tmp_path, "v01", "train")["lr/enc_group_00"]
    expected = [
        (epoch, LR * rate_factor("cosine", 3, STEPS * epoch, STEPS * (3 if epoch < 3 else 5)))
        for epoch in range(5)
    ]
    assert logged == [(epoch, pytest.approx(rate)) for epoch, rate in expected]


def test_a_run_shorter_than_its_warmup_is_refused_before_anything_is_written(mini_voc, tmp_path):
    message = error_of(train(mini_voc, tmp_path, status=2, TRAIN__WARMUP="7"))
    assert "TRAIN.WARMUP 7" in message and "6 steps" in message
    assert not snapshot_folder(tmp_path, "v01").exists()
