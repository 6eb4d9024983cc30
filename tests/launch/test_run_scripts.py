"""The run scripts, which share one body: what reaches train.py, the log, the exit status."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from launch_checkout import REPOSITORY, Checkout

pytestmark = pytest.mark.bash

RUN = {"EXP": "baselines", "RUN_ID": "v01"}
BACKBONES = ("resnet38", "vgg16", "resnet50", "resnet101")
COMMON = ["train.py", "--dataset", "pascal_voc", "--cfg"]
LOG = "logs/pascal_voc/baselines/v01.log"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 300
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_defaults_train_the_segmentation_network(checkout: Checkout, backbone: str) -> None:
    result = checkout.run(f"run_voc_{backbone}.sh", **RUN)
    assert result.returncode == 0, result.stderr
    config = f"configs/voc_{backbone}.yaml"
    assert checkout.calls() == [[*COMMON, config, "--exp", "baselines", "--run", "v01"]]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_defaults_train_the_baseline(checkout: Checkout, backbone: str) -> None:
    assert checkout.run(f"run_bsl_{backbone}.sh", **RUN).returncode == 0
    (call,) = checkout.calls()
    assert call[4] == f"configs/voc_{backbone}.yaml"
    assert call[9:] == ["--set", "NET.MODEL", "bsl", "TRAIN.NUM_EPOCHS", "6"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_defaults_train_on_coco(checkout: Checkout, backbone: str) -> None:
    assert checkout.run(f"run_coco_{backbone}.sh", **RUN).returncode == 0
    config = f"configs/coco_{backbone}.yaml"
    expected = ["train.py", "--dataset", "coco", "--cfg", config]
    assert checkout.calls() == [[*expected, "--exp", "baselines", "--run", "v01"]]
    assert (checkout.root / "logs/coco/baselines/v01.log").is_file()


def test_there_are_no_other_run_scripts() -> None:
    names = {path.name for path in (REPOSITORY / "launch").glob("run_*.sh")}
    assert names == {
        f"run_{kind}_{name}.sh" for kind in ("voc", "bsl", "coco") for name in BACKBONES
    }


def test_values_come_from_the_environment(checkout: Checkout) -> None:
    checkout.write("my configs/own.yaml")
    result = checkout.run(
        "run_voc_vgg16.sh",
        EXP="an exp",
        RUN_ID="v 02",
        DATASET="other_voc",
        CONFIG="my configs/own.yaml",
        RESUME="e010Xs0.912",
    )
    assert result.returncode == 0, result.stderr
    own = ["train.py", "--dataset", "other_voc", "--cfg", "my configs/own.yaml"]
    named = ["--exp", "an exp", "--run", "v 02", "--resume", "e010Xs0.912"]
    assert checkout.calls() == [own + named]
    assert (checkout.root / "logs/other_voc/an exp/v 02.log").is_file()


def test_values_can_be_set_at_the_top(checkout: Checkout) -> None:
    script = checkout.root / "launch/run_voc_resnet38.sh"
    text = script.read_text()
    for name, value in RUN.items():
        text = text.replace(f"{name}=${{{name}:-}}", f"{name}={value}")
    script.write_text(text)
    assert checkout.run(script.name).returncode == 0
    assert checkout.calls()[0][5:] == ["--exp", "baselines", "--run", "v01"]


def test_several_processes_are_started_by_torchrun(checkout: Checkout) -> None:
    result = checkout.run("run_voc_resnet38.sh", NPROC="4", RESUME="last", **RUN)
    assert result.returncode == 0, result.stderr
    torchrun = ["-m", "core.torchrun", "--nproc-per-node", "4", "--standalone"]
    config = "configs/voc_resnet38.yaml"
    run = ["--exp", "baselines", "--run", "v01", "--resume", "last"]
    assert checkout.calls() == [[*torchrun, *COMMON, config, *run]]


def test_several_machines_are_told_of_each_other(checkout: Checkout) -> None:
    machines = {"NNODES": "2", "NPROC": "8", "NODE_RANK": "1", "MASTER_ADDR": "host1"}
    result = checkout.run("run_bsl_vgg16.sh", MASTER_PORT="1234", **machines, **RUN)
    assert result.returncode == 0, result.stderr
    (call,) = checkout.calls()
    assert call[:4] == ["-m", "core.torchrun", "--nproc-per-node", "8"]
    assert call[4:13] == [
        *("--nnodes", "2", "--node-rank", "1", "--master-addr", "host1"),
        *("--master-port", "1234", "train.py"),
    ]


def test_mistakes_about_processes_are_named(checkout: Checkout) -> None:
    for variables, words in (
        ({"NPROC": "many"}, ("NPROC", "many")),
        ({"NNODES": "2", "NODE_RANK": "0"}, ("not set: MASTER_ADDR",)),
    ):
        result = checkout.run("run_voc_vgg16.sh", **variables, **RUN)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert all(word in line for word in words)


def test_names_that_are_not_set_are_demanded_in_one_line(checkout: Checkout) -> None:
    result = checkout.run("run_voc_resnet38.sh")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "not set: EXP RUN_ID" in line
    assert "EXP=baselines RUN_ID=v01 bash" in line

    result = checkout.run("run_voc_resnet38.sh", EXP="baselines")
    assert result.returncode == 2
    assert "not set: RUN_ID." in result.stderr
    assert checkout.calls() == []


def test_a_configuration_that_is_not_there_is_named(checkout: Checkout) -> None:
    result = checkout.run("run_voc_resnet38.sh", CONFIG="configs/none.yaml", **RUN)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "CONFIG: there is no file configs/none.yaml" in line
    assert not (checkout.root / "logs").exists()


def test_extra_arguments_are_split_as_shell_words(checkout: Checkout) -> None:
    checkout.write("1")  # what an unquoted [1,0.5] would match as a pattern
    extra = """--set TEST.SCALES "[1, 0.5]"  NET.LR 0.01 DATASET.PATH '/a b/$HOME'
        TEST.SCALES [1,0.5] NET.PRE_WEIGHTS_PATH "" """
    result = checkout.run(
        "run_bsl_resnet50.sh", "--set", "NET.OPT", "", "two words", EXTRA_ARGS=extra, **RUN
    )
    assert result.returncode == 0, result.stderr
    (call,) = checkout.calls()
    preset = ["--set", "NET.MODEL", "bsl", "TRAIN.NUM_EPOCHS", "6"]
    split = ["--set", "TEST.SCALES", "[1, 0.5]", "NET.LR", "0.01", "DATASET.PATH", "/a b/$HOME"]
    split += ["TEST.SCALES", "[1,0.5]", "NET.PRE_WEIGHTS_PATH", ""]
    assert call[9:] == preset + split + ["--set", "NET.OPT", "", "two words"]


def test_an_open_quote_in_extra_arguments_is_an_error(checkout: Checkout) -> None:
    result = checkout.run("run_voc_resnet38.sh", EXTRA_ARGS='--set "NET.LR 1', **RUN)
    assert result.returncode == 2
    assert "EXTRA_ARGS" in result.stderr
    assert checkout.calls() == []


def test_backslashes_in_extra_arguments_need_quotes(checkout: Checkout) -> None:
    extra = r"""--set A a\b B "a\b" C 'a\b'"""
    assert checkout.run("run_voc_resnet38.sh", EXTRA_ARGS=extra, **RUN).returncode == 0
    assert checkout.calls()[0][-6:] == ["A", "ab", "B", r"a\b", "C", r"a\b"]


def test_extra_arguments_without_xargs_name_the_package(checkout: Checkout, bare: str) -> None:
    plain = checkout.run("run_voc_resnet38.sh", PATH=bare, **RUN)
    assert plain.returncode == 0, plain.stderr
    result = checkout.run("run_voc_resnet38.sh", EXTRA_ARGS="--set A 1", PATH=bare, **RUN)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert "findutils" in line and "quote" not in line


def test_a_log_that_cannot_be_written_is_an_error(checkout: Checkout) -> None:
    (checkout.root / LOG).mkdir(parents=True)
    for detach in "01":
        result = checkout.run("run_voc_resnet38.sh", DETACH=detach, **RUN)
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert f"cannot write the log {checkout.root / LOG}" in line
    assert checkout.calls() == []


def test_logs_and_snapshots_go_where_they_are_told_to(checkout: Checkout, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home")}
    (tmp_path / "home").mkdir()
    places = {"LOGDIR": "~/my logs", "SNAPSHOT_DIR": "snaps"}
    result = checkout.run("run_bsl_vgg16.sh", "--set", "NET.LR", "1", **places, **home, **RUN)
    assert result.returncode == 0, result.stderr
    (call,) = checkout.calls()
    assert call[9:13] == ["--snapshot-dir", "snaps", "--logdir", f"{home['HOME']}/my logs"]
    log = tmp_path / "home/my logs/pascal_voc/baselines/v01.log"
    assert log.read_text() == result.stdout
    assert not (checkout.root / "logs").exists()
    # of inference the log alone, and where the snapshots are
    checkout.write("data/val_voc.txt")
    infer = checkout.run("infer_val.sh", SNAPSHOT="best", **places, **home, **RUN)
    assert infer.returncode == 0, infer.stderr
    call = checkout.calls()[-1]
    assert call[call.index("--snapshot-dir") + 1] == "snaps" and "--logdir" not in call
    assert "infer_val.py" in log.read_text()


def test_a_home_that_is_not_there_is_named(checkout: Checkout) -> None:
    result = checkout.run("run_voc_vgg16.sh", CONFIG="~nobody-here/c.yaml", **RUN)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: CONFIG=~nobody-here/c.yaml: ")


@pytest.mark.parametrize("streams", ["closed", pytest.param("full", marks=FULL), "unread"])
def test_a_log_is_kept_whatever_becomes_of_the_terminal(checkout: Checkout, streams: str) -> None:
    checkout.write("data/val_voc.txt")
    redirection = {"closed": ">&- 2>&-", "full": ">/dev/full 2>&1", "unread": ">&3 2>&1"}[streams]
    reader, writer = os.pipe()
    os.close(reader)
    for script in ("run_voc_resnet38.sh", "infer_val.sh"):
        done = subprocess.run(
            ["bash", "-c", f'exec 3>&{writer}; exec bash "$0" {redirection}', f"launch/{script}"],
            cwd=checkout.root,
            env=checkout.environment(SNAPSHOT="best", **RUN),
            pass_fds=[writer],
            timeout=300,
        )
        assert done.returncode == 0
    os.close(writer)
    log = (checkout.root / LOG).read_text()
    assert log.count("unbuffered=1") == log.count("to stderr") == 2
    assert log.count("train.py --dataset") == log.count("infer_val.py --exp") == 1


def test_a_script_goes_on_where_its_output_is_closed(checkout: Checkout) -> None:
    command = "source launch/common.sh; echo a word >&1; echo done >&3"
    done = subprocess.run(
        ["bash", "-c", f"exec 3>&1; ({command}) >&-"],
        cwd=checkout.root,
        capture_output=True,
        text=True,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


@pytest.fixture
def read_only(checkout: Checkout) -> Iterator[Checkout]:
    """The checkout as it is to a user who may read it only."""
    # no other user may look into pytest's own folders
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(checkout.root, folder / "code")
    shutil.copytree(checkout.stub, folder / "stub")
    for place, mode in ((folder, 0o755), (folder / "stub", 0o777), (folder / "mine", 0o777)):
        place.mkdir(exist_ok=True)
        place.chmod(mode)
    paths = [folder / "code", *(folder / "code").rglob("*")]
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    stub = folder / "stub"
    yield Checkout(folder / "code", folder, stub, stub / "python3")
    for path in paths:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_checkout_that_is_read_only(read_only: Checkout) -> None:
    def run(script: str, **variables: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["bash", read_only.root / "launch" / script],
            cwd=read_only.elsewhere,
            env=read_only.environment(HOME=str(read_only.elsewhere / "mine"), **variables),
            user=65534 if os.geteuid() == 0 else None,
            capture_output=True,
            text=True,
            timeout=300,
        )

    refused = run("run_voc_vgg16.sh", **RUN)
    assert refused.returncode == 2
    (line,) = refused.stderr.splitlines()
    assert str(read_only.root / LOG) in line and "LOGDIR" in line
    setup = run("setup.sh")
    assert setup.returncode == 2
    (line,) = setup.stderr.splitlines()
    assert str(read_only.root) in line and "PYTHON=" in line
    done = run("run_voc_vgg16.sh", LOGDIR="~/logs", SNAPSHOT_DIR="~/snapshots", **RUN)
    assert done.returncode == 0, done.stderr
    assert (read_only.elsewhere / "mine" / LOG).read_text() == done.stdout


def test_output_is_shown_and_added_to_the_log(checkout: Checkout) -> None:
    log = checkout.write(LOG, "an earlier run\n")
    result = checkout.run("run_voc_resnet38.sh", **RUN)
    written = log.read_text()
    assert written == "an earlier run\n" + result.stdout
    assert f"unbuffered=1 in {checkout.root}\n" in result.stdout
    assert "to stderr" in result.stdout
    assert "train.py --dataset pascal_voc" in result.stdout.splitlines()[0]


def test_the_exit_status_is_the_commands_own(checkout: Checkout) -> None:
    status = {"STUB_FAILS": "train.py", "STUB_STATUS": "37"}
    assert checkout.run("run_voc_resnet38.sh", **status, **RUN).returncode == 37


def test_ctrl_c_reaches_python_and_its_last_words_the_log(checkout: Checkout) -> None:
    process = subprocess.Popen(
        ["bash", str(checkout.root / "launch/run_voc_resnet38.sh")],
        env=checkout.environment(STUB_SLEEPS="1", **RUN),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(checkout.stub / "sleeping")
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "interrupted cleanly" in output
    assert "interrupted cleanly" in (checkout.root / LOG).read_text()


def test_detached_it_returns_at_once_and_writes_to_the_log_only(checkout: Checkout) -> None:
    result = checkout.run("run_voc_resnet38.sh", DETACH="1", STUB_SLEEPS="1", **RUN)
    assert result.returncode == 0, result.stderr
    assert str(checkout.root / LOG) in result.stdout
    assert "to stderr" not in result.stdout + result.stderr
    wait_for(checkout.stub / "sleeping")
    stop = result.stdout.split("kill -- -")[1].split(")")[0]
    os.killpg(int(stop), signal.SIGINT)
    deadline = time.monotonic() + 300
    while "interrupted cleanly" not in (checkout.root / LOG).read_text():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_detach_takes_no_other_value(checkout: Checkout) -> None:
    result = checkout.run("run_voc_resnet38.sh", DETACH="yes", **RUN)
    assert result.returncode == 2
    assert "DETACH must be 0 or 1" in result.stderr
    assert checkout.calls() == []
    assert not (checkout.root / "logs").exists()


def test_the_environment_of_the_set_up_is_preferred(checkout: Checkout) -> None:
    own = checkout.write(".venv/bin/python", checkout.python.read_text())
    own.chmod(0o755)
    result = checkout.run("run_voc_resnet38.sh", PYTHON="", **RUN)
    assert result.returncode == 0, result.stderr
    assert str(own).replace(" ", "\\ ") in result.stdout.splitlines()[0]


def test_without_set_up_the_active_python_is_taken(checkout: Checkout) -> None:
    path = f"{checkout.stub}:{os.environ['PATH']}"
    assert checkout.run("run_voc_resnet38.sh", PYTHON="", PATH=path, **RUN).returncode == 0
    assert len(checkout.calls()) == 1

    lacking = checkout.run(
        "run_voc_resnet38.sh", PYTHON="", PATH=path, STUB_LACKS="find_spec", **RUN
    )
    assert lacking.returncode == 2
    (line,) = lacking.stderr.splitlines()
    assert "run `bash launch/setup.sh`" in line
    assert len(checkout.calls()) == 1


def test_a_python_that_is_not_there_is_named(checkout: Checkout) -> None:
    result = checkout.run("run_voc_resnet38.sh", PYTHON="/no/python", **RUN)
    assert result.returncode == 2
    assert "there is no Python at /no/python" in result.stderr


def test_a_python_is_asked_for_all_that_is_required(checkout: Checkout) -> None:
    differing = {"Pillow": "PIL", "scikit-learn": "sklearn", "PyYAML": "yaml", "Jinja2": "jinja2"}
    differing["pydensecrf2"] = "pydensecrf"
    required = re.findall(r"^[\w-]+", (REPOSITORY / "requirements.txt").read_text(), re.MULTILINE)
    # inference itself asks for pydensecrf, where there is to be a CRF
    modules = {differing.get(name, name) for name in required} - {"pydensecrf"}

    # -S: without the packages that are installed
    bare = checkout.add_tool("bare", f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    result = checkout.run("run_voc_resnet38.sh", PYTHON=str(bare), **RUN)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert set(re.search(r" lacks (.*): install", line)[1].split(", ")) == modules

    result = checkout.run("run_voc_resnet38.sh", PYTHON=sys.executable, **RUN)
    assert result.stderr == ""
    assert "can't open file" in result.stdout  # the copy has no train.py


def test_an_old_python_is_named(checkout: Checkout) -> None:
    pretend = "import sys; sys.version_info = (3, 9, 18); del sys.argv[1]; exec(sys.argv.pop(1))"
    old = checkout.add_tool("old", f'#!/bin/sh\nexec "{sys.executable}" -c "{pretend}" "$@"\n')
    result = checkout.run("run_voc_resnet38.sh", PYTHON=str(old), **RUN)
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert f"{old} lacks Python 3.10 or newer: install" in line
