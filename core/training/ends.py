"""How training ends when something outside of it goes wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from utils.errors import UserError, os_errors_end_in


@contextmanager
def readable_ends() -> Iterator[None]:
    """Turn what memory and disks do to the body into `UserError`s."""
    remedy = "make room there, or make it writable, and go on with --resume last"
    try:
        with os_errors_end_in(remedy):
            yield
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            "the GPU's memory does not hold this network and batch; set TRAIN.AMP bf16 or "
            "TRAIN.CHECKPOINT True, lower TRAIN.BATCH_SIZE or DATASET.CROP_SIZE, or use more "
            f"GPUs ({str(error).splitlines()[0]})"
        ) from error
