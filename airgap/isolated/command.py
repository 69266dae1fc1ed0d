"""A command of the user's, run with a generation's environment: what it printed, how and when it ended."""

import hashlib
import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from airgap.errors import HostError
from airgap.model import Sha384
from airgap.trust.smoke import Output

_SHELL = 'BASH_SOURCE=$1; . "$1"; shift; exec "$@"'
"""Applies env.sh, then becomes the command. The file asks for its own name, which not every sh tells."""

_CHUNK = 64 * 1024
_POLL = 0.1
"""Seconds between two looks at whether the command has ended; a child of it may keep the pipe open."""

_DRAIN = 0.5
"""Seconds in which what was printed is still read once the command has ended."""


@dataclass(frozen=True, slots=True)
class Ran:
    """How a command ended. `status` as a shell has it: 128 + N after signal N, 127 for no such command."""

    status: int
    began: datetime
    """UTC, whole seconds."""
    milliseconds: int
    output: Output


def run_command(
    command: Sequence[str],
    environment: Path,
    *,
    gpus: Sequence[int],
    seconds: float | None,
    tail: int,
    show: Callable[[bytes], None],
) -> Ran:
    """Run `command` with the environment that the file `environment` makes, in a session of its own.

    It reads nothing on stdin; `show` gets what it prints on either stream, and the last `tail` bytes are
    kept. After `seconds` it is killed; children that outlive it are killed, too. Raises HostError where
    there is no shell.
    """
    own = dict(os.environ)
    if gpus:
        # nvidia-smi counts by the bus, CUDA by speed unless it is told.
        own |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(map(str, gpus))}
    began, started = datetime.now(UTC).replace(microsecond=0), time.monotonic()
    try:
        process = subprocess.Popen(
            ["/bin/sh", "-c", _SHELL, "airgap-smoke", str(environment), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=own,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise HostError(f"{command[0]}: cannot be run: {error}") from error
    try:
        output = _read(process, math.inf if seconds is None else started + seconds, tail, show)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # it is not reaped yet, so the number is still its own
        code = process.wait()
    took = round((time.monotonic() - started) * 1000)
    return Ran(128 - code if code < 0 else code, began, took, output)


def _read(process: subprocess.Popen[bytes], until: float, tail: int, show: Callable[[bytes], None]) -> Output:
    """Everything that it prints before it ends, or before `until` on the monotonic clock."""
    hasher, size, end = hashlib.sha384(), 0, b""
    assert process.stdout is not None
    with process.stdout as pipe:
        reading = True
        while time.monotonic() < until:
            ended = _ended(process)
            if ended:
                until = min(until, time.monotonic() + _DRAIN)
            if reading and select.select([pipe], [], [], 0 if ended else _POLL)[0]:
                chunk = os.read(pipe.fileno(), _CHUNK)
                reading = bool(chunk)
                hasher.update(chunk)
                size += len(chunk)
                end = (end + chunk)[-tail:] if tail else b""
                show(chunk)
            elif ended:
                break
            elif not reading:
                time.sleep(_POLL)
    return Output(size, Sha384(hasher.hexdigest()), end.decode("utf-8", "replace"))


def _ended(process: subprocess.Popen[bytes]) -> bool:
    """Without reaping it: its number must stay its own until its children are killed."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
