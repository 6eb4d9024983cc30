import sys

import numpy as np
import pytest
from PIL import Image

from utils.crf import crf_inference, require_crf
from utils.errors import UserError


@pytest.fixture
def scene():
    """A red and a blue half, and noisy probabilities of two classes that prefer their half."""
    rng = np.random.default_rng(0)
    image = np.zeros((24, 32, 3), dtype=np.uint8)
    image[:, :16, 0] = 230
    image[:, 16:, 2] = 230
    right = np.where(np.arange(32) < 16, 0.4, 0.6) + rng.uniform(-0.25, 0.25, size=(24, 32))
    return image, np.stack([1 - right, right])


def reference(image, probabilities):
    densecrf = pytest.importorskip("pydensecrf.densecrf")
    height, width = image.shape[:2]
    crf = densecrf.DenseCRF2D(width, height, len(probabilities))
    energy = -np.log(np.clip(probabilities, 1e-5, 1.0)).reshape(len(probabilities), -1)
    crf.setUnaryEnergy(np.ascontiguousarray(energy.astype(np.float32)))
    crf.addPairwiseGaussian(sxy=3, compat=3)
    crf.addPairwiseBilateral(sxy=80, srgb=13, rgbim=np.ascontiguousarray(image), compat=10)
    return np.array(crf.inference(10)).reshape(probabilities.shape)


def test_snaps_to_the_colour_edge(scene):
    image, probabilities = scene
    halves = np.broadcast_to(np.arange(32) >= 16, (24, 32))
    assert (probabilities.argmax(0) != halves).mean() > 0.1
    assert np.array_equal(crf_inference(image, probabilities).argmax(0), halves)


def test_is_pydensecrf_with_the_published_parameters(scene):
    image, probabilities = scene
    refined = crf_inference(image, probabilities)
    assert refined.dtype == np.float32 and refined.shape == probabilities.shape
    assert np.allclose(refined.sum(0), 1, atol=1e-5)
    assert np.array_equal(refined, reference(image, probabilities))


def test_takes_unnormalised_values_and_zeros(scene):
    image, probabilities = scene
    values = np.stack([probabilities[0] ** 3, probabilities[1], np.zeros((24, 32))])
    refined = crf_inference(image, values.astype(np.float32))
    assert np.isfinite(refined).all()
    assert np.array_equal(refined, reference(image, values.astype(np.float32)))


def test_memory_layout_does_not_matter(scene):
    image, probabilities = scene
    expected = crf_inference(image, probabilities)
    wide = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    scattered = np.moveaxis(np.ascontiguousarray(np.moveaxis(probabilities, 0, 2)), 2, 0)
    assert not scattered.flags.c_contiguous
    assert np.array_equal(crf_inference(wide[::2, ::2], scattered), expected)
    flipped = crf_inference(image[:, ::-1][:, ::-1], probabilities[:, :, ::-1][:, :, ::-1])
    assert np.array_equal(flipped, expected)


def test_arrays_that_cannot_be_written_to(scene):
    """As README's own recipe makes them: np.asarray of a Pillow image."""
    image, probabilities = scene
    expected = crf_inference(image, probabilities)
    opened = np.asarray(Image.fromarray(image))
    fixed = probabilities.copy()
    fixed.flags.writeable = False
    assert not opened.flags.writeable
    for present_only in (False, True):
        found = crf_inference(opened, fixed, present_only=present_only)
        assert np.array_equal(found, expected)
    wide = np.repeat(opened, 2, axis=1)
    wide.flags.writeable = False
    assert np.array_equal(crf_inference(wide[:, ::2], fixed), expected)


def test_inputs_stay_as_they_were(scene):
    image, probabilities = scene
    before = image.copy(), probabilities.copy()
    crf_inference(image, probabilities, steps=1)
    assert np.array_equal(image, before[0]) and np.array_equal(probabilities, before[1])


def test_parameters_reach_the_crf(scene):
    image, probabilities = scene
    # without pairwise weight what remains is the normalised unary
    unary = crf_inference(image, probabilities, gaussian_compat=0, bilateral_compat=0)
    assert np.allclose(unary, probabilities / probabilities.sum(0), atol=1e-5)
    assert not np.array_equal(
        crf_inference(image, probabilities, steps=1), crf_inference(image, probabilities)
    )


def test_present_classes_alone_are_a_smaller_crf(scene):
    image, probabilities = scene
    values = np.zeros((6, 24, 32), dtype=np.float32)
    values[[1, 4]] = probabilities
    alone = crf_inference(image, values, present_only=True)
    assert np.array_equal(alone[[1, 4]], reference(image, probabilities.astype(np.float32)))
    assert alone.dtype == np.float32 and not alone[[0, 2, 3, 5]].any()
    assert np.array_equal(alone.argmax(0), crf_inference(image, values).argmax(0))


def test_a_class_that_is_alone_is_everywhere(scene):
    image, probabilities = scene
    values = np.zeros((3, 24, 32), dtype=np.float32)
    values[1, 4:8] = probabilities[0, 4:8]
    assert (crf_inference(image, values, present_only=True).argmax(0) == 1).all()


def test_without_any_mass_all_classes_take_part(scene):
    image, probabilities = scene
    nothing = np.zeros_like(probabilities)
    alone = crf_inference(image, nothing, present_only=True)
    assert np.array_equal(alone, crf_inference(image, nothing))


def test_wrong_arrays_are_refused(scene):
    image, probabilities = scene
    bad = [
        (image.astype(np.float32), probabilities),
        (image[..., :2], probabilities),
        (image, probabilities[:, :-1]),
        (image, probabilities[0]),
        (image, probabilities > 0.5),
        (image, np.full_like(probabilities, np.nan)),
    ]
    for wrong_image, wrong_probabilities in bad:
        with pytest.raises(ValueError):
            crf_inference(wrong_image, wrong_probabilities)


def test_missing_pydensecrf_names_the_package(scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    monkeypatch.setitem(sys.modules, "pydensecrf.utils", None)
    with pytest.raises(UserError, match="pip install pydensecrf2"):
        crf_inference(*scene)


def test_pydensecrf_is_asked_for_beforehand(monkeypatch):
    require_crf("leave it out")
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    with pytest.raises(UserError, match=r"pip install pydensecrf2.*; leave it out$"):
        require_crf("leave it out")
