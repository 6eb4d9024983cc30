"""The tables of docs/ against the code: configuration keys, options and variables of scripts."""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import re
from pathlib import Path
from typing import Any

import pytest
from doc_commands import all_settings

from core.config import Config
from core.config_reading import flatten_fields

ROOT = Path(__file__).parents[2]
DOORS = {"train": "training", "infer_val": "inference", "eval_seg": "evaluation"}
INTERNAL = {"MODEL_SETTINGS"}
VARIABLES = {
    **{"run_voc_resnet38": "training", "train_images": "data", "get_data": "data"},
    **{"get_coco": "data", "get_weights": "training", "infer_images": "inference"},
    **{"infer_val": "inference", "pseudo_labels": "inference", "infer_test": "inference"},
    **{"eval_seg": "evaluation"},
}


def page(name: str) -> str:
    return (ROOT / f"docs/{name}.md").read_text(encoding="utf-8")


def rows(name: str) -> list[list[str]]:
    """The cells of all tables of a page."""
    lines = [line for line in page(name).splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def documented_keys() -> dict[str, tuple[Any, str]]:
    """Each key with its default and the cell of its values, as the tables have them."""
    found = {}
    for values, default, keys in (
        (cells[1], cells[2], re.findall(r"`([A-Z]+\.[A-Z_\d]+)`", cells[0]))
        for name in ("training", "inference")
        for cells in rows(name)
        if len(cells) == 4
    ):
        # commas outside of brackets
        texts = re.split(r", (?![^\[]*\])", default.replace("`", ""))
        for key, text in zip(keys, texts, strict=True) if keys else ():
            found[key] = (value_of(text), values)
    return found


def value_of(text: str) -> Any:
    """A default as --set would read it."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return "" if text == "empty" else text


def test_the_tables_have_every_key_with_its_default():
    known = {
        key: metadata
        for key, (_, metadata) in flatten_fields(Config).items()
        if not metadata.get("unused")
    }
    documented = documented_keys()
    assert documented.keys() == known.keys()
    for key, (default, values) in documented.items():
        section, name = key.split(".")
        actual = getattr(getattr(Config(), section), name)
        assert default == (list(actual) if isinstance(actual, tuple) else actual), key
        for choice in known[key].get("choices", ()):
            assert re.search(rf"\b{choice}\b", values), f"{key}: {choice}"


@pytest.mark.parametrize("door", DOORS)
def test_the_page_has_every_option_of_a_door(door):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit):
        importlib.import_module(door).parse_args(["--help"])
    options = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", printed.getvalue(), re.M)) - {"--help"}
    assert len(options) > 10
    text = page(DOORS[door])
    assert [each for each in options if not re.search(rf"`{each}[ `]", text)] == []


@pytest.mark.parametrize("script", VARIABLES)
def test_the_page_has_every_variable_of_a_script(script):
    text = (ROOT / f"launch/{script}.sh").read_text(encoding="utf-8")
    variables = set(re.findall(r"^([A-Z_\d]+)=\$\{\1:-", text, re.M)) - INTERNAL
    assert variables
    documented = set(re.findall(r"`([A-Z_\d]+)(?:=[^`]*)?`", page(VARIABLES[script])))
    assert variables <= documented


@pytest.mark.parametrize("name", sorted(set(VARIABLES.values())))
def test_a_table_has_only_variables_that_a_script_reads(name):
    named = {each for cells in rows(name) for each in re.findall(r"`([A-Z_\d]+)`", cells[0])}
    assert named
    assert named <= all_settings()
