"""What a mistake in the configuration ends with: one line that names key, place and remedy."""

import re

import pytest
from in_process import run_main

import infer_val
import train
from core.config import OLD_KEYS, load_config
from utils.errors import UserError


def write(folder, text):
    path = folder / "bad.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def message(path=None, *overrides):
    """The one line that a mistake ends with."""
    with pytest.raises(UserError) as error:
        load_config(path, overrides)
    return str(error.value)


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


@pytest.mark.parametrize("key", ["DEBG", "CUDAA", "TRAIN.CUDA", "PYTORCH_VERSION"])
def test_keys_that_do_nothing_are_not_proposed(key):
    proposed = message(None, key, "1").partition("; did you mean ")[2]
    assert proposed and proposed.rstrip("?") not in OLD_KEYS


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
        ("NET.OPT", "adam", "one of SGD, Adam, AdamW, found 'adam'"),
        ("NET.REFINE", "crf", "one of pamr, none, found 'crf'"),
        ("TRAIN.SCHEDULE", "step", "one of constant, poly, cosine, found 'step'"),
        ("TRAIN.WARMUP", "-1", "at least 0, found -1"),
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
        (train, "NET: {LRR: 1}", [], "bad.yaml: unknown key NET.LRR; did you mean NET.LR?"),
        (infer_val, "NET: {LR: 0.1: 2", [], "bad.yaml, line 1 is not valid YAML: "),
        (train, "", ["--set", "NET.LR"], "--set takes KEY VALUE pairs, found an odd number"),
    ],
)
def test_commands_end_with_one_line_and_status_2(tmp_path, door, text, words, expected):
    write(tmp_path, text)
    done = run_main(door.main, "--cfg", "bad.yaml", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert re.fullmatch(r"device: .+\n", done.stdout)
    [line] = done.stderr.splitlines()
    assert line.startswith(f"error: {expected}")
    assert [entry.name for entry in tmp_path.iterdir()] == ["bad.yaml"]
