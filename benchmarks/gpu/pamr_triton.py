"""PAMR in Triton: one kernel for the affinity, and one for an iteration.

Every program works on `BLOCK` pixels of an image; a pixel's neighbours are numbered as in
`models.heads.pamr`: dilation by dilation, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 128


@triton.jit
def _neighbour(y, x, d, n: tl.constexpr, height, width):
    """The number in its image of the pixel at place n of a 3×3 window with dilation d."""
    row = tl.minimum(tl.maximum(y + (n // 3 - 1) * d, 0), height - 1)
    column = tl.minimum(tl.maximum(x + (n % 3 - 1) * d, 0), width - 1)
    return row * width + column


@triton.jit
def _factor(sums, squares, count):
    """-1 / (3 (1e-8 + 0.1 σ)) of a channel, from sums of differences and of their squares."""
    variance = tl.maximum(squares - sums * sums / count, 0.0) / (count - 1)
    return -1.0 / (3.0 * (1e-8 + 0.1 * tl.sqrt(variance)))


@triton.jit
def _difference(channel, at, centre, inside):
    return tl.load(channel + at, mask=inside, other=0.0) - centre


@triton.jit
def _likeness(red, area, at, inside, c0, c1, c2, f0, f1, f2):
    """How like the pixels `at` are to those in the centre, the mean over the colours."""
    like = tl.abs(_difference(red, at, c0, inside)) * f0
    like += tl.abs(_difference(red + area, at, c1, inside)) * f1
    like += tl.abs(_difference(red + 2 * area, at, c2, inside)) * f2
    return like


@triton.jit
def _affinity_kernel(
    image, weights, dilations, height, width, ND: tl.constexpr, BLOCK: tl.constexpr
):
    """image B×3×h×w → weights B×(8·ND)×h×w, with ND dilations."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(1)
    area = height * width
    inside = pixel < area
    y = pixel // width
    x = pixel % width
    red = image + batch * 3 * area
    c0 = tl.load(red + pixel, mask=inside, other=0.0)
    c1 = tl.load(red + area + pixel, mask=inside, other=0.0)
    c2 = tl.load(red + 2 * area + pixel, mask=inside, other=0.0)

    # the deviation of each colour, from differences as in models.heads.pamr
    s0 = tl.zeros((BLOCK,), tl.float32)
    s1 = tl.zeros((BLOCK,), tl.float32)
    s2 = tl.zeros((BLOCK,), tl.float32)
    q0 = tl.zeros((BLOCK,), tl.float32)
    q1 = tl.zeros((BLOCK,), tl.float32)
    q2 = tl.zeros((BLOCK,), tl.float32)
    for index in range(ND):
        d = tl.load(dilations + index)
        for n in tl.static_range(9):
            if n != 4:
                at = _neighbour(y, x, d, n, height, width)
                e0 = _difference(red, at, c0, inside)
                e1 = _difference(red + area, at, c1, inside)
                e2 = _difference(red + 2 * area, at, c2, inside)
                s0 += e0
                s1 += e1
                s2 += e2
                q0 += e0 * e0
                q1 += e1 * e1
                q2 += e2 * e2
    count = 9.0 * ND
    f0 = _factor(s0, q0, count)
    f1 = _factor(s1, q1, count)
    f2 = _factor(s2, q2, count)

    # the softmax's maximum and sum in one pass, its values in another
    highest = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for index in range(ND):
        d = tl.load(dilations + index)
        for n in tl.static_range(9):
            if n != 4:
                at = _neighbour(y, x, d, n, height, width)
                like = _likeness(red, area, at, inside, c0, c1, c2, f0, f1, f2)
                higher = tl.maximum(highest, like)
                total = total * tl.exp(highest - higher) + tl.exp(like - higher)
                highest = higher
    for index in range(ND):
        d = tl.load(dilations + index)
        for n in tl.static_range(9):
            if n != 4:
                j = index * 8 + (n if n < 4 else n - 1)
                at = _neighbour(y, x, d, n, height, width)
                like = _likeness(red, area, at, inside, c0, c1, c2, f0, f1, f2)
                place = weights + (batch * 8 * ND + j) * area + pixel
                tl.store(place, tl.exp(like - highest) / total, mask=inside)


@triton.jit
def _iteration_kernel(
    masks,
    weights,
    result,
    dilations,
    height,
    width,
    channels,
    ND: tl.constexpr,
    KP: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """masks B×C×h×w, weights B×(8·ND)×h×w → result B×C×h×w; KP is a power of 2, at least C."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    batch = tl.program_id(1)
    area = height * width
    inside = pixel < area
    y = pixel // width
    x = pixel % width
    k = tl.arange(0, KP)
    wanted = (k[:, None] < channels) & inside[None, :]
    base = masks + (batch * channels + k[:, None]) * area
    total = tl.zeros((KP, BLOCK), tl.float32)
    for index in range(ND):
        d = tl.load(dilations + index)
        for n in tl.static_range(9):
            if n != 4:
                j = index * 8 + (n if n < 4 else n - 1)
                at = _neighbour(y, x, d, n, height, width)
                weight = weights + (batch * 8 * ND + j) * area + pixel
                weight = tl.load(weight, mask=inside, other=0.0)
                total += weight[None, :] * tl.load(base + at[None, :], mask=wanted, other=0.0)
    place = result + (batch * channels + k[:, None]) * area + pixel[None, :]
    tl.store(place, total, mask=wanted)


def affinity(image: Tensor, dilations: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Weights B×(8·dilations)×h×w of a B×3×h×w image, and the dilations as a tensor."""
    batch, _, height, width = image.shape
    steps = torch.tensor(dilations, dtype=torch.int32, device=image.device)
    count = len(dilations)
    weights = image.new_empty(batch, 8 * count, height, width)
    grid = (triton.cdiv(height * width, BLOCK), batch)
    _affinity_kernel[grid](image.contiguous(), weights, steps, height, width, ND=count, BLOCK=BLOCK)
    return weights, steps


def iterate(masks: Tensor, weights: Tensor, steps: Tensor, num_iter: int) -> Tensor:
    """B×C×h×w masks after so many iterations; `weights` and `steps` are those of `affinity`."""
    batch, channels, height, width = masks.shape
    masks = masks.contiguous()
    buffers = [torch.empty_like(masks) for _ in range(2)]
    grid = (triton.cdiv(height * width, BLOCK), batch)
    power = triton.next_power_of_2(channels)
    for turn in range(num_iter):
        result = buffers[turn % 2]
        _iteration_kernel[grid](
            masks,
            weights,
            result,
            steps,
            height,
            width,
            channels,
            ND=len(steps),
            KP=power,
            BLOCK=BLOCK,
        )
        masks = result
    return masks


def pamr(image: Tensor, masks: Tensor, num_iter: int, dilations: Sequence[int]) -> Tensor:
    """What `models.heads.pamr.PAMR` computes."""
    weights, steps = affinity(image, dilations)
    return iterate(masks, weights, steps, num_iter)
