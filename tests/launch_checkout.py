"""A copy of the launch scripts, in a path with spaces, with a stand-in for Python."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
STUB_PYTHON = Path(__file__).parent / "launch/stub_python.sh"


@dataclass
class Checkout:
    """The copy at `root`; `python` is the stand-in, which notes its calls in `stub`."""

    root: Path
    elsewhere: Path
    stub: Path
    python: Path

    def environment(self, **variables: str) -> dict[str, str]:
        """Nothing of the tester's own settings, PYTHON the stand-in unless told otherwise."""
        base = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        merged = base | {"STUB": str(self.stub), "PYTHON": str(self.python)} | variables
        return {name: value for name, value in merged.items() if value}

    def run(self, script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
        """Run launch/`script` from a folder outside the copy; variables go to its environment."""
        return subprocess.run(
            ["bash", str(self.root / "launch" / script), *arguments],
            cwd=self.elsewhere,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )

    def calls(self) -> list[list[str]]:
        """The arguments of each call of the stand-in, in order."""
        files = sorted(self.stub.glob("call.*"))
        return [file.read_text().split("\0")[:-1] for file in files]

    def add_tool(self, name: str, text: str = "#!/bin/sh\n") -> Path:
        """Write a program to the folder of the stand-in."""
        tool = self.stub / name
        tool.write_text(text)
        tool.chmod(0o755)
        return tool

    def write(self, path: str, text: str = "") -> Path:
        """Write a file below the root."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file
