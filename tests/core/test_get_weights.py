"""launch/get_weights.sh's work, against a server on this machine."""

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from golden_recipe import entries, golden_config
from in_process import run_main
from loopback_server import LoopbackServer

import core.weights
from core.checkpoint import find_snapshot, load_model, load_pretrained
from core.config import load_config
from core.get_weights import NAMES, main
from core.snapshot_settings import settings_of
from core.weights import ITEMS, SNAPSHOT, SNAPSHOT_FOLDER
from models import get_model
from models.backbones import BACKBONES
from utils.errors import UserError

REPOSITORY = Path(__file__).parents[2]

LONG_AGO = "Wed, 11 May 2011 10:00:00 GMT"


def small_file(shapes):
    """A weights file of these names and shapes; one number stands for all of a tensor."""
    buffer = io.BytesIO()
    content = {}
    for name, shape in shapes:
        dtype = torch.int64 if name.endswith("num_batches_tracked") else torch.float32
        content[name] = torch.ones((), dtype=dtype).expand(shape)
    torch.save(content, buffer)
    return buffer.getvalue()


def network_of(backbone, model):
    """A network of the golden numbers' size, its weights not set: drawing them takes seconds."""
    with torch.device("meta"):
        network = get_model(golden_config(backbone, model))
    return network.to_empty(device="cpu")


def imagenet_file(backbone):
    """As the published files are: the backbone's entries and a classifier."""
    with torch.device("meta"):
        network = get_model(golden_config(backbone, "bsl"))
    shapes = [(name, tensor.shape) for name, tensor in network.backbone.state_dict().items()]
    return small_file([*shapes, ("fc8.weight", (1000, 4, 1, 1))])


@pytest.fixture(scope="module")
def files():
    weights = {spec.weights.filename: imagenet_file(name) for name, spec in BACKBONES.items()}
    return {**weights, SNAPSHOT.filename: small_file(entries("resnet38", "ae"))}


@pytest.fixture
def server(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with LoopbackServer({f"a mirror/{name}": file for name, file in files.items()}) as server:
        yield server


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["get_weights", *arguments])
    main()


@pytest.fixture
def get(server, monkeypatch):
    return lambda *names: run(monkeypatch, "--url", f"{server.url}/a%20mirror/", *names)


def command(url, *names, path=REPOSITORY):
    """The arguments of `subprocess.run` for the command as users start it."""
    return {
        "args": [sys.executable, "-m", "core.get_weights", "--url", url, *names],
        "env": {**os.environ, "PYTHONPATH": f"{path}{os.pathsep}{REPOSITORY}"},
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "text": True,
    }


def weights_path(backbone):
    return Path("models/weights") / BACKBONES[backbone].weights.filename


def everything(folder):
    return {path for path in folder.rglob("*") if path.is_file()}


def test_weights_come_to_where_training_finds_them(get, server, tmp_path, files, capsys):
    get("vgg16", "resnet38")
    first, last, *_ = capsys.readouterr().out.splitlines()
    # in the units of the lines that say how far the download is, 10⁶ bytes
    assert first.startswith(f"vgg16: {server.url}/a%20mirror/vgg16") and first.endswith("83 MB)")
    assert last == "vgg16: models/weights/vgg16_20M.pth, verified"
    assert everything(tmp_path) == {
        tmp_path / weights_path("vgg16"),
        tmp_path / weights_path("resnet38"),
    }
    network = network_of("vgg16", "ae")
    line = load_pretrained(network, BACKBONES["vgg16"], weights_path("vgg16"))
    assert line.endswith("left out: fc8.weight")
    assert (network.backbone.fc7.weight == 1).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_configurations_name_these_paths(backbone):
    config = load_config(REPOSITORY / f"configs/voc_{backbone}.yaml")
    assert backbone == config.NET.BACKBONE
    assert Path(config.NET.PRE_WEIGHTS_PATH) == weights_path(backbone)
    spec = BACKBONES[backbone]
    assert spec.weights.sha256_prefix in spec.weights.filename
    assert bool(spec.weights.sha256_prefix) == backbone.startswith("resnet") & (
        backbone != "resnet38"
    )


@pytest.mark.slow
def test_the_snapshot_is_found_and_loads(get):
    get("snapshot")
    snapshot = find_snapshot(SNAPSHOT_FOLDER, "e020Xs0.928")
    network = network_of("resnet38", "ae")
    load_model(network, snapshot.path)
    assert (network.fc8_skip[0].weight == 1).all()


def test_the_snapshot_explains_itself_where_it_was_there_without(tmp_path, monkeypatch, server):
    snapshot = SNAPSHOT_FOLDER / SNAPSHOT.filename
    snapshot.parent.mkdir(parents=True)
    snapshot.touch()
    known = replace(ITEMS["snapshot"], read=lambda path: None)
    monkeypatch.setattr(core.weights, "ITEMS", {"snapshot": known})
    run(monkeypatch, "snapshot")
    config, info = settings_of(snapshot)
    assert (config.NET.MODEL, config.NET.BACKBONE) == ("ae", "resnet38")
    assert config.TEST == load_config(REPOSITORY / "configs/voc_resnet38.yaml").TEST
    assert (info.name, info.path) == ("pascal_voc", tmp_path / "data")

    # what a user has put there stays
    (snapshot.parent / "config.yaml").write_text("NET: {LR: 5.0}")
    run(monkeypatch, "snapshot")
    assert (snapshot.parent / "config.yaml").read_text() == "NET: {LR: 5.0}"
    (snapshot.parent / "dataset.yaml").unlink()
    run(monkeypatch, "snapshot")
    assert settings_of(snapshot)[1].name == "pascal_voc"


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
    server.last_modified = LONG_AGO
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
    monkeypatch.setattr(core.weights, "ITEMS", {name: right})
    get(name)
    assert everything(tmp_path) == {tmp_path / weights_path(name)}


def test_another_networks_weights_are_refused(get, server, files, tmp_path):
    server.files["a mirror/ilsvrc-cls_rna-a1_cls1000_ep-0001.pth"] = files["vgg16_20M.pth"]
    with pytest.raises(UserError, match=r"looks like ImageNet weights of vgg16.*of resnet38") as it:
        get("resnet38")
    path = weights_path("resnet38")
    remedy = f"try again later, name a mirror with WEIGHTS_URL, or put the file at {path} yourself"
    assert str(it.value).endswith(f" entries match); {remedy}")
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
    monkeypatch.setattr(core.weights, "get", lambda name, mirror: asked.append(name))
    get()
    assert asked == list(ITEMS)
    get("vgg16", "snapshot", "vgg16")
    assert asked[len(ITEMS) :] == ["vgg16", "snapshot"]


def test_every_backbones_weights_can_be_named():
    assert set(NAMES) == {*BACKBONES, "snapshot"}
    assert tuple(ITEMS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_without_a_mirror_the_official_address_is_asked(name, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(core.weights, "download", lambda urls, *_, **__: asked.extend(urls))
    monkeypatch.chdir(tmp_path)
    run(monkeypatch, name)
    file = SNAPSHOT if name == "snapshot" else BACKBONES[name].weights
    assert asked == [file.url] and file.url.startswith("https://")


def test_all_names_are_tried(get, server, tmp_path, capsys):
    del server.files["a mirror/vgg16_20M.pth"]
    server.files[f"a mirror/{SNAPSHOT.filename}"] = b"a page"
    with pytest.raises(UserError) as caught:
        get("vgg16", "resnet38", "snapshot")
    assert everything(tmp_path) == {tmp_path / weights_path("resnet38")}
    line = str(caught.value)
    assert "vgg16, snapshot;" in line and "`bash launch/get_weights.sh vgg16 snapshot`" in line
    told = [line for line in capsys.readouterr().err.splitlines() if "cannot download" in line]
    assert told[0].startswith("vgg16: ") and "404" in told[0]
    assert told[1].startswith("snapshot: ") and "is no weights file" in told[1]


@pytest.mark.parametrize("url", ["ftp://host/w", "models/elsewhere", "http://", "http://[1"])
def test_a_mirror_that_is_no_address(url, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run(monkeypatch, "--url", url, "vgg16")
    assert str(caught.value) == f"WEIGHTS_URL (--url) {url!r} is not an http or https address"


def test_what_is_there_needs_no_folder_that_can_be_written_to(get, server, tmp_path, monkeypatch):
    get("vgg16")

    def refuse(*_):
        raise UserError("no")

    # for root every folder can be written to
    monkeypatch.setattr(core.weights, "require_writable_folder", refuse)
    get("vgg16")
    with pytest.raises(UserError, match=r"^no$"):
        get("resnet38")


@pytest.mark.parametrize("link", ["models", "models/weights"])
def test_a_link_that_leads_nowhere_is_named(get, tmp_path, link):
    path = tmp_path / link
    path.parent.mkdir(exist_ok=True)
    path.symlink_to("/nowhere/at all")
    with pytest.raises(UserError, match=f"^{link} leads to /nowhere/at all, which does not exist"):
        get("vgg16")


@pytest.mark.slow
def test_one_at_a_time_and_a_killed_one_is_taken_up(get, server, files):
    part = weights_path("vgg16").with_name("vgg16_20M.pth.part")
    server.bytes_per_second = 5000
    server.last_modified = LONG_AGO
    with subprocess.Popen(**command(f"{server.url}/a%20mirror", "vgg16")) as process:
        try:
            while not (part.exists() and part.stat().st_size):
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            with pytest.raises(UserError, match="another get_weights is at work on models/weights"):
                get("vgg16")
        finally:
            process.kill()
    held = part.stat().st_size
    assert held < len(files["vgg16_20M.pth"])
    server.bytes_per_second = None
    server.requests.clear()
    get("vgg16")
    assert server.requests == [("a mirror/vgg16_20M.pth", f"bytes={held}-")]
    assert weights_path("vgg16").read_bytes() == files["vgg16_20M.pth"]
    assert not part.exists()


def test_mistakes_end_in_one_line(server, tmp_path):
    done = run_main(main, "--url", server.url, "vgg16", cwd=tmp_path)
    assert done.returncode == 2
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert "vgg16" in line and "404" in line
    assert everything(tmp_path) == set()


def test_a_mistyped_name_ends_before_pytorch_is_loaded(tmp_path):
    (tmp_path / "torch.py").write_text("raise SystemExit('loaded')")
    done = subprocess.run(**command("", "vgg19", path=tmp_path))
    assert done.returncode == 2
    assert done.stderr == (
        f"error: there are no weights called 'vgg19'; there are: {', '.join(NAMES)}\n"
    )
    assert subprocess.run(**command("", "vgg16", path=tmp_path)).stderr == "loaded\n"


def test_ctrl_c_while_pytorch_is_loaded(tmp_path):
    interrupt = f"import os, time\nos.kill(os.getpid(), {int(signal.SIGINT)})\ntime.sleep(10)\n"
    (tmp_path / "torch.py").write_text(interrupt)
    done = subprocess.run(**command("", "vgg16", path=tmp_path))
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"
