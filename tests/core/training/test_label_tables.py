"""Training from a user's own data set: image-level labels alone, as a table or a list's column."""

from __future__ import annotations

import csv
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from own_dataset import NAMES, best, make_dataset, run_train, runs_files, weights
from training_command import error_of, flatten, train

from core.config import load_config
from core.distributed import SINGLE
from core.training.data import read_training_list, validation_batches
from datasets.dataset_file import dataset_yaml, read_dataset
from datasets.files import read_mask
from datasets.lists import read_list
from datasets.voc import PASCAL_VOC


def content(path):
    return flatten(torch.load(path, weights_only=True))


def table_row(result, name):
    """The numbers of images in the table that training prints."""
    [row] = [line for line in result.stdout.splitlines() if line.startswith(f"{name}  ")]
    return [int(word) for word in row[len(name) :].split()]


@pytest.mark.parametrize("form", ["csv", "lines", "column"])
def test_training_without_a_mask(tmp_path, form):
    lists = "lines" if form == "lines" else "csv"
    dataset = make_dataset(tmp_path / "data", lists=lists, column=form == "column")
    result = run_train(dataset, tmp_path)
    # image n of 12 has the objects n % 3 and n² % 3, the last one none; the first 8 train
    rows = {name: table_row(result, name) for name in ("Käfer", "hot dog", "no object", "in all")}
    assert {name: [row[0], row[2]] for name, row in rows.items()} == {
        "Käfer": [3, 1],
        "hot dog": [5, 2],
        "no object": [0, 1],
        "in all": [8, 4],
    }
    assert not list((tmp_path / "data").rglob("*mask*"))
    snapshot = best(tmp_path)
    assert weights(snapshot)["fc8.weight"].shape[0] == len(NAMES)
    # what the run was, beside its snapshots and beside its logs, wherever either is taken
    logs = tmp_path / "logs/own/main/v01"
    for folder in (snapshot.parent, logs):
        info = read_dataset(folder / "dataset.yaml")
        assert info.classes == ("background", *NAMES) and info.path == tmp_path / "data"
        assert load_config(folder / "config.yaml").NET.BACKBONE == "vgg16"
    assert (logs / "dataset.yaml").read_text() == (snapshot.parent / "dataset.yaml").read_text()


def test_a_run_is_repeated_by_what_it_left(tmp_path):
    """Its own config.yaml and dataset.yaml train the same network."""
    dataset = make_dataset(tmp_path / "data")
    run_train(dataset, tmp_path)
    left = runs_files(tmp_path)
    shutil.copytree(left, tmp_path / "left")
    run_train(tmp_path / "left", tmp_path, "--cfg", tmp_path / "left/config.yaml", "--run", "again")
    assert content(best(tmp_path, "again")) == content(best(tmp_path))


def entries_of(info, data, writer):
    config = load_config(None, ["DATASET.PATH", str(data), "TRAIN.BATCH_SIZE", "4"])
    training = read_training_list(config, info, info.train_list)
    found = validation_batches(config, info, training, torch.device("cpu"), SINGLE)[writer].samples
    return [entry.image.name for entry in found.entries]


def test_what_of_the_training_list_is_validated(tmp_path, monkeypatch):
    info = read_dataset(make_dataset(tmp_path / "data"))
    train_list = [e.image.name for e in read_list(info.path / "train.csv", info.path)]
    sample = entries_of(info, info.path, "train")
    # as many as val has, in the list's order, and the same ones in every run
    assert len(set(sample)) == len(sample) == len(entries_of(info, info.path, "val")) == 4
    assert sample == [name for name in train_list if name in sample]
    assert sample == entries_of(info, info.path, "train") != train_list[:4]
    # of a short training list all
    short = replace(info, train_list="val.csv", val_list="train.csv")
    assert len(entries_of(short, info.path, "train")) == 4
    given = replace(info, val_train_list="val.csv")
    assert entries_of(given, info.path, "train") == entries_of(info, info.path, "val")
    monkeypatch.setattr("core.training.data.MOST_OF_TRAIN", 3)
    assert len(entries_of(info, info.path, "train")) == 3
    assert entries_of(given, info.path, "train") == entries_of(info, info.path, "val")


def test_the_command_line_says_where_data_is(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "moved")
    (tmp_path / "data").mkdir()
    shutil.copy(tmp_path / "moved/dataset.yaml", dataset)
    line = error_of(run_train(dataset, tmp_path, status=2))
    assert "data/train.csv" in line
    run_train(dataset, tmp_path, DATASET__PATH="moved")
    info = read_dataset(runs_files(tmp_path) / "dataset.yaml")
    assert info.path == tmp_path / "moved" and info.labels_path == info.path / "labels.csv"


def test_resuming_ends_like_the_uninterrupted_run(tmp_path):
    dataset = make_dataset(tmp_path / "data")
    every = {"TRAIN__VAL_INTERVAL": 1}
    run_train(dataset, tmp_path, "--run", "whole", TRAIN__NUM_EPOCHS=1, **every)
    run_train(dataset, tmp_path, "--run", "parts", TRAIN__NUM_EPOCHS=0, **every)
    go_on = ("--run", "parts", "--resume", "last")
    run_train(dataset, tmp_path, *go_on, TRAIN__NUM_EPOCHS=1, **every)
    states = [content(runs_files(tmp_path, run) / "last.pth") for run in ("whole", "parts")]
    assert states[0] == states[1]


def test_a_run_goes_on_with_its_own_classes_alone(tmp_path):
    """Even where others, or the same ones in another order, are as many."""
    dataset = make_dataset(tmp_path / "data")
    run_train(dataset, tmp_path)
    before = {path: path.read_bytes() for path in runs_files(tmp_path).iterdir()}
    text = dataset.read_text(encoding="utf-8")
    swapped = text.replace("hot dog", "…").replace("Käfer", "hot dog").replace("…", "Käfer")
    more = text.replace("names:\n", "names:\n- zebra\n")
    for content, words in ((swapped, ("'Käfer'", "'hot dog'")), (more, ("5 classes", "4"))):
        dataset.write_text(content, encoding="utf-8")
        for start in ("last", "best"):
            line = error_of(run_train(dataset, tmp_path, "--resume", start, status=2))
            assert all(word in line for word in (*words, "--init-from", "dataset.yaml")), line
    assert before == {path: path.read_bytes() for path in runs_files(tmp_path).iterdir()}


def mini_voc_as_a_table(mini_voc, folder):
    """A dataset.yaml of mini-VOC with a labels table made of its masks, which are out of reach."""
    info = PASCAL_VOC.at(mini_voc)
    rows = {}
    for name in (info.train_list, info.val_list, info.val_train_list):
        entries = read_list(mini_voc / name, mini_voc)
        (folder / name).write_text("".join(f"{entry.image}\n".lstrip() for entry in entries))
        for entry in entries:
            present = np.unique(read_mask(entry.mask))
            rows[entry.image] = [info.classes[i] for i in present if 0 < i < info.num_classes]
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([image, *found] for image, found in rows.items())
    settings = yaml.safe_load(dataset_yaml(replace(info, labels=str(folder / "labels.csv"))))
    (folder / "dataset.yaml").write_text(yaml.safe_dump(settings))
    return folder / "dataset.yaml"


@pytest.mark.parametrize("model", ["bsl", pytest.param("ae", marks=pytest.mark.slow)])
def test_a_table_made_of_masks_trains_the_same_weights(mini_voc, tmp_path, model):
    changes = {"TRAIN__NUM_EPOCHS": "0", "TRAIN__PRETRAIN": "0", "NET__MODEL": model}
    train(mini_voc, tmp_path, "--run", "masks", **changes)
    table = mini_voc_as_a_table(mini_voc, tmp_path)
    train(mini_voc, tmp_path, "--run", "table", "--dataset", str(table), **changes)
    runs = [tmp_path / "snapshots/pascal_voc/tests" / run for run in ("masks", "table")]
    files = [{path.name: content(path) for path in run.glob("*.pth")} for run in runs]
    assert len(files[0]) >= 3 and files[0] == files[1]
    infos = [read_dataset(run / "dataset.yaml") for run in runs]
    assert (infos[0].labels, infos[1].labels) == ("", str(tmp_path / "labels.csv"))
