"""Worker processes, each connected to the main process by a pipe of its own."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle, islice
from multiprocessing.connection import Connection
from typing import Generic, NamedTuple, TypeVar

from utils.errors import UserError
from utils.processes import interrupts_held_back

K = TypeVar("K")
R = TypeVar("R")

# other methods import PyTorch anew in every process, which takes seconds; macOS forbids fork.
# A fork is safe here, though `utils.processes` avoids it: these processes use no CUDA, have PyTorch
# compute in one thread if `prepare` says so, and take no lock that the main one's threads may hold.
METHOD = "fork" if sys.platform == "linux" else "spawn"
AHEAD = 2
"""Items that each process is given before its first result is fetched."""


class Worker(NamedTuple):
    """A process and the main process's end of its pipe."""

    process: multiprocessing.process.BaseProcess
    connection: Connection


class Workers(Generic[K, R]):
    """`count` processes that call `function`; they exit with the `with` block or the main process.

    Results are pickled through pipes, which need no shared memory (/dev/shm), of which containers
    have little. When a process dies its pipe closes, so the main process never waits for it, even
    if it was killed in the middle of a result.

    Args:
        function: of a module, or a `partial` of one.
        count: at least 1.
        work: what the processes do, for error messages, as "loads images".
        remedy: the end of these messages.
        prepare: called once in each process, before anything else.

    Raises:
        UserError: a process cannot be started.
    """

    def __init__(
        self,
        function: Callable[[K], R],
        count: int,
        work: str,
        remedy: str,
        prepare: Callable[[], object] = object,
    ) -> None:
        self.work = work
        self.remedy = remedy
        self._workers: list[Worker] = []
        try:
            for _ in range(count):
                self._start(function, prepare)
        except OSError as error:
            self.close()
            raise UserError(f"cannot start a process that {work} ({error}); {remedy}") from error

    def _start(self, function: Callable[[K], R], prepare: Callable[[], object]) -> None:
        context = multiprocessing.get_context(METHOD)
        connection, other_end = context.Pipe()
        # what a fork inherits would keep pipes open whose main process is gone
        inherited = [*(worker.connection for worker in self._workers), connection]
        arguments = (function, prepare, other_end, inherited if METHOD == "fork" else [])
        process = context.Process(target=_serve, args=arguments, daemon=True)
        try:
            with interrupts_held_back():
                process.start()
        except OSError:
            connection.close()
            raise
        finally:
            other_end.close()
        self._workers.append(Worker(process, connection))

    def __enter__(self) -> Workers[K, R]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def map(self, items: Iterable[K]) -> Iterator[R]:
        """`function(item)` of all items, in their order; what it raises is raised here.

        Raises:
            UserError: a process died.
        """
        items = iter(items)
        asked: deque[Worker] = deque()
        first = islice(items, AHEAD * len(self._workers))
        for item, worker in zip(first, cycle(self._workers), strict=False):
            self._ask(worker, item)
            asked.append(worker)
        while asked:
            worker = asked.popleft()
            result = self._result_of(worker)
            for item in islice(items, 1):
                self._ask(worker, item)
                asked.append(worker)
            yield result

    def close(self) -> None:
        """End the processes, whatever they are at."""
        for process, connection in self._workers:
            connection.close()
            process.terminate()
        for process, _ in self._workers:
            process.join()
        self._workers.clear()

    def _ask(self, worker: Worker, item: K) -> None:
        try:
            worker.connection.send(item)
        except OSError as error:
            raise self._death_of(worker) from error

    def _result_of(self, worker: Worker) -> R:
        try:
            answer = worker.connection.recv_bytes()
        except (EOFError, OSError) as error:
            raise self._death_of(worker) from error
        result, error, trace = pickle.loads(answer)
        if error is not None:
            raise error from WorkerError(trace)
        return result

    def _death_of(self, worker: Worker) -> UserError:
        worker.process.join()
        code = worker.process.exitcode
        how = f"{signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        # what systems short of memory send
        perhaps = ", perhaps for want of memory" if code == -signal.SIGKILL else ""
        return UserError(f"a process that {self.work} died ({how}){perhaps}; {self.remedy}")


class WorkerError(Exception):
    """Where in a worker an error arose: a traceback as text, shown above the error's own."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def _serve(
    function: Callable[[K], R],
    prepare: Callable[[], object],
    connection: Connection,
    inherited: list[Connection],
) -> None:
    """What a process does: answer with function(item) until the main process closes the pipe."""
    # Ctrl-C reaches all processes of a terminal; the main one ends the others in good order, and
    # its handlers, which a fork has too, are not for them
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in inherited:
        other.close()
    prepare()
    try:
        while True:
            # results are pickled here, so that a failure of that is answered, too
            connection.send_bytes(_answer(function, connection.recv()))
    except (EOFError, OSError):
        pass  # the main process is gone, or done


def _answer(function: Callable[[K], R], item: K) -> bytes:
    """(result, error or None, traceback) as a pickle."""
    try:
        return pickle.dumps((function(item), None, ""), protocol=5)
    except Exception as error:
        trace = traceback.format_exc()
        try:
            answer = pickle.dumps((None, error, trace))
            pickle.loads(answer)
        except Exception:  # an error that cannot be sent as it is
            text = f"{type(error).__name__}: {error}"
            answer = pickle.dumps((None, RuntimeError(text), trace))
        return answer
