"""infer_test.sh and pseudo_labels.sh: inference, then what is made of its masks."""

import time
from pathlib import Path
from types import ModuleType

import pytest
from launch_checkout import Checkout

import infer_val
from core.inference import pseudo_label_list, voc_submission

pytestmark = pytest.mark.bash

INFER = {"EXP": "baselines", "RUN_ID": "v01", "SNAPSHOT": "best"}
TEST = "results/baselines/v01_test"
PSEUDO = "results/baselines/v01_pseudo"
SCRIPTS = {"infer_test.sh": TEST, "pseudo_labels.sh": PSEUDO}


@pytest.fixture
def with_data(checkout: Checkout) -> Checkout:
    checkout.write("data/test.txt", "a.jpg\n")
    for masks in SCRIPTS.values():
        checkout.write(f"{masks}/crf/a.png")
    return checkout


def settings(call: list[str]) -> dict[str, str]:
    """What --set comes to, as the last of equal keys holds."""
    words = infer_val.parse_args(call[1:]).set
    return dict(zip(words[::2], words[1::2], strict=True))


def test_the_test_split_is_segmented_and_packed(with_data: Checkout) -> None:
    takes_it_back = "--set TEST.USE_GT_LABELS True TEST.MIN_CONFIDENCE 0.5 NET.MODEL bsl"
    result = with_data.run("infer_test.sh", "--skip-existing", EXTRA_ARGS=takes_it_back, **INFER)
    assert result.returncode == 0, result.stderr
    check, infer, *packs = with_data.calls()
    assert check == [*packs[0], "--check"]
    args = infer_val.parse_args(infer[1:])
    assert (args.infer_list, args.mask_output_dir) == (Path("data/test.txt"), Path(TEST))
    assert (args.resume, args.skip_existing) == ("best", True)
    assert settings(infer)["TEST.USE_GT_LABELS"] == "False"
    assert settings(infer)["TEST.MIN_CONFIDENCE"] == "0"
    assert settings(infer)["NET.MODEL"] == "bsl"
    assert "TEST.USE_GT_LABELS is False here" in result.stdout
    assert "TEST.MIN_CONFIDENCE is 0" in result.stdout

    for call, masks, name in zip(packs, (TEST, f"{TEST}/crf"), ("", "_crf"), strict=True):
        assert call[:2] == ["-m", "core.inference.voc_submission"]
        args = voc_submission.parse_args(call[2:])
        assert (args.masks, args.out) == (Path(masks), Path(f"{TEST}/comp6_test_cls{name}.tgz"))
        assert (args.filelist, args.data, args.dataset) == ("data/test.txt", None, None)
    assert result.stdout.splitlines()[-1] == f"SAVE_DIR={TEST}"


def test_pseudo_labels_are_made_and_listed(with_data: Checkout) -> None:
    result = with_data.run("pseudo_labels.sh", MIN_CONFIDENCE="0.7", NPROC="2", **INFER)
    assert result.returncode == 0, result.stderr
    check, infer, *lists = with_data.calls()
    assert check == [*lists[0], "--check"]
    assert infer[:2] == ["-m", "core.torchrun"]
    infer = infer[infer.index("infer_val.py") :]
    args = infer_val.parse_args(infer[1:])
    assert (args.infer_list, args.mask_output_dir) == (Path("train"), Path(PSEUDO))
    expected = {"TEST.USE_GT_LABELS": "True", "TEST.MIN_CONFIDENCE": "0.7"}
    assert settings(infer) == expected

    for call, masks, name in zip(lists, (PSEUDO, f"{PSEUDO}/crf"), ("", "_crf"), strict=True):
        assert call[:2] == ["-m", "core.inference.pseudo_label_list"]
        args = pseudo_label_list.parse_args(call[2:])
        assert (args.masks, args.out) == (Path(masks), Path(f"{PSEUDO}/pseudo_labels{name}.txt"))
        assert (args.filelist, args.data, args.dataset) == ("train", None, None)


@pytest.mark.parametrize(
    "script, module", [("infer_test.sh", voc_submission), ("pseudo_labels.sh", pseudo_label_list)]
)
def test_inference_and_what_follows_read_the_same_data(
    with_data: Checkout, script: str, module: ModuleType
) -> None:
    given = {"DATASET": "birds", "DATA_ROOT": "my data", "FILELIST": "val"}
    assert with_data.run(script, **given, **INFER).returncode == 0
    check, infer, *after = with_data.calls()
    args = infer_val.parse_args(infer[1:])
    assert (args.dataset, args.infer_list) == ("birds", Path("val"))
    assert settings(infer)["TEST.DATA_ROOT"] == "my data"
    for call in (check, *after):
        args = module.parse_args(call[2:])
        assert (args.dataset, args.data, args.filelist) == ("birds", "my data", "val")


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_masks_with_crf_there_is_one_of_each(with_data: Checkout, script: str) -> None:
    masks = SCRIPTS[script]
    (with_data.root / masks / "crf/a.png").unlink()
    (with_data.root / masks / "crf").rmdir()
    result = with_data.run(script, "--set", "TEST.CRF", "False", **INFER)
    assert result.returncode == 0, result.stderr
    assert len(with_data.calls()) == 3
    assert f"there is no folder {masks}/crf" in result.stdout


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(("failing", "calls"), [("--check", 1), ("infer_val.py", 2), ("_crf.", 4)])
def test_what_fails_ends_it(with_data: Checkout, script: str, failing: str, calls: int) -> None:
    result = with_data.run(script, STUB_FAILS=failing, STUB_STATUS="7", **INFER)
    assert result.returncode == 7
    assert len(with_data.calls()) == calls
    assert "SAVE_DIR=" not in result.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_detached_all_of_it_runs_in_the_background(with_data: Checkout, script: str) -> None:
    result = with_data.run(script, DETACH="1", **INFER)
    assert result.returncode == 0, result.stderr
    deadline = time.monotonic() + 300
    while len(with_data.calls()) < 4:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert result.stdout.splitlines()[-1] == f"its masks will be in {SCRIPTS[script]}"
