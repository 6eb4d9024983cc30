"""Downloads: what is there already, other addresses, wrong content."""

import hashlib
import socket

import pytest
from download_case import CONTENT, MD5, break_off, fetch, names, part_of, ranges, start

from utils import transfer
from utils.download import Checksum, discard_download, download, verify
from utils.errors import UserError


def test_a_whole_file_comes_alone(server, path, capsys):
    fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert names(path) == ["data.tar"]
    assert server.requests == [("data.tar", None)]
    assert capsys.readouterr().err.startswith("the data: 0/0 MB, ")


def test_an_empty_file(server, path):
    server.files["data.tar"] = b""
    fetch(server, path, checksum=None)
    assert path.read_bytes() == b""
    assert names(path) == ["data.tar"]


def test_the_first_digits_of_a_checksum_do_in_either_case(server, path):
    fetch(server, path, Checksum("sha256", hashlib.sha256(CONTENT).hexdigest()[:8].upper()))
    assert path.exists()


@pytest.mark.parametrize("digits", ["", "xyz", "12 34"])
def test_a_checksum_that_is_none(digits):
    with pytest.raises(UserError, match="no md5 checksum"):
        Checksum("md5", digits)


class TestAFileThatIsThere:
    def test_is_verified_and_said_to_be_there(self, server, path, capsys):
        checked = []
        path.parent.mkdir()
        path.write_bytes(CONTENT)
        part_of(path).write_bytes(b"no longer needed")
        fetch(server, path, check=checked.append)
        assert server.requests == []
        assert checked == [path]
        assert names(path) == ["data.tar"]
        assert capsys.readouterr().out == f"the data: {path} is there already, and verified\n"

    def test_stays_as_it_is_when_it_is_wrong(self, server, path):
        path.parent.mkdir()
        path.write_bytes(b"a user's own")
        with pytest.raises(UserError) as caught:
            fetch(server, path)
        for part in (str(path), MD5.digits, hashlib.md5(b"a user's own").hexdigest(), "delete it"):
            assert part in str(caught.value)
        assert path.read_bytes() == b"a user's own"
        assert server.requests == []

    def test_that_cannot_be_read(self, tmp_path):
        with pytest.raises(UserError, match=r"cannot read.*; name another"):
            verify(tmp_path, MD5, "the data", "name another")

    def test_and_the_remedy_is_the_callers(self, tmp_path):
        (tmp_path / "mine.tar").write_bytes(b"a user's own")
        with pytest.raises(UserError, match=r"mine\.tar is not the data.*; name another"):
            verify(tmp_path / "mine.tar", MD5, "the data", "name another")

    def test_is_discarded_with_all_that_is_held_of_it(self, server, path):
        break_off(server, path)
        path.write_bytes(CONTENT)
        (path.parent / "data.tar.notes").touch()
        (path.parent / "data.tar.part.validator").touch()  # of an earlier version
        discard_download(path)
        assert names(path) == ["data.tar.notes"]


class TestAddresses:
    def test_the_next_one_is_taken(self, server, path):
        urls = [f"{server.url}/missing.tar", f"{server.url}/data.tar"]
        download(urls, path, "the data", MD5)
        assert path.read_bytes() == CONTENT
        assert [name for name, _ in server.requests] == ["missing.tar", "data.tar"]

    @pytest.mark.parametrize("status", [401, 403, 404, 410])
    def test_refusals_are_told_with_the_remedy(self, server, path, status):
        server.status = status
        urls = [f"{server.url}/data.tar", f"{server.url}/other.tar"]
        with pytest.raises(UserError) as caught:
            download(urls, path, "the data", remedy="set DATA_URL")
        message = str(caught.value)
        for url in urls:
            assert f"{url}: the server answered {status} " in message
        assert message.endswith("; set DATA_URL")
        assert str(path) in message
        assert names(path) == []
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://127.0.0.1/data.tar",
            "file:///etc/hostname",
            "data.tar",
            "",
            "http://",
            "http://[1/data.tar",
            "http://127.0.0.1:port/data.tar",
            "http://127.0.0.1/a b",
        ],
    )
    def test_that_cannot_be(self, server, path, url):
        with pytest.raises(UserError, match="cannot download the data"):
            download([url], path, "the data")
        assert names(path) == []

    @pytest.mark.parametrize(
        ("code", "attempts"), [(socket.EAI_NONAME, 1), (socket.EAI_AGAIN, transfer.ATTEMPTS)]
    )
    def test_whose_host_is_unknown_or_cannot_be_looked_up_now(
        self, server, path, monkeypatch, code, attempts
    ):
        asked = []

        def look_up(*address, **_):
            asked.append(address)
            raise socket.gaierror(code, "no such name")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        with pytest.raises(UserError, match="no such name"):
            fetch(server, path)
        assert len(asked) == attempts

    def test_the_environment_s_proxy_is_used(self, server, path, monkeypatch):
        url = "http://nowhere.invalid/data.tar"
        server.files[url] = CONTENT
        monkeypatch.setenv("http_proxy", server.url)
        process = start(url, path)
        assert "error" not in process.communicate()[1]
        assert path.read_bytes() == CONTENT


class TestWrongContent:
    WRONG = b"x" * len(CONTENT)

    def test_a_wrong_checksum_leaves_nothing(self, server, path):
        server.files["data.tar"] = self.WRONG
        with pytest.raises(UserError) as caught:
            fetch(server, path)
        found = hashlib.md5(self.WRONG).hexdigest()
        for part in (str(path), f"{server.url}/data.tar", MD5.digits, found):
            assert part in str(caught.value)
        assert names(path) == []
        assert len(server.requests) == 1

    def test_what_came_in_pieces_is_fetched_anew_once(self, server, path):
        path.parent.mkdir()
        part_of(path).write_bytes(self.WRONG[:9000])
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == ["bytes=9000-", None]

    def test_and_only_once(self, server, path):
        server.files["data.tar"] = self.WRONG
        server.drops, server.drop_after = 1, 9000
        with pytest.raises(UserError, match=MD5.digits):
            fetch(server, path)
        assert ranges(server) == [None, "bytes=9000-", None]
        assert names(path) == []

    def test_the_check_sees_the_file_before_it_has_its_name(self, server, path):
        def check(part):
            assert part.read_bytes() == CONTENT
            assert not path.exists()
            raise UserError("it is no weights file")

        with pytest.raises(UserError, match="it is no weights file"):
            fetch(server, path, check=check)
        assert names(path) == []

    def test_more_bytes_than_promised_are_not_written(self, server, path):
        server.tail = b"and more"
        fetch(server, path, checksum=None)
        assert path.read_bytes() == CONTENT

    def test_more_bytes_than_the_range_are_not_written(self, server, path):
        break_off(server, path)
        server.chunked, server.tail = True, b"and more"
        server.last_modified = "Wed, 11 May 2011 10:00:00 GMT"
        fetch(server, path, checksum=None)
        assert path.read_bytes() == CONTENT

    def test_fewer_bytes_than_promised(self, server, path):
        server.extra_length = 500
        fetch(server, path)
        assert path.read_bytes() == CONTENT

    def test_no_length_at_all(self, server, path):
        server.length = False
        fetch(server, path)
        assert path.read_bytes() == CONTENT
