"""Runs a notebook's cells: `python tests/notebook.py docs/quickstart.ipynb` writes its outputs.

What it keeps is what a page shows: text that is printed, and the picture or the value of a cell's
last expression. So neither the tests nor whoever changes the notebook need Jupyter.
"""

from __future__ import annotations

import ast
import base64
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any


def run_notebook(content: dict[str, Any]) -> None:
    """Run the code cells in their order, in the working directory; their outputs go into them."""
    names: dict[str, Any] = {"__name__": "__main__"}
    number = 0
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            number += 1
            cell["execution_count"] = number
            cell["outputs"] = run_cell("".join(cell["source"]), number, names)


def run_cell(source: str, number: int, names: dict[str, Any]) -> list[dict[str, Any]]:
    """The outputs of a cell, as notebooks hold them."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    printed, value = io.StringIO(), None
    with redirect_stdout(printed):
        exec(compile(tree, f"cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
    outputs = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": lines_of(text)})
    if value is not None:
        outputs.append(
            {
                "output_type": "execute_result",
                "execution_count": number,
                "metadata": {},
                "data": shown(value),
            }
        )
    return outputs


def shown(value: Any) -> dict[str, Any]:
    """A Pillow image as PNG, anything else as text."""
    if not hasattr(value, "_repr_png_"):
        return {"text/plain": lines_of(repr(value))}
    png = base64.b64encode(value._repr_png_()).decode("ascii")
    return {"image/png": png + "\n", "text/plain": ["<PIL.Image.Image>"]}


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    path = Path(sys.argv[1]).resolve()
    content = json.loads(path.read_text(encoding="utf-8"))
    run_notebook(content)
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
