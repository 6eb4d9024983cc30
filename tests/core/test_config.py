"""The configuration: defaults, types, limits, and what a mistake in it says."""

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from core.config import Config, load_config
from utils.errors import UserError

ROOT = Path(__file__).parents[2]

DEFAULTS = {
    "NUM_GPUS": 1,
    "TRAIN": {
        "BATCH_SIZE": 20,
        "NUM_EPOCHS": 15,
        "NUM_WORKERS": 4,
        "MASK_LOSS": 0.0,
        "PRETRAIN": 5,
        "VAL_INTERVAL": 2,
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
        "NUM_CLASSES": 21,
        "USE_GT_LABELS": False,
        "FP_CUT_SCORE": 0.1,
    },
    "DATASET": {"CROP_SIZE": 321, "SCALE_FROM": 0.9, "SCALE_TO": 1.0, "PATH": "./data"},
    "NET": {
        "MODEL": "ae",
        "BACKBONE": "resnet50",
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
        "PAMR_KERNEL": (1, 2, 4, 8, 12, 24),
        "PAMR_ITER": 10,
        "SG_PSI": 0.3,
    },
    "MASKS": {"CRF": {"ALPHA_LOW": 4.0, "ALPHA_HIGH": 32.0}},
}

# Every key that the published code knew, in the manner of its files
PUBLISHED_STYLE = """
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
    path = folder / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def message(path=None, *overrides):
    """The one line that a mistake ends with."""
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    return str(error.value)


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


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("NET.LRR", "NET.LR"),
        ("net.lr", "NET.LR"),
        ("LR", "NET.LR"),
        ("TRAIN.LR", "NET.LR"),
        ("TSET.BATCH_SIZE", "TEST.BATCH_SIZE"),
        ("TRIAN.BATCH_SIZE", "TRAIN.BATCH_SIZE"),
        ("TRAIN.EPOCHS", "TRAIN.NUM_EPOCHS"),
        ("MASKS.ALPHA_LOW", "MASKS.CRF.ALPHA_LOW"),
        ("NET.LR.X", "NET.LR"),
    ],
)
def test_an_unknown_override_names_the_nearest_key(key, nearest):
    assert message(None, key, "1") == f"--set: unknown key {key}; did you mean {nearest}?"


@pytest.mark.parametrize("section", ["NET", "MASKS.CRF"])
def test_an_override_of_a_section(section):
    line = message(None, section, "1")
    assert line.startswith(f"--set: unknown key {section} ({section} is a section")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("NET: {LERNING_RATE: 1, LR: 1}", "unknown key NET.LERNING_RATE; did you mean NET."),
        ("TRIAN: {BATCH_SIZE: 3}", "unknown key TRIAN; did you mean TRAIN?"),
        ("net: {LR: 3}", "unknown key net; did you mean NET?"),
        ("MASKS: {CRFS: {ALPHA_LOW: 3}}", "unknown key MASKS.CRFS; did you mean MASKS.CRF?"),
        ("BATCH_SIZE: 3", "unknown key BATCH_SIZE; did you mean T"),
        ("1: 2", "unknown key 1; did you mean "),
        ("null: 2", "unknown key None; did you mean "),
        ("a: &a {b: *a}", "unknown key a; did you mean "),
        ("NET: 3", "NET is a section with keys of its own, found 3"),
        ("MASKS: {CRF: []}", "MASKS.CRF is a section with keys of its own, found []"),
        ("NET: {LR: {A: 1}}", "NET.LR must be a finite number, found {'A': 1}"),
        ("NET: {LR: }", "NET.LR must be a finite number, found None"),
        ("NET: {LR: fast}", "NET.LR must be a finite number, found 'fast'"),
        ("NET: {LR: .nan}", "NET.LR must be a finite number, found nan"),
        ("TRAIN: {MASK_LOSS: .inf}", "TRAIN.MASK_LOSS must be a finite number, found inf"),
        ("TRAIN: {BATCH_SIZE: 3.5}", "TRAIN.BATCH_SIZE must be a whole number, found 3.5"),
        ("TRAIN: {BATCH_SIZE: true}", "TRAIN.BATCH_SIZE must be a whole number, found True"),
        ("TEST: {PAD_SIZE: 64}", "TEST.PAD_SIZE must be a list of 2 whole numbers, found 64"),
        ("DATASET: {PATH: }", "DATASET.PATH must be text, found None"),
        ("- NET", "expected sections such as `NET:`, found ['NET']"),
        ("MODEL", "expected sections such as `NET:`, found 'MODEL'"),
    ],
)
def test_mistakes_in_a_file(tmp_path, text, words):
    path = write(tmp_path, text)
    assert message(path).startswith(f"{path}: {words}")


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("NET.LR", "", "a finite number, found ''"),
        ("NET.LR", "True", "a finite number, found True"),
        ("NET.LR", "nan", "a finite number, found 'nan'"),
        ("NET.LR", "1" + "0" * 400, "a finite number"),
        ("NET.LR", "{[]: 1}", "a finite number, found '{[]: 1}'"),
        ("NET.LR", "-1", "at least 0, found -1.0"),
        ("TEST.FLIP", "1", "true or false, found 1"),
        ("TEST.FLIP", "yes", "true or false, found 'yes'"),
        ("TEST.PAD_SIZE", "[1, 0.5]", "a list of 2 whole numbers, found [1, 0.5]"),
        ("TEST.PAD_SIZE", "[64]", "a list of 2 whole numbers, found [64]"),
        ("TEST.PAD_SIZE", "[64, 0]", "at least 1, found 0"),
        ("TEST.SCALES", "1", "a list of numbers, found 1"),
        ("TEST.SCALES", "[]", "a list of numbers, found []"),
        ("TEST.SCALES", "[1, True]", "a list of numbers, found [1, True]"),
        ("TEST.SCALES", "[1, -1]", "at least 0.01, found -1.0"),
        ("NET.PAMR_KERNEL", "[1, 2.5]", "a list of whole numbers, found [1, 2.5]"),
        ("NET.OPT", "adam", "one of SGD, Adam, found 'adam'"),
        ("NET.LOSS", "BCE", "one of SoftMargin, Hinge, found 'BCE'"),
        ("TEST.METHOD", "single", "one of multiscale, multicrop, found 'single'"),
        ("NET.MODEL", "3", "text, found 3"),
        ("DATASET.SCALE_TO", "1.5", "at least 0.01 and at most 1, found 1.5"),
        # torch.optim.Adam refuses 1
        ("NET.BETA1", "1", "at least 0 and at most 0.9999, found 1.0"),
        ("TRAIN.BATCH_SIZE", "0", "at least 1, found 0"),
    ],
)
def test_mistakes_in_an_override(key, text, words):
    assert message(None, key, text).startswith(f"--set: {key} must be {words}")


def test_a_long_value_is_cut_in_the_message(tmp_path):
    path = write(tmp_path, "image.jpg mask.png\n" * 2000)
    assert len(message(path)) < len(str(path)) + 100
    assert len(message(None, "NET.LR", "x" * 2000)) < 100


def test_an_odd_list_of_overrides_is_shown():
    line = message(None, "NET.LR", "0.1", "NET.OPT")
    assert "--set takes KEY VALUE pairs" in line and "NET.LR 0.1 NET.OPT" in line


def test_scales_the_wrong_way_round(tmp_path):
    path = write(tmp_path, "DATASET: {SCALE_TO: 0.5}")
    expected = "DATASET.SCALE_FROM (0.9) exceeds DATASET.SCALE_TO (0.5)"
    assert message(path) == f"{path}: {expected}"
    assert message(None, "DATASET.SCALE_TO", "0.5") == f"--set: {expected}"
    assert message(path, "NET.LR", "1") == f"{path} with --set: {expected}"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("NET:\n  LR: 0.1: 2\n", 2, "mapping values are not allowed here"),
        ("NET:\n\tLR: 3\n", 2, "cannot start any token"),
        ("NET:\n  SCALES: [1\nLR: 2\n", 3, "expected ',' or ']'"),
        ("NET:\n---\nTEST:\n", 2, "found another document"),
        ("NET: !!python/object/apply:os.getcwd []\n", 1, "could not determine a constructor"),
    ],
)
def test_invalid_yaml_names_file_and_line(tmp_path, text, line, words):
    path = write(tmp_path, text)
    found = message(path)
    assert found.startswith(f"{path}, line {line} is not valid YAML: ") and words in found
    assert "\n" not in found


@pytest.mark.parametrize("text", ["NET: \0", "DATASET: {PATH: 2012-99-99}"])
def test_invalid_yaml_without_a_line(tmp_path, text):
    path = write(tmp_path, text)
    assert message(path).startswith(f"{path} is not valid YAML: ")


def test_files_that_cannot_be_read(tmp_path):
    missing, latin = tmp_path / "none.yaml", write(tmp_path, "NET: # größe".encode("latin-1"))
    assert message(missing) == f"cannot read the configuration {missing}: No such file or directory"
    assert message(tmp_path) == f"cannot read the configuration {tmp_path}: Is a directory"
    assert message(latin).startswith(f"the configuration {latin} is not UTF-8 text")


@pytest.mark.parametrize(
    ("door", "text", "words", "expected"),
    [
        ("train.py", "NET: {LRR: 1}", [], "bad.yaml: unknown key NET.LRR; did you mean NET.LR?"),
        ("infer_val.py", "NET: {LR: 0.1: 2", [], "bad.yaml, line 1 is not valid YAML: "),
        ("train.py", "", ["--set", "NET.LR"], "--set takes KEY VALUE pairs, found an odd number"),
    ],
)
def test_commands_end_with_one_line_and_status_2(tmp_path, door, text, words, expected):
    write(tmp_path, text)
    done = subprocess.run(
        [sys.executable, ROOT / door, "--cfg", "bad.yaml", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {expected}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.yaml"]
