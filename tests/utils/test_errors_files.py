import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from utils.errors import UserError, os_errors_end_in
from utils.files import (
    atomic_path,
    only_process,
    remove_leftovers,
    require_writable_folder,
    write_text,
)

ROOT = Path(__file__).parents[2]


def run(body):
    code = f"from utils.errors import UserError, run_command\n{body}\nrun_command(main)\n"
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_user_error_is_one_line_and_status_2():
    done = run("def main():\n    raise UserError('no file\\n  a.txt; make it')")
    assert done.returncode == 2
    assert done.stderr == "error: no file a.txt; make it\n"


def test_interrupt_is_status_130_without_traceback():
    done = run("def main():\n    raise KeyboardInterrupt")
    assert done.returncode == 130
    assert done.stderr == "interrupted\n"


def test_success_is_status_0_and_silent():
    done = run("def main():\n    pass")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_programming_error_keeps_its_traceback():
    done = run("def main():\n    {}['key']")
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "KeyError" in done.stderr


def test_errors_of_files_get_a_remedy_but_those_of_our_output_do_not(tmp_path):
    with (
        pytest.raises(UserError, match=r"No such file.*'.*x'; make it"),
        os_errors_end_in("make it"),
    ):
        (tmp_path / "x").read_text()
    with pytest.raises(BrokenPipeError), os_errors_end_in("make it"):
        raise BrokenPipeError


def test_write_text_makes_folders_and_replaces(tmp_path):
    path = tmp_path / "a" / "b.txt"
    write_text(path, "früher")
    write_text(path, "später")
    assert path.read_text(encoding="utf-8") == "später"
    assert [entry.name for entry in path.parent.iterdir()] == ["b.txt"]


def test_failure_keeps_the_old_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "mask.png"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.png"]


def test_an_error_of_writing_names_the_file(tmp_path, monkeypatch):
    path = tmp_path / "mask.png"
    # what write() says has no name, and that of a temporary file tells nothing
    for named in ((), (str(tmp_path / ".mask.png.a1b2c3_9.tmp"),)):
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
            with (
                pytest.raises(UserError) as raised,
                os_errors_end_in("make room"),
                atomic_path(path),
            ):
                raise OSError(number, os.strerror(number), *named)
            assert str(raised.value).endswith(f"{os.strerror(number)}: '{path}'; make room")
    for other in (OSError("cut off"), FileNotFoundError(2, "not there", "other.png")):
        text = str(other)
        with pytest.raises(OSError) as raised, atomic_path(path):
            raise other
        assert str(raised.value) == text
    monkeypatch.setattr(tempfile, "mkstemp", lambda **_: os.open(tmp_path / "no" / "x", os.O_CREAT))
    with pytest.raises(FileNotFoundError, match="no/x"):
        write_text(path, "text")


def test_names_that_are_not_utf_8_are_written_as_they_are(tmp_path):
    name = os.fsdecode(b"\xff.jpg")
    write_text(tmp_path / "list.txt", name)
    assert (tmp_path / "list.txt").read_bytes() == b"\xff.jpg"
    write_text(tmp_path / "page.html", name, errors="backslashreplace")
    assert (tmp_path / "page.html").read_bytes() == rb"\udcff.jpg"


def test_temporary_file_is_beside_the_target_and_not_found_as_one_of_its_kind(tmp_path):
    path = tmp_path / "mask.png"
    with atomic_path(path) as temporary:
        assert temporary.parent == tmp_path and temporary.suffix == ".tmp"
        assert not path.exists()
    assert path.exists()


def test_written_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "text")
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640


def test_a_folder_is_made_or_refused_by_the_options_name(tmp_path):
    require_writable_folder(tmp_path / "new" / "masks", "--mask-output-dir")
    assert list((tmp_path / "new" / "masks").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/masks .*choose another --logdir"):
        require_writable_folder(tmp_path / "file" / "masks", "--logdir")


KILLED = """
import os, signal, sys
from utils.files import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    temporary.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("a mask.png", "other.png"):
        subprocess.run([sys.executable, "-c", KILLED, tmp_path / name], cwd=ROOT, check=False)
    for name in (".a mask.png", ".a mask.png.tmp", ".a mask.png.short.tmp", "a mask.png"):
        (tmp_path / name).touch()
    assert len(list(tmp_path.iterdir())) == 6
    remove_leftovers(tmp_path, r"a.*\.png")
    left = {path.name for path in tmp_path.iterdir()}
    assert left > {".a mask.png", ".a mask.png.tmp", ".a mask.png.short.tmp", "a mask.png"}
    assert [name[:7] for name in left if "other" in name] == [".other."]
    assert len(left) == 5


LOCK = """
import sys
from pathlib import Path
from utils.errors import run_command
from utils.files import only_process
def main():
    with only_process(Path(sys.argv[1])):
        print("at work", flush=True)
        sys.stdin.read()
run_command(main)
"""


def test_one_process_at_a_time(tmp_path):
    command = [sys.executable, "-c", LOCK, tmp_path]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "at work\n"
        with pytest.raises(UserError, match=f"another process is at work on {tmp_path}"):
            only_process(tmp_path).__enter__()
        first.kill()
    with only_process(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
