"""In which order blobs are looked into, by however many threads."""

import threading
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Turns(Generic[Item]):
    """What is packed before the rest, at most `packed_at_once` of it as long as there is something else.

    Who unpacks waits for Python's one lock (the GIL), who hashes waits for the medium: so both go on. Within
    both the order is that given. Safe to share between threads.
    """

    def __init__(self, packed: Iterable[Item], others: Iterable[Item], packed_at_once: int) -> None:
        self._packed = deque(packed)
        self._others = deque(others)
        self._free = packed_at_once
        self._lock = threading.Lock()

    @contextmanager
    def next(self) -> Iterator[Item]:
        """One that nobody else has had, for as long as it takes. Raises IndexError when none is left."""
        with self._lock:
            packed = bool(self._packed) and (self._free > 0 or not self._others)
            one = (self._packed if packed else self._others).popleft()
            self._free -= packed
        try:
            yield one
        finally:
            with self._lock:
                self._free += packed
