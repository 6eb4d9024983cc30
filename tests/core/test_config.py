"""The configuration: defaults, types, overrides, and that it cannot be changed."""

import dataclasses
import re
from pathlib import Path

import pytest

from core.config import Config, cut_score, load_config
from utils.errors import UserError

ROOT = Path(__file__).parents[2]

DEFAULTS = {
    "NUM_GPUS": 1,
    "TRAIN": {
        "BATCH_SIZE": 20,
        "NUM_EPOCHS": 15,
        "MIN_STEPS": 0,
        "NUM_WORKERS": 4,
        "MASK_LOSS": 0.0,
        "PRETRAIN": 5,
        "VAL_INTERVAL": 2,
        "SYNC_BN": False,
        "SCHEDULE": "constant",
        "WARMUP": 0,
        "AMP": "off",
        "TF32": True,
        "CHECKPOINT": False,
        "COMPILE": False,
    },
    "TEST": {
        "METHOD": "multiscale",
        "DATA_ROOT": "",
        "SCALES": (1.0, 0.5, 1.5, 2.0),
        "FLIP": True,
        "PAD_SIZE": (1024, 1024),
        "CROP_SIZE": (448, 448),
        "CROP_GRID_SIZE": (2, 2),
        "BATCH_SIZE": 8,
        "BG_POW": 3.0,
        "NUM_CLASSES": 0,
        "USE_GT_LABELS": False,
        "FP_CUT_SCORE": 0.1,
        "OVERSIZE": "grow",
        "WINDOW": "pad",
        "CRF": True,
        "CRF_PRESENT_ONLY": False,
        "MIN_CONFIDENCE": 0.0,
        "AMP": "off",
        "COMPILE": False,
    },
    "DATASET": {"CROP_SIZE": 321, "SCALE_FROM": 0.9, "SCALE_TO": 1.0, "PATH": "./data"},
    "NET": {
        "MODEL": "ae",
        "BACKBONE": "resnet50",
        "OUTPUT_STRIDE": 16,
        "PRE_WEIGHTS_PATH": "",
        "FREEZE_BN": True,
        "OPT": "SGD",
        "LR": 0.001,
        "BETA1": 0.5,
        "MOMENTUM": 0.9,
        "WEIGHT_DECAY": 1e-5,
        "LOSS": "SoftMargin",
        "MASK_LOSS_BCE": 1.0,
        "BG_SCORE": 0.1,
        "FOCAL_P": 3.0,
        "FOCAL_LAMBDA": 0.01,
        "REFINE": "pamr",
        "PAMR_KERNEL": (1, 2, 4, 8, 12, 24),
        "PAMR_ITER": 10,
        "SG_PSI": 0.3,
    },
    "MASKS": {"CRF": {"ALPHA_LOW": 4.0, "ALPHA_HIGH": 32.0}},
}

# Every key that the published code knew, in the manner of its files
PUBLISHED_STYLE = """
DEBUG: False
CUDA: True
PYTORCH_VERSION_LESS_THAN_040: False
NUM_GPUS: 4
TRAIN:
  BATCH_SIZE: 16
  NUM_EPOCHS: 24
  NUM_WORKERS: 8
  MASK_LOSS: 1
  PRETRAIN: 5
TEST:
  METHOD: "multiscale"
  DATA_ROOT: "/some/disk"
  SCALES: [1, 0.5, 1.5, 2.0]
  FLIP: True
  PAD_SIZE: [1024, 1024]
  CROP_SIZE: [448, 448]
  CROP_GRID_SIZE: (2, 3)
  BATCH_SIZE: 8
  BG_POW: 3
  NUM_CLASSES: 21
  USE_GT_LABELS: False
  FP_CUT_SCORE: 0.1
DATASET:
  CROP_SIZE: 321
  SCALE_FROM: 0.9
  SCALE_TO: 1
  PATH: "./data"
NET:
  MODEL: "ae"
  BACKBONE: "resnet38"
  PRE_WEIGHTS_PATH: "./models/weights/ilsvrc-cls_rna-a1_cls1000_ep-0001.pth"
  OPT: "SGD"
  LR: 1e-3
  BETA1: 0.5
  MOMENTUM: 0.9
  WEIGHT_DECAY: 5e-4
  LOSS: "SoftMargin"
  MASK_LOSS_BCE: 1.0
  BG_SCORE: 0.1
  FOCAL_P: 3
  FOCAL_LAMBDA: 0.01
  PAMR_KERNEL: [1, 2, 4, 8, 12, 24]
  PAMR_ITER: 10
  SG_PSI: 0.3
MASKS:
  CRF:
    ALPHA_LOW: 4
    ALPHA_HIGH: 32
"""


def same_types(one, other):
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same_types(one[key], other[key]) for key in one)
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same_types, one, other))
    return type(one) is type(other)


def write(folder, text):
    path = folder / "cfg.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults():
    values = dataclasses.asdict(load_config())
    assert values == DEFAULTS
    assert same_types(values, DEFAULTS)


def test_a_file_in_the_published_style(tmp_path):
    cfg = load_config(write(tmp_path, PUBLISHED_STYLE))
    assert (cfg.NUM_GPUS, cfg.TRAIN.MASK_LOSS, cfg.MASKS.CRF.ALPHA_LOW) == (4, 1.0, 4.0)
    assert (cfg.NET.LR, cfg.NET.WEIGHT_DECAY) == (0.001, 0.0005)
    assert (cfg.TEST.CROP_GRID_SIZE, cfg.TEST.DATA_ROOT) == ((2, 3), "/some/disk")
    assert same_types(dataclasses.asdict(cfg), DEFAULTS)


def test_keys_that_nothing_reads_are_said_once(tmp_path, capsys, monkeypatch):
    old = write(tmp_path, "DEBUG: [1]\nCUDA:\nNUM_GPUS: 4\nTRAIN: {MASK_LOSS: 0}\nNET: {LR: 2}\n")
    words = ["PYTORCH_VERSION_LESS_THAN_040", "maybe", "MASKS.CRF.ALPHA_LOW", "5"]
    expected = load_config(overrides=["NUM_GPUS", "4", "MASKS.CRF.ALPHA_LOW", "5", "NET.LR", "2"])
    capsys.readouterr()
    for _ in range(2):
        config = load_config(old, words)
        assert config == expected
    printed = capsys.readouterr()
    assert printed.out == ""
    [line] = printed.err.splitlines()
    # TRAIN.MASK_LOSS has its default, as it does in every run's own config.yaml
    for key in ("DEBUG", "CUDA", "NUM_GPUS", *words[::2]):
        assert re.search(rf"\b{key}\b", line), key
    assert str(old) in line and "MASK_LOSS" not in line and "LR" not in line
    # what was said has no consequence for a run's own file
    for name in ("DEBUG", "CUDA", "PYTORCH_VERSION_LESS_THAN_040"):
        assert name not in config.to_yaml()

    monkeypatch.setenv("RANK", "1")  # of several processes the first says it
    load_config(overrides=["DEBUG", "1"])
    monkeypatch.delenv("RANK")
    load_config()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("text", ["", "NET:\n", "# nothing\n", "NET: {}\nMASKS: {CRF: }\n"])
def test_what_a_file_leaves_out_is_the_default(tmp_path, text):
    assert load_config(write(tmp_path, text)) == load_config()


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("NET.LR", "1", 1.0),
        ("NET.LR", "1e-5", 1e-5),
        ("NET.LR", "'1e-5'", 1e-5),
        ("NET.MASK_LOSS_BCE", "-1", -1.0),
        ("TEST.BATCH_SIZE", "3", 3),
        ("TEST.FLIP", "False", False),
        ("TEST.FLIP", "true", True),
        ("TEST.SCALES", "[1, 0.5]", (1.0, 0.5)),
        ("TEST.SCALES", "(2,)", (2.0,)),
        ("TEST.SCALES", "['1e-1']", (0.1,)),
        ("TEST.PAD_SIZE", "(64, 96)", (64, 96)),
        ("NET.PAMR_KERNEL", "[1]", (1,)),
        ("NET.OPT", "Adam", "Adam"),
        ("NET.OPT", "'Adam'", "Adam"),
        ("DATASET.PATH", "", ""),
        ("DATASET.PATH", '""', ""),
        ("DATASET.PATH", "/data of mine", "/data of mine"),
    ],
)
def test_overrides(key, text, expected):
    section, name = key.split(".")
    value = getattr(getattr(load_config(overrides=[key, text]), section), name)
    assert value == expected and same_types(value, expected)


def test_of_a_repeated_override_the_last_holds_and_all_go_before_the_file(tmp_path):
    path = write(tmp_path, "NET: {LR: 3, MOMENTUM: 0.5}")
    cfg = load_config(path, ["NET.LR", "1", "NET.LR", "2"])
    assert (cfg.NET.LR, cfg.NET.MOMENTUM) == (2.0, 0.5)


def test_a_configuration_cannot_be_changed():
    cfg = load_config()
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.NET.LR = 0.1
    with pytest.raises(dataclasses.FrozenInstanceError):
        cfg.MASKS.CRF.ALPHA_LOW = 1.0
    assert hash(cfg) == hash(load_config())  # nothing in it is mutable


def test_one_load_leaves_no_trace_in_the_next():
    changed = load_config(overrides=["NET.LR", "9", "TEST.SCALES", "[3]"])
    assert load_config() == Config() != changed
    assert (changed.NET.LR, changed.TEST.SCALES) == (9.0, (3.0,))


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["NET.LR", "1e-9", "TEST.SCALES", "[0.5]", "TEST.FLIP", "False"],
        ["DATASET.PATH", "ä: #1 'und' \"mehr\"", "TEST.DATA_ROOT", "'2012'"],
    ],
)
def test_yaml_reads_back_equal(tmp_path, overrides):
    cfg = load_config(overrides=overrides)
    assert load_config(write(tmp_path, cfg.to_yaml())) == cfg


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_file_loads(path):
    load_config(path)


def test_a_threshold_may_be_settled_later():
    settled = load_config(None, ["TEST.FP_CUT_SCORE", "0.25"]).TEST
    assert cut_score(settled) == 0.25
    later = load_config(None, ["TEST.FP_CUT_SCORE", "auto"])
    assert later.TEST.FP_CUT_SCORE == "auto" and "FP_CUT_SCORE: auto" in later.to_yaml()
    with pytest.raises(UserError, match="FP_CUT_SCORE is auto"):
        cut_score(later.TEST)
    with pytest.raises(UserError, match=r"TEST\.FP_CUT_SCORE"):
        load_config(None, ["TEST.FP_CUT_SCORE", "automatic"])
