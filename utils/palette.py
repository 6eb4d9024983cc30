"""What values of masks stand for no class, and the colours of all of them."""

from __future__ import annotations

from functools import cache

IGNORE_INDEX = 255
"""The mask value of pixels without class: ambiguous ground truth, pseudo labels that are left out.

Data sets may name another one for their ground truth."""


@cache
def voc_palette() -> tuple[int, ...]:
    """VOC's colour map as 768 values, R, G and B of the indices 0 to 255.

    An index's bits are dealt to the three channels in turn, lowest first, and fill each channel
    from its highest bit down, so that small indices are far apart in colour.
    """
    colours = []
    for index in range(256):
        rgb = [0, 0, 0]
        for bit in range(8):
            rgb[bit % 3] |= ((index >> bit) & 1) << (7 - bit // 3)
        colours.extend(rgb)
    return tuple(colours)
