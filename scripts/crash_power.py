"""Power cuts: what the disk holds at the moment a change dies is copied, mounted, and judged.

The site lies on a loop-mounted file system. A process killed at a call leaves what it wrote in the page
cache; the backing file holds only what reached the disk. It is copied twice: at once, and after the
file system's next commit, which makes names durable whose bytes may not be. A commit before the first
copy would make a change that syncs nothing look as if it had: so commits are asked for, where they can be.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from crash_points import Pick, Point, inject, trace
from crash_world import ENVIRONMENT, Ends, Report, Scene, World, ends, judge

FILE_SYSTEMS = {
    "ext4": (64, ["mkfs.ext4", "-q", "-F"], "commit=300"),
    "xfs": (320, ["mkfs.xfs", "-q", "-f"], "nouuid"),
    "btrfs": (128, ["mkfs.btrfs", "-q", "-f"], "commit=1"),
}
"""Name -> size in MiB, how it is made, and the options under which it commits when `_commit` says so."""

COMMIT = 1.5
"""Seconds."""

COPIES = 20

XFS_COMMIT = Path("/proc/sys/fs/xfs/xfssyncd_centisecs")
SELDOM = "30000"
USUAL = "3000\n"
"""The kernel's own, where xfs is loaded for the first time by us."""


class Missing(Exception):
    """What this machine cannot try."""


def prepare(kind: str, directory: Path) -> Path:
    """An empty file system in a file. Raises Missing."""
    size, make, _ = FILE_SYSTEMS[kind]
    if shutil.which(make[0]) is None:
        raise Missing(f"{kind}: {make[0]} is not installed")
    image = directory / f"{kind}.empty"
    with open(image, "wb") as file:
        file.truncate(size * 1024 * 1024)
    subprocess.run([*make, str(image)], check=True, capture_output=True)
    (directory / "disk").mkdir(exist_ok=True)
    try:
        with mounted(kind, image, directory / "disk"):
            pass
    except subprocess.CalledProcessError as error:
        raise Missing(f"{kind}: cannot be loop-mounted: {error.stderr.decode().strip()}") from None
    if kind == "xfs":
        XFS_COMMIT.write_text(SELDOM)
    return image


@contextmanager
def mounted(kind: str, image: Path, at: Path) -> Iterator[None]:
    options = f"loop,{FILE_SYSTEMS[kind][2]}"
    subprocess.run(["mount", "-t", kind, "-o", options, image, at], check=True, capture_output=True)
    try:
        yield
    finally:
        subprocess.run(["umount", at], check=True, capture_output=True)


@contextmanager
def xfs_as_before() -> Iterator[None]:
    """The host's timer of xfs, which `prepare` sets, is put back."""
    before = XFS_COMMIT.read_text() if XFS_COMMIT.exists() else USUAL
    try:
        yield
    finally:
        if XFS_COMMIT.exists() and XFS_COMMIT.read_text() != before:
            XFS_COMMIT.write_text(before)


def try_power(
    kind: str, world: World, directory: Path, pick: Pick, report: Report, *, control: bool = False
) -> None:
    """Cut the power at each call of each scene, and once after it has reported success. Raises Missing."""
    empty, disk = prepare(kind, directory), directory / "disk"
    for scene in world.scenes:
        begun = _copy(empty, directory / "begun")
        with mounted(kind, begun, disk):
            states = ends(world, scene)
            points = trace(world, scene, directory / "log")
            world.build(scene)
            subprocess.run(["sync", "--file-system", disk], check=True)  # the beginning is no part of the cut
        cuts: list[Point | None] = [point for point, _ in pick([(point, "") for point in points])]
        for point in [*([None] if pick.number == 1 else []), *cuts]:
            cut = "after success" if point is None else f"at {point.call} {point.ordinal} ({point.shown[:80]}"
            for when, wrong in _cut(kind, world, scene, states, point, directory, control=control):
                report(f"{kind}, {scene.name}: power cut {cut}, {when}", wrong)


def _cut(
    kind: str,
    world: World,
    scene: Scene,
    states: Ends,
    point: Point | None,
    directory: Path,
    *,
    control: bool,
) -> Iterator[tuple[str, list[str]]]:
    disk = directory / "disk"
    running = _copy(directory / "begun", directory / "running")
    with mounted(kind, running, disk):
        if point is None:
            argv = world.command(scene, control=control)
            with open(scene.stdin, "rb") as given:
                subprocess.run(argv, stdin=given, env=ENVIRONMENT, check=True, capture_output=True)
        else:
            inject(world, scene, point, "signal=SIGKILL", control=control)
        images = {"at once": _copy(running, directory / "at-once")}
        _commit(kind, disk)
        images["after a commit"] = _copy(running, directory / "after-a-commit")
    for when, image in images.items():
        try:
            with mounted(kind, image, disk):
                yield when, judge(world, scene, states, finished=point is None)
        except subprocess.CalledProcessError as error:
            yield when, [f"cannot be mounted: {error.stderr.decode().strip()}"]


def _commit(kind: str, disk: Path) -> None:
    """Make names durable, and no other file's bytes: ext4 and xfs do so for an fsync of any one file."""
    if kind == "btrfs":  # there an fsync has a log of its own: wait for its timer
        time.sleep(COMMIT)
        return
    with open(disk / "commit", "w") as other:
        os.fsync(other.fileno())


def _copy(image: Path, to: Path) -> Path:
    """As it was at one moment: copied again while a write was under way, which no disk would half do."""
    for _ in range(COPIES):
        subprocess.run(["cp", "--sparse=always", "--reflink=auto", image, to], check=True)
        if subprocess.run(["cmp", "--silent", image, to], check=False).returncode == 0:
            return to
    raise Missing(f"{image}: never at rest long enough to be copied")
