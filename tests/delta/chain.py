"""A connected side and a site, and a chain of releases of which most bytes stay the same."""

import io
import os
import random
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airgap.cli import run
from tests.stage import Run, Stage

TABLES = """
[[files]]
name = "notes"
path = "notes.txt"
[[models]]
name = "tuned"
path = "model"
"""


def shard(number: int) -> bytes:
    return random.Random(number).randbytes(200_000)


class Desk(Stage):
    """A stage whose commands run in this process, which is ten times as fast."""

    def run(self, *arguments: str | Path, code: int | None = 0, **environment: str) -> Run:
        out, err = io.StringIO(), io.StringIO()
        with (
            chdir(self.directory),
            patch.dict(os.environ, self.environment() | environment),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            found = run([str(argument) for argument in arguments])
        assert code in (None, found), f"exit {found}\n{out.getvalue()}\n{err.getvalue()}"
        return Run(found, out.getvalue(), err.getvalue())


@dataclass(frozen=True)
class Sides:
    """Both sides of the gap, in one directory; `sides.release(n)` is the n-th version of bundle demo.

    Version n holds three shards: n, and two that it shares with its neighbours.
    """

    stage: Stage

    @classmethod
    def at(cls, directory: Path) -> "Sides":
        stage = Desk(directory)
        stage.holders("alice")
        return cls(stage)

    def release(self, number: int, *options: str, code: int | None = 0, lock: bool = True) -> Run:
        """Lock and build version `number` into out/demo-<number>."""
        if lock:
            self.lock(number)
        return self.stage.build(*options, code=code)

    def lock(self, number: int) -> None:
        stage = self.stage
        stage.write("notes.txt", f"release {number}\n")
        stage.write("model/config.json", '{"shards": 3}')
        for position, seed in enumerate((number, number + 1, number + 2)):
            stage.write(f"model/shard-{position}.bin", shard(seed))
        path = stage.manifest(TABLES)
        path.write_text(path.read_text().replace('version = "1"', f'version = "{number}"'))
        stage.run("lock", "demo.toml")

    def bundle(self, number: int) -> Path:
        return self.stage.directory / "out" / f"demo-{number}"

    def site(self, name: str = "site", *, called: str = "") -> Path:
        """A new site that trusts the holders."""
        fingerprint = self.stage.run("trust", "fingerprint", "trust/1.root.json").out.strip()
        named = ("--site-name", called) if called else ()
        self.stage.run(
            *("trust", "pin", "trust/1.root.json", "--site", name, "--fingerprint", fingerprint, *named)
        )
        return self.stage.directory / name

    def install(self, number: int, site: str = "site", *options: str, code: int | None = 0) -> Run:
        return self.stage.run("install", self.bundle(number), "--site", site, *options, code=code)

    def inventory(self, site: str = "site", *options: str, code: int | None = 0) -> Any:
        return self.stage.run("inventory", "--site", site, "--json", *options, code=code).document


def shipped(bundle: Path) -> set[str]:
    return {path.name for path in (bundle / "blobs" / "sha256").iterdir()}
