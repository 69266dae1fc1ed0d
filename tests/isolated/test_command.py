"""A command of the user's, run directly: what ends it."""

import time
from pathlib import Path

from airgap.isolated.command import run_command


def test_a_child_that_never_stops_talking_does_not_hold_up_its_end(tmp_path: Path) -> None:
    environment = tmp_path / "env.sh"
    environment.write_text('export WHERE="$(dirname "$BASH_SOURCE")"\n')
    seen: list[int] = []

    def show(data: bytes) -> None:
        """Slower than they talk, as a terminal is."""
        time.sleep(0.01)
        seen.append(len(data))

    began = time.monotonic()
    ran = run_command(
        ("sh", "-c", 'test -n "$WHERE" && { cat /dev/zero & sleep 0.1; exit 3; }'),
        environment,
        gpus=(),
        seconds=20,
        tail=4,
        show=show,
    )
    assert time.monotonic() - began < 10
    assert (ran.status, ran.output.tail) == (3, "\0" * 4)
    assert ran.output.size == sum(seen)
