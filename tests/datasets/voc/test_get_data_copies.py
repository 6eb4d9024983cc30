"""datasets.voc.get_data with copies of the user's: folders, which are linked, and archives."""

import shutil
from pathlib import Path

import pytest
from get_data_case import (
    LISTS,
    SBD,
    SBD_SOURCE,
    VOC,
    VOC_SOURCE,
    VOC_TEST,
    assert_done,
    assert_empty,
    assert_refused,
    call_get_data,
    pack,
    tree,
)

from datasets.voc.archives import VOC_TRAINVAL
from datasets.voc.check import check
from utils.errors import UserError


def link(root, copy, **variables):
    """Take a copy of another number of images than the official ones."""
    given = {"VOC": copy, "SBD": copy} | variables
    given = {name: value for name, value in given.items() if value}
    return call_get_data(root, "--no-official", **given)


@pytest.mark.parametrize(
    "voc, sbd",
    [
        ("voc", "sbd"),
        ("voc/VOCdevkit", "sbd/benchmark_RELEASE"),
        ("voc/VOCdevkit/VOC2012", "sbd/benchmark_RELEASE/dataset"),
        ("voc/VOCdevkit/VOC2012/JPEGImages", "sbd/benchmark_RELEASE/dataset/cls"),
        (".", "."),
    ],
)
def test_any_folder_of_a_copy_may_be_named(ready, copy, tmp_path, voc, sbd):
    before = {path: path.stat().st_mtime_ns for path in copy.rglob("*")}
    root = tmp_path / "data"
    assert_done(link(root, copy, VOC=copy / voc, SBD=copy / sbd))
    assert {name: (root / name).read_text() for name in LISTS} == {
        name: (ready / name).read_text() for name in LISTS
    }
    assert (root / VOC / "JPEGImages").resolve() == copy / VOC / "JPEGImages"
    assert (root / SBD / "img").resolve() == copy / SBD / "img"
    assert tree(root / SBD / "cls_png") == tree(ready / SBD / "cls_png")
    # a copy is read only
    assert before == {path: path.stat().st_mtime_ns for path in copy.rglob("*")}


def test_a_copy_without_the_usual_folders_around_it(copy, tmp_path):
    (copy / VOC).rename(tmp_path / "my voc")
    assert_done(link(tmp_path / "data", copy, VOC=tmp_path / "my voc"))


def test_a_copy_inside_the_data_root_is_found_again(copy, tmp_path):
    """What the first run made of links must not pass for a second copy."""
    root = tmp_path / "data"
    mine = root / "data sets"
    mine.mkdir(parents=True)
    for folder in ("voc/VOCdevkit", "sbd/benchmark_RELEASE"):
        (copy / folder).rename(mine / Path(folder).name)
    for _ in range(2):
        assert_done(link(root, root))
    assert (root / VOC).resolve() == mine / "VOCdevkit/VOC2012"
    assert (root / SBD / "img").resolve() == mine / "benchmark_RELEASE/dataset/img"


def test_a_data_root_may_be_named_as_what_it_holds(ready):
    assert_done(link(ready, ready))


def test_another_year_of_voc_is_not_taken(copy, tmp_path):
    devkit = copy / "voc/VOCdevkit"
    shutil.copytree(copy / VOC, devkit / "VOC2007")
    root = tmp_path / "data"
    assert_done(link(root, copy))
    assert (root / VOC).resolve() == copy / VOC
    shutil.rmtree(copy / VOC)
    other = tmp_path / "other"
    for named in (devkit, devkit / "VOC2007", devkit / "VOC2007/JPEGImages"):
        assert_refused(link(other, copy, VOC=named), f"VOC={named}", devkit / "VOC2007", "VOC 2012")
    assert_empty(other)


def test_of_several_copies_one_is_to_be_named(copy, tmp_path):
    for name in ("mine", "yours"):
        shutil.copytree(copy / VOC, copy / "voc/VOCdevkit" / name)
    shutil.rmtree(copy / VOC)
    assert_refused(link(tmp_path / "data", copy), "several", "VOCdevkit/mine", "VOCdevkit/yours")


def test_a_folder_that_may_not_be_read_does_not_end_the_search(copy, monkeypatch):
    (copy / "lost+found").mkdir()
    exists = Path.exists

    def refuse(path, *arguments, **options):
        if "lost+found" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path, *arguments, **options)

    monkeypatch.setattr(Path, "exists", refuse)
    assert VOC_TRAINVAL.locate(copy, own=copy / "none") == copy / VOC


def test_what_is_no_copy_is_refused(copy, tmp_path):
    root = tmp_path / "data"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused(link(root, copy, VOC=empty), f"VOC={empty}", "SegmentationClass")
    assert_refused(link(root, copy, VOC=empty / "none"), f"VOC={empty}/none")
    assert_refused(link(root, copy, VOC="-x"), "VOC=", "/-x")
    image = next((copy / VOC / "JPEGImages").iterdir())
    image.unlink()
    assert_refused(link(root, copy), "a file is missing", f"JPEGImages/{image.name}", f"VOC={copy}")
    assert_empty(root)


@pytest.mark.parametrize(
    "content, problem",
    [
        (b"\n", "no ids"),
        (b"/JPEGImages/2007_000032", "'/JPEGImages/2007_000032'"),
        (b"../../x", "'../../x'"),
        (b"..", "'..'"),
        (b"a\0b", "no file name"),
        (b"\xff\xfe", "no text"),
    ],
)
def test_an_id_file_that_is_none(copy, tmp_path, content, problem):
    id_list = Path("ImageSets/Segmentation/val.txt")
    (copy / VOC / id_list).write_bytes(content)
    root = tmp_path / "data"
    assert_refused(link(root, copy), "VOC 2012 is not whole", id_list, problem)
    assert_empty(root)


def test_an_id_file_that_is_missing_counts_for_itself(copy, tmp_path):
    (copy / SBD / "val.txt").unlink()
    # then it is no copy at all, but what is in place may have lost it
    root = tmp_path / "data"
    root.mkdir()
    shutil.copytree(copy / "sbd", root / "sbd")
    assert_refused(link(root, copy, SBD=""), "val.txt is missing", f"remove {root / 'sbd'}")


def test_mistakes_are_told_before_the_first_download(server, mirror, copy, tmp_path):
    voc = {name: value for name, value in mirror.items() if name.startswith("VOC")}
    lame = Path(shutil.copytree(copy, tmp_path / "lame"))
    next((lame / SBD / "img").iterdir()).unlink()
    (tmp_path / "sbd.tgz").write_bytes(b"another archive")
    for given in (tmp_path / "none", tmp_path / "sbd.tgz", lame, copy / "voc"):
        root = tmp_path / "data"
        assert_refused(call_get_data(root, **voc, SBD=given), given)
        assert_empty(root)
    assert server.requests == []


def test_a_copy_and_an_address_exclude_each_other(copy, mirror, tmp_path):
    assert_refused(
        call_get_data(tmp_path / "data", **mirror, VOC=copy), "VOC and VOC_URL are both set"
    )


def test_what_is_there_is_not_replaced(copy, tmp_path):
    root = tmp_path / "data"
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    for _ in range(2):
        assert_done(link(root, copy))
    result = link(root, copy, VOC=other)
    assert_refused(result, f"VOC={other} is not what {root / 'voc'} holds")
    (root / VOC).unlink()
    assert_refused(link(root, copy), "is missing", f"remove {root / 'voc'}")


def test_links_made_by_hand_are_kept(copy, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("voc", "sbd"):
        (root / name).symlink_to(copy / name)
    assert_done(call_get_data(root, "--no-official"))
    assert (root / "voc").readlink() == copy / "voc"
    shutil.rmtree(copy / "voc")
    assert_refused(call_get_data(root), root / "voc", "does not exist")


@pytest.mark.parametrize("name", ["voc", "voc_test"])
def test_an_empty_folder_in_the_place_is_no_obstacle(copy, tmp_path, name):
    root = tmp_path / "data"
    (root / name).mkdir(parents=True)
    assert_done(link(root, copy))
    assert not (root / "voc_test").exists()


def test_a_copy_that_was_moved_away_is_linked_anew_by_the_remedy(copy, tmp_path, capsys):
    root = tmp_path / "data"
    assert_done(link(root, copy))
    moved = copy.rename(tmp_path / "moved")
    with pytest.raises(UserError):
        check(root, workers=1, official=False)
    assert f"remove {root / 'voc'} and run `DATA_ROOT=" in capsys.readouterr().out
    for name in ("voc", "sbd"):
        shutil.rmtree(root / name)
    assert_done(link(root, moved))


@pytest.fixture
def test_tar(copy, tmp_path):
    """An archive of VOC's layout with one image, and no masks."""
    folder = tmp_path / "test set"
    image = next((copy / VOC / "JPEGImages").iterdir())
    for path in ("JPEGImages", "ImageSets/Segmentation"):
        (folder / "VOCdevkit/VOC2012" / path).mkdir(parents=True)
    shutil.copy(image, folder / "VOCdevkit/VOC2012/JPEGImages/2008_000001.jpg")
    ids = folder / "VOCdevkit/VOC2012/ImageSets/Segmentation/test.txt"
    ids.write_text("2008_000001\n")
    return pack(tmp_path / "VOC2012test.tar", folder, "w")


def test_archives_that_the_user_has(ready, archives, mirror, test_tar, tmp_path):
    root = tmp_path / "data"
    voc, sbd = archives.values()
    given = {"VOC": voc, "SBD": sbd, "VOC_TEST": test_tar}
    assert_refused(link(root, None, **given), voc, VOC_SOURCE.md5, "VOC_MD5")
    assert_empty(root)
    checksums = {name: value for name, value in mirror.items() if name.endswith("MD5")}
    assert_done(link(root, None, **given, **checksums))
    assert (root / "test.txt").read_text() == f"{VOC_TEST}/JPEGImages/2008_000001.jpg\n"
    for name in ("voc", "sbd"):
        assert tree(root / name) == tree(ready / name)
    assert voc.is_file() and sbd.is_file() and test_tar.is_file()


@pytest.mark.parametrize("folder", ["downloads", ".downloads"])
def test_the_users_own_files_stay_wherever_they_are(archives, mirror, tmp_path, folder):
    root = tmp_path / "data"
    (root / folder / "benchmark.tgz.d").mkdir(parents=True)
    (root / folder / "benchmark.tgz.notes").touch()
    given = {
        name: Path(shutil.copy(archives[source.filename], root / folder))
        for name, source in (("VOC", VOC_SOURCE), ("SBD", SBD_SOURCE))
    }
    before = tree(root / folder)
    checksums = {name: value for name, value in mirror.items() if name.endswith("MD5")}
    for _ in range(2):
        assert_done(link(root, None, **given, **checksums))
        assert tree(root / folder) == before


def test_a_damaged_archive_of_the_users_is_to_be_replaced_by_another(copy, test_tar, tmp_path):
    root = tmp_path / "data"
    test_tar.write_bytes(test_tar.read_bytes()[:3000])
    result = link(root, copy, VOC_TEST=test_tar)
    assert_refused(result, test_tar, "cut off", "name another with VOC_TEST=PATH")
    assert test_tar.is_file()
    assert not (root / "voc_test").exists()


def test_official_numbers_are_demanded_of_copies(copy, tmp_path):
    root = tmp_path / "data"
    result = call_get_data(root, VOC=copy, SBD=copy)
    assert result.returncode == 2
    for name, number in (
        ("train_voc.txt", 1464),
        ("val_voc.txt", 1449),
        ("train_augvoc.txt", 10582),
    ):
        (error,) = (x for x in result.stdout.splitlines() if x.startswith(f"error: {root / name}"))
        assert f"those published {number};" in error
        assert (
            f"remove {root / 'voc'} and run" in error or f"remove {root / 'sbd'} and run" in error
        )
        assert "--no-official" in error
    assert_done(link(root, copy))
