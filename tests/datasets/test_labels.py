"""Image-level labels of lists, and what is wrong or odd about them."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image

from datasets.labels import (
    count_table,
    doubts,
    labels_of_list,
    read_mask_facts,
    require_objects,
)
from datasets.lists import ListEntry
from datasets.voc import PASCAL_VOC
from utils.errors import UserError


@pytest.fixture
def make(tmp_path):
    """Values of masks → facts of a list of 4×6 images, whose masks have them."""

    def write(*masks: list[int], shape=(4, 6)):
        entries = []
        for number, values in enumerate(masks):
            entry = ListEntry(tmp_path / f"{number}.png", tmp_path / f"{number}_mask.png")
            mask = np.resize(np.array(values, np.uint8), shape)
            Image.new("RGB", (6, 4)).save(entry.image)
            Image.fromarray(mask).save(entry.mask)
            entries.append(entry)
        return entries, [read_mask_facts(entry) for entry in entries]

    return write


def labels_of(entries, facts):
    return labels_of_list("list.txt", entries, facts, PASCAL_VOC)


def test_labels_are_the_classes_of_the_mask_without_background_and_255(make):
    labels = labels_of(*make([0, 1, 255], [20, 3], [0]))
    assert (labels.dtype, labels.shape) == (np.uint8, (3, 20))
    assert [np.flatnonzero(row).tolist() for row in labels] == [[0], [2, 19], []]


def test_a_mask_of_another_size_than_its_image(make):
    entries, facts = make([1], [2])
    labels_of(entries, facts)
    odd, odd_facts = make([1], [2], shape=(6, 4))
    with pytest.raises(
        UserError, match=r"0_mask\.png is 6×4 \(h.* its image .*0\.png 4×6 \(2 of the 2 .*resized"
    ):
        labels_of(odd, odd_facts)
    with pytest.raises(UserError, match="1 of the 2"):
        labels_of(entries, [facts[0], odd_facts[1]])


def test_values_that_are_no_classes(make):
    with pytest.raises(UserError, match=r"1_mask\.png holds 21, 254; .* \(2 of the 3 "):
        labels_of(*make([0, 255, 20], [21, 254], [100]))


def test_masks_of_0_and_255_alone_teach_nothing(make):
    entries, facts = make([0, 255], [0])
    labels = labels_of(entries, facts)
    with pytest.raises(UserError, match=r"no image of list\.txt .* 0 and 255 alone; .* 0 to 20"):
        require_objects("list.txt", labels, facts, 21)
    entries, facts = make([0], [7])
    require_objects("list.txt", labels_of(entries, facts), facts, 21)


def test_what_is_odd():
    every = np.eye(20, dtype=np.uint8)
    none = np.zeros((30, 20), np.uint8)
    assert doubts([("a.txt", every), ("b.txt", every[:3])], PASCAL_VOC) == []
    [lacking, no_map] = doubts([("a.txt", every[1:]), ("b.txt", none)], PASCAL_VOC)
    assert "a.txt" in lacking and "aeroplane" in lacking and "bicycle" not in lacking
    assert "b.txt" in no_map and "nan" in no_map
    [lacking] = doubts([("a.txt", every[12:])], PASCAL_VOC)
    assert "aeroplane, bicycle, bird and 9 more" in lacking and "boat" not in lacking
    few = np.concatenate([none, none[:8], every[:1], every[:1]])
    assert not [line for line in doubts([("a.txt", few)], PASCAL_VOC) if "only" in line]
    few = np.concatenate([none, none, every[:1], every[:1]])
    assert "only 2 of the 62 images of a.txt" in doubts([("a.txt", few)], PASCAL_VOC)[0]


def test_the_table():
    labels = np.eye(20, dtype=np.uint8)[[0, 0, 1]]
    with_none = np.concatenate([labels, np.zeros((2, 20), np.uint8)])
    table = count_table([("train.txt", with_none), ("val.txt", labels[:1])], PASCAL_VOC)
    rows = [re.split(r"  +", line.strip()) for line in table.splitlines()]
    assert rows[0] == ["images with", "train.txt", "val.txt"]
    assert rows[1:3] == [["aeroplane", "2", "1"], ["bicycle", "1", "0"]]
    assert rows[-2:] == [["no object", "2", "0"], ["in all", "5", "1"]]
    assert len({len(line) for line in table.splitlines()}) == 1
