"""What long work tells whoever is watching. The terminal's form of it lives in `airgap.cli`."""

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Progress(Protocol):
    """Counts bytes of named work. All methods are safe to call from several threads."""

    def task(self, label: str, total: int | None) -> AbstractContextManager[object]:
        """Begin work of `total` bytes (None: unknown); the work ends with the context."""

    def advance(self, count: int) -> None:
        """`count` more bytes of the current task are done; negative when bytes have to be fetched again."""

    def note(self, message: str) -> None:
        """One line a person should see now; never more than one line."""


class Silent:
    """Progress for pipes, tests and `--json`: none."""

    def task(self, label: str, total: int | None) -> AbstractContextManager[object]:
        return nullcontext()

    def advance(self, count: int) -> None:
        pass

    def note(self, message: str) -> None:
        pass
