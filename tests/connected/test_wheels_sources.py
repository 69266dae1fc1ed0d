"""Indexes: logins that stay out of the lock, packages bound to one index, and no source that nobody named."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests import Request
from requests.auth import HTTPBasicAuth

from airgap.connected import wheels
from airgap.connected.index import login_for, strip_logins, with_login
from airgap.errors import AirgapError, InputError, SourceError
from airgap.lock import Lock, render_lock
from airgap.model import Sha256, WheelsArtifact
from tests.connected.resolving import ARM, context_at, pins, request_for
from tests.servers.index import Index, make_wheel

LOGIN = "reader:s3cr%40t"
"""As a URL spells it; the index is told `reader:s3cr@t`."""


@pytest.fixture
def public() -> Iterator[Index]:
    with Index() as served:
        served.add(*make_wheel("one", "1.0", requires=["two"]))
        served.add(*make_wheel("two", "1.0"))
        yield served


@pytest.fixture
def private() -> Iterator[Index]:
    with Index(login="reader:s3cr@t") as served:
        served.add(*make_wheel("ours", "1.0"))
        yield served


def with_secret(index: Index) -> str:
    return index.url.replace("://", f"://{LOGIN}@")


def written(artifact: object) -> str:
    assert isinstance(artifact, WheelsArtifact)
    return render_lock(Lock("a", "1", "a", Sha256("0" * 64), ARM, {}, (artifact,))).decode()


def test_a_login_in_the_url_works_and_is_not_locked(private: Index, tmp_path: Path) -> None:
    request = request_for("ours", index_url=with_secret(private))
    artifact = wheels.resolve(request, None, context_at(tmp_path)).artifact
    assert isinstance(artifact, WheelsArtifact)
    assert artifact.packages[0].index == private.url
    assert "s3cr" not in written(artifact) and "reader" not in written(artifact)
    with pytest.raises(SourceError) as caught:
        wheels.fetch(artifact, context_at(tmp_path, store="without"))
    assert "401" in caught.value.message
    wheels.fetch(artifact, context_at(tmp_path, store="with", logins=(with_secret(private),)))


def test_the_password_is_not_part_of_the_request(private: Index, tmp_path: Path) -> None:
    context = context_at(tmp_path)
    first = wheels.resolve(request_for("ours", index_url=with_secret(private)), None, context).artifact
    assert isinstance(first, WheelsArtifact)
    changed = request_for("ours", index_url=private.url.replace("://", "://reader:other@"))
    assert wheels.resolve(changed, first, context).artifact is first


def test_netrc_serves_lock_and_fetch(private: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1\nlogin reader\npassword s3cr@t\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    context = context_at(tmp_path)
    resolved = wheels.resolve(request_for("ours", index_url=private.url), None, context)
    assert isinstance(resolved.artifact, WheelsArtifact) and resolved.findings == ()
    wheels.fetch(resolved.artifact, context)


@pytest.mark.parametrize("login", ["", "reader:wrong@"])
def test_a_refused_login_is_an_error_without_the_login(private: Index, tmp_path: Path, login: str) -> None:
    url = private.url.replace("://", f"://{login}")
    with pytest.raises(SourceError) as caught:
        wheels.resolve(request_for("ours", index_url=url), None, context_at(tmp_path))
    assert "401" in caught.value.message and "wrong" not in caught.value.message
    assert "netrc" in caught.value.remedy


def test_each_package_is_bound_to_its_index(public: Index, private: Index, tmp_path: Path) -> None:
    request = request_for("one", "ours", index_url=public.url, extra_index_urls=(with_secret(private),))
    resolved = wheels.resolve(request, None, context_at(tmp_path))
    assert isinstance(resolved.artifact, WheelsArtifact)
    bound = {package.name: package.index for package in resolved.artifact.packages}
    assert bound == {"one": public.url, "two": public.url, "ours": private.url}
    assert resolved.findings == ()
    assert "s3cr" not in written(resolved.artifact)


def test_an_index_below_another_is_told_apart(tmp_path: Path) -> None:
    with Index() as index:
        index.add(*make_wheel("one", "1.0"))
        outer = index.url.removesuffix("/simple")
        request = request_for("one", index_url=outer, extra_index_urls=(index.url,))
        resolved = wheels.resolve(request, None, context_at(tmp_path))
    assert isinstance(resolved.artifact, WheelsArtifact)
    assert resolved.artifact.packages[0].index == index.url
    assert resolved.findings == ()


def test_a_name_on_two_indexes_is_a_finding(public: Index, tmp_path: Path) -> None:
    with Index() as other:
        other.add(*make_wheel("two", "9.0"))
        request = request_for("one", index_url=public.url, extra_index_urls=(other.url,))
        resolved = wheels.resolve(request, None, context_at(tmp_path))
    assert pins(resolved.artifact) == {"one": "1.0", "two": "9.0"}
    [finding] = resolved.findings
    assert (finding.code, finding.subject) == ("wheels-on-several-indexes", "serving: two")
    assert public.url in finding.message and f"locked to {other.url}" in finding.message


@pytest.mark.parametrize("status", [401, 410, 500])
def test_an_index_that_fails_does_not_leave_the_choice_to_another(
    public: Index, tmp_path: Path, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "0")
    with Index(status=status) as broken:
        broken.add(*make_wheel("two", "9.0"))
        request = request_for("one", index_url=public.url, extra_index_urls=(broken.url,))
        with pytest.raises(SourceError, match="expected an index page") as caught:
            wheels.resolve(request, None, context_at(tmp_path))
    assert broken.url in caught.value.message


def test_an_index_that_is_not_there_is_an_error(
    public: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_RETRIES", "0")
    request = request_for("one", index_url=public.url, extra_index_urls=("http://127.0.0.1:9/simple",))
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:9"):
        wheels.resolve(request, None, context_at(tmp_path))


@pytest.mark.parametrize(
    "page",
    [
        b"{",
        b"[]",
        b'{"files": 7}',
        b'{"files": [{"url": 7, "hashes": {}}]}',
        b'{"files": [{"url": "http://[/a.whl", "hashes": {}}]}',
        b'{"files": [{"url": "a.whl", "hashes": {"sha256": 7}}]}',
        b'{"files": [{"url": "a.whl", "hashes": {}, "upload-time": "soon"}]}',
        b'{"files": [{"url": "one-1.0-py3-none-any.whl", "hashes": {"sha256": "zz"}}]}',
        b'{"files": [], "files": []}',
        b"[" * 100_000,
    ],
)
def test_a_malformed_page_is_the_indexs_failure(public: Index, tmp_path: Path, page: bytes) -> None:
    public.page = page
    with pytest.raises(SourceError, match=public.url.removesuffix("/simple")):
        wheels.resolve(request_for("one", index_url=public.url), None, context_at(tmp_path))


@pytest.mark.parametrize(
    "data",
    [b"", b"not a zip", make_wheel("other", "1.0")[1], make_wheel("one", "1.0", requires=["!!"])[1]],
    ids=["empty", "no zip", "another package", "bad requirement"],
)
def test_a_malformed_wheel_is_an_error(tmp_path: Path, data: bytes) -> None:
    with Index() as index:
        index.add("one-1.0-py3-none-any.whl", data)
        with pytest.raises((InputError, SourceError), match="one"):
            wheels.resolve(request_for("one", index_url=index.url), None, context_at(tmp_path))


def test_forbidden_counts_as_absent_and_is_said(public: Index, tmp_path: Path) -> None:
    with Index(status=403) as storage:
        request = request_for("two", index_url=public.url, extra_index_urls=(storage.url,))
        resolved = wheels.resolve(request, None, context_at(tmp_path))
    assert pins(resolved.artifact) == {"two": "1.0"}
    assert "wheels-index-refuses" in [finding.code for finding in resolved.findings]


def test_sources_of_the_users_own_are_not_used(
    public: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "stray").mkdir()
    file, data = make_wheel("two", "8.0")
    (tmp_path / "stray" / file).write_bytes(data)
    with Index() as stray:
        stray.add(*make_wheel("two", "9.0"))
        (tmp_path / "pip.conf").write_text(
            f"[global]\nindex-url = {public.url}\n"
            f"find-links = {tmp_path}/stray\nextra-index-url = {stray.url}\n"
        )
        monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
        monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "stray"))
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", stray.url)
        monkeypatch.setenv("UV_EXTRA_INDEX_URL", stray.url)
        monkeypatch.setenv("UV_FIND_LINKS", str(tmp_path / "stray"))
        resolved = wheels.resolve(request_for("one"), None, context_at(tmp_path))
        assert stray.asked == []
    assert isinstance(resolved.artifact, WheelsArtifact)
    assert pins(resolved.artifact) == {"one": "1.0", "two": "1.0"}
    assert {package.index for package in resolved.artifact.packages} == {public.url}
    assert resolved.findings == ()


def test_the_users_default_index_and_its_login_are_used(
    private: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", with_secret(private))
    context = context_at(tmp_path)
    artifact = wheels.resolve(request_for("ours"), None, context).artifact
    assert isinstance(artifact, WheelsArtifact) and artifact.packages[0].index == private.url
    wheels.fetch(artifact, context)
    assert context.store.holds(artifact.files[0].sha256)


def test_a_page_of_links_is_a_source(public: Index, tmp_path: Path) -> None:
    with Index(pages="html") as links:
        links.add(*make_wheel("ours", "1.0"))
        place = f"{links.url}/ours/"
        request = request_for("ours", index_url=public.url, find_links=(place,))
        resolved = wheels.resolve(request, None, context_at(tmp_path))
    assert isinstance(resolved.artifact, WheelsArtifact)
    [package] = resolved.artifact.packages
    assert (package.version, package.index) == ("1.0", "")


def test_a_direct_url_is_locked_with_its_digest(public: Index, tmp_path: Path) -> None:
    file, _ = make_wheel("two", "1.0")
    url = public.url.replace("/simple", f"/files/two/{file}")
    context = context_at(tmp_path)
    resolved = wheels.resolve(request_for(f"two @ {url}", index_url=public.url), None, context)
    assert isinstance(resolved.artifact, WheelsArtifact)
    assert context.store.holds(resolved.artifact.files[0].sha256)
    assert resolved.artifact.packages[0].index == ""


def test_a_login_goes_to_its_own_origin_alone() -> None:
    sources = ("https://reader:s3cr%40t@example.org/simple",)
    login = login_for("https://example.org/files/a.whl", sources)
    assert isinstance(login, HTTPBasicAuth) and (login.username, login.password) == ("reader", "s3cr@t")
    prepared = Request("GET", "https://example.org/", auth=login).prepare()
    assert prepared.headers["Authorization"].startswith("Basic ")
    for other in ("http://example.org/a", "https://example.org:8443/a", "https://example.com/a"):
        assert login_for(other, sources) is None
    assert with_login("https://example.org/simple", sources) == sources[0]
    assert with_login("https://example.com/simple", sources) == "https://example.com/simple"


@given(st.from_regex(r"[!-.0-?A-~]{1,20}", fullmatch=True))
def test_no_login_survives_in_text(login: str) -> None:
    assert strip_logins(f"see https://{login}@example.org/simple now") == "see https://example.org/simple now"


def test_errors_of_every_kind_are_airgaps(tmp_path: Path) -> None:
    with pytest.raises(AirgapError):
        wheels.resolve(request_for("one", index_url="file:///nowhere/simple"), None, context_at(tmp_path))
