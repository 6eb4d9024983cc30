"""A run that starts from a snapshot of other classes: all of it but the class layer."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from small_network import message
from training_command import error_of, flatten, snapshot_folder, snapshots, state_of, train

from core.checkpoint import load_all_but_classes, save_model
from core.config import Config
from core.published import class_entries, published_state
from models import get_model
from models.builder import MODELS

QUICK = {"TRAIN__NUM_EPOCHS": "0", "TRAIN__PRETRAIN": "0"}
# as published configurations have it; the weights do not exist
FROZEN = {"NET__FREEZE_BN": "True", "NET__PRE_WEIGHTS_PATH": "no/such.pth"}
CLASS_LAYERS = {
    "ae": ["last_conv.8.weight", "last_conv.8.bias"],
    "bsl": ["fc8.weight", "cls_branch.2.weight", "mask_branch.0.weight"],
}


def network(model, num_classes, seed=0):
    torch.manual_seed(seed)
    return get_model(replace(Config().NET, MODEL=model, BACKBONE="vgg16"), num_classes)


@pytest.fixture
def six_objects(tmp_path, thin_vgg16):
    """Snapshots of networks of six objects, by model."""
    paths = {model: tmp_path / f"{model}.pth" for model in MODELS}
    for model, path in paths.items():
        save_model(network(model, 7, seed=1), path)
    return paths


@pytest.mark.parametrize("model", MODELS)
def test_the_class_layer_is_all_that_depends_on_the_number_of_classes(model, thin_vgg16):
    few, many = (published_state(network(model, number)) for number in (2, 7))
    differing = [name for name in few if few[name].shape != many[name].shape]
    assert differing == class_entries(network(model, 7)) == CLASS_LAYERS[model]


@pytest.mark.parametrize("model", MODELS)
def test_six_objects_to_three(model, six_objects):
    three = network(model, 4, seed=2)
    line = load_all_but_classes(three, six_objects[model])
    loaded, fresh = published_state(three), published_state(network(model, 4, seed=2))
    saved = torch.load(six_objects[model], weights_only=True)
    for name, tensor in loaded.items():
        source = fresh if name in CLASS_LAYERS[model] else saved
        assert torch.equal(tensor, source[name]), name
    left_out = CLASS_LAYERS[model]
    assert f"{len(saved) - len(left_out)} entries loaded" in line
    assert line.startswith(str(six_objects[model]))
    assert line.endswith(f"left out: {', '.join(left_out)}")


@pytest.mark.slow
def test_another_model_is_refused_with_both_named(six_objects):
    bsl = network("bsl", 4)
    before = {name: tensor.clone() for name, tensor in bsl.state_dict().items()}
    line = message(load_all_but_classes, bsl, six_objects["ae"])
    for words in (str(six_objects["ae"]), "ae with vgg16", "bsl with vgg16", "NET.MODEL ae"):
        assert words in line
    assert all(torch.equal(tensor, before[name]) for name, tensor in bsl.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("change", ["lacks", "differs", "is not finite"])
def test_all_other_entries_must_match(six_objects, change):
    path, name = six_objects["bsl"], "fc7.bias"
    state = torch.load(path, weights_only=True)
    length = len(state.pop(name))
    if change == "differs":
        state[name] = torch.zeros(length + 1)
    elif change == "is not finite":
        state[name] = torch.full((length,), torch.nan)
    torch.save(state, path)
    assert name in message(load_all_but_classes, network("bsl", 4), path)


def test_a_missing_file_is_named_with_the_option(tmp_path, thin_vgg16):
    for path in (tmp_path / "none.pth", tmp_path):
        line = message(load_all_but_classes, network("bsl", 4), path)
        assert "--init-from" in line and str(path) in line


def content(path):
    return torch.load(path, weights_only=True)


def first(folder, run):
    """The snapshot taken before the run's first epoch."""
    return next(path for name, path in snapshots(folder, run).items() if name[:5] == "e000X")


@pytest.fixture(scope="module")
def base(mini_voc, tmp_path_factory):
    """A folder with a run `base`, and the path of its snapshot."""
    folder = tmp_path_factory.mktemp("base")
    train(mini_voc, folder, "--run", "base", "--random-seed", "5", **QUICK)
    return folder, first(folder, "base")


def test_a_run_starts_from_all_but_the_class_layer(mini_voc, base):
    folder, snapshot = base
    start = ("--run", "new", "--init-from", str(snapshot))
    result = train(mini_voc, folder, *start, **QUICK, **FROZEN)
    [line] = [line for line in result.stdout.splitlines() if str(snapshot) in line]
    assert line.endswith(f"left out: {', '.join(CLASS_LAYERS['bsl'])}")
    train(mini_voc, folder, "--run", "fresh", **QUICK)
    started, saved, fresh = (
        content(path) for path in (first(folder, "new"), snapshot, first(folder, "fresh"))
    )
    for name, tensor in started.items():
        source = fresh if name in CLASS_LAYERS["bsl"] else saved
        assert torch.equal(tensor, source[name]), name
    assert not torch.equal(fresh["fc8.weight"], saved["fc8.weight"])


@pytest.mark.slow
def test_it_resumes_as_if_nothing_had_happened(mini_voc, base):
    folder, snapshot = base
    start = ("--init-from", str(snapshot))
    train(mini_voc, folder, "--run", "whole", *start, TRAIN__NUM_EPOCHS="2", **FROZEN)
    once = ("--run", "parts", "--resume", "auto")  # of which there is nothing yet to go on from
    result = train(mini_voc, folder, *once, *start, TRAIN__NUM_EPOCHS="1", **FROZEN)
    assert "left out: fc8.weight" in result.stdout
    result = train(mini_voc, folder, *once, TRAIN__NUM_EPOCHS="2", **FROZEN)
    assert "epoch 2, trained" in result.stdout and "epoch 1, trained" not in result.stdout
    states = [content(snapshot_folder(folder, run) / "last.pth") for run in ("whole", "parts")]
    assert flatten(states[0]) == flatten(states[1])

    # with the option, and without its file, it goes on all the same, and says so
    again = train(
        mini_voc, folder, *once, "--init-from", "gone.pth", TRAIN__NUM_EPOCHS="2", **FROZEN
    )
    assert "--init-from gone.pth" in again.stdout and "left out" not in again.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--resume", "last"), ("--init-from", "--resume last")),
        (("--resume", "best"), ("--init-from", "--resume best")),
        (("--overwrite", "--init-from", "none.pth"), ("--init-from", "none.pth")),
        (("--overwrite",), ("--init-from", "--overwrite", "RUN_ID")),
        ((), ("already holds a run",)),
    ],
)
def test_mistakes_end_in_one_line_and_touch_nothing(mini_voc, base, arguments, words):
    folder, snapshot = base
    before = state_of(folder, "base")
    given = ("--run", "base", "--random-seed", "5", "--init-from", str(snapshot), *arguments)
    line = error_of(train(mini_voc, folder, *given, status=2, **QUICK))
    assert all(word in line for word in words), line
    assert state_of(folder, "base") == before


def test_a_snapshot_of_another_network_costs_an_earlier_run_nothing(mini_voc, base, tmp_path):
    folder, snapshot = base
    before = state_of(folder, "base")
    # beside the run, whose own snapshots --overwrite would discard
    other = shutil.copy(snapshot, tmp_path)
    given = ("--run", "base", "--overwrite", "--init-from", str(other))
    line = error_of(train(mini_voc, folder, *given, status=2, NET__MODEL="ae", **QUICK))
    assert all(word in line for word in (str(other), "bsl with vgg16", "ae with vgg16"))
    assert state_of(folder, "base") == before
