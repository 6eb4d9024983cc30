"""infer_val.py as its users run it: a snapshot, a list, a folder of results."""

import sys

import numpy as np
import pytest
import torch
import yaml
from inference_command import infer
from PIL import Image

import infer_val
from core.checkpoint import save_model, snapshot_path
from core.config import load_config
from core.inference.predict import Predictor
from core.inference.samples import load_sample
from datasets.files import read_mask, write_mask
from datasets.lists import read_list
from datasets.voc import PASCAL_VOC
from models import get_model
from utils.errors import UserError

CONFIG = """
TEST: {SCALES: [1.0], PAD_SIZE: [64, 64], USE_GT_LABELS: true, BG_POW: 1}
DATASET: {PATH: .}
NET: {MODEL: bsl, BACKBONE: vgg16, PRE_WEIGHTS_PATH: models/weights/nowhere.pth}
"""
RECORDS = ["config.yaml", "dataset.yaml", "diff.patch", "environment.yaml", "results.json"]
NAMES = ["2007_00003jpg", "b.with.dots", "c"]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A data root with three images, their masks and lists, a configuration and a snapshot."""
    folder = tmp_path_factory.mktemp("infer val")
    random = np.random.default_rng(0)
    lines = []
    for number, name in enumerate(NAMES):
        height, width = 40 + number, 50 - 3 * number
        coarse = random.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((width, height)).save(folder / f"{name}.jpg")
        mask = random.integers(0, PASCAL_VOC.num_classes, (height, width))
        write_mask(folder / f"{name}_mask.png", mask, PASCAL_VOC.palette)
        lines.append(f"{name}.jpg {name}_mask.png\n")
    (folder / "list.txt").write_text("".join(lines))
    (folder / "images.txt").write_text(f"/{NAMES[0]}.jpg\n")
    (folder / "twice.txt").write_text("c.jpg\nsub/c.jpg\n")
    (folder / "gone.txt").write_text("c.jpg c_mask.png\ngone.jpg c_mask.png\n")
    (folder / "cfg.yaml").write_text(CONFIG)

    torch.manual_seed(0)
    model = get_model(load_config(folder / "cfg.yaml").NET, PASCAL_VOC.num_classes)
    save_model(model, snapshot_path(folder / "snapshots/pascal_voc/main/v01", 2, 0.5))
    return folder


def command_line(output, *arguments):
    """The options with settings that a test's own arguments, which come last, override."""
    words = ["--cfg", "cfg.yaml", "--device", "cpu"]
    words += ["--infer-list", "list.txt", "--mask-output-dir", output, *arguments]
    return [str(word) for word in words]


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_masks_of_a_list(workplace, tmp_path):
    options = ("--resume", "e002Xs0.500", "--workers", "1")
    options += ("--set", "TEST.DATA_ROOT", workplace, "DATASET.PATH", "nowhere")
    done = infer(workplace, tmp_path, *options)
    expected = [f"{folder}{name}.png" for folder in ("", "crf/", "vis/") for name in NAMES]
    assert files_below(tmp_path) == sorted(expected + RECORDS)
    assert f"3 masks: {tmp_path}" in done.stdout
    assert "3/3" in done.stderr

    cfg = load_config(workplace / "cfg.yaml")
    model = get_model(cfg.NET, PASCAL_VOC.num_classes)
    model.load_state_dict(model.state_dict() | saved_weights(workplace, model))
    entries = read_list(workplace / "list.txt", workplace)
    samples = [load_sample(entry, cfg.TEST, PASCAL_VOC) for entry in entries]
    for sample, merged, _ in Predictor(model, cfg.TEST, torch.device("cpu")).predict(samples):
        mask = merged.argmax(axis=0)
        assert len(np.unique(mask)) > 1
        # other thread counts may move a pixel
        assert (read_mask(tmp_path / f"{sample.id}.png") == mask).mean() > 0.999
        assert Image.open(tmp_path / "vis" / f"{sample.id}.png").width == 3 * sample.size[1]


def saved_weights(folder, model):
    """The snapshot's tensors by the model's own names, put together without core.checkpoint."""
    state = torch.load(folder / "snapshots/pascal_voc/main/v01/model_enc_e002Xs0.500.pth")
    return {
        name: state[name.removeprefix("backbone.")]
        for name in model.state_dict()
        if name.removeprefix("backbone.") in state
    }


def test_own_images_without_masks(workplace, tmp_path):
    infer(
        workplace,
        tmp_path,
        *("--infer-list", "images.txt", "--resume", "best", "--workers", "0"),
        *("--set", "TEST.USE_GT_LABELS", "False", "TEST.METHOD", "multicrop"),
        *("TEST.CROP_SIZE", "(40, 40)", "TEST.BATCH_SIZE", "3"),
    )
    name = f"{NAMES[0]}.png"
    assert files_below(tmp_path) == sorted([name, f"crf/{name}", f"vis/{name}", *RECORDS])

    info = yaml.safe_load((tmp_path / "environment.yaml").read_text())
    assert info["snapshot"] == "snapshots/pascal_voc/main/v01/model_enc_e002Xs0.500.pth"
    assert (info["filelist"], info["images"]) == ("images.txt", 1)
    assert "--resume best" in info["command"]
    # the configuration as it was used, --set included, not a path to a file that may change
    assert load_config(tmp_path / "config.yaml").TEST.METHOD == "multicrop"
    assert Image.open(tmp_path / "vis" / name).size == (2 * 50, 40)


MISTAKES = {
    "no --resume": ([], "e002Xs0.500"),
    "an unknown suffix": (["--resume", "e004Xs0.500"], "e002Xs0.500"),
    "an unknown run": (["--resume", "best", "--run", "v02"], "no snapshots"),
    "no such list": (["--resume", "best", "--infer-list", "nowhere.txt"], "nowhere.txt"),
    "two images of a name": (["--resume", "best", "--infer-list", "twice.txt"], "c.png"),
    "no such image": (["--resume", "best", "--infer-list", "gone.txt"], "gone.jpg"),
    "labels without masks": (["--resume", "best", "--infer-list", "images.txt"], "USE_GT_LABELS"),
    "other classes": (["--resume", "best", "--set", "TEST.NUM_CLASSES", "20"], "TEST.NUM_CLASSES"),
    "other network": (["--resume", "best", "--set", "NET.MODEL", "ae"], "give --set NET.MODEL bsl"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_show_before_anything_runs(workplace, tmp_path, monkeypatch, mistake):
    arguments, words = MISTAKES[mistake]
    earlier = {name: f"{name} of masks that are there" for name in RECORDS}
    for name, text in earlier.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(sys, "argv", ["infer_val.py", *command_line(tmp_path, *arguments)])
    with pytest.raises(UserError) as error:
        infer_val.main()
    assert words in str(error.value)
    assert {name: (tmp_path / name).read_text() for name in files_below(tmp_path)} == earlier


def test_a_mistake_ends_with_status_2_and_one_line(workplace, tmp_path):
    done = infer(workplace, tmp_path, "--resume", "e004Xs0.500", status=2)
    assert done.stdout.startswith("device: ") and done.stdout.count("\n") == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: ") and "e002Xs0.500" in line
