"""infer_val.sh and eval_seg.sh: arguments, records, both tables."""

import time
from pathlib import Path

import pytest
from launch_checkout import Checkout

import eval_seg
import infer_val

pytestmark = pytest.mark.bash

INFER = {"EXP": "baselines", "RUN_ID": "v01", "SNAPSHOT": "e020Xs0.928"}
MASKS = "results/baselines/v01"
LOG = "logs/pascal_voc/baselines/v01.log"


@pytest.fixture
def with_data(checkout: Checkout) -> Checkout:
    checkout.write("data/val_voc.txt", "a.jpg a.png\n")
    return checkout


def test_data_set_and_configuration_are_left_to_the_snapshot(with_data: Checkout) -> None:
    result = with_data.run("infer_val.sh", "--workers", "2", EXTRA_ARGS="--set A 1", **INFER)
    assert result.returncode == 0, result.stderr
    (call,) = with_data.calls()
    expected = "infer_val.py --exp baselines --run v01 --resume e020Xs0.928 --infer-list val"
    expected += f" --mask-output-dir {MASKS}"
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
        DATA_ROOT="my data",
        OUTPUT_DIR="my masks",
        SAVE_ID="second try",
        **INFER,
    )
    assert result.returncode == 0, result.stderr
    (call,) = with_data.calls()
    args = infer_val.parse_args(call[1:])
    assert (args.dataset, args.cfg) == ("other_voc", Path("configs/voc_vgg16.yaml"))
    assert args.infer_list == Path("my list.txt")
    assert args.set == ["TEST.DATA_ROOT", "my data"]
    assert args.mask_output_dir == Path("my masks/baselines/second try")


@pytest.mark.parametrize(("name", "script"), [("", "get_data.sh"), ("coco", "get_coco.sh")])
def test_a_missing_list_names_what_brings_it(checkout: Checkout, name: str, script: str) -> None:
    result = checkout.run("infer_val.sh", DATASET=name, FILELIST="none.txt", **INFER)
    assert result.returncode == 2 and f"launch/{script}" in result.stderr


@pytest.mark.parametrize("name", ["train", "val", "val_train"])
def test_the_data_sets_lists_have_names(checkout: Checkout, name: str) -> None:
    (checkout.root / MASKS).mkdir(parents=True)
    for script in ("infer_val.sh", "eval_seg.sh"):
        result = checkout.run(script, SAVE_DIR=MASKS, FILELIST=name, **INFER)
        assert result.returncode == 0, result.stderr
        assert name in checkout.calls()[-1]


def test_the_log_lies_where_the_runs_data_set_has_its_logs(checkout: Checkout) -> None:
    (checkout.root / "snapshots/birds/baselines/v01").mkdir(parents=True)
    assert checkout.run("infer_val.sh", **INFER).returncode == 0
    assert (checkout.root / "logs/birds/baselines/v01.log").is_file()
    checkout.write(f"{MASKS}/dataset.yaml", "name: cats\n")
    assert checkout.run("eval_seg.sh", SAVE_DIR=MASKS).returncode == 0
    assert (checkout.root / "logs/cats/baselines/v01.log").is_file()
    given = {"DATASET": f"{MASKS}/dataset.yaml", "RUN_ID": "v02"}
    assert checkout.run("run_voc_vgg16.sh", EXP="baselines", **given).returncode == 0
    assert (checkout.root / "logs/cats/baselines/v02.log").is_file()


def test_a_configuration_that_is_not_there_is_named(checkout: Checkout) -> None:
    result = checkout.run("infer_val.sh", CONFIG="gone.yaml", **INFER)
    assert result.returncode == 2 and checkout.calls() == []
    (line,) = result.stderr.splitlines()
    assert "CONFIG: there is no file gone.yaml" in line


def test_processes_share_the_images_by_torchrun(with_data: Checkout) -> None:
    # several machines are not for inference; a user's shell may hold their number for training
    result = with_data.run("infer_val.sh", NPROC="2", NNODES="3", **INFER)
    assert result.returncode == 0, result.stderr
    (call,) = with_data.calls()
    torchrun = ["-m", "core.torchrun", "--nproc-per-node", "2", "--standalone"]
    assert call[:6] == [*torchrun, "infer_val.py"]
    result = with_data.run("infer_val.sh", NPROC="0", **INFER)
    assert result.returncode == 2
    assert "NPROC must be a number from 1" in result.stderr


@pytest.mark.parametrize("name", INFER)
def test_inference_demands_what_it_cannot_know(with_data: Checkout, name: str) -> None:
    result = with_data.run("infer_val.sh", **(INFER | {name: ""}))
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"not set: {name}." in line


@pytest.mark.parametrize("script", ["infer_val.sh", "eval_seg.sh"])
def test_a_list_that_is_not_there_says_how_lists_are_made(checkout: Checkout, script: str) -> None:
    (checkout.root / MASKS).mkdir(parents=True)
    result = checkout.run(script, SAVE_DIR=MASKS, FILELIST="data/val_voc.txt", **INFER)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "there is no file data/val_voc.txt" in line
    assert "bash launch/get_data.sh" in line


def test_the_script_leaves_records_to_python(with_data: Checkout) -> None:
    # which knows the snapshot, and whether there will be masks
    record = with_data.write(f"{MASKS}/environment.yaml", "of the masks that are there\n")
    failing = {"STUB_FAILS": "infer_val.py", "STUB_STATUS": "2"}
    assert with_data.run("infer_val.sh", **failing, **INFER).returncode == 2
    assert with_data.run("infer_val.sh", DETACH="yes", **INFER).returncode == 2
    assert list(record.parent.iterdir()) == [record]
    assert record.read_text() == "of the masks that are there\n"


def test_a_detached_inference_says_where_masks_will_be(with_data: Checkout) -> None:
    result = with_data.run("infer_val.sh", DETACH="1", **INFER)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == f"its masks will be in {MASKS}"
    assert "SAVE_DIR=" not in result.stdout


def test_a_failed_inference_ends_with_its_status(with_data: Checkout) -> None:
    result = with_data.run("infer_val.sh", STUB_FAILS="infer_val.py", STUB_STATUS="5", **INFER)
    assert result.returncode == 5
    assert "SAVE_DIR=" not in result.stdout


def test_one_call_evaluates_both(with_data: Checkout) -> None:
    with_data.write(f"{MASKS}/crf/a.png")
    result = with_data.run("eval_seg.sh", "--more", SAVE_DIR=MASKS, EXTRA_ARGS="--allow-missing")
    assert result.returncode == 0, result.stderr
    (call,) = with_data.calls()
    assert call == ["eval_seg.py", "--masks", MASKS, "--allow-missing", "--more"]
    # the log is the run's, whose names the folder tells
    assert (with_data.root / LOG).read_text() == result.stdout


@pytest.mark.parametrize("variable", ["REPORT", "JSON", "TENSORBOARD"])
def test_a_variable_for_each_file_of_an_evaluation(with_data: Checkout, variable: str) -> None:
    with_data.write(f"{MASKS}/crf/a.png")
    result = with_data.run("eval_seg.sh", "--more", SAVE_DIR=MASKS, **{variable: "some where"})
    assert result.returncode == 0, result.stderr
    (call,) = with_data.calls()
    assert call[1:] == ["--masks", MASKS, f"--{variable.lower()}", "some where", "--more"]


def test_an_evaluation_that_fails_ends_with_its_status(with_data: Checkout) -> None:
    with_data.write(f"{MASKS}/a.png")
    failing = {"STUB_FAILS": "eval_seg.py", "STUB_STATUS": "2"}
    assert with_data.run("eval_seg.sh", SAVE_DIR=MASKS, **failing).returncode == 2
    assert len(with_data.calls()) == 1


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
    shared = ["eval_seg.py", "--masks", f"{checkout.root}/my masks", "--dataset", "other_voc"]
    shared += ["--data", "my data", "--filelist", "my data/list.txt"]
    assert checkout.calls()[0] == shared
    assert (checkout.root / "logs/other_voc/an exp/v 02.log").is_file()


def test_a_folder_of_ground_truth_takes_the_place_of_the_list(checkout: Checkout) -> None:
    checkout.write(f"{MASKS}/a.png")
    checkout.write("my truth/a.png")
    given = {"SAVE_DIR": MASKS, "GROUND_TRUTH": "my truth", "DATA_ROOT": "a list's"}
    # no list is there, and none is wanted
    result = checkout.run("eval_seg.sh", JSON="n.json", **given)
    assert result.returncode == 0, result.stderr
    (call,) = checkout.calls()
    expected = ["eval_seg.py", "--masks", MASKS, "--ground-truth", "my truth"]
    assert call == [*expected, "--json", "n.json"]
    assert eval_seg.parse_args(call[1:]).ground_truth == "my truth"

    home = {"HOME": str(checkout.root), "GROUND_TRUTH": "~/my truth"}
    assert checkout.run("eval_seg.sh", **(given | home)).returncode == 0
    assert checkout.calls()[-1][4] == f"{checkout.root}/my truth"


@pytest.mark.parametrize(
    ("given", "named"),
    [({"FILELIST": "data/val_voc.txt"}, "FILELIST"), ({"GROUND_TRUTH": "none"}, "folder none")],
)
def test_ground_truth_is_one_thing_that_is_there(
    with_data: Checkout, given: dict[str, str], named: str
) -> None:
    with_data.write(f"{MASKS}/a.png")
    values = {"SAVE_DIR": MASKS, "GROUND_TRUTH": MASKS}
    result = with_data.run("eval_seg.sh", **(values | given))
    assert result.returncode == 2 and with_data.calls() == []
    (line,) = result.stderr.splitlines()
    assert "GROUND_TRUTH" in line and named in line


def test_evaluation_demands_a_folder_that_exists(with_data: Checkout) -> None:
    result = with_data.run("eval_seg.sh")
    assert result.returncode == 2
    assert "not set: SAVE_DIR." in result.stderr
    result = with_data.run("eval_seg.sh", SAVE_DIR="results/none")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "no folder results/none" in line
    assert "infer_val.sh" in line


def test_a_detached_evaluation_logs_its_output(with_data: Checkout) -> None:
    with_data.write(f"{MASKS}/a.png")
    assert with_data.run("eval_seg.sh", SAVE_DIR=MASKS, DETACH="1").returncode == 0
    log = with_data.root / LOG
    deadline = time.monotonic() + 300
    while not log.exists() or "to stderr" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "eval_seg.py" in log.read_text()
