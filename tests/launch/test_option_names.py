"""What the scripts hand to Python, read by the parsers that will read it."""

from pathlib import Path

import pytest
from launch_checkout import Checkout

import eval_seg
import infer_val
import train
from core.evaluation import figure

pytestmark = pytest.mark.bash

EXTRA = {"EXTRA_ARGS": "--set NET.LR 0.5"}


@pytest.mark.parametrize("script", ["run_voc_resnet38.sh", "run_bsl_vgg16.sh"])
def test_training(checkout: Checkout, script: str) -> None:
    checkout.run(script, EXP="a", RUN_ID="b", RESUME="best", DATASET="other_voc", **EXTRA)
    ((door, *arguments),) = checkout.calls()
    assert door == "train.py"
    args = train.parse_args(arguments)
    assert (args.dataset, args.exp, args.run, args.resume) == ("other_voc", "a", "b", "best")
    assert args.cfg.name.startswith("voc_")
    assert args.set[-2:] == ["NET.LR", "0.5"]
    assert ("bsl" in args.set) == ("bsl" in script)


def test_inference(checkout: Checkout) -> None:
    checkout.write("list.txt")
    checkout.run("infer_val.sh", EXP="a", RUN_ID="b", SNAPSHOT="best", FILELIST="list.txt", **EXTRA)
    ((door, *arguments),) = checkout.calls()
    assert door == "infer_val.py"
    args = infer_val.parse_args(arguments)
    assert (args.exp, args.run, args.resume) == ("a", "b", "best")
    assert (args.infer_list, args.mask_output_dir) == (Path("list.txt"), Path("results/a/b"))
    assert args.set == ["NET.LR", "0.5"]


def test_own_images(checkout: Checkout) -> None:
    checkout.write("photos/a.jpg")
    checkout.write("my.pth")
    checkout.write("labels.json")
    checkout.run("infer_images.sh", "photos", SNAPSHOT="my.pth", LABELS="labels.json", **EXTRA)
    ((door, *arguments),) = checkout.calls()
    assert door == "infer_val.py"
    args = infer_val.parse_args(arguments)
    assert (args.snapshot, args.infer_list) == (Path("my.pth"), Path("photos"))
    assert (args.labels, args.mask_output_dir) == (
        Path("labels.json"),
        Path("results/images/photos"),
    )
    expected = ["TEST.WINDOW", "fit", "TEST.OVERSIZE", "shrink", "TEST.AMP", "auto"]
    expected += ["TEST.USE_GT_LABELS", "False", "TEST.CRF_PRESENT_ONLY", "True"]
    assert args.set == [*expected, "NET.LR", "0.5"]


def test_evaluation(checkout: Checkout) -> None:
    checkout.write("my data/list.txt")
    checkout.write("masks/crf/a.png")
    values = {"SAVE_DIR": "masks", "FILELIST": "my data/list.txt", "DATA_ROOT": "my data"}
    checkout.run("eval_seg.sh", EXTRA_ARGS="--allow-missing", **values)
    ((door, *arguments),) = checkout.calls()
    assert door == "eval_seg.py"
    args = eval_seg.parse_args(arguments)
    assert (args.masks, args.filelist, args.data) == ("masks", "my data/list.txt", "my data")
    assert (args.dataset, args.allow_missing) == (None, True)


def test_evaluation_that_keeps_more(checkout: Checkout) -> None:
    checkout.write("masks/a.png")
    kept = {"REPORT": "a page", "JSON": "n.json", "TENSORBOARD": "logs/x"}
    checkout.run("eval_seg.sh", "--step", "4", SAVE_DIR="masks", **kept)
    ((door, *arguments),) = checkout.calls()
    assert door == "eval_seg.py"
    args = eval_seg.parse_args(arguments)
    assert (args.masks, args.report, args.json) == ("masks", Path("a page"), Path("n.json"))
    assert (args.tensorboard, args.step) == (Path("logs/x"), 4)


def test_demo(checkout: Checkout) -> None:
    result = checkout.run("demo.sh")
    assert result.returncode == 0, result.stderr
    doors = {call[0]: call[1:] for call in checkout.calls() if call[0].endswith(".py")}
    assert train.parse_args(doors["train.py"]).overwrite
    assert infer_val.parse_args(doors["infer_val.py"]).resume == "best"
    assert eval_seg.parse_args(doors["eval_seg.py"]).data == "data/mini_voc"
    (arguments,) = (call[2:] for call in checkout.calls() if "core.evaluation.figure" in call)
    args = figure.parse_args(arguments)
    assert (args.data, args.dataset) == ("data/mini_voc", "pascal_voc")
    assert args.filelist == "data/mini_voc/val_voc.txt"
    assert args.out == args.masks / "picture.png"
