"""The rows about training at tiny sizes: both sides compute the same, and something."""

from __future__ import annotations

import pytest
import torch

from benchmarks import bounds, growth, pamr_cases, straightforward, training_cases
from benchmarks.case import Case
from benchmarks.inputs import OBJECTS, plausible_logits, random_labels
from benchmarks.training_cases import step_config
from models.heads.pamr import PAMR
from models.self_supervision import balanced_mask_loss, make_pseudo_labels

CPU = torch.device("cpu")


def difference(case: Case) -> float:
    baseline, ours = case.check or (case.baseline, case.ours)
    return case.difference(ours(), baseline())


@pytest.mark.parametrize("build", [pamr_cases.all_classes, pamr_cases.present_classes])
def test_pamr(build):
    case = build(CPU, batch=3, side=13)
    assert difference(case) <= case.tolerance
    assert case.baseline().max() > 0.5


@pytest.mark.slow
def test_a_step_without_its_convolutions():
    case = training_cases.without_convolutions(CPU, batch=3, size=161)
    assert difference(case) <= case.tolerance
    assert (case.baseline()["loss_mask"] > 0).all()


@pytest.mark.slow
def test_a_whole_step(thin_vgg16):
    case = training_cases.whole_step(CPU, "vgg16", 2, 65, (), target=1)
    expected, found = (side() for side in case.check)
    assert case.difference(found, expected) <= case.tolerance
    assert (found["loss_mask"] > 0).all() and found["change"].norm() > 0


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [True, False])
def test_a_step_rounds_to_tf32_as_its_configuration_says(monkeypatch, rounds, thin_vgg16):
    config = step_config("vgg16", "TRAIN.TF32", str(rounds))
    step = training_cases.our_step(config, CPU, 1, 17)
    asked, real = [], step.losses

    def losses() -> dict[str, torch.Tensor]:
        asked.append(torch.backends.cudnn.allow_tf32)
        return real()

    monkeypatch.setattr(step, "losses", losses)
    step.take()
    assert asked == [rounds]


def test_straightforward_pseudo_labels_and_loss():
    torch.manual_seed(0)
    masks = (3 * torch.randn(4, 6, 9, 11)).softmax(dim=1)
    one_hot = straightforward.pseudo_labels(masks)
    pseudo = make_pseudo_labels(masks)
    unlabelled = one_hot.sum(dim=1) == 0
    assert 0 < unlabelled.sum() < unlabelled.numel()
    assert torch.equal(one_hot.argmax(dim=1).masked_fill(unlabelled, 255), pseudo)
    logits, labels = torch.randn(4, 6, 5, 6), torch.ones(4, 5)
    labels[0, 0] = 0  # so that its pseudo labels hold a class too many
    found = straightforward.mask_loss(logits, one_hot, labels)
    assert found[0] == 0 and (found[1:] > 0).all()
    torch.testing.assert_close(found, balanced_mask_loss(logits, pseudo, labels))


def test_plausible_logits_find_the_objects_and_nothing_else():
    labels = random_labels(len(OBJECTS))
    assert labels.sum(dim=1).tolist() == list(OBJECTS)
    peaks = plausible_logits(labels, 15).softmax(dim=1)[:, 1:].amax(dim=(2, 3))
    assert torch.equal((peaks > 0.5).float(), labels)


def test_growth_of_pamr(tmp_path):
    rows = growth.measure_pamr(CPU, sides=(9, 18), classes=(2, 4))
    assert len(rows) == 8 and all(row["seconds"] > 0 for row in rows)
    memory = {(row["what"], row["axis"], row["side"], row["classes"]): row["mb"] for row in rows}
    small, large = (memory["PAMR, straightforward", "side", side, 21] for side in (9, 18))
    assert large == pytest.approx(4 * small, rel=0.05)
    assert growth.table(rows).count("\n") == 9
    pytest.importorskip("matplotlib")
    growth.draw(rows, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_what_pamr_must_move():
    # 8 neighbours: 5 passes over their weights, then per iteration weights and numbers, and masks
    assert bounds.pamr_bytes(PAMR(2, (1,)), pixels=10, classes=3) == 4 * 10 * (40 + 2 * (16 + 6))
