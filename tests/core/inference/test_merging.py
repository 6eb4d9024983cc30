"""Merging views: what is left out of the work changes nothing of the result."""

import pytest
import torch

from core.config import InferenceConfig
from core.inference.predict import Merger
from core.inference.tta import tta_views

SIZE = (14, 17)
LABELS = torch.tensor([0.0, 1.0, 0.0])


@pytest.fixture(params=["multiscale", "multicrop"])
def views(request):
    test = InferenceConfig(
        METHOD=request.param, PAD_SIZE=(28, 34), CROP_SIZE=(15, 18), NUM_CLASSES=4
    )
    return tta_views(SIZE, test)


def answers(views):
    torch.manual_seed(0)
    return torch.randn(len(views), 3), torch.rand(len(views), 4, *views[0].window)


def merge(views, scores, masks, labels=None):
    merger = Merger(SIZE)
    if labels is not None:
        merger.expect(labels)
    for start in range(0, len(views), 3):
        merger.add_scores(scores[start : start + 3])
        merger.add_masks(views[start : start + 3], masks[start : start + 3])
    return merger.merged(LABELS)


def test_labels_known_beforehand_change_nothing(views):
    scores, masks = answers(views)
    merged = merge(views, scores, masks)
    assert merged[[0, 2]].amin() > 0 and not merged[[1, 3]].any()
    torch.testing.assert_close(merge(views, scores, masks, LABELS), merged)


def test_absent_objects_are_not_looked_at(views):
    scores, masks = answers(views)
    expected = merge(views, scores, masks)
    masks[:, [1, 3]] = float("nan")
    torch.testing.assert_close(merge(views, scores, masks, LABELS), expected)


def test_masks_of_low_precision_are_merged_in_float32(views):
    scores, masks = answers(views)
    half = masks.half()
    assert torch.equal(merge(views, scores, half), merge(views, scores, half.float()))


def test_the_masks_given_stay_as_they_are():
    view = tta_views(SIZE, InferenceConfig(PAD_SIZE=SIZE, SCALES=(1.0,), FLIP=False))
    masks = torch.rand(1, 4, *SIZE)
    before = masks.clone()
    for labels in (None, LABELS):
        merge(view, torch.zeros(1, 3), masks, labels)
    assert torch.equal(masks, before)
