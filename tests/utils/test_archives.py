"""Archives that are whole, damaged or hostile."""

import gzip
import io
import os
import resource
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from archive_case import files_under, refusal

from utils.archives import unpack

ROOT = Path(__file__).parents[2]
LONG = "long/" + "x" * 90 + "/" + "é" * 60 + ".txt"
CONTENT = {
    "root/a.txt": b"a" * 700,
    "root/b c.txt": b"b" * 512,
    "root/empty.txt": b"",
    LONG: b"of a long name",
    "root/deep/er/z.txt": bytes(range(256)) * 50,
}
HEADER, ZEROS = tarfile.BLOCKSIZE, tarfile.NUL * tarfile.BLOCKSIZE


def member(name, kind=tarfile.REGTYPE, size=0, **attributes):
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, size
    for attribute, value in attributes.items():
        setattr(info, attribute, value)
    return info


def write_tar(path, members, mode="w", file_format=tarfile.GNU_FORMAT):
    """Members are pairs of a TarInfo, whose size is set, and the content."""
    with tarfile.open(path, mode, format=file_format) as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path):
    """A plain archive of CONTENT; its name says otherwise."""
    members = [(member(f"./{name}"), content) for name, content in CONTENT.items()]
    return write_tar(tmp_path / "data.tgz", members)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize(
    "file_format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
)
def test_content_is_unpacked_whatever_the_suffix(tmp_path, folder, mode, file_format, capsys):
    content = dict(CONTENT)
    if file_format == tarfile.USTAR_FORMAT:
        del content[LONG]
    members = [(member("./", tarfile.DIRTYPE), b""), (member("./hollow/", tarfile.DIRTYPE), b"")]
    members += [(member(f"./{name}"), data) for name, data in content.items()]
    archive = write_tar(tmp_path / "data", members, mode, file_format)
    unpack(archive, folder, "the data")
    assert files_under(folder) == content
    assert (folder / "hollow").is_dir()
    assert capsys.readouterr().err.startswith("unpacking the data: ")


def test_global_headers_and_resource_forks_are_harmless(tmp_path, folder):
    path = tmp_path / "data.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x"}) as tar:
        tar.addfile(member("._a.txt", size=3), io.BytesIO(b"fork"))
        tar.addfile(member("a.txt", size=1), io.BytesIO(b"a"))
    unpack(path, folder, "the data")
    assert (folder / "a.txt").read_bytes() == b"a"


def test_a_folder_that_is_there_is_left_alone(archive, folder):
    (folder / "root").mkdir(parents=True)
    (folder / "root" / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError):
        unpack(archive, folder, "the data")
    assert files_under(folder) == {"root/mine.txt": b"mine"}


def test_modes_and_owners_are_the_user_s(tmp_path, folder):
    members = [
        (member("closed", tarfile.DIRTYPE, mode=0, uid=12345), b""),
        (member("closed/run.sh", mode=0o6777, uid=12345), b"x"),
        (member("closed/hidden", mode=0), b"x"),
    ]
    archive = write_tar(tmp_path / "data.tar", members)
    before = os.umask(0o027)
    try:
        unpack(archive, folder, "the data")
    finally:
        os.umask(before)
    found = {path.name: path.stat() for path in folder.rglob("*")}
    modes = {name: stat.S_IMODE(entry.st_mode) for name, entry in found.items()}
    assert modes == {"closed": 0o750, "run.sh": 0o640, "hidden": 0o640}
    assert {entry.st_uid for entry in found.values()} == {os.getuid()}


def test_a_later_member_of_the_same_name_holds(tmp_path, folder):
    members = [(member("a.txt"), b"old and long"), (member("a.txt"), b"new")]
    unpack(write_tar(tmp_path / "data.tar", members), folder, "the data")
    assert files_under(folder) == {"a.txt": b"new"}


@pytest.mark.parametrize(
    ("info", "reason"),
    [
        (member("bad", tarfile.SYMTYPE, linkname="../../outside"), "link"),
        (member("bad", tarfile.SYMTYPE, linkname="fine"), "link"),
        (member("bad", tarfile.LNKTYPE, linkname="fine"), "link"),
        (member("bad", tarfile.CHRTYPE), "neither a plain file nor a folder"),
        (member("bad", tarfile.BLKTYPE), "neither a plain file nor a folder"),
        (member("bad", tarfile.FIFOTYPE), "neither a plain file nor a folder"),
        (member("bad", b"Z"), "neither a plain file nor a folder"),
        (member("../../outside"), "out of the folder"),
        (member("deep/../../../outside"), "out of the folder"),
        (member("../outside", tarfile.DIRTYPE), "out of the folder"),
        (member(".."), "out of the folder"),
        (member("/outside"), "out of the folder"),
        (member("//outside", tarfile.DIRTYPE), "out of the folder"),
        (member("C:outside"), "out of the folder"),
        (member("..\\outside"), "out of the folder"),
        (member(""), "no name"),
        (member("."), "no name"),
        (member("fine/below"), "a file and a folder"),
        (member("fine/below", tarfile.DIRTYPE), "a file and a folder"),
        (member("fine", tarfile.DIRTYPE), "a file and a folder"),
        (member("folder"), "a file and a folder"),
    ],
)
def test_hostile_members_are_refused(tmp_path, folder, info, reason):
    members = [(member("fine"), b"x"), (member("folder", tarfile.DIRTYPE), b""), (info, b"")]
    message = refusal(write_tar(tmp_path / "data.tar", members), folder)
    assert reason in message
    assert repr(info.name.rstrip("/")) in message


def test_nothing_is_written_through_a_link(tmp_path, folder):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    members = [
        (member("link", tarfile.SYMTYPE, linkname=str(outside)), b""),
        (member("link/file"), b"x"),
    ]
    refusal(write_tar(tmp_path / "data.tar", members), folder)
    assert list(outside.iterdir()) == []


def test_a_link_in_the_place_of_the_folder_is_not_followed(archive, folder, tmp_path):
    outside = tmp_path / "elsewhere"
    outside.mkdir()
    (outside / "mine.txt").write_text("mine")
    folder.parent.mkdir()
    folder.symlink_to(outside)
    with pytest.raises(FileExistsError):
        unpack(archive, folder, "the data")
    assert files_under(outside) == {"mine.txt": b"mine"}


def test_sparse_files_are_refused(tmp_path, folder):
    info = member("sparse", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "100"})
    archive = write_tar(tmp_path / "data.tar", [(info, b"x")], file_format=tarfile.PAX_FORMAT)
    assert "neither a plain file nor a folder" in refusal(archive, folder)


def member_offsets(archive):
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
    return [info.offset for info in members] + [tar.offset]


def test_plain_archives_cut_off_anywhere_are_damaged(archive, folder):
    whole = archive.read_bytes()
    boundaries = member_offsets(archive)
    end = boundaries[-1]
    assert whole[end : end + HEADER] == ZEROS
    cuts = {offset + more for offset in boundaries for more in (-1, 0, 1, 100, 511)}
    cuts |= {offset + more for offset in boundaries[:-1] for more in (512, 600)}
    for cut in sorted(cut for cut in cuts if 0 <= cut < end + HEADER):
        archive.write_bytes(whole[:cut])
        message = refusal(archive, folder)
        assert "damaged, cut off or neither tar nor zip" in message
    shutil.rmtree(folder)
    archive.write_bytes(whole[: end + HEADER])
    unpack(archive, folder, "the data")
    assert files_under(folder) == CONTENT


def test_compressed_archives_cut_off_anywhere_are_damaged(archive, folder):
    whole = gzip.compress(archive.read_bytes())
    # the last cuts leave all of the members there, and only gzip's checksum or length is lacking
    for cut in (1, 5, 10, len(whole) // 2, *range(len(whole) - 12, len(whole))):
        archive.write_bytes(whole[:cut])
        assert "damaged, cut off" in refusal(archive, folder)


@pytest.mark.parametrize("last", range(-8, 0))
def test_gzip_s_checksum_and_length_are_verified(archive, folder, last):
    damaged = bytearray(gzip.compress(archive.read_bytes()))
    damaged[last] ^= 1
    archive.write_bytes(damaged)
    assert "damaged" in refusal(archive, folder)


def test_a_damaged_header_is_not_taken_for_the_end(archive, folder):
    damaged = bytearray(archive.read_bytes())
    damaged[member_offsets(archive)[2] + 3] ^= 1
    archive.write_bytes(damaged)
    assert "damaged" in refusal(archive, folder)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04" * 500])
def test_what_is_no_archive(archive, folder, content):
    archive.write_bytes(content)
    assert "neither tar nor zip" in refusal(archive, folder)


def test_a_missing_archive(tmp_path, folder):
    with pytest.raises(FileNotFoundError):
        unpack(tmp_path / "missing.tar", folder, "the data")
    assert not folder.exists()


def test_a_full_disk_is_no_fault_of_the_archive(archive, folder):
    code = (
        "import sys; from pathlib import Path\n"
        "from utils.archives import unpack\n"
        "from utils.errors import os_errors_end_in, run_command\n"
        "def main():\n"
        "    with os_errors_end_in('make room'):\n"
        "        unpack(*map(Path, sys.argv[1:]), 'the data')\n"
        "run_command(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(archive), str(folder)],
        cwd=ROOT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"error: [Errno 27] File too large: '{folder}/")
    assert line.endswith("'; make room")
