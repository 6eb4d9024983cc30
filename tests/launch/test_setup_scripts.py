"""setup.sh and test.sh on machines that have or lack things; nothing is installed."""

import os
import shutil
import stat
import subprocess

import pytest
from launch_checkout import REPOSITORY, Checkout

pytestmark = pytest.mark.bash

PYTEST = ["-m", "pytest", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]


def set_up(checkout: Checkout, path: str, *arguments: str, **variables: str):
    settings = {"PATH": path, "PYTHON": ""} | variables
    return checkout.run("setup.sh", *arguments, **settings)


def pip_calls(checkout: Checkout) -> list[list[str]]:
    return [call[call.index("install") + 1 :] for call in checkout.calls() if "install" in call]


def test_set_up_makes_the_environment_and_installs(checkout: Checkout, bare: str) -> None:
    result = set_up(checkout, bare, CI="true")
    assert result.returncode == 0, result.stderr
    assert "about 6 GB" in result.stdout
    assert checkout.calls()[0] == ["-m", "venv", ".venv"]
    (install,) = pip_calls(checkout)
    assert install[-2:] == ["-r", "requirements.txt"]


def test_a_second_set_up_is_done_at_once(checkout: Checkout, bare: str) -> None:
    set_up(checkout, bare)
    before = checkout.calls()
    result = set_up(checkout, bare)
    assert result.returncode == 0
    assert "done already" in result.stdout
    assert checkout.calls() == before


def test_tests_need_a_set_up_of_their_own(checkout: Checkout, bare: str) -> None:
    set_up(checkout, bare)
    result = set_up(checkout, bare, "--tests")
    assert result.returncode == 0, result.stderr
    assert pip_calls(checkout)[-1][-2:] == ["-r", "tests/requirements.txt"]
    for arguments in ([], ["--tests"]):
        assert "done already" in set_up(checkout, bare, *arguments).stdout


def test_changed_requirements_are_installed(checkout: Checkout, bare: str) -> None:
    set_up(checkout, bare)
    checkout.write("requirements.txt", "torch>=99\n")
    assert "done already" not in set_up(checkout, bare).stdout
    assert len(pip_calls(checkout)) == 2
    assert sum("venv" in call for call in checkout.calls()) == 1


def test_an_interrupted_set_up_is_done_again(checkout: Checkout, bare: str) -> None:
    result = set_up(checkout, bare, STUB_FAILS="pip install", STUB_STATUS="23")
    assert result.returncode == 23
    result = set_up(checkout, bare)
    assert result.returncode == 0
    assert "done already" not in result.stdout
    assert len(pip_calls(checkout)) == 2


def test_an_environment_that_works_is_kept(checkout: Checkout, bare: str) -> None:
    own = checkout.write(".venv/bin/python", checkout.python.read_text())
    own.chmod(own.stat().st_mode | stat.S_IXUSR)
    kept = checkout.write(".venv/lib/own package")
    assert set_up(checkout, bare).returncode == 0
    assert kept.exists()
    assert not any("venv" in call for call in checkout.calls())
    assert len(pip_calls(checkout)) == 1


def test_an_environment_whose_python_is_gone_is_made_anew(checkout: Checkout, bare: str) -> None:
    set_up(checkout, bare)
    python = checkout.root / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/no/longer/here")
    result = set_up(checkout, bare, STUB_FAILS="venv", STUB_STATUS="9")
    assert result.returncode == 9
    assert checkout.calls()[-1] == ["-m", "venv", "--clear", ".venv"]


@pytest.mark.parametrize(
    ("lacks", "named", "package"),
    [
        ("version_info", "Python 3.10 or newer", "python3.11-venv"),
        ("ensurepip", "Python's venv module", "python3.11-venv"),
        ("Python.h", "Python.h", "python3.11-dev"),
    ],
)
def test_what_python_lacks_is_named(
    checkout: Checkout, bare: str, lacks: str, named: str, package: str
) -> None:
    result = set_up(checkout, bare, STUB_LACKS=lacks)
    assert result.returncode == 2
    assert named in result.stderr
    assert "apt-get install -y" in result.stderr
    assert package in result.stderr
    assert "compiler" not in result.stderr
    assert checkout.calls() == []
    assert not (checkout.root / ".venv").exists()


def test_all_that_is_missing_is_named_in_one_go(checkout: Checkout, bare: str) -> None:
    (checkout.stub / "c++").unlink()
    result = set_up(checkout, bare, STUB_LACKS='ensurepip Python.h "CXX"')
    assert result.returncode == 2
    for thing in ("venv module", "Python.h", "C++ compiler", "apt-get install -y g++"):
        assert thing in result.stderr

    result = set_up(checkout, bare, PYTHON="no-such-python", STUB_LACKS='"CXX"')
    assert result.returncode == 2
    for thing in ("Python 3.10", "no-such-python", "python3-venv", "python3-dev", "C++ compiler"):
        assert thing in result.stderr


def test_another_compiler_than_pythons_own_is_named_to_it(checkout: Checkout, bare: str) -> None:
    (checkout.stub / "c++").unlink()
    checkout.add_tool("clang++")
    script = checkout.python.read_text()
    checkout.python.write_text(
        script.replace("set -eu\n", 'set -eu\necho "${CXX:-}" >>"$STUB/cxx"\n')
    )
    result = set_up(checkout, bare, STUB_LACKS='"CXX"')
    assert result.returncode == 0, result.stderr
    assert (checkout.stub / "cxx").read_text().split()[-1] == "clang++"


def test_git_is_optional(checkout: Checkout, bare: str) -> None:
    (checkout.stub / "git").unlink(missing_ok=True)
    result = set_up(checkout, bare)
    assert result.returncode == 0
    assert "git is not installed" in result.stdout


def test_unknown_options_are_errors(checkout: Checkout, bare: str) -> None:
    for arguments in (["--test"], ["--tests", "more"]):
        result = set_up(checkout, bare, *arguments)
        assert result.returncode == 2
        assert "usage" in result.stderr


def test_the_checks_hold_for_this_machines_python(checkout: Checkout) -> None:
    """The questions that the stand-in answers above are put to a real interpreter once."""
    text = (checkout.root / "launch/setup.sh").read_text()
    end = text.index("files=(")
    (checkout.root / "launch/check.sh").write_text(
        text[:end] + 'check_machine "$PYTHON"\necho fine\n'
    )
    real = os.path.realpath(shutil.which("python3") or "python3")
    result = checkout.run("check.sh", PYTHON=real)
    # a machine may lack headers or a compiler; a question that does not parse is another matter
    assert "Error" not in result.stderr
    assert result.stdout.endswith("fine\n") or "the set-up needs" in result.stderr


def test_test_sh_sets_up_and_hands_arguments_to_pytest(checkout: Checkout, bare: str) -> None:
    result = checkout.run("test.sh", "-k", "two words", PATH=bare, PYTHON="")
    assert result.returncode == 0, result.stderr
    assert pip_calls(checkout)[0][-4:] == [
        "-r", "requirements.txt", "-r", "tests/requirements.txt"
    ]  # fmt: skip
    assert checkout.calls()[-1] == [*PYTEST, "-k", "two words"]


def test_test_sh_runs_every_linter_before_pytest(checkout: Checkout, bare: str) -> None:
    assert checkout.run("test.sh", PATH=bare, PYTHON="").returncode == 0
    check, layout, shellcheck, pytest_call = checkout.calls()[-4:]
    assert check == ["-m", "ruff", "check", "."]
    assert layout == ["-m", "ruff", "format", "--check", "."]
    scripts = {f"launch/{path.name}" for path in (REPOSITORY / "launch").glob("*.sh")}
    assert scripts | {".ci/run"} <= set(shellcheck)
    assert pytest_call == PYTEST


@pytest.mark.parametrize(
    ("failing", "title"),
    [
        ("ruff check", "ruff check;"),
        ("ruff format", "ruff format;"),
        (".ci/run", "shellcheck;"),
        ("pytest", "pytest;"),
        ("ruff", "ruff check; ruff format;"),
    ],
)
def test_test_sh_runs_all_and_fails_if_one_does(
    checkout: Checkout, bare: str, failing: str, title: str
) -> None:
    failed = {"STUB_FAILS": failing, "STUB_STATUS": "3"}
    checkout.run("setup.sh", "--tests", PATH=bare, PYTHON="")
    before = len(checkout.calls())
    result = checkout.run("test.sh", PATH=bare, PYTHON="", **failed)
    assert result.returncode == 1
    assert len(checkout.calls()) == before + 4
    assert result.stderr.splitlines()[-1] == f"error: not in order: {title} see above"


def test_ci_runs_the_tests(checkout: Checkout, bare: str) -> None:
    script = checkout.root / ".ci/run"
    shutil.copytree(REPOSITORY / ".ci", script.parent)
    result = subprocess.run(
        [str(script)],
        cwd=checkout.elsewhere,
        env=checkout.environment(PATH=bare, PYTHON="", CI="true"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    assert checkout.calls()[-1] == PYTEST
