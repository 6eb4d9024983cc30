"""A line of the check's table, as a section prints it and the check reads it again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_PREFIX = "ROW "
_MARKS = {True: "ok", False: "LOOK", None: ""}

HEAD = "| section | what | result | |\n|---|---|---|---|"


@dataclass(frozen=True)
class Finding:
    """What a section has found; the fields are those of a row of results.json.

    Attributes:
        section: its name.
        what: what was tried or measured.
        result: what came out.
        ok: whether that is as it should be; None where there is nothing to judge.
    """

    section: str
    what: str
    result: str
    ok: bool | None = None

    def text(self) -> str:
        """For people."""
        return f"{_MARKS[self.ok]:4} {self.what}: {self.result}"

    def table_line(self) -> str:
        """A line of the last table."""
        return f"| {self.section} | {self.what.strip()} | {self.result} | {_MARKS[self.ok]} |"

    def encoded(self) -> str:
        """A line that `decode` knows."""
        return _PREFIX + json.dumps(asdict(self))


def decode(line: str) -> Finding | None:
    """The finding that a line of a section's output holds, if it is a whole one."""
    if not line.startswith(_PREFIX):
        return None
    try:
        return Finding(**json.loads(line.removeprefix(_PREFIX)))
    except (ValueError, TypeError):  # the section was killed while it wrote
        return None
