"""Snapshots and ImageNet weights on disk."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from golden_recipe import entries, golden_config
from torch import nn

import core.checkpoint
from core.checkpoint import (
    load_file,
    load_model,
    load_pretrained,
    published_state,
    read_weights,
    save_model,
)
from core.distributed import parallelise
from models import get_model
from models.backbones import get_backbone_record
from models.backbones.record import BackboneRecord, Tap, WeightsFile
from models.network import Network
from utils.errors import UserError

ROOT = Path(__file__).parents[2]


class SmallNetwork(Network):
    """All that a model may declare: an alias, a constant, batch normalisation, two heads."""

    published_aliases: Mapping[str, tuple[str, ...]] = {
        "head.weight": ("head.weight", "first.weight", "second.weight")
    }

    def __init__(self, width=4):
        super().__init__(nn.Sequential(nn.Conv2d(3, width, 3), nn.BatchNorm2d(width)))
        self.stencil = nn.Identity()
        self.head = nn.Conv2d(width, 2, 1, bias=False)
        self.tail = nn.Conv2d(2, 2, 1)
        for parameter in self.parameters():
            nn.init.normal_(parameter)

    def published_constants(self):
        return {"stencil.kernel": torch.eye(3)}


# name → shape, in the order of the file
SMALL = {
    "0.weight": (4, 3, 3, 3),
    "0.bias": (4,),
    "1.weight": (4,),
    "1.bias": (4,),
    "1.running_mean": (4,),
    "1.running_var": (4,),
    "1.num_batches_tracked": (),
    "stencil.kernel": (3, 3),
    "head.weight": (2, 4, 1, 1),
    "first.weight": (2, 4, 1, 1),
    "second.weight": (2, 4, 1, 1),
    "tail.weight": (2, 2, 1, 1),
    "tail.bias": (2,),
}

RECORD = BackboneRecord(
    name="small",
    build=nn.Identity,
    conv3=Tap(256, 4),
    conv6=Tap(4, 8),
    frozen=(),
    lr_multipliers=(1, 2, 10, 20),
    weights=WeightsFile("https://example.org/small.pth", mebibytes=1),
    ignored_weights=("fc8.", "fc9."),
)


def shapes(state):
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def message(function, *arguments):
    """The one line that a mistake ends with."""
    with pytest.raises(UserError) as error:
        function(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


@pytest.fixture
def saved(tmp_path):
    """A small network's snapshot: its path and its content."""
    path = tmp_path / "small.pth"
    save_model(SmallNetwork(), path)
    return path, torch.load(path, weights_only=True)


@pytest.mark.parametrize("model", ["ae", "bsl"])
def test_a_network_comes_back_from_its_file(tmp_path, model):
    network, other = (get_model(golden_config("vgg16", model)) for _ in range(2))
    path = tmp_path / "some" / "folder" / "model.pth"
    save_model(network, path)
    assert list(shapes(torch.load(path, weights_only=True)).items()) == entries("vgg16", model)
    assert not same_weights(other, network)
    load_model(other, path)
    assert same_weights(other, network)


def test_the_file_is_a_plain_dictionary_of_tensors(tmp_path):
    network = parallelise(SmallNetwork(), torch.device("cpu"))  # channels innermost
    path = tmp_path / "model.pth"
    save_model(network, path)
    content = torch.load(path, weights_only=True)
    assert type(content) is dict
    assert list(shapes(content).items()) == list(SMALL.items())
    for tensor in content.values():
        assert type(tensor) is torch.Tensor and not tensor.requires_grad
        assert tensor.is_contiguous() and tensor.device.type == "cpu"
    assert torch.equal(content["0.weight"], network.backbone[0].weight)
    assert torch.equal(content["second.weight"], network.head.weight)
    assert torch.equal(content["stencil.kernel"], torch.eye(3))


def test_a_small_network_comes_back(saved):
    network = SmallNetwork()
    assert load_model(network, saved[0]) == f"{saved[0]}: all 13 entries loaded"
    content = saved[1]
    assert torch.equal(network.backbone[1].running_var, content["1.running_var"])
    assert torch.equal(network.tail.bias, content["tail.bias"])
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_of_aliases_that_differ_the_last_holds(saved):
    path, content = saved
    torch.save({**content, "second.weight": torch.full((2, 4, 1, 1), 7.0)}, path)
    network = SmallNetwork()
    load_model(network, path)
    assert (network.head.weight == 7).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("location", ["cpu", "cuda:1"])
def test_old_files_and_those_of_several_gpus_load(saved, monkeypatch, zipped, prefix, location):
    path, content = saved
    content = OrderedDict((f"{prefix}{name}", tensor) for name, tensor in content.items())
    # what a file of tensors on that GPU says of them
    monkeypatch.setattr(torch.serialization, "location_tag", lambda storage: location)
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    monkeypatch.undo()
    assert zipped or location.encode() in path.read_bytes()
    network = SmallNetwork()
    load_model(network, path)
    assert network.head.weight.device.type == "cpu"
    assert torch.equal(network.head.weight, content[f"{prefix}head.weight"])


def test_a_file_that_does_not_match_names_both_sides(saved):
    path, content = saved
    del content["tail.bias"]
    content["ending.bias"] = torch.zeros(2)
    content["head.weight"] = torch.zeros(2, 5, 1, 1)
    content["1.num_batches_tracked"] = torch.zeros(1)
    torch.save(content, path)
    network = SmallNetwork()
    before = [parameter.clone() for parameter in network.parameters()]
    assert message(load_model, network, path) == (
        f"{path} does not fit NET.MODEL and NET.BACKBONE: it looks like a network not known here, "
        "needed is a network not known here; 10 of 13 entries match: it lacks tail.bias; the "
        "network does not have ending.bias; 1.num_batches_tracked is 1, the network's is scalar, "
        "head.weight is 2×5×1×1, the network's is 2×4×1×1"
    )
    assert all(map(torch.equal, before, network.parameters()))


@pytest.mark.parametrize("name", SMALL)
def test_every_entry_is_demanded(saved, name):
    path, content = saved
    torch.save({other: content[other] for other in content if other != name}, path)
    assert message(load_model, SmallNetwork(), path).endswith(
        f"; 12 of 13 entries match: it lacks {name}"
    )


def test_another_network_is_summed_up(saved):
    path, _ = saved
    torch.save(published_state(get_model(golden_config("vgg16", "bsl"))), path)
    line = message(load_model, SmallNetwork(), path)
    assert "it looks like a snapshot of bsl with vgg16, needed is a network not known" in line
    assert "; 0 of 13 entries match: it lacks 0.weight, 0.bias, 1.weight and 10 more; " in line
    assert "does not have conv1_1.weight, conv1_1.bias, conv1_2.weight and " in line


@pytest.mark.parametrize(
    ("backbone", "model", "other"),
    [
        ("vgg16", "ae", ("vgg16", "bsl")),
        ("resnet50", "bsl", ("resnet101", "bsl")),
        ("resnet101", "ae", ("resnet50", "ae")),
        ("resnet38", "bsl", ("resnet38", "ae")),
    ],
)
def test_a_snapshot_of_another_network_names_both(tmp_path, backbone, model, other):
    path = tmp_path / "model.pth"
    torch.save({name: torch.zeros(()).expand(shape) for name, shape in entries(*other)}, path)
    with torch.device("meta"):
        network = get_model(golden_config(backbone, model))
    line = message(load_model, network, path)
    assert f"it looks like a snapshot of {other[1]} with {other[0]}, " in line
    assert f"needed is a snapshot of {model} with {backbone}; " in line


def test_imagenet_weights_and_snapshots_are_told_apart(tmp_path):
    network = get_model(golden_config("vgg16", "ae"))
    record = get_backbone_record("vgg16")
    path = tmp_path / "model.pth"
    torch.save(network.backbone.state_dict(), path)
    line = message(load_model, network, path)
    assert "it looks like ImageNet weights of vgg16, needed is a snapshot of ae with vgg16" in line
    save_model(network, path)
    line = message(load_pretrained, network, record, path)
    assert "it looks like a snapshot of ae with vgg16, needed is ImageNet weights of vgg16" in line


def test_a_damaged_snapshot_is_recognised_all_the_same(tmp_path):
    network = get_model(golden_config("vgg16", "ae"))
    state = published_state(network)
    del state["fc6.bias"]
    torch.save(state, tmp_path / "model.pth")
    line = message(load_model, network, tmp_path / "model.pth")
    assert line.count("a snapshot of ae with vgg16") == 2
    assert line.endswith("110 of 111 entries match: it lacks fc6.bias")


class Intruder:
    """Pickled, it makes a folder when it is loaded."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickled_object_is_not_executed(tmp_path):
    path, folder = tmp_path / "model.pth", tmp_path / "folder"
    for content in (Intruder(folder), {"weight": Intruder(folder)}):
        path.write_bytes(pickle.dumps(content))
        assert "is no weights file, or it is damaged" in message(load_model, SmallNetwork(), path)
        torch.save(content, path)
        assert "is no weights file, or it is damaged" in message(load_model, SmallNetwork(), path)
    assert not folder.exists()


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2), 3])
def test_a_file_of_something_else(tmp_path, content):
    path = tmp_path / "model.pth"
    torch.save(content, path)
    line = message(load_model, SmallNetwork(), path)
    assert line.startswith(str(path))
    assert "lacks 0.weight" in line or "expected a dictionary of tensors" in line


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files(saved, zipped):
    path, content = saved
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:length])
        line = message(load_file, path)
        assert line.startswith(f"{path} is no weights file, or it is damaged (")
        assert line.endswith("); fetch or write it anew")


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_files_of_text(tmp_path):
    path = tmp_path / "model.pth"
    # the first byte of a pickle is an instruction: each leads elsewhere
    for first in range(256):
        path.write_bytes(bytes([first]) + b" some text\n")
        assert message(read_weights, path).startswith(f"{path} is no weights file")


def test_missing_files_and_folders(tmp_path):
    missing = tmp_path / "none.pth"
    assert message(load_model, SmallNetwork(), missing) == (
        f"cannot read {missing}: No such file or directory"
    )
    assert (
        message(load_model, SmallNetwork(), tmp_path) == f"cannot read {tmp_path}: Is a directory"
    )


@pytest.fixture
def imagenet():
    """ImageNet weights for the small network's backbone, as an old file has them."""
    backbone = SmallNetwork().backbone.state_dict()
    del backbone["1.num_batches_tracked"]
    return {**backbone, "fc8.weight": torch.zeros(9, 4), "fc9.bias": torch.zeros(9)}


def test_pretrained_weights_go_to_the_backbone(tmp_path, imagenet):
    path = tmp_path / "small.pth"
    torch.save(imagenet, path)
    network = SmallNetwork()
    head = network.head.weight.clone()
    line = load_pretrained(network, RECORD, path)
    assert line == f"{path}: 7 entries loaded; left out: fc8.weight, fc9.bias"
    for name in ("0.weight", "0.bias", "1.running_mean", "1.weight"):
        assert torch.equal(network.backbone.state_dict()[name], imagenet[name])
    assert torch.equal(network.head.weight, head)


def test_pretrained_weights_without_a_classifier(tmp_path, imagenet):
    path = tmp_path / "small.pth"
    torch.save({name: imagenet[name] for name in imagenet if not name.startswith("fc")}, path)
    assert load_pretrained(SmallNetwork(), RECORD, path).endswith("left out: none")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"0.bias": None}, "it lacks 0.bias"),
        ({"1.running_mean": None}, "it lacks 1.running_mean"),
        ({"fc7.weight": torch.zeros(2)}, "the network does not have fc7.weight"),
        ({"0.bias": torch.zeros(5)}, "0.bias is 5, the network's is 4"),
    ],
)
def test_pretrained_weights_of_another_network(tmp_path, imagenet, change, words):
    path = tmp_path / "small.pth"
    changed = imagenet | change
    torch.save({name: changed[name] for name in changed if changed[name] is not None}, path)
    line = message(load_pretrained, SmallNetwork(), RECORD, path)
    assert line.startswith(str(path)) and line.endswith(f"entries match: {words}")


def test_missing_pretrained_weights_say_where_to_get_them(tmp_path):
    path = tmp_path / "none.pth"
    line = message(load_pretrained, SmallNetwork(), RECORD, path)
    for words in ("NET.PRE_WEIGHTS_PATH", "models/weights/small.pth", "NET.FREEZE_BN False"):
        assert words in line
    assert str(path) in line and "`bash launch/get_weights.sh small`" in line


def test_a_save_that_fails_midway_keeps_the_earlier_file(saved, monkeypatch):
    path, _ = saved
    whole = path.read_bytes()

    def fails(content, file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(core.checkpoint.torch, "save", fails)
    line = message(save_model, SmallNetwork(), path)
    assert line.startswith(f"cannot write {path}: No space left on device; ")
    assert path.read_bytes() == whole
    assert list(path.parent.iterdir()) == [path]


FULL_DISK = """
import resource, sys
import torch
from core.checkpoint import save_file
from utils.errors import run_command
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
run_command(lambda: save_file({"weight": torch.zeros(10_000)}, sys.argv[1]))
"""


def test_a_disk_that_takes_no_more(tmp_path):
    path = tmp_path / "model.pth"
    path.write_text("earlier")
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: cannot write {path}: File too large; ")
    assert len(done.stderr.splitlines()) == 1
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "run" / "model.pth"
    line = message(save_model, SmallNetwork(), path)
    assert line.startswith(f"cannot write {path}: Not a directory; ")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written(tmp_path):
    tmp_path.chmod(0o500)
    try:
        line = message(save_model, SmallNetwork(), tmp_path / "model.pth")
    finally:
        tmp_path.chmod(0o700)
    assert line.startswith(f"cannot write {tmp_path / 'model.pth'}: Permission denied; ")
