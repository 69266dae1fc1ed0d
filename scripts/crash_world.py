"""Sites before and after a change, the change itself as a process, and the judgement of what a crash left."""

import contextlib
import hashlib
import io
import os
import re
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
from airgap import verify, verify_volumes
from airgap.isolated import arrival, copying, taking
from airgap.cli import run
def in_turn(work, items, jobs):
    stop = threading.Event()
    return [work(item, stop) for item in list(items)]
for module in (arrival, copying, taking, verify, verify_volumes):
    assert module.spread
    module.spread = in_turn
if sys.argv[1] == "without-fsync":
    import os
    os.fsync = os.fdatasync = lambda descriptor: None
sys.exit(run(sys.argv[2:]))
"""
"""One thread, so that the n-th call is the same one each time. The control does all but fsync."""

ENVIRONMENT = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))


@dataclass(frozen=True)
class Scene:
    """A verb with its arguments, and how a site comes to the state in which it begins."""

    name: str
    arguments: Sequence[str]
    history: Sequence[Sequence[str]]
    stdin: Path = Path(os.devnull)


class World:
    """Below `place` a site and the catalogue it feeds; the media stay outside of what crashes.

    `copies`, where it is given, is a catalogue on another file system than the site's; `only` are the
    names of scenes, all where there is none.
    """

    def __init__(
        self, media: Path, place: Path, copies: Path | None = None, only: Sequence[str] = ()
    ) -> None:
        self.place = place
        self.site = place / "site"
        self.weights = place / "weights"
        self.copies = copies
        self.templates = media.parent / "templates"
        shared = bundles.model("tiny", {"a.bin": b"a" * 30_000, "b.bin": b"b" * 3000}, repo="example/tiny")
        gone, came = bundles.model("gone", {"a.bin": b"gone"}), bundles.model("came", {"a.bin": b"came"})
        moves = [
            bundles.model("moves", {"a.bin": b"1" * 3000}),
            bundles.model("moves", {"a.bin": b"2" * 3000}),
        ]
        old = [shared, gone, moves[0], bundles.file("notes", b"old" * 1000)]
        wheel = dict([bundles.wheel("alpha")])
        new = [shared, came, moves[1], bundles.file("notes", b"new" * 1000), bundles.wheels("set", wheel)]
        first = ["install", str(bundles.write_bundle(media / "old", old))]
        second = ["install", str(bundles.write_bundle(media / "new", new, sequence=2))]
        feeding = ["--models-dir", str(self.weights)]
        big = bundles.model("big", {"big.bin": bytes(range(256)) * 2000})
        large = bundles.write_bundle(
            media / "large", [shared, bundles.file("notes", b"new" * 1000), big], sequence=2
        )
        volumes = split(large, media / "volumes")
        arriving = [first, ["receive", volumes[1]]]
        scenes = [
            Scene("install", second, [[*first, *feeding]]),
            Scene("first install", [*second, *feeding], []),
            Scene("install of volumes", ["install", *volumes], arriving),
            Scene("receive", ["receive", *volumes], arriving),
            Scene("receive a stream", ["receive", "-"], arriving, stream(large, media / "stream.tar")),
            Scene("install of a patched delta", ["install", str(delta(media / "delta"))], [first]),
            Scene("rollback", ["rollback", "1"], [[*first, *feeding], second]),
            Scene("uninstall", ["uninstall", "notes", "gone"], [[*first, *feeding]]),
            Scene(
                "gc",
                ["gc", "--keep", "1"],
                [[*first, *feeding], second, ["uninstall", "set"], ["rollback", "2"]],
            ),
        ]
        if copies:
            scenes.append(Scene("install, copying models", [*second, "--models-dir", str(copies)], [first]))
        names = {scene.name for scene in scenes}
        if unknown := set(only) - names:
            sys.exit(f"no such scene: {', '.join(sorted(unknown))}; there are {', '.join(sorted(names))}")
        self.scenes = tuple(scene for scene in scenes if not only or scene.name in only)

    def build(self, scene: Scene) -> None:
        """The site as the scene begins; its history happens once."""
        for path in (self.site, self.weights, *([self.copies] if self.copies else [])):
            shutil.rmtree(path, ignore_errors=True)
        template = self.templates / scene.name
        if not template.exists():
            bundles.pin(self.site)
            for arguments in scene.history:
                code, said = self.quietly(arguments)
                assert code in ((0, 10) if arguments[0] == "receive" else (0,)), said
            template.mkdir(parents=True)
            subprocess.run(["cp", "-a", *self._there(self.place), template], check=True)
        else:
            subprocess.run(["cp", "-a", *self._there(template), self.place], check=True)

    def _there(self, where: Path) -> list[Path]:
        """In one command, so that what is linked stays linked."""
        return [path for path in (where / "site", where / "weights") if path.exists()]

    def command(self, scene: Scene, *, control: bool = False) -> list[str]:
        mode = "without-fsync" if control else "as-it-is"
        return [sys.executable, "-c", RUNNER, mode, *scene.arguments, "--site", str(self.site)]

    def quietly(self, arguments: Sequence[str], stdin: Path = Path(os.devnull)) -> tuple[int, str]:
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), open(stdin, "rb") as given:
            os.dup2(given.fileno(), 0)
            return run([*arguments, "--site", str(self.site)]), said.getvalue()

    def models(self) -> dict[str, dict[str, bytes]]:
        """What the catalogues show: every file of every name."""
        found = {}
        for catalogue in (self.weights, self.copies):
            for name in sorted(os.listdir(catalogue)) if catalogue and catalogue.is_dir() else []:
                files = (path for path in (catalogue / name).rglob("*") if path.is_file())
                if name != ".airgap":
                    found[f"{catalogue}/{name}"] = {
                        str(p.relative_to(catalogue)): p.read_bytes() for p in files
                    }
        return found

    def fingerprint(self) -> str:
        """The same for two sites that differ in nothing but times, process numbers and random names."""
        hasher, inodes = hashlib.sha256(), {}
        for top in (self.site, self.weights, *([self.copies] if self.copies else [])):
            for path in sorted(top.rglob("*"), key=lambda path: _RANDOM.sub(b"*", os.fsencode(path))):
                found = path.lstat()
                what = str(inodes.setdefault((found.st_dev, found.st_ino), len(inodes))).encode()
                if path.is_symlink():
                    what = os.fsencode(os.readlink(path))
                elif path.is_file() and path.name != "lock":
                    data = path.read_bytes()
                    what += b"".join(line for line in data.splitlines() if not _OWN_SUM.search(line))
                name = os.fsencode(path)
                for part in (name, str(found.st_mode).encode(), what):
                    hasher.update(_TIME.sub(b"*", _RANDOM.sub(b"*", part)) + b"\0")
        return hasher.hexdigest()


def split(bundle: Path, out: Path) -> list[str]:
    """Volumes so small that one blob lies on several of them."""
    with contextlib.redirect_stdout(io.StringIO()):
        assert run(["split", str(bundle), "--size", "400kB", "-o", str(out)]) == 0
    volumes = sorted(map(str, out.iterdir()))
    assert len(volumes) > 2
    return volumes


def stream(bundle: Path, out: Path) -> Path:
    """The same volumes in one tar, as a pipe carries them."""
    command = [sys.executable, "-m", "airgap", "split", str(bundle), "--size", "400kB", "--tar", "-o", "-"]
    with open(out, "wb") as tar:
        subprocess.run(command, stdout=tar, env=ENVIRONMENT, check=True)
    return out


def delta(out: Path) -> Path:
    """A bundle of which a blob travels as a patch of one that the old bundle brought."""
    old, new = b"a" * 30_000, b"a" * 20_000 + b"new" * 3000
    base, patch = bundles.patched(old, new, shared=20_000)
    contents = [bundles.model("tiny", {"a.bin": new, "b.bin": b"b" * 3000}, repo="example/tiny")]
    return bundles.write_bundle(out, contents, sequence=2, base=base, patches=[patch])


_RANDOM = re.compile(
    rb"(?<=/)[0-9a-f]{16}(?=/|$)|(?<=\.)[0-9a-f]{16}(?=\.link)|[0-9a-f]{8}(?=\.tmp|/|$)|(?<=\.)[0-9]+$"
)
_TIME = re.compile(rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z")
_OWN_SUM = re.compile(rb"^[0-9a-f]{96}  (receipt|site)\.json$")
"""Digests of files that hold a time."""


@dataclass(frozen=True)
class Ends:
    """The two states that a change leads between, of site and catalogue; anything else is a violation."""

    before: dict[str, bytes] | None
    after: dict[str, bytes] | None
    models_before: dict[str, dict[str, bytes]]
    models_after: dict[str, dict[str, bytes]]
    generations_after: list[str]


def _generations(site: Path) -> list[str]:
    return sorted(os.listdir(site / "generations"))


def ends(world: World, scene: Scene) -> Ends:
    world.build(scene)
    before, models_before = snapshot(world.site), world.models()
    with open(scene.stdin, "rb") as given:
        argv = world.command(scene)
        done = subprocess.run(argv, stdin=given, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return Ends(before, snapshot(world.site), models_before, world.models(), _generations(world.site))


def judge(world: World, scene: Scene, states: Ends, *, finished: bool = False) -> list[str]:
    """Every way in which the site is not wholly old or wholly new, and whole again after one more run.

    `finished` when the change had been reported as done: then only the new state will do.
    """
    try:
        found, models = snapshot(world.site), world.models()
    except OSError as error:
        return [f"cannot be read: {error}"]
    wrong = []
    if found not in ([states.after] if finished else [states.before, states.after]):
        wrong.append(
            "reported as done, and it is not" if finished else "neither the old state nor the new one"
        )
    if finished and _generations(world.site) != states.generations_after:
        wrong.append("reported as done, and not the generations of the new state are there")
    wrong += _judge_models(models, states, finished=finished)
    wrong += _expect(world, "status --verify", ["status", "--verify"])
    receives = scene.arguments[0] == "receive"
    if receives and finished:
        wrong += _expect(world, "the install of what was received", ["install"])
    again = [0, 3] if scene.name == "uninstall" and found == states.after else [0]
    wrong += _expect(world, "the same command again", scene.arguments, again, scene.stdin)
    if snapshot(world.site) != states.after and not (receives and finished):
        wrong.append("the same command again does not lead to the new state")
    wrong += _expect(world, "status --verify afterwards", ["status", "--verify"])
    if world.models() != states.models_after and again == [0]:
        wrong.append("the same command again does not bring the catalogue in step")
    return [*wrong, *problems(world.site), *_leftovers(world)]


def _judge_models(models: dict[str, dict[str, bytes]], states: Ends, *, finished: bool) -> list[str]:
    """Each model by itself is the one from before or the one from after."""
    wrong = []
    for name in {*models, *states.models_before, *states.models_after}:
        allowed = [states.models_after.get(name)]
        if not finished:
            allowed.append(states.models_before.get(name))
        if models.get(name) not in allowed:
            wrong.append(f"{name}: neither the model from before nor the one from after")
    return wrong


def _leftovers(world: World) -> list[str]:
    return [f"{path}: left over" for path in world.place.glob("weights/.airgap/*.tmp")]


def _expect(
    world: World,
    what: str,
    arguments: Sequence[str],
    codes: Sequence[int] = (0,),
    stdin: Path = Path(os.devnull),
) -> list[str]:
    code, said = world.quietly(arguments, stdin)
    return [] if code in codes else [f"{what} ended with {code}: {said.strip()[:500]}"]


Report = Callable[[str, Sequence[str]], None]
"""Told of each point tried and of what is wrong there."""
