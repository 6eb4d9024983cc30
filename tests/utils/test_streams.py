"""Output streams that are closed, full, unread or of a poor encoding: the work decides the end."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# what a command may do; each leaves `done` behind when it came to its end
WORK = {
    "everything": "print('out', flush=True); print('err', file=sys.stderr); print('o ' * 9999)\n"
    "    for how, call in (('spawn', os.getcwd), ('fork', print)):\n"
    "        child = get_context(how).Process(target=call); child.start(); child.join()\n"
    "        assert child.exitcode == 0",
    "flushed": "print('out', flush=True)",
    "held back": "print('out')",
    "error": "print('out'); raise UserError('no a.txt; make it')",
    "help": "ArgumentParser(description='21×21 − │').parse_args(['--help'])",
    "names": "print('Gr\\u00fc\\u00dfe', os.fsdecode(b'\\xff.jpg'), '×−│')",
}
# closed, full and broken, in the shell's words; {broken} is a pipe that nobody reads
STREAMS = {
    "stdout closed": ">&-",
    "stderr closed": "2>&-",
    "all closed": "<&- >&- 2>&-",
    "stdout full": ">/dev/full",
    "both full": ">/dev/full 2>&1",
    "stdout unread": ">&{broken}",
    "both unread": ">&{broken} 2>&1",
}
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")


def marked(streams):
    return [pytest.param(each, marks=FULL if "full" in each else ()) for each in streams]


def run(folder, work, redirection="", result="", **environment):
    """Run a command that does `work`; tells its status, its streams, and whether it got done."""
    script = folder / "command.py"
    script.write_text(
        "import os, sys\nfrom argparse import ArgumentParser\nfrom pathlib import Path\n"
        "from multiprocessing import get_context\nfrom utils.errors import UserError, run_command\n"
        f"def main():\n    {WORK[work]}\n    Path('done').touch()\n"
        f"if __name__ == '__main__':\n    run_command(main{result})\n"
    )
    (folder / "done").unlink(missing_ok=True)
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        ["bash", "-c", f'exec "$0" command.py {redirection.format(broken=writer)}', sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "", **environment},
        pass_fds=[writer],
        capture_output=True,
    )
    os.close(writer)
    assert b"Traceback" not in done.stderr
    return done, (folder / "done").exists()


@pytest.mark.parametrize("stream", marked(STREAMS))
def test_work_goes_on_to_its_end_without_its_output(tmp_path, stream):
    for work in ("everything", "held back"):
        done, finished = run(tmp_path, work, STREAMS[stream])
        assert (done.returncode, finished) == (0, True), work
    done, _ = run(tmp_path, "error", STREAMS[stream])
    assert done.returncode == 2
    if not stream.startswith(("all", "both", "stderr")):
        assert b"error: no a.txt; make it\n" in done.stderr


@pytest.mark.parametrize(
    ("stream", "status"),
    [
        pytest.param(stream, status, marks=FULL if "full" in stream else ())
        for stream, status in (
            ("stdout closed", 0),
            ("stdout full", 2),
            ("both full", 2),
            ("stdout unread", 141),
            ("both unread", 141),
        )
    ],
)
def test_a_command_whose_output_is_its_result_ends_where_that_is_lost(tmp_path, stream, status):
    for work in ("flushed", "held back"):
        done, finished = run(tmp_path, work, STREAMS[stream], ", prints_result=True")
        # what is held back is found out when all is done
        assert done.returncode == status and finished == (not status or work == "held back")
        if stream == "stdout full":
            assert done.stderr.startswith(b"error: ") and done.stderr.count(b"\n") == 1
    done, _ = run(tmp_path, "error", STREAMS[stream], ", prints_result=True")
    assert done.returncode == 2


@pytest.mark.parametrize("stream", marked(["stdout full", "stdout unread"]))
def test_output_that_is_lost_is_said_once(tmp_path, stream):
    done, _ = run(tmp_path, "flushed", STREAMS[stream])
    (line,) = done.stderr.decode().splitlines()
    assert line.startswith("warning: ")


ASCII = {"PYTHONIOENCODING": "ascii"}
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.parametrize("environment", [ASCII, C_LOCALE, {"PYTHONIOENCODING": "utf-8"}])
def test_text_that_the_encoding_lacks_is_escaped(tmp_path, environment):
    done, finished = run(tmp_path, "names", **environment)
    assert (done.returncode, finished) == (0, True)
    shown = done.stdout.decode()
    assert r"\udcff.jpg" in shown
    assert ("×−│" if "utf-8" in environment.values() else r"\xd7\u2212\u2502") in shown
    done, _ = run(tmp_path, "help", **environment)
    assert done.returncode == 0 and done.stdout.startswith(b"usage: ")
