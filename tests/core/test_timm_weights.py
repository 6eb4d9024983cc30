"""Weights of timm's backbones: its own, files of timm's or torchvision's names, and snapshots."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision
from golden_recipe import golden_config
from safetensors.torch import save_file
from small_network import message, save_shapes
from timm_networks import EACH, SMALL_NAMES, build, stride_of
from torch import Tensor, nn

from core.checkpoint import load_all_but_classes, load_model, load_pretrained, save_model
from core.config import load_config
from core.get_weights import parse_args
from core.published import published_state
from core.training.resume import load_weights
from models import get_model
from models.backbones import get_backbone_spec
from models.network import Network
from utils.errors import UserError

SMALL = "timm/test_resnet"


def imagenet(name: str) -> dict[str, Tensor]:
    """What timm's file of a model holds, with other values than a fresh one's."""
    state = timm.create_model(name.removeprefix("timm/")).state_dict()
    random = torch.Generator().manual_seed(3)
    return {
        each: torch.rand(value.shape, generator=random) if value.is_floating_point() else value + 7
        for each, value in state.items()
    }


def write(state: dict[str, Tensor], path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save(state, path)
    return path


def network_of(name: str, **net: object) -> Network:
    return get_model(golden_config(name, "bsl", OUTPUT_STRIDE=stride_of(name), **net))


def load(path: object, name: str = SMALL, network: Network | None = None) -> str:
    spec = get_backbone_spec(name)
    return load_pretrained(network or network_of(name), spec, path)


def plain(name: str) -> str:
    """A name as timm has it where stages are parts of a sequence."""
    return name.removeprefix("timm.").replace("_", ".")


@EACH
def test_a_file_of_timms(tmp_path, name):
    state = imagenet(name)
    path = write(state, tmp_path / "model.safetensors")
    network = network_of(name)
    line = load(path, name, network)
    entries = network.backbone.state_dict()
    assert line.startswith(f"{path}: {len(entries)} entries loaded")
    by_name = {each.replace("_", "."): value for each, value in state.items()}
    for each, value in entries.items():
        assert torch.equal(value, by_name[plain(each)]), each


def test_what_timms_own_training_wrote(tmp_path):
    state = imagenet(SMALL)
    wrapped = {"state_dict": {f"module.{each}": value for each, value in state.items()}, "epoch": 3}
    network = network_of(SMALL)
    load(write(wrapped, tmp_path / "checkpoint.pth.tar"), SMALL, network)
    assert torch.equal(network.backbone.timm.conv1[0].weight, state["conv1.0.weight"])


def test_torchvisions_names(tmp_path):
    state = torchvision.models.resnet18(weights=None).state_dict()
    network = network_of("timm/resnet18")
    load(write(state, tmp_path / "resnet18.pth"), "timm/resnet18", network)
    for each, value in network.backbone.timm.state_dict().items():
        assert torch.equal(value, state[each]), each


def test_a_file_without_a_classifier_or_with_another(tmp_path):
    state = {each: v for each, v in imagenet(SMALL).items() if not each.startswith("fc.")}
    load(write(state, tmp_path / "none.pth"))
    load(write({**state, "head.weight": torch.zeros(1000, 2)}, tmp_path / "other.pth"))
    load(write({**state, "fc.weight": torch.zeros(7, 3)}, tmp_path / "of 7.pth"))


def test_old_files_without_batch_counters(tmp_path):
    state = {each: v for each, v in imagenet(SMALL).items() if not each.endswith("tracked")}
    network = network_of(SMALL, FREEZE_BN=False)
    load(write(state, tmp_path / "old.pth"), SMALL, network)
    assert torch.equal(network.backbone.timm.conv1[0].weight, state["conv1.0.weight"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"layer1.0.conv1.weight": None}, "it lacks layer1.0.conv1.weight"),
        ({"layer9.weight": torch.zeros(3)}, "the network does not have layer9.weight"),
        ({"layer1.0.bn1.weight": torch.zeros(3)}, "layer1.0.bn1.weight"),
        ({"layer1.0.bn1.weight": torch.full((32,), torch.nan)}, "finite"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_that_does_not_fit(tmp_path, suffix, change, words):
    changed = imagenet(SMALL) | change
    state = {each: value for each, value in changed.items() if value is not None}
    path = write(state, tmp_path / f"model{suffix}")
    network = network_of(SMALL)
    before = {each: value.clone() for each, value in network.state_dict().items()}
    line = message(load, path, SMALL, network)
    assert line.startswith(f"{path} ") and words in line
    assert "NET.PRE_WEIGHTS_PATH timm" in line
    assert all(torch.equal(value, before[each]) for each, value in network.state_dict().items())


def test_a_file_of_another_network_says_which(tmp_path):
    path = tmp_path / "resnet50.pth"
    with torch.device("meta"):
        state = torchvision.models.resnet50(weights=None).state_dict()
    save_shapes(path, [(each, tuple(value.shape)) for each, value in state.items()])
    line = message(load, path)
    assert f"it looks like ImageNet weights of resnet50, needed is ImageNet weights of {SMALL}" in (
        line
    )


def test_files_that_are_not_there(tmp_path):
    line = message(load, tmp_path / "none.pth")
    assert "NET.PRE_WEIGHTS_PATH timm" in line and "NET.FREEZE_BN False" in line
    assert "NET.PRE_WEIGHTS_PATH timm" in message(load, tmp_path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """timm's hub out of reach, and its cache, empty: the folder of the models."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def fill(hub: Path, name: str) -> dict[str, Tensor]:
    """Put what the hub has of a model into the cache, as a download leaves it."""
    state = imagenet(name)
    identity = timm.get_pretrained_cfg(name.removeprefix("timm/")).hf_hub_id
    folder = hub / f"models--{identity.replace('/', '--')}"
    write(state, folder / "snapshots" / "0a1b" / "model.safetensors")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("0a1b")
    return state


@pytest.mark.parametrize("name", SMALL_NAMES)
def test_timms_own_weights(hub, name):
    state = fill(hub, name)
    network = network_of(name)
    line = load("timm", name, network)
    assert name in line
    by_name = {each.replace("_", "."): value for each, value in state.items()}
    for each, value in network.backbone.state_dict().items():
        assert torch.equal(value, by_name[plain(each)]), each


def test_a_download_that_fails_names_the_file(hub):
    line = message(load, "timm")
    assert line.startswith("NET.PRE_WEIGHTS_PATH timm: ")
    assert "model.safetensors of timm/test_resnet.r160_in1k" in line and len(line.split()) <= 30


def test_a_model_without_weights():
    line = message(load, "timm", "timm/resnetblur18")
    assert line.startswith("NET.PRE_WEIGHTS_PATH timm: timm has no weights of resnetblur18")
    assert "NET.FREEZE_BN False" in line


def test_loading_stays_pytorchs_own(hub):
    before = nn.Module.load_state_dict
    message(load, "timm")
    assert nn.Module.load_state_dict is before


def test_training_without_weights_says_how_to_get_them():
    config = load_config(None, ["NET.BACKBONE", SMALL, "NET.MODEL", "bsl"])
    line = message(load_weights, network_of(SMALL), config, None)
    assert "NET.PRE_WEIGHTS_PATH timm" in line and "NET.FREEZE_BN False" in line
    free = load_config(None, ["NET.BACKBONE", SMALL, "NET.FREEZE_BN", "False"])
    load_weights(network_of(SMALL, FREEZE_BN=False), free, None)


def test_training_starts_from_a_file(tmp_path, capsys):
    state = imagenet(SMALL)
    path = write(state, tmp_path / "model.safetensors")
    config = load_config(None, ["NET.BACKBONE", SMALL, "NET.PRE_WEIGHTS_PATH", str(path)])
    network = network_of(SMALL)
    load_weights(network, config, None)
    assert str(path) in capsys.readouterr().out
    assert torch.equal(network.backbone.timm.conv1[0].weight, state["conv1.0.weight"])


@EACH
def test_snapshots_come_back(tmp_path, name):
    network, other = build(name), build(name, FREEZE_BN=False)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 1
    path = tmp_path / "model.pth"
    save_model(network, path)
    load_model(other, path)
    ours = network.state_dict()
    assert other.state_dict().keys() == ours.keys()
    assert all(torch.equal(value, ours[each]) for each, value in other.state_dict().items())
    # under names that no part of a published network has
    assert [each for each in torch.load(path) if each.startswith("timm.")] == list(
        network.backbone.state_dict()
    )


def test_snapshots_load_strictly(tmp_path):
    path = tmp_path / "model.pth"
    network = build(SMALL, "bsl")
    state = {each: value.clone() for each, value in published_state(network).items()}
    for change, words in (
        ({"timm.conv1.0.weight": None}, "it lacks timm.conv1.0.weight"),
        ({"timm.other": torch.zeros(2)}, "the network does not have timm.other"),
    ):
        changed = state | change
        write({each: v for each, v in changed.items() if v is not None}, path)
        line = message(load_model, network, path)
        assert f"it is nearly a snapshot of bsl with {SMALL}; {words}" in line


def test_snapshots_of_other_classes(tmp_path):
    path = tmp_path / "model.pth"
    save_model(build(SMALL, "bsl"), path)
    other = get_model(golden_config(SMALL, "bsl"), num_classes=5)
    line = message(load_model, other, path)
    assert f"a snapshot of bsl with {SMALL} of 20 objects, and the data set has 4" in line
    assert "left out: fc8.weight" in load_all_but_classes(other, path)


def test_snapshots_of_another_backbone(tmp_path):
    path = tmp_path / "model.pth"
    save_model(build(SMALL, "bsl"), path)
    with pytest.raises(UserError, match="needed is a snapshot of bsl with timm/test_efficientnet"):
        load_model(network_of("timm/test_efficientnet"), path)


def test_snapshots_of_a_backbone_that_their_config_names(tmp_path):
    """Which no list of entries knows."""
    path = tmp_path / "model.pth"
    save_model(build(SMALL, "bsl"), path)
    other = network_of("timm/test_convnext")
    words = ["NET.MODEL", "bsl", "NET.BACKBONE", SMALL]
    (tmp_path / "config.yaml").write_text(load_config(None, words).to_yaml())
    line = message(load_model, other, path)
    assert f"it looks like a snapshot of bsl with {SMALL}, needed is" in line
    assert f"NET.BACKBONE {SMALL}" in line and "lacks" not in line
    # a snapshot that is none of its configuration's
    (tmp_path / "config.yaml").write_text("NET: {BACKBONE: ")
    assert "of no network known here" in message(load_model, other, path)


def test_get_weights_leaves_those_of_timm_to_timm(monkeypatch):
    monkeypatch.setattr("sys.argv", ["get_weights", "resnet50", "timm/convnext_atto"])
    line = message(parse_args)
    assert "NET.BACKBONE timm/convnext_atto NET.PRE_WEIGHTS_PATH timm" in line
