"""Two-tone patterns: functions of a plane (u, v), measured in periods, to the second tone's share.

Each takes two float arrays of one shape and gives an array of that shape with values in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Pattern = Callable[[np.ndarray, np.ndarray], np.ndarray]


def lengthwise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Horizontal stripes."""
    return _step(np.sin(2 * np.pi * v))


def upright(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Vertical stripes."""
    return _step(np.sin(2 * np.pi * u))


def pinstripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Vertical stripes, the second tone narrow."""
    return _step(np.cos(2 * np.pi * u) - 0.6)


def slanted(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Diagonal stripes."""
    return _step(np.sin(2 * np.pi * (u + v) * 0.8))


def waves(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Horizontal stripes that rise and fall."""
    return _step(np.sin(2 * np.pi * (v + 0.3 * np.sin(2 * np.pi * u * 0.6))))


def zigzag(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Horizontal stripes with corners."""
    return _step(np.sin(2 * np.pi * (v + 0.9 * np.abs(u * 0.6 % 1 - 0.5))))


def checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A chessboard."""
    return _step(2 * np.sin(np.pi * u * 1.2) * np.sin(np.pi * v * 1.2))


def diamonds(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A chessboard that stands on a corner."""
    return checks((u + v) * 0.8, (u - v) * 0.8)


def dots(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Round dots of the second tone, rows set off by half."""
    return _step((0.33 - np.hypot(*_cell(u, v))) * 6)


def leaves(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Pointed leaves of the second tone, leaning to the left and to the right row by row."""
    x, y = _cell(u * 0.7, v * 0.7)
    flipped = np.where(np.floor(v * 0.7) % 2 == 0, x, -x)
    along, across = flipped + y, np.abs(flipped - y)
    return _step((0.45 - 1.1 * along**2 - 1.5 * across) * 5)


def rings(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Curls: a ring of the second tone in each cell."""
    return _step((0.13 - np.abs(np.hypot(*_cell(u * 0.8, v * 0.8)) - 0.3)) * 10)


def scales(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Overlapping feathers or scales, their lower edges in the second tone."""
    x, y = _cell(u * 0.9, v * 0.9)
    return _step((np.hypot(x, y + 0.5) - 0.62) * 6)


def triangles(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Rows of triangles that stand on their base, the second tone those that stand on a corner."""
    x, y = _cell(u * 0.8, v * 0.8)
    return _step((2 * np.abs(x) - y - 0.5) * 4)


def grid(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Lines of the second tone both ways."""
    return _step(np.maximum(np.cos(2 * np.pi * u), np.cos(2 * np.pi * v)) - 0.65)


def bricks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Joints of the second tone around bricks laid in rows."""
    row = np.floor(v * 1.2)
    upright_joint = np.cos(2 * np.pi * (u * 0.6 + row / 2)) - 0.75
    return _step(np.maximum(np.cos(2 * np.pi * v * 1.2) - 0.6, upright_joint))


def weave(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Wickerwork: patches of stripes, lying and standing in turn."""
    lying = (np.floor(u * 0.7) + np.floor(v * 0.7)) % 2 == 0
    return _step(np.sin(2 * np.pi * np.where(lying, v, u) * 1.4))


def crosses(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Plus signs of the second tone."""
    x, y = np.abs(_cell(u, v))
    return _step((0.4 - np.maximum(x, y)) * 8) * _step((0.14 - np.minimum(x, y)) * 10)


def speckle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Small square grains, each of a tone of its own."""
    return _hash(np.floor(u * 3), np.floor(v * 3)) ** 1.5


def blotches(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Large irregular patches."""
    return _step(7 * (_value_noise(u, v) - 0.5))


def grain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Wood: long wavering lines."""
    return _step(1.5 * np.sin(2 * np.pi * (v * 1.2 + 1.1 * _value_noise(u * 0.25, v * 0.6))))


def _step(value: np.ndarray) -> np.ndarray:
    """A soft step at 0: steep enough to look drawn, soft enough to be sampled."""
    return np.clip(0.5 + 1.5 * value, 0, 1)


def _cell(u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates in −0.5 to 0.5 inside cells whose every other row is set off by half."""
    return (u + 0.5 * (np.floor(v) % 2)) % 1 - 0.5, v % 1 - 0.5


def _hash(i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """A random-looking value in [0, 1) for each pair of whole numbers."""
    return np.sin(i * 127.1 + j * 311.7) * 43758.5453 % 1


def _value_noise(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Smooth noise in [0, 1): random values at whole coordinates, blended in between."""
    i, j = np.floor(u), np.floor(v)
    a, b = (t * t * (3 - 2 * t) for t in (u - i, v - j))
    upper = (1 - a) * _hash(i, j) + a * _hash(i + 1, j)
    lower = (1 - a) * _hash(i, j + 1) + a * _hash(i + 1, j + 1)
    return (1 - b) * upper + b * lower
