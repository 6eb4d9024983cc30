"""config.yaml and dataset.yaml beside a snapshot: written, found, and overruled."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.config import Config, load_config
from core.snapshot_settings import settings_of, write_settings
from datasets.dataset_file import read_dataset
from datasets.info import DatasetInfo
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

OWN = DatasetInfo("own", ("background", "Käfer", "hot dog"), "train.txt", "val.txt", labels="l.csv")


@pytest.fixture
def snapshot(tmp_path):
    """Where a snapshot would lie, beside the settings of a run on data in `data`."""
    config = replace(Config(), NET=replace(Config().NET, MODEL="bsl", PAMR_KERNEL=(1, 3)))
    write_settings(tmp_path, config, OWN.at(tmp_path / "data"))
    return tmp_path / "model.pth"


def test_what_was_written_is_found(snapshot, tmp_path):
    config, info = settings_of(snapshot)
    assert info == OWN.at(tmp_path / "data")
    assert (config.NET.MODEL, config.NET.PAMR_KERNEL) == ("bsl", (1, 3))
    # its data is where the data set says
    assert str(tmp_path / "data") == config.DATASET.PATH and config.TEST.DATA_ROOT == ""


def test_overrides_win_over_both_files(snapshot):
    overrides = ["DATASET.PATH", "there", "NET.MODEL", "ae", "TEST.DATA_ROOT", "for/test"]
    config, _ = settings_of(snapshot, overrides=overrides)
    assert (config.DATASET.PATH, config.NET.MODEL) == ("there", "ae")
    assert config.TEST.DATA_ROOT == "for/test"


def test_each_file_may_be_given(snapshot, tmp_path):
    cfg = tmp_path / "other.yaml"
    cfg.write_text("NET: {BACKBONE: vgg16}\n")
    for given in (cfg, str(cfg), load_config(cfg)):
        config, info = settings_of(snapshot, cfg=given)
        assert (config.NET.MODEL, config.NET.BACKBONE, info.name) == ("ae", "vgg16", "own")
    same = replace(OWN, name="elsewhere", path=tmp_path / "elsewhere")
    config, info = settings_of(snapshot, dataset=same)
    assert info.name == "elsewhere" and str(tmp_path / "elsewhere") == config.DATASET.PATH


def test_other_classes_than_the_snapshots_are_refused(snapshot):
    for given in ("pascal_voc", replace(OWN, classes=(*OWN.classes[:2], "cat"), path=OWN.path)):
        with pytest.raises(UserError, match="own has") as caught:
            settings_of(snapshot, dataset=given)
        assert "--dataset" in str(caught.value) and "dataset.yaml" in str(caught.value)


def test_without_a_data_set_of_its_own_it_is_pascal_voc(snapshot):
    (snapshot.parent / "dataset.yaml").unlink()
    config, info = settings_of(snapshot)
    assert info is PASCAL_VOC and config.NET.MODEL == "bsl"


def test_a_damaged_file_beside_it_is_named(snapshot):
    path = snapshot.parent / "dataset.yaml"
    path.write_text("names: [cat\n")
    with pytest.raises(UserError, match=rf"{path}, line 2"):
        settings_of(snapshot)


def test_files_that_cannot_be_written_end_in_one_line(tmp_path):
    (tmp_path / "dataset.yaml").mkdir()
    with pytest.raises(UserError, match="choose another folder"):
        write_settings(tmp_path, Config(), OWN.at(tmp_path))


def test_a_mark_keeps_those_of_an_earlier_part(snapshot):
    write_settings(snapshot.parent, Config(), OWN.at("x"), mark="_e004")
    assert load_config(snapshot.parent / "config_e004.yaml").NET.MODEL == "ae"
    assert read_dataset(snapshot.parent / "dataset_e004.yaml").name == "own"
    assert settings_of(snapshot)[0].NET.MODEL == "bsl"
