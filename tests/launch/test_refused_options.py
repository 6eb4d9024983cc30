"""Options that have a variable, given past it: they would split logs, records and masks."""

import pytest
from launch_checkout import Checkout

pytestmark = pytest.mark.bash

VALUES = {"EXP": "baselines", "RUN_ID": "v01", "SNAPSHOT": "best", "SAVE_DIR": "results/a/b"}
TRAIN = {"--dataset": "DATASET", "--cfg": "CONFIG", "--exp": "EXP"}
TRAIN |= {"--run": "RUN_ID", "--run-id": "RUN_ID"}
INFER = {"--resume": "SNAPSHOT", "--infer-list": "FILELIST"}
EVALUATE = {"--data": "DATA_ROOT", "--dataset": "DATASET", "--filelist": "FILELIST"}
EVALUATE |= {"--ground-truth": "GROUND_TRUTH"}
KEEP = {"--report": "REPORT", "--json": "JSON", "--tensorboard": "TENSORBOARD"}
OPTIONS = {
    "run_voc_vgg16.sh": {**TRAIN, "--resume": "RESUME"},
    "infer_val.sh": {**TRAIN, **INFER, "--mask-output-dir": "OUTPUT_DIR and SAVE_ID"},
    "infer_test.sh": {**TRAIN, **INFER, "--mask-output-dir": "OUTPUT_DIR and SAVE_ID"},
    "pseudo_labels.sh": {**TRAIN, **INFER, "--mask-output-dir": "OUTPUT_DIR and SAVE_ID"},
    "eval_seg.sh": {**EVALUATE, **KEEP, "--masks": "SAVE_DIR"},
}


@pytest.fixture
def with_data(checkout: Checkout) -> Checkout:
    for name in ("val_voc", "test", "train_augvoc"):
        checkout.write(f"data/{name}.txt", "a.jpg a.png\n")
    checkout.write(f"{VALUES['SAVE_DIR']}/a.png")
    return checkout


def refusal(checkout: Checkout, script: str, *arguments: str, **variables: str) -> str:
    """The one line that a script refuses its arguments with."""
    result = checkout.run(script, *arguments, **variables, **VALUES)
    assert result.returncode == 2
    assert checkout.calls() == []
    assert not (checkout.root / "logs").exists()
    (line,) = result.stderr.splitlines()
    return line


@pytest.mark.parametrize("script", OPTIONS)
def test_the_variable_is_named(with_data: Checkout, script: str) -> None:
    for option, variable in OPTIONS[script].items():
        expected = f"error: {option} is not for further arguments: set {variable}"
        assert refusal(with_data, script, "--more", option, "other") == expected
    assert refusal(with_data, script, f"{option}=other") == expected
    assert refusal(with_data, script, EXTRA_ARGS=f"--more {option} other") == expected


@pytest.mark.parametrize("options", [["--log-scores", "s.tsv"], ["--oracle-from", "8x8"]])
def test_options_of_the_evaluation_pass(with_data: Checkout, options: list[str]) -> None:
    assert with_data.run("eval_seg.sh", *options, **VALUES).returncode == 0
    (call,) = with_data.calls()
    assert call[-2:] == options


def test_other_options_pass(with_data: Checkout) -> None:
    for arguments in (["--random-seed", "1"], ["--device", "cpu"], ["--set", "NET.LR", "--1"]):
        assert with_data.run("run_voc_vgg16.sh", *arguments, **VALUES).returncode == 0
        assert with_data.calls()[-1][-len(arguments) :] == arguments
