"""A ~ in front of a path is the user's home, wherever a path is given."""

import argparse
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from core.config import Config, load_config
from core.inference import Segmenter
from utils.errors import UserError
from utils.files import expanded, user_path

COMMANDS = {
    "train": "cfg missing_to snapshot_dir logdir",
    "infer_val": "cfg missing_to snapshot_dir logdir infer_list labels snapshot mask_output_dir",
    "eval_seg": "data filelist ground_truth masks log_scores report json tensorboard",
    "core.evaluation.figure": "data filelist masks out",
    "core.inference.voc_submission": "data filelist masks out",
    "core.inference.pseudo_label_list": "data filelist masks out",
    "datasets.voc.get_data": "root voc sbd voc_test",
    "datasets.describe": "folder labels out missing_to",
    "datasets.prepare": "root",
    "datasets.mini_voc.__main__": "out",
    "benchmarks.__main__": "json",
    "benchmarks.growth": "output",
    "benchmarks.gpu_check": "out",
    "benchmarks.gpu.__main__": "out",
}


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("module", COMMANDS)
def test_options(module, home, monkeypatch):
    class FoundError(Exception):
        """Carries the command's parser."""

    def give(parser, *_):
        raise FoundError(parser)

    command = import_module(module)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", give)
    with pytest.raises(FoundError) as found:
        command.main()
    options = {action.dest: action for action in found.value.args[0]._actions}
    for name in COMMANDS[module].split():
        assert str(options.pop(name).type("~/a b")) == str(home / "a b"), name
    # no other option is one for a path
    for name, option in options.items():
        assert option.metavar not in ("DIR", "FILE", "LIST", "ROOT"), name
        assert option.type is not Path and not isinstance(option.default, Path), name


def test_a_home_that_is_not_there_is_named_and_a_file_of_that_name_is_itself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^~nobody-here/x: .*~nobody-here; give"):
        user_path("~nobody-here/x")
    (tmp_path / "~list.txt").touch()
    assert expanded("~list.txt") == "~list.txt"
    assert (expanded("./data"), expanded("a~"), expanded("")) == ("./data", "a~", "")


def test_the_configuration_holds_what_it_stands_for(home):
    paths = {"DATASET.PATH": "d", "TEST.DATA_ROOT": "t", "NET.PRE_WEIGHTS_PATH": "w.pth"}
    words = [word for key, name in paths.items() for word in (key, f"~/{name}")]
    sections = {key.split(".")[0]: {key.split(".")[1]: f"~/{name}"} for key, name in paths.items()}
    (home / "c.yaml").write_text(yaml.safe_dump(sections))
    for config in (load_config("~/c.yaml"), load_config(None, words)):
        found = config.DATASET.PATH, config.TEST.DATA_ROOT, config.NET.PRE_WEIGHTS_PATH
        assert found == tuple(str(home / name) for name in paths.values())
        (home / "again.yaml").write_text(config.to_yaml())
        assert load_config(home / "again.yaml") == config
    with pytest.raises(UserError, match=r"^--set: DATASET\.PATH ~nobody-here/x: there is no home"):
        load_config(None, ["DATASET.PATH", "~nobody-here/x"])
    assert load_config().DATASET.PATH == Config().DATASET.PATH == "./data"


def test_the_segmenter(trained, home):
    for path, name in zip(trained, ("s.pth", "c.yaml"), strict=True):
        (home / name).symlink_to(path)
    Image.fromarray(np.zeros((9, 12, 3), np.uint8)).save(home / "a.png")
    segmenter = Segmenter.from_snapshot("~/s.pth", "~/c.yaml", device="cpu")
    assert segmenter.predict("~/a.png").labels.shape == (9, 12)
