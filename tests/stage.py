"""A connected side in a temporary directory, driven through the command line as a person would."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from airgap.trust.instant import render_instant

MANIFEST = """\
[bundle]
name = "demo"
version = "1"
[target]
python = "3.11"
platform = "linux/amd64"
glibc = "2.28"
"""

CREATED = render_instant(datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1))


@dataclass(frozen=True)
class Run:
    """One finished command."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@dataclass(frozen=True)
class Stage:
    """A working directory with a store of its own, in which every command is a real process."""

    directory: Path

    def environment(self) -> dict[str, str]:
        return os.environ | {"AIRGAP_CACHE": str(self.directory / "cache"), "HOME": str(self.directory)}

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "airgap", *map(str, arguments)]

    def run(self, *arguments: str | Path, code: int | None = 0, **environment: str) -> Run:
        """Run `airgap ARGUMENTS`; a `code` of None accepts any exit code."""
        done = subprocess.run(
            self.command(*arguments),
            cwd=self.directory,
            env=self.environment() | environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        run = Run(done.returncode, done.stdout, done.stderr)
        assert code in (None, run.code), f"exit {run.code}\n{run.out}\n{run.err}"
        return run

    def write(self, name: str, data: str | bytes) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def manifest(self, tables: str, *, name: str = "demo.toml") -> Path:
        return self.write(name, MANIFEST + tables)

    def holders(self, *names: str, threshold: int = 1) -> None:
        """Keys in keys/, and a root that demands `threshold` of them in trust/; made once a test run."""
        made = _made_holders(names, threshold)
        for part in ("keys", "trust"):
            shutil.copytree(made / part, self.directory / part)

    def build(self, *options: str | Path, code: int | None = 0, **environment: str) -> Run:
        return self.run(
            *("build", "demo.toml", "--key", "keys/alice.key", "--root", "trust/1.root.json"),
            *("--out", "out", "--created-at", CREATED, *options),
            code=code,
            **environment,
        )

    def pin(self, site: str = "site") -> None:
        fingerprint = self.run("trust", "fingerprint", "trust/1.root.json").out.strip()
        self.run("trust", "pin", "trust/1.root.json", "--site", site, "--fingerprint", fingerprint)

    @property
    def bundle(self) -> Path:
        return self.directory / "out" / "demo-1"


@cache
def _made_holders(names: tuple[str, ...], threshold: int) -> Path:
    stage = Stage(Path(tempfile.mkdtemp(prefix="airgap-holders-")))
    atexit.register(shutil.rmtree, stage.directory)
    for name in names:
        stage.run("key", "generate", name, "--out", "keys", "--no-passphrase")
    public = [part for name in names for part in ("--holder", f"keys/{name}.pub")]
    private = [part for name in names for part in ("--key", f"keys/{name}.key")]
    stage.run("trust", "init", *public, *private, "--threshold", str(threshold), "--out", "trust")
    return stage.directory
