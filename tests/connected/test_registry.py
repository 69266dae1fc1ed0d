"""Pulls from a real docker-registry: plain, htpasswd, TLS with an own CA, bearer tokens; what goes wrong."""

import gc
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from airgap.connected import containers
from airgap.connected.registry import Registry
from airgap.errors import AirgapError, InputError, IntegrityError, SourceError
from airgap.model import ContainerArtifact, Remote
from airgap.oci import DOCKER_INDEX, DOCKER_MANIFEST, Reference
from tests import images
from tests.connected.containing import bare_environment, context, image_request, lock, write_layout
from tests.servers.faults import Fault, fault_server
from tests.servers.registry import (
    RunningRegistry,
    TokenServer,
    push,
    registry,
    write_certificates,
    write_htpasswd,
)
from tests.services import need

PASSWORD = "hunter2-hunter2"


@pytest.fixture(autouse=True)
def fresh_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need("docker-registry", "skopeo", "htpasswd")
    bare_environment(monkeypatch, tmp_path / "home")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    need("docker-registry")
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def skopeo(*arguments: str) -> bytes:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True).stdout


def log_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, user: str, password: str) -> None:
    """As a user does."""
    path = tmp_path / "auth.json"
    path.write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    subprocess.run(
        ["skopeo", "login", "--tls-verify=false", "-u", user, "--password-stdin", host],
        input=password.encode(),
        check=True,
        capture_output=True,
    )


def pull(image: str, directory: Path, *platforms: str, plain_http: bool = True) -> ContainerArtifact:
    where = context(directory)
    artifact, _ = lock(image_request(image, *platforms, plain=plain_http), where)
    containers.fetch(artifact, where)
    for file in artifact.files:
        assert images.sha256(where.store.path(file.sha256).read_bytes()) == file.sha256
    return artifact


def test_an_image_travels_byte_for_byte(plain: RunningRegistry, tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", "linux/amd64", "linux/arm64")
    push(layout.path, plain, "team/app:1")
    upstream = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{plain.host}/team/app:1")
    artifact = pull(f"{plain.host}/team/app:1", tmp_path / "pulled", "all")
    copy = write_layout(artifact, context(tmp_path / "pulled"), tmp_path / "copy")
    assert skopeo("inspect", "--raw", copy) == upstream
    assert artifact.digest == images.sha256(upstream) == layout.digest
    skopeo("copy", "--all", copy, f"dir:{tmp_path / 'read'}")  # reads and verifies every blob


def test_a_docker_schema_2_image_keeps_its_manifest(plain: RunningRegistry, tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout")
    skopeo(
        "copy", "--format", "v2s2", "--dest-tls-verify=false",
        f"oci:{layout.path}:latest", f"docker://{plain.host}/schema2:1",
    )  # fmt: skip
    upstream = skopeo("inspect", "--raw", "--tls-verify=false", f"docker://{plain.host}/schema2:1")
    artifact = pull(f"{plain.host}/schema2:1", tmp_path)
    assert json.loads(upstream)["mediaType"] == artifact.files[0].media_type
    assert (artifact.root, artifact.platforms) == (images.sha256(upstream), ("linux/amd64",))


def test_a_docker_manifest_list_is_an_index(plain: RunningRegistry, tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", "linux/amd64", "linux/arm64")
    skopeo(
        "copy", "--all", "--format", "v2s2", "--dest-tls-verify=false",
        f"oci:{layout.path}:latest", f"docker://{plain.host}/list:1",
    )  # fmt: skip
    artifact = pull(f"{plain.host}/list:1", tmp_path)
    assert [file.media_type for file in artifact.files[:2]] == [DOCKER_INDEX, DOCKER_MANIFEST]
    assert (artifact.platforms, artifact.left_out) == (("linux/amd64",), ("linux/arm64",))


def test_the_lock_names_no_credentials_and_a_second_lock_asks_nothing(
    plain: RunningRegistry, tmp_path: Path
) -> None:
    push(images.single(tmp_path / "layout").path, plain, "again:1")
    where = context(tmp_path)
    request = image_request(f"{plain.host}/again:1")
    artifact, _ = lock(request, where)
    before = len(plain.requests())
    assert lock(request, where, artifact)[0] is artifact
    assert len(plain.requests()) == before


def test_a_moved_tag_stays_pinned_when_only_platforms_change(plain: RunningRegistry, tmp_path: Path) -> None:
    first = images.multi(tmp_path / "one", "linux/amd64", "linux/arm64")
    push(first.path, plain, "moving:1")
    where, image = context(tmp_path), f"{plain.host}/moving:1"
    artifact, _ = lock(image_request(image), where)
    second = images.multi(tmp_path / "two", "linux/amd64", "linux/s390x")
    push(second.path, plain, "moving:1")
    kept, _ = lock(image_request(image, "linux/arm64"), where, artifact)
    moved, _ = lock(image_request(image, "linux/s390x"), where)
    assert (kept.digest, kept.platforms) == (first.digest, ("linux/arm64",))
    assert (moved.digest, moved.platforms) == (second.digest, ("linux/s390x",))


def test_basic_authentication(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    htpasswd = write_htpasswd(tmp_path / "htpasswd", "me", PASSWORD)
    layout = images.single(tmp_path / "layout")
    with registry(tmp_path / "registry", htpasswd=htpasswd) as running:
        push(layout.path, running, "private:1", "--dest-creds", f"me:{PASSWORD}")
        with pytest.raises(SourceError, match=r"refused.*401") as refused:
            pull(f"{running.host}/private:1", tmp_path / "anonymous")
        assert f"docker login {running.host}" in refused.value.remedy
        log_in(monkeypatch, tmp_path, running.host, "me", PASSWORD)
        artifact = pull(f"{running.host}/private:1", tmp_path / "pulled")
        assert artifact.root == layout.digest
        monkeypatch.delenv("REGISTRY_AUTH_FILE")
        with pytest.raises(SourceError, match=r"refused.*401") as refused:
            containers.fetch(artifact, context(tmp_path / "logged-out"))
        assert f"docker login {running.host}" in refused.value.remedy
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
        wrong = json.dumps({"auths": {running.host: {"auth": "bWU6d3Jvbmc="}}})
        (tmp_path / "auth.json").write_text(wrong)
        with pytest.raises(SourceError, match=r"refused.*401"):
            pull(f"{running.host}/private:1", tmp_path / "wrong")
    assert PASSWORD not in repr(artifact)


def test_tls_with_an_own_ca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, certificate, key = write_certificates(tmp_path / "tls")
    layout = images.single(tmp_path / "layout")
    with registry(tmp_path / "registry", certificate=(certificate, key)) as running:
        push(layout.path, running, "app:1")
        with pytest.raises(SourceError, match="not trusted") as untrusted:
            pull(f"{running.host}/app:1", tmp_path / "untrusted", plain_http=False)
        assert "REQUESTS_CA_BUNDLE" in untrusted.value.remedy
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
        artifact = pull(f"{running.host}/app:1", tmp_path / "pulled", plain_http=False)
        assert artifact.root == layout.digest


def test_plain_http_is_never_a_fallback(plain: RunningRegistry, tmp_path: Path) -> None:
    push(images.single(tmp_path / "layout").path, plain, "clear:1")
    with pytest.raises(SourceError) as refused:
        pull(f"{plain.host}/clear:1", tmp_path, plain_http=False)
    assert "plain-http = true" in refused.value.remedy


def test_a_token_that_expires_in_mid_pull_is_replaced(tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout")
    tokens = TokenServer(tmp_path / "token.pem")
    with tokens.running(), registry(tmp_path / "registry", token=tokens) as running:
        push(layout.path, running, "public:1")
        asked = len(tokens.asked)
        # docker-registry honours a token for 60 s after its end: this one for one or two more.
        tokens.seconds = [*([300.0] * asked), -58.0, 300.0]
        reference = Reference.parse(f"{running.host}/public:1")
        transfer = context(tmp_path).transfer
        source = Registry(reference, plain_http=True, transfer=transfer, environ=os.environ)
        first = source.top()
        assert tokens.asked[asked:] == ["anonymous"]
        time.sleep(2.1)
        assert source.top() == first
    assert tokens.asked[asked:] == ["anonymous", "anonymous"]


def test_bearer_tokens_with_a_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = images.single(tmp_path / "layout")
    tokens = TokenServer(tmp_path / "token.pem", user=("me", PASSWORD))
    with tokens.running(), registry(tmp_path / "registry", token=tokens) as running:
        push(layout.path, running, "private:1", "--dest-creds", f"me:{PASSWORD}")
        with pytest.raises(SourceError, match="gave no token") as refused:
            pull(f"{running.host}/private:1", tmp_path / "anonymous")
        assert "docker login" in refused.value.remedy
        log_in(monkeypatch, tmp_path, running.host, "me", PASSWORD)
        assert pull(f"{running.host}/private:1", tmp_path / "pulled").root == layout.digest
    assert tokens.asked[-1] == "basic"


def test_where_no_token_is_given_the_connection_that_asked_for_one_is_closed(tmp_path: Path) -> None:
    """Not by whoever collects garbage, to whom it may be a socket that nobody closed."""
    tokens = TokenServer(tmp_path / "token.pem", user=("me", PASSWORD))
    with tokens.running(), registry(tmp_path / "registry", token=tokens) as running:
        with pytest.raises(SourceError, match="gave no token") as refused:
            pull(f"{running.host}/private:1", tmp_path / "anonymous")
        assert connected(running.host) == []
    assert refused.tb, "all that it had open is still there"


def connected(host: str) -> list[socket.socket]:
    """The sockets of this process whose other end is there."""
    held = [one for one in gc.get_objects() if isinstance(one, socket.socket) and one.fileno() >= 0]
    address, _, port = host.partition(":")
    return [one for one in held if not _listens(one) and one.getpeername() == (address, int(port))]


def _listens(one: socket.socket) -> bool:
    return bool(one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def test_identity_tokens_are_exchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = images.single(tmp_path / "layout")
    tokens = TokenServer(tmp_path / "token.pem", user=("me", PASSWORD), refresh="refresh-token")
    with tokens.running(), registry(tmp_path / "registry", token=tokens) as running:
        push(layout.path, running, "private:1", "--dest-creds", f"me:{PASSWORD}")
        path = tmp_path / "auth.json"
        path.write_text(json.dumps({"auths": {running.host: {"identitytoken": "refresh-token"}}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
        assert pull(f"{running.host}/private:1", tmp_path / "pulled").root == layout.digest
    assert tokens.asked[-1] == "refresh"


@pytest.mark.parametrize(
    ("name", "message"), [("app:none", "MANIFEST_UNKNOWN"), ("nothing/here:1", "does not hold")]
)
def test_what_a_registry_does_not_hold(
    plain: RunningRegistry, tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(SourceError, match=message) as missing:
        pull(f"{plain.host}/{name}", tmp_path)
    assert "skopeo list-tags" in missing.value.remedy


def test_a_corrupted_layer_is_never_kept(plain: RunningRegistry, tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout", b"corrupt me")
    push(layout.path, plain, "corrupt:1")
    where = context(tmp_path)
    artifact, _ = lock(image_request(f"{plain.host}/corrupt:1"), where)
    layer = artifact.files[-1]
    data = bytearray(plain.blob(layer.sha256).read_bytes())
    data[len(data) // 2] ^= 1
    plain.blob(layer.sha256).write_bytes(data)
    with pytest.raises(IntegrityError, match=layer.sha256) as corrupt:
        containers.fetch(artifact, where)
    assert images.sha256(bytes(data)) in str(corrupt.value)
    assert not where.store.holds(layer.sha256)


def test_an_altered_manifest_is_refused(plain: RunningRegistry, tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout", b"altered")
    push(layout.path, plain, "altered:1")
    path = plain.blob(layout.digest)
    path.write_bytes(path.read_bytes().replace(b"   ", b"  ", 1))
    with pytest.raises(IntegrityError, match="other bytes than it was asked for"):
        pull(f"{plain.host}/altered:1", tmp_path)


def test_a_pinned_digest_is_compared_with_what_came(tmp_path: Path) -> None:
    """A server that answers a digest with another manifest, and announces that one truthfully."""
    layout = images.single(tmp_path / "layout")
    data = (layout.path / "blobs/sha256" / layout.digest).read_bytes()
    pinned = "0" * 64
    with fault_server() as server:
        server.serve(f"/v2/app/manifests/sha256:{pinned}", data)
        with pytest.raises(IntegrityError, match=pinned):
            pull(f"127.0.0.1:{server.port}/app@sha256:{pinned}", tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
from airgap.connected import containers
from airgap.connected.registry import Registry
from airgap.connected.source import Context
from airgap.connected.transfer import Transfer
from airgap.progress import Silent
from tests.connected.containing import context, image_request, lock

class Deadly(Silent):
    seen = 0
    def advance(self, count):
        self.seen += count
        if self.seen > 5_000_000:
            os.kill(os.getpid(), signal.SIGKILL)

where = context(Path(sys.argv[1]))
where = Context(where.target, where.directory, where.store, Transfer(where.store, Deadly()), Silent())
artifact, _ = lock(image_request(sys.argv[2]), where)
containers.fetch(artifact, where)
"""


def test_a_pull_that_was_killed_continues(plain: RunningRegistry, tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout", random.Random(1).randbytes(16_000_000), compression="")
    push(layout.path, plain, "large:1")
    image = f"{plain.host}/large:1"
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), image],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    assert killed.returncode == -9
    artifact = pull(image, tmp_path)
    assert artifact.root == layout.digest
    layer = artifact.files[-1].sha256
    assert [r for r in plain.requests() if r.startswith("GET") and layer in r][-1].endswith(" 206")


def test_a_mirror_answers_in_place_of_the_registry(
    plain: RunningRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = images.single(tmp_path / "layout", b"mirrored")
    push(layout.path, plain, "hub/library/tiny:1")
    monkeypatch.setenv("AIRGAP_REGISTRY_MIRRORS", f"docker.io=http://{plain.host}/hub")
    artifact = pull("tiny:1", tmp_path, plain_http=False)
    assert (artifact.image, artifact.root) == ("docker.io/library/tiny:1", layout.digest)
    urls = {file.origin.url for file in artifact.files if hasattr(file.origin, "url")}
    assert all(url.startswith("https://registry-1.docker.io/v2/library/tiny/") for url in urls)


def test_credentials_do_not_follow_a_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that keeps its blobs elsewhere, as most do: the other host never sees the password."""
    layout = images.single(tmp_path / "layout")
    challenge = Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
    with fault_server() as server:
        for path in (layout.path / "blobs/sha256").iterdir():
            server.serve(f"/elsewhere/{path.name}", path.read_bytes())
            there = Fault(redirect=server.other_url(f"/elsewhere/{path.name}"))
            server.serve(f"/v2/app/blobs/sha256:{path.name}", b"", always=there)
        manifest = (layout.path / "blobs/sha256" / layout.digest).read_bytes()
        server.serve("/v2/app/manifests/1", manifest, challenge)
        auth = tmp_path / "auth.json"
        host = f"127.0.0.1:{server.port}"
        auth.write_text(json.dumps({"auths": {host: {"auth": "bWU6aHVudGVyMg=="}}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
        artifact = pull(f"{host}/app:1", tmp_path)
    assert artifact.root == layout.digest
    told = {seen.path.split("/")[1] for seen in server.seen if "authorization" in seen.headers}
    asked = {seen.path.split("/")[1] for seen in server.seen}
    assert (told, asked) == ({"v2"}, {"v2", "elsewhere"})


def test_a_redirect_within_the_registry_keeps_the_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_server() as server:
        challenge = Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        server.serve("/v2/app/manifests/1", b"", challenge, always=Fault(redirect="/moved"))
        server.serve("/moved", b"{}")
        logged_in(monkeypatch, tmp_path, f"127.0.0.1:{server.port}").top()
    assert ["authorization" in seen.headers for seen in server.seen] == [False, True, True]


def logged_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str) -> Registry:
    """The repository `app` of a registry that credentials are stored for."""
    auth = tmp_path / "auth.json"
    auth.write_text(json.dumps({"auths": {host: {"auth": "bWU6aHVudGVyMg=="}}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
    reference = Reference.parse(f"{host}/app:1")
    return Registry(reference, plain_http=True, transfer=context(tmp_path).transfer, environ=os.environ)


def test_a_secret_is_put_on_requests_to_its_own_origin_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_server() as server:
        challenge = Fault(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        server.serve("/v2/app/manifests/1", b"{}", challenge)
        host = f"127.0.0.1:{server.port}"
        source = logged_in(monkeypatch, tmp_path, host)
        source.top()
    for url, told in (
        (server.url("/x"), True),
        (server.other_url("/x"), False),
        (f"https://{host}/x", False),
        (f"http://127.0.0.1:{server.port + 1}/x", False),
    ):
        request = requests.Request("GET", url, auth=source.auth).prepare()
        assert ("Authorization" in request.headers) is told, url


@pytest.mark.parametrize("wrong", ["manifest", "layer"])
def test_sizes_that_contradict_are_refused(tmp_path: Path, wrong: str) -> None:
    layout = images.Layout(tmp_path / "layout")
    config = layout.blob(images.image_config(["0" * 64] * 2), f"{images.OCI}config.v1+json")
    layer = layout.blob(b"layer", f"{images.OCI}layer.v1.tar")
    layers = [layer, layer | {"size": 6} if wrong == "layer" else layer]
    manifest = {"schemaVersion": 2, "config": config, "layers": layers}
    entry = layout.blob(json.dumps(manifest).encode(), f"{images.OCI}manifest.v1+json")
    entry["platform"] = {"os": "linux", "architecture": "amd64"}
    if wrong == "manifest":
        entry["size"] = 7
    index = layout.index([entry])
    with fault_server() as server:
        for path in (layout.path / "blobs/sha256").iterdir():
            server.serve(f"/v2/app/manifests/sha256:{path.name}", path.read_bytes())
        with pytest.raises(AirgapError, match="7 bytes" if wrong == "manifest" else "5 bytes and with 6"):
            pull(f"127.0.0.1:{server.port}/app@{index['digest']}", tmp_path)


def test_a_foreign_layer_comes_from_its_own_url(tmp_path: Path) -> None:
    foreign = b"not distributable"
    layout = images.Layout(tmp_path / "layout")
    with fault_server() as server:
        server.serve("/layer", foreign)
        layer = layout.blob(foreign, f"{images.OCI}layer.nondistributable.v1.tar")
        config = layout.blob(images.image_config([images.sha256(foreign)]), f"{images.OCI}config.v1+json")
        layer["urls"] = [server.url("/layer")]
        manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
        data = json.dumps(manifest).encode()
        server.serve("/v2/app/manifests/1", data)
        server.serve(f"/v2/app/blobs/{config['digest']}", images.image_config([images.sha256(foreign)]))
        artifact = pull(f"127.0.0.1:{server.port}/app:1", tmp_path)
        assert artifact.files[-1].origin == Remote(server.url("/layer"))
        layer["urls"] = ["file:///etc/passwd"]
        server.serve("/v2/app/manifests/2", json.dumps(manifest).encode())
        with pytest.raises(InputError, match="foreign layer"):
            pull(f"127.0.0.1:{server.port}/app:2", tmp_path)


def test_every_error_of_a_registry_says_what_to_do(plain: RunningRegistry, tmp_path: Path) -> None:
    for name in ("app:none", "UPPER:1", "app@sha256:" + "0" * 64):
        with pytest.raises(AirgapError) as raised:
            pull(f"{plain.host}/{name}", tmp_path)
        assert raised.value.remedy or "expected" in raised.value.message
