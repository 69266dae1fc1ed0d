"""Sites before and after a change, the change itself as a process, and the judgement of what a crash left."""

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT)]

from airgap.cli import run  # noqa: E402
from tests import bundles  # noqa: E402
from tests.isolated.sites import problems, snapshot  # noqa: E402

RUNNER = """
import sys, threading
import airgap.isolated.copying, airgap.isolated.taking, airgap.verify
from airgap.cli import run
def in_turn(work, items, jobs):
    stop = threading.Event()
    return [work(item, stop) for item in list(items)]
airgap.isolated.copying.spread = airgap.isolated.taking.spread = airgap.verify.spread = in_turn
if sys.argv[1] == "without-fsync":
    import os
    os.fsync = os.fdatasync = lambda descriptor: None
sys.exit(run(sys.argv[2:]))
"""
"""One thread, so that the n-th call is the same one each time. The control does all but fsync."""

ENVIRONMENT = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True)
class Scene:
    """A verb with its arguments, and how a site comes to the state in which it begins."""

    name: str
    arguments: Sequence[str]
    history: Sequence[Sequence[str]]


class World:
    """One directory `site`, whatever lies there; the media stay outside of what crashes."""

    def __init__(self, media: Path, site: Path) -> None:
        self.site = site
        shared = bundles.model("tiny", {"a.bin": b"a" * 30_000, "b.bin": b"b" * 3000}, repo="example/tiny")
        old = [shared, bundles.file("notes", b"old" * 1000)]
        wheel = dict([bundles.wheel("alpha")])
        new = [shared, bundles.file("notes", b"new" * 1000), bundles.wheels("set", wheel)]
        first = str(bundles.write_bundle(media / "old", old))
        second = str(bundles.write_bundle(media / "new", new, sequence=2))
        big = bundles.model("big", {"big.bin": bytes(range(256)) * 2000})
        large = bundles.write_bundle(
            media / "large", [shared, bundles.file("notes", b"new" * 1000), big], sequence=2
        )
        volumes = split(large, media / "volumes")
        self.scenes = (
            Scene("install", ["install", second], [["install", first]]),
            Scene("first install", ["install", second], []),
            Scene("install of volumes", ["install", *volumes], [["install", first], ["receive", volumes[1]]]),
            Scene("receive", ["receive", *volumes], [["install", first], ["receive", volumes[1]]]),
            Scene("rollback", ["rollback", "1"], [["install", first], ["install", second]]),
            Scene("uninstall", ["uninstall", "notes"], [["install", first]]),
            Scene(
                "gc",
                ["gc", "--keep", "1"],
                [["install", first], ["install", second], ["uninstall", "set"], ["rollback", "2"]],
            ),
        )

    def build(self, scene: Scene) -> None:
        """The site as the scene begins."""
        shutil.rmtree(self.site, ignore_errors=True)
        bundles.pin(self.site)
        for arguments in scene.history:
            code, said = self.quietly(arguments)
            assert code in ((0, 10) if arguments[0] == "receive" else (0,)), said

    def command(self, scene: Scene, *, control: bool = False) -> list[str]:
        mode = "without-fsync" if control else "as-it-is"
        return [sys.executable, "-c", RUNNER, mode, *scene.arguments, "--site", str(self.site)]

    def quietly(self, arguments: Sequence[str]) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            return run([*arguments, "--site", str(self.site)]), said.getvalue()


def split(bundle: Path, out: Path) -> list[str]:
    """Volumes so small that one blob lies on several of them."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["split", str(bundle), "--size", "400kB", "-o", str(out)]) == 0
    volumes = sorted(map(str, out.iterdir()))
    assert len(volumes) > 2
    return volumes


@dataclass(frozen=True)
class Ends:
    """The two states that a change leads between; anything else is a violation."""

    before: dict[str, bytes] | None
    after: dict[str, bytes] | None


def ends(world: World, scene: Scene) -> Ends:
    world.build(scene)
    before = snapshot(world.site)
    done = subprocess.run(world.command(scene), env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Ends(before, snapshot(world.site))


def judge(world: World, scene: Scene, states: Ends, *, finished: bool = False) -> list[str]:
    """Every way in which the site is not wholly old or wholly new, and whole again after one more run.

    `finished` when the change had been reported as done: then only the new state will do.
    """
    try:
        found = snapshot(world.site)
    except OSError as error:
        return [f"cannot be read: {error}"]
    wrong = []
    if found not in ([states.after] if finished else [states.before, states.after]):
        wrong.append(
            "reported as done, and it is not" if finished else "neither the old state nor the new one"
        )
    wrong += _expect(world, "status --verify", ["status", "--verify"])
    if scene.name == "receive" and finished:
        wrong += _expect(world, "the install of what was received", ["install"])
    again = [0, 3] if scene.name == "uninstall" and found == states.after else [0]
    wrong += _expect(world, "the same command again", scene.arguments, again)
    if snapshot(world.site) != states.after and not (scene.name == "receive" and finished):
        wrong.append("the same command again does not lead to the new state")
    wrong += _expect(world, "status --verify afterwards", ["status", "--verify"])
    wrong += problems(world.site)
    return wrong


def _expect(world: World, what: str, arguments: Sequence[str], codes: Sequence[int] = (0,)) -> list[str]:
    code, said = world.quietly(arguments)
    return [] if code in codes else [f"{what} ended with {code}: {said.strip()[:500]}"]


Report = Callable[[str, Sequence[str]], None]
"""Told of each point tried and of what is wrong there."""
