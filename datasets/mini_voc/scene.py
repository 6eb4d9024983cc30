"""One picture: objects placed on a background, with the map of which object each pixel shows."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from datasets.mini_voc.backgrounds import draw_background, smooth_noise
from datasets.mini_voc.classes import OBJECTS, ObjectClass
from datasets.mini_voc.shapes import rotation
from datasets.mini_voc.silhouettes import Silhouette

# Everything is drawn this many times larger and then reduced, which smooths the edges.
OVERSAMPLING = 3

# The share of the image each object is drawn to cover, by the number of objects in it.
AREA_SHARE = {1: (0.22, 0.42), 2: (0.14, 0.26), 3: (0.11, 0.18)}
MAX_EXTENT = 0.92  # of the image's side, along either axis
MIN_VISIBLE = 0.65  # of an object, after others have been laid over it
TEXTURE_PERIODS = 11  # over the image's shorter side


@dataclass(frozen=True)
class Scene:
    """A picture and what it shows.

    Attributes:
        image: H×W×3 uint8, RGB.
        instances: H×W uint8; 0 is background, k the k-th object.
        classes: the name of each object's class, the first one belonging to instance 1.
        outlines: of each object the parts, N×2 corners x, y in pixels; others may lie over them.
        areas: the pixels of each object, hidden ones too.
    """

    image: np.ndarray
    instances: np.ndarray
    classes: tuple[str, ...]
    outlines: tuple[tuple[np.ndarray, ...], ...]
    areas: tuple[float, ...]


@dataclass(frozen=True)
class _Pose:
    """Where an object stands: unit square → (drawn) pixels as `matrix` @ (p − 0.5) + `centre`."""

    matrix: np.ndarray
    centre: np.ndarray

    def place(self, outline: np.ndarray) -> np.ndarray:
        return (outline - 0.5) @ self.matrix.T + self.centre


def draw_scene(classes: Sequence[str], height: int, width: int, rng: np.random.Generator) -> Scene:
    """Draw one object of each of `classes` (up to 3 names), the later ones in front."""
    size = height * OVERSAMPLING, width * OVERSAMPLING
    objects = [OBJECTS[name] for name in classes]
    poses, stencils = _arrange(objects, size, rng)
    canvas = draw_background(rng, *size)
    instances = np.zeros(size, dtype=np.uint8)
    for number, (kind, pose, stencil) in enumerate(
        zip(objects, poses, stencils, strict=True), start=1
    ):
        _paint(canvas, kind, pose, stencil, rng)
        instances[stencil] = number
    return Scene(
        _reduce_image(canvas, rng),
        _reduce_instances(instances),
        tuple(classes),
        tuple(_outlines(kind.silhouette, pose) for kind, pose in zip(objects, poses, strict=True)),
        tuple(float(stencil.sum()) / OVERSAMPLING**2 for stencil in stencils),
    )


def _arrange(
    objects: Sequence[ObjectClass], size: tuple[int, int], rng: np.random.Generator
) -> tuple[list[_Pose], list[np.ndarray]]:
    """Poses and H×W stencils such that enough of every object stays visible."""
    while True:
        poses = [_random_pose(kind, len(objects), size, rng) for kind in objects]
        stencils = [
            _stencil(kind.silhouette, pose, size) for kind, pose in zip(objects, poses, strict=True)
        ]
        if all(
            (stencil & ~np.any(stencils[index + 1 :], axis=0)).sum() > MIN_VISIBLE * stencil.sum()
            for index, stencil in enumerate(stencils)
        ):
            return poses, stencils


def _random_pose(
    kind: ObjectClass, number: int, size: tuple[int, int], rng: np.random.Generator
) -> _Pose:
    """A pose inside the image, of an area drawn from `AREA_SHARE`; flipped half of the time."""
    extent = np.array(size[::-1], dtype=float)
    stretch = rng.uniform(0.9, 1.1)
    matrix = rotation(rng.uniform(-kind.lean, kind.lean)) @ np.diag([stretch, 1 / stretch])
    matrix[:, 0] *= rng.choice([-1, 1])
    area = rng.uniform(*AREA_SHARE[number]) * extent.prod()
    matrix *= np.sqrt(area / _unit_area(kind.silhouette))

    points = np.concatenate([part.outline for part in kind.silhouette]) - 0.5
    low, high = _bounds(points @ matrix.T)
    shrink = min(1.0, float((MAX_EXTENT * extent / (high - low)).min()))
    matrix, low, high = matrix * shrink, low * shrink, high * shrink
    return _Pose(matrix, rng.uniform(-low, extent - high))


@cache
def _unit_area(silhouette: Silhouette) -> float:
    """The area of a silhouette in its unit square."""
    pixels = 200
    pose = _Pose(np.eye(2) * pixels, np.full(2, pixels * 0.75))
    return _stencil(silhouette, pose, (pixels * 3 // 2,) * 2).sum() / pixels**2


def _outlines(silhouette: Silhouette, pose: _Pose) -> tuple[np.ndarray, ...]:
    # what is drawn has its corners in the middle of pixels
    return tuple((pose.place(part.outline) + 0.5) / OVERSAMPLING for part in silhouette)


def _stencil(silhouette: Silhouette, pose: _Pose, size: tuple[int, int]) -> np.ndarray:
    """True where the object is, H×W."""
    return _draw_parts(silhouette, pose, size) > 0


def _draw_parts(silhouette: Silhouette, pose: _Pose, size: tuple[int, int]) -> np.ndarray:
    """H×W uint8: 0 outside the object, else 100 times the shade of the topmost part."""
    sheet = Image.new("L", size[::-1])
    draw = ImageDraw.Draw(sheet)
    for part in silhouette:
        draw.polygon(
            [tuple(point) for point in pose.place(part.outline)], fill=round(100 * part.shade)
        )
    return np.asarray(sheet)


def _paint(
    canvas: np.ndarray,
    kind: ObjectClass,
    pose: _Pose,
    stencil: np.ndarray,
    rng: np.random.Generator,
) -> None:
    """Paint the object onto `canvas` in place: its texture, the shades of its parts, and light."""
    height, width = stencil.shape
    low, high = (limit.astype(int) for limit in _bounds(np.argwhere(stencil)))
    window = tuple(slice(start, stop + 1) for start, stop in zip(low, high, strict=True))
    rows, columns = np.mgrid[window]

    # the texture leans and mirrors with the object but keeps its own period
    axes = pose.matrix / np.linalg.norm(pose.matrix, axis=0)
    offset = np.stack([columns, rows], axis=-1) - pose.centre
    period = min(height, width) / TEXTURE_PERIODS * rng.uniform(0.85, 1.2)
    u, v = np.moveaxis(offset @ axes, -1, 0) / period + rng.uniform(0, 50, (2, 1, 1))
    share = kind.texture(u, v)[..., None]
    first, second = _varied_colours(kind.colours, rng)
    colour = first * (1 - share) + second * share

    shade = _draw_parts(kind.silhouette, pose, stencil.shape)[window][..., None] / 100
    light = 0.8 + 0.4 * smooth_noise(rng, *rows.shape, 2, 2)[..., None]
    colour = np.where(shade <= 1, colour * shade, colour + (1 - colour) * (shade - 1)) * light
    inside = stencil[window]
    canvas[window][inside] = np.clip(colour, 0, 1)[inside]


def _varied_colours(colours: tuple[str, str], rng: np.random.Generator) -> list[np.ndarray]:
    """The two tones as RGB in [0, 1], their hue, saturation and value shifted alike."""
    hue_shift = rng.uniform(-0.015, 0.015)
    saturation, value = rng.uniform(0.85, 1.1, 2)
    varied = []
    for colour in colours:
        h, s, v = colorsys.rgb_to_hsv(*(c / 255 for c in ImageColor.getrgb(colour)))
        rgb = colorsys.hsv_to_rgb(h + hue_shift, min(1, s * saturation), min(1, v * value))
        varied.append(np.array(rgb))
    return varied


def _bounds(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return points.min(axis=0), points.max(axis=0)


def _reduce_image(canvas: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Average `OVERSAMPLING` squared pixels each, add a camera's noise, and round to uint8."""
    image = _squares(canvas).mean(axis=(1, 3))
    image = image + rng.normal(0, 0.012, image.shape)
    return np.round(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _reduce_instances(instances: np.ndarray) -> np.ndarray:
    """The majority among `OVERSAMPLING` squared pixels each."""
    numbers = range(int(instances.max()) + 1)
    votes = np.stack([_squares(instances == number).sum(axis=(1, 3)) for number in numbers])
    return votes.argmax(axis=0).astype(np.uint8)


def _squares(array: np.ndarray) -> np.ndarray:
    height, width = array.shape[:2]
    n = OVERSAMPLING
    return array.reshape(height // n, n, width // n, n, *array.shape[2:])
