"""16 bits on a CPU that multiplies them natively (AMX), against float32 on the same CPU."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from benchmarks.case import Builders, Case
from benchmarks.inference_cases import drawn_network, share_of_pixels
from benchmarks.inputs import random_images
from benchmarks.training_cases import largest_relative_difference, whole_step
from benchmarks.voc_like import SIZE, photograph
from core.config import InferenceConfig
from core.devices import multiplies_bf16
from core.inference.predict import Predictor
from core.inference.samples import Sample
from core.inference.tta import Size, resize_views, show_views, tta_views
from core.precision import accelerate
from models.dilated import shifted_products
from models.heads.aspp import DILATIONS

BF16 = torch.bfloat16


def aspp(device: torch.device, channels: int = 4096, side: int = 64) -> Case:
    """Both sides in bfloat16: PyTorch's dilated convolutions, and ours."""
    torch.manual_seed(0)
    maps = torch.randn(1, channels, side, side, device=device, dtype=BF16)
    maps = maps.contiguous(memory_format=torch.channels_last)
    weights = [
        torch.randn(256, channels, 3, 3, device=device, dtype=BF16) / channels**0.5
        for _ in DILATIONS
    ]

    @torch.inference_mode()
    def baseline() -> dict[str, Tensor]:
        return {
            str(dilation): F.conv2d(maps, weight, padding=dilation, dilation=dilation).float()
            for dilation, weight in zip(DILATIONS, weights, strict=True)
        }

    @torch.inference_mode()
    def ours() -> dict[str, Tensor]:
        return {
            str(dilation): shifted_products(maps, weight, dilation).float()
            for dilation, weight in zip(DILATIONS, weights, strict=True)
        }

    return Case(
        f"ASPP's dilated convolutions of {channels} channels, {side}×{side}, bf16",
        baseline,
        ours,
        tolerance=0.02,
        target=7,
        difference=largest_relative_difference,
        precision=BF16,
    )


def view(device: torch.device, backbone: str = "resnet38", side: int = 512) -> Case:
    """A view through the network, in float32 and in bfloat16."""
    plain, lowered = _networks(device, backbone)
    images = random_images(1, side).to(device)

    @torch.inference_mode()
    def masks(network: nn.Module) -> np.ndarray:
        return network(images)[1].argmax(dim=1).cpu().numpy()

    return Case(
        f"a view of {side}×{side}, {backbone}, bf16 over float32",
        baseline=partial(masks, plain),
        ours=partial(masks, lowered),
        tolerance=0.1,
        target=4,
        difference=share_of_pixels,
        precision=BF16,
        repetitions=3,
    )


def own_image(
    device: torch.device, backbone: str = "resnet38", size: Size = SIZE, pad: Size = (1024, 1024)
) -> Case:
    """Eight views of an image, without CRF: as infer_images.sh sees it, and as published.

    The published side is timed on one of its eight windows, all of one size. Results are compared
    in the windows of ours, for which a view of the published size would take too long.
    """
    plain, lowered = _networks(device, backbone)
    published = InferenceConfig(PAD_SIZE=pad, FP_CUT_SCORE=0.0)
    test = replace(published, WINDOW="fit")
    image = Image.fromarray(photograph()[: size[0], : size[1]].copy())
    views = tta_views(size, published)

    @torch.inference_mode()
    def one_window() -> Tensor:
        return plain(show_views(views[:1], resize_views(views[:1], image), device))[1]

    def segment(network: nn.Module) -> np.ndarray:
        [(_, merged, _)] = Predictor(network, test, device).predict([Sample("photograph", image)])
        return merged.argmax(axis=0)

    return Case(
        f"an image of {size[1]}×{size[0]}, {len(views)} views, {backbone}: AMP auto and windows "
        f"that fit over float32 and {pad[1]}×{pad[0]} (one view, scaled)",
        baseline=one_window,
        ours=partial(segment, lowered),
        check=(partial(segment, plain), partial(segment, lowered)),
        tolerance=0.1,
        target=12,
        difference=share_of_pixels,
        baseline_scale=len(views),
        precision=BF16,
        repetitions=1,
    )


def _networks(device: torch.device, backbone: str) -> tuple[nn.Module, nn.Module]:
    """A network in float32, and the same in bfloat16."""
    lowered = accelerate(drawn_network(device, backbone), InferenceConfig(AMP="bf16"), device)
    return drawn_network(device, backbone), lowered


def step(
    device: torch.device, backbone: str, batch: int, size: int, target: float, repetitions: int
) -> Case:
    """A training step: the published formulation in float32, ours in bfloat16."""
    case = whole_step(device, backbone, batch, size, ("TRAIN.AMP", "bf16"), target)
    return replace(case, precision=BF16, repetitions=repetitions)


CPU_CASES: Builders = {
    "aspp-bf16": aspp,
    "view-bf16": view,
    "own-image-bf16": own_image,
    "training-step-bf16": partial(
        step, backbone="resnet50", batch=16, size=72, target=1.8, repetitions=3
    ),
    "training-step-wrn38-bf16": partial(
        step, backbone="resnet38", batch=2, size=321, target=3, repetitions=1
    ),
}
"""Left out where the CPU does not multiply bfloat16 natively: it takes longer than float32 then."""


def cases_here() -> Builders:
    """`CPU_CASES` where this CPU has AMX; none elsewhere."""
    return CPU_CASES if multiplies_bf16(torch.device("cpu")) else {}
