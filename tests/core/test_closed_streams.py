"""Training and inference without their streams, and with names that are no text."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from inference_command import infer, make_workplace
from training_command import MINI, REPOSITORY, SETTINGS

import eval_seg
from core.inference import pseudo_label_list


def run(folder: Path, door: str, words: list[str], redirection: str) -> int:
    command = f'exec "$0" "$@" {redirection}'
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["bash", "-c", command, sys.executable, str(REPOSITORY / door), *words],
        cwd=folder,
        env=environment | {"PYTHONIOENCODING": "ascii"},
        stderr=subprocess.DEVNULL,
    ).returncode


@pytest.mark.slow  # what the streams are for a command at all, tests/utils/test_streams.py tells
def test_work_ends_well_without_its_streams(mini_voc, tmp_path):
    settings = SETTINGS | {"TRAIN.NUM_EPOCHS": "0", "TRAIN.PRETRAIN": "0"}
    pairs = [word for pair in settings.items() for word in pair]
    words = ["--cfg", str(MINI), "--device", "cpu", "--workers", "1"]
    train = [*words, "--set", "DATASET.PATH", str(mini_voc), *pairs]
    assert run(tmp_path, "train.py", train, "<&- >&- 2>&-") == 0
    assert list(tmp_path.glob("snapshots/pascal_voc/main/v01/model_enc_*.pth"))

    (tmp_path / "place").mkdir()
    place = make_workplace(tmp_path / "place", 2)
    words = ["--cfg", "cfg.yaml", "--resume", "best", "--device", "cpu", "--workers", "1"]
    words += ["--infer-list", "list.txt", "--mask-output-dir", "out"]
    # not every system has a device that is always full
    lost = ">/dev/full 2>&1" if Path("/dev/full").exists() else ">&- 2>&-"
    assert run(place, "infer_val.py", words, lost) == 0
    assert len(list(place.glob("out/crf/*.png"))) == 2


@pytest.mark.slow
def test_names_that_are_not_utf_8_reach_every_file(tmp_path, monkeypatch):
    place = make_workplace(tmp_path, 2)
    odd = os.fsdecode(b"odd\xff")
    (place / odd).mkdir()
    (place / "image00.jpg").rename(place / odd / f"{odd}.jpg")
    (place / "image01.jpg").rename(place / odd / "image01.jpg")
    words = ["--infer-list", odd, "--set", "TEST.USE_GT_LABELS", "False", "TEST.CRF", "False"]
    infer(place, place / odd / "out", *words)
    assert (place / odd / "out" / f"{odd}.png").is_file()
    again = infer(place, place / odd / "out", *words, "--skip-existing")
    assert "2 of 2 images have their results" in again.stdout

    (place / odd / "list.txt").write_text("image01.jpg image01_mask.png\n")
    (place / odd / "image01.jpg").rename(place / "image01.jpg")
    monkeypatch.chdir(place)
    common = ["--data", ".", "--filelist", f"{odd}/list.txt", "--masks", f"{odd}/out"]
    more = ["--report", f"{odd}/page", "--json", f"{odd}/n.json", "--log-scores", f"{odd}/s.tsv"]
    monkeypatch.setattr(sys, "argv", ["eval_seg.py", *common, *more])
    eval_seg.main()
    assert rb"odd\udcff/list.txt" in (place / odd / "page/index.html").read_bytes()
    monkeypatch.setattr(sys, "argv", ["mask_list", *common, "--out", f"{odd}/masks.txt"])
    pseudo_label_list.main()
    assert (place / odd / "masks.txt").read_bytes() == b"image01.jpg odd\xff/out/image01.png\n"
