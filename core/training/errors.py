"""Errors during training, and what they tell the user to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from core.devices import out_of_memory
from utils.errors import UserError


class NotFiniteError(UserError):
    """Losses or weights are not finite; `explain_errors` adds how to resume."""


@contextmanager
def explain_errors(how_to_resume: Callable[[], str]) -> Iterator[None]:
    """Turn errors of disks, GPU memory and divergence into `UserError`s with a remedy.

    Args:
        how_to_resume: how a run that has diverged goes on (see `core.training.resume`).
    """
    # auto, which starts again where there is no last state yet
    remedy = "make room there, or make it writable, and go on with --resume auto"
    try:
        yield
    except OSError as error:
        # sockets and pipes have no names; disks are not to blame for them
        if error.filename is None:
            raise
        raise UserError(f"{error}; {remedy}") from error
    except NotFiniteError as error:
        raise UserError(f"{error}, or lower NET.LR and {how_to_resume()}") from error
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            "the GPU's memory does not hold this network and batch; set TRAIN.AMP bf16 or "
            "TRAIN.CHECKPOINT True, lower TRAIN.BATCH_SIZE or DATASET.CROP_SIZE, or use more "
            f"GPUs ({str(error).splitlines()[0]})"
        ) from error
