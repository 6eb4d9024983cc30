"""What an object of each class looks like: silhouette, texture, colours, how far it leans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from datasets.mini_voc import silhouettes as cut
from datasets.mini_voc import textures as pattern
from datasets.mini_voc.silhouettes import Silhouette
from datasets.mini_voc.textures import Pattern


@dataclass(frozen=True)
class ObjectClass:
    """A class's looks.

    Attributes:
        silhouette: the parts of its outline.
        texture: the pattern that covers all of it.
        colours: the pattern's two tones, as #rrggbb.
        lean: the largest rotation, in degrees.
    """

    silhouette: Silhouette
    texture: Pattern
    colours: tuple[str, str]
    lean: float = 12


OBJECTS: Mapping[str, ObjectClass] = MappingProxyType(
    {
        "aeroplane": ObjectClass(cut.AEROPLANE, pattern.triangles, ("#f2f2fa", "#d8203a"), 50),
        "bicycle": ObjectClass(cut.BICYCLE, pattern.checks, ("#b4f01e", "#1e2814")),
        "bird": ObjectClass(cut.BIRD, pattern.scales, ("#ffd21e", "#a03c00"), 20),
        "boat": ObjectClass(cut.BOAT, pattern.waves, ("#1e3cb4", "#f0f5ff")),
        "bottle": ObjectClass(cut.BOTTLE, pattern.upright, ("#0a7828", "#64e65a"), 25),
        "bus": ObjectClass(cut.BUS, pattern.dots, ("#dc1414", "#ffe632"), 8),
        "car": ObjectClass(cut.CAR, pattern.slanted, ("#1464f0", "#3cdcfa"), 10),
        "cat": ObjectClass(cut.CAT, pattern.zigzag, ("#fa8c1e", "#fff0d2"), 20),
        "chair": ObjectClass(cut.CHAIR, pattern.weave, ("#faf000", "#505000"), 10),
        "cow": ObjectClass(cut.COW, pattern.blotches, ("#fafafa", "#141414")),
        "diningtable": ObjectClass(cut.DININGTABLE, pattern.grain, ("#d27828", "#501e0a"), 8),
        "dog": ObjectClass(cut.DOG, pattern.speckle, ("#3219c8", "#05051e")),
        "horse": ObjectClass(cut.HORSE, pattern.pinstripes, ("#8c1e28", "#ffaa96")),
        "motorbike": ObjectClass(cut.MOTORBIKE, pattern.grid, ("#282832", "#ff7814")),
        "person": ObjectClass(cut.PERSON, pattern.lengthwise, ("#e61ee6", "#ffd2fa")),
        "potted-plant": ObjectClass(cut.POTTED_PLANT, pattern.leaves, ("#14b478", "#fafa64"), 10),
        "sheep": ObjectClass(cut.SHEEP, pattern.rings, ("#faf0ff", "#9678d2")),
        "sofa": ObjectClass(cut.SOFA, pattern.diamonds, ("#6e1eb4", "#f0b428"), 8),
        "train": ObjectClass(cut.TRAIN, pattern.bricks, ("#0a8c96", "#dcfffa"), 8),
        "tv/monitor": ObjectClass(cut.TV_MONITOR, pattern.crosses, ("#1e1e50", "#3cff96"), 10),
    }
)
