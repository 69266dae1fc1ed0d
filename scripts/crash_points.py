"""Every system call by which a change alters a site, and the same run with one of them killed or refused.

strace injects (its manual, "Syscall tampering"): SIGKILL on entering the call, or an errno in its place.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from crash_world import ENVIRONMENT, Report, Scene, World, ends, judge

CALLS = (
    "openat", "write", "pwrite64", "writev", "rename", "renameat", "renameat2", "link", "linkat", "symlink",
    "symlinkat", "unlink", "unlinkat", "rmdir", "mkdir", "mkdirat", "fsync", "fdatasync", "chmod", "fchmod",
    "fchmodat", "ftruncate", "truncate",
)  # fmt: skip

ERRORS = ("ENOSPC", "EIO", "EDQUOT", "EROFS")
DONE_OR_REFUSED = (0, 9)
KILLED = (-9, 137)


@dataclass(frozen=True)
class Point:
    """The `ordinal`-th call of that name in a run, as strace showed it."""

    call: str
    ordinal: int
    shown: str


def trace(world: World, scene: Scene, log: Path) -> list[Point]:
    """The calls of a whole run that alter the site, in order. Reading opens count, and are left out."""
    world.build(scene)
    command = ["strace", "-f", "-y", "-qq", "-s", "0", "-e", f"trace={','.join(CALLS)}", "-o", str(log)]
    argv = [*command, *world.command(scene)]
    with open(scene.stdin, "rb") as given:
        done = subprocess.run(argv, stdin=given, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    counter: Counter[str] = Counter()
    points, threads = [], set()
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"([0-9]+) +([a-z0-9]+)\((.*)", line)
        if match is None or match[2] not in CALLS:
            continue
        threads.add(match[1])
        counter[match[2]] += 1
        reads = match[2] == "openat" and "O_CREAT" not in line
        ours = any(str(path) in line for path in (world.place, world.copies) if path)
        if ours and not reads:
            points.append(Point(match[2], counter[match[2]], match[3]))
    assert len(threads) == 1, "more than one thread: counts would not repeat"
    return points


def inject(world: World, scene: Scene, point: Point, what: str, *, control: bool = False) -> int:
    """Run a scene on the site as it is; returns the exit code, negative for the signal that ended it."""
    injection = f"inject={point.call}:{what}:when={point.ordinal}"
    command = ["strace", "-f", "-qq", "-e", f"trace={point.call}", "-e", injection, "-o", "/dev/null"]
    argv = [*command, *world.command(scene, control=control)]
    with open(scene.stdin, "rb") as given:
        return subprocess.run(argv, stdin=given, env=ENVIRONMENT, capture_output=True, check=False).returncode


def try_points(world: World, log: Path, pick: "Pick", report: Report) -> None:
    """Kill before each call, and refuse each call with each error; each state that is left is judged once."""
    for scene in world.scenes:
        states = ends(world, scene)
        points = trace(world, scene, log)
        judged: dict[str, list[str]] = {}
        for point, what in pick([*_tried(points)]):
            world.build(scene)
            code = inject(world, scene, point, what)
            state = world.fingerprint()
            if state not in judged:
                judged[state] = judge(world, scene, states)
            wrong = [*judged[state]]
            expected = DONE_OR_REFUSED if what.startswith("error") else KILLED
            if code not in expected:
                wrong.append(f"ended with {code}, not with one of {expected}")
            report(f"{scene.name}: {what} at {point.call} {point.ordinal} ({point.shown[:90]}", wrong)


def _tried(points: Sequence[Point]) -> Iterator[tuple[Point, str]]:
    for point in points:
        yield point, "signal=SIGKILL"
        for error in ERRORS:
            yield point, f"error={error}"


class Pick:
    """Everything, a share of it, or an even sample that begins with the end, where the switch is."""

    def __init__(self, most: int | None, share: tuple[int, int] = (1, 1)) -> None:
        self.most = most
        self.number, self.of = share

    def __call__(self, everything: Sequence[tuple[Point, str]]) -> Sequence[tuple[Point, str]]:
        if self.most is not None and self.most < len(everything):
            step = len(everything) / self.most
            everything = [everything[-1 - int(number * step)] for number in range(self.most)]
        return everything[self.number - 1 :: self.of]
