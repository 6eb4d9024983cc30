"""infer_val.sh and eval_seg.sh: arguments, the records beside the masks, both tables."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest
from launch_checkout import Checkout

INFER = {"EXP": "baselines", "RUN_ID": "v01", "SNAPSHOT": "e020Xs0.928"}
MASKS = "results/baselines/v01"
LOG = "logs/pascal_voc/baselines/v01.log"

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is optional")


@pytest.fixture
def with_data(checkout: Checkout) -> Checkout:
    checkout.write("data/val_voc.txt", "a.jpg a.png\n")
    return checkout


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_inference_has_the_published_defaults(with_data: Checkout) -> None:
    result = with_data.run("infer_val.sh", "--workers", "2", EXTRA_ARGS="--set A 1", **INFER)
    assert result.returncode == 0, result.stderr
    (call,) = with_data.calls()
    expected = "infer_val.py --dataset pascal_voc --cfg configs/voc_resnet38.yaml --exp baselines"
    expected += (
        f" --run v01 --resume e020Xs0.928 --infer-list data/val_voc.txt --mask-output-dir {MASKS}"
    )
    assert call == [*expected.split(), "--set", "A", "1", "--workers", "2"]
    assert result.stdout.splitlines()[-1] == f"SAVE_DIR={MASKS}"
    assert "to stderr" in (with_data.root / LOG).read_text()


def test_inference_takes_its_values_from_the_environment(with_data: Checkout) -> None:
    with_data.write("my list.txt")
    result = with_data.run(
        "infer_val.sh",
        DATASET="other_voc",
        CONFIG="configs/voc_vgg16.yaml",
        FILELIST="my list.txt",
        OUTPUT_DIR="my masks",
        SAVE_ID="second try",
        **INFER,
    )
    assert result.returncode == 0, result.stderr
    (call,) = with_data.calls()
    values = dict(zip(call[1::2], call[2::2], strict=True))
    assert values["--dataset"] == "other_voc"
    assert values["--cfg"] == "configs/voc_vgg16.yaml"
    assert values["--infer-list"] == "my list.txt"
    assert values["--mask-output-dir"] == "my masks/baselines/second try"


@pytest.mark.parametrize("name", INFER)
def test_inference_demands_what_it_cannot_know(with_data: Checkout, name: str) -> None:
    result = with_data.run("infer_val.sh", **(INFER | {name: ""}))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"not set: {name}." in line


@pytest.mark.parametrize("script", ["infer_val.sh", "eval_seg.sh"])
def test_a_list_that_is_not_there_says_how_lists_are_made(checkout: Checkout, script: str) -> None:
    (checkout.root / MASKS).mkdir(parents=True)
    result = checkout.run(script, SAVE_DIR=MASKS, **INFER)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "there is no file data/val_voc.txt" in line
    assert "python -m datasets.prepare" in line


@needs_git
def test_inference_keeps_command_commit_and_changes(with_data: Checkout) -> None:
    git(with_data.root, "init", "-q")
    git(with_data.root, "add", ".")
    git(with_data.root, "commit", "-q", "-m", "first")
    with_data.write("configs/voc_resnet38.yaml", "NUM_GPUS: 2\n")
    result = with_data.run("infer_val.sh", EXTRA_ARGS='--set X "a b"', **INFER)
    assert result.returncode == 0, result.stderr

    records = with_data.root / MASKS
    assert (records / "commit.txt").read_text() == git(with_data.root, "rev-parse", "HEAD")
    assert "+NUM_GPUS: 2" in (records / "diff.patch").read_text()
    # the command is kept such that a shell reads it back
    command = (records / "command.txt").read_text()
    again = subprocess.run(
        ["bash", "-c", command], cwd=with_data.root, env=with_data.environment(), timeout=60
    )
    assert again.returncode == 0
    first, second = with_data.calls()
    assert first == second
    assert first[-2:] == ["X", "a b"]


@needs_git
def test_a_copy_inside_another_repository_is_no_checkout(with_data: Checkout) -> None:
    stale = with_data.write(f"{MASKS}/diff.patch", "of an earlier inference")
    git(with_data.root.parent, "init", "-q")
    git(with_data.root.parent, "commit", "-q", "--allow-empty", "-m", "of something else")
    assert with_data.run("infer_val.sh", **INFER).returncode == 0
    assert "unknown" in (with_data.root / MASKS / "commit.txt").read_text()
    assert not stale.exists()


def test_a_failed_inference_ends_with_its_status(with_data: Checkout) -> None:
    result = with_data.run("infer_val.sh", STUB_FAILS="infer_val.py", STUB_STATUS="5", **INFER)
    assert result.returncode == 5
    assert "SAVE_DIR=" not in result.stdout


def test_evaluation_prints_both_tables(with_data: Checkout) -> None:
    with_data.write(f"{MASKS}/crf/a.png")
    result = with_data.run("eval_seg.sh", "--more", SAVE_DIR=MASKS, EXTRA_ARGS="--allow-missing")
    assert result.returncode == 0, result.stderr
    shared = "eval_seg.py --dataset pascal_voc --data data --filelist data/val_voc.txt"
    shared += " --allow-missing --more --masks"
    assert with_data.calls() == [[*shared.split(), MASKS], [*shared.split(), f"{MASKS}/crf"]]
    headings = [line for line in result.stdout.splitlines() if line.startswith("==")]
    assert headings == [f"== without CRF: {MASKS}", f"== with CRF: {MASKS}/crf"]
    # the log is the run's, whose names the folder tells
    assert (with_data.root / LOG).read_text() == result.stdout


def test_evaluation_takes_its_values_from_the_environment(checkout: Checkout) -> None:
    checkout.write("my masks/crf/a.png")
    checkout.write("my data/list.txt")
    result = checkout.run(
        "eval_seg.sh",
        SAVE_DIR=str(checkout.root / "my masks"),
        FILELIST="my data/list.txt",
        DATA_ROOT="my data",
        DATASET="other_voc",
        EXP="an exp",
        RUN_ID="v 02",
    )
    assert result.returncode == 0, result.stderr
    shared = ["eval_seg.py", "--dataset", "other_voc", "--data", "my data"]
    shared += ["--filelist", "my data/list.txt", "--masks", f"{checkout.root}/my masks"]
    assert checkout.calls()[0] == shared
    assert (checkout.root / "logs/other_voc/an exp/v 02.log").is_file()


@pytest.mark.parametrize("failing", [f"--masks {MASKS}/crf", "eval_seg.py"])
def test_evaluation_fails_if_either_does(with_data: Checkout, failing: str) -> None:
    with_data.write(f"{MASKS}/a.png")
    result = with_data.run("eval_seg.sh", SAVE_DIR=MASKS, STUB_FAILS=failing, STUB_STATUS="2")
    assert result.returncode == 2
    assert len(with_data.calls()) == 2


def test_evaluation_demands_a_folder_that_exists(with_data: Checkout) -> None:
    result = with_data.run("eval_seg.sh")
    assert result.returncode == 2
    assert "not set: SAVE_DIR." in result.stderr
    result = with_data.run("eval_seg.sh", SAVE_DIR="results/none")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "no folder results/none" in line
    assert "infer_val.sh" in line


def test_detached_evaluation_logs_both(with_data: Checkout) -> None:
    with_data.write(f"{MASKS}/a.png")
    assert with_data.run("eval_seg.sh", SAVE_DIR=MASKS, DETACH="1").returncode == 0
    log = with_data.root / LOG
    deadline = time.monotonic() + 20
    while not log.exists() or log.read_text().count("to stderr") < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "== with CRF" in log.read_text()
