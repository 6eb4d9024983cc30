"""A fresh clone: data and weights by one command each, and training starts."""

import io
import os
import shutil
import subprocess
import sys

import pytest
import torch
from get_data_case import REPOSITORY
from golden_recipe import golden_config

from models import get_model
from models.backbones import BACKBONES

# the published setting for VGG16, cut down to seconds
QUICK = "DATASET.CROP_SIZE 32 TRAIN.NUM_WORKERS 0 TRAIN.NUM_EPOCHS 0 TRAIN.PRETRAIN 0"


def small_weights(name: str) -> bytes:
    """A file of ImageNet weights by names and shapes; one zero stands for all of a tensor."""
    with torch.device("meta"):
        backbone = get_model(golden_config(name, "bsl")).backbone
    entries = {key: torch.zeros(()).expand(old.shape) for key, old in backbone.state_dict().items()}
    file = io.BytesIO()
    torch.save(entries, file)
    return file.getvalue()


@pytest.fixture
def clone(tmp_path):
    root = tmp_path / "a clone"
    ignored = shutil.ignore_patterns("__pycache__", "*.pth*", "*.tgz", "*.tar")
    for name in ("launch", "configs", "core", "datasets", "models", "utils"):
        shutil.copytree(REPOSITORY / name, root / name, ignore=ignored)
    shutil.copy(REPOSITORY / "train.py", root)
    return root


@pytest.mark.slow
def test_one_command_each_and_training_starts(clone, server, mirror):
    server.files[BACKBONES["vgg16"].weights.filename] = small_weights("vgg16")

    def launch(*words, **variables):
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHON": sys.executable,
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
            **variables,
        }
        done = subprocess.run(
            ["bash", *words], cwd=clone, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    launch("launch/get_data.sh", **mirror)
    launch("launch/get_weights.sh", "vgg16", WEIGHTS_URL=server.url)
    out = launch(
        "launch/run_bsl_vgg16.sh",
        "--device",
        "cpu",
        EXP="tests",
        RUN_ID="v01",
        EXTRA_ARGS=f"--set {QUICK}",
    )
    assert "vgg16_20M.pth" in out
    assert "epoch 0, trained" in out
    assert list((clone / "snapshots/pascal_voc/tests/v01").glob("model_enc_*.pth"))
