"""Links of README and docs lead to files that git has, and to headings that are there."""

from __future__ import annotations

import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"]
PAGES += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.*"))]


@cache
def prose(page: str) -> str:
    """A page's text without its code."""
    text = (ROOT / page).read_text(encoding="utf-8")
    if page.endswith(".ipynb"):
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


@cache
def files_of_git() -> frozenset[str]:
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return frozenset(listed.stdout.splitlines())


def anchors(page: str) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ +(.*?) *$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: str) -> list[str]:
    """Where a page's links lead and its pictures come from, but for the web."""
    found = re.findall(r"\]\(([^()\s]+)\)", prose(page))
    found += re.findall(r"\b(?:src|href)=\"([^\"]+)\"", prose(page))
    return [link for link in found if not re.match(r"https?:|mailto:", link)]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (ROOT / page).parent / path if path else ROOT / page
        assert target.exists(), f"{page}: {link}"
        name = str(target.resolve().relative_to(ROOT.resolve()))
        if target.is_file() and files_of_git():
            assert name in files_of_git(), f"{page}: git does not have {link}"
        assert not anchor or anchor in anchors(name), f"{page}: {link}"


def test_links_are_found():
    assert "#a-backbone" in links("docs/extending.md")
    assert "../benchmarks/README.md" in links("docs/performance.md")
    assert {"precision", "windows"} <= anchors("docs/inference.md")


def test_each_page_is_reached_from_another():
    reached = {
        str(((ROOT / page).parent / link.partition("#")[0]).resolve().relative_to(ROOT.resolve()))
        for page in PAGES
        for link in links(page)
        if not link.startswith("#")
    }
    assert {page for page in PAGES if page.startswith("docs/")} <= reached
