"""A folder of masks against a folder of ground truth, with no list."""

import json
import re

import pytest
from in_process import run_main
from report_case import NAMES, make_data, slow_counts, write

from eval_seg import main


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path / "data root", NAMES)


def eval_seg(data, *arguments):
    return run_main(main, *arguments, cwd=data)


def test_the_numbers_are_those_of_the_list(data):
    done = eval_seg(data, "--ground-truth", "gt", "--masks", "out", "--json", "folder.json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Masks of out against gt\n" in done.stdout
    listed = ["--data", ".", "--filelist", "list.txt", "--masks", "out", "--json", "list.json"]
    assert eval_seg(data, *listed).returncode == 0
    folder, by_list = (
        json.loads((data / f"{name}.json").read_text()) for name in ("folder", "list")
    )
    assert folder["list"] == "gt"
    assert folder["evaluations"] == by_list["evaluations"]
    assert [each["name"] for each in folder["evaluations"]] == ["plain", "crf"]
    assert folder["evaluations"][1]["histogram"] == slow_counts(data, "out/crf").tolist()


def test_all_that_is_kept_of_a_list_is_kept_of_a_folder(data):
    kept = ["--report", "page", "--tensorboard", "logs", "--log-scores", "s.tsv"]
    done = eval_seg(data, "--ground-truth", "gt", "--masks", "out", *kept)
    assert (done.returncode, done.stderr) == (0, "")
    page = (data / "page/index.html").read_text()
    assert "<dt>ground truth</dt><dd>gt</dd>" in page and "<dt>list</dt>" not in page
    assert {path.name for path in (data / "logs").iterdir()} == {"eval", "eval_crf"}
    assert (data / "s.tsv").read_text().startswith("class\tid\tscore\n")
    # masks alone: ground truth and both predictions of four classes' six or three images
    pictures = re.findall(r'<img src="data:image/jpeg;base64,[^"]+" alt="([^"]+)"', page)
    assert len(pictures) == 3 * (6 + 3 * 3)
    assert not [text for text in pictures if text.startswith("image ")]


def test_names_may_have_spaces_and_images_come_sorted(data):
    for folder in ("gt", "out", "out/crf"):
        (data / folder / f"{NAMES[4]}.png").rename(data / folder / "0 a, b.png")
    done = eval_seg(data, "--ground-truth", "gt", "--masks", "out", "--log-scores", "s.tsv")
    assert (done.returncode, done.stderr) == (0, "")
    ids = {line.split("\t")[1] for line in (data / "s.tsv").read_text().splitlines()[1:]}
    assert ids == {"0 a, b", *NAMES} - {NAMES[4]}
    (data / "out/crf").rename(data / "elsewhere")
    (data / "out/0 a, b.png").unlink()
    (data / f"out/{NAMES[0]}.png").unlink()
    done = eval_seg(data, "--ground-truth", "gt", "--masks", "out")
    assert done.returncode == 2 and "out/0 a, b.png does not exist" in done.stderr
    done = eval_seg(data, "--ground-truth", "gt", "--masks", "out", "--allow-missing")
    assert done.returncode == 0 and "7 of 9 images evaluated, 2 left out" in done.stdout


def test_other_files_are_named_and_counted(data):
    (data / "gt/.hidden").touch()
    (data / "gt/crf").mkdir()
    for name in ("a.jpg", "b.json", "c.txt"):
        (data / "gt" / name).touch()
    done = eval_seg(data, "--ground-truth", "gt", "--masks", "out")
    assert done.returncode == 0 and "9 of 9 images evaluated" in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("4 other files and folders of gt ")
    assert line.endswith(": a.jpg, b.json, c.txt and 1 more")


def test_an_oracle_takes_the_ground_truth_of_a_folder(data):
    done = eval_seg(data, "--ground-truth", "gt", "--oracle-from", "6x8", "--report", "page")
    assert (done.returncode, done.stderr) == (0, "")
    assert "the ground truth of gt, taken to 6x8 and back" in done.stdout
    assert (data / "page/index.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--masks out", "out .*--filelist"),
        ("--masks out --filelist list.txt --ground-truth gt", "--ground-truth DIR"),
        ("--masks out --ground-truth gt --data .", "--data .*--ground-truth"),
        ("--masks out --ground-truth none", "none is no folder"),
        ("--masks out --ground-truth list.txt", "list.txt is no folder"),
        ("--masks out --ground-truth img", r"no ID\.png in img \(9 other"),
        ("--masks none --ground-truth gt", "none does not exist"),
        ("--ground-truth gt", "--masks DIR or --oracle-from"),
    ],
)
def test_user_errors_are_one_line_with_status_2(data, arguments, named):
    done = eval_seg(data, *arguments.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: .*{named}.*\n", done.stderr)


def test_two_masks_of_one_id_are_refused(data):
    write(data / "gt" / "x.png", [[0]])
    (data / "gt" / "x.png").rename(data / "gt" / f"{NAMES[0]}.PNG")
    done = eval_seg(data, "--ground-truth", "gt", "--masks", "out")
    assert done.returncode == 2
    assert re.fullmatch(rf"error: gt: .*{NAMES[0]}\.PNG.*\n", done.stderr)
