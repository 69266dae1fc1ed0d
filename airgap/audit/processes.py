"""Works done in processes of their own, for what Python's one lock (the GIL) would do one at a time.

A worker is this Python started afresh with nothing but the descriptors of the media: neither a fork, which
is not safe beside threads, nor `multiprocessing`, whose `python -c` looks for modules in the current
directory first, and that may be the medium. Requests go through its stdin; through its stdout come back
counts of bytes, and then what the work gave or raised. It ends with its stdin, so it outlives nobody.
"""

import gc
import os
import pickle
import subprocess
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from queue import SimpleQueue
from signal import Signals
from threading import Event, Lock, Thread, local
from types import TracebackType
from typing import Any, BinaryIO, Generic, Protocol, TypeVar, cast
from zipimport import zipimporter

from airgap.errors import AirgapError, HostError
from airgap.media import Media
from airgap.progress import Progress, Silent
from airgap.workers import Stopped

STEP = 1024 * 1024
"""Bytes of progress that are told at once."""

SERVE = "import sys; sys.path[:] = sys.argv[1:]; from airgap.audit.processes import serve; serve()"

REMEDY = "if memory ran out, free some or give fewer --jobs; up to 2 of them start no process"


class Named(Protocol):
    """What a work is about."""

    @property
    def name(self) -> str: ...


Item = TypeVar("Item", bound=Named)
Result = TypeVar("Result")


def possible() -> bool:
    """Not where airgap itself lies in a zip: a process started afresh would find no native modules there."""
    return bool(sys.executable) and not isinstance(getattr(__spec__, "loader", None), zipimporter)


class Workers(Generic[Item, Result]):
    """A worker for each thread that asks; a context manager. All are killed once `stop` is set.

    `work` is a function of a module; it is called with `shared`, which may be or hold media, and an item.
    """

    def __init__(self, work: Callable[[Any, Item, Progress], Result], shared: object, stop: Event) -> None:
        self._stop = stop
        begin = BytesIO()
        packer = _Packer(begin)
        packer.dump((work, shared, gc.get_threshold()))
        self._begin, self._descriptors = begin.getvalue(), packer.descriptors
        self._own = local()
        self._all: list[subprocess.Popen[bytes]] = []
        self._starting = Lock()
        self._killer = Thread(target=self._kill, daemon=True)

    def __enter__(self) -> "Workers[Item, Result]":
        self._killer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._killer.join()
        for process in self._all:
            with suppress(BrokenPipeError), process:  # of a request that it did not live to read
                pass

    def ask(self, item: Item, progress: Progress) -> Result | None:
        """What `work` gives for `item`, or None where this host lets no process be started.

        Raises what `work` raises, and HostError when the worker dies.
        """
        if not hasattr(self._own, "process"):
            self._own.process = self._start()
        process = self._own.process
        if process is None:
            return None
        try:
            pickle.dump(item, process.stdin)
            process.stdin.flush()
            while isinstance(answer := pickle.load(process.stdout), int):  # noqa: S301 - our own process
                progress.advance(answer)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError):
            if self._stop.is_set():
                raise Stopped from None
            process.kill()  # it has ended, unless what it wrote was no answer
            code = process.wait()
            how = f"was killed by {Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            message = f"{item.name}: the process that looked into it {how}"
            raise HostError(message, remedy=REMEDY) from None
        if isinstance(answer, _Raised):
            raise answer.error
        return cast(Result, answer)

    def _start(self) -> "subprocess.Popen[bytes] | None":
        isolation = "-I" if sys.flags.isolated else "-P"
        argv = [sys.executable, isolation, "-c", SERVE, *sys.path]
        pipe = subprocess.PIPE
        with self._starting:
            if self._stop.is_set():
                raise Stopped
            try:  # in a group of its own: Ctrl-C is for whoever started it, who ends it
                process = subprocess.Popen(
                    argv, stdin=pipe, stdout=pipe, pass_fds=self._descriptors, process_group=0
                )
            except OSError:
                return None
            self._all.append(process)
        assert process.stdin
        with suppress(BrokenPipeError):  # dead already, as the first request will find
            process.stdin.write(self._begin)
        return process

    def _kill(self) -> None:
        self._stop.wait()
        with self._starting:
            for process in self._all:
                process.kill()


def serve() -> None:
    """What a worker does until its stdin ends, which it does with whoever started it."""
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no reply
    work, shared, collect = pickle.load(sys.stdin.buffer)  # noqa: S301 - from whoever started this
    gc.set_threshold(*collect)
    requests: SimpleQueue[Any] = SimpleQueue()
    Thread(target=_receive, args=(sys.stdin.buffer, requests), daemon=True).start()
    while True:
        item = requests.get()
        counted = _Counted(replies)
        try:
            answer = work(shared, item, counted)
        except BaseException as error:  # carried whole to whoever asked, as threads do
            if not isinstance(error, AirgapError):
                error.add_note(traceback.format_exc())
            answer = _Raised(error)
        counted.tell()
        pickle.dump(answer, replies)
        replies.flush()


def _receive(stdin: BinaryIO, requests: "SimpleQueue[Any]") -> None:
    try:
        while True:
            requests.put(pickle.load(stdin))  # noqa: S301 - as above
    finally:
        os._exit(0)


class _Counted(Silent):
    """Progress that is told whoever asked, a `STEP` at once."""

    def __init__(self, replies: BinaryIO) -> None:
        self._replies = replies
        self._count = 0

    def advance(self, count: int) -> None:
        self._count += count
        if abs(self._count) >= STEP:
            self.tell()

    def tell(self) -> None:
        pickle.dump(self._count, self._replies)
        self._replies.flush()
        self._count = 0


class _Packer(pickle.Pickler):
    """Of media the descriptors travel, which a worker inherits."""

    descriptors: tuple[int, ...] = ()

    def reducer_override(self, value: object) -> Any:
        if not isinstance(value, Media):
            return NotImplemented
        held = value.held()
        self.descriptors += tuple(held.values())
        return Media.inherited, (value.root, held)


@dataclass(frozen=True, slots=True)
class _Raised:
    """An error on its way to whoever asked."""

    error: BaseException
