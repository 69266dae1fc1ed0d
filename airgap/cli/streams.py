"""The three standard streams as airgap wants them: there, and stderr with no say in how a command ends."""

import io
import os
import sys
from typing import Any, TextIO

CLOSED = {0: os.O_WRONLY, 1: os.O_RDONLY, 2: os.O_WRONLY}
"""How /dev/null stands for what was closed: whoever reads stdin or writes stdout then fails."""


class _Lossy(io.FileIO):
    """What cannot be written is lost: an exit code says more than words about it."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def settle_streams() -> None:
    """For the whole process, once. A descriptor that is closed would go to the next file that is opened."""
    for number, mode in CLOSED.items():
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, mode)  # the lowest that is free, so `number`
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115 - they stay open
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = _lossy(sys.stderr)


def _lossy(stream: TextIO | None) -> TextIO:
    raw = _Lossy(2, "w", closefd=False)
    encoding = stream.encoding if stream else None
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=True)
