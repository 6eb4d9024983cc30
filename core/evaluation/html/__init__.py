"""HTML pages from the templates in this folder.

A page extends base.html.j2, which puts style.css and script.js into it: it is one file. Templates
of other folders do so too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from datasets.info import DatasetInfo

HERE = Path(__file__).parent


def render(template: str | Path, **values: Any) -> str:
    """Fill in a template.

    Args:
        template: its file name in this folder, or its path; what it extends, imports and puts in
            by `asset` lies beside it or here. Besides Jinja's own filters it has `percent` (of a
            share in [0, 1], with two decimals or as many as its argument says) and `thousands` (an
            integer with commas).
        values: what it names; text is escaped.

    Returns:
        The page, which can be written as UTF-8 whatever the values hold.

    Raises:
        jinja2.UndefinedError: it names a value that is not given.
    """
    path = HERE / template
    loader = FileSystemLoader([path.parent, HERE])
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f}"
    environment.filters["thousands"] = lambda count: f"{count:,}"
    # not `include`, which would read braces in styles and scripts as a template's
    environment.globals["asset"] = lambda name: Markup(loader.get_source(environment, name)[0])
    text = environment.get_template(path.name).render(values)
    # file names need not be UTF-8: bytes that are not become visible, as \udcXX
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def css_colour(info: DatasetInfo, index: int) -> str:
    """The colour of a mask index, as CSS has it."""
    red, green, blue = info.palette[3 * index : 3 * index + 3]
    return f"rgb({red} {green} {blue})"
