"""launch/get_coco.sh against a server on this machine, or with a copy."""

import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

from coco_case import get_coco
from get_data_case import assert_done, assert_refused, tree
from in_process import run_main

from datasets.coco import get_data as module
from datasets.coco.annotations import read_annotations
from datasets.coco.archives import ARCHIVES, HOST
from datasets.coco.layout import SPLITS, TRAIN, VAL

LISTS = {split.list for split in SPLITS}
ANNOTATIONS, TRAIN_ZIP, VAL_ZIP = (archive.address for archive in ARCHIVES)


def call(root, *options, **variables):
    """What the script starts, in this process."""
    words = [f"--{name.lower().replace('_', '-')}={value}" for name, value in variables.items()]
    return run_main(module.main, f"--root={root}", "--workers=1", *words, *options)


def assert_ready(root, prepared_coco):
    wanted = tree(prepared_coco)
    del wanted["mini_coco.json"]
    assert tree(root) == wanted


def test_one_command_makes_the_whole_tree(coco_server, prepared_coco, tmp_path):
    root = tmp_path / "a data root"
    done = subprocess.run(**get_coco(root, COCO_URL=coco_server.url), capture_output=True)
    assert_done(done)
    assert_ready(root, prepared_coco)
    assert [name for name, _ in coco_server.requests] == [ANNOTATIONS, TRAIN_ZIP, VAL_ZIP]

    # a second run asks for nothing and changes nothing
    coco_server.requests.clear()
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert_done(call(root, COCO_URL=coco_server.url))
    assert coco_server.requests == []
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*")}


def test_annotations_are_read_once_to_look_at_them_and_once_to_paint(
    coco_server, tmp_path, monkeypatch
):
    read = []

    def note(root, split, shapes):
        read.append((split, shapes))
        return read_annotations(root, split, shapes)

    monkeypatch.setattr(module, "read_annotations", note)
    monkeypatch.setattr("datasets.coco.prepare.read_annotations", note)
    assert_done(call(tmp_path / "data", COCO_URL=coco_server.url))
    assert read == [(TRAIN, False), (VAL, False), (TRAIN, False), (VAL, True)]


def test_a_mirror_may_have_the_archives_side_by_side(
    coco_server, coco_archives, prepared_coco, tmp_path
):
    coco_server.files = {
        f"a/{address.split('/')[1]}": file for address, file in coco_archives.items()
    }
    assert_done(call(tmp_path / "data", COCO_URL=f"{coco_server.url}/a/"))
    assert_ready(tmp_path / "data", prepared_coco)


def test_a_connection_that_breaks_is_gone_on_with(coco_server, prepared_coco, tmp_path):
    coco_server.drops, coco_server.drop_after = 2, 5_000
    assert_done(call(tmp_path / "data", COCO_URL=coco_server.url))
    asked = [ranges for name, ranges in coco_server.requests if name == ANNOTATIONS]
    assert asked == [None, "bytes=5000-", "bytes=10000-"]
    assert_ready(tmp_path / "data", prepared_coco)


def test_a_killed_run_is_gone_on_with(coco_server, prepared_coco, tmp_path):
    root = tmp_path / "data"
    coco_server.bytes_per_second = 300_000
    with subprocess.Popen(
        **get_coco(root, COCO_URL=coco_server.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        part = root / ".downloads/train2014.zip.part"
        deadline = time.monotonic() + 60
        while not (part.exists() and part.stat().st_size > 5_000):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.kill()
    held = part.stat().st_size
    coco_server.bytes_per_second = None
    coco_server.requests.clear()
    assert_done(call(root, COCO_URL=coco_server.url))
    assert coco_server.requests == [(TRAIN_ZIP, f"bytes={held}-"), (VAL_ZIP, None)]
    assert_ready(root, prepared_coco)


def test_each_archive_goes_when_it_is_unpacked(coco_server, tmp_path):
    root = tmp_path / "data"
    coco_server.statuses = [None, None, 404, 404]
    assert_refused(call(root, COCO_URL=coco_server.url), "val2014", "COCO_URL=ADDRESS")
    assert (root / TRAIN.images).is_dir() and not list(root.rglob("*.zip"))


class TestWrongArchives:
    def change(self, coco_server, address, path):
        """The server's archive, changed: open for writing, with what it held."""
        held = zipfile.ZipFile(coco_server.files[address])
        coco_server.files[address] = path
        return held, zipfile.ZipFile(path, "w")

    def test_one_that_lacks_an_image(self, coco_server, tmp_path):
        held, packed = self.change(coco_server, TRAIN_ZIP, tmp_path / "x.zip")
        with packed:
            first, *others = held.namelist()
            for name in others:
                packed.writestr(name, held.read(name))
        root = tmp_path / "data"
        line = "a file is missing"
        assert_refused(call(root, COCO_URL=coco_server.url), line, Path(first).name)
        assert not (root / TRAIN.images).exists() and not list(root.rglob("*.zip*"))

    def test_one_with_annotations_that_are_cut_short(self, coco_server, tmp_path):
        held, packed = self.change(coco_server, ANNOTATIONS, tmp_path / "x.zip")
        with packed:
            for name in held.namelist():
                packed.writestr(name, held.read(name)[:5000])
        root = tmp_path / "data"
        assert_refused(
            call(root, COCO_URL=coco_server.url), "instances_train2014.json", "cut short"
        )
        assert not (root / "coco").exists()

    def test_one_that_leads_elsewhere(self, coco_server, tmp_path):
        _, packed = self.change(coco_server, ANNOTATIONS, tmp_path / "x.zip")
        with packed:
            packed.writestr("../../../outside.txt", "x")
        root = tmp_path / "root" / "data"
        assert_refused(call(root, COCO_URL=coco_server.url), "outside.txt", "COCO_URL=ADDRESS")
        assert not (tmp_path / "outside.txt").exists()
        assert not any(path.is_file() for path in root.rglob("*"))

    def test_one_that_is_no_zip(self, coco_server, tmp_path):
        coco_server.files[ANNOTATIONS] = b"PK\x03\x04 but no more than that"
        coco_server.files["annotations_trainval2014.zip"] = b"PK\x03\x04"
        assert_refused(call(tmp_path / "data", COCO_URL=coco_server.url), "no zip archive")

    def test_official_checksums_are_demanded_where_asked_for(
        self, coco_server, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**12))
        result = call(tmp_path / "data", "--official", COCO_URL=coco_server.url)
        assert_refused(result, ARCHIVES[1].md5)


class TestRoom:
    def test_it_is_looked_for_before_anything_is_asked_for(
        self, coco_server, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=27 * 10**9))
        result = call(tmp_path / "data", "--official", COCO_URL=coco_server.url)
        assert_refused(result, "27.0 GB free", "27.5 GB", "COCO=PATH")
        assert coco_server.requests == []

    def test_a_mirror_that_may_have_less_is_asked_all_the_same(
        self, coco_server, tmp_path, monkeypatch
    ):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=27 * 10**9))
        result = call(tmp_path / "data", COCO_URL=coco_server.url)
        assert_done(result)
        assert "27.0 GB free; COCO takes 27.5 GB" in result.stdout

    def test_it_is_said_and_what_is_held_counts(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=28 * 10**9))
        module.require_room(tmp_path, ARCHIVES)
        assert "COCO takes 27.5 GB more at most, of which 20.7 GB stay" in capsys.readouterr().out
        (tmp_path / ".downloads").mkdir()
        with (tmp_path / ".downloads/train2014.zip").open("wb") as file:
            file.truncate(13_500_000_000)  # a hole, which takes no room
        module.require_room(tmp_path, ARCHIVES[1:])
        assert "COCO takes 13.5 GB more at most, of which 6.7 GB" in capsys.readouterr().out


class TestCopies:
    def test_a_copy_is_linked_and_not_written_to(self, shipped_coco, prepared_coco, tmp_path):
        before = tree(shipped_coco)
        root = tmp_path / "data"
        assert_done(call(root, "--no-official", COCO=shipped_coco))
        for archive in ARCHIVES:
            assert (root / archive.path).samefile(shipped_coco / archive.path.name)
        assert not (root / VAL.masks).is_symlink() and tree(shipped_coco) == before
        assert (root / VAL.list).read_bytes() == (prepared_coco / VAL.list).read_bytes()
        assert_done(call(root, "--no-official", COCO=shipped_coco))

    def test_its_parts_may_be_one_folder_below(self, shipped_coco, tmp_path):
        copy = tmp_path / "copy"
        (copy / "masks/val2014").mkdir(parents=True)
        for archive in ARCHIVES:
            below = copy / ("images" if archive.split else "labels")
            below.mkdir(exist_ok=True)
            (below / archive.path.name).symlink_to(shipped_coco / archive.path.name)
        assert_done(call(tmp_path / "data", "--no-official", COCO=copy))

    def test_masks_of_others_may_be_named(self, shipped_coco, prepared_coco, tmp_path):
        masks = prepared_coco / "coco/masks"
        root = tmp_path / "data"
        assert_done(call(root, "--no-official", COCO=shipped_coco, MASKS=masks))
        assert (root / VAL.masks).samefile(masks / "val2014")

    def test_one_that_is_not_whole_is_not_linked(self, shipped_coco, tmp_path):
        copy = shutil.copytree(shipped_coco, tmp_path / "copy")
        lost = sorted((copy / "val2014").iterdir())[0]
        lost.unlink()
        root = tmp_path / "data"
        assert_refused(call(root, "--no-official", COCO=copy), lost.name, "whole copy")
        assert not (root / VAL.images).exists()

    def test_what_a_copy_lacks_is_named_before_anything_is_linked(self, shipped_coco, tmp_path):
        copy = shutil.copytree(shipped_coco, tmp_path / "copy")
        shutil.rmtree(copy / "annotations")
        root = tmp_path / "data"
        assert_refused(call(root, COCO=copy), "annotations", copy)
        assert_refused(call(root, COCO=tmp_path / "none"), "no such folder")
        assert list(root.iterdir()) == []

    def test_another_copy_than_that_which_is_there(self, shipped_coco, tmp_path):
        root = tmp_path / "data"
        assert_done(call(root, "--no-official", COCO=shipped_coco))
        copy = shutil.copytree(shipped_coco, tmp_path / "copy")
        assert_refused(call(root, COCO=copy), copy, "remove that")

    def test_official_numbers_are_demanded_of_it(self, shipped_coco, tmp_path):
        result = call(tmp_path / "data", COCO=shipped_coco)
        assert result.returncode == 2 and "that published 82783" in result.stdout


def test_mistakes_are_told_at_once(coco_server, tmp_path, prepared_coco, monkeypatch):
    root = tmp_path / "data"
    assert_refused(call(root, COCO=tmp_path, COCO_URL=coco_server.url), "COCO_URL")
    assert_refused(call(root, COCO_URL="ftp://127.0.0.1/x"), "COCO_URL=ftp:")
    assert_refused(call(root, COCO_URL=coco_server.url, MASKS=tmp_path / "none"), "COCO_MASKS")
    assert_refused(call(prepared_coco), "mini-COCO")
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    assert_refused(call(root, COCO_URL=coco_server.url), "pip install pycocotools")
    assert coco_server.requests == []


def test_addresses_and_checksums_are_the_published_ones():
    assert [archive.urls("") for archive in ARCHIVES] == [
        [f"{HOST}/annotations/annotations_trainval2014.zip"],
        [f"{HOST}/zips/train2014.zip"],
        [f"{HOST}/zips/val2014.zip"],
    ]
    sums = ["", "0da8c0bd3d6becc4dcb32757491aca88", "a3d79f5ed8d289b7a7554ce06a5782b3"]
    assert [archive.md5 for archive in ARCHIVES] == sums
