"""The straightforward formulations against ours, at small sizes; files to measure with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import (
    bf16_cases,
    file_cases,
    growth_inference,
    inference_cases,
    straightforward_inference,
)
from benchmarks.meters import tensor_peak
from benchmarks.voc_like import blobs, photograph, write_samples
from core.config import InferenceConfig
from core.inference.predict import Merger
from core.inference.tta import tta_views
from datasets.transforms import normalise
from utils.metrics import confusion_matrix

SIZE = (12, 16)
LABELS = torch.tensor([1.0, 0.0, 0.0])


def test_merging():
    views = tta_views(SIZE, InferenceConfig(PAD_SIZE=(33, 35)))
    masks = torch.rand(len(views), 4, 33, 35)
    merger = Merger(SIZE)
    merger.expect(LABELS)
    merger.add_masks(views, masks)
    expected = straightforward_inference.merge(views, masks, LABELS, SIZE)
    torch.testing.assert_close(merger.merged(LABELS), expected)


def test_memory_of_merging_does_not_grow_with_the_views():
    def peak(scales: tuple[float, ...]) -> int:
        views = tta_views(SIZE, InferenceConfig(PAD_SIZE=SIZE, SCALES=scales))
        masks = torch.rand(len(views), 4, *SIZE)
        merger = Merger(SIZE)
        return tensor_peak(lambda: merger.add_masks(views, masks))[1]

    assert peak((0.5, 0.6)) == peak((0.5, 0.6, 0.7, 0.4))


def test_inference_of_all_views(thin_vgg16):
    case = inference_cases.eight_views(torch.device("cpu"), "vgg16", (40, 48), (96, 96))
    assert case.difference(case.ours(), case.baseline()) <= case.tolerance


def test_rows_in_16_bits(thin_vgg16):
    cpu = torch.device("cpu")
    cases = [
        bf16_cases.aspp(cpu, channels=32, side=20),
        bf16_cases.view(cpu, "vgg16", side=64),
        bf16_cases.own_image(cpu, "vgg16", (40, 48), (96, 96)),
    ]
    for case in cases:
        baseline, ours = case.check or (case.baseline, case.ours)
        assert case.precision == torch.bfloat16
        assert case.difference(ours(), baseline()) <= case.tolerance
    assert cases[2].baseline_scale == 8 and cases[2].baseline().shape[-2:] == (96, 96)


@pytest.mark.slow
def test_growth_of_inference(monkeypatch):
    monkeypatch.setattr(growth_inference, "SIDES", (33, 65))
    monkeypatch.setattr(growth_inference, "CLASSES", (2, 3))
    monkeypatch.setattr(growth_inference, "SIDE", 33)
    monkeypatch.setattr(growth_inference, "REPETITIONS", 1)
    rows = growth_inference.measure()
    assert [(row["axis"], row["side"], row["classes"]) for row in rows] == [
        ("side", 33, 21),
        ("side", 65, 21),
        ("classes", 33, 2),
        ("classes", 33, 3),
    ]
    assert rows[1]["mb"] > rows[0]["mb"] > 0 and all(row["seconds"] > 0 for row in rows)


def test_the_loop_over_pixels():
    random = np.random.default_rng(0)
    values = np.array([0, 1, 20, 255], dtype=np.uint8)
    truth, prediction = random.choice(values, (2, 7, 9))
    expected = straightforward_inference.confusion_matrix(truth, prediction)
    assert np.array_equal(confusion_matrix(truth, prediction, 21), expected)


def test_samples_of_both_sides(tmp_path):
    entries = write_samples(tmp_path, 2)
    samples = file_cases.training_samples(entries)
    ours = [samples[file_cases.EPOCH, index] for index in range(2)]
    ours = [(normalise(image), labels) for image, labels in ours]
    theirs = file_cases.pillow_samples(entries)
    assert file_cases.share_beyond_rounding(ours, theirs) < 0.002
    assert file_cases.share_beyond_rounding(ours, theirs[::-1]) == 1


def test_files_are_like_vocs():
    assert photograph(3).shape == (375, 500, 3) and photograph(3).dtype == np.uint8
    mask = blobs(3)
    assert mask.shape == (375, 500) and mask.dtype == np.uint8
    values = set(np.unique(mask).tolist())
    assert {0, 255} < values and 2 <= len(values - {0, 255}) <= 3
    assert not np.array_equal(blobs(4), mask)


@pytest.mark.parametrize("threads", [1, 2])
def test_one_thread_is_for_the_call_alone(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert file_cases.on_one_thread(torch.get_num_threads)() == 1
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
