"""The section `pamr`: PAMR in several formulations, against the memory's bandwidth."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import straightforward
from benchmarks.bounds import COPIED, bandwidth, pamr_bytes
from benchmarks.gpu.check import Check
from benchmarks.pamr_cases import TOLERANCE, pamr_inputs
from models.heads.pamr import PAMR, _weighted_rows

COMPARED = 2
"""Images whose masks are compared with those of float64."""
GRAPHED = COMPILED = 4
"""How many masks there are where PAMR is captured as a CUDA graph, or compiled."""
NEIGHBOURS = [place for place in range(9) if place != 4]
"""Places of a 3×3 window, row by row, without the pixel itself."""


def pamr(check: Check) -> None:
    """Of a training batch, with as many masks as an image of one and of three objects, and all."""
    batch, side = (2, 21) if check.tiny else (16, 81)
    speed = bandwidth(check.device, 2**20 if check.tiny else COPIED)
    for classes in (2, 4, 21):
        image, masks, _ = pamr_inputs(check.device, batch, side)
        task = Task(check, image, masks[:, :classes].contiguous(), speed)
        task.report("project (embedding_bag)", task.ours, task.least, compared=True)
        _time_parts(task)
        if classes == COMPILED and not check.tiny:
            _time_compiled(task)
        if check.on_gpu and find_spec("triton"):
            _time_triton(task)
        if check.on_gpu and classes == GRAPHED:
            with check.guarded("CUDA graph of the project's"):
                _time_graph(task)
        if classes != 2:
            task.report(
                "straightforward (convolutions)",
                lambda task=task: straightforward.pamr(task.image, task.masks),
                compared=True,
            )
        del task
        check.free()
    if not check.on_gpu and os.environ.get("TRITON_INTERPRET") and find_spec("triton"):
        with check.guarded("Triton's kernels"):
            _interpret_triton(check)


class Task:
    """A batch to refine, and the project's intermediate results for it.

    Args:
        check: which rows go to.
        image: B×3×h×w.
        masks: B×C×h×w.
        speed: bytes a second that memory reads and writes.

    Attributes:
        least: bytes that PAMR moves through memory at least.
        iteration: bytes that one iteration does.
        weights: (B·h·w)×N, the N neighbours' weights of every pixel.
        planes: B×N×h×w, the same as maps.
        neighbours: (B·h·w)×N, their numbers.
        rows: (B·h·w)×C, the masks.
    """

    @torch.no_grad()
    def __init__(self, check: Check, image: Tensor, masks: Tensor, speed: float) -> None:
        self.check, self.image, self.masks, self.speed = check, image, masks, speed
        self.pamr = PAMR()
        self.expected = self.pamr(*(x[:COMPARED].cpu().double() for x in (image, masks)))
        weights = self.pamr.affinity(image)
        self.weights = weights.flatten(0, 2)
        self.planes = weights.permute(0, 3, 1, 2).contiguous()
        self.neighbours = self.pamr._neighbour_rows(image)
        self.classes = masks.shape[1]
        self.rows = masks.permute(0, 2, 3, 1).reshape(-1, self.classes)
        pixels, neighbours = self.weights.shape
        self.least = pamr_bytes(self.pamr, pixels, self.classes)
        self.iteration = 4 * pixels * (2 * neighbours + 2 * self.classes)

    def ours(self) -> Tensor:
        """The project's PAMR, whole."""
        return self.pamr(self.image, self.masks)

    def report(
        self,
        name: str,
        call: Callable[[], Tensor],
        moved: int | None = None,
        compared: bool = False,
    ) -> None:
        """Time a call.

        Args:
            name: what it computes.
            call: computes it.
            moved: bytes that it moves through memory at least, if they say anything.
            compared: whether its result is that of `ours`, and is compared.
        """
        what = f"{name}, {self.classes} masks"
        with self.check.guarded(what), torch.no_grad():
            found = call()
            seconds = self.check.seconds(call, 15)
            result, fine = f"{1000 * seconds:.3f} ms", None
            if moved:
                speed = moved / seconds
                result += f", {speed / 1e9:.0f} GB/s = {speed / self.speed:.0%} of the copy's"
            if compared:
                off = float((found[:COMPARED].cpu().double() - self.expected).abs().max())
                result += f", off by {off:.0e}"
                fine = off < TOLERANCE
            self.check.row(what, result, fine)


def _time_parts(task: Task) -> None:
    """The affinity, and an iteration in the project's way and in others."""
    task.report("  its affinity alone", lambda: task.pamr.affinity(task.image))
    ways = {
        "of its iterations": lambda: _weighted_rows(task.rows, task.neighbours, task.weights),
        "iteration, rows gathered and multiplied (bmm)": lambda: _gathered(task),
        "iteration, sparse CSR product": lambda: _sparse(task),
        "iteration, shifted views": lambda: shifted(task.masks, task.planes, task.pamr.dilations),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's CSR tensors call themselves a beta
        for name, call in ways.items():
            task.report(f"  one {name}", call, task.iteration)


def _gathered(task: Task) -> Tensor:
    return torch.bmm(task.weights[:, None], task.rows[task.neighbours])[:, 0]


def _sparse(task: Task) -> Tensor:
    pixels, neighbours = task.weights.shape
    starts = torch.arange(
        0, pixels * neighbours + 1, neighbours, device=task.rows.device, dtype=torch.int32
    )
    columns, values = task.neighbours.flatten(), task.weights.flatten()
    return torch.sparse_csr_tensor(starts, columns, values, (pixels, pixels)) @ task.rows


def shifted(masks: Tensor, planes: Tensor, dilations: tuple[int, ...]) -> Tensor:
    """One iteration by views of the padded masks; `planes` are weights, B×N×h×w."""
    height, width = masks.shape[-2:]
    reach = max(dilations)
    padded = F.pad(masks, (reach,) * 4, mode="replicate")
    total = torch.zeros_like(masks)
    places = [(dilation, place) for dilation in dilations for place in NEIGHBOURS]
    for index, (dilation, place) in enumerate(places):
        top, left = reach + (place // 3 - 1) * dilation, reach + (place % 3 - 1) * dilation
        view = padded[..., top : top + height, left : left + width]
        total = total + planes[:, index : index + 1] * view
    return total


def _time_compiled(task: Task) -> None:
    iteration = torch.compile(shifted, dynamic=False)
    task.report(
        "  one iteration, shifted views, compiled",
        lambda: iteration(task.masks, task.planes, task.pamr.dilations),
        task.iteration,
    )
    affinity = torch.compile(task.pamr._affinity, dynamic=False)
    task.report("  affinity, compiled", lambda: affinity(task.image))


def _time_triton(task: Task) -> None:
    from benchmarks.gpu import pamr_triton as kernels

    image, masks, dilations = task.image, task.masks, task.pamr.dilations
    task.report(
        "Triton",
        lambda: kernels.pamr(image, masks, task.pamr.num_iter, dilations),
        task.least,
        compared=True,
    )
    with task.check.guarded("Triton parts"), torch.no_grad():
        weights, steps = kernels.affinity(image, dilations)
        task.report("  its affinity alone", lambda: kernels.affinity(image, dilations)[0])
        task.report(
            "  one of its iterations",
            lambda: kernels.iterate(masks, weights, steps, 1),
            task.iteration,
        )


def _interpret_triton(check: Check) -> None:
    """What the kernels compute without a GPU: for an image so small that it takes no minutes."""
    from benchmarks.gpu import pamr_triton as kernels

    image, masks, _ = pamr_inputs(check.device, 2, 11)
    pamr = PAMR(num_iter=2, dilations=(1, 4))
    found = kernels.pamr(image, masks, pamr.num_iter, pamr.dilations)
    off = float((found - pamr(image, masks)).abs().max())
    check.row("Triton's kernels, interpreted", f"off by {off:.0e}", off < TOLERANCE)


@torch.no_grad()
def _time_graph(task: Task) -> None:
    """All of the project's operations, started at once."""
    task.ours()
    # this copies a list from the host, which no graph can hold
    with mock.patch.object(task.pamr, "_neighbour_rows", lambda _: task.neighbours):
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            task.ours()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = task.ours()

        def replay() -> Tensor:
            graph.replay()
            return captured

        task.report("CUDA graph of the project's", replay, task.least, compared=True)
