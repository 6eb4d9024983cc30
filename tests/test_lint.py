"""The linters, so that one command, pytest, tells whether the tree is in order."""

import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
SHELL_SCRIPTS = sorted(
    [*REPOSITORY.glob("launch/*.sh"), *REPOSITORY.glob("tests/**/*.sh"), REPOSITORY / ".ci/run"]
)


def check(*command: str | Path) -> None:
    result = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


def test_ruff_finds_nothing() -> None:
    check(sys.executable, "-m", "ruff", "check", ".")


def test_ruff_would_format_nothing() -> None:
    check(sys.executable, "-m", "ruff", "format", "--check", ".")


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    check(Path(sys.executable).parent / "shellcheck", script)
