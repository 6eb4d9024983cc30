"""launch/get_weights.sh's work, against a server on this machine."""

import hashlib
import io
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_recipe import entries, golden_config
from loopback_server import LoopbackServer

import core.get_weights
from core.checkpoint import find_snapshot, load_model, load_pretrained
from core.config import load_config
from core.get_weights import ITEMS, SNAPSHOT, SNAPSHOT_FOLDER, main
from models import get_model
from models.backbones import BACKBONES
from utils.errors import UserError

REPOSITORY = Path(__file__).parents[2]


def small_file(shapes):
    """A weights file of these names and shapes; one number stands for all of a tensor."""
    buffer = io.BytesIO()
    torch.save({name: torch.ones(()).expand(shape) for name, shape in shapes}, buffer)
    return buffer.getvalue()


def imagenet_file(backbone):
    """As the published files are: the backbone's entries and a classifier."""
    with torch.device("meta"):
        network = get_model(golden_config(backbone, "bsl"))
    shapes = [(name, tensor.shape) for name, tensor in network.backbone.state_dict().items()]
    return small_file([*shapes, ("fc8.weight", (1000, 4, 1, 1))])


@pytest.fixture(scope="module")
def files():
    weights = {record.weights.filename: imagenet_file(name) for name, record in BACKBONES.items()}
    return {**weights, SNAPSHOT.filename: small_file(entries("resnet38", "ae"))}


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LoopbackServer({f"a mirror/{name}": file for name, file in files.items()}) as server:
        yield server


@pytest.fixture
def get(server, monkeypatch):
    def get(*names):
        url = f"{server.url}/a%20mirror/"
        monkeypatch.setattr(sys, "argv", ["get_weights", "--url", url, *names])
        main()

    return get


def weights_path(backbone):
    return Path("models/weights") / BACKBONES[backbone].weights.filename


def everything(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_weights_come_to_where_training_finds_them(get, server, tmp_path, files):
    get("vgg16", "resnet38")
    assert everything(tmp_path) == {
        tmp_path / weights_path("vgg16"),
        tmp_path / weights_path("resnet38"),
    }
    network = get_model(golden_config("vgg16", "ae"))
    line = load_pretrained(network, BACKBONES["vgg16"], weights_path("vgg16"))
    assert line.endswith("left out: fc8.weight")
    assert (network.backbone.fc7.weight == 1).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_configurations_name_these_paths(backbone):
    config = load_config(REPOSITORY / f"configs/voc_{backbone}.yaml")
    assert backbone == config.NET.BACKBONE
    assert Path(config.NET.PRE_WEIGHTS_PATH) == weights_path(backbone)
    record = BACKBONES[backbone]
    assert record.weights.sha256_prefix in record.weights.filename
    assert bool(record.weights.sha256_prefix) == backbone.startswith("resnet") & (
        backbone != "resnet38"
    )


def test_the_snapshot_is_found_and_loads(get):
    get("snapshot")
    snapshot = find_snapshot(SNAPSHOT_FOLDER, "e020Xs0.928")
    network = get_model(golden_config("resnet38", "ae"))
    load_model(network, snapshot.path)
    assert (network.fc8_skip[0].weight == 1).all()


def test_what_is_there_is_verified_and_not_downloaded(get, server, capsys):
    get("vgg16")
    asked = len(server.requests)
    get("vgg16")
    assert len(server.requests) == asked


@pytest.mark.parametrize("content", [b"half", small_file([("fc8.weight", (2, 3))])])
def test_a_wrong_file_in_place_stays_and_is_named_with_a_remedy(get, server, content):
    path = weights_path("vgg16")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        get("vgg16")
    assert str(caught.value).startswith(f"{path} is not vgg16 as expected: ")
    assert str(caught.value).endswith("; delete it and run this again")
    assert path.read_bytes() == content
    assert server.requests == []


def test_an_interrupted_download_goes_on(get, server, files):
    server.drops, server.drop_after = 1, 3000
    get("vgg16")
    assert [asked for _, asked in server.requests] == [None, "bytes=3000-"]
    assert weights_path("vgg16").read_bytes() == files["vgg16_20M.pth"]


def test_the_name_of_a_file_holds_its_checksum(get, tmp_path, monkeypatch, files):
    name = "resnet50"
    with pytest.raises(UserError, match="19c8e357"):
        get(name)
    assert everything(tmp_path) == set()

    digest = hashlib.sha256(files["resnet50-19c8e357.pth"]).hexdigest()
    item = ITEMS[name]
    right = replace(item, file=replace(item.file, sha256_prefix=digest[:8]))
    monkeypatch.setattr(core.get_weights, "ITEMS", {name: right})
    get(name)
    assert everything(tmp_path) == {tmp_path / weights_path(name)}


def test_another_networks_weights_are_refused(get, server, files, tmp_path):
    server.files["a mirror/ilsvrc-cls_rna-a1_cls1000_ep-0001.pth"] = files["vgg16_20M.pth"]
    with pytest.raises(UserError, match=r"looks like ImageNet weights of vgg16.*of resnet38"):
        get("resnet38")
    server.files[f"a mirror/{SNAPSHOT.filename}"] = small_file(entries("resnet38", "bsl"))
    with pytest.raises(UserError, match=r"like a snapshot of bsl with resnet38, needed is .* ae"):
        get("snapshot")
    assert everything(tmp_path) == set()


def test_a_page_in_the_files_place_is_refused(get, server, tmp_path):
    server.files["a mirror/vgg16_20M.pth"] = b"<html>Please log in</html>"
    with pytest.raises(UserError, match="is no weights file"):
        get("vgg16")
    assert everything(tmp_path) == set()


def test_without_names_all_are_got(get, server, monkeypatch):
    asked = []
    monkeypatch.setattr(core.get_weights, "get", lambda name, mirror: asked.append(name))
    get()
    assert asked == ["resnet38", "vgg16", "resnet50", "resnet101", "snapshot"]


def test_mistakes_end_in_one_line(server, tmp_path):
    run = [sys.executable, "-m", "core.get_weights", "--url", server.url]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    for name, words in (("vgg19", "resnet101, snapshot"), ("vgg16", "404")):
        done = subprocess.run([*run, name], env=environment, capture_output=True, text=True)
        assert done.returncode == 2
        (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
        assert name in line and words in line
    assert everything(tmp_path) == set()
