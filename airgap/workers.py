"""Works done by a few threads, which a failure or Ctrl-C stops within moments."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from functools import partial
from threading import Event, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_GRACE = 2.0
"""Seconds for threads to notice `stop`; one that waits for a silent server is left behind (a daemon)."""


def cores() -> int:
    """The CPUs that this process may use, which taskset and containers make fewer than the host has."""
    return len(os.sched_getaffinity(0))


class Stopped(Exception):
    """What a work that is no longer wanted raises when it sees `stop`; it never leaves `run_all`."""


def spread(work: Callable[[Item, Event], Result], items: Iterable[Item], jobs: int) -> list[Result]:
    """Run `work` on every item in `jobs` threads; results in the order of the items.

    For works on local files: `work` looks at the event between chunks and returns early once it is set
    (its result is then thrown away), so every thread has ended before the first failure is raised here.
    """
    stop = Event()
    return run_all([partial(work, item, stop) for item in items], jobs, stop, grace=None)


def run_all(
    works: Sequence[Callable[[], Result]], jobs: int, stop: Event, *, grace: float | None = _GRACE
) -> list[Result]:
    """The results in order, at most `jobs` works at a time.

    The first failure is raised as it is, Ctrl-C too, after `stop` was set and the others had `grace`
    seconds to end; None waits for them however long it takes.
    """
    futures: list[Future[Result]] = [Future() for _ in works]
    waiting = deque(zip(works, futures, strict=True))

    def labour() -> None:
        while not stop.is_set():
            try:
                work, future = waiting.popleft()
            except IndexError:
                return
            try:
                future.set_result(work())
            except BaseException as error:  # carried whole to the thread that waits, as executors do
                future.set_exception(error)

    # Not an executor: its threads are joined at exit, however long a server keeps them waiting.
    threads = [Thread(target=labour, daemon=True) for _ in range(min(max(1, jobs), len(works)))]
    try:
        for thread in threads:
            thread.start()
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()
        deadline = None if grace is None else time.monotonic() + grace
        for thread in threads:
            if thread.ident:  # else it could not be started, and that is the failure
                thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    failures = [error for future in futures if future.done() and (error := future.exception())]
    for error in failures:
        if not isinstance(error, Stopped):
            raise error
    return [future.result() for future in futures]
