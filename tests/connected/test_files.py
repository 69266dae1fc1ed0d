"""Plain files from URLs and local paths: what is locked, what is kept, what is refused."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.connected.files import fetch, resolve
from airgap.connected.source import Context
from airgap.connected.transfer import HttpRefusal, Transfer
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.manifest import FileRequest, request_digest
from airgap.model import FileArtifact, Local, LockedFile, Platform, Remote, Sha256, Target, bundle_path
from airgap.progress import Silent
from airgap.store import Store
from tests.servers.faults import FaultServer, fault_server

BODY = b"what is carried\n" * 1000
SHA256 = Sha256(hashlib.sha256(BODY).hexdigest())


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        server.serve("/data/all.zip", BODY)
        yield server


@pytest.fixture
def context(tmp_path: Path) -> Context:
    store = Store(tmp_path / "store")
    progress = Silent()
    target = Target("3.12", Platform("linux", "amd64"), "2.35")
    (tmp_path / "manifest").mkdir()
    return Context(
        target, tmp_path / "manifest", store, Transfer(store, progress, retries=1, first_wait=0.01), progress
    )


def remote(url: str, sha256: str = "") -> FileRequest:
    return FileRequest("osv", url, "", sha256)


def local(path: str, sha256: str = "") -> FileRequest:
    return FileRequest("osv", "", path, sha256)


def test_a_url_without_digest_is_fetched_recorded_and_said_so(server: FaultServer, context: Context) -> None:
    request = remote(server.url("/data/all.zip"))
    resolved = resolve(request, None, context)
    file = LockedFile(bundle_path("all.zip"), len(BODY), SHA256, Remote(server.url("/data/all.zip")))
    assert resolved.artifact == FileArtifact("osv", request_digest(request), (file,))
    assert [finding.code for finding in resolved.findings] == ["file-recorded-at-lock"]
    assert SHA256 in resolved.findings[0].remedy
    assert context.store.path(SHA256).read_bytes() == BODY
    fetch(resolved.artifact, context)
    assert len(server.seen) == 1


def test_a_given_digest_needs_no_remark(server: FaultServer, context: Context) -> None:
    resolved = resolve(remote(server.url("/data/all.zip"), SHA256), None, context)
    assert resolved.findings == ()
    assert resolved.artifact.files[0].size == len(BODY)


def test_a_wrong_digest_is_an_error_and_keeps_nothing(server: FaultServer, context: Context) -> None:
    with pytest.raises(IntegrityError, match=SHA256):
        resolve(remote(server.url("/data/all.zip"), "0" * 64), None, context)
    assert os.listdir(context.store.partial) == []


def test_pins_stay_while_the_request_does(server: FaultServer, context: Context) -> None:
    request = remote(server.url("/data/all.zip"))
    first = resolve(request, None, context).artifact
    assert isinstance(first, FileArtifact)
    server.serve("/data/all.zip", b"newer")
    again = resolve(request, first, context)
    assert (again.artifact, again.findings, len(server.seen)) == (first, (), 1)
    moved = resolve(request, None, context).artifact
    assert moved.files[0].size == 5


def test_another_request_is_resolved_anew(server: FaultServer, context: Context) -> None:
    first = resolve(remote(server.url("/data/all.zip")), None, context).artifact
    assert isinstance(first, FileArtifact)
    server.serve("/data/other.zip", b"other")
    second = resolve(remote(server.url("/data/other.zip")), first, context).artifact
    assert second.files[0].path == "other.zip"


def test_fetch_brings_a_locked_file_into_an_empty_store(server: FaultServer, context: Context) -> None:
    artifact = resolve(remote(server.url("/data/all.zip")), None, context).artifact
    assert isinstance(artifact, FileArtifact)
    context.store.path(SHA256).unlink()
    fetch(artifact, context)
    assert context.store.path(SHA256).read_bytes() == BODY
    context.store.path(SHA256).unlink()
    server.serve("/data/all.zip", BODY[::-1])
    with pytest.raises(IntegrityError, match=SHA256):
        fetch(artifact, context)
    assert not context.store.holds(SHA256)


def test_credentials_do_not_reach_the_lock(server: FaultServer, context: Context) -> None:
    server.files["/data/all.zip?v=1&token=hunter2"] = server.files["/data/all.zip"]
    url = server.url("/data/all.zip?v=1&token=hunter2").replace("//", "//alice:hunter2@")
    resolved = resolve(remote(url), None, context)
    assert "authorization" in server.seen[0].headers
    assert resolved.artifact.files[0].origin == Remote(server.url("/data/all.zip?v=1"))
    assert "hunter2" not in repr(resolved)
    assert "file-url-credentials" in {finding.code for finding in resolved.findings}
    # Nor a hash of them, which could be guessed at.
    assert resolved.artifact.request == request_digest(remote(server.url("/data/all.zip?v=1")))


def test_a_missing_file_names_its_url(server: FaultServer, context: Context) -> None:
    with pytest.raises(HttpRefusal, match=r"osv: http://127.*none: .*404") as caught:
        resolve(remote(server.url("/none")), None, context)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    ("tail", "name"),
    [("a%20b.zip", "a b.zip"), ("x/all.zip?sig=1#top", "all.zip"), ("%C3%A9.txt", "é.txt"), ("a%2Fb", "b")],
)
def test_the_file_name(server: FaultServer, context: Context, tail: str, name: str) -> None:
    server.serve(f"/{tail.partition('#')[0]}", BODY)
    assert resolve(remote(server.url(f"/{tail}")), None, context).artifact.files[0].path == name


@pytest.mark.parametrize("tail", ["%2e%2e", "a%00b", "con", "%E2%80%AE.txt", "a%5Cb", ""])
def test_a_name_that_is_none(server: FaultServer, context: Context, tail: str) -> None:
    with pytest.raises(InputError, match="osv: not a path") as caught:
        resolve(remote(server.url(f"/{tail}")), None, context)
    assert caught.value.remedy
    assert server.seen == []


def test_a_local_file_is_read_again_each_time(context: Context) -> None:
    source = context.directory / "data.bin"
    source.write_bytes(BODY)
    request = local("data.bin")
    first = resolve(request, None, context)
    file = LockedFile(bundle_path("data.bin"), len(BODY), SHA256, Local("data.bin"))
    assert first.artifact == FileArtifact("osv", request_digest(request), (file,))
    assert isinstance(first.artifact, FileArtifact)
    source.write_bytes(b"changed")
    second = resolve(request, first.artifact, context)
    assert second.artifact.files[0].size == 7
    context.store.prepare()
    with pytest.raises(IntegrityError, match=SHA256) as caught:
        fetch(first.artifact, context)
    assert "airgap lock" in caught.value.remedy
    assert isinstance(second.artifact, FileArtifact)
    fetch(second.artifact, context)
    assert context.store.path(second.artifact.files[0].sha256).read_bytes() == b"changed"


def test_a_local_file_with_a_given_digest(context: Context) -> None:
    (context.directory / "sub").mkdir()
    (context.directory / "sub" / "data.bin").write_bytes(BODY)
    resolved = resolve(local("sub/data.bin", SHA256), None, context)
    assert resolved.findings == ()
    assert resolved.artifact.files[0].path == "data.bin"
    with pytest.raises(IntegrityError, match=SHA256):
        resolve(local("sub/data.bin", "0" * 64), None, context)
    assert not context.store.holds(Sha256("0" * 64))


def test_local_paths_that_are_no_file(context: Context) -> None:
    (context.directory / "directory").mkdir()
    os.mkfifo(context.directory / "fifo")
    (context.directory / "dangling").symlink_to("none")
    for path, said in [
        ("directory", "regular file"),
        ("fifo", "regular file"),
        ("dangling", "No such file"),
        ("none", "No such file"),
    ]:
        with pytest.raises(InputError, match=said) as caught:
            resolve(local(path), None, context)
        assert caught.value.remedy


def test_a_file_url(context: Context, tmp_path: Path) -> None:
    source = tmp_path / "data.bin"
    source.write_bytes(BODY)
    resolved = resolve(remote(source.as_uri()), None, context)
    assert resolved.artifact.files[0].origin == Remote(source.as_uri())
    source.unlink()
    with pytest.raises(SourceError, match="No such file"):
        resolve(remote(source.as_uri()), None, context)
