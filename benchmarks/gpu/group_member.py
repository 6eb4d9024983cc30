"""A process of a group: its gradients of a part of a batch against those of the whole batch.

Torchrun starts it, with the backend and the kind of network: plain, sync_bn or checkpoint.
"""

from __future__ import annotations

import argparse

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.gpu.steps import (
    apart,
    fix_batch_norm,
    gradients_of_losses,
    in_precision,
    network_without_chance,
)
from core.distributed import (
    Group,
    broadcast_buffers,
    interleave,
    leave_group,
    parallelise,
    place,
    sync_batch_norm,
)
from core.training.engine import run_batch
from models.network import Network

RESULT = "RESULT "
"""Before the number that rank 0 prints: how far gradients are apart."""


def main() -> None:
    args = _parse_arguments()
    device = torch.device("cuda", 0) if args.device == "cuda" else torch.device("cpu")
    if device.type == "cuda":  # all processes share it
        torch.cuda.set_device(device)
        torch.backends.cudnn.allow_tf32 = False
    dist.init_process_group(args.backend)
    group = Group(dist.get_rank(), dist.get_world_size(), dist.new_group(backend="gloo"))
    found, expected = _gradients_of_part_and_whole(args, group, device)
    everyone = group.gather(float(found.double().sum()))
    assert len(set(everyone)) == 1, everyone
    if group.is_rank_zero:
        print(f"{RESULT}{apart(found, expected):.1e}", flush=True)
    leave_group()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("backend", choices=("nccl", "gloo"))
    parser.add_argument("kind", choices=("plain", "sync_bn", "checkpoint"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true")
    return parser.parse_args()


def _gradients_of_part_and_whole(
    args: argparse.Namespace, group: Group, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Gradients of the group's model, averaged over parts, and of one process with the batch."""
    torch.manual_seed(0)
    network, reference = (_network(args) for _ in range(2))
    reference.load_state_dict(network.state_dict())
    whole = in_precision(reference, "off", device).to(device)
    if args.kind == "sync_bn":
        sync_batch_norm(network)
    if args.kind == "checkpoint":
        network.checkpoint_activations()
    model = _spread(in_precision(network, "off", device), device, group)

    raw, labels = _batch(33 if args.tiny else 97)
    own = slice(group.rank, None, group.size)
    found = _gradients(model, network, (raw[own], labels[own]), device)
    expected = _gradients(whole, reference, (raw, labels), device)
    _try_the_rest(network, group, labels, own)
    return found, expected


def _network(args: argparse.Namespace) -> Network:
    network = network_without_chance("vgg16" if args.tiny else "resnet50")
    if args.kind != "sync_bn":
        fix_batch_norm(network)
    return network


def _spread(model: nn.Module, device: torch.device, group: Group) -> nn.Module:
    if group.size > 1:
        return parallelise(model, device, group)
    # a group of one, for NCCL's sake, is one that parallelise() does not make
    return DistributedDataParallel(place(model, device), gradient_as_bucket_view=True)


def _gradients(
    model: nn.Module, network: Network, batch: tuple[Tensor, Tensor], device: torch.device
) -> Tensor:
    outputs, labels = run_batch(model.train(), batch, device)
    return gradients_of_losses(network, outputs, labels)


def _batch(size: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(2)
    raw, labels = torch.rand(4, 3, size, size, generator=random), torch.zeros(4, 20)
    labels[range(4), [3, 7, 7, 14]] = 1
    return raw, labels


def _try_the_rest(network: Network, group: Group, labels: Tensor, own: slice) -> None:
    """What else a group does: buffers, a flag of one process, rows put together again."""
    broadcast_buffers(network, group)
    assert group.any(group.rank == group.size - 1)
    parts = group.gather({"labels": labels[own]})
    assert torch.equal(interleave([part["labels"] for part in parts]), labels)


if __name__ == "__main__":
    main()
