"""What inference writes, and how it fails: no half files, no error unseen, no queue without end."""

import os
import subprocess
import sys
import textwrap
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from result_case import PALETTE, colours, files_below, make_result, outputs

from core.config import InferenceConfig
from core.inference import writing
from core.inference.samples import check_samples, known_labels, load_sample
from core.inference.writing import result_writer, write_result
from datasets.files import write_mask
from datasets.lists import ListEntry
from datasets.voc import PASCAL_VOC
from utils import processes
from utils.crf import crf_inference
from utils.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("ground_truth", [True, False])
def test_files_of_a_result(tmp_path, ground_truth):
    result = make_result("my.photo.v2jpg", ground_truth=ground_truth)
    write_result(outputs(tmp_path), *result)
    name = "my.photo.v2jpg.png"
    assert files_below(tmp_path) == [f"crf/{name}", name, f"vis/{name}"]

    expected = {
        name: np.argmax(result.merged, axis=0),
        f"crf/{name}": np.argmax(crf_inference(result.image, result.merged), axis=0),
    }
    assert (expected[name] != expected[f"crf/{name}"]).any()
    for path, mask in expected.items():
        written = Image.open(tmp_path / path)
        assert written.mode == "P"
        assert tuple(written.getpalette()) == PALETTE
        np.testing.assert_array_equal(np.array(written), mask)

    picture = Image.open(tmp_path / "vis" / name)
    assert picture.mode == "RGB"
    masks = [*expected.values(), *([result.ground_truth] if ground_truth else [])]
    panels = np.concatenate([0.7 * colours(mask) + 0.3 * result.image for mask in masks], axis=1)
    assert np.abs(np.array(picture) - panels).max() <= 0.5 + 1e-6


def test_the_lowest_of_equal_classes_wins(tmp_path):
    result = make_result()
    result.merged[:] = 0
    result.merged[[3, 7]] = 0.4
    write_result(outputs(tmp_path), *result)
    assert set(np.array(Image.open(tmp_path / "a.png")).flat) == {3}


def test_processes_write_what_the_main_one_would(tmp_path):
    for workers in (0, 2):
        with result_writer(outputs(tmp_path / str(workers)), workers) as write:
            for seed in range(5):
                write(*make_result(f"image{seed}", seed=seed))
    written = files_below(tmp_path / "0")
    assert len(written) == 15
    assert files_below(tmp_path / "2") == written
    for name in written:
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_ends_it_at_once_and_leaves_no_half_files(tmp_path, workers):
    (tmp_path / "vis").write_text("in the way")
    accepted = 0
    with (
        pytest.raises(UserError, match=r"cannot write the results of image0 below"),
        result_writer(outputs(tmp_path), workers) as write,
    ):
        for number in range(50):
            write(*make_result(f"image{number}"))
            accepted += 1
    assert accepted <= 2
    assert not [name for name in files_below(tmp_path) if ".image" in name]


def test_an_error_of_the_last_result_is_not_lost(tmp_path):
    broken = make_result()
    broken.merged[0, 0, 0] = np.nan
    with (
        pytest.raises(RuntimeError, match=r"results of a could not be made.*finite"),
        result_writer(outputs(tmp_path), 1) as write,
    ):
        write(*broken)
    assert files_below(tmp_path) == []


def test_an_error_of_the_caller_passes(tmp_path):
    with pytest.raises(KeyError), result_writer(outputs(tmp_path), 1) as write:
        write(*make_result())
        raise KeyError


class Deadly:
    """Ends the process that receives it."""

    def __reduce__(self):
        return os._exit, (3,)


def test_a_dead_process_is_told(tmp_path):
    with (
        pytest.raises(UserError, match=r"died.* at work on a; .*--workers 0"),
        result_writer(outputs(tmp_path), 1) as write,
    ):
        write("a", Deadly(), np.ones((2, 1, 1), np.float32), None)


def test_processes_end_with_a_main_one_that_is_killed(tmp_path):
    code = f"""
        import sys, time
        from pathlib import Path
        sys.path.insert(0, {str(ROOT / "tests")!r})
        from core.inference.writing import result_writer
        from result_case import make_result, outputs

        folder = Path(sys.argv[1])
        with result_writer(outputs(folder), 2) as write:
            write(*make_result())
            while not (folder / "a.png").exists():
                time.sleep(0.02)
            print("working", flush=True)
            time.sleep(600)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as main:
        try:
            assert main.stdout.readline() == "working\n"
        finally:
            main.kill()
        # they hold its standard output, which ends when the last of them has
        assert main.communicate(timeout=300)[0] == ""


@pytest.mark.parametrize(("results_that_fit", "expected"), [(100, 6), (4.5, 4), (0.5, 1)])
def test_few_results_wait(tmp_path, monkeypatch, results_that_fit, expected):
    monkeypatch.setattr(writing, "MAX_BYTES", int(results_that_fit * make_result().merged.nbytes))
    unfinished, most = set(), 0

    class SlowPool:
        def __init__(self, *args, **keys):
            pass

        def submit(self, *args):
            nonlocal most
            future = Future()
            unfinished.add(future)
            most = max(most, len(unfinished))
            return future

        def shutdown(self, cancel_futures):
            assert not unfinished

    def finish_one(pending, return_when):
        future = next(iter(pending))
        unfinished.discard(future)
        future.set_result(None)

    monkeypatch.setattr(processes, "ProcessPoolExecutor", SlowPool)
    monkeypatch.setattr(writing, "wait", finish_one)
    with result_writer(outputs(tmp_path), 3) as write:
        for _ in range(20):
            write(*make_result())
    assert most == expected


def test_processes_start_without_torch():
    code = "import infer_val, core.inference.writing, sys; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def write_pair(folder, name, size=(9, 7), mask_size=None):
    image, mask = folder / f"{name}.jpg", folder / f"{name}_mask.png"
    Image.new("RGB", size, (10, 200, 30)).save(image)
    width, height = mask_size or size
    write_mask(mask, np.zeros((height, width)), PALETTE)
    return ListEntry(image, mask)


def test_a_sample_without_mask_column(tmp_path):
    entry = write_pair(tmp_path, "2007_00003jpg")
    sample = load_sample(ListEntry(entry.image, None), InferenceConfig(), PASCAL_VOC)
    assert (sample.id, sample.size, sample.ground_truth) == ("2007_00003jpg", (7, 9), None)


def test_opening_many_images_shows_how_far_it_is(tmp_path, capsys):
    entry = write_pair(tmp_path, "a")
    check_samples([entry] * 300, InferenceConfig(), 2, tmp_path, PASCAL_VOC)
    assert capsys.readouterr().err == ""
    check_samples([entry] * 400, InferenceConfig(), 2, tmp_path, PASCAL_VOC)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 20
    assert lines[0].startswith("check: 20/400, ") and lines[-1].startswith("check: 400/400, ")


def test_whatever_is_wrong_with_a_list_shows_before_it_runs(tmp_path):
    good = write_pair(tmp_path, "good")
    test = InferenceConfig(PAD_SIZE=(14, 18))

    def check(*entries, test=test):
        return check_samples(entries, test, 2, tmp_path, PASCAL_VOC)

    assert check(good, ListEntry(good.image, None)) == {str(good.image): (7, 9)}

    cut_short = tmp_path / "cut_short.jpg"
    cut_short.write_bytes(good.image.read_bytes()[:-40])
    for bad, words in [
        (ListEntry(tmp_path / "gone.jpg", None), "gone.jpg"),
        (ListEntry(cut_short, None), "cut_short.jpg"),
        (ListEntry(good.image, tmp_path / "gone.png"), "gone.png"),
        (write_pair(tmp_path, "odd", mask_size=(7, 9)), r"odd_mask.png is 9×7.*odd.jpg 7×9"),
    ]:
        with pytest.raises(UserError, match=words):
            check(good, bad)
    with pytest.raises(UserError, match=r"USE_GT_LABELS.*good.jpg.*--labels FILE"):
        known_labels([ListEntry(good.image, None)], InferenceConfig(USE_GT_LABELS=True), PASCAL_VOC)
