"""Work spread over GPUs and processes: who is in the group, what it shares, how it ends."""

from __future__ import annotations

import atexit
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from core.devices import (
    describe_devices,
    gpus_used,
    keep_memory,
    out_of_memory,
    require_working,
    select_device,
)
from models.layers import FixedStatsBatchNorm2d
from utils.errors import InterruptionError, UserError
from utils.progress import track
from utils.signals import StoppedError, StopRequest

T = TypeVar("T")

# for work of one process that the others wait for, such as writing snapshots
PATIENCE = timedelta(minutes=30)
# longer than torchrun takes to end the other processes of a machine when one has failed
SECONDS_OF_SILENCE = 10.0
# environment variable: the file for an interrupted process's last line, which core.torchrun prints
LAST_WORDS = "CORE_TORCHRUN_LAST_WORDS"


@dataclass(frozen=True)
class Group:
    """The processes that work together, and which of them this one is.

    Attributes:
        rank: this process, from 0; that one writes files.
        size: how many there are.
        on_host: what they tell each other through, from CPU to CPU; None for PyTorch's own group,
            where that is one of the CPU.
    """

    rank: int = 0
    size: int = 1
    on_host: dist.ProcessGroup | None = None

    @property
    def is_rank_zero(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def any(self, flag: bool) -> bool:
        """Whether `flag` is true in any process; all must call it, and stay in step by it."""
        if self.size == 1:
            return flag
        flags = torch.tensor([flag], dtype=torch.int32)
        dist.all_reduce(flags, dist.ReduceOp.MAX, self.on_host)
        return bool(flags.item())

    def gather(self, value: T) -> list[T]:
        """The `value` of every process, in the order of their ranks; all must call it."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, self.on_host)
        return values

    def barrier(self) -> None:
        """Wait until every process has called it."""
        self.gather(None)


SINGLE = Group()


@contextmanager
def process_group() -> Iterator[None]:
    """Leave the group that the body may join; if it fails, let the process at fault report it.

    An error caused by the end of another process becomes a `UserError`, unless torchrun ends this
    process first, as it does when both run on the same machine.
    """
    try:
        yield
    except InterruptionError as error:
        words = os.environ.get(LAST_WORDS)
        if not words or not Path(words).parent.is_dir():
            raise
        # when a process fails, torchrun ends the others with the signal of an interruption; only
        # core.torchrun knows which of the two it was
        Path(words).write_text(str(error), encoding="utf-8", errors="surrogateescape")
        raise SystemExit(error.status) from error
    except Exception as error:
        # gloo raises plain RuntimeErrors
        words = (
            "Connection closed by peer",
            "Connection reset by peer",
            "Broken pipe",
            "connectFullMesh failed",  # as where a machine's own name leads to 127.0.1.1
        )
        of_gloo = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
        if not isinstance(error, dist.DistError) and not of_gloo:
            raise
        time.sleep(SECONDS_OF_SILENCE)
        raise UserError(
            "another process is gone or was never reached; look for its error above or in its "
            "machine's log, and check MASTER_ADDR, MASTER_PORT, NODE_RANK and GLOO_SOCKET_IFNAME"
        ) from error
    leave_group()


@contextmanager
def rank_zero_speaks_first(group: Group) -> Iterator[None]:
    """Delay a `UserError` of the body in every process but rank 0.

    Rank 0 most likely fails with the same error, and torchrun then ends the others.
    """
    try:
        yield
    except UserError:
        if not group.is_rank_zero:
            time.sleep(SECONDS_OF_SILENCE)
        raise


@contextmanager
def interruptible(
    stop: StopRequest, group: Group, how_to_go_on: Callable[[], str]
) -> Iterator[None]:
    """Let a body that Ctrl-C or SIGTERM has stopped end with one line.

    Args:
        stop: what the body listens with; it raises `StoppedError` where it can stop.
        group: the processes that work together; one may have to stop because of another's signal.
        how_to_go_on: gives the words that follow "interrupted; ".

    Raises:
        InterruptionError: in rank 0; the others end without a word.
    """
    try:
        yield
    except (StoppedError, KeyboardInterrupt, UserError, RuntimeError) as error:
        # a signal to all processes may have ended workers or others of the group first
        if stop.signal is None and not isinstance(error, StoppedError):
            raise
        status = 128 + (stop.signal or signal.SIGTERM)
        if not group.is_rank_zero:
            raise SystemExit(status) from error
        raise InterruptionError(f"interrupted; {how_to_go_on()}", status) from error


def join_group(name: str, spread: bool = False) -> tuple[Group, torch.device]:
    """The group that torchrun started this process in, or a group of its own, and its device.

    Every process of a machine takes a GPU for itself, or all share the CPU. Rank 0 prints which
    device it is, and every process tries its device before anything else is done. An error common
    to all processes is reported by rank 0 alone (see `rank_zero_speaks_first`).

    Args:
        name: as for `select_device`.
        spread: whether a process alone uses all visible GPUs.

    Raises:
        UserError: there is no such device, it does not work, or there are fewer GPUs than
            processes.
    """
    # WORLD_SIZE alone may be a cluster's own
    if dist.is_torchelastic_launched() and os.environ["WORLD_SIZE"] != "1":
        with rank_zero_speaks_first(Group(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))):
            return _join_started(name)
    device = select_device(name)
    keep_memory(device)
    devices = gpus_used(device, spread)
    print(f"device: {describe_devices(devices)}", flush=True)
    require_working(devices)
    return Group(), device


def _join_started(name: str) -> tuple[Group, torch.device]:
    device = select_device(name)
    keep_memory(device)
    local_rank = int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        local_size = int(os.environ["LOCAL_WORLD_SIZE"])
        if local_size > torch.cuda.device_count():
            raise UserError(
                f"NPROC={local_size} processes want a GPU each, but PyTorch finds "
                f"{torch.cuda.device_count()} here; lower NPROC, or give --device cpu"
            )
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise UserError(f"--device {device.type} takes one process; leave NPROC out")
    if os.environ["RANK"] == "0":
        size = os.environ["WORLD_SIZE"]
        print(f"device: {describe_devices([device])}, for each of {size} processes", flush=True)
    require_working([device])
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    # through a GPU, a flag would wait for all that is queued there
    on_host = dist.new_group(timeout=PATIENCE, backend="gloo") if backend == "nccl" else None
    # one in ten processes that exit inside a gloo group are aborted, with a meaningless status. At
    # exit: by then this process has printed its error, and the others notice its end no sooner.
    # Leaving an NCCL group could mean waiting for processes that are gone.
    atexit.register(leave_group, on_host)
    return Group(dist.get_rank(), dist.get_world_size(), on_host), device


@contextmanager
def rank_zero_first(group: Group) -> Iterator[None]:
    """Let rank 0 run the body before the others do; if it fails, they end silently.

    Errors that all would find are thus reported once. The others exit with status 0, so that the
    job's status is that of rank 0.
    """
    if group.is_rank_zero:
        fine = False
        try:
            yield
            fine = True
        finally:
            group.gather(fine)
        return
    if not group.gather(True)[0]:
        leave_group()
        sys.exit(0)
    yield


def leave_group(group: dist.ProcessGroup | None = None) -> None:
    """End this process's part in `group`, or in all groups, if it has any."""
    if dist.is_initialized():
        dist.destroy_process_group(group)


def parallelise(
    model: nn.Module, device: torch.device, group: Group = SINGLE, low_precision: bool = False
) -> nn.Module:
    """Put `model` on `device`, and spread training over the group or the visible GPUs.

    In a group of several processes, each works on its own part of a batch, and gradients are
    averaged. A process alone splits every batch over all visible GPUs.

    Args:
        low_precision: convolutions are to be computed in 16 bits or TF32.

    Raises:
        UserError: the GPU's memory does not hold it.
    """
    model = place(model, device, low_precision)
    if group.size > 1:
        # inputs stay where they are: with a device given, it would move the labels to that;
        # gradients need not be copied, and exist once
        return DistributedDataParallel(model, gradient_as_bucket_view=True)
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        return nn.DataParallel(model)
    return model


def place(model: nn.Module, device: torch.device, low_precision: bool = False) -> nn.Module:
    """Put `model` on `device`; a `UserError` if the GPU's memory does not hold it."""
    # the CPU's convolutions, and the matrix units of a GPU, are faster so
    channels_last = device.type == "cpu" or (device.type == "cuda" and low_precision)
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    try:
        return model.to(device, memory_format=memory_format)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            "the GPU has no memory left for the network; end what else runs there, choose another "
            "GPU with CUDA_VISIBLE_DEVICES, or give --device cpu"
        ) from error


def sync_batch_norm(model: nn.Module) -> None:
    """Let each BatchNorm that trains take its statistics over the batches of all processes.

    Those of fixed statistics stay as they are.
    """
    for name, child in model.named_children():
        if type(child) is nn.BatchNorm2d:
            setattr(model, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))
        elif isinstance(child, _BatchNorm) and not isinstance(child, FixedStatsBatchNorm2d):
            # only timm's backbones have others; PyTorch would drop their activations
            from timm.layers import convert_sync_batchnorm

            setattr(model, name, convert_sync_batchnorm(child))
        else:
            sync_batch_norm(child)


def broadcast_buffers(model: nn.Module, group: Group) -> None:
    """Give every process the running statistics of rank 0, which are those saved.

    DistributedDataParallel does so before a forward pass of training only.
    """
    if group.size > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def track_group(
    items: Iterable[T],
    total: int,
    group: Group,
    weigh: Callable[[T], int] = lambda item: 1,
    **shown: Any,
) -> Iterator[T]:
    """Yield the items of this process; rank 0 shows how far the group is, in images.

    Args:
        items: what this process works on; the other processes have about as much.
        total: the images of the whole group.
        weigh: the images in an item.
        shown: `description`, `every` and `status`, as for `utils.progress.track`.
    """
    if not group.is_rank_zero:
        return iter(items)
    done = 0

    def weigh_for_group(item: T) -> int:
        # the others are about as far; their parts may be an image shorter
        nonlocal done
        step = min(weigh(item) * group.size, total - done)
        done += step
        return step

    return track(items, total, "image", weigh=weigh_for_group, **shown)


def interleave(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """Put together what the processes hold of rows that were dealt to them in turn.

    Args:
        parts: part r holds the rows r, r + len(parts), r + 2·len(parts), ...
    """
    whole = parts[0].new_empty(sum(map(len, parts)), *parts[0].shape[1:])
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
