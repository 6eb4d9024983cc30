import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from in_process import run_main
from PIL import Image

from core.evaluation.evaluate import Evaluation, UnusableMaskError, evaluate, masks_from
from core.evaluation.sources import oracle_mask
from core.evaluation.text import format_report
from datasets.files import write_mask
from datasets.lists import read_list
from datasets.voc import PASCAL_VOC
from eval_seg import main
from utils.errors import UserError

REPOSITORY = Path(__file__).parents[3]


def eval_seg(data, *arguments):
    return run_main(main, "--data", data, *arguments, cwd=data)


def write(path, rows):
    write_mask(path, np.array(rows, dtype=np.uint8), PASCAL_VOC.palette)


@pytest.fixture
def data(tmp_path):
    """A data root with three images of 4×2 pixels, their masks and predictions in `out`.

    Over all pixels that count: background TP 9, FN 3 (two as class 1, one as no class), FP 2;
    class 1 TP 4, FN 2 (as background), FP 3 (two from 0, one from 20); class 20 TP 3, FN 1, FP 0.
    """
    root = tmp_path / "data root"
    write(root / "gt" / "a.png", [[0, 0, 0, 0], [1, 1, 1, 255]])
    write(root / "gt" / "b.png", [[0, 0, 1, 1], [0, 0, 1, 255]])
    write(root / "gt" / "c.png", [[0, 0, 20, 20], [0, 0, 20, 20]])
    write(root / "out" / "a.png", [[0, 0, 1, 1], [1, 1, 0, 1]])
    write(root / "out" / "b.png", [[0, 0, 1, 1], [0, 255, 0, 20]])
    write(root / "out" / "c.png", [[0, 0, 20, 20], [0, 0, 20, 1]])
    lines = [f"img/{name}.jpg gt/{name}.png" for name in "abc"]
    (root / "list.txt").write_text("\n".join(lines) + "\n")
    return root


def test_table_by_hand(data):
    done = eval_seg(data, "--filelist", "list.txt", "--masks", "out")
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line}
    # pixels, IoU, precision, recall: 9/14, 9/11, 9/12; 4/9, 4/7, 4/6; 3/4, 3/3, 3/4
    assert rows["background"] == ["12", "64.29", "81.82", "75.00"]
    assert rows["aeroplane"] == ["6", "44.44", "57.14", "66.67"]
    assert rows["tv/monitor"] == ["4", "75.00", "100.00", "75.00"]
    assert rows["sofa"] == ["0", "0.00", "0.00", "0.00"]
    # (44.44 + 75) / 20 and (64.29 + 44.44 + 75) / 21, the objects first
    objects, every = re.findall(r"^Mean over .*\n((?:.+\n)+)", done.stdout, flags=re.MULTILINE)
    assert objects == "mIoU: 5.97\nmean precision: 7.86\nmean recall: 7.08\n"
    assert every == "mIoU: 8.75\nmean precision: 11.38\nmean recall: 10.32\n"
    assert done.stdout.index("Mean over 20 objects") < done.stdout.index("Mean over all 21")
    # (44.44 + 75) / 2 and (64.29 + 44.44 + 75) / 3: what does not occur is left out
    means = re.findall(r"^mIoU over .* \((\d+)\): (.*)$", done.stdout, flags=re.MULTILINE)
    assert means == [("2", "59.72"), ("3", "61.24")]
    assert "\n3 of 3 images evaluated, 0 left out\n" in done.stdout
    # the masks with CRF would follow
    assert str(Path("out/crf")) in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(("options", "status"), [([], 141), (["--json", "n.json"], 0)])
def test_files_are_written_even_where_nobody_reads_the_table(data, options, status):
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, REPOSITORY / "eval_seg.py", "--data", data, "--masks", "out"]
    done = subprocess.run(
        [*command, "--filelist", "list.txt", *options],
        cwd=data,
        env={"PYTHONPATH": str(REPOSITORY)},
        stdout=write,
        stderr=subprocess.DEVNULL,
    )
    os.close(write)
    assert done.returncode == status
    assert (data / "n.json").exists() == bool(options)


def test_histogram_is_the_same_as_a_loop(data):
    entries = read_list(data / "list.txt", data, PASCAL_VOC)
    result = evaluate(entries, masks_from(data / "out", PASCAL_VOC), PASCAL_VOC)
    expected = np.zeros((21, 22), dtype=np.int64)
    for entry in entries:
        true, predicted = (
            np.array(Image.open(path)) for path in (entry.mask, data / "out" / f"{entry.id}.png")
        )
        for row, column in zip(true.flat, predicted.flat, strict=True):
            if row < 21:
                expected[row, min(column, 21)] += 1
    assert np.array_equal(result.histogram, expected)


def test_ranking_lists_classes_and_their_best_images_first(data):
    done = eval_seg(data, "--filelist", "list.txt", "--masks", "out", "--log-scores", "l/s.txt")
    assert done.returncode == 0
    # TP − FN − FP, e.g. background in a: 2 − 2 − 1; the ambiguous pixels count nowhere
    assert (data / "l" / "s.txt").read_text() == (
        "class\tid\tscore\n"
        "background\tc\t4\n"
        "background\tb\t1\n"
        "background\ta\t-1\n"
        "aeroplane\tb\t1\n"
        "aeroplane\ta\t-1\n"
        "tv/monitor\tc\t2\n"
    )


def break_missing(path):
    path.unlink()


def break_truncated(path):
    path.write_bytes(path.read_bytes()[:-30])


def break_text(path):
    path.write_text("no image")


def break_colours(path):
    Image.new("RGB", (4, 2)).save(path)


def break_size(path):
    write(path, np.zeros((4, 2)))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (break_missing, "missing"),
        (break_truncated, "unreadable"),
        (break_text, "unreadable"),
        (break_colours, "unreadable"),
        (break_size, "wrongly sized"),
    ],
)
def test_unusable_mask_is_an_error_or_counted(data, damage, kind):
    damage(data / "out" / "b.png")
    done = eval_seg(data, "--filelist", "list.txt", "--masks", "out")
    assert done.returncode == 2
    assert re.fullmatch(r"error: mask out/b\.png .*\n", done.stderr)
    assert "mIoU" not in done.stdout

    done = eval_seg(data, "--filelist", "list.txt", "--masks", "out", "--allow-missing")
    assert done.returncode == 0
    assert re.fullmatch(r"left out: mask out/b\.png .*\n", done.stderr)
    (line,) = re.findall(r"^2 of 3 images evaluated, 1 left out .*$", done.stdout, flags=re.M)
    assert f"1 {kind}" in line
    assert re.search(r"^background +8 ", done.stdout, flags=re.MULTILINE)


def test_ground_truth_is_never_left_out(data):
    (data / "gt" / "b.png").unlink()
    done = eval_seg(data, "--filelist", "list.txt", "--masks", "out", "--allow-missing")
    assert done.returncode == 2
    assert re.fullmatch(r"error: mask .*gt/b\.png does not exist.*\n", done.stderr)


def evaluated(data, allow_missing=False):
    entries = read_list(data / "list.txt", data, PASCAL_VOC)
    masks = masks_from(data / "out", PASCAL_VOC)
    return evaluate(entries, masks, PASCAL_VOC, allow_missing=allow_missing)


def test_the_mean_over_classes_that_occur_is_left_out_where_all_do():
    histogram = np.eye(21, 22, dtype=np.int64)
    text = format_report(Evaluation(histogram, [], []), PASCAL_VOC.classes)
    assert re.findall("^mIoU.*$", text, flags=re.MULTILINE) == ["mIoU: 100.00"] * 2
    histogram[0, 0] = 0  # of the objects all occur
    text = format_report(Evaluation(histogram, [], []), PASCAL_VOC.classes)
    assert re.findall(r"^mIoU over .* \((\d+)\)", text, flags=re.MULTILINE) == ["20"]
    histogram[:] = 0
    histogram[0, 0] = 1
    text = format_report(Evaluation(histogram, [], []), PASCAL_VOC.classes)
    assert "nan" not in text
    assert re.findall(r"^mIoU over .* \((\d+)\)", text, flags=re.MULTILINE) == ["1"]


@pytest.mark.parametrize("allow_missing", [False, True])
@pytest.mark.parametrize("folder", ["gt", "out"])
def test_values_that_are_no_classes_are_refused(data, folder, allow_missing):
    write(data / folder / "b.png", [[0, 0, 1, 128], [21, 255, 1, 254]])
    with pytest.raises(UserError) as error:
        evaluated(data, allow_missing)
    assert f"{folder}/b.png holds 21, 128, 254" in str(error.value)
    assert not isinstance(error.value, UnusableMaskError)


def test_ground_truth_without_any_class_is_refused(data):
    for name in "abc":
        write(data / "gt" / f"{name}.png", np.full((2, 4), 255))
    with pytest.raises(UserError, match="255"):
        evaluated(data)


def test_nothing_usable_is_an_error_even_when_missing_is_allowed(data):
    (data / "empty").mkdir()
    done = eval_seg(data, "--filelist", "list.txt", "--masks", "empty", "--allow-missing")
    assert done.returncode == 2
    assert re.fullmatch(r"error: none of the 3 images .*empty/.*\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--filelist", "list.txt"], "--masks DIR or --oracle-from"),
        (["--filelist", "list.txt", "--masks", "nowhere"], "nowhere"),
        (["--filelist", "none.txt", "--masks", "out"], "none.txt"),
        (["--filelist", "test.txt", "--masks", "out"], "no ground truth for .*img/a.jpg"),
        (["--filelist", "test.txt", "--oracle-from", "8x8"], "no ground truth for .*img/a.jpg"),
        (["--filelist", "twice.txt", "--masks", "out"], "same result a.png"),
        (["--filelist", "list.txt", "--oracle-from", "8"], "--oracle-from 8: expected HxW"),
        (["--filelist", "list.txt", "--oracle-from", "0x8"], "expected HxW"),
        (["--filelist", "list.txt", "--masks", "out", "--dataset", "ade"], "pascal_voc"),
        (["--filelist", "list.txt", "--masks", "out", "--log-scores", "gt"], "--log-scores gt"),
    ],
)
def test_user_errors_are_one_line_with_status_2(data, arguments, named):
    (data / "test.txt").write_text("img/a.jpg\n")
    (data / "twice.txt").write_text("img/a.jpg gt/a.png\nother/a.jpg gt/a.png\n")
    done = eval_seg(data, *arguments)
    assert done.returncode == 2
    assert re.fullmatch(f"error: .*{named}.*\n", done.stderr)


def bilinear(values, size):
    """Bilinear resizing, pixel by pixel, with pixel centres at i + 0.5 (corners not aligned)."""
    height, width = values.shape
    result = np.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            v = min(max((y + 0.5) * height / size[0] - 0.5, 0), height - 1)
            u = min(max((x + 0.5) * width / size[1] - 0.5, 0), width - 1)
            top, left = int(v), int(u)
            for i, row in ((top, 1 - (v - top)), (min(top + 1, height - 1), v - top)):
                for j, column in ((left, 1 - (u - left)), (min(left + 1, width - 1), u - left)):
                    result[y, x] += row * column * values[i, j]
    return result


@pytest.mark.parametrize("size", [(5, 7), (3, 40), (31, 9), (1, 1)])
def test_oracle_is_slow_bilinear_above_a_half(size):
    rng = np.random.default_rng(3)
    blocks = rng.choice(np.array([0, 3, 20, 255], dtype=np.uint8), size=(4, 5))
    ground_truth = np.kron(blocks, np.ones((5, 5), dtype=np.uint8))[:19, :23]
    found = oracle_mask(ground_truth, size, 21)
    expected = np.zeros_like(ground_truth)
    tied = np.zeros(ground_truth.shape, dtype=bool)
    for index in (3, 20):
        share = bilinear(bilinear((ground_truth == index).astype(float), size), (19, 23))
        expected[share > 0.5] = index
        tied |= abs(share - 0.5) < 1e-5
    assert tied.mean() < 0.2
    assert found.dtype == ground_truth.dtype
    assert np.array_equal(found[~tied], expected[~tied])


def test_oracle_at_full_size_is_the_ground_truth_without_ambiguous_pixels():
    ground_truth = np.array([[0, 1, 255], [20, 20, 5]], dtype=np.uint8)
    expected = [[0, 1, 0], [20, 20, 5]]
    assert oracle_mask(ground_truth, (2, 3), 21).tolist() == expected


def test_oracle_command_takes_the_place_of_the_masks(data):
    for masks in ([], ["--masks", "out"]):
        done = eval_seg(data, "--filelist", "list.txt", *masks, "--oracle-from", "2x4")
        assert (done.returncode, done.stderr) == (0, "")
        # at full size all that counts is right: 3 present classes of 21, 2 objects of 20
        assert re.findall(r"^mIoU: .*$", done.stdout, flags=re.M) == ["mIoU: 10.00", "mIoU: 14.29"]
        assert "taken to 2x4 and back" in done.stdout


def test_counts_are_added_part_by_part(data, monkeypatch):
    """However many images there are, few of their counts wait."""
    monkeypatch.setattr("core.evaluation.evaluate.AT_ONCE", 2)
    entries = read_list(data / "list.txt", data, PASCAL_VOC)
    seen, added = [], []
    read = masks_from(data / "out", PASCAL_VOC)

    def predict(entry, ground_truth):
        seen.append(entry.id)
        return read(entry, ground_truth)

    add = Evaluation.add

    def watch(self, image_id, counts):
        added.append((image_id, len(seen)))
        add(self, image_id, counts)

    monkeypatch.setattr(Evaluation, "add", watch)
    result = evaluate(entries, predict, PASCAL_VOC)
    # the third image is not read before the first two are added
    assert added[0][0] == "a" and added[0][1] <= 2 and added[1] == ("b", 2)
    assert [image.id for image in result.images] == ["a", "b", "c"]
    assert result.histogram.sum() == 22
