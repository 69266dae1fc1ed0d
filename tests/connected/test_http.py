"""One exchange: whose credentials go where, whom to trust, what a small document may be."""

import gzip
import subprocess
from pathlib import Path

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from requests.auth import AuthBase

from airgap.connected import http
from airgap.connected.http import Transient, public_url, retry_after, shown_url
from airgap.connected.transfer import Download, HttpRefusal
from airgap.errors import HostError, SourceError
from airgap.store import Store
from tests.connected.transfers import BODY, MIB, digest, engine, wanted
from tests.servers.faults import Fault, FaultServer, fault_server

# --- credentials


class Key(AuthBase):
    """A credential that is not in the Authorization header."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Private-Key"] = "hunter2"
        return request


def test_credentials_stay_with_their_origin(server: FaultServer, store: Store) -> None:
    server.serve("/from", b"", always=Fault(redirect=server.other_url("/file")))
    server.serve("/file", BODY)
    server.serve("/within", b"", always=Fault(redirect="/from"))
    headers = {"Authorization": "Bearer hunter2", "X-Other": "hunter2", "Accept": "application/json"}
    url = server.url("/within")
    engine(store).fetch([Download(url, "file", digest(BODY), len(BODY), Key(), headers)])
    within, first, second = server.seen
    for own in (within, first):
        assert own.headers["authorization"] == "Bearer hunter2"
        assert own.headers["x-private-key"] == own.headers["x-other"] == "hunter2"
    assert "hunter2" not in str(second.headers)
    assert second.headers["accept"] == "application/json"
    assert second.headers["accept-encoding"] == "identity"


def test_a_resumed_range_follows_the_redirect(server: FaultServer, store: Store) -> None:
    server.serve("/from", b"", always=Fault(redirect=server.other_url("/file")))
    server.serve("/file", BODY, Fault(drop_after=1000))
    engine(store).fetch([wanted(server, path="/from")])
    assert server.requests("/file")[1].headers["range"] == "bytes=1000-"


def test_netrc_is_used_but_never_over_what_was_given(
    server: FaultServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login bob password fromnetrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.serve("/doc", b"{}")
    transfer = engine(store)

    def authorization(url: str, **options: dict[str, str]) -> str:
        transfer.get(url, what="doc", max_bytes=10, **options)  # type: ignore[arg-type]
        return server.seen[-1].headers["authorization"]

    basic_bob = "Basic Ym9iOmZyb21uZXRyYw=="
    assert authorization(server.url("/doc")) == basic_bob
    assert authorization(server.url("/doc"), headers={"authorization": "Bearer x"}) == "Bearer x"
    own = server.url("/doc").replace("//", "//alice:pa%20ss@")
    assert authorization(own) == "Basic YWxpY2U6cGEgc3M="
    server.serve("/moved", b"", always=Fault(redirect=server.url("/doc")))
    assert authorization(server.url("/moved"), headers={"Authorization": "Bearer x"}) == "Bearer x"
    assert authorization(server.other_url("/moved")) == basic_bob


def test_no_cookie_is_kept(server: FaultServer, store: Store) -> None:
    server.serve("/doc", b"{}", always=Fault(headers={"Set-Cookie": "session=hunter2; Path=/"}))
    transfer = engine(store)
    for _ in range(2):
        transfer.get(server.url("/doc"), what="doc", max_bytes=10)
    assert "cookie" not in server.seen[1].headers
    assert server.seen[1].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x", "http://[bad/", "http://h:99999/"]
)
def test_a_redirect_that_is_not_http(server: FaultServer, store: Store, target: str) -> None:
    server.serve("/file", BODY, always=Fault(redirect=target))
    with pytest.raises(SourceError):
        engine(store, retries=0).fetch([wanted(server)])
    assert len(server.seen) == 1


def test_the_body_of_a_redirect_is_not_read(server: FaultServer, store: Store) -> None:
    server.serve("/from", b"", always=Fault(redirect="/file", extra=64 * MIB))
    server.serve("/file", BODY)
    engine(store).fetch([wanted(server, path="/from")])
    assert server.seen[0].sent < 16 * MIB


def test_redirects_without_end(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY, always=Fault(redirect="/file"))
    with pytest.raises(SourceError, match="more than 10 redirects"):
        engine(store).fetch([wanted(server)])
    assert len(server.seen) == 11


def test_a_proxy_of_the_environment_is_used(
    server: FaultServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.setenv("no_proxy", "")
    server.serve("http://packages.invalid/file", BODY)
    engine(store).fetch([Download("http://packages.invalid/file", "file", digest(BODY))])
    assert server.seen[0].path == "http://packages.invalid/file"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://u:p@h.example:8443/a?x=1#part", "https://h.example:8443/a?x=1"),
        ("https://token@h.example/a", "https://h.example/a"),
        ("https://u:p@ss@h.example/a", "https://h.example/a"),
        ("https://h/a?X-Amz-Signature=s&x=1&access_token=t&sig=q", "https://h/a?x=1"),
        ("https://h/a?%74oken=t", "https://h/a"),
        ("https://h/a?signed=1&key=path", "https://h/a?signed=1&key=path"),
        ("file:///a/b", "file:///a/b"),
    ],
)
def test_public_url(url: str, public: str) -> None:
    assert public_url(url) == public
    assert "=" not in shown_url(url)


# --- TLS


def test_an_untrusted_certificate_is_final_and_the_environment_can_trust_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*new, "-keyout", key, "-out", certificate, *subject], check=True, capture_output=True)
    with fault_server() as server:
        server.use_tls(certificate, key)
        server.serve("/doc", b"{}")
        url = server.url("/doc").replace("http:", "https:")
        with pytest.raises(SourceError, match="certificate is not trusted") as caught:
            engine(store).get(url, what="doc", max_bytes=10)
        assert not isinstance(caught.value, Transient)
        assert "REQUESTS_CA_BUNDLE" in caught.value.remedy
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(name, str(certificate))
                assert engine(store).get(url, what="doc", max_bytes=10).body == b"{}"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
        with pytest.raises(HostError, match="TLS certificates cannot be checked"):
            engine(store).get(url, what="doc", max_bytes=10)


# --- small documents


def test_get_answers_with_what_was_allowed(server: FaultServer, store: Store) -> None:
    server.serve("/doc", b'{"a":1}', always=Fault(headers={"X-Some": "Thing"}))
    reply = engine(store).get(server.url("/doc"), what="the index", max_bytes=100)
    assert (reply.status, reply.body, reply.headers["x-some"]) == (200, b'{"a":1}', "Thing")
    head = engine(store).get(server.url("/doc"), what="the index", max_bytes=0, method="HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", "7")
    missing = engine(store).get(server.url("/none"), what="the index", max_bytes=100, allow=(200, 404))
    assert missing.status == 404
    with pytest.raises(HttpRefusal, match=r"the index: http://127\.0\.0\.1:.*/none: the server answered 404"):
        engine(store).get(server.url("/none"), what="the index", max_bytes=100)


def test_get_posts_a_body_and_follows_no_redirect_with_it(server: FaultServer, store: Store) -> None:
    server.serve("/token", b"{}", Fault(), Fault(redirect=server.other_url("/token")))
    options = {"what": "token", "max_bytes": 10, "method": "POST", "body": b"secret=1"}
    assert engine(store).get(server.url("/token"), **options).status == 200  # type: ignore[arg-type]
    assert (server.seen[0].method, server.seen[0].body) == ("POST", b"secret=1")
    with pytest.raises(HttpRefusal):
        engine(store).get(server.url("/token"), **options)  # type: ignore[arg-type]
    assert len(server.seen) == 2


def test_get_is_capped_even_when_compressed(server: FaultServer, store: Store) -> None:
    server.serve("/doc", BODY)
    with pytest.raises(SourceError, match="larger than 1000 bytes"):
        engine(store).get(server.url("/doc"), what="doc", max_bytes=1000)
    server.serve("/gz", gzip.compress(b"{}"), always=Fault(headers={"Content-Encoding": "gzip"}))
    assert engine(store).get(server.url("/gz"), what="doc", max_bytes=1000).body == b"{}"
    bomb = gzip.compress(bytes(50 * MIB))
    server.serve("/bomb", bomb, always=Fault(headers={"Content-Encoding": "gzip"}))
    with pytest.raises(SourceError, match="larger than 1000 bytes"):
        engine(store).get(server.url("/bomb"), what="doc", max_bytes=1000)


def test_get_tries_again_on_what_may_pass(server: FaultServer, store: Store) -> None:
    server.serve("/doc", b"{}", Fault(status=503), Fault(drop_after=1), Fault(status=429))
    assert engine(store).get(server.url("/doc"), what="doc", max_bytes=10).body == b"{}"
    server.serve("/doc", b"{}", always=Fault(status=503))
    with pytest.raises(SourceError, match="503"):
        engine(store, retries=2).get(server.url("/doc"), what="doc", max_bytes=10)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/x", "Connection refused"),
        ("http://host.invalid/x", "host name is not known"),
        ("ftp://127.0.0.1/x", "not an http"),
        ("http://[bad/x", "malformed"),
        ("http:///x", "not an http"),
        ("nonsense", "not an http"),
        ("file:///none/x", "No such file"),
        ("file:///dev/null", "not a regular file"),
        ("file://elsewhere/x", "another host"),
    ],
)
def test_sources_that_cannot_be_asked(store: Store, url: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        engine(store, retries=1).fetch([Download(url, "file")])
    assert caught.value.remedy
    with pytest.raises(SourceError, match=said):
        engine(store, retries=1).get(url, what="doc", max_bytes=10)


# --- Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("86400", http.MAX_RETRY_AFTER),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Tue, 14 Nov 2033 22:13:10 GMT", http.MAX_RETRY_AFTER),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("9" * 400, None),
        ("Tue, 14 Nov 99999 22:13:10 GMT", None),
    ],
)
def test_retry_after_header(value: str, seconds: float | None) -> None:
    assert retry_after(value, now=1_700_000_000.0) == seconds


@given(st.text())
def test_retry_after_never_fails_and_is_capped(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or 0 <= seconds <= http.MAX_RETRY_AFTER
