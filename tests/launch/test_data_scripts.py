"""get_data.sh, get_coco.sh and get_weights.sh: arguments, and the set-up where there is none."""

import pytest
from launch_checkout import Checkout

pytestmark = pytest.mark.bash


def test_data_takes_its_values_from_the_environment(checkout: Checkout) -> None:
    variables = {
        "DATA_ROOT": "my data",
        "VOC": "/some where/VOC2012",
        "SBD": "-x",
        "SBD_AUG": "/some where/SegmentationClassAug",
        "VOC_TEST": "test.tar",
        "SBD_URL": "http://127.0.0.1/sbd.tgz",
        "SBD_MD5": "12ab",
    }
    result = checkout.run("get_data.sh", "--no-official", **variables)
    assert result.returncode == 0, result.stderr
    (call,) = checkout.calls()
    assert call[:2] == ["-m", "datasets.voc.get_data"] and call[-1] == "--no-official"
    assert dict(option.split("=", 1) for option in call[2:-1]) == {
        "--root": "my data",
        "--voc": "/some where/VOC2012",
        "--sbd": "-x",
        "--sbd-aug": "/some where/SegmentationClassAug",
        "--voc-test": "test.tar",
        "--voc-url": "",
        "--voc-md5": "",
        "--sbd-url": "http://127.0.0.1/sbd.tgz",
        "--sbd-md5": "12ab",
    }


def test_coco_takes_its_values_from_the_environment(checkout: Checkout) -> None:
    variables = {
        "DATA_ROOT": "my data",
        "COCO": "/some where/coco",
        "COCO_MASKS": "-x",
        "COCO_URL": "http://127.0.0.1/coco",
    }
    result = checkout.run("get_coco.sh", "--no-official", **variables)
    assert result.returncode == 0, result.stderr
    (call,) = checkout.calls()
    assert call[:2] == ["-m", "datasets.coco.get_data"] and call[-1] == "--no-official"
    assert dict(option.split("=", 1) for option in call[2:-1]) == {
        "--root": "my data",
        "--coco": "/some where/coco",
        "--masks": "-x",
        "--coco-url": "http://127.0.0.1/coco",
    }


def test_data_goes_to_the_folder_of_the_configurations(checkout: Checkout) -> None:
    for script in ("get_data.sh", "get_coco.sh"):
        assert checkout.run(script).returncode == 0
    assert [call[2] for call in checkout.calls()] == ["--root=data", "--root=data"]


def test_weights_are_named_as_arguments(checkout: Checkout) -> None:
    result = checkout.run("get_weights.sh", "vgg16", "snapshot", WEIGHTS_URL="http://127.0.0.1/w")
    assert result.returncode == 0, result.stderr
    expected = ["-m", "core.get_weights", "--url=http://127.0.0.1/w", "vgg16", "snapshot"]
    assert checkout.calls() == [expected]


@pytest.mark.parametrize("script", ["get_data.sh", "get_coco.sh", "get_weights.sh"])
def test_their_status_is_pythons(checkout: Checkout, script: str) -> None:
    result = checkout.run(script, STUB_FAILS="get_", STUB_STATUS="2")
    assert result.returncode == 2


@pytest.mark.parametrize("script", ["get_data.sh", "get_weights.sh"])
def test_they_set_up_what_is_not_set_up(checkout: Checkout, bare: str, script: str) -> None:
    real = checkout.add_tool("real_stub", (checkout.stub / "python3").read_text())
    checkout.add_tool(
        "python3", f'#!/usr/bin/env bash\n[[ $2 != *find_spec* ]] || exit 1\nexec {real} "$@"\n'
    )
    result = checkout.run(script, PYTHON="", PATH=bare)
    assert result.returncode == 0, result.stderr
    assert "set-up: done" in result.stdout
    assert checkout.calls()[-1][1].endswith(script.removesuffix(".sh"))
    result = checkout.run(script, PYTHON="", PATH=bare)
    assert "set-up" not in result.stdout

    # a Python that the user named is not replaced
    result = checkout.run(script, PYTHON=str(checkout.stub / "python3"), PATH=bare)
    assert result.returncode == 2 and "unset PYTHON" in result.stderr
