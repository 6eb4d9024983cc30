"""The parts of training: losses, steps, validation, snapshots, pictures."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import scatter_gather

from core.checkpoint import list_snapshots
from core.config import Config, load_config
from core.distributed import Group
from core.precision import Precision
from core.training import engine
from core.training.checkpoint_manager import MAX_KEPT, CheckpointManager
from core.training.engine import MeanLosses, Trainer, read_late
from core.training.errors import NotFiniteError
from core.training.losses import Criterion, require_usable_loss
from core.training.optimizer import build_optimizer
from core.training.resume import find_start, refuse_existing, restore
from core.training.run import TrainingRun
from core.training.tensorboard import draw_batch
from datasets.transforms import normalise
from datasets.voc import PASCAL_VOC
from models import get_model
from models.network import Network
from utils.errors import UserError

CPU = torch.device("cpu")
FULL = Precision("off", CPU)


class TinyNetwork(Network):
    """Scores are a linear layer of the image's mean colour; the mask loss is what it is told."""

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 20, 1))

    def forward(self, images, raw_images=None, labels=None, with_masks=False):
        maps = self.backbone(images)
        scores = maps.mean(dim=(2, 3))
        masks = nn.functional.pad(maps, (0, 0, 0, 0, 1, 0)).softmax(dim=1)
        if labels is None:
            return scores, masks
        loss_mask = scores.square().mean(dim=1)
        fg = masks[:, 1:].mean(dim=(1, 2, 3))
        outputs = {"cls": scores, "fg": fg, "loss_mask": loss_mask, "mask_logits": maps}
        if with_masks:
            pseudo = masks.argmax(dim=1)
            outputs |= {"masks": masks, "refined_masks": masks, "pseudo_labels": pseudo}
        return outputs


class ListBatches:
    """Given batches, the same every epoch."""

    def __init__(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        self.batches = batches

    @property
    def images_of_all(self) -> int:
        return sum(len(labels) for _, labels in self.batches)

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int):
        return iter(self.batches)

    def names(self, epoch: int, step: int) -> list[str]:
        return [f"image_{step}_{place}" for place in range(len(self.batches[step][1]))]


def random_batches(*sizes: int) -> ListBatches:
    generator = torch.Generator().manual_seed(0)
    batches = []
    for size in sizes:
        labels = (torch.rand(size, 20, generator=generator) < 0.2).float()
        labels[:, 0] = 1
        batches.append((torch.rand(size, 3, 8, 8, generator=generator), labels))
    return ListBatches(batches)


def config_of(**overrides: object) -> Config:
    words = [
        word for key, value in overrides.items() for word in (key.replace("__", "."), str(value))
    ]
    return load_config(None, words)


def criterion(**overrides: object) -> Criterion:
    return Criterion(config_of(**overrides))


def trainer_of(model: Network, **overrides: object) -> Trainer:
    return Trainer(model, config_of(**overrides), CPU)


@pytest.mark.parametrize("size", [1, 2])
def test_validation_computes_as_inference_will(size, monkeypatch):
    """In TEST.AMP, whatever training computes in, and in processes of a group too."""
    monkeypatch.setattr(engine, "parallelise", lambda model, *_, **__: model)
    config = config_of(TRAIN__AMP="off", TEST__AMP="bf16")
    trainer = Trainer(TinyNetwork(), config, CPU, Group(0, size))
    kinds = []
    trainer.network.forward = lambda *_: kinds.append(torch.is_autocast_enabled("cpu"))
    trainer.model.train()(None)
    trainer.eval_model.eval()(None)
    assert kinds == [False, True]
    assert trainer.eval_amp == "bf16"


def outputs_of(scores: Tensor) -> dict[str, Tensor]:
    batch = len(scores)
    return {"cls": scores, "fg": torch.zeros(batch), "loss_mask": torch.arange(1.0, batch + 1)}


def test_soft_margin_against_a_loop():
    scores, (_, labels) = torch.randn(4, 20), random_batches(4).batches[0]
    losses = criterion()(outputs_of(scores), labels, epoch=0)
    for image in range(4):
        total = 0.0
        for score, label in zip(scores[image].tolist(), labels[image].tolist(), strict=True):
            probability = 1 / (1 + math.exp(-score))
            total -= math.log(probability if label else 1 - probability)
        assert float(losses["loss"][image]) == pytest.approx(total / 20, rel=1e-5)


def test_a_loss_that_is_always_0_is_refused(tmp_path):
    """Hinge compares an image's classes with those that it does not have: of one there are none."""
    one_class = replace(PASCAL_VOC, classes=("background", "thing"))
    scores, labels = torch.randn(3, 1), torch.tensor([[1.0], [0.0], [1.0]])
    assert not criterion(NET__LOSS="Hinge")(outputs_of(scores), labels, epoch=0)["loss"].any()
    place = (tmp_path / "s", tmp_path / "l", "", False)
    with pytest.raises(UserError, match=r"NET\.LOSS Hinge.*SoftMargin"):
        TrainingRun(load_config(None, ["NET.LOSS", "Hinge"]), one_class, *place, 0, CPU).run()
    require_usable_loss("SoftMargin", one_class)
    require_usable_loss("Hinge", replace(PASCAL_VOC, classes=("background", "thing", "other")))


def test_hinge_against_a_loop():
    scores, (_, labels) = torch.randn(4, 20), random_batches(4).batches[0]
    labels[3] = 0  # an image without objects has no margin to keep
    losses = criterion(NET__LOSS="Hinge")(outputs_of(scores), labels, epoch=0)
    for image in range(4):
        total = 0.0
        for present in range(20):
            for absent in range(20):
                if labels[image, present] and not labels[image, absent]:
                    gap = float(scores[image, present] - scores[image, absent])
                    total += max(0.0, 1 - gap)
        assert float(losses["loss"][image]) == pytest.approx(total / 20, rel=1e-5, abs=1e-7)


def test_the_mask_loss_counts_from_epoch_pretrain_on():
    scores, (_, labels) = torch.randn(3, 20), random_batches(3).batches[0]
    judge = criterion(TRAIN__PRETRAIN=2, NET__MASK_LOSS_BCE=0.5)
    for epoch in range(4):
        losses = judge(outputs_of(scores), labels, epoch)
        expected = losses["loss_cls"] + (0.5 * torch.tensor([1.0, 2, 3]) if epoch >= 2 else 0)
        torch.testing.assert_close(losses["loss"], expected)


def test_mean_losses_weigh_images_not_batches():
    means = MeanLosses()
    means.update({"loss": torch.tensor([1.0, 2.0, 3.0])})
    means.update({"loss": torch.tensor([10.0])})
    assert means.means() == {"loss": 4.0}


def test_an_epoch_takes_a_step_per_batch():
    torch.manual_seed(0)
    model = TinyNetwork()
    twin = TinyNetwork()
    twin.load_state_dict(model.state_dict())
    batches, judge = random_batches(4, 4), criterion(TRAIN__PRETRAIN=0)
    trainer = trainer_of(model, TRAIN__PRETRAIN=0, NET__LR=0.5, NET__WEIGHT_DECAY=0)
    trainer.train_one_epoch(batches, 0)

    # momentum by hand: v ← 0.9 v + g, w ← w − lr v
    velocity = [torch.zeros_like(p) for p in twin.parameters()]
    for raw, labels in batches.batches:
        loss = judge(twin(normalise(raw), raw, labels), labels, 0)["loss"].mean()
        gradients = torch.autograd.grad(loss, list(twin.parameters()))
        with torch.no_grad():
            for p, v, g in zip(twin.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(g)
                p.sub_(0.5 * v)
    for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_every_step_is_taken_with_its_own_learning_rate(monkeypatch):
    model, batches, rates = TinyNetwork(), random_batches(2, 2, 2), []
    changes = {"SCHEDULE": "poly", "WARMUP": 2, "NUM_EPOCHS": 1}
    trainer = trainer_of(
        model, NET__LR=0.5, **{f"TRAIN__{key}": value for key, value in changes.items()}
    )
    step = trainer.optimizer.step
    monkeypatch.setattr(trainer.optimizer, "step", lambda: (rates.append(rate_of(trainer)), step()))
    for epoch in range(2):
        trainer.schedule(epoch, 0, len(batches))
        before = rate_of(trainer)
        trainer.train_one_epoch(batches, epoch)
        assert before == rates[3 * epoch]  # TensorBoard shows that of an epoch's first step
    expected = [0.5 * min(1, (k + 1) / 2) * (1 - k / 6) ** 0.9 for k in range(6)]
    assert rates == pytest.approx(expected)
    assert rate_of(trainer) == 0  # of the step after the last one


def test_a_step_that_fp16_leaves_out_counts_for_the_schedule():
    model = TinyNetwork()
    trainer = trainer_of(model, TRAIN__AMP="fp16", TRAIN__SCHEDULE="poly", TRAIN__NUM_EPOCHS=1)
    trainer.precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**126)
    before = model.backbone.weight.clone()
    trainer.train_one_epoch(random_batches(2), 0)
    assert torch.equal(model.backbone.weight, before)
    assert rate_of(trainer) == pytest.approx(0.001 * 0.5**0.9)


def rate_of(trainer: Trainer) -> float:
    return trainer.optimizer.param_groups[0]["lr"]


def test_a_loss_that_is_not_finite_ends_the_epoch_before_the_step():
    model = TinyNetwork()
    with torch.no_grad():
        model.backbone.weight.fill_(float("inf"))
    before = [p.clone() for p in model.parameters()]
    trainer = trainer_of(model)
    with pytest.raises(UserError, match=r"epoch 3, step 0: .* for image_0_0, image_0_1;"):
        trainer.train_one_epoch(random_batches(2), 3)
    for mine, other in zip(model.parameters(), before, strict=True):
        assert torch.equal(mine, other)
    with pytest.raises(UserError, match=r"validation on val, epoch 4, step 0: .* image_0_1;"):
        trainer.validate(random_batches(2), 4, "val")


def test_only_the_images_whose_loss_is_not_finite_are_named():
    model, batches = TinyNetwork(), random_batches(4, 4)
    batches.batches[1][0][2] = float("nan")
    with pytest.raises(UserError, match=r"epoch 0, step 1: the loss is nan for image_1_2; "):
        trainer_of(model).train_one_epoch(batches, 0)
    with pytest.raises(UserError, match=r"step 1 \(TRAIN\.AMP fp16 .*bf16.*image_1_2; "):
        trainer_of(model, TRAIN__AMP="fp16").train_one_epoch(batches, 0)


@pytest.mark.parametrize("step", [0, 2])
def test_a_loss_that_is_read_late_ends_the_epoch_all_the_same(step, monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", Mock)
    on_gpu = partial(read_late, device=torch.device("cuda"))
    monkeypatch.setattr(engine, "read_late", lambda items, _: on_gpu(items))
    batches = random_batches(2, 2, 2)
    batches.batches[step][0][1] = float("nan")
    with pytest.raises(NotFiniteError, match=rf"step {step}: the loss is nan for image_{step}_1;"):
        trainer_of(TinyNetwork()).train_one_epoch(batches, 0)


def test_validation_means_and_average_precision_over_all_images():
    torch.manual_seed(1)
    model, batches = TinyNetwork(), random_batches(5, 2)
    trainer = trainer_of(model, TRAIN__PRETRAIN=0)
    result = trainer.validate(batches, 0, "val")
    raw = torch.cat([raw for raw, _ in batches.batches])
    labels = torch.cat([labels for _, labels in batches.batches])
    whole = trainer.validate(ListBatches([(raw, labels)]), 0, "val")
    assert result.losses == pytest.approx(whole.losses, rel=1e-5)
    present = labels.any(dim=0).numpy()
    assert np.isnan(result.average_precision[~present]).all()
    assert result.average_precision[0] == pytest.approx(1)  # every image has class 0
    assert result.mean_average_precision == pytest.approx(result.average_precision[present].mean())
    assert not model.training


def optimizer_for(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.rand(1, 3, 4, 4))[0].sum().backward()
    optimizer.step()
    return optimizer


def resume(folder: Path, suffix: str, optimizer: torch.optim.Optimizer) -> CheckpointManager:
    start = find_start(folder, suffix, overwrite=False, seed=64)
    return CheckpointManager(folder, restore(start, optimizer, FULL))


def test_the_manager_keeps_the_best_five_and_drops_its_oldest(tmp_path):
    model = TinyNetwork()
    optimizer = optimizer_for(model)
    foreign = tmp_path / "model_enc_e020Xs0.928.pth"
    foreign.write_bytes(b"somebody's own")
    checkpoints = CheckpointManager(tmp_path)
    scores = [-0.5, -0.6, 0.1, 0.1, 0.2, 0.3, 0.25, 0.4, 0.5]
    saved = [
        checkpoints.save_if_best(model, optimizer, e, s) is not None for e, s in enumerate(scores)
    ]
    assert saved == [True, False, True, False, True, True, False, True, True]
    kept = [s.suffix for s in list_snapshots(tmp_path) if s.path != foreign]
    assert checkpoints.best_score == 0.5
    assert len(kept) == MAX_KEPT
    assert kept == ["e002Xs0.100", "e004Xs0.200", "e005Xs0.300", "e007Xs0.400", "e008Xs0.500"]
    assert foreign.read_bytes() == b"somebody's own"
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == sorted(
        [foreign.name, "written.json"]
        + [f"{kind}_enc_{suffix}.pth" for suffix in kept for kind in ("model", "opt")]
    )


def test_a_snapshot_that_cannot_be_written_costs_nothing(tmp_path, monkeypatch):
    model = TinyNetwork()
    optimizer = optimizer_for(model)
    checkpoints = CheckpointManager(tmp_path)
    checkpoints.save_if_best(model, optimizer, 0, 0.1)
    before = {path: path.read_bytes() for path in tmp_path.glob("*.pth")}

    def full_disk(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(UserError, match="No space left"):
        checkpoints.save_if_best(model, optimizer, 1, 0.2)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.pth")} == before
    monkeypatch.undo()
    for epoch in range(2, 8):
        checkpoints.save_if_best(model, optimizer, epoch, epoch / 10)
    assert len(list_snapshots(tmp_path)) == MAX_KEPT


def test_the_manager_goes_on_where_it_stopped(tmp_path):
    model = TinyNetwork()
    optimizer = optimizer_for(model)
    checkpoints = CheckpointManager(tmp_path)
    for epoch in range(MAX_KEPT):
        checkpoints.save_if_best(model, optimizer, epoch, epoch / 10 + 0.00049)
    # what is configured now holds, not what held when the snapshot was taken
    fresh = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.8)
    resumed = resume(tmp_path, "best", fresh)
    assert resumed.best_score == 0.40049  # not the rounded one of the file's name
    for old, new in zip(
        optimizer.state_dict()["state"].values(), fresh.state_dict()["state"].values(), strict=True
    ):
        assert torch.equal(old["momentum_buffer"], new["momentum_buffer"])
    assert (fresh.param_groups[0]["lr"], fresh.param_groups[0]["momentum"]) == (0.01, 0.8)
    assert resumed.save_if_best(model, fresh, 5, 0.4) is None
    resumed.save_if_best(model, fresh, 6, 0.6)
    assert [s.epoch for s in list_snapshots(tmp_path)] == [1, 2, 3, 4, 6]


def test_going_on_from_an_older_snapshot_names_the_later_ones(tmp_path, capsys):
    model = TinyNetwork()
    optimizer = optimizer_for(model)
    checkpoints = CheckpointManager(tmp_path)
    for epoch in range(MAX_KEPT):
        checkpoints.save_if_best(model, optimizer, epoch, epoch / 10)
    resumed = resume(tmp_path, "e001Xs0.100", optimizer)
    assert "e004Xs0.400" in capsys.readouterr().out
    resumed.save_if_best(model, optimizer, 2, 0.15)
    assert len(list_snapshots(tmp_path)) == MAX_KEPT


def test_a_published_snapshot_resumes_without_optimizer_state(tmp_path, capsys):
    path = tmp_path / "model_enc_e020Xs0.928.pth"
    path.touch()
    optimizer = torch.optim.SGD(TinyNetwork().parameters(), lr=0.1)
    checkpoints = resume(tmp_path, "e020Xs0.928", optimizer)
    assert checkpoints.best_score == 0.928
    assert "optimizer starts anew" in capsys.readouterr().out
    # and it is not the run's own: it is never dropped
    model = TinyNetwork()
    for epoch in range(21, 28):
        checkpoints.save_if_best(model, optimizer, epoch, epoch / 10)
    assert path.exists()


def test_an_optimizer_of_another_network_is_refused(tmp_path):
    model = TinyNetwork()
    CheckpointManager(tmp_path).save_if_best(model, optimizer_for(model), 0, 0.5)
    other = torch.optim.SGD([nn.Parameter(torch.zeros(2))], lr=0.1)
    with pytest.raises(UserError, match=r"opt_enc_e000Xs0\.500\.pth"):
        resume(tmp_path, "best", other)
    adam = torch.optim.Adam(model.parameters())
    with pytest.raises(UserError, match="saved with SGD"):
        resume(tmp_path, "best", adam)


def test_a_folder_with_snapshots_is_refused_with_three_ways_out(tmp_path):
    refuse_existing(tmp_path)
    refuse_existing(tmp_path / "not there")
    (tmp_path / "model_enc_e004Xs0.500.pth").touch()
    with pytest.raises(UserError, match=r"e004Xs0\.500") as error:
        refuse_existing(tmp_path)
    assert all(word in str(error.value) for word in ("--resume", "RUN_ID", "--overwrite"))


def test_the_picture_has_a_row_per_image_and_the_classes_colours():
    model, (raw, labels) = TinyNetwork(), random_batches(3).batches[0]
    with torch.no_grad():
        model.backbone.weight.zero_()
        model.backbone.bias.fill_(-50.0)
        model.backbone.bias[14] = 50.0  # everything is a person
    raw = torch.zeros_like(raw)
    image = draw_batch(model, (raw, labels), PASCAL_VOC, CPU)
    assert image.dtype == np.uint8 and image.shape[2] == 3
    person = np.rint(0.7 * np.array(PASCAL_VOC.palette[45:48])).astype(np.uint8)
    # three columns in the class's colour, three images of 8×8 each
    assert (image == person).all(axis=2).sum() == 3 * 3 * 64
    # the batch's classes are named beside squares in their own colours
    for index in (0, *(labels.any(dim=0).nonzero().flatten() + 1).tolist()):
        colour = np.array(PASCAL_VOC.palette[3 * index : 3 * index + 3], dtype=np.uint8)
        assert (image == colour).all(axis=2).sum() >= 100


def test_the_optimizers_options_are_the_configured_ones():
    words = ["NET.MODEL", "bsl", "NET.BACKBONE", "vgg16", "NET.MOMENTUM", "0.7", "NET.BETA1", "0.6"]
    net = load_config(None, words).NET
    with torch.device("meta"):
        model = get_model(net)
    sgd = build_optimizer(model, net)
    assert type(sgd) is torch.optim.SGD
    assert {group["momentum"] for group in sgd.param_groups} == {0.7}
    adam = build_optimizer(model, load_config(None, [*words, "NET.OPT", "Adam"]).NET)
    assert type(adam) is torch.optim.Adam
    assert {group["betas"] for group in adam.param_groups} == {(0.6, 0.999)}
    assert [group["lr"] for group in adam.param_groups] == [
        pytest.approx(net.LR * factor) for factor in (1, 2, 10, 20)
    ]


@pytest.mark.parametrize("devices", [2, 5])
def test_a_batch_is_drawn_alike_however_dataparallel_splits_it(devices, monkeypatch):
    """DataParallel's own splitting and joining; only the copying between GPUs is left out."""
    monkeypatch.setattr(
        scatter_gather.Scatter,
        "apply",
        lambda targets, _sizes, dim, tensor: tensor.chunk(len(targets), dim),
    )

    class Split(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, *inputs, **keywords):
            parts = scatter_gather.scatter_kwargs(inputs, keywords, list(range(devices)))
            outputs = [self.module(*some, **more) for some, more in zip(*parts, strict=True)]
            return {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}

    model, batch = TinyNetwork(), random_batches(8).batches[0]
    pictures = [draw_batch(m, batch, PASCAL_VOC, CPU) for m in (model, Split(model))]
    assert (pictures[0] == pictures[1]).all()
