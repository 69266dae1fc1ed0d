"""Bundles put before a real site: what `verify` and `install` say, and that a refusal leaves it alone."""

from pathlib import Path

import pytest

from airgap.cli import run
from tests import bundles
from tests.isolated.sites import snapshot

Capture = pytest.CaptureFixture[str]


def notes(path: Path, text: bytes = b"one", **stated: object) -> Path:
    """A bundle of one small file."""
    return bundles.write_bundle(path, [bundles.file("notes", text)], **stated)  # type: ignore[arg-type]


def refused(bundle: Path, site: Path, capsys: Capture, code: int = 7) -> str:
    """Both verbs refuse with this exit code, nothing is installed; what `verify` said."""
    before, memory = snapshot(site), remembered(site)
    capsys.readouterr()
    assert run(["verify", str(bundle), "--site", str(site)]) == code
    said = "".join(capsys.readouterr())
    assert run(["install", str(bundle), "--site", str(site)]) == code
    assert (snapshot(site), remembered(site)) == (before, memory)
    return said


def accepted(bundle: Path, site: Path, capsys: Capture) -> str:
    """Both verbs accept it; what they said."""
    capsys.readouterr()
    for verb in ("verify", "install"):
        assert run([verb, str(bundle), "--site", str(site)]) == 0, capsys.readouterr().err
    return "".join(capsys.readouterr())


def remembered(site: Path) -> bytes | None:
    path = site / "trust" / "accepted.json"
    return path.read_bytes() if path.is_file() else None
