"""The one exception for mistakes of the user's, and how a command ends with it."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the user can mend: a wrong path, key, type, suffix or file.

    Its text is one line that names the thing and the remedy. Commands print it without a
    traceback and end with exit status 2; a programming error keeps its traceback.
    """


def run_command(main: Callable[[], None]) -> None:
    """Run a command's `main` and end the process with the exit status users rely on.

    0 when `main` returns, 2 for a `UserError` (its text on stderr as one line), 130 for Ctrl-C.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
