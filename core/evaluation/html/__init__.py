"""HTML pages from the templates in this folder.

A page extends base.html.j2, which puts style.css and script.js into it: it is one file.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

HERE = Path(__file__).parent


def render(template: str, **values: Any) -> str:
    """Fill in a template of this folder.

    Args:
        template: its file name. Besides Jinja's own filters it has `percent` (of a share in [0, 1],
            with two decimals or as many as its argument says) and `thousands` (an integer with
            commas).
        values: what it names; text is escaped.

    Returns:
        The page, which can be written as UTF-8 whatever the values hold.

    Raises:
        jinja2.UndefinedError: it names a value that is not given.
    """
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share, digits=2: f"{100 * share:.{digits}f}"
    environment.filters["thousands"] = lambda count: f"{count:,}"
    # not `include`, which would read braces in styles and scripts as a template's
    environment.globals["asset"] = lambda name: Markup((HERE / name).read_text(encoding="utf-8"))
    text = environment.get_template(template).render(values)
    # file names need not be UTF-8: bytes that are not become visible, as \udcXX
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
