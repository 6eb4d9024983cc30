"""Where the work runs: the CPU, one GPU, or all visible GPUs."""

from __future__ import annotations

import os

import torch
from torch import nn

from utils.errors import UserError


def select_device(name: str = "auto") -> torch.device:
    """The device called `name`: auto, cuda, mps or cpu; auto takes the first of these there is.

    Raises:
        UserError: the name is unknown, or there is no such device here.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, here in available.items() if here)
    if name not in available:
        raise UserError(f"--device {name}: unknown; choose auto, {', '.join(available)}")
    if not available[name]:
        here = [kind for kind, there in available.items() if there]
        raise UserError(f"--device {name}: PyTorch finds none here; available: {', '.join(here)}")
    return torch.device(name)


def make_deterministic() -> None:
    """Let every operation give the same bits in every run; to be called before a GPU is used.

    What PyTorch can only do at random still runs, with a warning that names it.
    """
    # cuBLAS is deterministic only with workspaces of a fixed size
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


def parallelise(model: nn.Module, device: torch.device) -> nn.Module:
    """Put `model` on `device`; with several visible GPUs, split every batch over all of them.

    Raises:
        UserError: the GPU's memory does not hold it.
    """
    # PyTorch's CPU convolutions take about half the time when channels lie innermost
    memory_format = torch.channels_last if device.type == "cpu" else torch.contiguous_format
    try:
        model = model.to(device, memory_format=memory_format)
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            "the GPU has no memory left for the network; end what else runs there, choose another "
            "GPU with CUDA_VISIBLE_DEVICES, or give --device cpu"
        ) from error
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        return nn.DataParallel(model)
    return model
