"""`python -m core.torchrun OPTIONS SCRIPT.py ARGUMENTS`: torchrun, with readable errors.

torchrun itself reads abbreviations of its options among the script's arguments (--run for
--run-path) unless `--` stands before the script, and ends with a traceback of its own and status 1
whatever happened. This passes the arguments on untouched, and ends with the status of the process
that failed first, whose own message stands above. That the work was interrupted is only said where
nothing else ended it.
"""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory

from torch.distributed import DistError
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import get_args_parser, run

from core.distributed import LAST_WORDS
from utils.errors import run_command


def main(arguments: list[str]) -> int:
    """Run torchrun with `arguments`; returns the exit status."""
    script = next(place for place, word in enumerate(arguments) if word.endswith(".py"))
    options = get_args_parser().parse_args(arguments[: script + 1])
    options.training_script_args = arguments[script + 1 :]
    with TemporaryDirectory() as folder:
        words = Path(folder) / "words"
        os.environ[LAST_WORDS] = str(words)
        return _run(options, words)


def _run(options: Namespace, words: Path) -> int:
    """Run torchrun; returns the exit status. `words` is for those of an interrupted process."""
    try:
        run(options)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode < 0:
            print(f"process {rank} was killed by signal {-failure.exitcode}", file=sys.stderr)
            return 128 - failure.exitcode
        if failure.exitcode > 128:
            _say(words)
        return failure.exitcode
    except SignalException as error:
        _say(words)
        return 128 + error.sigval
    except DistError as error:
        reason = str(error).splitlines()[0]
        print(
            f"error: the machines do not meet ({reason}); see that MASTER_ADDR, MASTER_PORT and "
            "NODE_RANK are right and that the first machine can be reached",
            file=sys.stderr,
        )
        return 2
    return 0


def _say(words: Path) -> None:
    if words.exists():
        print(words.read_text(encoding="utf-8", errors="surrogateescape"), file=sys.stderr)


if __name__ == "__main__":
    run_command(lambda: sys.exit(main(sys.argv[1:])))
