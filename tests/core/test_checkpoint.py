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
    read_snapshot,
    read_weights,
    save_model,
)
from core.distributed import parallelise
from core.published import own_state, published_state
from models import get_model
from models.backbones import BACKBONES, get_backbone_record
from models.backbones.record import BackboneRecord, Tap, WeightsFile
from models.builder import MODELS
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


def save_shapes(path, pairs):
    """A file of entries with these names and shapes, each full of its number, in little space."""
    content = {}
    for number, (name, shape) in enumerate(pairs):
        is_count = name.endswith("num_batches_tracked")
        value = torch.tensor(number, dtype=torch.int64 if is_count else torch.float32)
        content[name] = value.expand(shape)
    torch.save(content, path)
    return content


def meta_network(backbone, model):
    with torch.device("meta"):  # shapes without memory
        return get_model(golden_config(backbone, model))


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


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("backbone", BACKBONES)
def test_published_snapshots_of_every_network_come_back(tmp_path, backbone, model):
    path = tmp_path / "model.pth"
    content = save_shapes(path, entries(backbone, model))
    network = meta_network(backbone, model)
    state = read_snapshot(network, path)
    network.load_state_dict(own_state(network, state), assign=True)
    assert not any(tensor.is_meta for tensor in network.state_dict().values())
    torch.save(published_state(network), path)
    again = read_weights(path)
    assert list(shapes(again).items()) == entries(backbone, model)
    last_alias = {
        name: aliases[-1] for aliases in network.published_aliases.values() for name in aliases
    }
    for name in again.keys() - network.published_constants().keys():
        assert again[name].flatten()[0] == content[last_alias.get(name, name)].flatten()[0], name


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
        f"{path} does not fit: it is of no network known here; it lacks tail.bias; the network "
        "does not have ending.bias; 1.num_batches_tracked is 1, the network's is scalar, "
        "head.weight is 2×5×1×1, the network's is 2×4×1×1; 10 of the network's 13 entries match; "
        "take another snapshot"
    )
    assert all(map(torch.equal, before, network.parameters()))


@pytest.mark.parametrize("name", SMALL)
def test_every_entry_is_demanded(saved, name):
    path, content = saved
    torch.save({other: content[other] for other in content if other != name}, path)
    line = message(load_model, SmallNetwork(), path)
    assert f"; it lacks {name}; 12 of the network's 13 entries match; " in line


def test_another_network_is_summed_up(saved):
    path, _ = saved
    save_shapes(path, entries("vgg16", "bsl"))
    line = message(load_model, SmallNetwork(), path)
    assert "does not fit: it looks like a snapshot of bsl with vgg16; it lacks 0.weight, " in line
    assert "; it lacks 0.weight, 0.bias, 1.weight and 10 more; " in line
    assert "does not have conv1_1.weight, conv1_1.bias, conv1_2.weight and " in line
    assert line.endswith("; 0 of the network's 13 entries match; take another snapshot")


@pytest.mark.parametrize(
    ("needed", "other", "remedy"),
    [
        (("vgg16", "ae"), ("vgg16", "bsl"), "give --set NET.MODEL bsl"),
        (
            ("resnet50", "bsl"),
            ("resnet101", "bsl"),
            "set CONFIG (--cfg) to a configuration with NET.BACKBONE resnet101",
        ),
        (
            ("resnet101", "bsl"),
            ("resnet50", "ae"),
            "set CONFIG (--cfg) to a configuration with NET.BACKBONE resnet50 and give --set "
            "NET.MODEL ae",
        ),
        (("resnet38", "bsl"), ("resnet38", "ae"), "give --set NET.MODEL ae"),
    ],
)
def test_a_snapshot_of_another_network_names_both_and_a_remedy(tmp_path, needed, other, remedy):
    path = tmp_path / "model.pth"
    save_shapes(path, entries(*other))
    line = message(load_model, meta_network(*needed), path)
    both = "it looks like a snapshot of {1} with {0}, needed is a snapshot of {3} with {2}; "
    assert both.format(*other, *needed) in line
    assert line.endswith(f" entries match; {remedy}, or take another snapshot")


def test_more_than_is_needed_does_not_read_like_success(tmp_path):
    path = tmp_path / "model.pth"
    save_shapes(path, [*entries("vgg16", "bsl"), ("extra.weight", (2,))])
    line = message(load_model, meta_network("vgg16", "bsl"), path)
    assert "; the network does not have extra.weight; 33 of the network's 33 entries" in line


def test_imagenet_weights_and_snapshots_are_told_apart(tmp_path):
    network = meta_network("vgg16", "ae")
    record = get_backbone_record("vgg16")
    path = tmp_path / "model.pth"
    save_shapes(path, shapes(network.backbone.state_dict()).items())
    line = message(load_model, network, path)
    assert "it looks like ImageNet weights of vgg16, needed is a snapshot of ae with vgg16" in line
    assert line.endswith("; take another snapshot")
    save_shapes(path, entries("vgg16", "ae"))
    line = message(load_pretrained, network, record, path)
    assert "it looks like a snapshot of ae with vgg16, needed is ImageNet weights of vgg16" in line
    assert line.endswith(
        "; `bash launch/get_weights.sh vgg16` puts them at models/weights/vgg16_20M.pth"
    )


def test_imagenet_weights_of_another_backbone(tmp_path):
    path = tmp_path / "weights.pth"
    other = meta_network("resnet50", "bsl").backbone.state_dict()
    save_shapes(path, [*shapes(other).items(), ("fc.weight", (1000, 2048))])
    line = message(load_pretrained, meta_network("vgg16", "ae"), BACKBONES["vgg16"], path)
    assert "it looks like ImageNet weights of resnet50, needed is ImageNet weights of vgg16" in line
    assert "with NET.BACKBONE resnet50, or `bash launch/get_weights.sh vgg16` puts them" in line


def test_a_damaged_snapshot_is_recognised_all_the_same(tmp_path):
    path = tmp_path / "model.pth"
    save_shapes(path, [pair for pair in entries("vgg16", "ae") if pair[0] != "fc6.bias"])
    assert message(load_model, meta_network("vgg16", "ae"), path) == (
        f"{path} does not fit: it is nearly a snapshot of ae with vgg16; it lacks fc6.bias; 110 of "
        "the network's 111 entries match; take another snapshot"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head.weight": torch.zeros(2, 4, 1, 1, dtype=torch.int64)}, "head.weight holds int64, "),
        ({"head.weight": torch.zeros(2, 4, 1, 1, dtype=torch.complex64)}, "holds complex64, the "),
        ({"1.num_batches_tracked": torch.zeros(())}, "holds float32, the network's int64; 12 of"),
    ],
)
def test_another_kind_of_number_is_refused(saved, change, words):
    path, content = saved
    torch.save({**content, **change}, path)
    assert words in message(load_model, SmallNetwork(), path)


def test_half_precision_loads(saved):
    path, content = saved
    halves = {name: tensor.half() for name, tensor in content.items() if tensor.dim()}
    torch.save({**content, **halves}, path)
    network = SmallNetwork()
    load_model(network, path)
    assert network.tail.weight.dtype == torch.float32
    assert torch.equal(network.tail.weight, content["tail.weight"].half().float())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_refused(saved, value):
    path, content = saved
    content["1.running_var"][2] = value
    torch.save(content, path)
    assert message(load_model, SmallNetwork(), path) == (
        f"{path} holds weights that are not finite: 1.running_var; take another snapshot"
    )


def test_a_prefix_that_not_all_entries_have_is_a_name(saved):
    path, content = saved
    content["module.tail.bias"] = content.pop("tail.bias")
    torch.save(content, path)
    line = message(load_model, SmallNetwork(), path)
    assert "it lacks tail.bias; the network does not have module.tail.bias; 12 of" in line


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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "found an empty dictionary"),
        ({"epoch": 3, "state_dict": {"w": torch.zeros(2)}}, "found a dictionary with 'epoch', 's"),
        ({"w": torch.zeros(2), "extra": 3}, "but its entry 'extra' is an int"),
        pytest.param(
            {"w": torch.zeros(2).to_sparse()},
            "but its entry 'w' is a tensor of layout torch.sparse_coo",
            marks=pytest.mark.filterwarnings("ignore:Validating sparse"),
        ),
        ({"w": torch.zeros(2, device="meta")}, "but its entry 'w' is a tensor without values"),
        ([torch.zeros(2)], "found a list"),
        (torch.zeros(2), "found a Tensor"),
        (3, "found an int"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, words):
    path = tmp_path / "model.pth"
    torch.save(content, path)
    line = message(load_model, SmallNetwork(), path)
    start = f"{path} is no weights file: expected a dictionary of tensors, {words}"
    assert line.startswith(start)
    assert line.endswith("; take another file, or save the network's state_dict alone")


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
    network.backbone[1].num_batches_tracked += 3
    line = load_pretrained(network, RECORD, path)
    assert line == (
        f"{path}: 6 entries loaded, BatchNorm counters set anew; left out: fc8.weight, fc9.bias"
    )
    assert network.backbone[1].num_batches_tracked == 0
    for name in ("0.weight", "0.bias", "1.running_mean", "1.weight"):
        assert torch.equal(network.backbone.state_dict()[name], imagenet[name])
    assert torch.equal(network.head.weight, head)


def test_pretrained_weights_without_a_classifier(tmp_path, imagenet):
    path = tmp_path / "small.pth"
    torch.save({name: imagenet[name] for name in imagenet if not name.startswith("fc")}, path)
    assert load_pretrained(SmallNetwork(), RECORD, path).endswith("left out: none")


def test_batch_counters_that_the_file_has_are_kept(tmp_path, imagenet):
    path = tmp_path / "small.pth"
    torch.save({**imagenet, "1.num_batches_tracked": torch.tensor(9)}, path)
    network = SmallNetwork()
    line = load_pretrained(network, RECORD, path)
    assert line == f"{path}: 7 entries loaded; left out: fc8.weight, fc9.bias"
    assert network.backbone[1].num_batches_tracked == 9


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
    assert line.startswith(f"{path} does not fit: ") and f"; {words}; " in line
    assert line.endswith(
        "entries match; `bash launch/get_weights.sh small` puts them at models/weights/small.pth"
    )


def test_missing_pretrained_weights_say_where_to_get_them(tmp_path):
    path = tmp_path / "none.pth"
    line = message(load_pretrained, SmallNetwork(), RECORD, path)
    for words in ("NET.PRE_WEIGHTS_PATH", "models/weights/small.pth", "NET.FREEZE_BN False"):
        assert words in line
    assert str(path) in line and "`bash launch/get_weights.sh small`" in line


def test_a_folder_in_place_of_pretrained_weights(tmp_path):
    line = message(load_pretrained, SmallNetwork(), RECORD, tmp_path)
    assert line.startswith(f"NET.PRE_WEIGHTS_PATH {tmp_path} is a directory; ")
    assert "models/weights/small.pth" in line


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
