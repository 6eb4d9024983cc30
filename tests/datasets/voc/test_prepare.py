"""datasets.prepare: SBD's masks as PNGs and the file lists, as users run it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from get_data_case import VOC_TEST, add_test_set
from in_process import run_main
from PIL import Image
from scipy.io import loadmat, savemat

from datasets import prepare as module
from datasets.voc import PASCAL_VOC
from datasets.voc.sbd_masks import convert_masks, read_sbd_mask
from utils.errors import UserError
from utils.files import only_process

REPOSITORY = Path(__file__).resolve().parents[3]
VOC = Path("voc/VOCdevkit/VOC2012")
SBD = Path("sbd/benchmark_RELEASE/dataset")
LISTS = ("train_voc.txt", "val_voc.txt", "train_augvoc.txt")


def prepare(root, *arguments):
    return run_main(module.main, "--root", root, *arguments)


def assert_refused(result, *named):
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    for text in named:
        assert str(text) in result.stderr


@pytest.fixture
def root(drawn, tmp_path):
    return Path(shutil.copytree(drawn, tmp_path / "data root"))


def ids(path):
    return path.read_text().split()


def save_mat(root, content, compress=False):
    (root / SBD / "cls").mkdir(parents=True)
    savemat(root / SBD / "cls/x.mat", content, do_compression=compress)


def first_sbd_id(root):
    """An id that train_augvoc takes from SBD."""
    dropped = ids(root / VOC / "ImageSets/Segmentation/val.txt")
    return min(set(ids(root / SBD / "train.txt")) - set(dropped))


def test_lists_follow_the_rules(root):
    command = [sys.executable, "-m", "datasets.prepare", "--root", root]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    splits = {s: ids(root / VOC / f"ImageSets/Segmentation/{s}.txt") for s in ("train", "val")}
    for name, split in (("train_voc.txt", "train"), ("val_voc.txt", "val")):
        assert (root / name).read_text().splitlines() == [
            f"{VOC}/JPEGImages/{i}.jpg {VOC}/SegmentationClass/{i}.png"
            for i in sorted(splits[split])
        ]

    sbd_ids = ids(root / SBD / "train.txt") + ids(root / SBD / "val.txt")
    expected = []
    for image_id in sorted({*sbd_ids, *splits["train"]}):
        if image_id in splits["val"]:
            continue
        if image_id in sbd_ids:
            expected.append(f"{SBD}/img/{image_id}.jpg {SBD}/cls_png/{image_id}.png")
        else:
            expected.append(
                f"{VOC}/JPEGImages/{image_id}.jpg {VOC}/SegmentationClass/{image_id}.png"
            )
    assert (root / "train_augvoc.txt").read_text() == "".join(line + "\n" for line in expected)
    assert any(str(VOC) in line for line in expected)
    for name in LISTS:
        for line in (root / name).read_text().splitlines():
            assert all((root / column).is_file() for column in line.split(" "))


@pytest.mark.parametrize("workers", [1, 2])
def test_every_sbd_mask_becomes_the_same_png(root, workers, monkeypatch):
    monkeypatch.setattr("utils.processes.FEW_ITEMS", 0)
    assert convert_masks(root, workers) == len(list((root / SBD / "cls").iterdir()))
    mats = sorted((root / SBD / "cls").iterdir())
    assert sorted(p.stem for p in (root / SBD / "cls_png").iterdir()) == [p.stem for p in mats]
    for mat in mats:
        png = Image.open(root / SBD / "cls_png" / f"{mat.stem}.png")
        assert png.mode == "P" and tuple(png.getpalette()) == PASCAL_VOC.palette
        assert np.array_equal(np.array(png), loadmat(mat)["GTcls"][0]["Segmentation"][0])


def test_a_second_run_changes_nothing_and_says_so(root):
    first = prepare(root)
    assert "nothing to do" not in first.stdout
    for name in LISTS:
        number = len((root / name).read_text().splitlines())
        assert f"{root / name}: {number} lines\n" in first.stdout
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    second = prepare(root)
    assert second.returncode == 0
    assert "nothing to do" in second.stdout
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_only_missing_or_unreadable_pngs_are_made_again(root):
    prepare(root)
    pngs = sorted((root / SBD / "cls_png").iterdir())
    whole = {path: path.read_bytes() for path in pngs}
    pngs[0].unlink()
    pngs[1].write_bytes(whole[pngs[1]][:60])
    untouched = {path: path.stat().st_mtime_ns for path in pngs[2:]}
    result = prepare(root)
    assert result.returncode == 0 and "converted 2 SBD masks" in result.stdout
    assert {path: path.read_bytes() for path in pngs} == whole
    assert untouched == {path: path.stat().st_mtime_ns for path in pngs[2:]}


def test_what_a_killed_run_left_goes(root):
    image_id = first_sbd_id(root)
    mask, name = f"cls_png/.{image_id}.png.a1b2c3_4.tmp", ".val_voc.txt.a1b2c3_4.tmp"
    left = [root / SBD / mask, root / name]
    kept = [root / SBD / "cls_png/.mine.jpg.a1b2c3_4.tmp", root / ".notes.txt.a1b2c3_4.tmp"]
    (root / SBD / "cls_png").mkdir()
    for path in (*left, *kept):
        path.touch()
    assert prepare(root).returncode == 0
    assert not any(path.exists() for path in left)
    assert all(path.exists() for path in kept)


def test_hidden_files_of_other_systems_are_no_masks(root):
    (root / SBD / "cls/._2007_000001.mat").write_bytes(b"no mask")
    assert prepare(root).returncode == 0


def test_a_second_process_is_refused(root):
    with only_process(root):
        assert_refused(prepare(root), root, "another process")
    assert prepare(root).returncode == 0


def test_without_voc_test_there_is_a_note_and_no_test_list(root):
    result = prepare(root)
    assert result.returncode == 0
    assert f"note: no {root / VOC_TEST}" in result.stdout
    assert not (root / "test.txt").exists()


def test_the_test_list_has_images_only(root):
    add_test_set(root, ("2008_000008", "2008_000006"))
    result = prepare(root)
    assert result.returncode == 0 and "note" not in result.stdout
    assert (root / "test.txt").read_text() == (
        f"{VOC_TEST}/JPEGImages/2008_000006.jpg\n{VOC_TEST}/JPEGImages/2008_000008.jpg\n"
    )


def test_data_sets_may_be_links(root, tmp_path):
    for name in ("voc", "sbd"):
        (root / name).rename(tmp_path / f"elsewhere {name}")
        (root / name).symlink_to(tmp_path / f"elsewhere {name}")
    assert prepare(root).returncode == 0
    assert (tmp_path / "elsewhere sbd/benchmark_RELEASE/dataset/cls_png").is_dir()


@pytest.mark.parametrize("folder, name, variable", [(VOC, "VOC 2012", "VOC"), (SBD, "SBD", "SBD")])
def test_a_missing_data_set_is_named_with_the_command_that_gets_it(root, folder, name, variable):
    (root / "mini_voc.json").unlink()
    shutil.rmtree(root / folder.parts[0])
    result = prepare(root)
    command = f"DATA_ROOT='{root}' bash launch/get_data.sh"
    assert_refused(result, f"no {name}", root / folder, command, f"{variable}=PATH")
    assert not any((root / name).exists() for name in LISTS)


def test_a_root_that_is_not_there_is_named(tmp_path):
    assert_refused(prepare(tmp_path / "none"), tmp_path / "none", "get_data.sh")
    assert not (tmp_path / "none").exists()


def test_what_a_linked_copy_lacks_is_to_be_mended_there(root, tmp_path):
    (root / "mini_voc.json").unlink()
    (root / "voc").rename(tmp_path / "copy")
    (root / "voc").symlink_to(tmp_path / "copy")
    next((root / VOC / "JPEGImages").iterdir()).unlink()
    assert_refused(prepare(root), f"{root / 'voc'} is a link to {tmp_path / 'copy'}")


def test_what_mini_voc_lacks_is_to_be_drawn_again(root):
    remedy = f" -m datasets.mini_voc --out '{root}'"
    next((root / VOC / "JPEGImages").iterdir()).unlink()
    assert_refused(prepare(root), remedy)
    (root / SBD / "train.txt").unlink()
    assert_refused(prepare(root), remedy)
    shutil.rmtree(root / "voc")
    result = prepare(root)
    assert_refused(result, remedy)
    assert "download" not in result.stderr


def test_unofficial_numbers_of_lines_are_noted_but_for_mini_voc(root):
    assert "lines, but" not in prepare(root).stdout
    (root / "mini_voc.json").unlink()
    result = prepare(root)
    assert result.returncode == 0
    for name, published in (("train_augvoc", 10582), ("train_voc", 1464), ("val_voc", 1449)):
        number = len((root / f"{name}.txt").read_text().splitlines())
        assert re.search(f"note: {name}.txt has {number} lines.* {published};", result.stdout)
    assert "note: test.txt" not in result.stdout


def test_missing_or_empty_id_files_are_named(root):
    path = root / SBD / "val.txt"
    path.write_text("\n")
    assert_refused(prepare(root), path, "holds no ids")
    path.unlink()
    assert_refused(prepare(root), path)


def test_missing_files_are_counted_and_nothing_is_written(root):
    missing = [
        root / VOC / f"JPEGImages/{image_id}.jpg"
        for image_id in sorted(ids(root / VOC / "ImageSets/Segmentation/val.txt"))[:5]
    ]
    for path in missing:
        path.unlink()
    result = prepare(root)
    assert_refused(result, "val_voc.txt", "5 ", *missing[:3])
    assert str(missing[3]) not in result.stderr
    assert not any((root / name).exists() for name in LISTS)
    assert not (root / SBD / "cls_png").exists()


def test_a_missing_mask_is_named(root):
    mat = root / SBD / "cls" / f"{first_sbd_id(root)}.mat"
    mat.unlink()
    assert_refused(prepare(root), "train_augvoc.txt", mat)
    voc_mask = next((root / VOC / "SegmentationClass").iterdir())
    voc_mask.unlink()
    assert_refused(prepare(root), voc_mask)


def test_a_broken_mat_is_named_and_no_list_written(root):
    mat = root / SBD / "cls" / f"{first_sbd_id(root)}.mat"
    mat.write_bytes(mat.read_bytes()[:300])
    assert_refused(prepare(root), mat)
    assert not any((root / name).exists() for name in LISTS)


@pytest.mark.parametrize(
    "content",
    [
        {"other": np.zeros((4, 4), np.uint8)},
        {"GTcls": {"CategoriesPresent": np.zeros((1, 1), np.uint8)}},
        {"GTcls": {"Segmentation": np.full((4, 4), 21, np.uint8)}},
        {"GTcls": {"Segmentation": np.full((4, 4), 0.5)}},
        {"GTcls": {"Segmentation": np.full((4, 4), -1, np.int16)}},
        {"GTcls": {"Segmentation": "text"}},
        {"GTcls": {"Segmentation": np.zeros((0, 0), np.uint8)}},
    ],
)
def test_a_mat_without_a_label_map_is_refused(tmp_path, content):
    save_mat(tmp_path, content)
    with pytest.raises(UserError, match=r"x\.mat"):
        read_sbd_mask(tmp_path, "x")


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_broken_streams_never_reach_the_parser(tmp_path, monkeypatch, byte_order):
    """It may crash on them before it comes to their checksum."""
    save_mat(tmp_path, {"GTcls": {"Segmentation": np.arange(20, dtype=np.uint8)[None]}}, True)
    path = tmp_path / SBD / "cls/x.mat"
    whole = bytearray(path.read_bytes())
    if byte_order == ">":
        whole[124:128] = bytes(reversed(whole[124:128]))
        for first in (128, 132):
            whole[first : first + 4] = bytes(reversed(whole[first : first + 4]))
    parsed = []
    monkeypatch.setattr("datasets.voc.sbd_masks.loadmat", lambda *_, **__: parsed.append(1))
    for position in range(136, len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 1
        path.write_bytes(broken)
        with pytest.raises(UserError, match="not an SBD mask"):
            read_sbd_mask(tmp_path, "x")
    assert parsed == []
    path.write_bytes(whole)
    with pytest.raises(UserError):
        read_sbd_mask(tmp_path, "x")
    assert parsed == [1]


def test_the_ignore_index_passes(tmp_path):
    mask = np.array([[0, 20], [255, 3]], np.uint8)
    save_mat(tmp_path, {"GTcls": {"Segmentation": mask}})
    assert np.array_equal(read_sbd_mask(tmp_path, "x"), mask)


def test_what_cannot_be_written_is_one_line(root):
    (root / SBD / "cls_png").write_text("a file in the folder's place")
    assert_refused(prepare(root, "--workers", "1"), root / SBD / "cls_png")


def test_what_may_not_be_read_is_one_line_with_its_remedy(root, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", "x.mat")

    monkeypatch.setattr("datasets.voc.sbd_masks._require_whole_streams", refuse)
    with pytest.raises(UserError, match=f"x.mat.*{root} and what it links to must be readable"):
        module.prepare(root)


def test_workers_must_be_positive(root):
    assert_refused(prepare(root, "--workers", "0"), "--workers 0")


def test_official_numbers_are_demanded_with_the_check_only(root):
    assert_refused(prepare(root, "--official"), "--check")
