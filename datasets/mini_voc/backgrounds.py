"""Muted textured backgrounds, and things standing about on them that belong to no class."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageDraw

from datasets.mini_voc.shapes import rotation


def draw_background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A background with distractors, H×W×3 float32 in [0, 1].

    One ground fills the image, or two meet at a horizon. Saturation stays below that of the
    classes' colours, and no ground repeats one of their patterns at their scale.
    """
    canvas = _ground(rng, height, width)
    if rng.random() < 0.6:
        horizon = _horizon(rng, height, width)
        canvas = np.where(horizon[..., None], _ground(rng, height, width), canvas)
    for _ in range(rng.integers(2, 7)):
        _add_distractor(rng, canvas)
    return canvas


def smooth_noise(
    rng: np.random.Generator, height: int, width: int, cells_y: float, cells_x: float
) -> np.ndarray:
    """Noise in about [0, 1] with `cells_y` by `cells_x` bumps over an H×W float32 map."""
    size = (max(2, round(cells_x)), max(2, round(cells_y)))
    values = Image.fromarray(rng.random(size[::-1], dtype=np.float32))
    return np.asarray(values.resize((width, height), Image.Resampling.BICUBIC))


def _muted_colour(rng: np.random.Generator) -> np.ndarray:
    return np.array(
        colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.04, 0.32), rng.uniform(0.3, 0.85))
    )


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """One textured surface: a colour whose brightness follows noise of a random grain."""
    short = min(height, width)
    # bumps per short side, down and across: clouds, grass or rain, planks, sand, pebbles
    down, across = [(3, 2), (5, 45), (8, 1), (60, 60), (18, 18)][rng.integers(5)]
    cells = down * height / short, across * width / short
    relief = smooth_noise(rng, height, width, *cells) - 0.5
    relief += 0.6 * (smooth_noise(rng, height, width, 4, 4) - 0.5)
    gradient = np.linspace(-0.5, 0.5, height, dtype=np.float32)[:, None] * rng.uniform(-0.5, 0.5)
    brightness = 1 + rng.uniform(0.25, 0.6) * relief + gradient
    return np.clip(_muted_colour(rng) * brightness[..., None], 0, 1).astype(np.float32)


def _horizon(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """True below a sloping, bumpy line, H×W."""
    bumps = smooth_noise(rng, 2, width, 2, rng.integers(2, 9))[0] - 0.5
    slope = np.linspace(-0.5, 0.5, width) * rng.uniform(-0.3, 0.3)
    level = rng.uniform(0.25, 0.75) + slope + bumps * rng.uniform(0, 0.3)
    return np.arange(height)[:, None] > level * height


def _add_distractor(rng: np.random.Generator, canvas: np.ndarray) -> None:
    """Paint a stone, leaf, disc, bar, triangle or the like on `canvas`: plain and muted."""
    height, width = canvas.shape[:2]
    radius = min(height, width) * rng.uniform(0.04, 0.14)
    corners = int(rng.choice([3, 4, 7, 24]))
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    # seven corners at uneven distances make a stone
    distance = rng.uniform(0.7, 1.2, corners) if corners == 7 else np.ones(corners)
    outline = np.stack([np.cos(angles), np.sin(angles)], axis=1) * distance[:, None] * radius
    outline = outline * (1, rng.uniform(0.3, 1)) @ rotation(rng.uniform(0, 360)).T
    outline += rng.uniform((0, 0), (width, height))

    stencil = Image.new("L", (width, height))
    ImageDraw.Draw(stencil).polygon([tuple(point) for point in outline], fill=255)
    inside = np.asarray(stencil) > 0
    shading = 1 + 0.4 * (smooth_noise(rng, height, width, 6, 6)[inside] - 0.5)
    canvas[inside] = np.clip(_muted_colour(rng) * shading[:, None], 0, 1)
