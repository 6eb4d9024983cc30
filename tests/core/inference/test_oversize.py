"""Images that TEST.PAD_SIZE does not hold: the window grows, or the image is seen smaller."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from core.config import InferenceConfig
from core.inference.predict import Predictor
from core.inference.samples import Sample
from core.inference.tta import STEP, describe_oversize, tta_views

CLASSES = 3
CPU = torch.device("cpu")
MULTICROP = {"METHOD": "multicrop", "PAD_SIZE": (24, 30), "CROP_SIZE": (16, 20)}


class Seeing(nn.Module):
    """Answers that depend on content, place and window; it notes the batches that it is shown."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        rows = torch.linspace(0, 1, images.shape[2])[:, None]
        masks = (images + rows).softmax(1)
        return images.mean((2, 3))[:, : CLASSES - 1], masks


def settings(**keys):
    return InferenceConfig(**{"NUM_CLASSES": CLASSES, "PAD_SIZE": (40, 40), **keys})


def make_sample(height, width):
    coarse = np.random.default_rng(7).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Sample("a", Image.fromarray(coarse).resize((width, height)))


def run(sample, test):
    model = Seeing()
    [(_, merged, _)] = Predictor(model, test, CPU).predict([sample])
    assert merged.shape == (CLASSES, *sample.size)
    return merged, model.shapes


def test_the_window_grows_to_the_least_size_that_holds_all_views():
    sample = make_sample(15, 27)
    merged, shapes = run(sample, settings())
    assert {shape[2:] for shape in shapes} == {(40, 54)}
    expected, _ = run(sample, settings(PAD_SIZE=(40, 54)))
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)


def test_grown_windows_go_in_smaller_groups():
    # four times the pixels of PAD_SIZE, two views' worth of which are allowed at a time
    _, shapes = run(make_sample(40, 40), settings(BATCH_SIZE=8))
    assert {shape[0] for shape in shapes} == {2}
    _, shapes = run(make_sample(400, 40), settings(BATCH_SIZE=2))
    assert {shape[0] for shape in shapes} == {1}
    _, shapes = run(make_sample(20, 20), settings(BATCH_SIZE=8))
    assert {shape[0] for shape in shapes} == {8}


@pytest.mark.parametrize("size, factor", [((15, 27), 40 / 54), ((80, 11), 0.25)])
def test_shrinking_multiplies_all_scales(size, factor):
    test = settings(OVERSIZE="shrink")
    merged, shapes = run(make_sample(*size), test)
    assert {shape[2:] for shape in shapes} == {(40, 40)}
    smaller = settings(SCALES=tuple(scale * factor for scale in test.SCALES))
    np.testing.assert_array_equal(merged, run(make_sample(*size), smaller)[0])


def test_the_number_of_crops_grows():
    sample = make_sample(41, 47)
    test = settings(**MULTICROP)
    views = tta_views(sample.size, test)
    assert {view.window for view in views} == {(16, 20)}
    # 41 rows take three crops of 16, 47 columns three of 20
    assert len(views) == 3 * 3 * 2
    merged, _ = run(sample, test)
    same = settings(**MULTICROP | {"PAD_SIZE": (41, 47), "CROP_GRID_SIZE": (3, 3)})
    np.testing.assert_array_equal(merged, run(sample, same)[0])


@pytest.mark.parametrize("size", [(25, 20), (20, 31), (100, 1), (33, 61), (24, 300), (49, 41)])
@pytest.mark.parametrize("oversize", ["grow", "shrink"])
def test_crops_leave_no_pixel_out(size, oversize):
    test = settings(**MULTICROP, OVERSIZE=oversize, FLIP=False)
    views = tta_views(size, test)
    seen = np.zeros(views[0].size, int)
    for view in views:
        (top, left), (height, width) = view.corner, view.window
        assert (height, width) == test.CROP_SIZE
        seen[max(top, 0) : top + height, max(left, 0) : left + width] += 1
    assert seen.min() > 0
    if oversize == "shrink":
        assert len(views) == 4
        assert seen.shape[0] <= 24 and seen.shape[1] <= 30


def test_crops_of_a_smaller_image_come_out_at_its_own_size():
    sample = make_sample(48, 45)
    test = settings(**MULTICROP, OVERSIZE="shrink", FLIP=False, FP_CUT_SCORE=-1)
    merged, _ = run(sample, test)
    # half the size, which fills the padding's 24 rows; its 22 or 23 columns lie in the middle
    small = sample.image.resize((22, 24), Image.Resampling.BICUBIC)
    tensor = torch.tensor(np.asarray(small)).permute(2, 0, 1) / 255
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    padded = torch.zeros(3, 24, 30)
    padded[:, :, 4:26] = (tensor - mean[:, None, None]) / deviation[:, None, None]
    total, count = torch.zeros(CLASSES, 24, 30), torch.zeros(1, 24, 30)
    for top in (0, 8):
        for left in (0, 10):
            window = (slice(None), slice(top, top + 16), slice(left, left + 20))
            total[window] += Seeing()(padded[window][None])[1][0]
            count[window] += 1
    large = [
        F.interpolate(each[None, :, :, 4:26], sample.size, mode="bilinear", align_corners=False)[0]
        for each in (total, count)
    ]
    np.testing.assert_allclose(merged, large[0] / large[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 9), (9, 1), (1, 1), (1, 300)])
@pytest.mark.parametrize("keys", [{}, MULTICROP])
@pytest.mark.parametrize("oversize", ["grow", "shrink"])
def test_a_pixel_is_the_least_that_is_seen(size, keys, oversize):
    test = settings(**keys, OVERSIZE=oversize)
    merged, _ = run(make_sample(*size), test)
    assert np.isfinite(merged).all()
    assert min(min(view.size) for view in tta_views(size, test)) == 1


@pytest.mark.parametrize("keys", [{}, MULTICROP])
def test_images_that_fit_do_not_feel_the_key(keys):
    # twice 20 fills PAD_SIZE exactly
    sample = make_sample(20, 20)
    grown, shrunk = (run(sample, settings(**keys, OVERSIZE=how))[0] for how in ("grow", "shrink"))
    np.testing.assert_array_equal(grown, shrunk)
    assert describe_oversize({"a": (20, 20)}, settings(**keys)) == ""


def test_what_is_done_is_told():
    sizes = {"small.jpg": (20, 20), "b.jpg": (15, 27), "c.jpg": (90, 10)}
    line = describe_oversize(sizes, settings())
    for words in ("2 of 3 images", "b.jpg (15×27, seen at 30×54)", "grow, to 180×54 at most"):
        assert words in line
    assert "TEST.OVERSIZE shrink" in line and "[40, 40]" in line and "\n" not in line
    line = describe_oversize(sizes, settings(OVERSIZE="shrink"))
    for words in ("2 of 3 images", "times 0.22 or more", "TEST.OVERSIZE grow"):
        assert words in line
    line = describe_oversize({"b.jpg": (25, 31)}, settings(**MULTICROP))
    assert "1 of 1 images" in line and "seen as it is" in line


@pytest.mark.parametrize(("height", "width"), [(15, 27), (16, 48), (31, 9)])
def test_fitting_windows_hold_each_view_and_less_than_a_step_more(height, width):
    test = settings(WINDOW="fit", SCALES=(1.0, 0.5, 0.75), PAD_SIZE=(100, 100))
    views = tta_views((height, width), test)
    assert [view.size for view in views[::2]] == [
        (height, width),
        *((round(height * scale), round(width * scale)) for scale in (0.5, 0.75)),
    ]
    for view in views:
        assert view.shows_all
        for length, extent in zip(view.size, view.window, strict=True):
            assert extent % STEP == 0 and 0 <= extent - length < STEP
        # in the middle, the smaller half of what is left over above and on the left
        assert view.corner == tuple(
            -((extent - length) // 2) for length, extent in zip(view.size, view.window, strict=True)
        )


@pytest.mark.parametrize("labels", [None, np.float32([0, 1])])
def test_what_fitting_windows_show_is_what_is_merged(labels):
    """Each scale alone in a padded window of that size is the slow formulation."""
    sample = dataclasses.replace(make_sample(15, 27), labels=labels)
    keys = {"SCALES": (1.0, 0.5, 1.5), "BG_POW": 1.0, "FP_CUT_SCORE": -1.0}
    merged, shapes = run(sample, settings(**keys, WINDOW="fit"))
    windows = [(16, 32), (16, 16), (32, 48)]
    assert shapes == [(2, 3, *window) for window in windows]
    parts = [
        run(sample, settings(**{**keys, "SCALES": (scale,)}, PAD_SIZE=window))[0]
        for scale, window in zip(keys["SCALES"], windows, strict=True)
    ]
    np.testing.assert_allclose(merged, np.mean(parts, axis=0), rtol=1e-5, atol=1e-6)


def test_fitting_windows_have_no_more_pixels_than_the_padded_one():
    test = settings(WINDOW="fit", OVERSIZE="grow", PAD_SIZE=(64, 64))
    assert tta_views((20, 40), test)[-1].size == (40, 80)  # wider than PAD_SIZE, but not larger
    sizes = [view.size for view in tta_views((200, 400), test)[::2]]
    assert sizes[-1] == (45, 91) and sizes[0] == (23, 45)
    assert describe_oversize({"a": (20, 40)}, test) == ""
    line = describe_oversize({"a": (20, 40), "b": (200, 400)}, test)
    for words in ("1 of 2 images", "times 0.11 or more", "TEST.PAD_SIZE"):
        assert words in line
    assert "grow" not in line
    merged, _ = run(make_sample(200, 400), test)
    assert merged.shape == (CLASSES, 200, 400)


def test_crops_are_as_large_as_ever_with_fitting_windows():
    views, expected = (
        tta_views((20, 26), settings(**MULTICROP, WINDOW=window)) for window in ("fit", "pad")
    )
    assert views == expected


@pytest.mark.parametrize("size", [1, 2, 8])
def test_masks_that_wait_for_labels_are_merged_as_others(size):
    """Whether all views' masks are kept until all scores are known depends on their pixels."""
    sample = make_sample(15, 27)
    keys = {"PAD_SIZE": (40, 60)}
    [(_, _, scores)] = Predictor(Seeing(), settings(**keys), CPU).predict([sample])
    keys["FP_CUT_SCORE"] = float(scores.mean())
    merged, _ = run(sample, settings(**keys, BATCH_SIZE=size))
    labelled = dataclasses.replace(sample, labels=(merged[1:].max((1, 2)) > 0).astype(np.float32))
    assert 0 < labelled.labels.sum() < CLASSES - 1
    expected, _ = run(labelled, settings(**keys, BATCH_SIZE=8))
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)
