"""Volumes as one tar that is written forward once: for a pipe, a diode's sender, a tape.

Each volume is a directory of the tar. Its statement comes first, so that the receiver can judge before it
takes a byte, its list of digests last, so that nothing has to be read twice to be sent.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from airgap.connected.split import Selected, Splitting, finish, write_volume
from airgap.connected.volume_forms import TarSink
from airgap.errors import HostError
from airgap.image_tar import TAR_BLOCK
from airgap.progress import Progress
from airgap.store import host_errors, write_all


def write_stream(splitting: Splitting, selected: Sequence[Selected], out: int, progress: Progress) -> None:
    """Write volumes to the descriptor `out`. Raises IntegrityError, or HostError where they go no further."""
    made = int(splitting.statement.created_at.timestamp())
    with _pipe():
        for one in selected:
            sink = TarSink(out, made, below=f"{splitting.name(one.volume)}/")
            write_volume(splitting, one, sink, progress)
        write_all(out, memoryview(bytes(2 * TAR_BLOCK)))
    finish(splitting, progress)


@contextmanager
def _pipe() -> Iterator[None]:
    try:
        with host_errors(Path("the stream")):
            yield
    except HostError as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            raise
        # Python would complain once more when it flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise HostError(
            "whoever reads the stream has ended",
            remedy="see what it says; then go on with --only and what it lacks",
        ) from None
