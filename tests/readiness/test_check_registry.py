"""An image in a registry that nobody has fetched: read, kept, and never more of it than was allowed."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from tests.connected.containing import bare_environment
from tests.images import OCI, sha256
from tests.readiness.served import BACKEND, NEW, VLLM, Files, image, layer
from tests.servers.registry import RunningRegistry, push, registry
from tests.services import need

Capture = pytest.CaptureFixture[str]
PADDING: Files = {"opt/padding": "".join(chr(33 + n * n % 90) for n in range(50_000))}
LAYERS = [VLLM | NEW, BACKEND | PADDING]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    """It holds `app:1`, whose backend imports what its vLLM lacks."""
    need("docker-registry", "skopeo")
    scratch = tmp_path_factory.mktemp("registry")
    with registry(scratch / "registry") as found:
        image(scratch / "image", *LAYERS)
        push(scratch / "image", found, "app:1")
        yield found


@pytest.fixture
def manifest(running: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    bare_environment(monkeypatch, tmp_path / "home")
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "m.toml"
    path.write_text(
        '[bundle]\nname = "m"\nversion = "1"\n'
        '[target]\npython = "3.12"\nplatform = "linux/amd64"\nglibc = "2.35"\n'
        f'[[containers]]\nname = "server"\nimage = "{running.host}/app:1"\nplain-http = true\n'
    )
    return path


def checked(path: Path, capsys: Capture, *options: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = run(["check", str(path), "--json", *options])
    return code, json.loads(capsys.readouterr().out)


def layers_asked(running: RunningRegistry, since: int) -> int:
    return sum("/blobs/sha256:" in line and line.startswith("GET") for line in running.requests()[since:])


@pytest.mark.parametrize("locked", [True, False], ids=["locked", "not locked"])
def test_layers_are_fetched_once_read_and_kept(
    locked: bool, manifest: Path, running: RunningRegistry, capsys: Capture, tmp_path: Path
) -> None:
    subject = manifest
    if locked:
        assert run(["lock", str(manifest)]) == 0
        subject = manifest.with_name("m.lock.json")
        for blob in (tmp_path / "cache" / "blobs" / "sha256").iterdir():
            blob.unlink()  # as on another machine than the one that locked
    asked = len(running.requests())
    code, document = checked(subject, capsys)
    [blocked] = [j for j in document["components"][0]["judgements"] if j["verdict"] == "blocked"]
    assert (code, blocked["rule"]) == (5, "imports")
    assert (blocked["evidence"][0]["member"], blocked["evidence"][0]["line"]) == ("/backend/serve.py", 2)
    assert document["traffic_bytes"] > 50_000
    assert any(note.startswith("known to fail together: ") for note in document["notes"])
    assert layers_asked(running, asked) >= 2

    asked = len(running.requests())
    code, again = checked(subject, capsys)
    assert (code, layers_asked(running, asked)) == (5, 0 if locked else 1), "the config, which is not kept"
    assert again["traffic_bytes"] < 5_000
    kept = {blob.name for blob in (tmp_path / "cache" / "blobs" / "sha256").iterdir()}
    assert {sha256(layer(files)) for files in LAYERS} <= kept, "for build, which asks for what is not there"


def test_above_the_limit_it_is_unknown_and_says_what_settles_it(
    manifest: Path, running: RunningRegistry, capsys: Capture
) -> None:
    asked = len(running.requests())
    code, document = checked(manifest, capsys, "--image-limit", "1kB")
    [unknown] = document["components"][0]["judgements"]
    assert (code, unknown["rule"], unknown["verdict"]) == (0, "evidence", "unknown")
    assert "more than the 1.0 kB that check fetches to read an image" in unknown["message"]
    assert unknown["remedy"] == "--image-limit 1GB, or run: airgap build, then check again"
    assert layers_asked(running, asked) <= 1, "no layer"
    assert checked(manifest, capsys, "--image-limit", "1kB", "--strict")[0] == 5
    assert run(["check", str(manifest), "--image-limit", "much"]) == 2


def test_what_a_registry_refuses_or_does_not_hold_is_unknown(manifest: Path, capsys: Capture) -> None:
    manifest.write_text(manifest.read_text().replace("app:1", "none:1"))
    code, document = checked(manifest, capsys)
    [unknown] = document["components"][0]["judgements"]
    assert (code, unknown["verdict"]) == (0, "unknown")
    assert "does not hold" in unknown["message"] and "skopeo list-tags" in unknown["remedy"]


def test_layers_that_cannot_be_read_here_are_not_fetched(
    manifest: Path, running: RunningRegistry, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zstandard = pytest.importorskip("zstandard", reason="pip install 'airgap[images]'")
    pack = zstandard.ZstdCompressor().compress
    image(tmp_path / "zstd", VLLM | NEW, pack=pack, media_type=f"{OCI}layer.v1.tar+zstd")
    push(tmp_path / "zstd", running, "zstd:1")
    manifest.write_text(manifest.read_text().replace("app:1", "zstd:1"))
    for module in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(sys.modules, module, None)
    asked = len(running.requests())
    _, document = checked(manifest, capsys)
    [unknown] = document["components"][0]["judgements"]
    assert "compressed with zstd, not fetched" in unknown["message"]
    assert layers_asked(running, asked) <= 1
