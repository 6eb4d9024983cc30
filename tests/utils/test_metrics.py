import numpy as np
import pytest

from utils.metrics import (
    average_precision,
    best_threshold,
    class_agreement,
    confusion_matrix,
    joint_histogram,
    segmentation_scores,
)


@pytest.fixture
def labels():
    """Ground truth and prediction with every kind of value: classes, ambiguous, no class."""
    rng = np.random.default_rng(0)
    values = np.array([0, 1, 2, 5, 20, 255], dtype=np.uint8)
    ground_truth = rng.choice(values, size=(13, 17))
    prediction = rng.choice(np.append(values, [21, 254]).astype(np.uint8), size=(13, 17))
    return ground_truth, prediction


def test_confusion_matrix_counts_like_a_loop(labels):
    ground_truth, prediction = labels
    expected = np.zeros((21, 21), dtype=np.int64)
    for true, predicted in zip(ground_truth.flat, prediction.flat, strict=True):
        if true < 21 and predicted < 21:
            expected[true, predicted] += 1
    counts = confusion_matrix(ground_truth, prediction, 21)
    assert counts.dtype == np.int64
    assert np.array_equal(counts, expected)


def test_scores_count_like_a_loop(labels):
    ground_truth, prediction = labels
    histogram = joint_histogram(ground_truth, prediction, 21)
    scores = segmentation_scores(histogram)
    agreement = class_agreement(histogram)
    for index in range(21):
        tp = fp = fn = 0
        for true, predicted in zip(ground_truth.flat, prediction.flat, strict=True):
            if true == 255:
                continue
            tp += true == index and predicted == index
            fn += true == index and predicted != index
            fp += true != index and predicted == index
        assert scores.pixels[index] == tp + fn
        assert scores.iou[index] == pytest.approx(tp / (tp + fn + fp) if tp + fn + fp else 0)
        assert scores.precision[index] == pytest.approx(tp / (tp + fp) if tp + fp else 0)
        assert scores.recall[index] == pytest.approx(tp / (tp + fn) if tp + fn else 0)
        assert agreement[index] == tp - fn - fp


def test_scores_by_hand():
    ground_truth = np.array([[0, 0, 0, 0], [1, 1, 1, 255]], dtype=np.uint8)
    prediction = np.array([[0, 0, 1, 255], [1, 1, 0, 1]], dtype=np.uint8)
    # class 0: TP 2, FN 2 (one as 1, one as no class), FP 1; class 1: TP 2, FN 1, FP 1
    histogram = joint_histogram(ground_truth, prediction, num_classes=3)
    assert histogram.tolist() == [[2, 1, 0, 1], [1, 2, 0, 0], [0, 0, 0, 0]]
    scores = segmentation_scores(histogram)
    assert scores.pixels.tolist() == [4, 3, 0]
    assert scores.iou == pytest.approx([2 / 5, 2 / 4, 0])
    assert scores.precision == pytest.approx([2 / 3, 2 / 3, 0])
    assert scores.recall == pytest.approx([2 / 4, 2 / 3, 0])
    assert class_agreement(histogram).tolist() == [-1, 0, 0]


def test_histograms_add_up(labels):
    ground_truth, prediction = labels
    parts = sum(
        joint_histogram(ground_truth[i : i + 1], prediction[i : i + 1], 21) for i in range(13)
    )
    assert np.array_equal(parts, joint_histogram(ground_truth, prediction, 21))


def test_class_only_predicted_is_a_false_alarm_with_zero_scores():
    scores = segmentation_scores(joint_histogram(np.zeros((2, 2), int), np.full((2, 2), 1), 3))
    assert scores.iou.tolist() == scores.precision.tolist() == scores.recall.tolist() == [0, 0, 0]
    assert scores.pixels.tolist() == [4, 0, 0]


def test_labels_of_any_integer_type_and_class_count():
    ground_truth, prediction = np.array([299, 300, 0]), np.array([299, 0, 4000])
    histogram = joint_histogram(ground_truth, prediction, num_classes=300)
    assert histogram[299, 299] == 1 and histogram[0, 300] == 1 and histogram.sum() == 2
    # more classes than the type has values
    few = joint_histogram(np.array([7, 0], np.uint8), np.array([255, 0], np.uint64), 300)
    assert few[7, 255] == 1 and few[0, 0] == 1 and few.sum() == 2


@pytest.mark.parametrize(
    ("ground_truth", "prediction"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8)),
        (np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.float32)),
        (np.full((2, 2), -1), np.zeros((2, 2), np.uint8)),
    ],
)
def test_wrong_labels_are_refused(ground_truth, prediction):
    with pytest.raises(ValueError):
        confusion_matrix(ground_truth, prediction, 21)


def test_square_matrix_is_no_joint_histogram():
    with pytest.raises(ValueError, match="K × "):
        segmentation_scores(np.zeros((3, 3), np.int64))


def test_average_precision_like_a_loop():
    rng = np.random.default_rng(1)
    targets = (rng.random((40, 5)) < 0.3).astype(np.float32)
    targets[:, 3] = 0
    scores = rng.normal(size=(40, 5))
    precision, mean = average_precision(targets, scores)
    for index in (0, 1, 2, 4):
        # the mean, over the positives, of the precision among what ranks at least as high
        values = []
        for true, score in zip(targets[:, index], scores[:, index], strict=True):
            if true:
                above = scores[:, index] >= score
                values.append(targets[above, index].sum() / above.sum())
        assert precision[index] == pytest.approx(np.mean(values))
    assert np.isnan(precision[3])
    assert mean == pytest.approx(precision[[0, 1, 2, 4]].mean())


def test_average_precision_without_any_positive_is_nan():
    precision, mean = average_precision(np.zeros((3, 2)), np.ones((3, 2)))
    assert np.isnan(precision).all() and np.isnan(mean)


@pytest.mark.parametrize("scores", [np.ones((2, 3)), np.full((2, 2), np.nan)])
def test_average_precision_refuses_wrong_scores(scores):
    with pytest.raises(ValueError):
        average_precision(np.ones((2, 2)), scores)


def test_the_best_threshold_like_a_loop():
    chance = np.random.default_rng(3)
    targets = chance.integers(0, 2, (60, 5))
    targets[:, 4] = 0  # a class that does not occur has no say
    scores = np.clip(0.3 * targets + chance.uniform(0, 0.6, targets.shape), 0, 1)

    def mean_f1(threshold):
        values = []
        for index in range(4):
            found, has = scores[:, index] > threshold, targets[:, index] > 0
            precision = (found & has).sum() / max(found.sum(), 1)
            recall = (found & has).sum() / has.sum()
            values.append(2 * precision * recall / max(precision + recall, 1e-9))
        return np.mean(values)

    best = best_threshold(targets, scores)
    assert mean_f1(best) == pytest.approx(max(mean_f1(step / 100) for step in range(1, 100)))


def test_the_best_threshold_is_the_middle_of_those_that_do_as_well():
    targets, scores = np.array([[1], [0]]), np.array([[0.8], [0.2]])
    assert best_threshold(targets, scores) == pytest.approx(0.49, abs=0.011)
    assert np.isnan(best_threshold(np.zeros((2, 1)), scores))
