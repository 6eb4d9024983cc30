"""The copy of the launch scripts that these tests run."""

import shutil
from pathlib import Path

import pytest
from launch_checkout import REPOSITORY, STUB_PYTHON, Checkout

TOOLS = ("bash", "basename", "cat", "cksum", "cp", "date", "dirname", "env", "find", "git")
TOOLS += ("id", "mkdir", "rm", "tee", "touch", "wc")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "a check out"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("launch", "configs"):
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=ignore)
    (root / "tests").mkdir()
    for file in ("requirements.txt", "tests/requirements.txt"):
        shutil.copy(REPOSITORY / file, root / file)
    elsewhere = tmp_path / "else where"
    stub = tmp_path / "stub"
    elsewhere.mkdir()
    stub.mkdir()
    python = shutil.copy(STUB_PYTHON, stub / "python3")
    return Checkout(root, elsewhere, stub, Path(python))


@pytest.fixture
def bare(checkout: Checkout) -> str:
    """A PATH with the tools every machine has, the stand-in as python3, and a compiler."""
    for tool in TOOLS:
        if where := shutil.which(tool):
            (checkout.stub / tool).symlink_to(where)
    checkout.add_tool("c++")
    return str(checkout.stub)
