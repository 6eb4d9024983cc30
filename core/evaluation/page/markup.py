"""HTML put together from elements; what is not markup already is escaped."""

from __future__ import annotations

from html import escape

VOID = frozenset({"col", "img", "meta"})


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def tag(element: str, *children: str, **attributes: str | int | None) -> Markup:
    """An element, as `tag("a", "here", href="#x")`.

    Args:
        element: its name.
        children: markup, which stays what it is, and text, which is escaped.
        attributes: a final underscore is dropped and others become hyphens (`class_`,
            `aria_sort`); None leaves an attribute out.
    """
    described = "".join(
        f' {name.removesuffix("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
        if value is not None
    )
    if element in VOID:
        return Markup(f"<{element}{described}>")
    return Markup(f"<{element}{described}>{join(*children)}</{element}>")


def join(*children: str) -> Markup:
    """Children one after the other, as `tag` takes them."""
    return Markup(
        "".join(child if isinstance(child, Markup) else escape(child) for child in children)
    )
