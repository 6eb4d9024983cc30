"""mini-VOC: what is on disk, against the layout of the real data sets."""

import hashlib
import itertools
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from in_process import run_main
from PIL import Image, ImageColor
from scipy.io import loadmat

from datasets.mini_voc.__main__ import main
from datasets.mini_voc.classes import OBJECTS
from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.mini_voc.scene import draw_scene
from datasets.voc import PASCAL_VOC

REPOSITORY = Path(__file__).resolve().parents[2]
TRAIN, VAL = 40, 24
SMALL = MiniVocSettings(seed=5, train=20, val=20)


def mini_voc(out, *arguments):
    return run_main(main, "--out", out, *arguments)


def ids(path):
    return path.read_text().splitlines()


def digests(root):
    """Every file's hash; a .mat begins with 116 bytes of text that hold the date."""
    return {
        str(path.relative_to(root)): hashlib.sha256(
            path.read_bytes()[116 if path.suffix == ".mat" else 0 :]
        ).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    out = tmp_path_factory.mktemp("with space") / "mini"
    result = mini_voc(out, "--seed", 3, "--train", TRAIN, "--val", VAL)
    assert result.returncode == 0, result.stderr
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The smallest mini-VOC there is; tests leave it as it is."""
    out = tmp_path_factory.mktemp("small") / "mini"
    generate(out, SMALL)
    return out


@pytest.fixture(scope="module")
def voc(root):
    return root / "voc/VOCdevkit/VOC2012"


@pytest.fixture(scope="module")
def sbd(root):
    return root / "sbd/benchmark_RELEASE/dataset"


def test_each_split_has_its_files_and_no_others(voc, sbd):
    splits = {
        name: ids(voc / f"ImageSets/Segmentation/{name}.txt")
        for name in ("train", "val", "trainval")
    }
    assert splits["trainval"] == sorted(splits["train"] + splits["val"])
    assert len(splits["val"]) == VAL
    for folder, suffix in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        names = sorted(path.name for path in (voc / folder).iterdir())
        assert names == [f"{image_id}.{suffix}" for image_id in splits["trainval"]]

    sbd_ids = sorted(ids(sbd / "train.txt") + ids(sbd / "val.txt"))
    assert len(set(sbd_ids)) == len(sbd_ids)
    for folder, suffix in (("img", "jpg"), ("cls", "mat")):
        names = sorted(path.name for path in (sbd / folder).iterdir())
        assert names == [f"{image_id}.{suffix}" for image_id in sbd_ids]
    assert all(re.fullmatch(r"20\d\d_\d{6}", name) for name in splits["trainval"] + sbd_ids)


def test_ids_overlap_as_in_the_real_sets(voc, sbd):
    train, val = (set(ids(voc / f"ImageSets/Segmentation/{s}.txt")) for s in ("train", "val"))
    in_sbd = set(ids(sbd / "train.txt")) | set(ids(sbd / "val.txt"))
    assert not train & val
    assert train - in_sbd and train & in_sbd and in_sbd - train - val
    assert val & in_sbd and val - in_sbd
    assert len((in_sbd | train) - val) == TRAIN


def test_every_class_occurs_in_training_and_validation(voc, sbd):
    everything = set(range(1, PASCAL_VOC.num_classes))
    found = {name: set() for name in ("augmented", "val")}
    for path in (sbd / "cls").glob("*.mat"):
        found["augmented"] |= set(np.unique(loadmat(path)["GTcls"][0, 0]["Segmentation"]))
    for image_id in ids(voc / "ImageSets/Segmentation/val.txt"):
        found["val"] |= set(
            np.unique(np.array(Image.open(voc / f"SegmentationClass/{image_id}.png")))
        )
    assert found["augmented"] - {0} == everything
    assert found["val"] - {0, 255} == everything


def test_images_and_masks_agree_in_size_and_sizes_vary(voc):
    sizes = set()
    for path in (voc / "JPEGImages").iterdir():
        image = Image.open(path)
        mask = Image.open(voc / "SegmentationClass" / f"{path.stem}.png")
        assert (image.mode, mask.mode) == ("RGB", "P")
        assert image.size == mask.size
        assert all(72 <= side <= 128 for side in image.size)
        assert tuple(mask.getpalette()) == PASCAL_VOC.palette
        sizes.add(image.size)
    assert len(sizes) >= 4


def test_voc_masks_hold_objects_worth_seeing_with_a_border_between(voc):
    for path in (voc / "SegmentationClass").iterdir():
        mask = np.array(Image.open(path))
        counts = np.bincount(mask.ravel(), minlength=256)
        present = np.flatnonzero(counts)
        assert counts[255] > 0
        assert 1 <= np.count_nonzero((present > 0) & (present < 255)) <= 3
        assert all(counts[c] >= 0.02 * mask.size for c in present)
        # no two different labels touch without a border between them
        for one, two in ((mask[:, 1:], mask[:, :-1]), (mask[1:], mask[:-1])):
            assert np.all((one == two) | (one == 255) | (two == 255))


def test_sbd_files_read_as_the_real_ones_do(voc, sbd):
    shared = set(ids(voc / "ImageSets/Segmentation/trainval.txt"))
    compared = 0
    for path in (sbd / "cls").glob("*.mat"):
        truth = loadmat(path)["GTcls"][0]
        segmentation = truth["Segmentation"][0]
        assert segmentation.dtype == np.uint8
        assert segmentation.max() <= 20
        present = sorted(set(segmentation.ravel().tolist()) - {0})
        assert truth["CategoriesPresent"][0].ravel().tolist() == present
        assert truth["Boundaries"][0].shape == (20, 1)
        for index in range(20):
            boundary = truth["Boundaries"][0][index][0].toarray().astype(bool)
            assert boundary.shape == segmentation.shape
            assert boundary.any() == (index + 1 in present)
            assert np.all(segmentation[boundary] == index + 1)
        if path.stem in shared:
            mask = np.array(Image.open(voc / "SegmentationClass" / f"{path.stem}.png"))
            assert np.array_equal(mask[mask != 255], segmentation[mask != 255])
            image = (voc / "JPEGImages" / f"{path.stem}.jpg").read_bytes()
            assert image == (sbd / "img" / f"{path.stem}.jpg").read_bytes()
            compared += 1
    assert compared > 0


def test_the_border_is_the_pixel_on_either_side_of_an_edge(voc, sbd):
    exact = []
    shared = ids(voc / "ImageSets/Segmentation/trainval.txt")
    for path in (sbd / "cls" / f"{image_id}.mat" for image_id in shared):
        if not path.exists():
            continue
        labels = loadmat(path)["GTcls"][0, 0]["Segmentation"]
        padded = np.pad(labels, 1, mode="edge")
        neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        edge = np.any([other != labels for other in neighbours], axis=0)
        border = np.array(Image.open(voc / "SegmentationClass" / f"{path.stem}.png")) == 255
        assert border[edge].all()
        exact.append(np.array_equal(border, edge))
    # two objects of one class, one before the other, have a border that the classes do not show
    assert np.mean(exact) > 0.9


def test_looks_are_defined_for_voc_classes_each_of_its_own():
    assert tuple(OBJECTS) == PASCAL_VOC.classes[1:]
    assert len({id(kind.silhouette) for kind in OBJECTS.values()}) == 20
    assert len({kind.texture for kind in OBJECTS.values()}) == 20


def test_no_two_textures_are_nearly_the_same_pattern():
    plane = np.mgrid[:120, :120][::-1] / 12 + 0.03
    sheets = {name: kind.texture(*plane) for name, kind in OBJECTS.items()}
    for name, sheet in sheets.items():
        assert 0 <= sheet.min() < 0.1 and 0.9 < sheet.max() <= 1, name
    for (one, first), (other, second) in itertools.combinations(sheets.items(), 2):
        assert np.abs(first - second).mean() > 0.1, (one, other)


def test_no_two_colour_families_are_nearly_the_same():
    families = {
        name: [np.array(ImageColor.getrgb(tone)) / 255 for tone in kind.colours]
        for name, kind in OBJECTS.items()
    }
    for (one, (a, b)), (other, (c, d)) in itertools.combinations(families.items(), 2):
        # the mean distance in RGB, each channel 0 to 1, of the tones paired as they fit best
        apart = min(
            np.linalg.norm(a - c) + np.linalg.norm(b - d),
            np.linalg.norm(a - d) + np.linalg.norm(b - c),
        )
        assert apart / 2 > 0.2, (one, other)


@pytest.mark.parametrize("name", OBJECTS)
def test_silhouettes_are_solid_enough_to_see_and_shown_whole(name):
    for seed in range(3):
        instances = draw_scene([name], 72, 96, np.random.default_rng(seed)).instances
        assert 0.1 < instances.mean() < 0.6
        edges = (instances[0], instances[-1], instances[:, 0], instances[:, -1])
        assert np.mean(np.concatenate(edges)) < 0.2


def test_later_objects_lie_in_front_and_earlier_ones_stay_visible():
    for seed in range(10):
        scene = draw_scene(["cow", "sofa", "bus"], 96, 96, np.random.default_rng(seed))
        counts = np.bincount(scene.instances.ravel(), minlength=4)
        assert len(counts) == 4
        assert counts[1:].min() > 0.03 * scene.instances.size


def test_a_second_run_leaves_everything_as_it_is(root):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    result = mini_voc(root, "--seed", 3, "--train", TRAIN, "--val", VAL)
    assert result.returncode == 0
    assert "nothing to do" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


@pytest.mark.slow
def test_lost_files_are_drawn_anew(small, tmp_path, capsys):
    out = Path(shutil.copytree(small, tmp_path / "mini"))
    patterns = ("*/*/*/JPEGImages/*.jpg", "*/*/*/cls/*.mat", "*/*/*/val.txt")
    for pattern in patterns:
        sorted(out.glob(pattern))[0].unlink()
    generate(out, SMALL)
    shown = capsys.readouterr().out
    assert "nothing to do" not in shown
    assert f"lost {len(patterns)} files, " in shown
    assert digests(out) == digests(small)


@pytest.mark.slow
def test_same_seed_same_files_and_whatever_else_was_made_before_is_replaced(root, small, tmp_path):
    pictures = [
        {digest for name, digest in digests(made).items() if name.endswith(".jpg")}
        for made in (root, small)
    ]
    assert not pictures[0] & pictures[1]

    out = Path(shutil.copytree(root, tmp_path / "mini"))
    (out / "train_voc.txt").write_text("a list made from the earlier one\n")
    (out / "mine.txt").write_text("kept")
    generate(out, SMALL)
    assert (out / "mine.txt").read_text() == "kept"
    (out / "mine.txt").unlink()
    assert digests(out) == digests(small)


@pytest.mark.slow
def test_an_interrupted_run_is_not_taken_for_a_whole_one(small, tmp_path):
    options = (f"--{name}={value}" for name, value in asdict(SMALL).items())
    command = [sys.executable, "-m", "datasets.mini_voc", f"--out={tmp_path}", *options]
    process = subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not any(tmp_path.rglob("*.jpg")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1].endswith("interrupted\n")
    assert process.returncode == 130
    generate(tmp_path, SMALL)
    assert digests(tmp_path) == digests(small)


def test_a_folder_with_other_things_is_refused_untouched(tmp_path):
    (tmp_path / "voc").mkdir()
    (tmp_path / "voc/precious").write_text("x")
    result = mini_voc(tmp_path)
    assert result.returncode == 2
    assert str(tmp_path) in result.stderr and "Traceback" not in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["voc"]
    assert (tmp_path / "voc/precious").read_text() == "x"


@pytest.mark.parametrize(
    "arguments, named",
    [
        (("--seed", -1), "--seed -1"),
        (("--train", 19), "--train 19"),
        (("--val", 5001), "--val 5001"),
    ],
)
def test_numbers_out_of_range_are_refused(tmp_path, arguments, named):
    result = mini_voc(tmp_path / "out", *arguments)
    assert result.returncode == 2
    assert named in result.stderr and result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_an_out_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        result = mini_voc(out)
        assert result.returncode == 2
        assert str(tmp_path / "file") in result.stderr and result.stderr.count("\n") == 1
