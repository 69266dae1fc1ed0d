"""Works done by a few threads, which a failure or Ctrl-C stops within moments.

`airgap.workers` waits for its threads to end; here one may be held by a silent server, and is left.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, wait
from threading import Event, Thread
from typing import TypeVar

T = TypeVar("T")

_GRACE = 2.0
"""Seconds for threads to notice `stop`; one that waits for a silent server is left behind (a daemon)."""


class Stopped(Exception):
    """What a work that is no longer wanted raises when it sees `stop`; it never leaves `run_all`."""


def run_all(works: Sequence[Callable[[], T]], jobs: int, stop: Event) -> list[T]:
    """The results in order, at most `jobs` works at a time.

    The first failure is raised as it is, Ctrl-C too, after `stop` was set and the others had a moment.
    """
    futures: list[Future[T]] = [Future() for _ in works]
    waiting = deque(zip(works, futures, strict=True))

    def labour() -> None:
        while waiting and not stop.is_set():
            work, future = waiting.popleft()
            try:
                future.set_result(work())
            except BaseException as error:  # carried whole to the thread that waits, as executors do
                future.set_exception(error)

    # Not an executor: its threads are joined at exit, however long a server keeps them waiting.
    threads = [Thread(target=labour, daemon=True) for _ in range(min(jobs, len(works)))]
    try:
        for thread in threads:
            thread.start()
        wait(futures, return_when=FIRST_EXCEPTION)
    finally:
        stop.set()
        deadline = time.monotonic() + _GRACE
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    failures = [error for future in futures if future.done() and (error := future.exception())]
    for error in failures:
        if not isinstance(error, Stopped):
            raise error
    return [future.result() for future in futures]
