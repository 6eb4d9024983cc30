"""launch/get_data.sh as users run it, against a server on this machine."""

import hashlib
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest
from loopback_server import LoopbackServer

from datasets.mini_voc.generate import MiniVocSettings, generate
from datasets.sources import SBD_SOURCE, VOC_SOURCE

REPOSITORY = Path(__file__).resolve().parents[2]
VOC = Path("voc/VOCdevkit/VOC2012")
VOC_TEST = Path("voc_test/VOCdevkit/VOC2012")
SBD = Path("sbd/benchmark_RELEASE/dataset")
LISTS = ("train_augvoc.txt", "train_voc.txt", "val_voc.txt")


def command(root, *arguments, **variables):
    """What subprocess needs to run the script as in a shell with these variables."""
    base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {
        "args": ["bash", str(REPOSITORY / "launch/get_data.sh"), *arguments],
        "env": base
        | {"PYTHON": sys.executable, "DATA_ROOT": str(root), "NO_PROXY": "127.0.0.1"}
        | {name: str(value) for name, value in variables.items()},
        "text": True,
    }


def get_data(root, *arguments, **variables):
    return subprocess.run(**command(root, *arguments, **variables), capture_output=True, timeout=90)


def assert_refused(result, *named):
    assert result.returncode == 2, result.stdout + result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert lines == result.stderr.splitlines()[-1:]
    assert "Traceback" not in result.stderr
    for text in named:
        assert str(text) in lines[0]


def assert_empty(root):
    """Nothing but what a download needs to go on was left in the data root."""
    assert {path.name for path in root.iterdir()} <= {"downloads"}


def tree(root):
    """Every file below `root`, by content, with the lists' times left out."""
    return {
        str(path.relative_to(root)): hashlib.md5(path.read_bytes()).hexdigest()
        if path.is_file()
        else path.is_dir()
        for path in root.rglob("*")
    }


def pack(archive, folder, mode):
    """An archive of what the folder holds, as the real ones are packed."""
    with tarfile.open(archive, mode) as tar:
        for path in sorted(folder.iterdir()):
            tar.add(path, path.name)
    return archive


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """Small data sets of the real layout: the folders voc and sbd."""
    root = tmp_path_factory.mktemp("shipped") / "mini"
    generate(root, MiniVocSettings(seed=1, train=24, val=20))
    (root / "mini_voc.json").unlink()
    return root


@pytest.fixture(scope="module")
def archives(shipped):
    """The two archives, by the names of the real ones."""
    folder = shipped.parent / "archives"
    folder.mkdir()
    return {
        VOC_SOURCE.filename: pack(folder / VOC_SOURCE.filename, shipped / "voc", "w"),
        SBD_SOURCE.filename: pack(folder / SBD_SOURCE.filename, shipped / "sbd", "w:gz"),
    }


@pytest.fixture
def server(archives):
    with LoopbackServer(archives) as server:
        yield server


@pytest.fixture
def mirror(server):
    """The variables that name the server's archives and what they hold."""
    variables = {}
    for variable, source in (("VOC", VOC_SOURCE), ("SBD", SBD_SOURCE)):
        content = server.content(source.filename)
        variables[f"{variable}_URL"] = f"{server.url}/{source.filename}"
        variables[f"{variable}_MD5"] = hashlib.md5(content).hexdigest()
    return variables


@pytest.fixture(scope="module")
def ready(shipped, archives):
    """The tree that one undisturbed run makes."""
    root = shipped.parent / "a data root"
    with LoopbackServer(archives) as server:
        result = get_data(root, **_variables(server))
    assert result.returncode == 0, result.stdout + result.stderr
    return root


def _variables(server):
    return {
        f"{variable}_{what}": value
        for variable, source in (("VOC", VOC_SOURCE), ("SBD", SBD_SOURCE))
        for what, value in (
            ("URL", f"{server.url}/{source.filename}"),
            ("MD5", hashlib.md5(server.content(source.filename)).hexdigest()),
        )
    }


@pytest.fixture
def copy(shipped, tmp_path):
    """A user's copy of both data sets."""
    return Path(shutil.copytree(shipped, tmp_path / "data sets"))


def test_one_command_makes_the_whole_tree(shipped, ready):
    for name, of in (("voc", VOC), ("sbd", SBD)):
        made = {k: v for k, v in tree(ready / name).items() if "cls_png" not in k}
        assert made == tree(shipped / name), of
    assert {path.name for path in ready.iterdir()} == {"voc", "sbd", *LISTS}
    for name in LISTS:
        for line in (ready / name).read_text().splitlines():
            assert all((ready / column).is_file() for column in line.split(" "))


def test_a_second_run_downloads_and_changes_nothing(ready, server, mirror):
    before = {path: path.stat().st_mtime_ns for path in ready.rglob("*")}
    result = get_data(ready, **mirror)
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith(f"{ready} is ready\n")
    assert server.requests == []
    assert before == {path: path.stat().st_mtime_ns for path in ready.rglob("*")}


def test_a_connection_that_breaks_is_gone_on_with(ready, server, mirror, tmp_path):
    server.drops, server.drop_after = 2, 20_000
    result = get_data(tmp_path / "data", **mirror)
    assert result.returncode == 0, result.stderr
    voc = [asked for name, asked in server.requests if name == VOC_SOURCE.filename]
    assert voc == [None, "bytes=20000-", "bytes=40000-"]
    assert tree(tmp_path / "data") == tree(ready)


def test_a_server_without_ranges_gives_the_same(ready, server, mirror, tmp_path):
    server.ranges, server.drops = False, 1
    result = get_data(tmp_path / "data", **mirror)
    assert result.returncode == 0, result.stderr
    assert tree(tmp_path / "data") == tree(ready)


def test_a_wrong_checksum_leaves_nothing(server, mirror, tmp_path):
    root = tmp_path / "data"
    result = get_data(root, **(mirror | {"VOC_MD5": "0" * 32}))
    assert_refused(result, mirror["VOC_URL"], mirror["VOC_MD5"], "0" * 32)
    assert_empty(root)
    # the official checksum is demanded of a mirror for which none is given
    result = get_data(root, **(mirror | {"VOC_MD5": ""}))
    assert_refused(result, VOC_SOURCE.md5)


@pytest.mark.parametrize("member", ["../outside.txt", "/tmp/outside.txt", "link"])
def test_a_hostile_archive_leaves_nothing(server, shipped, tmp_path, member):
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as tar:
        tar.add(shipped / "voc", ".")
        info = tarfile.TarInfo(member)
        if member == "link":
            info.type, info.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(info)
    server.files[VOC_SOURCE.filename] = hostile
    root = tmp_path / "root" / "data"
    assert_refused(get_data(root, **_variables(server)), VOC_SOURCE.filename, member)
    assert_empty(root)
    assert not (tmp_path / "root/outside.txt").exists()


def test_an_archive_that_lacks_files_leaves_nothing(server, copy, tmp_path):
    lost = min((copy / VOC / "SegmentationClass").iterdir())
    lost.unlink()
    server.files[VOC_SOURCE.filename] = pack(tmp_path / "voc.tar", copy / "voc", "w")
    root = tmp_path / "data"
    assert_refused(get_data(root, **_variables(server)), "1 files are missing", lost.name)
    assert_empty(root)


@pytest.mark.parametrize("limit", [20_000, 150_000])
def test_a_full_disk_ends_in_one_line(ready, server, mirror, tmp_path, limit):
    """At 20 kB the archive does not fit; at 150 kB another file is what grows too large."""
    root = tmp_path / "data"
    done = subprocess.run(
        **command(root, **mirror),
        capture_output=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )
    assert_refused(done, "File too large", root)
    assert_empty(root)
    assert get_data(root, **mirror).returncode == 0
    assert tree(root) == tree(ready)


def test_killed_at_random_moments_it_ends_with_the_same_tree(ready, server, mirror, tmp_path):
    root = tmp_path / "data"
    chance = random.Random(3)
    server.bytes_per_second = 3_000_000
    started = time.monotonic()
    assert get_data(root, **mirror).returncode == 0
    whole = time.monotonic() - started
    for _ in range(8):
        if chance.random() < 0.4:
            shutil.rmtree(root)
        with subprocess.Popen(
            **command(root, **mirror), stdout=subprocess.DEVNULL, start_new_session=True
        ) as process:
            time.sleep(chance.uniform(0.2, whole))
            os.killpg(process.pid, signal.SIGKILL)
    server.bytes_per_second = None
    result = get_data(root, **mirror)
    assert result.returncode == 0, result.stderr
    assert tree(root) == tree(ready)


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
    result = get_data(root, "--any-number", VOC=copy / voc, SBD=copy / sbd)
    assert result.returncode == 0, result.stderr
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
    root = tmp_path / "data"
    result = get_data(root, "--any-number", VOC=tmp_path / "my voc", SBD=copy / "sbd")
    assert result.returncode == 0, result.stderr


def test_of_two_years_the_right_one_is_linked(copy, tmp_path):
    shutil.copytree(copy / VOC, copy / "voc/VOCdevkit/VOC2007")
    root = tmp_path / "data"
    assert get_data(root, "--any-number", VOC=copy / "voc", SBD=copy).returncode == 0
    assert (root / VOC).resolve() == copy / VOC
    (copy / VOC).rename(copy / "voc/VOCdevkit/VOC2010")
    result = get_data(tmp_path / "other", "--any-number", VOC=copy / "voc", SBD=copy)
    assert_refused(result, "several", "VOC2007", "VOC2010")


def test_what_is_no_copy_is_refused(copy, tmp_path):
    root = tmp_path / "data"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert_refused(get_data(root, VOC=empty, SBD=copy), f"VOC={empty}", "SegmentationClass")
    assert_refused(get_data(root, VOC=empty / "none", SBD=copy), f"VOC={empty}/none")
    next((copy / VOC / "JPEGImages").iterdir()).unlink()
    assert_refused(get_data(root, VOC=copy, SBD=copy), "1 files are missing", f"VOC={copy}")
    assert_empty(root)


def test_a_copy_and_an_address_exclude_each_other(copy, mirror, tmp_path):
    assert_refused(get_data(tmp_path / "data", **mirror, VOC=copy), "VOC and VOC_URL are both set")


def test_what_is_there_is_not_replaced(copy, tmp_path):
    root = tmp_path / "data"
    other = Path(shutil.copytree(copy, tmp_path / "other"))
    for _ in range(2):
        assert get_data(root, "--any-number", VOC=copy, SBD=copy).returncode == 0
    result = get_data(root, "--any-number", VOC=other, SBD=copy)
    assert_refused(result, f"VOC={other} is not what {root / 'voc'} holds")
    (root / "voc/VOCdevkit/VOC2012").unlink()
    assert_refused(
        get_data(root, VOC=copy, SBD=copy), "files are missing", f"remove {root / 'voc'}"
    )


def test_links_made_by_hand_are_kept(copy, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    for name in ("voc", "sbd"):
        (root / name).symlink_to(copy / name)
    result = get_data(root, "--any-number")
    assert result.returncode == 0, result.stderr
    assert (root / "voc").readlink() == copy / "voc"
    shutil.rmtree(copy / "voc")
    assert_refused(get_data(root), root / "voc", "does not exist")


def test_an_empty_folder_in_the_place_is_no_obstacle(copy, tmp_path):
    root = tmp_path / "data"
    (root / "voc").mkdir(parents=True)
    assert get_data(root, "--any-number", VOC=copy, SBD=copy).returncode == 0


def test_archives_that_the_user_has(ready, archives, mirror, copy, tmp_path):
    (copy / VOC / "ImageSets/Segmentation/test.txt").write_text("2008_000001\n")
    shutil.copy(next((copy / VOC / "JPEGImages").iterdir()), copy / VOC / "2008_000001.jpg")
    for name in ("SegmentationClass", "JPEGImages"):
        shutil.rmtree(copy / VOC / name)
    (copy / VOC / "JPEGImages").mkdir()
    (copy / VOC / "2008_000001.jpg").rename(copy / VOC / "JPEGImages/2008_000001.jpg")
    test_tar = pack(tmp_path / "VOC2012test.tar", copy / "voc", "w")

    root = tmp_path / "data"
    voc, sbd = archives.values()
    result = get_data(root, "--any-number", VOC=voc, SBD=sbd, VOC_TEST=test_tar)
    assert_refused(result, voc, VOC_SOURCE.md5)
    checksums = {name: value for name, value in mirror.items() if name.endswith("MD5")}
    result = get_data(root, "--any-number", VOC=voc, SBD=sbd, VOC_TEST=test_tar, **checksums)
    assert result.returncode == 0, result.stderr
    assert (root / "test.txt").read_text() == f"{VOC_TEST}/JPEGImages/2008_000001.jpg\n"
    for name in ("voc", "sbd"):
        assert tree(root / name) == tree(ready / name)
    assert voc.is_file() and sbd.is_file() and test_tar.is_file()


def test_official_numbers_are_demanded_of_copies(copy, tmp_path):
    root = tmp_path / "data"
    result = get_data(root, VOC=copy, SBD=copy)
    assert result.returncode == 2
    assert "10582" in result.stdout.replace(",", "")


def test_mini_voc_is_not_mixed_with_the_real_data(copy, tmp_path):
    (tmp_path / "mini_voc.json").touch()
    assert_refused(get_data(tmp_path, VOC=copy, SBD=copy), "mini-VOC", "DATA_ROOT")


def test_two_at_once_do_not_meet(server, mirror, tmp_path):
    root = tmp_path / "data"
    server.bytes_per_second = 100_000
    with subprocess.Popen(
        **command(root, **mirror), stdout=subprocess.DEVNULL, start_new_session=True
    ) as first:
        while not server.requests:
            time.sleep(0.02)
        assert_refused(get_data(root, **mirror), "another process is at work", root)
        os.killpg(first.pid, signal.SIGKILL)


def test_checksums_are_torchvisions():
    from torchvision.datasets import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    assert SBDataset.md5 == SBD_SOURCE.md5
    assert DATASET_YEAR_DICT["2012"]["md5"] == VOC_SOURCE.md5
