"""The pieces silhouettes are cut from: closed outlines in a unit square, y pointing down."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]

DARK, DIM, BODY, PALE, BRIGHT = 0.4, 0.7, 1.0, 1.35, 1.7


@dataclass(frozen=True, eq=False)
class Part:
    """One filled piece of a silhouette; all pieces together are the object, later ones on top.

    Attributes:
        outline: N×2 points (x, y), the unit square being the object's box.
        shade: brightness of the texture here; 1 leaves it as it is, 0 is black, 2 white.
    """

    outline: np.ndarray
    shade: float


def polygon(*points: Point, shade: float = BODY) -> Part:
    """A piece with straight edges between `points`."""
    return Part(np.array(points, dtype=float), shade)


def box(left: float, top: float, right: float, bottom: float, shade: float = BODY) -> Part:
    """An upright rectangle."""
    return polygon((left, top), (right, top), (right, bottom), (left, bottom), shade=shade)


def blob(*points: Point, shade: float = BODY) -> Part:
    """A piece with a smooth edge through `points` (a closed Catmull-Rom spline)."""
    knots = np.array(points, dtype=float)
    before, after, beyond = (np.roll(knots, shift, axis=0) for shift in (1, -1, -2))
    t = np.linspace(0, 1, 8, endpoint=False)[:, None, None]
    curve = 0.5 * (
        2 * knots
        + t * (after - before)
        + t**2 * (2 * before - 5 * knots + 4 * after - beyond)
        + t**3 * (3 * knots - before - 3 * after + beyond)
    )
    return Part(curve.swapaxes(0, 1).reshape(-1, 2), shade)


def ellipse(
    x: float, y: float, rx: float, ry: float | None = None, tilt: float = 0, shade: float = BODY
) -> Part:
    """An ellipse around (x, y), turned by `tilt` degrees; a disc where `ry` is left out."""
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)
    circle = np.stack([rx * np.cos(angle), (rx if ry is None else ry) * np.sin(angle)], axis=1)
    return Part(circle @ rotation(tilt).T + (x, y), shade)


def bar(width: float, start: Point, end: Point, shade: float = BODY) -> Part:
    """A straight piece of one width with round ends."""
    start, end = np.array(start), np.array(end)
    heading = np.arctan2(*(end - start)[::-1])
    half = np.linspace(-np.pi / 2, np.pi / 2, 9) + heading
    cap = np.stack([np.cos(half), np.sin(half)], axis=1) * width / 2
    return Part(np.concatenate([end + cap, start - cap]), shade)


def both_sides(*parts: Part) -> Iterable[Part]:
    """The parts, and their mirror images at the middle of the unit square."""
    for part in parts:
        yield part
        yield Part((1, 0) + part.outline * (-1, 1), part.shade)


def rotation(degrees: float) -> np.ndarray:
    """The 2×2 matrix that turns a column (x, y) by `degrees`, clockwise on the screen."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return np.array([[c, -s], [s, c]])
