"""What a registry says before it is trusted with anything: its challenge, its token, its errors.

Invariant: a challenge always parses to something; only InputError and SourceError escape; a realm that is
accepted is https, or http on this machine, and carries no login; a token fits a header line.
"""

from functools import cache
from urllib.parse import urlsplit

from airgap.errors import SourceError
from airgap.registry_protocol import is_loopback, parse_challenges, read_token, token_realm, token_url
from tests.fuzz.harness import accepted


@cache
def seeds() -> dict[str, bytes]:
    return {
        "hub": b'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
        b'scope="repository:a/b:pull"',
        "several": b'Basic realm="a \\"b\\" c", Bearer realm="http://127.0.0.1:5000/t?x=y" ,'
        b" error=invalid_token, Digest",
        "bad-host": b'Bearer realm="https://[::1/token"',
        "bad-port": b'Bearer realm="https://example.org:port/"',
        "bad-login": b'Bearer realm="https://user:password@example.org/token"',
        "token": b'{"token":"abc.def","access_token":"x","expires_in":300}',
    }


def check(data: bytes) -> bool:
    header = data.decode("latin-1")  # as http.client gives it
    believed = False
    for challenge in parse_challenges(header):
        assert challenge.scheme == challenge.scheme.lower() and challenge.scheme
        try:
            realm = token_realm(challenge, "registry.example", plain_http=False)
        except SourceError:
            continue
        believed = True
        parts = urlsplit(realm)
        assert parts.username is None and parts.hostname
        assert parts.scheme == "https" or is_loopback(parts.hostname)
        asked = urlsplit(token_url(realm, "service", "repository:a:pull repository:b:pull"))
        assert (asked.scheme, asked.netloc, asked.path) == (parts.scheme, parts.netloc, parts.path)
    try:
        token = accepted(lambda body: read_token(body, "https://auth.example/token"), data)
    except SourceError:
        token = None
    assert token is None or token.isprintable()
    return believed or token is not None
