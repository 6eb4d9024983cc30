"""The Python interface of inference."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import core.inference
from core.config import load_config
from core.inference.predict import Predictor
from core.inference.samples import Sample
from core.inference.segmenter import Segmenter
from utils.crf import crf_inference
from utils.errors import UserError

PIXELS = np.array(
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize(
        (30, 20)
    )
)
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def segmenter(trained):
    return Segmenter.from_snapshot(trained.snapshot, trained.config, device="cpu")


def test_it_is_found_where_it_is_looked_for():
    assert core.inference.Segmenter is Segmenter
    with pytest.raises(AttributeError, match="Segmentor"):
        _ = core.inference.Segmentor


def test_the_package_alone_does_without_torch():
    code = "import core.inference, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_it_gives(segmenter):
    result = segmenter.predict(PIXELS)
    assert result.mask.shape == (20, 30) and result.mask.dtype == np.uint8
    assert result.labels is result.mask  # its former name
    assert result.probabilities.shape == (21, 20, 30)
    assert result.probabilities.dtype == np.float32
    assert result.scores.shape == (20,) and result.scores.dtype == np.float32
    np.testing.assert_array_equal(result.mask, result.probabilities.argmax(0))
    kept = result.probabilities[1:].any((1, 2))
    assert not kept[result.scores <= segmenter.test.FP_CUT_SCORE].any()


def test_it_gives_what_inference_gives(segmenter):
    sample = Sample("a", Image.fromarray(PIXELS))
    predictor = Predictor(segmenter.model, segmenter.test, torch.device("cpu"))
    [(_, expected, scores)] = predictor.predict([sample])
    np.testing.assert_array_equal(segmenter.predict(PIXELS).probabilities, expected)
    np.testing.assert_array_equal(segmenter.predict(PIXELS).scores, scores)
    [(returned, merged, _)] = segmenter.predict_stream([sample])
    assert returned is sample
    np.testing.assert_array_equal(merged, expected)


def test_images_in_all_their_forms(segmenter, tmp_path):
    expected = segmenter.predict(PIXELS).probabilities
    image = Image.fromarray(PIXELS)
    image.save(tmp_path / "a.png")
    opaque = image.convert("RGBA")
    # arrays that cannot be written to, that are not in C's order
    arrays = np.asarray(image), np.repeat(PIXELS, 2, axis=1)[:, ::2]
    for form in (image, opaque, *arrays, tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(segmenter.predict(form).probabilities, expected)


def test_a_path_is_turned_upright_and_an_opened_image_is_not(segmenter, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
    assert segmenter.predict(tmp_path / "a.png").mask.shape == (30, 20)
    assert segmenter.predict(Image.open(tmp_path / "a.png")).mask.shape == (20, 30)


def test_labels_decide_what_there_is(segmenter):
    every = segmenter.predict(PIXELS, image_labels=range(1, 21)).probabilities
    named = segmenter.predict(PIXELS, image_labels=["cat", "tv"])
    expected = np.zeros_like(every)
    expected[[0, 8, 20]] = every[[0, 8, 20]]
    assert expected[1:].any()
    np.testing.assert_allclose(named.probabilities, expected, rtol=1e-5, atol=1e-6)
    by_index = segmenter.predict(PIXELS, labels=[8, 20])  # the former name
    np.testing.assert_array_equal(named.probabilities, by_index.probabilities)
    assert not segmenter.predict(PIXELS, image_labels=[]).mask.any()
    np.testing.assert_array_equal(named.scores, segmenter.predict(PIXELS).scores)


def test_labels_that_the_configuration_demands(segmenter, trained):
    cfg = load_config(trained.config, ["TEST.USE_GT_LABELS", "True"])
    demanding = Segmenter(segmenter.model, cfg.TEST, segmenter.device, segmenter.info)
    with pytest.raises(UserError, match=r"TEST\.USE_GT_LABELS False"):
        demanding.predict(PIXELS)
    assert demanding.predict(PIXELS, image_labels=[1]).mask.max() <= 1


def test_the_crf(segmenter):
    plain, refined = segmenter.predict(PIXELS), segmenter.predict(PIXELS, crf=True)
    expected = crf_inference(PIXELS, plain.probabilities)
    np.testing.assert_allclose(refined.probabilities, expected, atol=1e-6)
    np.testing.assert_array_equal(refined.mask, refined.probabilities.argmax(0))


def test_pixels_of_low_confidence_have_no_label(segmenter):
    masks = segmenter.predict(PIXELS).probabilities
    share = masks.max(0) / masks.sum(0)
    limit = float(np.median(share))
    test = replace(segmenter.test, MIN_CONFIDENCE=limit)
    demanding = Segmenter(segmenter.model, test, segmenter.device, segmenter.info)
    mask = demanding.predict(PIXELS).mask
    unclear = share < limit - 1e-6
    assert unclear.any() and (mask[unclear] == 255).all()
    clear = share > limit + 1e-6
    assert clear.any() and (mask[clear] == masks.argmax(0)[clear]).all()


@pytest.mark.parametrize(
    "image, words",
    [
        (np.zeros((4, 5), np.uint8), "found 4×5 of uint8"),
        (np.zeros((4, 5, 3), np.float32), "of float32"),
        (np.zeros((4, 5, 4), np.uint8), "4×5×4"),
        (np.zeros((0, 5, 3), np.uint8), "0×5×3"),
        (Image.new("F", (3, 3)), "floating-point"),
        ("gone.png", r"gone\.png does not exist"),
        (None, "NoneType"),
    ],
)
def test_images_that_cannot_be_used(segmenter, image, words):
    with pytest.raises(UserError, match=words):
        segmenter.predict(image)


def test_snapshots_and_configurations_that_cannot_be_used(trained, tmp_path):
    with pytest.raises(UserError, match=r"gone\.pth"):
        Segmenter.from_snapshot(tmp_path / "gone.pth", trained.config)
    with pytest.raises(UserError, match=r"gone\.yaml"):
        Segmenter.from_snapshot(trained.snapshot, tmp_path / "gone.yaml")
    cfg = load_config(trained.config)
    with pytest.raises(UserError, match=r"TEST\.NUM_CLASSES is 20"):
        Segmenter.from_snapshot(
            trained.snapshot, replace(cfg, TEST=replace(cfg.TEST, NUM_CLASSES=20))
        )
    with pytest.raises(UserError, match="--device"):
        Segmenter.from_snapshot(trained.snapshot, cfg, device="abacus")


def test_segmenting_leaves_pytorchs_switches_as_they_were(segmenter, monkeypatch):
    for allowed in (True, False):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", allowed)
        segmenter.predict(PIXELS)
        assert torch.backends.cudnn.allow_tf32 == allowed


def test_a_device_is_tried_before_the_snapshot_is_read(trained, monkeypatch):
    def broken(*arguments):
        raise RuntimeError("CUDA error: no kernel image is available")

    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.nn.functional, "conv2d", broken)
    monkeypatch.setattr(torch, "ones", lambda *size, device: None)
    with pytest.raises(UserError, match=r"mps: .*no kernel image.*--device cpu"):
        Segmenter.from_snapshot(trained.snapshot, trained.config, device="mps")
