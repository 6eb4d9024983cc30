"""Snapshots on disk."""

import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from golden_recipe import entries, golden_config
from small_network import SMALL, SmallNetwork, message, meta_network, save_shapes, shapes

import core.checkpoint
from core.checkpoint import load_file, load_model, read_snapshot, read_weights, save_model
from core.distributed import parallelise
from core.published import own_state, published_state
from models import get_model
from models.backbones import BACKBONES
from models.builder import MODELS
from utils.errors import UserError

ROOT = Path(__file__).parents[2]


def same_weights(one, other):
    ours, theirs = one.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        torch.equal(ours[name], theirs[name]) for name in ours
    )


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
        assert "mkdir" in message(load_model, SmallNetwork(), path)
    assert not folder.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files(saved, zipped):
    path, content = saved
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    whole = path.read_bytes()
    for length in range(1, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:length])
        line = message(load_file, path)
        assert line.startswith(f"{path} is no weights file")
        if length > 2:  # of less, all may be text
            assert line.endswith("); fetch or write it anew")
    # a ZIP file's directory is at its end
    for place in range(len(whole) - 200, len(whole)):
        path.write_bytes(whole[:place] + b"\xff" + whole[place + 1 :])
        with suppress(UserError):
            load_file(path)


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


@pytest.mark.slow
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


@pytest.mark.parametrize(
    "error", [RuntimeError("DataLoader worker (pid 7) died"), KeyboardInterrupt()]
)
def test_what_interrupts_a_save_comes_through(tmp_path, monkeypatch, error):
    class Interrupted:
        calls = 0

        def write(self, data):
            self.calls += 1
            if self.calls == 5:  # of a dozen: from the second one on, torch.save has its own error
                raise error
            return len(data)

        def flush(self):
            pass

    path = tmp_path / "model.pth"
    path.write_bytes(b"an earlier one")
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, Interrupted()))
    with pytest.raises(type(error)) as raised:
        core.checkpoint.save_file({"weight": torch.zeros(10)}, path)
    assert raised.value is error
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"an earlier one"]
