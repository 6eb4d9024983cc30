"""What training and inference read needs nothing of the installers of single data sets."""

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
READ = (
    "class_names",
    "files",
    "images",
    "info",
    "jitter",
    "image_labels",
    "label_formats",
    "label_sources",
    "labels",
    "lists",
    "samples",
    "transforms",
)
ALLOWED = {f"datasets.{name}" for name in READ}


def imported(path):
    """The modules of ours that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


@pytest.mark.parametrize("name", READ)
def test_what_is_read_imports_no_installer(name):
    ours = {
        module
        for module in imported(REPOSITORY / "datasets" / f"{name}.py")
        if module.split(".")[0] in ("benchmarks", "core", "datasets", "models")
    }
    assert ours <= ALLOWED


def test_utils_import_nothing_of_ours_but_each_other():
    for path in (REPOSITORY / "utils").glob("*.py"):
        packages = {module.split(".")[0] for module in imported(path)}
        assert not packages & {"benchmarks", "core", "datasets", "models"}, path
