"""Models from a hub, against tests/servers/hub.py with the real huggingface_hub client for metadata."""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub.utils import close_session  # type: ignore[attr-defined]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgap.connected import hub as hub_module
from airgap.connected import models
from airgap.connected.hub import Hub as HubClient
from airgap.connected.source import Context, Resolved
from airgap.errors import HostError, InputError, IntegrityError, SourceError
from airgap.lock import Lock, parse_lock, render_lock
from airgap.model import ModelArtifact, Remote, Sha256
from tests.connected.modelling import TARGET, from_hub, make_context
from tests.servers.hub import Hub
from tests.servers.registry import write_certificates

WEIGHTS = os.urandom(3_000_000)
FILES: dict[str, bytes | Path] = {
    "README.md": b"# a model\n",
    "config.json": b"{}\n",
    "model.safetensors": WEIGHTS,
    "nested/a file.json": b"[]",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that is HF_ENDPOINT, and a user who is logged in nowhere."""
    monkeypatch.setattr(hub_module, "PAUSES", (0.01, 0.01))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server
    close_session()


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return make_context(tmp_path)


def locked(resolved: Resolved) -> ModelArtifact:
    assert isinstance(resolved.artifact, ModelArtifact)
    return resolved.artifact


def test_a_revision_is_locked_to_its_commit_and_every_file_to_its_sha256(hub: Hub, context: Context) -> None:
    commit = hub.add("org/name", FILES, card={"license": "apache-2.0"})
    artifact = locked(models.resolve(from_hub(), None, context))
    assert (artifact.commit, artifact.licence, artifact.quantization) == (commit, "apache-2.0", "")
    assert {f.path: f.sha256 for f in artifact.files} == {
        path: hashlib.sha256(content).hexdigest()
        for path, content in FILES.items()
        if isinstance(content, bytes)
    }
    assert not hub.bodies("model.safetensors"), "LFS files are not fetched to lock them"
    origin = next(f.origin for f in artifact.files if f.path == "nested/a file.json")
    assert origin == Remote(f"{hub.url}/org/name/resolve/{commit}/nested/a%20file.json")


def test_fetch_brings_every_file_and_a_second_fetch_asks_for_nothing(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    models.fetch(artifact, context)
    assert all(context.store.holds(f.sha256, f.size) for f in artifact.files)
    before = len(hub.requests)
    models.fetch(artifact, context)
    assert len(hub.requests) == before


def test_an_unchanged_request_keeps_its_pin_without_network(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    hub.add("org/name", {"config.json": b"moved"})
    before = len(hub.requests)
    assert models.resolve(from_hub(), artifact, context).artifact == artifact
    assert len(hub.requests) == before
    assert locked(models.resolve(from_hub(), None, context)).commit != artifact.commit


def test_other_patterns_are_applied_to_the_pinned_commit(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    hub.add("org/name", {"config.json": b"moved"})
    fetched = len(hub.bodies("config.json"))
    again = locked(models.resolve(from_hub(include=("*.json",)), artifact, context))
    assert again.commit == artifact.commit
    assert [f.path for f in again.files] == ["config.json", "nested/a file.json"]
    assert len(hub.bodies("config.json")) == fetched, "what the pin knows is not fetched again"


def test_the_artifact_survives_the_lock_file(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    lock = Lock("b", "1", "b", Sha256("0" * 64), TARGET, {}, (artifact,))
    assert parse_lock(render_lock(lock), "lock").artifacts == (artifact,)


@pytest.mark.parametrize("patterns", [("*.gguf",), ("config.json", "Config.json")])
def test_a_pattern_that_matches_nothing_is_named_with_what_exists(
    hub: Hub, context: Context, patterns: tuple[str, ...]
) -> None:
    hub.add("org/name", FILES)
    with pytest.raises(SourceError, match=r"nothing matches include .*(gguf|Config).*model\.safetensors"):
        models.resolve(from_hub(include=patterns), None, context)


def test_leaving_out_everything_is_an_error(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    with pytest.raises(SourceError, match="leave none"):
        models.resolve(from_hub(exclude=("*",)), None, context)


def test_pickles_beside_safetensors_are_named_with_their_bytes(hub: Hub, context: Context) -> None:
    hub.add("org/name", {**FILES, "pytorch_model.bin": bytes(500), "original/a.pth": bytes(70)})
    (finding,) = models.resolve(from_hub(), None, context).findings
    assert "570 bytes" in finding.message
    assert finding.remedy == 'exclude = ["*.bin", "*.pth"]'
    assert not models.resolve(from_hub(exclude=("*.bin", "*.pth")), None, context).findings


def test_a_missing_repository_and_a_missing_revision_are_told_apart(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    with pytest.raises(SourceError, match="no such model repository"):
        models.resolve(from_hub("org/other"), None, context)
    with pytest.raises(SourceError, match="expected the revision 'v9'"):
        models.resolve(from_hub(revision="v9"), None, context)


@pytest.mark.parametrize("hidden", [False, True], ids=["open API", "closed API"])
@pytest.mark.parametrize(
    ("token", "words"),
    [
        ("", "gated and there is no token"),
        ("stranger", "has not accepted its licence"),
        ("waiting", "awaiting its authors' review"),
        ("unwanted", "denied access"),
        ("expired", "does not accept the token"),
    ],
)
def test_a_gate_says_what_is_missing_at_lock_and_at_fetch(
    hub: Hub, context: Context, monkeypatch: pytest.MonkeyPatch, hidden: bool, token: str, words: str
) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    hub.gate("org/name", {"waiting": "pending", "unwanted": "rejected"}, hidden=hidden)
    monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(SourceError, match=words) as at_lock:
        models.resolve(from_hub(include=("*.safetensors",)), None, context)
    with pytest.raises(SourceError, match=words):
        models.fetch(artifact, context)
    assert at_lock.value.remedy
    assert not token or token not in f"{at_lock.value} {at_lock.value.remedy}".split()


def test_a_granted_token_opens_the_gate_and_goes_to_no_other_host(
    hub: Hub, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.redirect_lfs = True
    hub.add("org/name", FILES)
    hub.gate("org/name", {"hf_reader": "granted"})
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    artifact = locked(models.resolve(from_hub(), None, context))
    models.fetch(artifact, context)
    assert artifact.gated == "manual"
    seen = {(r.server, r.headers.get("authorization")) for r in hub.requests}
    assert seen == {("hub", "Bearer hf_reader"), ("cdn", None)}


def test_a_lock_that_names_another_host_is_not_given_the_token(
    hub: Hub, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    monkeypatch.setenv("HF_ENDPOINT", "https://hub.example")
    models.fetch(artifact, context)
    assert {r.headers.get("authorization") for r in hub.requests} == {None}


def test_credentials_in_the_endpoint_reach_the_mirror_but_not_the_lock(
    hub: Hub, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("org/name", FILES)
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("://", "://alice:s3cr%40t@"))
    artifact = locked(models.resolve(from_hub(), None, context))
    assert {r.headers.get("authorization") for r in hub.requests} == {"Basic YWxpY2U6czNjckB0"}
    assert "s3cr" not in repr(artifact) and "alice" not in repr(artifact)
    with pytest.raises(SourceError) as refused:
        models.resolve(from_hub("org/other"), None, context)
    assert "s3cr" not in f"{refused.value} {refused.value.remedy}"


def test_a_file_outside_lfs_that_is_not_its_git_blob_is_refused(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    hub.corrupt("config.json")
    with pytest.raises(IntegrityError, match=r"config\.json: expected git blob [0-9a-f]{40}, found"):
        models.resolve(from_hub(), None, context)


def test_corrupt_weights_are_refused_and_not_kept(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    hub.corrupt("model.safetensors", at=2_000_000)
    with pytest.raises(IntegrityError, match=r"model\.safetensors"):
        models.fetch(artifact, context)
    assert not context.store.holds(Sha256(hashlib.sha256(WEIGHTS).hexdigest()))


def test_a_dropped_connection_is_continued_where_it_broke(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    hub.drop("model.safetensors", after=1_000_000)
    models.fetch(artifact, context)
    ranges = [r.headers.get("range") for r in hub.bodies("model.safetensors")]
    assert ranges == [None, "bytes=1000000-"]


def test_a_throttled_or_failing_hub_is_asked_again(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    hub.fail("revision/main", 429, headers={"Retry-After": "0"})
    hub.fail("revision/main", 503)
    assert locked(models.resolve(from_hub(), None, context)).files


def test_a_hub_that_cannot_be_reached_or_is_forbidden(
    hub: Hub, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.fail("revision/main", 500, times=99)
    hub.add("org/name", FILES)
    with pytest.raises(SourceError, match="answered 500"):
        models.resolve(from_hub(), None, context)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(SourceError, match="cannot be reached"):
        models.resolve(from_hub(), None, context)
    monkeypatch.setenv("HF_ENDPOINT", "hub.example")
    with pytest.raises(InputError, match="HF_ENDPOINT"):
        models.resolve(from_hub(), None, context)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE"):
        models.resolve(from_hub(), None, context)


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_private_ca_is_trusted_where_the_environment_says_so(
    context: Context, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.setattr(hub_module, "PAUSES", ())
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    ca, certificate, key = write_certificates(tmp_path)
    with Hub(tls=(certificate, key)) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.add("org/name", FILES)
        close_session()
        with pytest.raises(SourceError, match="certificate verify failed"):
            models.resolve(from_hub(), None, context)
        monkeypatch.setenv(variable, str(ca))
        close_session()
        models.fetch(locked(models.resolve(from_hub(), None, make_context(tmp_path))), make_context(tmp_path))
        monkeypatch.setenv(variable, str(tmp_path / "absent"))
        close_session()
        with pytest.raises(HostError, match="no HTTPS client"):
            models.resolve(from_hub(), None, context)
    close_session()
    assert (variable == "SSL_CERT_FILE") == ("SSL_CERT_FILE" in os.environ)


@pytest.mark.parametrize("name", ["../evil", "a\\b", "con.json", "/etc/passwd"])
def test_names_that_cannot_travel_are_refused(hub: Hub, context: Context, name: str) -> None:
    hub.add("org/name", {**FILES, name: b"x"})
    with pytest.raises(InputError, match="cannot travel"):
        models.resolve(from_hub(), None, context)


def test_names_that_differ_in_case_alone_are_refused(hub: Hub, context: Context) -> None:
    hub.add("org/name", {"config.json": b"1", "Config.json": b"2"})
    with pytest.raises(InputError, match="one file on some file systems"):
        models.resolve(from_hub(), None, context)


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>log in</html>",
        b'{"id":' + b"[" * 100_000,
        b"[]",
        b'{"id": "org/name"}',
        b'{"id": "org/name", "sha": "main"}',
        b'{"id": "org/name", "sha": "%s", "siblings": [{}]}' % (b"a" * 40),
        b'{"id": "org/name", "sha": "%s", "siblings": [{"rfilename": "x"}]}' % (b"a" * 40),
        b'{"id": "org/name", "sha": "%s", "siblings": [{"rfilename": "x", "size": 1, "blobId": "%s",'
        b' "lfs": {"sha256": "zz", "size": 1, "pointerSize": 1}}]}' % (b"a" * 40, b"b" * 40),
    ],
)
def test_an_answer_that_is_no_hubs_is_refused(hub: Hub, context: Context, answer: bytes) -> None:
    hub.answer("revision/main", answer)
    with pytest.raises(SourceError, match="expected the answer of a Hugging Face hub"):
        models.resolve(from_hub(), None, context)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["id", "sha", "siblings", "gated", "cardData", "lastModified", "config", "safetensors", "tags"]
SIBLING_KEYS = ["rfilename", "size", "blobId", "lfs"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(key=st.sampled_from([*KEYS, *SIBLING_KEYS]), value=JSON)
def test_no_answer_makes_the_reader_fail_otherwise(hub: Hub, key: str, value: object) -> None:
    sibling: dict[str, object] = {"rfilename": "x", "size": 1, "blobId": "b" * 40}
    answer: dict[str, object] = {"id": "org/name", "sha": "a" * 40, "siblings": [sibling]}
    (sibling if key in SIBLING_KEYS else answer)[key] = value
    hub.answer("revision/main", json.dumps(answer).encode())
    with contextlib.suppress(SourceError, InputError):
        listing = HubClient.from_environment().listing("org/name", "main")
        assert all(len(file.blob_id) == 40 and file.size >= 0 for file in listing.files)
        listing.licence.encode()


@pytest.mark.parametrize("revision", ["../../x", "a b", "/etc", "x\n", "a//b"])
def test_a_revision_that_is_no_path_is_refused(hub: Hub, context: Context, revision: str) -> None:
    hub.add("org/name", FILES, revision=revision)
    with pytest.raises(InputError, match=r"models\.model\.revision"):
        models.resolve(from_hub(revision=revision), None, context)


def test_a_hostile_model_card_cannot_spoil_the_lock(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES, card={"license": ["mit\x1b[2J\n", "\ud800" + "x" * 9000]})
    artifact = locked(models.resolve(from_hub(), None, context))
    lock = Lock("b", "1", "b", Sha256("0" * 64), TARGET, {}, (artifact,))
    assert parse_lock(render_lock(lock), "lock").artifacts == (artifact,)
    assert artifact.licence.startswith("mit [2J x") and len(artifact.licence) == 200


def test_a_commit_that_was_withdrawn_is_said_at_fetch(hub: Hub, context: Context) -> None:
    hub.add("org/name", FILES)
    artifact = locked(models.resolve(from_hub(), None, context))
    stored = hub.repo("org/name")
    assert stored
    stored.commits.clear()
    with pytest.raises(SourceError, match="no longer holds a locked file"):
        models.fetch(artifact, context)


def test_a_commit_answered_with_another_is_refused(hub: Hub, context: Context) -> None:
    hub.answer(f"revision/{'a' * 40}", b'{"id": "org/name", "sha": "%s", "siblings": []}' % (b"b" * 40))
    with pytest.raises(SourceError, match="it is the commit bbbb"):
        models.resolve(from_hub(revision="a" * 40), None, context)
