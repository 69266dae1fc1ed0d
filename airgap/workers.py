"""The same work on many items in a few threads, stopped promptly at the first error or Ctrl-C."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def spread(work: Callable[[Item, threading.Event], Result], items: Iterable[Item], jobs: int) -> list[Result]:
    """Run `work` on every item in `jobs` threads; results in the order of the items.

    `work` looks at the event between chunks and returns early once it is set: its result is then
    thrown away. The first exception is raised again here, after every thread has ended.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(max_workers=max(1, jobs))
    try:
        futures = [pool.submit(work, item, stop) for item in items]
        done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()
        return [future.result() for future in futures]
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
