"""The classes that images have, in few columns and back."""

from __future__ import annotations

import torch

from models.present import PresentClasses
from models.self_supervision import make_pseudo_labels

LABELS = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [1, 0, 0, 0]]).float()


def test_numbers_come_first_and_in_order():
    numbers = PresentClasses(LABELS).numbers
    assert numbers.shape == (3, 3)
    assert numbers[0].tolist() == [0, 2, 4]
    assert numbers[1, 0] == 0
    assert numbers[2, :2].tolist() == [0, 1]


def test_what_is_selected_and_spread_again_lacks_absent_classes_alone():
    maps = torch.rand(3, 5, 4, 6)
    classes = PresentClasses(LABELS)
    selected = classes.select(maps)
    assert torch.equal(selected[0], maps[0, [0, 2, 4]])
    assert not selected[1, 1:].any() and not selected[2, 2].any()
    expected = maps * torch.nn.functional.pad(LABELS, (1, 0), value=1)[:, :, None, None]
    assert torch.equal(classes.spread(selected), expected)


def test_pseudo_labels_of_selected_masks_are_those_of_all():
    torch.manual_seed(0)
    classes = PresentClasses(LABELS)
    selected = classes.select((3 * torch.randn(3, 5, 9, 7)).softmax(dim=1))
    expected = make_pseudo_labels(classes.spread(selected))
    assert torch.equal(make_pseudo_labels(selected, classes.numbers), expected)
    assert {0, 2, 4, 255} <= set(expected.unique().tolist())
