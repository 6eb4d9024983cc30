"""The processes that a process has started."""

from __future__ import annotations

import subprocess
from pathlib import Path


def children_of(pid: int, words: str = "") -> list[int]:
    """The children of a process, in the order of their numbers, whose command lines hold `words`.

    Small containers have /proc and no pgrep; it is the other way round where /proc is no Linux's.
    """
    if not Path("/proc/self/stat").exists():
        command = ["pgrep", "-P", str(pid), *(["-f", words] if words else [])]
        found = subprocess.run(command, capture_output=True, text=True).stdout.split()
        return sorted(map(int, found))
    children = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # PID (NAME) STATE PARENT ...; a name may hold spaces and brackets
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (OSError, UnicodeDecodeError):  # it has ended, or is another user's
            continue
        if int(parent) == pid and words in command:
            children.append(int(folder.name))
    return sorted(children)
