"""Zip archives that are whole, damaged or hostile; see test_archives.py for tar."""

import shutil
import stat
import zipfile

import pytest
from archive_case import files_under, refusal

from utils.archives import ArchiveError, unpack

CONTENT = {
    "root/a.txt": b"a" * 700,
    "root/b c é.txt": b"b" * 512,
    "root/empty.txt": b"",
    "root/deep/er/z.txt": bytes(range(256)) * 50,
}


def write_zip(path, members, method=zipfile.ZIP_DEFLATED):
    """Members are pairs of a name or a ZipInfo and the content."""
    with zipfile.ZipFile(path, "w", method) as archive:
        for info, content in members:
            archive.writestr(info, content)
    return path


def with_mode(name, mode):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@pytest.fixture
def archive(tmp_path):
    return write_zip(tmp_path / "data.tar", CONTENT.items())


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_content_is_unpacked_whatever_the_suffix(tmp_path, folder, method, capsys):
    members = [("hollow/", b""), *CONTENT.items()]
    unpack(write_zip(tmp_path / "data.tgz", members, method), folder, "the data")
    assert files_under(folder) == CONTENT
    assert (folder / "hollow").is_dir()
    assert capsys.readouterr().err.startswith("unpacking the data: ")


def test_an_archive_without_members_is_one(tmp_path, folder):
    unpack(write_zip(tmp_path / "data.zip", []), folder, "the data")
    assert list(folder.iterdir()) == []


def test_modes_are_the_user_s(tmp_path, folder):
    members = [(with_mode("run.sh", stat.S_IFREG | 0o6777), b"x")]
    unpack(write_zip(tmp_path / "data.zip", members), folder, "the data")
    assert not (folder / "run.sh").stat().st_mode & 0o7111


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("bad", stat.S_IFLNK | 0o777, "link"),
        ("bad", stat.S_IFIFO, "neither a plain file nor a folder"),
        ("bad", stat.S_IFCHR, "neither a plain file nor a folder"),
        ("bad", stat.S_IFDIR, "neither a plain file nor a folder"),
        ("../../outside", 0, "out of the folder"),
        ("deep/../../../outside", 0, "out of the folder"),
        ("../outside/", 0, "out of the folder"),
        ("/outside", 0, "out of the folder"),
        ("C:outside", 0, "out of the folder"),
        ("..\\outside", 0, "out of the folder"),
        (".", 0, "no name"),
        ("fine/below", 0, "a file and a folder"),
        ("fine/", 0, "a file and a folder"),
        ("folder", 0, "a file and a folder"),
    ],
)
def test_hostile_members_are_refused(tmp_path, folder, name, mode, reason):
    members = [("fine", b"x"), ("folder/", b""), (with_mode(name, mode), b"../../outside")]
    message = refusal(write_zip(tmp_path / "data.zip", members), folder)
    assert reason in message and "is not unpacked, for its member" in message


def test_encrypted_members_are_refused(archive, folder):
    data = bytearray(archive.read_bytes())
    for magic, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(magic) + flags] |= 1
    archive.write_bytes(data)
    assert "encrypted" in refusal(archive, folder)


def test_names_that_a_nul_ends_are_refused(archive, folder):
    archive.write_bytes(archive.read_bytes().replace(b"root/a.txt", b"root/a\0txt"))
    assert "root/a" in refusal(archive, folder)


def test_archives_cut_off_anywhere_are_damaged(archive, folder):
    whole = archive.read_bytes()
    for cut in (0, 3, 4, 30, 100, len(whole) // 2, *range(len(whole) - 60, len(whole))):
        archive.write_bytes(whole[:cut])
        assert "damaged, cut off or neither tar nor zip" in refusal(archive, folder)


def test_damaged_content_shows_by_its_checksum(tmp_path, folder):
    archive = write_zip(tmp_path / "data.zip", CONTENT.items(), zipfile.ZIP_STORED)
    whole = archive.read_bytes()
    place = whole.index(b"b" * 512) + 100
    archive.write_bytes(whole[:place] + b"?" + whole[place + 1 :])
    assert "damaged" in refusal(archive, folder)


def test_a_flipped_bit_is_noticed_or_changes_nothing(archive, folder):
    """Dates, modes and versions are not read; all else is held against something."""
    whole = archive.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        archive.write_bytes(damaged)
        shutil.rmtree(folder, ignore_errors=True)
        try:
            unpack(archive, folder, "the data")
        except ArchiveError:
            continue
        assert files_under(folder) == CONTENT, place
