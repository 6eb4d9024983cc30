"""The sections `options` and `dataparallel`: gradients against those of the plain way."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor, nn

from benchmarks.gpu.check import Check
from benchmarks.gpu.steps import (
    apart,
    fix_batch_norm,
    flat,
    gradients_of,
    gradients_of_losses,
    in_precision,
    network_without_chance,
    training_step,
)
from benchmarks.training_cases import remove_chance, step_config
from core.distributed import parallelise
from core.precision import tf32
from core.training.engine import run_batch
from models.network import Network

LOSS_SCALE = 1024.0
"""What float16 would round to zero, this lifts."""


def options(check: Check) -> None:
    """Every combination of AMP and CHECKPOINT: gradients against those of float32."""
    backbone = _backbone(check)
    combinations = list(product(("off", "bf16", "fp16"), (False, True)))[1:]
    if check.tiny:
        combinations = [(amp, checkpoint) for amp, checkpoint in combinations if amp != "fp16"]
    for fixed in (True,) if check.tiny else (True, False):
        kind = "frozen" if fixed else "from scratch"
        words = ("NET.FREEZE_BN", str(fixed), "TRAIN.TF32", "False")
        with tf32(False):
            expected, _ = _gradients_and_loss(check, backbone, *words)
            for amp, checkpoint in combinations:
                what = f"{backbone} {kind}, AMP {amp}, CHECKPOINT {checkpoint}"
                more = ("TRAIN.AMP", amp, "TRAIN.CHECKPOINT", str(checkpoint))
                with check.guarded(what):
                    found, loss = _gradients_and_loss(check, backbone, *words, *more)
                    off = apart(flat({name: found[name] for name in expected}), flat(expected))
                    result = f"gradients {off:.1e} from float32's, loss after 3 steps {loss:.4f}"
                    check.row(what, result, off < (1e-3 if amp == "off" else 0.5))
                check.free()


def _gradients_and_loss(
    check: Check, backbone: str, *words: str
) -> tuple[dict[str, Tensor], float]:
    """The first gradients, and the loss after three steps with the scaler and the optimizer."""
    batch, size = (2, 33) if check.tiny else (8, 161)
    config = step_config(backbone, *words)
    step = training_step(config, check.device, batch, size)
    remove_chance(step.network)
    scale = LOSS_SCALE if config.TRAIN.AMP == "fp16" else 1.0
    (scale * step.losses()["loss"].mean()).backward()
    found = {name: gradient / scale for name, gradient in gradients_of(step.network).items()}
    step.optimizer.zero_grad(set_to_none=True)
    if not all(gradient.isfinite().all() for gradient in found.values()):
        raise RuntimeError("gradients are not finite")
    for _ in range(3):
        loss = step.take()["loss"].mean().item()
    return found, loss


def dataparallel(check: Check) -> None:
    """DataParallel's whole machinery, also where there is one GPU: all replicas share it.

    Where there is none, DataParallel passes batches on; a tiny check goes through it even so.
    """
    if not check.on_gpu and (torch.cuda.is_available() or not check.tiny):
        check.row("DataParallel", "wants a GPU")
        return
    ways = [("ae", "off", False), ("bsl", "off", False)]
    if not check.tiny:
        ways += [("ae", "bf16", False), ("ae", "fp16", True), ("ae", "off", True)]
    with tf32(False):
        for name, amp, checkpoint in ways:
            what = f"{_backbone(check)} {name}, AMP {amp}, CHECKPOINT {checkpoint}"
            with check.guarded(what):
                _spread_over_replicas(check, what, name, amp, checkpoint)
    if torch.cuda.device_count() > 1:
        with check.guarded("several GPUs"):
            _spread_over_gpus(check)


def _spread_over_replicas(check: Check, what: str, name: str, amp: str, checkpoint: bool) -> None:
    torch.manual_seed(0)
    network = network_without_chance(_backbone(check), name)
    fix_batch_norm(network)
    if checkpoint:
        network.checkpoint_activations()
    model = in_precision(network, amp, check.device).to(check.device).train()
    for replicas, images in ((2, 5), (3, 4)):
        expected = _gradients(check, model, network, images)
        parallel = nn.DataParallel(model, device_ids=[0] * replicas)
        off = apart(_gradients(check, parallel, network, images), expected)
        check.row(
            f"{what}: {images} images over {replicas} replicas",
            f"gradients {off:.1e} from those of one",
            off < (1e-4 if amp == "off" else 0.1),
        )
    parallel = nn.DataParallel(model, device_ids=[0, 0]).eval()
    with torch.inference_mode():
        found, _ = run_batch(parallel, _batch(check, 5), check.device, with_masks=True)
        expected, _ = run_batch(model, _batch(check, 5), check.device, with_masks=True)
    differences = [
        (found[key].float() - expected[key].float()).abs().max()
        for key in expected
        if key != "pseudo_labels"
    ]
    off = float(torch.stack(differences).max())
    check.row(f"{what}: validation in inference mode", f"off by {off:.1e}", off < 1e-3)


def _spread_over_gpus(check: Check) -> None:
    network = network_without_chance(_backbone(check))
    model = parallelise(in_precision(network, "off", check.device), check.device).train()
    norm = float(_gradients(check, model, network, images=5).norm())
    count = torch.cuda.device_count()
    check.row(f"parallelise over {count} GPUs", f"gradient norm {norm:.4f}", norm > 0)


def _backbone(check: Check) -> str:
    return "vgg16" if check.tiny else "resnet50"


def _gradients(check: Check, model: nn.Module, network: Network, images: int) -> Tensor:
    outputs, labels = run_batch(model, _batch(check, images), check.device)
    return gradients_of_losses(network, outputs, labels)


def _batch(check: Check, images: int) -> tuple[Tensor, Tensor]:
    """Raw images of noise, and labels of one or two objects."""
    labels = torch.zeros(images, 20)
    for index, row in enumerate(labels):
        row[[(3 * index) % 20, (7 * index + 1) % 20][: 1 + index % 2]] = 1
    random = torch.Generator().manual_seed(2)
    size = 33 if check.tiny else 97
    return torch.rand(images, 3, size, size, generator=random), labels
