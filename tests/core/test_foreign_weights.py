"""Weights files as others wrote them: what is plainly a state dict loads, the rest is named."""

import argparse
import gzip
import io
import json
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from small_network import SPEC, SmallNetwork, message
from torch import nn

from core.checkpoint import load_file, load_model, load_pretrained, read_weights
from core.config import load_config
from core.training.engine import Trainer
from core.training.resume import load_last, save_last


def prefixed(content, prefix):
    return {f"{prefix}{name}": tensor for name, tensor in content.items()}


@pytest.mark.parametrize(
    ("wrap", "words"),
    [
        (lambda c: {"state_dict": c, "epoch": 3}, " from its 'state_dict'"),
        (
            lambda c: {"model": c, "optimizer": {"state": {}}, "loss": torch.ones(1)},
            " from its 'model'",
        ),
        (lambda c: {"model": {"state_dict": c}}, " from its 'model' from its 'state_dict'"),
        (lambda c: prefixed(c, "module.module."), " without the prefix module.module."),
        (lambda c: prefixed(c, "_orig_mod."), " without the prefix _orig_mod."),
        (
            lambda c: {"state_dict": prefixed(c, "module._orig_mod.")},
            " from its 'state_dict' without the prefix module._orig_mod.",
        ),
        (lambda c: {"net": c, "epoch": 1, "optimizer": {"state": {}}}, " from its 'net'"),
        (lambda c: {"state_dict": {"net": c}}, " from its 'state_dict' from its 'net'"),
        (
            lambda c: {name.replace(".", "._orig_mod.", 1): c[name] for name in c},
            " without _orig_mod. in names",
        ),
    ],
)
def test_a_state_dict_loads_whatever_is_around_it(saved, wrap, words):
    path, content = saved
    torch.save(wrap(content), path)
    network = SmallNetwork()
    assert load_model(network, path) == f"{path}: all 13 entries loaded{words}"
    assert torch.equal(network.tail.bias, content["tail.bias"])


@pytest.mark.slow
def test_what_fits_twice_or_in_part_is_not_guessed(saved):
    path, content = saved
    torch.save({"state_dict": content, "model": content}, path)
    assert "found a dictionary with 'state_dict', 'model'" in message(read_weights, path)
    torch.save({"net": content, "ema": content}, path)
    assert "found a dictionary with 'net', 'ema'" in message(read_weights, path)
    torch.save(content | {"tail._orig_mod.bias": torch.ones(1)}, path)
    assert "does not have tail._orig_mod.bias" in message(load_model, SmallNetwork(), path)
    torch.save({"state_dict": content | {"module.extra": torch.ones(1)}}, path)
    assert "does not have module.extra" in message(load_model, SmallNetwork(), path)


def test_imagenet_weights_say_what_was_taken_off(tmp_path):
    network = SmallNetwork()
    content = prefixed(network.backbone.state_dict(), "module.")
    torch.save({"state_dict": content}, tmp_path / "w.pth")
    line = load_pretrained(network, SPEC, tmp_path / "w.pth")
    assert " entries loaded from its 'state_dict' without the prefix module.; left out" in line


def test_our_own_last_state_is_a_snapshot(tmp_path):
    network = SmallNetwork()
    trainer = Trainer(network, load_config(), torch.device("cpu"))
    save_last(tmp_path, trainer, epoch=1, best_score=0.5, seed=1)
    other = SmallNetwork()
    assert load_model(other, tmp_path / "last.pth").endswith("loaded from its 'model'")
    assert torch.equal(other.tail.bias, network.tail.bias)
    assert load_last(tmp_path).epoch == 1


NUMBERS = {
    "double": np.float64(3.5),
    "single": np.float32(-1),
    "whole": np.int64(-4),
    "byte": np.uint8(200),
    "truth": np.bool_(True),
    "complex": np.complex64(1 + 2j),
    "foreign": np.frombuffer(np.array(2.5, ">f8").tobytes(), ">f8")[0],
}


@pytest.mark.parametrize("older", ["numpy._core", "numpy.core"])
@pytest.mark.parametrize("zipped", [True, False])
def test_numpy_numbers_beside_the_weights(saved, zipped, older):
    path, content = saved
    whole = {"state_dict": content, "best": NUMBERS}
    torch.save(whole, path, _use_new_zipfile_serialization=zipped)
    if not zipped:
        # a name of NumPy 1 or 2, whichever is installed
        data = path.read_bytes()
        for name in (b"numpy._core.multiarray\n", b"numpy.core.multiarray\n"):
            data = data.replace(name, older.encode() + b".multiarray\n")
        assert older.encode() in data
        path.write_bytes(data)
    assert load_file(path)["best"] == {name: value.item() for name, value in NUMBERS.items()}
    load_model(SmallNetwork(), path)


def test_nothing_but_numbers_of_numpy_is_made(tmp_path):
    for number, value in enumerate((np.array([1.0]), np.str_("text"), np.datetime64("2020-01-01"))):
        path = tmp_path / f"{number}.pth"
        torch.save({"state_dict": {"w": torch.ones(1)}, "extra": value}, path)
        assert "holds more than weights, " in message(load_file, path)


def zipped(name, data=b"x"):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file.getvalue()


def tarred():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pth"))
    return file.getvalue()


def safetensors():
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes(4)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "empty"),
        (b"\n <!DOCTYPE html><html>Quota exceeded</html>", "web page"),
        (b"<html><body>404</body></html>", "web page"),
        (b"\xef\xbb\xbf<html>404</html>", "web page"),
        (b'{"err": {"code": 404}}\n', "text"),
        (("\ufeffQuota exceeded: " + 300 * "ü").encode(), "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n", "git lfs pull"),
        (gzip.compress(b"weights"), "gzip"),
        (tarred(), "tar archive"),
        (zipped("model.pth"), "ZIP archive"),
        (zipped("m/constants.pkl"), "TorchScript"),
    ],
    # the bytes, which hold times, would be other names in each process that runs tests
    ids=range(11),
)
def test_something_else_is_named(tmp_path, data, words):
    path = tmp_path / "model.pth"
    path.write_bytes(data)
    line = message(load_model, SmallNetwork(), path)
    assert line.startswith(f"{path} ") and words in line.partition(str(path))[2]
    assert "damaged" not in line


def test_safetensors_are_read(tmp_path):
    path = tmp_path / "model.pth"  # whatever it is called
    path.write_bytes(safetensors())
    content = load_file(path)
    assert list(content) == ["w"] and torch.equal(content["w"], torch.zeros(1))


def test_damaged_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    whole = safetensors()
    for length in range(11, len(whole)):
        path.write_bytes(whole[:length])
        line = message(load_model, SmallNetwork(), path)
        assert line.startswith(f"{path} is a damaged safetensors file; ")


def test_safetensors_without_the_package(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    path.write_bytes(safetensors())
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    line = message(load_file, path)
    assert str(path) in line and line.endswith("`pip install safetensors`")


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_are_named(tmp_path, zipped):
    path = tmp_path / "model.pth"
    for content, words in (
        (nn.Linear(2, 2), "a whole object, pickled (torch.nn.modules.linear.Linear)"),
        ({"args": argparse.Namespace(a=1)}, "more than weights, argparse.Namespace"),
    ):
        torch.save(content, path, _use_new_zipfile_serialization=zipped)
        line = message(load_model, SmallNetwork(), path)
        assert words in line and "state_dict" in line


@pytest.mark.filterwarnings("ignore:.*is deprecated")
def test_a_real_torchscript_file_is_named(tmp_path):
    path = tmp_path / "model.pt"
    torch.jit.trace(nn.Identity(), torch.ones(1)).save(path)
    assert "TorchScript" in message(load_model, SmallNetwork(), path)
