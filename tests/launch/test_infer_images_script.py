"""infer_images.sh: which network, which images, where the masks go."""

import pytest
from launch_checkout import Checkout

pytestmark = pytest.mark.bash

PUBLISHED = "snapshots/pascal_voc/published/resnet38/model_enc_e020Xs0.928.pth"
CONFIG = "snapshots/pascal_voc/published/resnet38/config.yaml"
SETTINGS = [
    *("--set", "TEST.WINDOW", "fit", "TEST.OVERSIZE", "shrink", "TEST.AMP", "auto"),
    *("TEST.USE_GT_LABELS", "False", "TEST.CRF_PRESENT_ONLY", "True"),
]


@pytest.fixture
def with_images(checkout: Checkout) -> Checkout:
    checkout.write(CONFIG)
    checkout.write("my photos/a.jpg")
    return checkout


def options(checkout: Checkout, *arguments: str, **variables: str) -> dict[str, str]:
    """The options that Python is called with, those of --set left out."""
    result = checkout.run("infer_images.sh", *arguments, **variables)
    assert result.returncode == 0, result.stderr
    (call,) = checkout.calls()
    assert call[:2] == ["infer_val.py", "--page"]
    end = call.index("--set")
    assert call[end:] == SETTINGS
    return dict(zip(call[2:end:2], call[3:end:2], strict=True))


def refusal(checkout: Checkout, *arguments: str, **variables: str) -> str:
    """The one line that the script ends with before it calls Python."""
    result = checkout.run("infer_images.sh", *arguments, **variables)
    assert result.returncode == 2
    assert checkout.calls() == []
    (line,) = result.stderr.splitlines()
    return line


def test_the_published_network_is_the_default(with_images: Checkout) -> None:
    with_images.write(PUBLISHED)
    assert options(with_images, "my photos/") == {
        "--snapshot": PUBLISHED,
        "--infer-list": "my photos/",
        "--mask-output-dir": "results/images/my photos",
    }


def test_without_it_the_script_says_how_to_get_it(with_images: Checkout) -> None:
    line = refusal(with_images, "my photos")
    assert "bash launch/get_weights.sh snapshot" in line and "SNAPSHOT" in line


def test_where_its_settings_are_missing_the_script_says_what_writes_them(
    with_images: Checkout,
) -> None:
    with_images.write(PUBLISHED)
    (with_images.root / CONFIG).unlink()
    line = refusal(with_images, "my photos")
    assert "config.yaml" in line and "bash launch/get_weights.sh snapshot" in line
    found = options(with_images, "my photos", CONFIG="configs/voc_resnet38.yaml")
    assert found["--cfg"] == "configs/voc_resnet38.yaml"


def test_a_snapshot_is_all_that_need_be_named(with_images: Checkout) -> None:
    with_images.write("my.pth")
    found = options(with_images, "my photos", SNAPSHOT="my.pth")
    assert found["--snapshot"] == "my.pth"
    assert "--cfg" not in found and "--dataset" not in found


def test_a_snapshot_of_ones_own(with_images: Checkout) -> None:
    with_images.write("my.pth")
    found = options(
        with_images,
        "my photos/a.jpg",
        SNAPSHOT="my.pth",
        CONFIG="configs/voc_vgg16.yaml",
        DATASET="birds",
        OUTPUT="my masks",
    )
    assert found["--snapshot"] == "my.pth"
    assert (found["--cfg"], found["--dataset"]) == ("configs/voc_vgg16.yaml", "birds")
    assert found["--infer-list"] == "my photos/a.jpg"
    assert found["--mask-output-dir"] == "my masks"


def test_a_run_of_ones_own(with_images: Checkout) -> None:
    found = options(with_images, "my photos", EXP="baselines", RUN_ID="v01")
    assert (found["--exp"], found["--run"], found["--resume"]) == ("baselines", "v01", "best")
    assert "--snapshot" not in found


def test_one_image_names_the_folder_of_its_masks(with_images: Checkout) -> None:
    with_images.write(PUBLISHED)
    found = options(with_images, "my photos/a.jpg")
    assert found["--mask-output-dir"] == "results/images/a"


def test_further_arguments_and_labels(with_images: Checkout) -> None:
    with_images.write(PUBLISHED)
    with_images.write("l.csv")
    arguments = ("my photos", "--device", "cpu")
    result = with_images.run("infer_images.sh", *arguments, EXTRA_ARGS="-x 1", LABELS="l.csv")
    assert result.returncode == 0, result.stderr
    (call,) = with_images.calls()
    assert call[-4:] == ["-x", "1", "--device", "cpu"]
    assert call[call.index("--labels") + 1] == "l.csv"


def test_processes_share_the_images(with_images: Checkout) -> None:
    with_images.write(PUBLISHED)
    result = with_images.run("infer_images.sh", "my photos", NPROC="3", NNODES="2")
    assert result.returncode == 0, result.stderr
    (call,) = with_images.calls()
    door = call.index("infer_val.py")
    assert call[:door] == ["-m", "core.torchrun", "--nproc-per-node", "3", "--standalone"]
    assert call[-len(SETTINGS) :] == SETTINGS


@pytest.mark.parametrize(("oversize", "window"), [("grow", "pad"), ("shrink", "fit")])
def test_windows_that_grow_are_padded_ones(
    with_images: Checkout, oversize: str, window: str
) -> None:
    with_images.write(PUBLISHED)
    with_images.run("infer_images.sh", "my photos", OVERSIZE=oversize)
    (call,) = with_images.calls()
    begin = call.index("--set") + 1
    assert call[begin : begin + 4] == ["TEST.WINDOW", window, "TEST.OVERSIZE", oversize]


@pytest.mark.parametrize(
    "arguments, variables, words",
    [
        ([], {}, "no images are named"),
        (["gone"], {}, "there is no gone"),
        (["my photos"], {"SNAPSHOT": "e020Xs0.928"}, "takes EXP and RUN_ID"),
        (["my photos"], {"EXP": "baselines"}, "not set: RUN_ID."),
        (["my photos"], {"CONFIG": "gone.yaml"}, "CONFIG: there is no file gone.yaml"),
        (["my photos"], {"LABELS": "gone.csv"}, "LABELS: there is no file gone.csv"),
        (["my photos"], {"OVERSIZE": "cut"}, "OVERSIZE must be shrink or grow, found cut"),
        (["my photos"], {"WINDOW": "round"}, "WINDOW must be fit or pad, found round"),
        (["my photos"], {"WINDOW": "fit", "OVERSIZE": "grow"}, "OVERSIZE=grow takes WINDOW=pad"),
        (["my photos"], {"NPROC": "two"}, "NPROC must be a number from 1"),
        (["my photos", "--snapshot", "x"], {}, "set SNAPSHOT"),
        (["my photos", "--infer-list=x"], {}, "name it first"),
        (["my photos", "--mask-output-dir", "x"], {}, "set OUTPUT"),
    ],
)
def test_mistakes(
    with_images: Checkout, arguments: list[str], variables: dict[str, str], words: str
) -> None:
    with_images.write(PUBLISHED)
    assert words in refusal(with_images, *arguments, **variables)


def test_a_failed_inference_ends_with_its_status(with_images: Checkout) -> None:
    with_images.write(PUBLISHED)
    failing = {"STUB_FAILS": "infer_val.py", "STUB_STATUS": "5"}
    assert with_images.run("infer_images.sh", "my photos", **failing).returncode == 5
