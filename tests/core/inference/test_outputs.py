"""What is written beside plain masks: pixels left out, merged masks, CRF or none."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image
from result_case import CLASSES, colours, files_below, make_result, outputs

from core.inference.writing import (
    Outputs,
    label_map,
    load_probabilities,
    save_probabilities,
    write_result,
)
from datasets.files import read_mask
from utils.crf import crf_inference
from utils.errors import UserError

IGNORED = 255


def labels_pixel_by_pixel(values: np.ndarray, limit: float) -> np.ndarray:
    _, height, width = values.shape
    labels = np.empty((height, width), dtype=np.int64)
    for row in range(height):
        for column in range(width):
            pixel = [float(value) for value in values[:, row, column]]
            best = max(pixel)
            confident = sum(pixel) > 0 and best / sum(pixel) >= limit
            labels[row, column] = pixel.index(best) if confident else IGNORED
    return labels


@pytest.mark.parametrize("limit", [0.4, 0.75, 1.0])
def test_pixels_of_low_confidence_are_left_out(limit):
    values = make_result(height=20, width=30).merged
    values[0] **= 3
    values[:, 3, 4] = 0
    values[1:, 5, 6], values[0, 5, 6] = 0, 0.01
    labels = label_map(values, limit, IGNORED)
    np.testing.assert_array_equal(labels, labels_pixel_by_pixel(values, limit))
    assert labels[3, 4] == IGNORED and labels[5, 6] == 0
    assert 0 < (labels == IGNORED).mean() < 1


def test_without_a_limit_each_pixel_has_a_class():
    values = make_result().merged
    values[:, 3, 4] = 0
    np.testing.assert_array_equal(label_map(values, 0.0, IGNORED), values.argmax(axis=0))


def test_the_crf_goes_by_its_own_confidence(tmp_path):
    result = make_result()
    write_result(outputs(tmp_path, min_confidence=0.999), *result)
    plain = labels_pixel_by_pixel(result.merged, 0.999)
    refined = labels_pixel_by_pixel(crf_inference(result.image, result.merged), 0.999)
    assert (refined != plain).any() and (refined == IGNORED).any()
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), plain)
    np.testing.assert_array_equal(read_mask(tmp_path / "crf/a.png"), refined)
    shown = np.array(Image.open(tmp_path / "vis/a.png"))[:, : plain.shape[1]][plain == IGNORED]
    expected = 0.7 * colours(IGNORED) + 0.3 * result.image[plain == IGNORED]
    assert np.abs(shown - expected).max() <= 0.5 + 1e-6


@pytest.mark.parametrize("ground_truth", [True, False])
def test_without_crf(tmp_path, monkeypatch, ground_truth):
    monkeypatch.setitem(sys.modules, "pydensecrf", None)
    result = make_result(ground_truth=ground_truth)
    write_result(outputs(tmp_path, crf=False), *result)
    assert files_below(tmp_path) == ["a.png", "vis/a.png"]
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), result.merged.argmax(axis=0))
    masks = [result.merged.argmax(axis=0), *([result.ground_truth] if ground_truth else [])]
    panels = np.concatenate([0.7 * colours(mask) + 0.3 * result.image for mask in masks], axis=1)
    assert np.abs(np.array(Image.open(tmp_path / "vis/a.png")) - panels).max() <= 0.5 + 1e-6


def test_a_crf_of_present_classes(tmp_path):
    result = make_result(height=24, width=24)
    result.merged[5:] = 0
    result.merged[[1, 3]] = 0
    write_result(outputs(tmp_path, crf_present_only=True), *result)
    present = [0, 2, 4]
    alone = crf_inference(result.image, result.merged[present]).argmax(axis=0)
    np.testing.assert_array_equal(read_mask(tmp_path / "crf/a.png"), np.array(present)[alone])


def test_merged_masks_are_kept_as_they_were(tmp_path):
    result = make_result()
    result.merged[[2, 9]] = 0
    write_result(outputs(tmp_path, probabilities=True), *result)
    assert files_below(tmp_path) == ["a.png", "crf/a.png", "prob/a.npz", "vis/a.png"]
    read = load_probabilities(tmp_path / "prob/a.npz")
    assert (read.dtype, read.shape) == (np.float32, (CLASSES, 10, 12))
    np.testing.assert_array_equal(read, result.merged)
    with np.load(tmp_path / "prob/a.npz") as file:
        assert file["classes"].tolist() == [c for c in range(CLASSES) if c not in (2, 9)]


def test_masks_that_are_all_zero_keep_their_size(tmp_path):
    save_probabilities(tmp_path / "a.npz", np.zeros((CLASSES, 4, 5), np.float32))
    assert load_probabilities(tmp_path / "a.npz").shape == (CLASSES, 4, 5)


def test_merged_masks_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match=r"a\.npz does not exist.*--save-probabilities"):
        load_probabilities(path)
    save_probabilities(path, make_result().merged)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    for content in (
        *(whole[: len(whole) * part // 10] for part in range(10)),
        *(whole[:at] + b"\x00\xff\x00\xff" + whole[at + 4 :] for at in range(40, len(whole), 211)),
        (tmp_path / "other.npz").read_bytes(),
        (tmp_path / "array.npy").read_bytes(),
        b"text",
    ):
        path.write_bytes(content)
        try:
            read = load_probabilities(path)
        except UserError as error:
            assert "a.npz cannot be read" in str(error)
        else:
            # bytes that nothing depends on, such as a time
            np.testing.assert_array_equal(read, make_result().merged)


def test_the_same_result_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        settings = Outputs(tmp_path / name, outputs(tmp_path).palette, IGNORED, probabilities=True)
        write_result(settings, *make_result())
    for name in files_below(tmp_path / "first"):
        assert (tmp_path / "first" / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


def test_classes_that_are_absent_change_no_label():
    """Only the others are compared, with the background, which wins where all are 0."""
    random = np.random.default_rng(0)
    values = np.zeros((9, 6, 7), np.float32)
    values[[3, 5]] = random.integers(0, 3, (2, 6, 7))  # with ties, and pixels without any
    assert (values.max(axis=0) == 0).any() and (values[3] == values[5]).any()
    np.testing.assert_array_equal(label_map(values, 0.0, IGNORED), values.argmax(axis=0))
    labels = label_map(values, 0.6, IGNORED)
    unsure = values.max(axis=0) < 0.6 * values.sum(axis=0)
    unsure |= values.sum(axis=0) == 0
    np.testing.assert_array_equal(labels == IGNORED, unsure)
