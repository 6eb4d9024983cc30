"""TTA views and their merging against slow formulations, written independently here."""

import dataclasses
import math
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from core.config import InferenceConfig
from core.inference import predict as predict_module
from core.inference.predict import Merger, Predictor
from core.inference.samples import Sample
from core.inference.tta import resize_views, show_views, tta_views
from datasets.transforms import normalise, unit_range
from utils.ahead import one_ahead
from utils.errors import UserError

CLASSES = 4
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CPU = torch.device("cpu")


class StandIn(nn.Module):
    """Answers that depend on content and place, and change when the input is flipped or moved."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(3)
        self.kernel = 0.5 * torch.randn(CLASSES, 3, 3, 5, generator=generator)
        self.slope = torch.randn(2, CLASSES, 1, 1, generator=generator)
        self.heads = torch.randn(CLASSES - 1, 3, generator=generator)
        self.largest_batch = 0

    def forward(self, images):
        self.largest_batch = max(self.largest_batch, len(images))
        height, width = images.shape[2:]
        rows = torch.linspace(0, 1, height)[:, None]
        columns = torch.linspace(0, 1, width)[None, :]
        logits = nn.functional.conv2d(images, self.kernel, padding=(1, 2))
        masks = (logits + self.slope[0] * rows + self.slope[1] * columns**2).softmax(1)
        scores = (images * (1 + columns)).mean((2, 3)) @ self.heads.T
        return scores, masks


def make_sample(height, width, seed=0, name="a", known=False):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    mask = random.integers(0, 2, (height, width), dtype=np.uint8) * 2  # class 2 alone
    mask[0, 0] = 255
    return Sample(name, image, mask, np.array([0, 1, 0], np.float32) if known else None)


def settings(**keys):
    defaults = {"NUM_CLASSES": CLASSES, "PAD_SIZE": (31, 38), "BATCH_SIZE": 2}
    return InferenceConfig(**{**defaults, **keys})


def predict(model, samples, test):
    return Predictor(model, test, CPU).predict(samples)


def run(sample, test, model=None):
    [(returned, merged, _)] = predict(model or StandIn(), [sample], test)
    assert returned is sample
    return merged


def normalised(image):
    return (np.asarray(image, dtype=np.float64) / 255 - MEAN) / STD


def ask(view):
    """The stand-in's answer to one H×W×3 view: sigmoid scores, masks H×W×C."""
    images = torch.tensor(np.ascontiguousarray(view.transpose(2, 0, 1))[None], dtype=torch.float32)
    scores, masks = StandIn()(images)
    masks = masks[0].double().numpy().transpose(1, 2, 0)
    return 1 / (1 + np.exp(-scores[0].double().numpy())), masks


def bilinear(maps, height, width):
    """Bilinear resize of H×W×C with pixel centres at half, corners not aligned, by loops."""
    result = np.zeros((height, width, maps.shape[2]))
    for y in range(height):
        for x in range(width):
            v = max((y + 0.5) * maps.shape[0] / height - 0.5, 0)
            u = max((x + 0.5) * maps.shape[1] / width - 0.5, 0)
            top, left = int(v), int(u)
            bottom, right = min(top + 1, maps.shape[0] - 1), min(left + 1, maps.shape[1] - 1)
            b, a = v - top, u - left
            upper = (1 - a) * maps[top, left] + a * maps[top, right]
            lower = (1 - a) * maps[bottom, left] + a * maps[bottom, right]
            result[y, x] = (1 - b) * upper + b * lower
    return result


def labels_by_hand(sample, scores, test):
    if test.USE_GT_LABELS:
        return [float((sample.ground_truth == c).any()) for c in range(1, CLASSES)]
    return [float(max(s[c] for s in scores) > test.FP_CUT_SCORE) for c in range(CLASSES - 1)]


def multiscale_by_hand(sample, test):
    height, width = sample.size
    scores, answers = [], []
    for scale in test.SCALES:
        h, w = round(height * scale), round(width * scale)
        for flipped in [False, True] if test.FLIP else [False]:
            pixels = normalised(sample.image.resize((w, h), Image.Resampling.BICUBIC))
            pixels = pixels[:, ::-1] if flipped else pixels
            padded = np.zeros((*test.PAD_SIZE, 3))
            top = math.floor((test.PAD_SIZE[0] - h) / 2)
            left = math.floor((test.PAD_SIZE[1] - w) / 2)
            padded[top : top + h, left : left + w] = pixels
            score, masks = ask(padded)
            masks = bilinear(masks[top : top + h, left : left + w], height, width)
            answers.append(masks[:, ::-1] if flipped else masks)
            scores.append(score)
    merged = np.mean(answers, axis=0)
    merged[:, :, 1:] *= labels_by_hand(sample, scores, test)
    merged[:, :, 0] **= test.BG_POW
    return merged.transpose(2, 0, 1)


def multicrop_by_hand(sample, test):
    height, width = sample.size
    (pad_h, pad_w), (crop_h, crop_w) = test.PAD_SIZE, test.CROP_SIZE
    top, left = (pad_h - height) // 2, (pad_w - width) // 2
    padded = np.zeros((pad_h, pad_w, 3))
    padded[top : top + height, left : left + width] = normalised(sample.image)
    total, times, scores = np.zeros((pad_h, pad_w, CLASSES)), np.zeros((pad_h, pad_w, 1)), []
    for i in range(test.CROP_GRID_SIZE[0]):
        for j in range(test.CROP_GRID_SIZE[1]):
            y = min(i * math.ceil(pad_h / test.CROP_GRID_SIZE[0]), pad_h - crop_h)
            x = min(j * math.ceil(pad_w / test.CROP_GRID_SIZE[1]), pad_w - crop_w)
            crop = padded[y : y + crop_h, x : x + crop_w]
            for flipped in [True, False] if test.FLIP else [False]:
                score, masks = ask(crop[:, ::-1] if flipped else crop)
                total[y : y + crop_h, x : x + crop_w] += masks[:, ::-1] if flipped else masks
                times[y : y + crop_h, x : x + crop_w] += 1
                scores.append(score)
    total[:, :, 1:] *= labels_by_hand(sample, scores, test)
    merged = (total / times)[top : top + height, left : left + width]
    return merged.transpose(2, 0, 1)


def assert_same(merged, expected):
    assert merged.dtype == np.float32
    np.testing.assert_allclose(merged, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"FLIP": False},
        {"SCALES": (1.0,), "BG_POW": 1.0},
        {"SCALES": (0.7, 1.5, 1.0), "FP_CUT_SCORE": 0.5},
        {"USE_GT_LABELS": True, "FP_CUT_SCORE": 2.0},
        {"SCALES": (2.0, 0.5), "PAD_SIZE": (30, 34)},
    ],
)
def test_multiscale(keys):
    # half of an odd size is for Python's round to decide; rows or columns have an odd slack
    test = settings(**keys)
    sample = make_sample(15, 17, known=test.USE_GT_LABELS)
    assert_same(run(sample, test), multiscale_by_hand(sample, test))


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"FLIP": False},
        {"BG_POW": 1.0, "FP_CUT_SCORE": 0.5},
        {"USE_GT_LABELS": True, "FP_CUT_SCORE": 2.0},
        {"CROP_GRID_SIZE": (4, 3), "CROP_SIZE": (9, 14)},
        # crops that show nothing but padding
        {"PAD_SIZE": (61, 80), "CROP_GRID_SIZE": (5, 5), "CROP_SIZE": (13, 16)},
        {"CROP_GRID_SIZE": (1, 1), "CROP_SIZE": (31, 38)},
    ],
)
def test_multicrop(keys):
    test = settings(**{"METHOD": "multicrop", "CROP_SIZE": (21, 20), **keys})
    sample = make_sample(20, 17, known=test.USE_GT_LABELS)
    assert_same(run(sample, test), multicrop_by_hand(sample, test))


@pytest.mark.parametrize("method", ["multiscale", "multicrop"])
def test_groups_do_not_change_the_result(method):
    sample = make_sample(14, 17)
    test = settings(METHOD=method, CROP_SIZE=(21, 20))
    results = []
    for size in (1, 3, 100):
        model = StandIn()
        results.append(run(sample, dataclasses.replace(test, BATCH_SIZE=size), model))
        assert model.largest_batch == min(size, 8)
    np.testing.assert_allclose(results[1], results[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[2], results[0], rtol=1e-5, atol=1e-6)


def test_images_of_a_stream_are_kept_apart():
    samples = [make_sample(14, 17, 1, "a"), make_sample(9, 8, 2, "b"), make_sample(14, 17, 3, "c")]
    test = settings(BATCH_SIZE=3)
    returned = []
    for sample, merged, _ in predict(StandIn(), samples, test):
        assert_same(merged, multiscale_by_hand(sample, test))
        returned.append(sample)
    assert returned == samples


def test_a_sample_that_comes_twice_is_answered_twice():
    sample = make_sample(14, 17)
    answers = [found.merged for found in predict(StandIn(), [sample, sample], settings())]
    assert len(answers) == 2
    np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-6)


def test_order_of_views():
    multiscale = tta_views((10, 8), settings(SCALES=(1.0, 0.5)))
    assert [(view.size, view.flipped) for view in multiscale] == [
        ((10, 8), False),
        ((10, 8), True),
        ((5, 4), False),
        ((5, 4), True),
    ]
    crops = tta_views((31, 38), settings(METHOD="multicrop", CROP_SIZE=(31, 20)))
    assert [view.flipped for view in crops] == [True, False] * 4
    assert [view.corner[1] for view in crops if not view.flipped] == [0, 18, 0, 18]


def test_views_that_show_the_whole_image():
    assert all(view.shows_all for view in tta_views((10, 8), settings()))
    # the grid's columns begin at 0 and 12 of 24, the image fills 8 to 16 and 6 to 18 of them
    crops = settings(
        METHOD="multicrop", PAD_SIZE=(12, 24), CROP_SIZE=(12, 16), CROP_GRID_SIZE=(1, 2)
    )
    shown = [[view.shows_all for view in tta_views((10, width), crops)] for width in (8, 12)]
    assert shown == [[True] * 4, [False] * 4]
    lower = dataclasses.replace(crops, CROP_SIZE=(8, 24), CROP_GRID_SIZE=(2, 1))
    assert not any(view.shows_all for view in tta_views((10, 8), lower))


@pytest.mark.parametrize("broken", ["scores", "masks"])
def test_a_diverged_snapshot_is_told_with_the_image(broken):
    class Diverged(StandIn):
        def forward(self, images):
            scores, masks = super().forward(images)
            # one class that no view has, so that nothing else would tell
            scores[:, 1] = float("nan") if broken == "scores" else -50
            masks[:, 2, 5:9, 5:9] = float("nan") if broken == "masks" else 0
            return scores, masks

    sample = make_sample(14, 17, name="2007_000033")
    with pytest.raises(UserError, match="2007_000033"):
        run(sample, settings(PAD_SIZE=(28, 34)), Diverged())
    # in a precision of few exponents, that is no sign of the snapshot's
    with pytest.raises(UserError, match=r"2007_000033.*TEST\.AMP"):
        run(sample, settings(PAD_SIZE=(28, 34), AMP="fp16"), Diverged())


def test_convolutions_are_not_rounded_to_tf32_and_the_switch_is_left_as_it_was(monkeypatch):
    class Asking(StandIn):
        def forward(self, images):
            asked.append(torch.backends.cudnn.allow_tf32)
            return super().forward(images)

    asked = []
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    samples = [make_sample(14, 17), make_sample(9, 8)]
    for _ in predict(Asking(), samples, settings()):
        assert torch.backends.cudnn.allow_tf32  # between two images too
    assert asked and not any(asked)


def test_a_class_stays_only_above_the_threshold():
    class Fixed(StandIn):
        def forward(self, images):
            # sigmoid: 0.5 in every view; 0.73 in one of them; far below
            scores = torch.tensor([[0.0, -5.0, -5.0]]).repeat(len(images), 1)
            scores[images.abs().sum((1, 2, 3)).argmax(), 1] = 1.0
            return scores, super().forward(images)[1]

    merged = run(make_sample(14, 17), settings(FP_CUT_SCORE=0.5), Fixed())
    assert [bool(mask.any()) for mask in merged] == [True, False, True, False]


def test_training_mode_is_left():
    model = StandIn().train()
    run(make_sample(14, 17), settings(), model)
    assert not model.training


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"CROP_SIZE": (21, 18)},
            ["TEST.CROP_GRID_SIZE", "TEST.CROP_SIZE", "TEST.PAD_SIZE", "stride of 19", "width"],
        ),
        ({"CROP_SIZE": (32, 20)}, ["TEST.CROP_SIZE", "32 > 31"]),
    ],
)
def test_crops_that_do_not_fit(keys, words):
    with pytest.raises(UserError) as error:
        run(make_sample(9, 9), settings(METHOD="multicrop", **keys))
    for word in words:
        assert word in str(error.value)


class Scratch(torch.Tensor):
    """What a forward pass holds; plain tensors cannot tell when they are gone."""


class ShortOfMemory(StandIn):
    """A network on a GPU that holds the activations of `views` views of a window of 31×38."""

    def __init__(self, views, error=torch.cuda.OutOfMemoryError):
        super().__init__()
        self.pixels, self.error = views * 31 * 38, error
        self.tried, self.scratch = [], weakref.WeakSet()

    def forward(self, images):
        assert not self.scratch, "what the pass before has used is still held"
        scratch = torch.zeros(1).as_subclass(Scratch)
        self.scratch.add(scratch)
        self.tried.append(len(images))
        if images[:, 0].numel() > self.pixels:
            raise self.error("CUDA error: out of memory")
        return super().forward(images)


@pytest.mark.parametrize("error", [torch.cuda.OutOfMemoryError, RuntimeError])
@pytest.mark.parametrize(("views", "tried"), [(8, [8]), (7, [8, 4, 4]), (1, [8, 4, 2, *[1] * 8])])
def test_where_memory_is_short_groups_are_halved_and_stay_so(views, tried, error, capsys):
    test = settings(BATCH_SIZE=8)
    samples = [make_sample(14, 17, 1, "a"), make_sample(14, 17, 2, "b")]
    model = ShortOfMemory(views, error)
    found = [prediction.merged for prediction in predict(model, samples, test)]
    enough = [prediction.merged for prediction in predict(StandIn(), samples, test)]
    np.testing.assert_allclose(found, enough, rtol=1e-5, atol=1e-6)
    smallest = tried[-1]
    assert model.tried == tried + [smallest] * (8 // smallest)
    told = capsys.readouterr().err
    assert told.count("\n") == (views < 8)
    assert (f"{smallest} views of 31×38" in told) == (views < 8)


@pytest.mark.parametrize("step", ["add_scores", "add_masks", "merged"])
def test_memory_that_is_short_while_masks_are_merged_counts_no_view_twice(monkeypatch, step):
    sample, test = make_sample(14, 17), settings(BATCH_SIZE=8)
    expected, real = run(sample, test), getattr(Merger, step)
    calls = []

    def full_once(*arguments):
        calls.append(real(*arguments))
        if len(calls) == 1:
            raise torch.cuda.OutOfMemoryError
        return calls[-1]

    monkeypatch.setattr(Merger, step, full_once)
    np.testing.assert_allclose(run(sample, test), expected, rtol=1e-5, atol=1e-6)
    assert len(calls) > 1


def test_views_are_made_of_bytes_where_the_network_is():
    sample, test = make_sample(14, 17), settings(SCALES=(1.0, 0.5))
    views = tta_views(sample.size, test)
    resized = resize_views(views, sample.image)
    assert [pixels.dtype for pixels in resized] == [torch.uint8] * 4
    assert resized[0] is resized[1] and resized[1].shape[1:] == (14, 17)
    found = show_views(views, resized, CPU)
    for view, window in zip(views, found, strict=True):
        height, width = view.size
        image = sample.image.resize((width, height), Image.Resampling.BICUBIC)
        pixels = normalise(unit_range(torch.from_numpy(np.array(image)).permute(2, 0, 1)))
        expected = torch.zeros(3, *view.window)
        top, left = (-corner for corner in view.corner)
        shown = pixels.flip(-1) if view.flipped else pixels
        expected[:, top : top + height, left : left + width] = shown
        assert torch.equal(window, expected)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert show_views(views, resized, torch.device("cuda")).device.type == "cuda"


def test_errors_of_resizing_images_are_none_of_the_device(monkeypatch):
    calls, real = [], predict_module.resize_views

    def resize(*arguments):
        calls.append(arguments)
        if len(calls) == 2:  # the second group of the first image
            raise RuntimeError("CUDA error: out of memory")
        return real(*arguments)

    monkeypatch.setattr(predict_module, "resize_views", resize)
    samples = [make_sample(14, 17, number, str(number)) for number in range(3)]
    with pytest.raises(RuntimeError, match="out of memory"):
        list(predict(StandIn(), samples, settings(BATCH_SIZE=4)))


def test_what_was_found_out_about_memory_holds_for_later_calls():
    model = ShortOfMemory(2)
    predictor = Predictor(model, settings(BATCH_SIZE=8), CPU)
    for _ in range(2):
        list(predictor.predict([make_sample(14, 17)]))
    assert model.tried == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    # windows that have grown have less room, those of smaller crops more
    grown = {"PAD_SIZE": (31, 76), "METHOD": "multicrop", "CROP_GRID_SIZE": (1, 1)}
    for crop, largest in [((31, 76), 1), ((31, 38), 2), ((31, 19), 2)]:
        model.tried.clear()
        keys = {**grown, "PAD_SIZE": crop, "CROP_SIZE": crop, "BATCH_SIZE": 8}
        predictor.test = settings(**keys)
        list(predictor.predict([make_sample(14, 17)]))
        assert max(model.tried) == largest


def test_a_view_too_large_for_the_gpu_names_the_keys():
    model = ShortOfMemory(0)
    with pytest.raises(UserError, match=r"a view of 31×38.*TEST.OVERSIZE shrink.*--device cpu"):
        run(make_sample(9, 8), settings(BATCH_SIZE=5), model)
    assert model.tried == [5, 2, 1]


@pytest.mark.parametrize(
    ("keys", "smaller"),
    [
        ({"WINDOW": "fit"}, "lower TEST.PAD_SIZE"),
        ({"WINDOW": "fit", "FLIP": False}, "lower TEST.PAD_SIZE"),
        ({"SCALES": (1.0,), "FLIP": False}, "TEST.OVERSIZE shrink"),
    ],
)
def test_the_largest_of_views_that_differ_is_tried_alone_once(keys, smaller):
    """Smaller views go on in groups, and masks that wait for others may be what fills it."""
    largest = max(math.prod(view.window) for view in tta_views((20, 24), settings(**keys)))
    tried = []

    class TooSmall(StandIn):
        def forward(self, images):
            tried.append((len(images), math.prod(images.shape[2:])))
            if tried[-1][1] == largest:
                raise torch.OutOfMemoryError
            return super().forward(images)

    with pytest.raises(UserError, match=rf"does not hold a view of .*{smaller}.*--device cpu"):
        run(make_sample(20, 24), settings(**keys), TooSmall())
    assert [size for size, pixels in tried if pixels == largest][-1] == 1
    assert len(tried) < 20


def test_other_errors_of_the_network_are_left_as_they_are():
    class Broken(StandIn):
        def forward(self, images):
            raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes do not match"):
        run(make_sample(9, 8), settings(), Broken())


@pytest.mark.parametrize("step", ["add_masks", "merged"])
def test_masks_too_large_for_the_gpu_name_the_image(monkeypatch, step):
    def full(*arguments):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(Merger, step, full)
    with pytest.raises(UserError, match=r"for 2007_000033, 9×8.*--device cpu"):
        run(make_sample(9, 8, name="2007_000033"), settings())


def test_one_ahead_is_one_ahead_and_passes_errors_on():
    made = []

    def items():
        for number in range(4):
            made.append(number)
            yield number
        raise UserError("broken image")

    seen = []
    with pytest.raises(UserError, match="broken image"):
        for item in one_ahead(items()):
            seen.append(item)
            assert len(made) <= len(seen) + 1
    assert seen == [0, 1, 2, 3]
