"""mini-COCO by one command, and through the three doors, with a thin network."""

import json
import subprocess

import pytest
from coco_case import get_coco
from get_data_case import assert_done
from in_process import run_main
from training_command import train

import eval_seg
import infer_val
from datasets.coco.layout import VAL
from datasets.files import read_mask

QUICK = {"TRAIN__NUM_EPOCHS": "1", "TRAIN__PRETRAIN": "1", "TRAIN__VAL_INTERVAL": "1"}


@pytest.mark.slow
def test_from_an_empty_folder_to_scores(coco_server, tmp_path, thin_vgg16):
    data = tmp_path / "data root"
    done = subprocess.run(**get_coco(data, COCO_URL=coco_server.url), capture_output=True)
    assert_done(done)

    options = ("--dataset", "coco", "--run", "v01")
    train(data, tmp_path, *options, NET__MODEL="ae", **QUICK)
    run = tmp_path / "snapshots/coco/tests/v01"
    assert list(run.glob("model_enc_*.pth")) and (run / "dataset.yaml").is_file()

    # the snapshot knows its data set, its root too
    words = ["--exp", "tests", "--run", "v01", "--resume", "best", "--device", "cpu"]
    words += ["--mask-output-dir", tmp_path / "masks", "--set", "TEST.CRF", "False"]
    done = run_main(infer_val.main, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    masks = sorted((tmp_path / "masks").glob("*.png"))
    assert [path.name for path in masks] == sorted(
        path.name for path in (data / VAL.masks).iterdir()
    )
    assert max(int(read_mask(path).max()) for path in masks) <= 80

    words = ["--masks", tmp_path / "masks", "--json", tmp_path / "scores.json"]
    done = run_main(eval_seg.main, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["dataset"], len(scores["classes"])) == ("coco", 81)
