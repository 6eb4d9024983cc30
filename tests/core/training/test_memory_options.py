"""TRAIN.AMP and TRAIN.CHECKPOINT as a user gives them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from training_command import REPOSITORY, train

from core.config import Config, load_config
from utils.errors import UserError

SETTINGS = {
    "NET__MODEL": "ae",
    "NET__PAMR_ITER": "1",
    "DATASET__CROP_SIZE": "16",
    "TRAIN__BATCH_SIZE": "20",
    "TRAIN__NUM_EPOCHS": "0",
    "TRAIN__PRETRAIN": "0",
    "TRAIN__AMP": "bf16",
    "TRAIN__CHECKPOINT": "True",
}


def from_yaml(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "config.yaml"
    path.write_text(f"TRAIN:\n  {text}\n")
    return load_config(path)


def test_both_are_off_by_default():
    train = load_config().TRAIN
    assert (train.AMP, train.CHECKPOINT) == ("off", False)


@pytest.mark.parametrize("word", ["off", "'off'", "Off", "false"])
def test_off_in_a_file(tmp_path, word):
    assert from_yaml(tmp_path, f"AMP: {word}").TRAIN.AMP == "off"


@pytest.mark.parametrize("word", ["off", "False", "false", "bf16", "fp16"])
def test_set_on_the_command_line(word):
    config = load_config(None, ["TRAIN.AMP", word])
    expected = word if word.endswith("16") else "off"
    assert expected == config.TRAIN.AMP
    assert yaml.safe_load(config.to_yaml())["TRAIN"]["AMP"] == expected


@pytest.mark.parametrize("word", ["on", "True", "16", "float16", "None"])
def test_other_precisions_are_refused(word):
    with pytest.raises(UserError, match=r"TRAIN\.AMP"):
        load_config(None, ["TRAIN.AMP", word])


def test_false_is_no_word_for_other_keys():
    with pytest.raises(UserError, match=r"TEST\.METHOD must be text"):
        load_config(None, ["TEST.METHOD", "False"])
    with pytest.raises(UserError, match=r"TRAIN\.CHECKPOINT must be true or false"):
        load_config(None, ["TRAIN.CHECKPOINT", "off"])


@pytest.mark.slow
def test_a_network_trains_with_both(mini_voc, tmp_path):
    train(mini_voc, tmp_path, **SETTINGS)
    (path,) = (tmp_path / "snapshots").rglob("model_enc_e001*.pth")
    state = torch.load(path, weights_only=True)
    lines = (REPOSITORY / "tests/golden/state_dict_vgg16_ae.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == list(state)
    assert {value.dtype for value in state.values()} == {torch.float32, torch.int64}
    # two steps were taken, and BatchNorm saw each batch once though it was computed twice
    assert state["fc8_x.1.num_batches_tracked"] == 2
