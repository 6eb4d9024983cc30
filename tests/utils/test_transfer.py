"""Transfers that break off, are taken up again, or find the disk full."""

import hashlib
import os
import resource
import shutil
import time
from email.utils import formatdate

import pytest
from download_case import CONTENT, break_off, fetch, names, part_of, ranges, start
from loopback_server import LoopbackServer

from utils import transfer
from utils.download import Checksum, download
from utils.errors import UserError


class TestResuming:
    @pytest.mark.parametrize("chunked", [False, True])
    def test_dropped_connections_are_taken_up_at_once(self, server, path, chunked):
        server.drops, server.drop_after, server.chunked = 3, 7000, chunked
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == [None, "bytes=7000-", "bytes=14000-", "bytes=21000-"]
        assert names(path) == ["data.tar"]

    def test_more_drops_than_attempts_while_bytes_arrive(self, server, path):
        server.drops, server.drop_after = 20, 1000
        fetch(server, path)
        assert path.read_bytes() == CONTENT

    @pytest.mark.parametrize("date", [None, "no date", "Wed, 11 May 2011 10:00:00 GMT"])
    def test_a_later_call_goes_on(self, server, path, date, capsys):
        server.last_modified = date
        break_off(server, path)
        path.with_name("data.tar.part.validator").touch()  # of an earlier version
        capsys.readouterr()
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == ["bytes=9000-"]
        assert names(path) == ["data.tar"]
        assert f"going on with {part_of(path)}, which holds 9000 bytes" in capsys.readouterr().out

    def test_a_file_that_changed_on_the_server_is_fetched_anew_by_its_date(self, server, path):
        break_off(server, path)
        server.files["data.tar"] = changed = CONTENT[::-1]
        server.last_modified = formatdate(time.time() + 60, usegmt=True)
        fetch(server, path, checksum=None)
        assert path.read_bytes() == changed
        assert ranges(server) == ["bytes=9000-", None]

    def test_or_by_its_checksum(self, server, path):
        break_off(server, path)
        server.files["data.tar"] = changed = CONTENT[::-1]
        fetch(server, path, Checksum("md5", hashlib.md5(changed).hexdigest()))
        assert path.read_bytes() == changed
        assert ranges(server) == ["bytes=9000-", None]

    def test_or_by_its_content(self, server, path):
        def check(part):
            if part.read_bytes() != changed:
                raise UserError("it is no weights file")

        break_off(server, path)
        server.files["data.tar"] = changed = CONTENT[::-1]
        server.last_modified = "Wed, 11 May 2011 10:00:00 GMT"  # so that the pieces are joined
        fetch(server, path, None, check)
        assert path.read_bytes() == changed
        assert ranges(server) == ["bytes=9000-", None]

    @pytest.mark.parametrize(
        ("date", "asked"),
        [
            ("Wed, 11 May 2011 10:00:00 GMT", ["bytes=9000-"]),
            ("no date", ["bytes=9000-", None]),
            (None, ["bytes=9000-", None]),
        ],
    )
    def test_without_a_checksum_only_an_old_date_lets_it_go_on(self, server, path, date, asked):
        server.last_modified = date
        break_off(server, path)
        fetch(server, path, checksum=None)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == asked

    def test_a_server_whose_date_is_always_now_is_gone_on_with_by_the_checksum(self, server, path):
        server.last_modified = formatdate(time.time() + 60, usegmt=True)
        break_off(server, path)
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == ["bytes=9000-"]

    def test_a_page_does_not_replace_what_is_held(self, server, path):
        break_off(server, path)
        server.files["data.tar"], server.ranges = b"<html>log in</html>", False
        server.content_type = "text/html; charset=utf-8"
        with pytest.raises(UserError, match=r"a web page in .* 9000 bytes are kept"):
            fetch(server, path)
        assert part_of(path).read_bytes() == CONTENT[:9000]

    @pytest.mark.parametrize("content_type", ["application/json", ""])
    def test_fewer_bytes_than_are_held_do_not_replace_them(self, server, path, content_type):
        break_off(server, path)
        server.files["data.tar"], server.ranges = b'{"error": "quota exceeded"}', False
        server.content_type = content_type
        with pytest.raises(UserError, match=r"27 bytes, fewer than .*; 9000 bytes are kept"):
            fetch(server, path)
        assert part_of(path).read_bytes() == CONTENT[:9000]

    def test_a_server_that_refuses_ranges_starts_over(self, server, path, capsys):
        server.ranges = False
        break_off(server, path)
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == ["bytes=9000-"]
        assert "starting over" in capsys.readouterr().out

    def test_other_bytes_than_asked_for_are_not_taken(self, server, path):
        break_off(server, path)
        server.wrong_start = 8000
        fetch(server, path, checksum=None)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == ["bytes=9000-", None]

    def test_a_part_that_is_whole_already(self, server, path):
        path.parent.mkdir()
        part_of(path).write_bytes(CONTENT)
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == [f"bytes={len(CONTENT)}-"]

    def test_a_part_that_is_longer_than_the_file(self, server, path):
        path.parent.mkdir()
        part_of(path).write_bytes(CONTENT + b"more")
        fetch(server, path, checksum=None)
        assert path.read_bytes() == CONTENT

    def test_a_killed_process_leaves_what_the_next_one_goes_on_with(self, server, path):
        server.stalls, server.drop_after = 1, 3000
        process = start(f"{server.url}/data.tar", path)
        deadline = time.monotonic() + 300
        while not (part_of(path).exists() and part_of(path).stat().st_size == 3000):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.communicate()
        assert not path.exists()
        server.requests.clear()
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == ["bytes=3000-"]
        assert names(path) == ["data.tar"]


class TestTryingAgain:
    def test_passing_statuses(self, server, path):
        server.statuses = [503, 429, 500]
        fetch(server, path)
        assert path.read_bytes() == CONTENT

    def test_a_stalled_server(self, server, path, monkeypatch):
        monkeypatch.setattr(transfer, "TIMEOUT", 0.2)
        server.stalls, server.drop_after = 1, 5000
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == [None, "bytes=5000-"]

    def test_has_an_end(self, server, path):
        server.status = 503
        with pytest.raises(
            UserError, match=r"503 Service Unavailable, 5 times .*; try again later"
        ):
            fetch(server, path)
        assert len(server.requests) == 5
        assert names(path) == []

    def test_has_an_end_with_no_server(self, server, path):
        with LoopbackServer({}) as closed:
            url = closed.url
        with pytest.raises(UserError, match="Connection refused, 5 times"):
            download([f"{url}/data.tar"], path, "the data")

    def test_has_an_end_where_every_attempt_starts_over(self, server, path):
        server.ranges, server.drops, server.drop_after = False, 99, 5000
        with pytest.raises(UserError, match="5000 bytes are kept"):
            fetch(server, path)
        assert len(server.requests) == 6

    def test_has_an_end_where_the_attempts_come_less_far(self, server, path, monkeypatch):
        def alternate(_):
            server.drop_after = 7000 - server.drop_after

        monkeypatch.setattr(time, "sleep", alternate)
        server.ranges, server.drops, server.drop_after = False, 20, 5000
        with pytest.raises(UserError, match="5 times in a row"):
            fetch(server, path)
        assert len(server.requests) == 6

    def test_leaves_nothing_when_nothing_came(self, server, path):
        server.drops, server.drop_after = 99, 0
        with pytest.raises(UserError, match="ended after 0 of"):
            fetch(server, path)
        assert names(path) == []

    def test_the_waits_grow_to_a_limit(self, server, path, monkeypatch):
        waits = []
        monkeypatch.setattr(transfer, "FIRST_WAIT", 1.5)
        monkeypatch.setattr(time, "sleep", waits.append)
        server.status = 500
        with pytest.raises(UserError):
            fetch(server, path)
        assert waits == [3, 4, 4, 4]


class TestDisks:
    def test_too_little_room_is_told_before(self, server, path, monkeypatch):
        usage = shutil.disk_usage(path.parent.parent)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=len(CONTENT) - 1))
        with pytest.raises(UserError, match=f"{path.parent} has 0 MB free, but the data needs"):
            fetch(server, path)
        assert names(path) == []

    def test_what_is_held_needs_no_room(self, server, path, monkeypatch):
        break_off(server, path, 20_000)
        usage = shutil.disk_usage(path.parent)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5000))
        fetch(server, path)
        assert path.read_bytes() == CONTENT

    def test_a_disk_that_takes_no_more_ends_in_one_line_and_is_gone_on_with(self, server, path):
        process = start(
            f"{server.url}/data.tar",
            path,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)),
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        shown = process.communicate()[1]
        assert process.returncode == 2
        assert shown.splitlines()[-1].startswith("error: cannot ")
        assert str(part_of(path)) in shown
        assert "File too large" in shown
        assert "Traceback" not in shown
        assert part_of(path).read_bytes() == CONTENT[:8192]
        fetch(server, path)
        assert path.read_bytes() == CONTENT
        assert ranges(server) == [None, "bytes=8192-"]

    def test_a_folder_that_cannot_be_made(self, server, path):
        path.parent.write_bytes(b"in the way")
        with pytest.raises(UserError, match=f"cannot .* {path.parent}"):
            fetch(server, path)
