"""demo.sh from set-up to summary, with a stand-in for Python."""

import sys

import pytest
from launch_checkout import Checkout

pytestmark = pytest.mark.bash

CONFIG = "configs/mini_resnet50.yaml"
ROOT = "data/mini_voc"


@pytest.fixture
def mini(checkout: Checkout) -> Checkout:
    checkout.write(CONFIG)
    return checkout


def after(call: list[str], option: str) -> str:
    return call[call.index(option) + 1]


@pytest.mark.parametrize("model", ["", "ae", "bsl"])
def test_the_demo_goes_from_set_up_to_tables(mini: Checkout, model: str) -> None:
    # what a shell may hold for other runs does not get in
    leftovers = {
        "EXP": "x",
        "RESUME": "e001Xs0.1",
        "EXTRA_ARGS": "--y",
        "DETACH": "1",
        "SAVE_ID": "z",
        "REPORT": "a page",
        "JSON": "numbers.json",
        "TENSORBOARD": "logs",
    }
    result = mini.run("demo.sh", MODEL=model, **leftovers)
    assert result.returncode == 0, result.stderr

    run = f"mini_{model or 'ae'}"
    masks = f"results/demo/{run}"
    settings = ["--set", "NET.MODEL", "bsl"] if model == "bsl" else []
    venv, _, _, make, prepare, train, infer, picture, tables = mini.calls()
    assert venv[:2] == ["-m", "venv"]
    assert make == ["-m", "datasets.mini_voc", "--out", ROOT]
    assert prepare == ["-m", "datasets.prepare", "--root", ROOT]
    assert train[0] == "train.py"
    assert (after(train, "--exp"), after(train, "--run")) == ("demo", run)
    assert after(train, "--cfg") == CONFIG
    assert "--resume" not in train
    assert train[9:] == [*settings, "--overwrite", "--workers", "0"]
    assert infer[0] == "infer_val.py"
    assert (after(infer, "--resume"), after(infer, "--mask-output-dir")) == ("best", masks)
    assert after(infer, "--infer-list") == f"{ROOT}/val_voc.txt"
    assert infer[15:] == ["--set", "TEST.DATA_ROOT", ROOT, *settings]
    assert picture[:2] == ["-m", "core.evaluation.figure"]
    assert (after(picture, "--masks"), after(picture, "--data")) == (masks, ROOT)
    assert (tables[0], after(tables, "--masks")) == ("eval_seg.py", masks)
    assert after(tables, "--data") == ROOT and "--set" not in tables

    summary = result.stdout.split("=== Done")[1]
    root = mini.root
    assert f"{root}/snapshots/pascal_voc/demo/{run}/model_enc_e004Xs0.500.pth" in summary
    assert f"{root}/{masks} " in summary
    assert f"{root}/{masks}/picture.png" in summary
    events = f"{root}/logs/pascal_voc/demo/{run}"
    assert f"tensorboard.main --logdir {events}".replace(" check ", "\\ check\\ ") in summary
    for step in ("Set-up", "Data", "Preparation", "Training", "Inference", "Picture", "Evaluation"):
        assert step in summary


def test_a_demo_uses_the_environment_that_it_sets_up(mini: Checkout) -> None:
    mini.run("demo.sh")
    log = (mini.root / "logs/pascal_voc/demo/mini_ae.log").read_text()
    assert str(mini.root / ".venv/bin/python").replace(" ", "\\ ") in log.splitlines()[0]


@pytest.mark.parametrize(
    "failing",
    ["pip install", "mini_voc --out", "prepare", "train.py", "infer_val.py", "eval_seg.py"],
)
def test_a_demo_stops_at_the_first_failing_step(mini: Checkout, failing: str) -> None:
    result = mini.run("demo.sh", STUB_FAILS=failing, STUB_STATUS="7")
    assert result.returncode == 7
    assert failing in " ".join(mini.calls()[-1])
    assert "=== Done" not in result.stdout


def test_the_snapshot_is_found_by_the_code_itself(mini: Checkout, monkeypatch, capsys) -> None:
    snapshots = "snapshots/pascal_voc/demo/mini_ae"
    for suffix in ("e004Xs0.500", "e006Xs0.625", "e012Xs0.375"):
        mini.write(f"{snapshots}/model_enc_{suffix}.pth")
    assert mini.run("demo.sh").returncode == 0
    code, *arguments = (mini.stub / "snapshot_question").read_text().split("\0")[:-1]
    # here, since loading PyTorch once more would take seconds
    monkeypatch.chdir(mini.root)
    monkeypatch.setattr(sys, "argv", ["-c", *arguments])
    exec(code, {})
    assert capsys.readouterr().out == f"{snapshots}/model_enc_e006Xs0.625.pth\n"


def test_arguments_are_errors(mini: Checkout) -> None:
    result = mini.run("demo.sh", "--run", "other")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "takes no arguments, found --run other" in line
    assert mini.calls() == []


def test_an_unknown_model_is_an_error(mini: Checkout) -> None:
    result = mini.run("demo.sh", MODEL="cam")
    assert result.returncode == 2
    assert "MODEL must be ae or bsl, found cam" in result.stderr
    assert mini.calls() == []


@pytest.mark.parametrize("folder", ["snapshots", "logs", "results"])
def test_a_folder_that_cannot_be_written_is_named_at_the_start(mini: Checkout, folder: str) -> None:
    mini.write(folder)  # a file
    result = mini.run("demo.sh")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"{mini.root}/{folder}" in line
    assert mini.calls() == []
