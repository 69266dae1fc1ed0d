"""`airgap push` to a real docker-registry, read back by skopeo; and to a fake one that fails as told."""

import contextlib
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.cli import run
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.isolated.push import parse_destination, plan_parcel, push
from airgap.isolated.push_registry import upload_location
from airgap.isolated.push_source import BlobReader, Fill, SiteSource
from airgap.isolated.site import Site
from airgap.layout import BundledArtifact, digest_of
from airgap.model import ContainerArtifact, Sha256, Sha384
from airgap.oci import Descriptor
from airgap.progress import Silent
from tests import bundles, images
from tests.isolated import containers
from tests.servers.registry import (
    RunningRegistry,
    TokenServer,
    free_port,
    registry,
    write_certificates,
    write_htpasswd,
)
from tests.servers.uploads import UploadServer
from tests.services import need

PASSWORD = "hunter2-hunter2"
BIG = 3_000_000


@pytest.fixture(autouse=True)
def fresh_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials, no CA bundle but the system's."""
    for name in ("REGISTRY_AUTH_FILE", "DOCKER_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "home" / "run"))


@pytest.fixture(scope="module")
def contents(tmp_path_factory: pytest.TempPathFactory) -> list[bundles.Content]:
    scratch = tmp_path_factory.mktemp("contents")
    both = ("linux/amd64", "linux/arm64")
    return [
        *bundles.one_of_each(scratch),
        containers.several("several", scratch / "several", *both),
        containers.several("sparse", scratch / "sparse", "linux/amd64", left_out=("linux/s390x",)),
        containers.single("big", scratch / "big", os.urandom(BIG), b"small"),
    ]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, contents: list[bundles.Content]) -> Path:
    return bundles.write_bundle(tmp_path_factory.mktemp("bundle") / "b", contents)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, bundle: Path) -> Path:
    made = bundles.pin(tmp_path_factory.mktemp("push") / "site")
    assert run(["install", str(bundle), "--site", str(made)]) == 0
    return made


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    need("docker-registry", "skopeo")
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def pushed(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert run(["push", "--json", *arguments]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert run(["push", *arguments]) == code
    return capsys.readouterr().err


def skopeo(*arguments: str) -> bytes:
    return subprocess.run(["skopeo", *arguments], check=True, capture_output=True).stdout


def digest_there(reference: str) -> str:
    return (
        f"sha256:{images.sha256(skopeo('inspect', '--raw', '--tls-verify=false', f'docker://{reference}'))}"
    )


def log_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, host: str, user: str, password: str) -> None:
    path = tmp_path / "auth.json"
    path.write_text("{}")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(path))
    login = ["skopeo", "login", "--tls-verify=false", "-u", user, "--password-stdin", host]
    subprocess.run(login, input=password.encode(), check=True, capture_output=True)


# ------------------------------------------------------------------ a real registry


@pytest.mark.parametrize("name", ["hello", "several", "tiny", "serving", "notes"])
def test_every_kind_arrives_with_its_digest(
    name: str,
    plain: RunningRegistry,
    site: Path,
    contents: list[bundles.Content],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    reference = f"{plain.host}/kinds/{name}:1"
    shown = pushed(capsys, name, reference, "--site", str(site), "--plain-http")
    assert shown["digest"] == digest_there(reference)
    artifact = next(content.artifact for content in contents if content.artifact.name == name)
    if isinstance(artifact, ContainerArtifact):
        assert shown["digest"] == f"sha256:{artifact.digest}"
    # skopeo, which checks every digest, can read all of it back.
    everything = ["--src-tls-verify=false", "--preserve-digests"] + ["--all"] * (name == "several")
    skopeo("copy", *everything, f"docker://{reference}", f"dir:{tmp_path}/back")
    assert images.sha256((tmp_path / "back" / "manifest.json").read_bytes()) == str(shown["digest"])[7:]


def test_pushing_again_needs_only_heads(
    plain: RunningRegistry, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("several", f"{plain.host}/again/several:1", "--site", str(site), "--plain-http")
    first = pushed(capsys, *arguments)
    before = len(plain.requests())
    again = pushed(capsys, *arguments)
    methods = [line.split()[0] for line in plain.requests()[before:]]
    assert set(methods) == {"HEAD"} and len(methods) == 1 + 2 + 4
    assert (again["sent"], again["present"]) == ({"blobs": 0, "bytes": 0}, 4)
    assert again["digest"] == first["digest"]


def test_a_tag_that_named_something_else_is_said_to_move(
    plain: RunningRegistry, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = (f"{plain.host}/moves/x:1", "--site", str(site), "--plain-http")
    first = pushed(capsys, "hello", *common)
    assert first["replaced"] is None
    assert pushed(capsys, "notes", *common)["replaced"] == first["digest"]


def test_a_bundle_is_pushed_after_it_was_verified(
    plain: RunningRegistry, bundle: Path, site: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    reference = f"{plain.host}/media/tiny:1"
    common = ("tiny", reference, "--bundle", str(bundle), "--plain-http")
    root = tmp_path / "1.root.json"
    root.write_bytes(bundles.trust().root_file)
    told = ("--root", str(root), "--fingerprint", bundles.trust().fingerprint)
    assert pushed(capsys, *common, *told)["digest"] == digest_there(reference)
    assert "nothing can be believed" in refused(capsys, 7, *common)
    assert pushed(capsys, *common, "--site", str(site))["present"] == 3


def test_a_blob_shared_with_another_repository_is_mounted(
    plain: RunningRegistry, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--site", str(site), "--plain-http")
    pushed(capsys, "hello", f"{plain.host}/from/hello:1", *common)
    shown = pushed(capsys, "hello", f"{plain.host}/to/hello:1", "--mount-from", "from/hello", *common)
    assert (shown["mounted"], shown["sent"]) == (2, {"blobs": 0, "bytes": 0})
    shown = pushed(capsys, "notes", f"{plain.host}/to/notes:1", "--mount-from", "from/hello", *common)
    assert shown["mounted"] == 0


def test_a_sparse_index_is_refused_before_anything_is_sent(
    site: Path, plain: RunningRegistry, capsys: pytest.CaptureFixture[str], contents: list[bundles.Content]
) -> None:
    nobody = f"127.0.0.1:{free_port()}/x/y:1"
    common = ("--site", str(site), "--plain-http")
    said = refused(capsys, 3, "sparse", nobody, *common)
    assert "did not travel: linux/s390x" in said and "--platform" in said
    reference = f"{plain.host}/one/sparse:1"
    shown = pushed(capsys, "sparse", reference, "--platform", "linux/amd64", *common)
    assert shown["digest"] == digest_there(reference)
    assert "no image for linux/s390x" in refused(
        capsys, 3, "sparse", nobody, "--platform", "linux/s390x", *common
    )


def test_a_password_opens_a_registry_and_appears_nowhere(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need("docker-registry", "skopeo", "htpasswd")
    passwords = write_htpasswd(tmp_path / "htpasswd", "operator", PASSWORD)
    with registry(tmp_path / "registry", htpasswd=passwords) as running:
        arguments = ("hello", f"{running.host}/a/hello:1", "--site", str(site), "--plain-http")
        said = refused(capsys, 4, *arguments)
        assert "refused" in said and "login" in said
        log_in(monkeypatch, tmp_path, running.host, "operator", PASSWORD)
        assert pushed(capsys, *arguments)["digest"] == digest_there(f"{running.host}/a/hello:1")
        stored = tmp_path / "auth.json"
        stored.write_text(stored.read_text().replace("auth", "auth").replace(PASSWORD, ""))
        document = {"auths": {running.host: {"username": "operator", "password": f"not-{PASSWORD}"}}}
        stored.write_text(json.dumps(document))
        said = refused(capsys, 4, *arguments)
        assert "refused" in said and PASSWORD not in said


def test_a_registry_with_an_own_ca_is_trusted_when_told(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    need("docker-registry", "skopeo")
    ca, certificate, key = write_certificates(tmp_path / "tls")
    with registry(tmp_path / "registry", certificate=(certificate, key)) as running:
        arguments = ("hello", f"{running.host}/a/hello:1", "--site", str(site))
        assert "certificate is not trusted" in refused(capsys, 4, *arguments)
        for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            monkeypatch.setenv(variable, str(ca))
            assert pushed(capsys, *arguments)["digest"] == digest_there(f"{running.host}/a/hello:1")
            monkeypatch.delenv(variable)
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nothing"))
        assert "cannot be used as a CA bundle" in refused(capsys, 9, *arguments)


def test_tls_is_never_given_up_silently(
    plain: RunningRegistry, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, 4, "hello", f"{plain.host}/a/hello:1", "--site", str(site))
    assert "no TLS" in said and "--plain-http" in said


@pytest.mark.parametrize("kind", ["password", "identity token"])
def test_one_token_serves_a_whole_push(
    kind: str,
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    need("docker-registry", "skopeo")
    refresh = "refresh-me-0123456789"
    server = TokenServer(tmp_path / "token.pem", user=("operator", PASSWORD), refresh=refresh)
    with server.running(), registry(tmp_path / "registry", token=server) as running:
        stored = {"username": "operator", "password": PASSWORD}
        if kind == "identity token":
            stored = {"identitytoken": refresh}
        auth = tmp_path / "auth.json"
        auth.write_text(json.dumps({"auths": {running.host: stored}}))
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(auth))
        common = ("--site", str(site), "--plain-http")
        pushed(capsys, "several", f"{running.host}/a/several:1", *common)
        assert server.asked == ["basic" if kind == "password" else "refresh"]
        auth.write_text(json.dumps({"auths": {running.host: {"username": "operator", "password": "wrong"}}}))
        said = refused(capsys, 4, "notes", f"{running.host}/a/notes:1", *common)
        assert "gave no token" in said and "wrong user or password" in said


def test_a_killed_push_goes_on_where_blobs_are_missing(
    plain: RunningRegistry, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reference = f"{plain.host}/killed/big:1"
    arguments = ["push", "big", reference, "--site", str(site), "--plain-http"]
    process = subprocess.Popen([sys.executable, "-m", "airgap", *arguments], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    while not any("PUT" in line and "killed" in line for line in plain.requests()):
        assert time.monotonic() < end
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    shown = pushed(capsys, *arguments[1:])
    assert int(str(shown["present"])) >= 1
    assert shown["digest"] == digest_there(reference)


# ------------------------------------------------------------------ what goes wrong here


def test_names_that_are_not_there_and_references_that_are_not_whole(
    site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--site", str(site))
    said = refused(capsys, 3, "nothing", "r.example/a/b:1", *common)
    assert "its artifacts: big, hello, notes, serving, several, sparse, tiny" in said
    for reference in ("a/b:1", "b:1", "r.example/a/b", f"r.example/a/b:1@sha256:{'0' * 64}"):
        assert "expected REGISTRY/repository:tag" in refused(capsys, 3, "hello", reference, *common)
    assert "--bundle DIR" in refused(capsys, 2, "hello", "r.example/a/b:1")


def test_nobody_there(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nobody = f"127.0.0.1:{free_port()}/x/y:1"
    assert "nothing listens there" in refused(capsys, 4, "hello", nobody, "--site", str(site), "--plain-http")
    lost = "no-such-host.invalid/x/y:1"
    assert "not known here" in refused(capsys, 4, "hello", lost, "--site", str(site))


def test_a_damaged_blob_never_arrives(
    plain: RunningRegistry, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = containers.single("big", tmp_path / "big", os.urandom(BIG))
    bundle = bundles.write_bundle(tmp_path / "b", [content])
    site = bundles.pin(tmp_path / "site")
    assert run(["install", str(bundle), "--site", str(site)]) == 0
    layer = max(content.artifact.files, key=lambda file: file.size)
    target = f"{plain.host}/damaged/big:1"
    for place in (site, bundle):
        blob = place / "blobs" / "sha256" / layer.sha256
        blob.chmod(0o644)
        with open(blob, "r+b") as stream:
            stream.seek(BIG // 2)
            stream.write(b"XXXX")
    said = refused(capsys, 6, "big", target, "--site", str(site), "--plain-http")
    assert "its bytes are others" in said
    said = refused(capsys, 6, "big", target, "--bundle", str(bundle), "--site", str(site), "--plain-http")
    assert "its bytes are others" in said
    os.truncate(site / "blobs" / "sha256" / layer.sha256, BIG // 2)
    said = refused(capsys, 6, "big", target, "--site", str(site), "--plain-http")
    assert f"it ends after {BIG // 2} bytes" in said
    assert not any("PUT /v2/damaged/big/manifests/" in line for line in plain.requests())
    assert not plain.blob(layer.sha256).exists()


# ------------------------------------------------------------------ a registry that fails


@pytest.fixture
def server() -> Iterator[UploadServer]:
    with UploadServer().running() as running:
        yield running


def push_big(site: Path, server: UploadServer, **options: object) -> None:
    source = SiteSource(Site(site))
    reference = parse_destination(f"{server.host}/a/b:1")
    parcel = plan_parcel(source, "big")
    settings: dict[str, object] = {"plain_http": True, "first_wait": 0.01, **options}
    done = push(source, parcel, reference, {}, Silent(), **settings)  # type: ignore[arg-type]
    held = set(server.blobs)
    assert {f"sha256:{blob.digest}" for blob in parcel.blobs} <= held
    assert images.sha256(server.manifests["1"]) == done.digest == parcel.root.digest


def body_bytes(server: UploadServer) -> int:
    return sum(size for method, path, size in server.seen if "/uploads/" in path)


def test_a_broken_upload_is_continued_at_its_byte(site: Path, server: UploadServer) -> None:
    server.drop_after = [1_000_000, 1_000_000]
    push_big(site, server)
    assert BIG < body_bytes(server) < BIG + 100_000
    assert any(method == "GET" and "/uploads/" in path for method, path, _ in server.seen)


def test_an_upload_the_registry_forgot_begins_anew(site: Path, server: UploadServer) -> None:
    server.drop_after = [1_000_000]
    server.forgets = True
    push_big(site, server)
    assert body_bytes(server) > BIG + 900_000


@pytest.mark.parametrize(("limit", "least"), [(2 << 20, 3), (17 << 20, 0)])
def test_chunks_are_sent_only_on_demand(site: Path, server: UploadServer, limit: int, least: int) -> None:
    server.limit = limit
    push_big(site, server)
    assert server.count("PATCH") >= least and bool(server.count("PATCH")) == bool(least)


def test_a_chunk_that_breaks_is_continued(site: Path, server: UploadServer) -> None:
    server.limit = 2 << 20
    server.drop_after = [0, 200_000, 300_000]
    push_big(site, server)
    assert server.count("PATCH") >= 4
    assert body_bytes(server) < 2 * BIG


def test_a_body_too_large_for_any_chunk_is_said(site: Path, server: UploadServer) -> None:
    server.limit = 1000
    with pytest.raises(SourceError, match="413") as caught:
        push_big(site, server)
    assert "client_max_body_size" in caught.value.remedy


def test_a_busy_registry_is_asked_again_when_it_says(site: Path, server: UploadServer) -> None:
    server.statuses = [(503, {}), (429, {"Retry-After": "0"}), (500, {})]
    push_big(site, server)
    server.statuses = [(503, {})] * 200
    with pytest.raises(SourceError, match="503"):
        push_big(site, server, retries=2)


@pytest.mark.parametrize("given", ["http://r.example/u", "ftp://r.example/u", "http://[broken", ""])
def test_an_upload_is_not_sent_where_it_could_be_read(given: str) -> None:
    """As behind a proxy that ends TLS and does not say so: https for us, http for the registry."""
    api = "https://r.example/v2/a/b/"
    with pytest.raises(SourceError, match="expected the place of an upload"):
        upload_location(given, api, api, "r.example")


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ("/v2/a/b/blobs/uploads/1?_state=x", "https://r.example/v2/a/b/blobs/uploads/1?_state=x"),
        ("https://storage.example/1", "https://storage.example/1"),
    ],
)
def test_an_upload_goes_where_the_registry_says(given: str, place: str) -> None:
    api = "https://r.example/v2/a/b/"
    assert upload_location(given, api, api, "r.example") == place


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "refused"), (403, "refused"), (404, "create"), (405, "no pushes"), (418, "418")],
)
def test_a_refusal_names_what_to_do(site: Path, server: UploadServer, status: int, words: str) -> None:
    server.statuses = [(404, {}), *[(status, {})] * 9]
    with pytest.raises(SourceError) as caught:
        push_big(site, server)
    assert words in f"{caught.value.message} {caught.value.remedy}"


def test_a_token_that_expires_is_fetched_again(site: Path, server: UploadServer, tmp_path: Path) -> None:
    tokens = TokenServer(tmp_path / "token.pem")
    with tokens.running():
        challenge = {"WWW-Authenticate": f'Bearer realm="{tokens.realm}",service="s",scope="x"'}
        server.statuses = [(401, challenge), (404, {}), (404, {}), (401, challenge)]
        push_big(site, server)
        assert tokens.asked == ["anonymous", "anonymous"]
        server.statuses = [(401, challenge), (401, challenge)]
        with pytest.raises(SourceError, match="refused"):
            push_big(site, server)


def test_a_password_stays_with_the_registry_that_sends_uploads_elsewhere(
    site: Path, server: UploadServer, tmp_path: Path
) -> None:
    auth = tmp_path / "auth.json"
    auth.write_text(json.dumps({"auths": {server.host: {"username": "operator", "password": PASSWORD}}}))
    source = SiteSource(Site(site))
    parcel = plan_parcel(source, "notes")
    small, large = sorted(parcel.blobs, key=lambda blob: blob.size)
    server.blobs[f"sha256:{small.digest}"] = b""
    server.statuses = [(401, {"WWW-Authenticate": 'Basic realm="x"'})]
    with UploadServer().running() as other:
        other.uploads["1"] = bytearray()
        server.location = f"http://{other.host}/v2/a/b/blobs/uploads/1"
        reference = parse_destination(f"{server.host}/a/b:1")
        environ = {"REGISTRY_AUTH_FILE": str(auth)}
        push(source, parcel, reference, environ, Silent(), plain_http=True)
        assert f"sha256:{large.digest}" in other.blobs
        assert set(other.authorizations) == {""}
    assert server.authorizations[0] == "" and all(server.authorizations[1:])


def test_a_registry_that_alters_manifests_is_caught(site: Path, server: UploadServer) -> None:
    server.mangle = True
    with pytest.raises(IntegrityError, match="in the registry, expected"):
        push_big(site, server)


def test_blobs_are_mounted_where_the_registry_can(site: Path, server: UploadServer) -> None:
    parcel = plan_parcel(SiteSource(Site(site)), "big")
    server.elsewhere = {f"sha256:{blob.digest}": b"" for blob in parcel.blobs}
    push_big(site, server, mount_from="other/repo")
    assert body_bytes(server) == 0


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
def test_what_is_no_registry_is_said(site: Path, answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(10_000)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        reference = parse_destination(f"127.0.0.1:{listening.getsockname()[1]}/a/b:1")
        source = SiteSource(Site(site))
        with pytest.raises(SourceError):
            push(
                *(source, plan_parcel(source, "notes"), reference, {}, Silent()),
                plain_http=True,
                retries=1,
                first_wait=0.01,
            )
        listening.shutdown(socket.SHUT_RDWR)
        thread.join(timeout=5)


# ------------------------------------------------------------------ pure parts


@given(st.text(max_size=80))
def test_any_destination_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(InputError):
        assert str(parse_destination(text)) == text


@given(st.data())
def test_a_reader_gives_every_range_whatever_was_asked_before(data: st.DataObject) -> None:
    held = data.draw(st.binary(min_size=1, max_size=64))
    reader = BlobReader(_Held(held), _descriptor(held), threading.Event())
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, len(held)))
        end = data.draw(st.integers(start, len(held)))
        assert b"".join(reader.chunks(start, end)) == held[start:end]


@given(st.binary(min_size=1, max_size=64), st.data())
def test_a_reader_withholds_the_end_of_what_was_changed(held: bytes, data: st.DataObject) -> None:
    changed = data.draw(st.binary(max_size=80).filter(lambda other: other[: len(held)] != held))
    given_out = bytearray()
    reader = BlobReader(_Held(changed), _descriptor(held), threading.Event())
    with reader, pytest.raises(IntegrityError):
        for chunk in reader.chunks(0, len(held)):
            given_out += chunk
    assert len(given_out) < len(held)


def _descriptor(data: bytes) -> Descriptor:
    return Descriptor("application/octet-stream", digest_of(data), len(data))


class _Held:
    """A source of one blob in memory."""

    where = Path("memory")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.artifacts: Mapping[str, BundledArtifact] = {}

    def holds(self, digest: Sha256) -> bool:
        return True

    def read(self, digest: Sha256) -> bytes:
        return self._data

    @contextlib.contextmanager
    def open(self, digest: Sha256) -> Iterator[Fill]:
        yield io.BytesIO(self._data).readinto

    def sha384(self, digest: Sha256) -> Sha384 | None:
        return None
