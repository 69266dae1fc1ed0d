"""Running a command and saying what it cost: time, memory, and bytes moved."""

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """One run of a command and of every process it waited for.

    `read` and `written` are the bytes of its read and write system calls (/proc/self/io, rchar and wchar):
    page cache included, sockets not where they are used by recv and send, as all of these do.
    """

    seconds: float
    cpu: float
    """Seconds of processor time, user and system: what a busy machine does not change much."""
    peak_bytes: int
    read: int
    written: int


@dataclass(frozen=True)
class Contender:
    """A way to do the job: argv, and what must be true of its result for the run to count."""

    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    proven: Callable[[], bool]


@dataclass(frozen=True)
class Row:
    """The median of a contender's runs at a job that ships `size` bytes."""

    job: str
    name: str
    cost: Cost
    size: int


LAUNCH = """
import json, os, resource, sys, time
began = time.monotonic()
pid = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
_, status = os.waitpid(pid, 0)
seconds = time.monotonic() - began
counters = dict(line.split(": ") for line in open("/proc/self/io"))
used = resource.getrusage(resource.RUSAGE_CHILDREN)
moved = [int(counters["rchar"]), int(counters["wchar"])]
cost = [seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024, *moved]
print(json.dumps([os.waitstatus_to_exitcode(status), *cost]))
"""
"""A small process between us and the command: ru_maxrss begins with the memory of whoever forked."""


def run(contender: Contender) -> Cost:
    """Exits when the command fails or its result is not what was asked for."""
    launch = [sys.executable, "-I", "-S", "-c", LAUNCH, *contender.argv]
    environment = {**os.environ, **contender.environment}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed programs start from their bytecode
    done = subprocess.run(launch, env=environment, capture_output=True, text=True, check=True)
    code, *cost = json.loads(done.stdout.splitlines()[-1])
    if code or not contender.proven():
        sys.exit(f"bench: {contender.name} failed ({code}):\n{done.stderr[-2000:]}")
    return Cost(*cost)


def compare(
    job: str, size: int, contenders: Sequence[Contender], *, repeat: int, clear: Callable[[], None]
) -> list[Row]:
    """All contenders in turn, `repeat` times over, so that a busy moment of the machine meets each."""
    costs: dict[str, list[Cost]] = {contender.name: [] for contender in contenders}
    for _ in range(repeat):
        for contender in contenders:
            clear()
            os.sync()
            costs[contender.name].append(run(contender))
            print(f"  {job}: {contender.name} {costs[contender.name][-1].seconds:.2f} s", file=sys.stderr)
    clear()
    return [Row(job, name, _median(runs), size) for name, runs in costs.items()]


def _median(runs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(run.seconds for run in runs),
        statistics.median(run.cpu for run in runs),
        max(run.peak_bytes for run in runs),
        int(statistics.median(run.read for run in runs)),
        int(statistics.median(run.written for run in runs)),
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown; `time` is relative to the first contender of the same job, which is airgap."""
    lines = [
        "| job | tool | seconds | MB/s | time | CPU s | peak MB | read / byte | written / byte |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    first: dict[str, Row] = {}
    for row in rows:
        ours = first.setdefault(row.job, row)
        cost = row.cost
        lines.append(
            f"| {row.job if row is ours else ''} | {row.name} | {cost.seconds:.2f}"
            f" | {row.size / 1e6 / cost.seconds:.0f} | {cost.seconds / ours.cost.seconds:.2f}×"
            f" | {cost.cpu:.2f} | {cost.peak_bytes / 1e6:.0f}"
            f" | {cost.read / row.size:.2f} | {cost.written / row.size:.2f} |"
        )
    return "\n".join(lines)
