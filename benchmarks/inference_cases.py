"""Inference after the network: the views of an image of 500×375 merged, and its CRF."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import straightforward_inference
from benchmarks.case import Builders, Case
from benchmarks.meters import python_peak
from benchmarks.voc_like import SIZE, photograph
from core.config import Config, InferenceConfig
from core.distributed import place
from core.inference.predict import Merger, Predictor
from core.inference.samples import Sample
from core.inference.tta import Size, TTAView, resize_views, show_views, tta_views
from core.precision import accelerate, tf32
from models import get_model
from models.network import Network
from utils.crf import crf_inference

OBJECTS = (3, 15)
"""Indices of the classes that the image has beside the background."""
CLASSES = 21


def merging(device: torch.device) -> Case:
    """All views are in one group, as by default, so that scores tell the absent objects first."""
    views, scores, masks, labels = random_answers(device)

    def ours() -> Tensor:
        merger = Merger(SIZE)
        merger.add_scores(scores)
        merger.expect(labels)
        merger.add_masks(views, masks)
        return merger.merged(labels)

    return Case(
        "merging 8 views of an image, 500×375 in 1024×1024, two objects",
        baseline=lambda: straightforward_inference.merge(views, masks, labels, SIZE),
        ours=ours,
        tolerance=1e-5,
        target=4,
    )


def merging_late(device: torch.device) -> Case:
    """View by view, as with TEST.BATCH_SIZE 1: no object is known to be absent until the end."""
    views, scores, masks, labels = random_answers(device)

    def ours() -> Tensor:
        merger = Merger(SIZE)
        for index, view in enumerate(views):
            merger.add_scores(scores[index : index + 1])
            merger.add_masks([view], masks[index : index + 1])
        return merger.merged(labels)

    return Case(
        "the same, view by view, all 21 classes",
        baseline=lambda: straightforward_inference.merge(views, masks, labels, SIZE),
        ours=ours,
        tolerance=1e-5,
    )


def crf(device: torch.device) -> Case:
    image, probabilities = photograph(), two_objects()
    return Case(
        "CRF of an image, 500×375, two objects, present classes alone",
        baseline=lambda: crf_inference(image, probabilities).argmax(axis=0),
        ours=lambda: crf_inference(image, probabilities, present_only=True).argmax(axis=0),
        tolerance=1e-3,
        target=2.5,
        difference=share_of_pixels,
        meter=python_peak,
    )


def eight_views(
    device: torch.device, backbone: str = "resnet38", size: Size = SIZE, pad: Size = (1024, 1024)
) -> Case:
    """An image's views through the network and merged: all in float32, and lowered to bfloat16."""
    test = InferenceConfig(PAD_SIZE=pad, FP_CUT_SCORE=0.0)
    plain = drawn_network(device, backbone)
    lowered = accelerate(drawn_network(device, backbone), replace(test, AMP="bf16"), device)
    predictor = Predictor(lowered, test, device)
    image = Image.fromarray(photograph()[: size[0], : size[1]].copy())
    sample = Sample("photograph", image)
    views = tta_views(size, test)

    @tf32(False)
    @torch.inference_mode()
    def baseline() -> np.ndarray:
        scores, masks = plain(show_views(views, resize_views(views, image), device))
        labels = (scores.sigmoid().amax(dim=0) > test.FP_CUT_SCORE).float()
        merged = straightforward_inference.merge(views, masks, labels, size)
        merged[0] **= test.BG_POW
        return merged.argmax(dim=0).cpu().numpy()

    def ours() -> np.ndarray:
        [(_, merged, _)] = predictor.predict([sample])
        return merged.argmax(axis=0)

    return Case(
        f"8 views of an image, {size[1]}×{size[0]} in {pad[1]}×{pad[0]}, {backbone}, bfloat16",
        baseline=baseline,
        ours=ours,
        tolerance=0.05,
        target=2.5,
        difference=share_of_pixels,
    )


def drawn_network(device: torch.device, backbone: str) -> Network:
    """A network in eval mode, of the same random weights each time."""
    torch.manual_seed(0)
    # from scratch, since BatchNorm with statistics of no data leaves no features
    net = replace(Config().NET, BACKBONE=backbone, FREEZE_BN=False)
    return place(get_model(net, num_classes=CLASSES), device).eval()


def share_of_pixels(found: np.ndarray, expected: np.ndarray) -> float:
    """The share of pixels whose class differs."""
    return float((found != expected).mean())


def random_answers(device: torch.device) -> tuple[list[TTAView], Tensor, Tensor, Tensor]:
    """The views of an image, and what a network may say of them: scores, masks, and the labels."""
    views = tta_views(SIZE, InferenceConfig())
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(len(views), CLASSES, 64, 64, generator=random).to(device)
    masks = torch.nn.functional.interpolate(coarse, views[0].window, mode="bilinear")
    labels = torch.zeros(CLASSES - 1, device=device)
    labels[[index - 1 for index in OBJECTS]] = 1
    scores = (8 * labels - 4).expand(len(views), -1)
    return views, scores, masks, labels


def two_objects() -> np.ndarray:
    """Merged masks C×H×W of two blobs with noisy borders; the background's to the power 3."""
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width]
    random = np.random.default_rng(0)
    blobs = [((150, 150), (80, 90)), ((220, 350), (90, 70))]
    masks = np.zeros((CLASSES, height, width), dtype=np.float32)
    for index, ((top, left), (tall, wide)) in zip(OBJECTS, blobs, strict=True):
        distance = ((rows - top) / tall) ** 2 + ((columns - left) / wide) ** 2
        coarse = torch.from_numpy(random.random((1, 1, 20, 26), dtype=np.float32))
        noise = torch.nn.functional.interpolate(coarse, SIZE, mode="bilinear")[0, 0].numpy()
        masks[index] = np.clip(np.exp(-distance) + 0.2 * (noise - 0.5), 0, 1)
    masks[0] = np.clip(1 - masks[1:].sum(axis=0), 0, 1) ** 3
    return masks


CPU_CASES: Builders = {"merging": merging, "merging-late": merging_late, "crf": crf}
CUDA_CASES: Builders = {
    "merging": merging,
    "merging-late": merging_late,
    "inference": eight_views,
}
