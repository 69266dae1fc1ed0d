"""Killed, or refused by the disk, at any step of following a root: the site trusts the old or the new one."""

import errno
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.isolated.memory import load_memory
from airgap.isolated.site import Site
from airgap.pinned import trusted_root
from tests import bundles
from tests.isolated.test_crash import before_step

from .refusals import Capture, accepted, notes


class Scene:
    """A site at root 1 with a bundle, and the two roots that follow."""

    def __init__(self, directory: Path, capsys: Capture) -> None:
        self.template = bundles.pin(directory / "template")
        accepted(notes(directory / "b"), self.template, capsys)
        two = bundles.next_trust(bundles.trust())
        self.roots = []
        for one in (two, bundles.next_trust(two)):
            path = directory / f"{one.root.version}.root.json"
            path.write_bytes(one.root_file)
            self.roots.append(str(path))
        self.site = directory / "site"

    def start(self) -> None:
        shutil.rmtree(self.site, ignore_errors=True)
        shutil.copytree(self.template, self.site, symlinks=True)

    def update(self) -> int:
        return run(["trust", "update", *self.roots, "--site", str(self.site)])

    def judge(self, step: int) -> None:
        found = trusted_root(self.site, None, None)
        assert found.version in (1, 2, 3), step
        load_memory(Site(self.site)).following(found)
        assert self.update() == 0, step
        assert trusted_root(self.site, None, None).version == 3, step
        assert load_memory(Site(self.site)).root == 3, step


@pytest.fixture
def scene(tmp_path: Path, capsys: Capture) -> Scene:
    return Scene(tmp_path, capsys)


def count(scene: Scene) -> int:
    scene.start()
    with before_step(0, lambda: None) as counted:
        assert scene.update() == 0
        return counted()


def dies_in_a_child(act: Callable[[], object]) -> bool:
    child = os.fork()
    if child == 0:
        act()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_killed_before_any_step(scene: Scene) -> None:
    steps = count(scene)
    assert steps > 15
    for step in range(1, steps + 1):
        scene.start()

        def dying(step: int = step) -> None:
            with before_step(step, lambda: os.kill(os.getpid(), signal.SIGKILL)):
                scene.update()

        assert dies_in_a_child(dying), step
        scene.judge(step)


def test_a_full_disk_at_any_step(scene: Scene, capsys: Capture) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for step in range(1, count(scene) + 1):
        scene.start()
        with before_step(step, full):
            code = scene.update()
        assert code in (0, 9), step
        scene.judge(step)
    capsys.readouterr()
