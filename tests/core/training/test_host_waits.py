"""A training step never makes the host wait for a GPU; there is none here, so tensors are fake."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from core.config import Config, load_config
from core.precision import Precision
from core.training import engine
from core.training.engine import Trainer, read_late, run_batch
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer
from models import get_model

ROOT = Path(__file__).resolve().parents[3]
ATEN = torch.ops.aten
COPIES = (ATEN._to_copy.default, ATEN.copy_.default)
CHECKPOINT = ("TRAIN.CHECKPOINT", "True")
SIZES = (ATEN.nonzero.default, ATEN.masked_select.default, ATEN.unique_consecutive.default)


class HostWaits(TorchDispatchMode):
    """Notes where the host would wait for a device, or for the copy of a constant to it.

    Fake tensors have no values: what is asked of them on the CPU is answered here.
    """

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.to_host = 0  # copies that nobody waits for

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if func is ATEN._local_scalar_dense.default:
            if args[0].device.type != "cpu":
                self._note(func)
            kind = args[0].dtype
            return kind == torch.bool or (0.5 if kind.is_floating_point else 2)
        if func is ATEN._fused_sgd_.default:
            return None  # a launch, which fake tensors do not know
        if func in SIZES:
            self._note(func)
        result = func(*args, **(kwargs or {}))
        if func in COPIES:
            # a copy into a tensor of one value is a launch with that value as an argument
            source, target = args[-1] if func is ATEN.copy_.default else args[0], result
            non_blocking = (kwargs or {}).get("non_blocking") or args[2:3] == (True,)
            crosses = (source.device.type == "cpu") != (target.device.type == "cpu")
            if crosses and non_blocking:
                self.to_host += target.device.type == "cpu"
            elif crosses:
                self._note(func)
        return result

    def _note(self, func: Any) -> None:
        ours = [
            f"{Path(frame.filename).relative_to(ROOT)}:{frame.lineno}"
            for frame in traceback.extract_stack()
            if ROOT in Path(frame.filename).parents and ".venv" not in frame.filename
        ]
        places = [place for place in ours if not place.startswith("tests")]
        self.found.append(f"{func} at {(places or ours)[-1]}")


class FakeEvent:
    """`torch.cuda.Event` where nothing is computed."""

    def record(self) -> None:
        self.recorded = True

    def synchronize(self) -> None:
        assert self.recorded


class FakeBatches:
    """The same batch of images with one and two objects, at every step."""

    images_of_all = 4

    def __len__(self) -> int:
        return 2

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        yield from (fake_batch() for _ in range(len(self)))


def fake_batch() -> tuple[Tensor, Tensor]:
    return torch.rand(2, 3, 33, 33), torch.zeros(2, 20)


def give_gradients(loss: Tensor, network: torch.nn.Module) -> None:
    """What a backward pass leaves; PyTorch's threads for it want a GPU that is there."""
    assert loss.requires_grad
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)


@contextmanager
def watched() -> Iterator[HostWaits]:
    with FakeTensorMode(allow_non_fake_inputs=True), HostWaits() as waits:
        yield waits


def config_of(model: str, backbone: str = "resnet50", *options: str) -> Config:
    given = ["NET.MODEL", model, "NET.BACKBONE", backbone, "TRAIN.PRETRAIN", "0", *options]
    # what a GPU can do is not asked of one that is not there
    plain = ["TRAIN.AMP", "off", "TRAIN.TF32", "False", "TEST.AMP", "off"]
    return load_config(None, [*plain, *given])


@pytest.mark.slow
@pytest.mark.parametrize("options", [("ae",), ("ae", "vgg16", *CHECKPOINT), ("bsl",)])
def test_an_epochs_steps_never_wait(options, monkeypatch):
    config, device = config_of(*options), torch.device("cuda", 0)
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(engine, "parallelise", lambda model, *_, **__: model)
    with watched() as waits:
        with device:
            network = get_model(config.NET)
        trainer = Trainer(network, config, device)
        monkeypatch.setattr(Tensor, "backward", lambda loss: give_gradients(loss, network))
        before = len(waits.found)
        means = trainer.train_one_epoch(FakeBatches(), 0)
    assert waits.found[before:] == []
    assert waits.to_host == len(means) * len(FakeBatches())  # a copy of each loss and step
    assert means.keys() >= {"loss", "loss_cls", "loss_fg"}


@pytest.mark.slow
@pytest.mark.parametrize("model", ["ae", "bsl"])
def test_backward_passes_never_wait(model):
    """With shapes alone in place of a GPU, whose backward pass PyTorch takes here."""
    config, device = config_of(model), torch.device("meta")
    with watched() as waits:
        with device:
            network = get_model(config.NET)
        optimizer = build_optimizer(network, config.NET)
        before = len(waits.found)
        outputs, labels = run_batch(network.train(), fake_batch(), device, with_masks=True)
        loss = Criterion(config)(outputs, labels, 0)["loss"].mean()
        Precision("off", device).step(loss, optimizer)
    assert waits.found[before:] == []


def test_tensors_of_a_gpu_are_read_when_the_next_are_under_way(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    asked = []

    def items() -> Iterator[dict[str, Tensor]]:
        for number in range(3):
            asked.append(number)
            yield {"loss": torch.tensor([float(number)], requires_grad=True)}

    read = [(list(asked), item["loss"].item()) for item in read_late(items(), torch.device("cuda"))]
    assert read == [([0, 1], 0), ([0, 1, 2], 1), ([0, 1, 2], 2)]
    asked.clear()
    read = [(list(asked), item["loss"].item()) for item in read_late(items(), torch.device("cpu"))]
    assert read == [([0], 0), ([0, 1], 1), ([0, 1, 2], 2)]


def test_what_makes_the_host_wait_is_noticed():
    device = torch.device("cuda", 0)
    with watched() as waits:
        values = torch.rand(3, device=device)
        mask = torch.ones(3, device=device)
        assert waits.found == []
        values[1:] = 0.5
        assert waits.found == []
        for wait in (
            lambda: torch.tensor([1.0, 2.0], device=device),
            lambda: values.new_tensor([1.0, 2.0]),
            lambda: values.cpu(),
            lambda: values.copy_(torch.rand(3)),
            lambda: float(values.sum()),
            lambda: bool(mask.all()),
            lambda: values.sum().item(),
        ):
            before = len(waits.found)
            wait()
            assert len(waits.found) == before + 1
