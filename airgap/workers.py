"""Works done by a few threads, which a failure or Ctrl-C stops within moments."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from threading import Event, Thread, current_thread
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
    waiting = deque(enumerate(works))
    found: dict[int, Result] = {}
    failed: dict[int, BaseException] = {}
    begun: list[Thread] = []
    # Not futures: Ctrl-C amid waiting for them leaves them locked, and no thread that has one could end.
    ended: SimpleQueue[None] = SimpleQueue()

    def labour() -> None:
        begun.append(current_thread())
        while not (stop.is_set() or failed):
            try:
                number, work = waiting.popleft()
            except IndexError:
                break
            try:
                found[number] = work()
            except BaseException as error:  # carried whole to the thread that waits, as executors do
                failed[number] = error
        ended.put(None)

    # Not an executor: its threads are joined at exit, however long a server keeps them waiting.
    threads = [Thread(target=labour, daemon=True) for _ in range(min(max(1, jobs), len(works)))]
    try:
        for thread in threads:
            thread.start()
        for _ in threads:
            ended.get()
            if failed:
                break
    finally:
        stop.set()
        deadline = None if grace is None else time.monotonic() + grace
        for thread in begun:  # who has not, because Ctrl-C came or no more could start, does nothing now
            thread.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
    for number in sorted(failed):
        if not isinstance(failed[number], Stopped):
            raise failed[number]
    return [found[number] for number in range(len(works))]
