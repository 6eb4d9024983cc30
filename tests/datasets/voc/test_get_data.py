"""launch/get_data.sh against a server on this machine: what comes, and what must not."""

import os
import resource
import shutil
import signal
import subprocess
import tarfile
import time
from pathlib import Path

import pytest
from get_data_case import (
    LISTS,
    SBD_SOURCE,
    VOC,
    VOC_SOURCE,
    assert_done,
    assert_empty,
    assert_refused,
    call_get_data,
    command,
    get_data,
    mirror_of,
    pack,
    tree,
)


def test_one_command_makes_the_whole_tree(shipped, ready):
    for name in ("voc", "sbd"):
        made = {k: v for k, v in tree(ready / name).items() if "cls_png" not in k}
        assert made == tree(shipped / name)
    assert {path.name for path in ready.iterdir()} == {"voc", "sbd", *LISTS}
    for name in LISTS:
        for line in (ready / name).read_text().splitlines():
            assert all((ready / column).is_file() for column in line.split(" "))


def test_a_second_run_downloads_and_changes_nothing(ready, server, mirror):
    before = {path: path.stat().st_mtime_ns for path in ready.rglob("*")}
    result = get_data(ready, **mirror)
    assert_done(result)
    assert result.stdout.endswith(f"{ready} is ready\n")
    assert server.requests == []
    assert before == {path: path.stat().st_mtime_ns for path in ready.rglob("*")}


def test_a_connection_that_breaks_is_gone_on_with(ready, server, mirror, tmp_path):
    server.drops, server.drop_after = 2, 20_000
    assert_done(call_get_data(tmp_path / "data", **mirror))
    voc = [asked for name, asked in server.requests if name == VOC_SOURCE.filename]
    assert voc == [None, "bytes=20000-", "bytes=40000-"]
    assert tree(tmp_path / "data") == tree(ready)


def test_a_server_without_ranges_gives_the_same(ready, server, mirror, tmp_path):
    server.ranges, server.drops = False, 1
    assert_done(call_get_data(tmp_path / "data", **mirror))
    assert tree(tmp_path / "data") == tree(ready)


def test_a_mirror_s_archives_may_be_zips(ready, server, shipped, tmp_path):
    for name, source in (("voc", VOC_SOURCE), ("sbd", SBD_SOURCE)):
        packed = shutil.make_archive(str(tmp_path / name), "zip", shipped / name)
        server.files[source.filename] = Path(packed)
    assert_done(call_get_data(tmp_path / "data", **mirror_of(server)))
    assert tree(tmp_path / "data") == tree(ready)


def test_a_home_folder_may_be_named(copy, tmp_path):
    assert_done(get_data("~/data", "--no-official", VOC=copy, SBD="~/data sets", HOME=tmp_path))
    assert (tmp_path / "data" / LISTS[0]).is_file()
    assert_refused(get_data("~no-such-user/data"), "~no-such-user/data")


class TestMirrors:
    def test_their_addresses_may_have_any_form(self, server, ready, tmp_path):
        """One ends in a slash, the other is too long for a file's name and shares a beginning."""
        paths = {"VOC": "a/", "SBD": f"a/?signature={'x' * 300}"}
        for variable, source in (("VOC", VOC_SOURCE), ("SBD", SBD_SOURCE)):
            server.files[paths[variable]] = server.files[source.filename]
        root = tmp_path / "data"
        addresses = {f"{name}_URL": f"{server.url}/{path}" for name, path in paths.items()}
        assert_done(call_get_data(root, **(mirror_of(server) | addresses)))
        assert tree(root) == tree(ready)

    def test_another_address_goes_on_with_what_is_held(self, server, mirror, ready, tmp_path):
        root = tmp_path / "data"
        server.statuses, server.drops, server.drop_after = [None, 404], 1, 20_000
        assert_refused(call_get_data(root, **mirror), "20000 bytes are kept", "VOC_URL=ADDRESS")
        assert_empty(root)
        server.files["signed anew"] = server.files[VOC_SOURCE.filename]
        server.requests.clear()
        assert_done(call_get_data(root, **(mirror | {"VOC_URL": f"{server.url}/signed%20anew"})))
        assert server.requests[0] == ("signed anew", "bytes=20000-")
        assert tree(root) == tree(ready)

    def test_a_wrong_checksum_leaves_nothing(self, server, mirror, tmp_path):
        root = tmp_path / "data"
        result = call_get_data(root, **(mirror | {"VOC_MD5": "0" * 32}))
        remedies = ("VOC_URL=ADDRESS", "VOC_MD5", "VOC=PATH")
        assert_refused(result, mirror["VOC_URL"], mirror["VOC_MD5"], "0" * 32, *remedies)
        assert_empty(root)
        # the official checksum is demanded of a mirror for which none is given
        result = call_get_data(root, **(mirror | {"VOC_MD5": ""}))
        assert_refused(result, VOC_SOURCE.md5)

    @pytest.mark.parametrize(
        "variable, value",
        [
            ("SBD_MD5", "zz"),
            ("SBD_MD5", "0"),
            ("SBD_MD5", "0" * 33),
            ("SBD_URL", "-x"),
            ("SBD_URL", "ftp://127.0.0.1/x.tgz"),
            ("SBD_URL", "http://[1/x.tgz"),
            ("SBD_URL", "http:///x.tgz"),
        ],
    )
    def test_a_mistake_is_told_before_anything_is_asked_for(
        self, server, mirror, tmp_path, variable, value
    ):
        result = call_get_data(tmp_path / "data", **(mirror | {variable: value}))
        assert_refused(result, f"{variable}={value}")
        assert server.requests == []

    @pytest.mark.parametrize("name", ["VOC", "SBD"])
    def test_official_numbers_are_not_demanded_of_them_unless_asked_for(
        self, ready, mirror, copy, tmp_path, name
    ):
        """The data root `ready` shows that they need not hold; here they are asked for."""
        result = call_get_data(ready, "--official", **mirror)
        assert result.returncode == 2
        assert f"error: {ready / 'train_augvoc.txt'}: " in result.stdout
        assert "--no-official" in result.stdout
        other = {"VOC": "SBD", "SBD": "VOC"}[name]
        address = {f"{name}_{what}": mirror[f"{name}_{what}"] for what in ("URL", "MD5")}
        assert_done(call_get_data(tmp_path / "data", **address, **{other: copy}))


@pytest.mark.parametrize("kind", ["above", "absolute", "link"])
def test_a_hostile_archive_leaves_nothing(server, shipped, tmp_path, kind):
    root, outside = tmp_path / "root" / "data", tmp_path / "outside.txt"
    # as deep as the archive is unpacked: data/.unpacking/voc
    name = {"above": "../../../../outside.txt", "absolute": str(outside), "link": "link"}[kind]
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as tar:
        tar.add(shipped / "voc", ".")
        info = tarfile.TarInfo(name)
        if kind == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    server.files[VOC_SOURCE.filename] = hostile
    result = call_get_data(root, **mirror_of(server))
    assert_refused(result, VOC_SOURCE.filename, name, "VOC_URL=ADDRESS")
    assert_empty(root)
    assert not outside.exists()


def test_an_archive_that_lacks_files_leaves_nothing(server, copy, tmp_path):
    lost = min((copy / VOC / "SegmentationClass").iterdir())
    lost.unlink()
    server.files[VOC_SOURCE.filename] = pack(tmp_path / "voc.tar", copy / "voc", "w")
    root = tmp_path / "data"
    assert_refused(call_get_data(root, **mirror_of(server)), "a file is missing", lost.name)
    assert_empty(root)


@pytest.mark.parametrize("share", [0.1, 0.9])
def test_a_full_disk_ends_in_one_line(ready, archives, mirror, tmp_path, share):
    root = tmp_path / "data"
    limit = int(share * archives[VOC_SOURCE.filename].stat().st_size)
    done = subprocess.run(
        **command(root, **mirror),
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert_refused(done, "File too large", root)
    assert_empty(root)
    assert_done(call_get_data(root, **mirror))
    assert tree(root) == tree(ready)


def test_a_full_disk_while_unpacking_costs_no_download(ready, server, archives, mirror, tmp_path):
    root = tmp_path / "data"
    archive = root / ".downloads" / VOC_SOURCE.filename
    archive.parent.mkdir(parents=True)
    shutil.copy(archives[VOC_SOURCE.filename], archive)
    done = subprocess.run(
        **command(root, **mirror),
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
    )
    assert_refused(done, "File too large", f"that {root} can be written to")
    assert [path for path in root.rglob("*") if path.is_file()] == [archive]
    assert_done(call_get_data(root, **mirror))
    assert {name for name, _ in server.requests} == {SBD_SOURCE.filename}
    assert tree(root) == tree(ready)


def test_two_at_once_do_not_meet(server, mirror, tmp_path):
    root = tmp_path / "data"
    server.bytes_per_second = 100_000
    with subprocess.Popen(
        **command(root, **mirror), stdout=subprocess.DEVNULL, start_new_session=True
    ) as first:
        while not server.requests:
            time.sleep(0.02)
        assert_refused(call_get_data(root, **mirror), "another process is at work", root)
        os.killpg(first.pid, signal.SIGKILL)


def test_mini_voc_is_not_mixed_with_the_real_data(copy, tmp_path):
    (tmp_path / "mini_voc.json").touch()
    assert_refused(call_get_data(tmp_path, VOC=copy, SBD=copy), "mini-VOC", "DATA_ROOT")


def test_something_in_the_place_for_unpacking_is_not_removed(copy, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / ".unpacking").symlink_to(copy)
    before = tree(copy)
    assert_refused(call_get_data(root, VOC=copy, SBD=copy), root / ".unpacking", "remove it")
    assert tree(copy) == before


@pytest.mark.slow
def test_addresses_and_checksums_are_torchvisions():
    from torchvision.datasets import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    assert (SBDataset.url, SBDataset.filename, SBDataset.md5) == (
        *SBD_SOURCE.urls,
        SBD_SOURCE.filename,
        SBD_SOURCE.md5,
    )
    voc = DATASET_YEAR_DICT["2012"]
    assert voc["url"] == VOC_SOURCE.urls[0]
    assert (voc["filename"], voc["md5"]) == (VOC_SOURCE.filename, VOC_SOURCE.md5)
    assert all(url.endswith(f"/{VOC_SOURCE.filename}") for url in VOC_SOURCE.urls)
