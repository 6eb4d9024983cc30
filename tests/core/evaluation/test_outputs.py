"""The numbers that eval_seg.py keeps of an evaluation: the JSON file, TensorBoard's scalars."""

import json
import re
from datetime import datetime, timedelta, timezone

import numpy as np
import pytest
import yaml
from report_case import NAMES, eval_seg, make_data, slow_counts, table
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.evaluation import tensorboard
from datasets.voc import PASCAL_VOC
from utils.errors import UserError


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data root", NAMES)


def slow_iou(counts, index):
    union = counts[index].sum() + counts[:, index].sum() - counts[index, index]
    return counts[index, index] / union if union else 0.0


def test_tables_are_those_of_the_two_folders(data):
    both = table(data, "out") + "\n" + table(data, "out/crf")
    assert eval_seg(data, "--masks", "out").stdout == both
    for option in ("--report", "--json", "--tensorboard"):
        done = eval_seg(data, "--masks", "out", option, f"kept{option}")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith(both + "\n")
        assert f"kept{option}" in done.stdout.removeprefix(both)
    # no record tells the snapshot's epoch
    assert "events of step 0: kept--tensorboard/eval_crf" in done.stdout


def test_json_holds_the_numbers_of_both(data):
    (data / "out" / "environment.yaml").write_text("commit: abc\nwhen: 2020-01-01\n")
    assert eval_seg(data, "--masks", "out", "--json", "n/all.json").returncode == 0
    found = json.loads((data / "n" / "all.json").read_text())
    assert (found["format"], found["dataset"], found["list"]) == (1, "pascal_voc", "list.txt")
    assert found["classes"] == list(PASCAL_VOC.classes)
    assert found["run"] == {"commit": "abc", "when": "2020-01-01"}
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found["date"])
    assert timedelta(seconds=-1) <= age < timedelta(minutes=5)

    plain, refined = found["evaluations"]
    assert [(each["name"], each["source"]) for each in (plain, refined)] == [
        ("plain", "out"),
        ("crf", "out/crf"),
    ]
    for each in (plain, refined):
        counts = slow_counts(data, each["source"])
        assert each["histogram"] == counts.tolist()
        iou = [slow_iou(counts, index) for index in range(21)]
        assert [row["iou"] for row in each["per_class"]] == pytest.approx(iou)
        assert [row["pixels"] for row in each["per_class"]] == counts.sum(axis=1).tolist()
        assert each["per_class"][1]["name"] == "aeroplane"
        assert each["per_class"][1]["recall"] == pytest.approx(counts[1, 1] / counts[1].sum())
        assert each["per_class"][2]["precision"] == pytest.approx(counts[2, 2] / counts[:, 2].sum())
        assert each["mean"]["all"]["iou"] == pytest.approx(np.mean(iou))
        assert each["mean"]["objects"]["iou"] == pytest.approx(np.mean(iou[1:]))
        occurring = each["mean_over_occurring"]
        assert (occurring["all"]["classes"], occurring["objects"]["classes"]) == (4, 3)
        assert occurring["all"]["iou"] == pytest.approx(np.mean(np.take(iou, [0, 1, 2, 20])))
        assert occurring["objects"]["iou"] == pytest.approx(np.mean(np.take(iou, [1, 2, 20])))
        assert each["images"] == {"listed": 9, "evaluated": 9}
        assert each["left_out"] == []


def read_scalars(folder):
    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}


def test_tensorboard_has_the_same_numbers(data):
    snapshot = "snapshots/x/model_enc_e004Xs-0.123.pth"
    (data / "out" / "environment.yaml").write_text(yaml.safe_dump({"snapshot": snapshot}))
    arguments = ["--masks", "out", "--tensorboard", "logs", "--json", "n.json"]
    for step in ("8", "4"):
        assert eval_seg(data, *arguments, "--step", step).returncode == 0
    # takes the place of those of the same step
    done = eval_seg(data, *arguments)
    assert done.returncode == 0
    assert "events of step 4: logs/eval_crf" in done.stdout

    evaluations = json.loads((data / "n.json").read_text())["evaluations"]
    for folder, expected in zip(("eval", "eval_crf"), evaluations, strict=True):
        scalars = read_scalars(data / "logs" / folder)
        assert len(scalars) == 3 * 21 + 2 * 3 + 2
        for values in scalars.values():
            assert sorted(event.step for event in values) == [4, 8]
        for name, value in (
            ("01_aeroplane/IoU", expected["per_class"][1]["iou"]),
            ("20_tv/monitor/precision", expected["per_class"][20]["precision"]),
            ("00_background/recall", expected["per_class"][0]["recall"]),
            ("all/mIoU", expected["mean"]["all"]["iou"]),
            ("all_wo_BG/mIoU", expected["mean"]["objects"]["iou"]),
            ("all_wo_BG/mean_recall", expected["mean"]["objects"]["recall"]),
            ("occurring/mIoU", expected["mean_over_occurring"]["all"]["iou"]),
            ("occurring_wo_BG/mIoU", expected["mean_over_occurring"]["objects"]["iou"]),
        ):
            assert scalars[name][0].value == pytest.approx(value)


def test_the_folder_of_masks_with_crf_is_known_by_its_name(data):
    (data / "out" / "environment.yaml").write_text("commit: abc\n")
    assert eval_seg(data, "--masks", "out/crf", "--json", "n.json").returncode == 0
    found = json.loads((data / "n.json").read_text())
    assert [each["name"] for each in found["evaluations"]] == ["crf"]
    # the records lie in the folder above
    assert found["run"] == {"commit": "abc"}


def test_oracle_is_reported_without_masks(data):
    arguments = ["--oracle-from", "3x4", "--report", "page", "--json", "n.json"]
    done = eval_seg(data, *arguments, "--tensorboard", "logs")
    assert done.returncode == 0, done.stderr
    assert "The run that made the masks" not in (data / "page" / "index.html").read_text()
    found = json.loads((data / "n.json").read_text())
    assert [(each["name"], each["source"]) for each in found["evaluations"]] == [("oracle", "3x4")]
    assert found["run"] is None
    assert read_scalars(data / "logs" / "eval_oracle")["all/mIoU"][0].step == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--report", "list.txt"], "list.txt.*another --report"),
        (["--tensorboard", "list.txt"], "list.txt.*another --tensorboard"),
        (["--json", "gt"], "--json gt"),
        (["--step", "3"], "--step 3: .*--tensorboard"),
        (["--tensorboard", "logs", "--step", "-1"], "--step -1: expected 0 or more"),
        (["--json", "n.json"], "out/environment.yaml"),
    ],
)
def test_user_errors_are_one_line_with_status_2(data, arguments, named):
    if "environment" in named:
        (data / "out" / "environment.yaml").write_text("a: [\n")
    done = eval_seg(data, "--masks", "out", *arguments)
    assert done.returncode == 2
    assert re.fullmatch(f"error: .*{named}.*\n", done.stderr)


def test_lack_of_a_package_is_said_before(monkeypatch):
    tensorboard.require_tensorboard()
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: name != "tensorboard")
    with pytest.raises(UserError, match="--tensorboard takes tensorboard,"):
        tensorboard.require_tensorboard()


def test_what_cannot_be_kept_is_said_before_anything_is_evaluated(data):
    (data / "file").write_text("")
    for option in ("--json", "--log-scores"):
        done = eval_seg(data, "--masks", "out", option, "file/below")
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert "file/below " in done.stderr and option in done.stderr
    name = f"{NAMES[-1]}.png"
    (data / "out" / name).unlink()
    done = eval_seg(data, "--masks", "out", "--json", "n.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"out/{name} does not exist" in done.stderr


def test_an_incomplete_crf_folder_does_not_hide_the_plain_table(data):
    plain = table(data, "out")
    (data / "out/crf" / f"{NAMES[-1]}.png").unlink()
    done = eval_seg(data, "--masks", "out", "--json", "n.json")
    assert done.returncode == 2 and f"out/crf/{NAMES[-1]}.png" in done.stderr
    assert done.stdout.startswith(plain) and not (data / "n.json").exists()
    for mask in (data / "out/crf").iterdir():  # left by a run that ended early
        mask.unlink()
    done = eval_seg(data, "--masks", "out", "--json", "n.json")
    assert done.returncode == 0 and done.stdout.startswith(plain)
    assert "with CRF: not evaluated" in done.stdout
    assert [each["name"] for each in json.loads((data / "n.json").read_text())["evaluations"]] == [
        "plain"
    ]
