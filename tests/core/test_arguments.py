"""The arguments that the commands share."""

import argparse
from pathlib import Path

import pytest
from torch.distributed.run import get_args_parser

from core.arguments import add_common_arguments, run_folder, settings_from_arguments
from utils.errors import UserError


def parse(*words):
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_common_arguments(parser)
    return parser.parse_args(words)


@pytest.fixture
def cfg(tmp_path):
    path = tmp_path / "cfg.yaml"
    path.write_text("TRAIN: {NUM_WORKERS: 3}\n")
    return str(path)


def test_defaults():
    assert vars(parse("--cfg", "c.yaml")) == {
        "dataset": "pascal_voc",
        "cfg": Path("c.yaml"),
        "exp": "main",
        "run": "v01",
        "resume": "",
        "missing_to": None,
        "workers": None,
        "snapshot_dir": Path("snapshots"),
        "logdir": Path("logs"),
        "random_seed": 64,
        "device": "auto",
        "set": [],
    }


def test_a_configuration_is_demanded(capsys):
    with pytest.raises(SystemExit) as status:
        parse()
    assert status.value.code == 2
    assert "--cfg" in capsys.readouterr().err


def test_set_takes_pairs_from_all_its_uses_and_forgets_them(cfg):
    args = parse("--set", "NET.LR", "1", "TEST.FLIP", "False", "--cfg", cfg, "--set", "NET.LR", "2")
    config, _ = settings_from_arguments(args)
    assert (config.NET.LR, config.TEST.FLIP) == (2.0, False)
    assert parse("--cfg", cfg).set == []


@pytest.mark.parametrize(("text", "value"), [("-1", -1.0), ("-0.5", -0.5), (" -1e-3", -0.001)])
def test_set_takes_negative_numbers(cfg, text, value):
    config, _ = settings_from_arguments(parse("--cfg", cfg, "--set", "NET.MASK_LOSS_BCE", text))
    assert value == config.NET.MASK_LOSS_BCE


def test_a_value_that_looks_like_an_option_is_named(cfg, capsys):
    with pytest.raises(SystemExit) as status:
        parse("--cfg", cfg, "--set", "DATASET.PATH", "-data")
    assert status.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith("unrecognized arguments: -data")
    config, _ = settings_from_arguments(parse("--cfg", cfg, "--set", "DATASET.PATH", "'-data'"))
    assert config.DATASET.PATH == "-data"


def test_workers_go_before_set_and_file(cfg):
    assert settings_from_arguments(parse("--cfg", cfg))[0].TRAIN.NUM_WORKERS == 3
    pair = ("--set", "TRAIN.NUM_WORKERS", "5")
    assert settings_from_arguments(parse("--cfg", cfg, *pair))[0].TRAIN.NUM_WORKERS == 5
    config, _ = settings_from_arguments(parse("--cfg", cfg, *pair, "--workers", "0"))
    assert config.TRAIN.NUM_WORKERS == 0


def test_an_odd_set_is_shown_as_typed(cfg):
    with pytest.raises(UserError, match=r"words: NET\.LR \(which"):
        settings_from_arguments(parse("--cfg", cfg, "--set", "NET.LR", "--workers", "2"))


@pytest.mark.parametrize("name", ["--workers", "--random-seed"])
@pytest.mark.parametrize("text", ["-1", "1.5", "many"])
def test_counts(capsys, name, text):
    with pytest.raises(SystemExit) as status:
        parse("--cfg", "c.yaml", name, text)
    assert status.value.code == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert name in last and f"expected a whole number from 0 on, found '{text}'" in last


@pytest.mark.parametrize("option", ["--run", "--run-id"])
def test_run_folder(option):
    args = parse("--cfg", "c.yaml", "--exp", "baselines", option, "v02")
    assert run_folder(Path("some/logs"), "birds", args) == Path("some/logs/birds/baselines/v02")


@pytest.mark.parametrize("words", [["--", "train.py", "--run", "x"], ["train.py", "--run-id", "x"]])
def test_torchrun_leaves_the_run_to_the_script(words):
    found = get_args_parser().parse_args(["--standalone", *words])
    assert (found.training_script, found.training_script_args) == ("train.py", words[-2:])
