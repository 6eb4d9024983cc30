"""Whether a run can be carried out as configured, as far as is known before it starts."""

from __future__ import annotations

from pathlib import Path

import torch

from core.config import Config
from core.distributed import Group
from core.precision import require_speed, settled_amp
from core.training.resume import LastState, Start
from models.backbones import TIMM
from utils.errors import UserError


def check_config(config: Config, start: Start, device: torch.device, group: Group) -> None:
    """Raise `UserError` if the configuration, the start and the machine do not fit together."""
    require_speed("TRAIN.AMP", config.TRAIN.AMP, device)
    require_speed("TEST.AMP", settled_amp(config.TEST.AMP, [device]), device)  # validation's
    last = config.TRAIN.NUM_EPOCHS
    # of a last state, the validation that ends the run may be all that is left
    if start and start.epoch > last + isinstance(start, LastState):
        raise UserError(
            f"--resume: {start.path} was taken after the last epoch ({last}); raise "
            "TRAIN.NUM_EPOCHS to go on"
        )
    if last + 1 < config.TRAIN.PRETRAIN:
        raise UserError(
            f"TRAIN.NUM_EPOCHS {last} ends before TRAIN.PRETRAIN {config.TRAIN.PRETRAIN}, from "
            "which on models are scored: no snapshot would be saved; raise the one or lower the "
            "other"
        )
    on_gpus, processes = device.type == "cuda", group.size
    if config.TRAIN.SYNC_BN and not (on_gpus and processes > 1):
        raise UserError(
            "TRAIN.SYNC_BN wants several processes with a GPU each: start them with NPROC=2 (or "
            "more) before the launch script, or leave it out"
        )
    devices = torch.cuda.device_count() if on_gpus and processes == 1 else processes
    if config.TRAIN.COMPILE and config.TRAIN.CHECKPOINT:
        raise UserError(
            "TRAIN.COMPILE and TRAIN.CHECKPOINT do not go together: compiled layers choose "
            "themselves what to recompute; leave one of them out"
        )
    if config.TRAIN.COMPILE and devices > processes:
        raise UserError(
            f"TRAIN.COMPILE wants a process for each GPU: start them with NPROC={devices} before "
            "the launch script, or leave it out"
        )
    # before, DistributedDataParallel could not split a compiled graph around functions of our own
    splits = config.TRAIN.COMPILE and processes > 1 and config.NET.FREEZE_BN
    if splits and torch.__version__ < "2.6":
        raise UserError(
            f"TRAIN.COMPILE with NPROC={processes} and frozen BatchNorm needs PyTorch 2.6, and "
            f"this is {torch.__version__}; upgrade it, or leave the key out"
        )
    per_device = -(-config.TRAIN.BATCH_SIZE // devices)
    if not config.NET.FREEZE_BN and config.TRAIN.BATCH_SIZE % per_device == 1 % per_device:
        raise UserError(
            f"TRAIN.BATCH_SIZE {config.TRAIN.BATCH_SIZE} leaves a device with one image, and "
            "BatchNorm needs more (NET.FREEZE_BN False); change the batch size"
        )


def require_stride_of_run(folder: Path, config: Config, kept: Config | None) -> None:
    """Raise `UserError` if a run is to go on with a backbone's map of another stride.

    Its weights have the same shapes, so that nothing else would tell.

    Args:
        folder: of the run's snapshots.
        config: to go on with.
        kept: the run's own (see `kept_config`).
    """
    if kept is None or not config.NET.BACKBONE.startswith(TIMM):
        return  # the published backbones have one stride each
    given, own = config.NET.OUTPUT_STRIDE, kept.NET.OUTPUT_STRIDE
    if given != own:
        raise UserError(
            f"--resume: NET.OUTPUT_STRIDE {given}, but the run in {folder} has {own}; go on with "
            "that, or start another run (--run)"
        )
