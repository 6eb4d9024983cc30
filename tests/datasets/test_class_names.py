"""Names of classes as users write them."""

import unicodedata

import numpy as np
import pytest

from datasets.class_names import label_vector, split_labels
from datasets.voc import PASCAL_VOC
from utils.errors import UserError

VOC = PASCAL_VOC.classes
OWN = ("background", "hot dog", "dog", "Käfer", "cup, small", "tv/monitor", "monitor", "pine")
FRUIT = (*OWN, "apple", "pineapple")


@pytest.mark.parametrize(
    "objects, indices",
    [
        (["cat", "sofa"], [8, 18]),
        (["Potted Plant", "pottedplant"], [16]),
        (["potted_plant", "dining table", "TV/Monitor"], [16, 11, 20]),
        (["tv"], [20]),
        (["tvmonitor"], [20]),
        ([1, np.int64(20)], [1, 20]),
        ([], []),
    ],
)
def test_objects_by_name(objects, indices):
    labels = label_vector(objects, VOC)
    assert labels.dtype == np.float32 and labels.shape == (20,)
    assert list(np.flatnonzero(labels) + 1) == sorted(indices)


@pytest.mark.parametrize(
    "objects, words",
    [
        (["kat"], "'kat'; did you mean 'cat'"),
        (["motorbyke"], "did you mean 'motorbike'"),
        (["background"], "'background' is no object"),
        ([0], "1 to 20"),
        ([21], "1 to 20"),
        ([-1], "1 to 20"),
        ([1.0], "found 1.0"),
        ("cat", "several classes"),
    ],
)
def test_objects_that_there_are_not(objects, words):
    with pytest.raises(UserError, match=words):
        label_vector(objects, VOC)


@pytest.mark.parametrize("name, index", [("monitor", 6), ("Monitor", 6), ("tv", 5), ("hot-dog", 1)])
def test_a_whole_name_goes_before_a_part_of_another(name, index):
    assert list(np.flatnonzero(label_vector([name], OWN)) + 1) == [index]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_composed_and_decomposed_letters_are_the_same(form):
    classes = [unicodedata.normalize("NFD" if form == "NFC" else "NFC", name) for name in OWN]
    assert label_vector([unicodedata.normalize(form, "käfer")], classes)[2] == 1


def test_a_name_of_two_classes():
    classes = ("background", "hot dog", "Hotdog", "a/x", "b/x")
    assert label_vector(["hot dog"], classes)[0] == label_vector(["Hotdog"], classes)[1] == 1
    for name, words in (("hot-dog", "'hot dog' or 'Hotdog'"), ("x", "'a/x' or 'b/x'")):
        with pytest.raises(UserError, match=words):
            label_vector([name], classes)


@pytest.mark.parametrize(
    "cell, names",
    [
        ("", []),
        (" | ", []),
        ("dog", ["dog"]),
        ("hot dog", ["hot dog"]),
        ("Hot Dog", ["Hot Dog"]),
        ("dog monitor", ["dog", "monitor"]),
        ("hot dog|dog", ["hot dog", "dog"]),
        (" hot dog; dog ;", ["hot dog", "dog"]),
        ("hot dog, dog", ["hot dog", "dog"]),
        ("cup, small", ["cup, small"]),
        ("cup, small|dog", ["cup, small", "dog"]),
        (unicodedata.normalize("NFD", "Käfer dog"), ["Käfer", "dog"]),
        ("kat", ["kat"]),
    ],
)
def test_a_cell_of_labels(cell, names):
    assert split_labels(cell, OWN) == names


def test_a_cell_that_is_one_class_or_several():
    assert split_labels("pineapple", FRUIT) == ["pineapple"]
    assert split_labels("tv monitor", VOC) == ["tv monitor"]  # both words are parts of it
    with pytest.raises(UserError, match=r"'pine apple' may be 'pineapple' or 2 classes; .*\|"):
        split_labels("pine apple", FRUIT)
