"""`python -m datasets.prepare --check`: each error is found, named once and given its remedy."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from get_data_case import VOC_TEST, add_test_set
from in_process import run_main
from PIL import Image
from scipy.io import loadmat, savemat

from datasets.prepare import main, prepare
from datasets.voc import PASCAL_VOC
from datasets.voc.check import check
from utils.errors import UserError

REPOSITORY = Path(__file__).resolve().parents[3]
VOC = Path("voc/VOCdevkit/VOC2012")
SBD = Path("sbd/benchmark_RELEASE/dataset")
ID_LISTS = (
    *(VOC / f"ImageSets/Segmentation/{split}.txt" for split in ("train", "val")),
    *(SBD / f"{split}.txt" for split in ("train", "val")),
)


@pytest.fixture(scope="module")
def whole(shipped, tmp_path_factory):
    """A data root like a real one, prepared."""
    root = Path(shutil.copytree(shipped, tmp_path_factory.mktemp("whole") / "data"))
    prepare(root)
    return root


@pytest.fixture
def root(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "data root"))


def run(root, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "datasets.prepare", "--root", str(root), "--check", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def errors(capsys):
    """Check in this process and give the errors that are printed, without `error: `."""

    def find(root, official=False):
        capsys.readouterr()
        try:
            check(root, workers=1, official=official)
        except UserError as error:
            message = str(error)
        else:
            message = ""
        lines = capsys.readouterr().out.splitlines()
        found = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        number = f"{len(found)} error{'s' * (len(found) != 1)} "
        assert message.startswith(number) if found else not message
        return found

    return find


def assert_one(found, path, *texts):
    assert len(found) == 1, found
    assert found[0].startswith(f"{path}: ")
    for text in texts:
        assert text in found[0]


def get_data(root, folder):
    return f"delete {root / folder} and run `DATA_ROOT='{root}' bash launch/get_data.sh`"


def prepare_again(root):
    return f" -m datasets.prepare --root '{root}'`"


def ids(path):
    return sorted(path.read_text().split())


def val_file(root, folder, suffix):
    """An image or mask of VOC val, which no other list has."""
    return root / VOC / folder / f"{ids(root / ID_LISTS[1])[3]}{suffix}"


def sbd_file(root, folder, suffix):
    """An image or mask that train_augvoc takes from SBD."""
    image_id = min(set(ids(root / ID_LISTS[2])) - set(ids(root / ID_LISTS[1])))
    return root / SBD / folder / f"{image_id}{suffix}"


def edit_mask(path, change):
    image = Image.open(path)
    mask = change(np.array(image))
    edited = Image.fromarray(mask)
    edited.putpalette(image.getpalette())
    edited.save(path)


def tree(root):
    return {
        path: (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in root.rglob("*")
    }


def test_a_whole_tree_passes_with_a_table_and_nothing_is_written(root):
    before = tree(root)
    result = run(root, "--workers", "2")
    assert result.returncode == 0
    assert tree(root) == before
    *table, last = [line.split() for line in result.stdout.splitlines()]
    assert last == f"the data under {root} is whole".split()
    mats = len(list((root / SBD / "cls").iterdir()))
    augmented = len((root / "train_augvoc.txt").read_text().splitlines())
    train, val = (str(len(ids(root / file))) for file in ID_LISTS[:2])
    assert table == [
        ["lines", "official", "images", "masks", "errors"],
        ["train_voc.txt", train, "1464", train, train, "0"],
        ["val_voc.txt", val, "1449", val, val, "0"],
        ["train_augvoc.txt", *f"{augmented} 10582 {augmented} {augmented} 0".split()],
        ["SBD", "masks", str(mats), "-", "-", str(mats), "0"],
    ]
    # a log gets few lines
    lines = result.stderr.splitlines()
    assert len(lines) <= 20 and all(line.startswith("checking: ") for line in lines)


def test_an_error_ends_the_command_with_status_2(root):
    image, mat = val_file(root, "JPEGImages", ".jpg"), sbd_file(root, "cls", ".mat")
    image.unlink()
    mat.write_bytes(mat.read_bytes()[:200])
    result = run(root, "--workers", "2")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith(f"error: 2 errors in the data under {root}")
    lines = [line for line in result.stdout.splitlines() if line.startswith("error: ")]
    assert [line.split(": ")[1] for line in lines] == [str(image), str(mat)]
    rows = {line.rsplit(None, 5)[0]: line.split()[-3:] for line in result.stdout.splitlines()[1:5]}
    counts = {name: len((root / name).read_text().splitlines()) for name in rows if "." in name}
    masks = len(list((root / SBD / "cls").iterdir()))
    assert rows == {
        "train_voc.txt": [str(counts["train_voc.txt"])] * 2 + ["0"],
        "val_voc.txt": [str(counts["val_voc.txt"] - 1), str(counts["val_voc.txt"]), "1"],
        "train_augvoc.txt": [
            str(counts["train_augvoc.txt"]),
            str(counts["train_augvoc.txt"] - 1),
            "1",
        ],
        "SBD masks": ["-", str(masks - 1), "1"],
    }


def test_other_processes_find_the_same(root, monkeypatch, capsys):
    monkeypatch.setattr("utils.processes.FEW_ITEMS", 0)
    mat = sbd_file(root, "cls", ".mat")
    mat.write_bytes(mat.read_bytes()[:200])
    with pytest.raises(UserError, match="1 error"):
        check(root, workers=2, official=False)
    assert f"error: {mat}: this is not an SBD mask" in capsys.readouterr().out


def test_a_reader_that_has_enough_ends_the_command_quietly(root):
    with subprocess.Popen(
        [sys.executable, "-m", "datasets.prepare", "--root", str(root), "--check"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        process.stdout.close()
        error = process.stderr.read()
    assert process.returncode == 141
    assert all(line.startswith("checking: ") for line in error.splitlines())


@pytest.mark.parametrize(
    "find, folder, suffix",
    [
        (val_file, "JPEGImages", ".jpg"),
        (val_file, "SegmentationClass", ".png"),
        (sbd_file, "img", ".jpg"),
        (sbd_file, "cls", ".mat"),
    ],
)
def test_a_missing_file(root, errors, find, folder, suffix):
    path = find(root, folder, suffix)
    path.unlink()
    data_set = path.relative_to(root).parts[0]
    assert_one(errors(root), path, ": missing; ", get_data(root, data_set))


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.01, 0.2, 0.5, 0.9, 0.99, -12, -3, -2, -1])
@pytest.mark.parametrize(
    "folder, suffix", [("JPEGImages", ".jpg"), ("SegmentationClass", ".png")], ids=["jpeg", "png"]
)
def test_a_truncated_file(root, errors, folder, suffix, kept):
    path = val_file(root, folder, suffix)
    content = path.read_bytes()
    path.write_bytes(content[: kept if kept < 0 else int(kept * len(content))])
    assert_one(errors(root), path, "cannot be read", get_data(root, "voc"))


def test_an_image_whose_end_never_reached_the_disk(root, errors):
    path = val_file(root, "JPEGImages", ".jpg")
    Image.effect_noise((500, 375), 90).save(path, quality=95)
    Image.new("L", (500, 375)).save(val_file(root, "SegmentationClass", ".png"))
    assert errors(root) == []
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    Image.open(path).load()  # a decoder takes it
    assert_one(errors(root), path, "its end is missing", get_data(root, "voc"))


def test_a_mask_with_a_flipped_bit(root, errors):
    path = val_file(root, "SegmentationClass", ".png")
    content = bytearray(path.read_bytes())
    content[content.index(b"PLTE") + 10] ^= 1
    path.write_bytes(content)
    assert_one(errors(root), path, "cannot be read", get_data(root, "voc"))


def test_what_follows_the_end_of_an_image_does_no_harm(root, errors):
    with val_file(root, "JPEGImages", ".jpg").open("ab") as file:
        file.write(b"a camera's own data")
    assert errors(root) == []


def test_a_mask_of_another_size(root, errors):
    path = val_file(root, "SegmentationClass", ".png")
    height, width = np.array(Image.open(path)).shape
    edit_mask(path, lambda mask: mask[:-1])
    sizes = f"{width}×{height - 1} pixels, its image {width}×{height}"
    assert_one(errors(root), path, sizes, get_data(root, "voc"))


def test_an_sbd_mask_of_another_size_than_its_image(root, errors):
    image = sbd_file(root, "img", ".jpg")
    Image.open(image).crop((0, 0, 30, 20)).save(image)
    assert_one(errors(root), sbd_file(root, "cls", ".mat"), "30×20", get_data(root, "sbd"))


@pytest.mark.parametrize("label", [21, 254])
def test_a_label_that_is_none(root, errors, label):
    path = val_file(root, "SegmentationClass", ".png")
    edit_mask(path, lambda mask: np.where(mask == mask[0, 0], np.uint8(label), mask))
    assert_one(errors(root), path, f"it holds {label}", get_data(root, "voc"))


def test_a_mask_of_colours(root, errors):
    path = val_file(root, "SegmentationClass", ".png")
    Image.open(path).convert("RGB").save(path)
    assert_one(errors(root), path, "RGB", get_data(root, "voc"))


def test_a_list_with_a_double(root, errors):
    path = root / "train_voc.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, f"/{lines[4]}"]))
    double = f"1 line there twice (line {len(lines) + 1}: /{lines[4]})"
    assert_one(errors(root), path, double, prepare_again(root))


def test_a_list_that_is_not_by_the_id_lists(root, errors):
    path = root / "val_voc.txt"
    first, second, third, fourth, *others = path.read_text().splitlines()
    strange = ["a.jpg a.png", first.split()[0], f"{first} more"]
    path.write_text("\n".join([*others, *strange]))
    assert_one(
        errors(root),
        path,
        f"4 lines missing by the id lists ({first}; {second}; ...)",
        f"3 lines not in the id lists (line {len(others) + 1}: {strange[0]}; ",
        prepare_again(root),
    )
    assert third not in others and fourth not in others


def test_lists_older_than_the_id_lists(root, errors):
    moved = ids(root / ID_LISTS[1])[0]
    for file, change in ((ID_LISTS[0], {moved}), (ID_LISTS[1], set())):
        kept = set(ids(root / file)) - {moved}
        (root / file).write_text("".join(f"{name}\n" for name in sorted(kept | change)))
    found = errors(root)
    names = ("train_voc.txt", "val_voc.txt", "train_augvoc.txt")
    assert [line.split(": ")[0] for line in found] == [str(root / name) for name in names]
    for line, what in zip(
        found, ("1 line missing", "1 line not in", "1 line missing"), strict=True
    ):
        assert what in line and moved in line and prepare_again(root) in line
    prepare(root)
    assert errors(root) == []


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00 binary"])
def test_a_list_without_content(root, errors, content):
    (root / "val_voc.txt").write_bytes(content)
    number = len(ids(root / ID_LISTS[1]))
    assert_one(errors(root), root / "val_voc.txt", f"{number} lines missing", prepare_again(root))


def test_a_missing_list(root, errors):
    (root / "train_augvoc.txt").unlink()
    assert_one(errors(root), root / "train_augvoc.txt", ": missing; ", prepare_again(root))


def test_order_and_spelling_of_lines_do_not_matter(root, errors):
    path = root / "train_augvoc.txt"
    lines = path.read_text().splitlines()[::-1]
    spelled = [" ".join(f"/{column}" for column in line.split()) for line in lines]
    path.write_bytes("\ufeff".encode() + "\r\n\r\n".join(spelled).encode())
    assert errors(root) == []


@pytest.mark.parametrize("has_png", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.05, 0.5, 0.95])
def test_a_mat_that_does_not_parse(root, errors, kept, has_png):
    mat = sbd_file(root, "cls", ".mat")
    content = mat.read_bytes()
    mat.write_bytes(content[: int(kept * len(content))])
    if not has_png:
        sbd_file(root, "cls_png", ".png").unlink()
    assert_one(errors(root), mat, "not an SBD mask", get_data(root, "sbd"))


def test_a_mat_with_an_empty_mask(root, errors):
    mat = sbd_file(root, "cls", ".mat")
    savemat(mat, {"GTcls": {"Segmentation": np.zeros((0, 0), np.uint8)}})
    sbd_file(root, "cls_png", ".png").unlink()
    assert_one(errors(root), mat, "not a map of labels", get_data(root, "sbd"))


def test_mats_that_no_list_has_are_checked_too(root, errors):
    unlisted = min(set(ids(root / ID_LISTS[2])) & set(ids(root / ID_LISTS[1])))
    mat = root / SBD / f"cls/{unlisted}.mat"
    mask = loadmat(mat)["GTcls"][0, 0]["Segmentation"]
    savemat(mat, {"GTcls": {"Segmentation": np.full_like(mask, 21)}})
    assert_one(errors(root), mat, "labels below 21", get_data(root, "sbd"))


@pytest.mark.parametrize(
    "damage, problem",
    [
        (lambda path: edit_mask(path, lambda mask: np.where(mask == 0, np.uint8(1), mask)), ".mat"),
        (lambda path: edit_mask(path, lambda mask: mask[:-1]), ".mat"),
        (lambda path: Image.open(path).convert("RGB").save(path), "RGB"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "cannot be read"),
        (lambda path: path.unlink(), ": missing; "),
    ],
    ids=["another mask", "another size", "colours", "truncated", "missing"],
)
def test_a_png_that_is_not_its_mat_is_made_again(root, errors, damage, problem):
    png = sbd_file(root, "cls_png", ".png")
    damage(png)
    assert_one(errors(root), png, problem, prepare_again(root))
    png.unlink(missing_ok=True)  # as the remedy says
    prepare(root)
    assert errors(root) == []


@pytest.mark.parametrize("file", ID_LISTS, ids=["VOC train", "VOC val", "SBD train", "SBD val"])
def test_an_id_file_that_is_missing_or_empty(root, errors, file):
    remedy = get_data(root, file.parts[0])
    (root / file).write_text("\n")
    assert_one(errors(root), root / file, "holds no ids", remedy)
    (root / file).unlink()
    assert_one(errors(root), root / file, ": missing; ", remedy)


@pytest.mark.parametrize("line", ["/JPEGImages/2007_000032", "../../x", "..", "a\0b"])
def test_an_id_that_is_no_file_name(root, errors, line):
    path = root / ID_LISTS[1]
    path.write_text(f"{line}\n{path.read_text()}")
    assert_one(
        [error for error in errors(root) if "val.txt" in error.split(": ")[0]][:1],
        path,
        f"{line!r}, which is no file name",
        get_data(root, "voc"),
    )


def test_id_lists_may_begin_with_a_byte_order_mark(root, errors):
    path = root / ID_LISTS[1]
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert errors(root) == []


@pytest.mark.parametrize("folder, name", [(VOC, "VOC 2012"), (SBD, "SBD")])
def test_a_missing_data_set_is_one_error(root, errors, folder, name):
    shutil.rmtree(root / folder.parts[0])
    command = f"run `DATA_ROOT='{root}' bash launch/get_data.sh`"
    assert_one(errors(root), root / folder, f"no {name}", command)


@pytest.mark.parametrize("folder", [VOC / "JPEGImages", SBD / "img", SBD / "cls"])
def test_a_missing_folder_is_one_error(root, errors, folder):
    shutil.rmtree(root / folder)
    assert_one(errors(root), root / folder, ": missing; ", get_data(root, folder.parts[0]))


def test_a_root_with_nothing_in_it(tmp_path, errors):
    assert [line.split(": ")[0] for line in errors(tmp_path / "none")] == [
        str(tmp_path / "none" / folder) for folder in (VOC, SBD)
    ]


def test_data_that_was_not_prepared(root, errors):
    shutil.rmtree(root / SBD / "cls_png")
    for path in root.glob("*.txt"):
        path.unlink()
    found = errors(root)
    assert len(found) == 4 and all(prepare_again(root) in line for line in found)
    prepare(root)
    assert errors(root) == []


def test_the_remedy_is_a_command_that_runs(root, errors):
    path = sbd_file(root, "cls_png", ".png")
    path.unlink()
    _, remedy, _ = errors(root)[0].split("`")
    subprocess.run(["bash", "-c", remedy], check=True, capture_output=True)
    assert path.is_file()
    assert errors(root) == []


def test_errors_are_in_the_order_of_lists_and_files(root, errors):
    images = sorted((root / VOC / "JPEGImages").iterdir())
    for path in images:
        path.write_bytes(b"")
    (root / "val_voc.txt").unlink()
    found = [Path(line.split(": ")[0]) for line in errors(root)]
    # an image that two lists share counts with the first
    train, val = ([path for path in images if path.stem in ids(root / f)] for f in ID_LISTS[:2])
    assert found == [*train, root / "val_voc.txt", *val]


def test_official_numbers(root, errors, monkeypatch):
    result = run_main(main, "--root", root, "--check", "--official")
    assert result.returncode == 2
    lines = result.stdout.splitlines()[-3:]
    for name, number, line in zip(
        ("train_voc.txt", "val_voc.txt", "train_augvoc.txt"),
        (1464, 1449, 10582),
        lines,
        strict=True,
    ):
        own = len((root / name).read_text().splitlines())
        assert line.startswith(f"error: {root / name}: ")
        assert f" {own} lines" in line and f" {number};" in line
        assert "get_data.sh" in line and "no --official" in line
    counts = {path.name: len(path.read_text().splitlines()) for path in root.glob("*.txt")}
    info = replace(PASCAL_VOC, expected_counts=counts)
    monkeypatch.setattr("datasets.voc.check.PASCAL_VOC", info)
    assert errors(root, official=True) == []


def test_a_broken_file_of_a_linked_data_set_is_the_owners_to_mend(root, tmp_path, errors):
    for name in ("voc", "sbd"):
        (root / name).rename(tmp_path / f"copy of {name}")
        (root / name).symlink_to(tmp_path / f"copy of {name}")
    assert errors(root) == []
    path = val_file(root, "JPEGImages", ".jpg")
    path.write_bytes(b"")
    assert_one(errors(root), path, f"{root / 'voc'} is a link to {tmp_path / 'copy of voc'}")


def test_a_folder_linked_inside_a_data_set(root, tmp_path, errors):
    (root / SBD / "img").rename(tmp_path / "images")
    (root / SBD / "img").symlink_to(tmp_path / "images")
    path = sbd_file(root, "img", ".jpg")
    path.unlink()
    assert_one(errors(root), path, f"{root / SBD / 'img'} is a link to {tmp_path / 'images'}")


@pytest.fixture
def root_with_test(root):
    add_test_set(root, ("2008_000006", "2008_000008"))
    prepare(root)
    return root


def test_the_test_set_is_checked_where_there_is_one(root_with_test, errors):
    result = run_main(main, "--root", root_with_test, "--check", "--workers", "1")
    assert result.returncode == 0
    row = next(line for line in result.stdout.splitlines() if line.startswith("test.txt"))
    assert row.split() == ["test.txt", "2", "1456", "2", "-", "0"]
    image = root_with_test / VOC_TEST / "JPEGImages/2008_000006.jpg"
    image.write_bytes(image.read_bytes()[:-1])
    assert_one(errors(root_with_test), image, f"delete {root_with_test / 'voc_test'}", "VOC_TEST=")


def test_a_list_of_test_images_that_are_not_there(root_with_test, errors):
    shutil.rmtree(root_with_test / "voc_test")
    assert_one(errors(root_with_test), root_with_test / "test.txt", "delete this list", "VOC_TEST=")


def test_mini_voc_is_drawn_again(root, errors):
    (root / "mini_voc.json").write_text("{}")
    path = val_file(root, "JPEGImages", ".jpg")
    path.write_bytes(b"")
    remedy = f" -m datasets.mini_voc --out '{root}'"
    assert_one(errors(root), path, "; delete it and draw mini-VOC again: ", remedy)
    path.unlink()
    assert_one(errors(root), path, "missing; draw mini-VOC again: ", remedy)


def test_the_default_root_needs_no_variable(root, errors, monkeypatch):
    root.rename(root.parent / "data")
    monkeypatch.chdir(root.parent)
    path = val_file(Path("data"), "JPEGImages", ".jpg")
    path.unlink()
    remedy = "delete data/voc and run `bash launch/get_data.sh`"
    assert_one(errors(Path("data")), path, remedy)


@pytest.mark.parametrize("function", ["decode_whole", "read_sbd_mask"])
def test_files_that_may_not_be_read_are_not_to_be_replaced(root, monkeypatch, function):
    def refuse(path, *_):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(f"datasets.voc.check.{function}", refuse)
    with pytest.raises(UserError, match=r"Permission denied.*must be readable"):
        check(root, workers=1, official=False)
