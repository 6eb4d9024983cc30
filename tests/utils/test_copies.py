"""Files of equal bytes are found, and few files are read whole for that."""

import os

import pytest

from utils import copies
from utils.copies import TAIL, find_copies


@pytest.fixture
def files(tmp_path):
    def write(*contents):
        paths = [tmp_path / str(number) for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_bytes(content)
        return paths

    return write


def test_equal_bytes(files):
    long = bytes(3 * TAIL)
    other = b"x" + long[1:]  # of the same size, and with the same end
    assert find_copies(files(b"a", long, other, b"b", b"a", long, b"", other, long)) == [
        [0, 4],
        [1, 5, 8],
        [2, 7],
    ]


def test_what_differs_in_size_or_end_is_not_read(files, monkeypatch):
    monkeypatch.setattr(copies, "_digest", pytest.fail)
    assert find_copies(files(b"a", b"bb", bytes(TAIL) + b"1", bytes(TAIL) + b"2")) == []


def test_names_of_one_file_are_not_read(files, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "_tail", pytest.fail)
    [path] = files(b"a")
    os.link(path, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(path)
    assert find_copies([tmp_path / "soft", path, tmp_path / "hard"]) == [[0, 1, 2]]


def test_names_of_a_file_and_its_copy(files, tmp_path):
    first, second = files(b"a", b"a")
    os.link(first, tmp_path / "hard")
    assert find_copies([first, second, tmp_path / "hard"]) == [[0, 1, 2]]
