"""Peak memory of a training step and of inference, as tables: `python -m benchmarks.memory`.

Steps are those of the published settings (configs/voc_*.yaml) with the mask loss on; inference is
an image's eight views of 1024×1024 at once. On a GPU, PyTorch's allocator says what it gave out.
Without one, both are done by tensors that have shapes but no values, and the bytes they would take
are added up: the same operations with the same results, but without cuDNN's workspaces, the
allocator's gaps and the CUDA context.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.accounting import MemoryAccount
from core.config import Config, InferenceConfig, load_config
from core.devices import select_device, tune_convolutions
from core.distributed import place
from core.precision import AutocastNetwork, Precision, accelerate, lowers_convolutions, tf32
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer
from datasets.transforms import normalise
from datasets.voc import PASCAL_VOC
from models import get_model
from utils.errors import run_command

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
BACKBONES = ("resnet38", "vgg16", "resnet50", "resnet101")
OPTIONS = [(amp, checkpoint) for checkpoint in (False, True) for amp in ("off", "bf16", "fp16")]
VIEWS, PRECISIONS = (8, 3, 1024, 1024), ("off", "bf16")
"""What the network sees of an image with the defaults of TEST, and in which precisions."""
CLASSES_REFINED = 6
"""Masks that PAMR refines in an image: the background and, a rare maximum, five objects."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--device", default="auto", help="auto, cuda or cpu (default: auto)")
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=BACKBONES)
    args = parser.parse_args()
    device = select_device(args.device)
    tune_convolutions(device)
    print(f"GiB, {describe(device)}, PyTorch {torch.__version__}\n")
    print("| Backbone | crop | batch | " + " | ".join(map(title, OPTIONS)) + " |")
    print("|---|" + "---|" * (2 + len(OPTIONS)))
    for name in args.backbones:
        configs = [published_config(name, *option) for option in OPTIONS]
        row = [name, str(configs[0].DATASET.CROP_SIZE), str(configs[0].TRAIN.BATCH_SIZE)]
        row += [f"{peak_of_step(config, device) / 2**30:.2f}" for config in configs]
        print("| " + " | ".join(row) + " |", flush=True)
    views, _, height, width = VIEWS
    print(f"\n| Backbone, {views} views of {height}×{width} | " + " | ".join(PRECISIONS) + " |")
    print("|---|" + "---|" * len(PRECISIONS))
    for name in args.backbones:
        peaks = [peak_of_views(name, amp, device) / 2**30 for amp in PRECISIONS]
        print("| " + " | ".join([name, *(f"{peak:.2f}" for peak in peaks)]) + " |", flush=True)


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"allocated on {torch.cuda.get_device_name(device)}"
    return "tensors added up without allocating them"


def title(option: tuple[str, bool]) -> str:
    amp, checkpoint = option
    words = [*([amp] if amp != "off" else []), *(["CHECKPOINT"] if checkpoint else [])]
    return " + ".join(words) or "neither"


def published_config(backbone: str, amp: str, checkpoint: bool) -> Config:
    """The published configuration of a backbone, with TRAIN.AMP and TRAIN.CHECKPOINT."""
    overrides = ["TRAIN.AMP", amp, "TRAIN.CHECKPOINT", str(checkpoint)]
    return load_config(CONFIGS / f"voc_{backbone}.yaml", overrides)


def peak_of_step(config: Config, device: torch.device) -> int:
    """The most bytes that tensors take at a time in a training step."""
    if device.type != "cuda":
        with like_a_gpu(), FakeTensorMode(), MemoryAccount(CLASSES_REFINED) as account:
            take_steps(config, torch.device("cpu"), account.restart)
        return account.peak
    gc.collect()  # networks that are done with may be held in circles
    torch.cuda.empty_cache()
    with tf32(config.TRAIN.TF32):
        take_steps(config, device, torch.cuda.reset_peak_memory_stats)
    return torch.cuda.max_memory_allocated(device)


def peak_of_views(
    backbone: str, amp: str, device: torch.device, views: tuple[int, int, int, int] = VIEWS
) -> int:
    """The most bytes that tensors take at a time, weights included, while an image is inferred.

    Args:
        backbone: NET.BACKBONE, with the published segmentation network.
        amp: TEST.AMP, off or bf16.
        device: cuda, or the CPU, which adds up.
        views: B×3×H×W, the shape of the network's input.
    """
    if device.type != "cuda":
        with FakeTensorMode(), MemoryAccount() as account:
            infer(backbone, amp, torch.device("cpu"), views)
        return account.peak
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    infer(backbone, amp, device, views)
    return torch.cuda.max_memory_allocated(device)


@tf32(False)
@torch.inference_mode()
def infer(backbone: str, amp: str, device: torch.device, views: Sequence[int]) -> None:
    """Bring views through a network."""
    with device:
        network = get_model(load_config(CONFIGS / f"voc_{backbone}.yaml").NET).eval()
        if device.type == "cuda":
            model = accelerate(network, InferenceConfig(AMP=amp), device)
        else:  # tensors without values cannot be converted
            model = AutocastNetwork(network, amp, device)
        model(torch.zeros(*views))


def take_steps(config: Config, device: torch.device, restart: Callable[[], None]) -> None:
    """Take two steps, the second after `restart`: the first one makes the optimizer's state."""
    precision = Precision(config.TRAIN.AMP, device)
    with device:
        network = get_model(config.NET)
    if config.TRAIN.CHECKPOINT:
        network.checkpoint_activations()
    model = AutocastNetwork(network, config.TRAIN.AMP, device, eval_kind="off").train()
    if device.type == "cuda":
        lowers = lowers_convolutions(config.TRAIN.AMP, config.TRAIN.TF32, [device])
        model = place(model, device, low_precision=lowers)
    optimizer = build_optimizer(network, config.NET)
    criterion = Criterion(config)
    for _ in range(2):
        restart()
        raw_images, labels = random_batch(config, device)
        outputs = model(normalise(raw_images), raw_images, labels)
        losses = criterion(outputs, labels, config.TRAIN.PRETRAIN)
        precision.step(losses["loss"].mean(), optimizer)


def random_batch(config: Config, device: torch.device) -> tuple[Tensor, Tensor]:
    """Raw images and labels of a batch of the configured size; five objects an image."""
    size = config.DATASET.CROP_SIZE
    batch = config.TRAIN.BATCH_SIZE
    images = torch.rand(batch, 3, size, size, device=device)
    labels = torch.zeros(batch, PASCAL_VOC.num_classes - 1, device=device)
    labels[:, : CLASSES_REFINED - 1] = 1
    return images, labels


@contextmanager
def like_a_gpu() -> Iterator[None]:
    """Let the CPU's operations store what a GPU's would, where that differs."""

    def dropout(x: Tensor, p: float, training: bool, inplace: bool) -> Tensor:
        # stores one byte an element, a mask, where that of the CPU stores factors
        return torch.native_dropout(x, p, training)[0]

    with mock.patch("torch.nn.functional.dropout", dropout):
        yield


if __name__ == "__main__":
    run_command(main, prints_result=True)
