"""How many steps a run has, how long they take, and the threshold that it settles."""

from __future__ import annotations

import pytest
import torch
import yaml
from fake_training import FakeRun

from core.config import load_config
from core.distributed import SINGLE
from core.training import engine
from core.training.data import training_batches
from core.training.engine import Pace
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("wanted", "passes"),
    [(0, 1), (20, 1), (21, 2), (60, 3), (1000, 50)],  # 40 images; 5 epochs of 4 batches
)
def test_small_lists_are_passed_more_than_once(mini_voc, wanted, passes):
    words = ["DATASET.PATH", str(mini_voc), "TRAIN.BATCH_SIZE", "10", "TRAIN.NUM_EPOCHS", "4"]
    config = load_config(None, [*words, "TRAIN.MIN_STEPS", str(wanted)])
    batches = training_batches(config, PASCAL_VOC, 0, CPU, SINGLE)
    assert len(batches) == 4 * passes
    assert 5 * len(batches) >= wanted
    assert batches.names(0, len(batches) - 1)  # the last batch has names too


def test_a_list_shorter_than_a_batch_trains_if_passed_often_enough(mini_voc):
    words = ["DATASET.PATH", str(mini_voc), "TRAIN.BATCH_SIZE", "64", "TRAIN.NUM_EPOCHS", "0"]
    config = load_config(None, [*words, "TRAIN.MIN_STEPS", "3"])
    assert len(training_batches(config, PASCAL_VOC, 0, CPU, SINGLE)) == 3


def test_the_time_of_all_steps_is_told_once(monkeypatch):
    now = iter([100.0, 120.0])
    monkeypatch.setattr(engine.time, "monotonic", lambda: next(now))
    pace = Pace(1800)
    lines = [line for step in range(30) if (line := pace.line(step))]
    assert len(lines) == 1
    assert "2.00 s" in lines[0] and "1800 steps" in lines[0] and "60 minutes" in lines[0]
    assert not any(Pace(0).line(step) for step in range(0, 30, 10) if step)


def test_the_threshold_of_the_best_snapshot_is_kept(tmp_path, capsys):
    run = FakeRun(tmp_path, loss=lambda weight: 1 / (1 + weight))
    run.train(TEST__FP_CUT_SCORE="auto", TRAIN__NUM_EPOCHS=1)
    path = run.snapshots / "config.yaml"
    assert yaml.safe_load(path.read_text())["TEST"]["FP_CUT_SCORE"] == 0.5
    assert "FP_CUT_SCORE 0.50" in capsys.readouterr().out
    # a resumed run that finds nothing better keeps it
    run.loss = lambda weight: 2.0
    run.train("last", TEST__FP_CUT_SCORE="auto", TRAIN__NUM_EPOCHS=3)
    assert yaml.safe_load(path.read_text())["TEST"]["FP_CUT_SCORE"] == 0.5
    run.train("last", TEST__FP_CUT_SCORE="0.2", TRAIN__NUM_EPOCHS=4)
    assert yaml.safe_load(path.read_text())["TEST"]["FP_CUT_SCORE"] == 0.2


def test_a_threshold_that_no_label_tells_is_settled_all_the_same(tmp_path, monkeypatch, capsys):
    run = FakeRun(tmp_path)
    monkeypatch.setattr("fake_training.CUT_SCORE", float("nan"))
    run.train(TEST__FP_CUT_SCORE="auto", TRAIN__NUM_EPOCHS=1)
    path = run.snapshots / "config.yaml"
    assert yaml.safe_load(path.read_text())["TEST"]["FP_CUT_SCORE"] == 0.1
    # a finished run says that it is, and takes what concerns inference alone
    run.train("last", TEST__FP_CUT_SCORE="0.2", TEST__CRF="False", TRAIN__NUM_EPOCHS=1)
    assert "all epochs are trained" in capsys.readouterr().out
    kept = yaml.safe_load(path.read_text())["TEST"]
    assert (kept["FP_CUT_SCORE"], kept["CRF"]) == (0.2, False)


def test_a_resumed_run_keeps_the_precision_that_it_settled(tmp_path, monkeypatch, capsys):
    """One that began in bf16 does not go on without it unless it is told to."""
    cpu_facts = tmp_path / "cpuinfo"
    monkeypatch.setattr("core.devices.CPU_FILE", cpu_facts)
    run = FakeRun(tmp_path / "run")
    kept = run.snapshots / "config.yaml"

    def amp(flags: str, resume: str = "last", **keys: str) -> str:
        cpu_facts.write_text(f"flags : {flags}")
        run.train(resume, TEST__AMP="auto", **keys)
        written = yaml.safe_load(kept.read_text())
        assert written["TEST"]["AMP"] == "auto"
        return written["TRAIN"]["AMP"]

    assert amp("amx_bf16", "", TRAIN__AMP="auto", TRAIN__NUM_EPOCHS=1) == "bf16"
    assert "TRAIN.AMP auto: bf16" in capsys.readouterr().out
    before = {path.name: path.read_bytes() for path in run.snapshots.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=r"TRAIN\.AMP auto.*bf16"):
        amp("avx2", TRAIN__AMP="auto", TRAIN__NUM_EPOCHS=2)
    after = {path.name: path.read_bytes() for path in run.snapshots.iterdir() if path.is_file()}
    assert after == before
    assert amp("amx_bf16", TRAIN__AMP="auto", TRAIN__NUM_EPOCHS=2) == "bf16"
    assert amp("avx2", TRAIN__AMP="off", TRAIN__NUM_EPOCHS=3) == "off"
    assert amp("amx_bf16", TRAIN__AMP="auto", TRAIN__NUM_EPOCHS=4) == "off"
    assert "TRAIN.AMP auto: off, as before" in capsys.readouterr().out
