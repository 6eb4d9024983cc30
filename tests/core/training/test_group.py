"""Training by several processes: gradients, validation, failures."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from child_processes import children_of
from fake_training import FakeRun
from golden_recipe import golden_config, quiet_network
from thin_train import SPEC, THIN
from torch import nn
from training_command import (
    REPOSITORY,
    error_of,
    scalars,
    snapshot_folder,
    start,
    state_of,
    train,
    train_together,
)

from core.config import load_config
from core.distributed import (
    Group,
    broadcast_buffers,
    join_group,
    leave_group,
    parallelise,
    sync_batch_norm,
)
from core.training.losses import Criterion
from core.training.optimizer import build_optimizer
from datasets.transforms import normalise
from models import get_model
from models.layers import FixedStatsBatchNorm2d
from utils.errors import UserError

TWO = ("-m", "core.torchrun", "--standalone", "--nproc-per-node", "2")
# batch normalisation, whose statistics each process takes for itself
WITH_BN = {
    "NET__MODEL": "ae",
    "NET__PAMR_ITER": "1",
    "TRAIN__NUM_EPOCHS": "1",
    "TRAIN__VAL_INTERVAL": "1",
}


def gradients(model: nn.Module, network: nn.Module, raw, labels) -> dict[str, torch.Tensor]:
    """The gradients of the mean loss, and of something that depends on every mask."""
    criterion = Criterion(load_config(None, []))
    network.zero_grad()
    outputs = model(normalise(raw), raw, labels)
    loss = criterion(outputs, labels, 0)["loss"].mean()
    (loss + outputs["mask_logits"].square().mean()).backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def four_images() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    labels = torch.zeros(4, 20)
    labels[range(4), [3, 7, 7, 14]] = 1
    raw = torch.rand(4, 3, 40, 40, generator=generator, dtype=torch.float64)
    return raw, labels.double()


# what each of the processes does; it runs this file
def share_of_the_work(group: Group, device: torch.device, model_name: str, out: Path) -> None:
    torch.manual_seed(1)
    network = quiet_network("vgg16", model_name).double()
    model = parallelise(network.train(), device, group)
    raw, labels = four_images()
    half = slice(2 * group.rank, 2 * group.rank + 2)
    found = gradients(model, network, raw[half], labels[half])
    everyone = group.gather({name: float(grad.sum()) for name, grad in found.items()})
    assert everyone[0] == everyone[1]

    def statistics() -> list[list[float]]:
        return group.gather([float(buffer.double().sum()) for buffer in network.buffers()])

    # each has the statistics of its own images, until they get the main one's
    assert (statistics()[0] == statistics()[1]) == (model_name == "bsl")
    broadcast_buffers(network, group)
    assert statistics()[0] == statistics()[1]
    for each in (group, replace(group, on_host=dist.new_group(backend="gloo"))):
        assert [each.any(flag == group.rank) for flag in (0, 1, 2)] == [True, True, False]
        assert each.gather(group.rank) == [0, 1]
    if group.is_rank_zero:
        torch.save(found, out / f"{model_name}.pth")


@pytest.mark.slow
def test_gradients_are_the_mean_of_the_halves(tmp_path, thin_vgg16):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")]),
    }
    subprocess.run(
        [sys.executable, *TWO, __file__, tmp_path],
        cwd=REPOSITORY,
        env=environment,
        check=True,
    )
    raw, labels = four_images()
    for model in ("ae", "bsl"):
        found = torch.load(tmp_path / f"{model}.pth", weights_only=True)
        torch.manual_seed(1)
        network = quiet_network("vgg16", model).double().train()
        halves = [gradients(network, network, raw[h], labels[h]) for h in (slice(2), slice(2, 4))]
        assert found.keys() == halves[0].keys()
        for name, gradient in found.items():
            mean = (halves[0][name] + halves[1][name]) / 2
            torch.testing.assert_close(gradient, mean, rtol=1e-7, atol=1e-12)


@pytest.fixture(scope="module")
def alone(mini_voc, tmp_path_factory):
    """The folder of a run by one process."""
    folder = tmp_path_factory.mktemp("alone")
    train(mini_voc, folder, **WITH_BN)
    return folder


@pytest.fixture(scope="module")
def together(mini_voc, tmp_path_factory):
    """The folder of a run by two processes, and what it said."""
    folder = tmp_path_factory.mktemp("together")
    return folder, train_together(mini_voc, folder, launcher=TWO, **WITH_BN)


def assert_same_validation(folder: Path, alone: Path) -> None:
    """Before the first epoch, when weights are still the same."""
    for writer in ("train", "val"):
        expected, found = scalars(alone, "v01", writer), scalars(folder, "v01", writer)
        assert found.keys() == expected.keys()
        for tag, values in expected.items():
            assert [step for step, _ in found[tag]] == [step for step, _ in values], tag
        # over batches of other sizes, whose rounding may turn the order of two scores that are all
        # but equal, and with it one class's average precision
        first = {tag: found[tag][0] == pytest.approx(expected[tag][0], rel=1e-5) for tag in found}
        assert all(same for tag, same in first.items() if tag.startswith("all/loss")), first
        precisions = [same for tag, same in first.items() if tag.endswith("/AP")]
        assert len(precisions) > 5 and precisions.count(False) <= 1, first


@pytest.mark.slow
def test_two_processes_validate_as_one_does(alone, together):
    folder, result = together
    assert_same_validation(folder, alone)
    assert result.stdout.count("epoch 0, trained") == 1
    events = list((folder / "logs/pascal_voc/tests/v01/val").iterdir())
    assert len(events) == 1
    assert (snapshot_folder(folder, "v01") / "last.pth").exists()


@pytest.mark.slow
def test_two_machines_meet(mini_voc, alone, tmp_path, free_port):
    def machine(rank: int) -> subprocess.Popen[str]:
        launcher = ("-m", "core.torchrun", "--nproc-per-node", "1", "--nnodes", "2")
        address = ("--node-rank", str(rank), "--master-addr", "127.0.0.1", "--master-port")
        return start(mini_voc, tmp_path, launcher=(*launcher, *address, free_port), **WITH_BN)

    with machine(0) as first, machine(1) as second:
        output = [process.communicate(timeout=300) for process in (first, second)]
    assert first.returncode == second.returncode == 0, output
    assert_same_validation(tmp_path, alone)
    assert "trained" in output[0][0] and "trained" not in output[1][0]


@pytest.fixture
def free_port() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


@pytest.mark.slow
def test_a_process_that_dies_ends_the_job(mini_voc, tmp_path):
    with start(mini_voc, tmp_path, launcher=TWO, TRAIN__NUM_EPOCHS="50") as job:
        for line in job.stdout:
            if "epoch 0, trained" in line:
                break
        os.kill(children_of(job.pid, "train.py")[-1], signal.SIGKILL)
        _, err = job.communicate(timeout=300)
    assert job.returncode == 128 + signal.SIGKILL
    assert "was killed by signal 9" in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_mistake_is_said_once(mini_voc, tmp_path):
    result = train_together(mini_voc, tmp_path, launcher=TWO, status=2, TRAIN__BATCH_SIZE="15")
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "TRAIN.BATCH_SIZE 15" in errors[0] and "2 of them" in errors[0]


@pytest.mark.slow
def test_one_batch_norm_over_all_wants_gpus(mini_voc, tmp_path):
    message = error_of(train(mini_voc, tmp_path, status=2, TRAIN__SYNC_BN="True"))
    assert "TRAIN.SYNC_BN" in message and "NPROC" in message


@pytest.mark.slow
def test_only_batch_norm_that_trains_is_synchronised():
    network = get_model(golden_config("resnet50", "ae"))
    names = list(network.state_dict())
    before = {id(p) for group in build_optimizer(network, golden_config("resnet50", "ae"))
              .param_groups for p in group["params"]}  # fmt: skip
    sync_batch_norm(network)
    assert list(network.state_dict()) == names
    assert isinstance(network.fc8_skip[1], nn.SyncBatchNorm)
    assert any(isinstance(module, FixedStatsBatchNorm2d) for module in network.modules())
    assert not any(type(module) is nn.BatchNorm2d for module in network.modules())
    optimizer = build_optimizer(network, golden_config("resnet50", "ae"))
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == before


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.distributed, "is_torchelastic_launched", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in (
        *(("RANK", "0"), ("LOCAL_RANK", "0")),
        *(("WORLD_SIZE", "2"), ("LOCAL_WORLD_SIZE", "2")),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=r"NPROC=2 processes want a GPU each.* finds 1"):
        join_group("cuda")


def test_a_process_alone_gathers_its_own():
    assert Group().gather(3) == [3]
    assert [Group().any(flag) for flag in (True, False)] == [True, False]


def test_a_clusters_own_variables_do_not_make_a_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert join_group("cpu")[0] == Group()


class WithAnother(Group):
    """The main one of two processes, the other of which has other facts."""

    def __init__(self, *facts: str) -> None:
        super().__init__(rank=0, size=2)
        object.__setattr__(self, "facts", facts)

    def gather(self, value):
        if isinstance(value, dict) and "configuration" in value:
            return [value, {**value, **dict.fromkeys(self.facts, "another")}]
        return [value, value]


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (("configuration",), "configuration; give all machines the same arguments"),
        (("TRAIN.AMP", "configuration"), r"TRAIN\.AMP and configuration; .*bf16 or off"),
    ],
)
def test_machines_that_differ_are_told(tmp_path, facts, words):
    run = FakeRun(tmp_path)
    run.group = WithAnother(*facts)
    with pytest.raises(UserError, match=f"process 1 and process 0 differ in their {words}"):
        run.train(TRAIN__NUM_EPOCHS=0)
    assert run.events == []


@pytest.mark.slow
def test_a_resumed_group_ends_like_the_uninterrupted_one(mini_voc, together, tmp_path):
    with start(mini_voc, tmp_path, launcher=TWO, **WITH_BN) as job:
        for line in job.stdout:
            if "epoch 0, trained" in line:  # a validation and an epoch before the last one's end
                break
        job.terminate()
        _, err = job.communicate(timeout=300)
    assert "goes on with epoch 1 from" in err
    train_together(mini_voc, tmp_path, "--resume", "last", launcher=TWO, **WITH_BN)
    assert state_of(tmp_path, "v01") == state_of(together[0], "v01")


if __name__ == "__main__":
    SPEC.update(THIN)
    member, its_device = join_group("cpu")
    for name in ("ae", "bsl"):
        share_of_the_work(member, its_device, name, Path(sys.argv[1]))
    leave_group()
