"""Which images are validated on: stable, every class on both sides, copies together."""

import unicodedata

import numpy as np
import pytest

from datasets.image_folder.split import TRAIN, VAL, name_hash, split_images

NAMES = [f"folder {number % 7}/{number}.jpg" for number in range(3000)]


def labels_of(*objects, count=4):
    labels = np.zeros((len(objects), count), np.uint8)
    for row, found in zip(labels, objects, strict=True):
        row[list(found)] = 1
    return labels


def random_labels(count, density=0.3, seed=0):
    return (np.random.default_rng(seed).random((count, 4)) < density).astype(np.uint8)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5, 0.9])
def test_the_share_is_kept(share):
    parts = split_images(NAMES, random_labels(3000), share)
    deviation = (share * (1 - share) / 3000) ** 0.5
    assert abs((parts == VAL).mean() - share) < 3 * deviation


def test_images_stay_when_others_come_in_any_order():
    labels = random_labels(3000)
    parts = dict(zip(NAMES, split_images(NAMES, labels, 0.1), strict=True))
    some = list(np.random.default_rng(1).permutation(3000)[:1500])
    fewer = [NAMES[number] for number in some]
    assert split_images(fewer, labels[some], 0.1).tolist() == [parts[name] for name in fewer]


def test_composed_and_decomposed_letters_are_one_name():
    assert name_hash("größe.jpg") == name_hash(unicodedata.normalize("NFD", "größe.jpg"))
    assert name_hash("a/1.jpg") != name_hash("b/1.jpg")


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [0.01, 0.1, 0.99])
def test_both_parts_have_every_class(seed, share):
    rng = np.random.default_rng(seed)
    names = [f"{seed}-{number}.jpg" for number in range(12)]
    labels = np.eye(4, dtype=np.uint8)[rng.integers(0, 4, 12)]
    parts = split_images(names, labels, share)
    counts = labels.sum(axis=0)
    assert (labels[parts == TRAIN].any(axis=0) == (counts > 0)).all()
    assert (labels[parts == VAL].any(axis=0) == (counts > 1)).all()
    assert parts.tolist() == split_images(names, labels, share).tolist()


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_classes_that_come_together_are_in_both_parts_too(seed, share):
    names = [f"{seed}-{number}.jpg" for number in range(16)]
    labels = random_labels(16, 0.4, seed)
    parts = split_images(names, labels, share)
    assert labels[parts == TRAIN].any(axis=0).all() and labels[parts == VAL].any(axis=0).all()


@pytest.mark.parametrize("share, end", [(0.001, min), (0.999, max)])
def test_what_is_moved_is_the_nearest_by_its_hash(share, end):
    names = NAMES[:50]
    parts = split_images(names, labels_of(*[[0]] * 50), share)
    [moved] = np.flatnonzero(parts == np.bincount(parts).argmin())
    assert names[moved] == end(names, key=name_hash)


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_training_has_all_classes_where_both_parts_cannot(share):
    for names in ("abc", "def", "ghi", "klm"):
        labels = labels_of([0, 1], [0, 2], [1, 2], count=3)
        parts = split_images(list(names), labels, share)
        assert sorted(parts) in ([TRAIN, TRAIN, VAL], [TRAIN, VAL, VAL])
        assert share > 0.01 or labels[parts == TRAIN].any(axis=0).all()


def test_only_what_a_class_needs_is_moved():
    names = NAMES[:200]
    labels = labels_of(*[[0]] * 197, [1], [1], [2])
    parts = split_images(names, labels, 0.1)
    by_hash = np.array([name_hash(name) < 0.1 for name in names], np.uint8)
    assert parts[:197].tolist() == by_hash[:197].tolist()
    assert sorted(parts[197:199]) == [TRAIN, VAL] and parts[199] == TRAIN


def test_two_images_without_shared_classes_are_one_each():
    for names in (["a", "b"], ["c", "d"], ["e", "f"]):
        assert sorted(split_images(names, labels_of([0], [1]), 0.1)) == [TRAIN, VAL]


def test_copies_are_not_parted():
    copies = [list(range(start, start + 3)) for start in range(0, 300, 3)]
    parts = split_images(NAMES[:300], random_labels(300), 0.3, copies)
    assert all(len(set(parts[group])) == 1 for group in copies)
    assert abs(parts.mean() - 0.3) < 3 * (0.3 * 0.7 / 100) ** 0.5  # more copies do not weigh more


def test_a_new_copy_goes_where_the_image_is():
    labels = random_labels(3000)
    low = next(number for number in range(3000) if name_hash(NAMES[number]) < 0.1)
    old = next(number for number in range(low, 3000) if name_hash(NAMES[number]) > 0.5)
    alone = split_images(NAMES, labels, 0.1)
    before = {name: part for name, part in zip(NAMES, alone, strict=True) if name != NAMES[low]}
    parts = split_images(NAMES, labels, 0.1, [sorted([low, old])], before)
    assert parts[low] == parts[old] == alone[old] == TRAIN
    both = dict(zip(NAMES, parts, strict=True))  # and there they stay
    assert (split_images(NAMES, labels, 0.1, [sorted([low, old])], both) == parts).all()
