"""Killed, or refused by the disk, at any step: the site is wholly old or wholly new, and a rerun converges.

The step is a call that changes the file system, counted in the installing process itself: a forked
child that dies by SIGKILL before the n-th one, or an installer whose n-th one fails with ENOSPC.
"""

import builtins
import errno
import io
import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from tests import bundles
from tests.isolated.sites import problems, snapshot
from tests.services import need

ROOT = Path(__file__).resolve().parents[2]

STEPS = (
    "write",
    "fsync",
    "rename",
    "replace",
    "link",
    "symlink",
    "mkdir",
    "unlink",
    "chmod",
    "fchmod",
    "rmdir",
)


@contextmanager
def before_step(number: int, act: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Call `act` before the `number`-th change this process makes; yields the count so far."""
    counter = itertools.count(1)
    last = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **kwargs: Any) -> Any:
            nonlocal last
            last = next(counter)
            if last == number:
                act()
            return original(*args, **kwargs)

        return step

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, counted(getattr(os, name)))
        creating = counted(io.open)

        def opening(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            return (creating if set(mode) & set("wx+") else io.open)(file, mode, *args, **kwargs)

        patch.setattr(builtins, "open", opening)
        yield lambda: last


class Scene:
    """A site with one bundle installed, and a second bundle that replaces half of it."""

    def __init__(self, directory: Path) -> None:
        shared = bundles.model("tiny", {"a.bin": b"a" * 3000, "b.bin": b"b" * 3000}, repo="example/tiny")
        old = [shared, bundles.file("notes", b"old")]
        new = [shared, bundles.file("notes", b"new"), bundles.wheels("set", dict([bundles.wheel("alpha")]))]
        self.old = bundles.write_bundle(directory / "old", old)
        self.new = bundles.write_bundle(directory / "new", new, sequence=2)
        self.empty = bundles.pin(directory / "empty" / "site")
        self.template = bundles.pin(directory / "template" / "site")
        assert install(self.old, self.template) == 0
        self.site = directory / "run" / "site"
        self.before = self.after = snapshot(self.template)
        self.start()
        assert install(self.new, self.site) == 0
        self.after = snapshot(self.site)

    def start(self) -> None:
        shutil.rmtree(self.site.parent, ignore_errors=True)
        # cp -a keeps hard links, which copytree does not.
        self.site.parent.mkdir()
        subprocess.run(["cp", "-a", self.template, self.site.parent], check=True)

    def judge(self, where: str) -> None:
        """Whole at rest, and converged after one more run."""
        found = snapshot(self.site)
        assert found in (self.before, self.after), where
        memory = (self.site / "trust" / "accepted.json").read_bytes()
        if found == self.after:
            assert b'"sequence":2' in memory, where
        assert install(self.new, self.site) == 0, where
        assert snapshot(self.site) == self.after, where
        assert problems(self.site) == [], where


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    # In memory where there is such a file system: a SIGKILL loses no page cache, so nothing needs a disk.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        yield Scene(Path(directory))


def install(bundle: Path, site: Path) -> int:
    return run(["install", str(bundle), "--site", str(site)])


def count_steps(scene: Scene) -> int:
    scene.start()
    with before_step(0, lambda: None) as counted:
        assert install(scene.new, scene.site) == 0
        return counted()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def sample(count: int, size: int) -> list[int]:
    """Up to `size` of the steps 1 to `count`; AIRGAP_CRASH_ALL=1 takes every one."""
    everything = list(range(1, count + 1))
    if os.environ.get("AIRGAP_CRASH_ALL"):
        return everything
    return sorted(random.Random(count).sample(everything, min(size, count)))


def test_killed_before_a_step_the_site_is_whole_and_a_rerun_converges(scene: Scene) -> None:
    count = count_steps(scene)
    assert count > 50
    states = set()
    # The last steps hold the rename of the generation, the memory, the switch and the receipt.
    for step in sorted({*sample(count, 14), *range(count - 16, count + 1)}):
        scene.start()
        child = os.fork()
        if child == 0:
            with before_step(step, die):
                install(scene.new, scene.site)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status), f"step {step} of {count} was not reached"
        states.add(snapshot(scene.site) == scene.after)
        scene.judge(f"killed before step {step} of {count}")
    assert states == {False, True}


def test_a_full_disk_at_a_step_is_an_error_and_a_rerun_converges(scene: Scene) -> None:
    count = count_steps(scene)

    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in sample(count, 20):
        scene.start()
        with before_step(step, full):
            code = install(scene.new, scene.site)
        assert code in (0, 9), step
        scene.judge(f"ENOSPC at step {step} of {count}")


def test_killed_at_random_times_the_site_is_whole(scene: Scene) -> None:
    command = [sys.executable, "-m", "airgap", "install", str(scene.new), "--site", str(scene.site)]
    scene.start()
    started = time.monotonic()
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    whole = (
        time.monotonic() - started
    )  # so that a busy machine's kills do not all come before its first change
    chance = random.Random(7)
    for attempt in range(5):
        scene.start()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            time.sleep(whole * chance.uniform(0.4, 1))
            child.kill()
        scene.judge(f"attempt {attempt}")


def test_killed_during_a_first_install_the_site_is_empty_or_whole(scene: Scene) -> None:
    scene.start()
    shutil.rmtree(scene.site)
    shutil.copytree(scene.empty, scene.site)
    with before_step(0, lambda: None) as counted:
        assert install(scene.new, scene.site) == 0
        count = counted()
    for step in sample(count, 12):
        shutil.rmtree(scene.site)
        shutil.copytree(scene.empty, scene.site)
        child = os.fork()
        if child == 0:
            with before_step(step, die):
                install(scene.new, scene.site)
            os._exit(0)
        os.waitpid(child, 0)
        assert snapshot(scene.site) in (None, scene.after)
        assert install(scene.new, scene.site) == 0
        assert snapshot(scene.site) == scene.after
        assert problems(scene.site) == []


def converges(site: Path, template: Path, change: Callable[[], int], expected: dict[str, bytes]) -> None:
    """Kill `change` before a sample of its steps: the site is old or new, and once more leads to the new."""

    def start() -> None:
        shutil.rmtree(site, ignore_errors=True)
        subprocess.run(["cp", "-a", template, site], check=True)

    start()
    before = snapshot(site)
    with before_step(0, lambda: None) as counted:
        assert change() == 0
        count = counted()
    assert count > 50
    for step in sample(count, 6):
        start()
        child = os.fork()
        if child == 0:
            with before_step(step, die):
                change()
            os._exit(0)
        assert os.WIFSIGNALED(os.waitpid(child, 0)[1]), f"step {step} of {count} was not reached"
        assert snapshot(site) in (before, expected), step
        assert change() == 0, step
        assert snapshot(site) == expected or run(["install", "--site", str(site)]) == 0, step
        assert snapshot(site) == expected, step
        assert problems(site) == [], step


def test_killed_while_patches_make_blobs_the_site_is_whole(tmp_path: Path) -> None:
    old, new = b"a" * 300_000, b"a" * 200_000 + b"new" * 30_000
    base, patch = bundles.patched(old, new, shared=200_000)
    first = bundles.write_bundle(tmp_path / "old", [bundles.model("tiny", {"a.bin": old})])
    contents = [bundles.model("tiny", {"a.bin": new})]
    delta = bundles.write_bundle(tmp_path / "new", contents, sequence=2, base=base, patches=[patch])
    template, site = bundles.pin(tmp_path / "template"), tmp_path / "site"
    assert install(first, template) == 0
    subprocess.run(["cp", "-a", template, site], check=True)
    assert install(delta, site) == 0
    expected = snapshot(site)
    assert expected
    assert expected["models/tiny/a.bin"] == new
    converges(site, template, lambda: install(delta, site), expected)


def test_killed_while_a_stream_comes_in_what_was_taken_goes_on(tmp_path: Path) -> None:
    draw = random.Random(3)
    contents = [bundles.model("tiny", {"a.bin": draw.randbytes(600_000), "b.bin": draw.randbytes(3000)})]
    bundle = bundles.write_bundle(tmp_path / "bundle", contents)
    tar = tmp_path / "stream.tar"
    send = ["split", str(bundle), "--size", "400kB", "--tar", "-o", "-"]
    with open(tar, "wb") as out:
        subprocess.run([sys.executable, "-m", "airgap", *send], stdout=out, check=True)
    template, site = bundles.pin(tmp_path / "template"), tmp_path / "site"

    def take() -> int:
        with open(tar, "rb") as given, pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", given)
            return run(["receive", "-", "--site", str(site)])

    def whole() -> dict[str, bytes]:
        subprocess.run(["cp", "-a", template, site], check=True)
        assert install(bundle, site) == 0
        found = snapshot(site)
        assert found
        return found

    converges(site, template, take, whole())


def crash(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "crash"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_sample_of_all_system_calls_of_all_verbs_leaves_no_violation() -> None:
    """`scripts/crash` tries every one, and power cuts."""
    need("strace")
    done = crash("calls", "--sample", "2")
    assert done.returncode == 0, done.stdout
    # A scene more where /tmp and /dev/shm are two file systems: models are copied then.
    assert any(f"kills and errors: {n} points, 0 violations" in done.stdout for n in (18, 20))


def test_what_cannot_be_tried_is_said_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    done = crash("calls")
    assert (done.returncode, done.stdout) == (9, "NOT TRIED kills and errors: strace is not installed\n")
    assert crash("calls", "--allow-missing").returncode == 0
