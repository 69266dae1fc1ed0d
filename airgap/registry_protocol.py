"""What pulling and pushing read alike of a registry's answers: challenges, tokens, its words for an error.

Pure. Sources: RFC 9110 §11 (challenges), RFC 7617 (Basic), distribution/spec/auth/token.md and oauth2.md,
OCI distribution-spec v1.1 "Error Codes".
"""

import base64
import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from airgap.decode import Fields, parse_json
from airgap.errors import InputError, SourceError
from airgap.oci import DOCKER_HUB, MAX_MANIFEST
from airgap.registry_credentials import Credentials

MAX_TOKEN = 1024 * 1024
"""Bytes of a token answer."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?:\s+|\s*,|\s*$)")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*(?=,|$)')
_API_HOST = {DOCKER_HUB: "registry-1.docker.io"}


def api_host(registry: str) -> str:
    """Where a registry's API is: Docker Hub's is not at docker.io."""
    return _API_HOST.get(registry, registry)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One challenge of a WWW-Authenticate header; scheme and parameter names in lower case."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse_challenges(header: str) -> tuple[Challenge, ...]:
    """Read a WWW-Authenticate header (RFC 9110 §11.6.1); what does not parse ends the reading."""
    challenges = []
    position = 0
    while scheme := _SCHEME.match(header, position):
        position = scheme.end()
        parameters: dict[str, str] = {}
        while found := _PARAMETER.match(header, position):
            position = found.end()
            quoted, plain = found.group(2), found.group(3)
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            parameters.setdefault(found.group(1).lower(), value)
        challenges.append(Challenge(scheme.group(1).lower(), parameters))
    return tuple(challenges)


def is_loopback(host: str) -> bool:
    """Whether a URL's host is this machine, where plain HTTP meets no network."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def token_realm(challenge: Challenge, registry: str, *, plain_http: bool) -> str:
    """The URL tokens are asked from. Raises SourceError where a secret could be read on the way."""
    realm = challenge.parameters.get("realm", "")
    try:
        parts = urlsplit(realm)
        _ = parts.port  # a port that is none is found only when asked for
    except ValueError:
        parts = urlsplit("")
    allowed = parts.scheme == "https" or (
        parts.scheme == "http" and (plain_http or is_loopback(parts.hostname or ""))
    )
    if not allowed or not parts.hostname or parts.username is not None:
        raise SourceError(
            f"registry {registry}: expected an https token realm, found {realm[:200]!r}",
            remedy="ask the registry's operator; plain-http = true, or --plain-http of push, allows it"
            " where the network is trusted",
        )
    return realm


def token_url(realm: str, service: str, scope: str) -> str:
    """What to GET for a token (distribution/spec/auth/token.md). `scope` may be several, space-separated."""
    parts = urlsplit(realm)
    query = parse_qsl(parts.query)
    if service:
        query.append(("service", service))
    query.extend(("scope", part) for part in scope.split())
    return urlunsplit(parts._replace(query=urlencode(query), fragment=""))


def exchange_form(service: str, scope: str, credentials: Credentials) -> bytes:
    """What to POST for a token where a refresh token is stored (distribution/spec/auth/oauth2.md)."""
    form = {
        "grant_type": "refresh_token",
        "refresh_token": credentials.identity_token,
        "service": service,
        "scope": scope,
        "client_id": "airgap",
    }
    return urlencode(form).encode()


def read_token(body: bytes, realm: str) -> str:
    """The token of a realm's answer. Raises SourceError or InputError when there is none."""
    what = f"the token answer of {bare_url(realm)}"
    answer = Fields(parse_json(body, what, max_bytes=MAX_TOKEN, floats=True))
    token = answer.optional_text("token") or answer.optional_text("access_token") or ""
    if answer.problems or not re.fullmatch(r"[\x21-\x7e]+", token):
        raise SourceError(f"{what}: expected a token, found none", remedy="ask the registry's operator")
    return token


def basic_header(credentials: Credentials) -> str:
    """An Authorization header of user and password (RFC 7617)."""
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def refused(registry: str, status: int, what: str, *, right: str = "pull") -> SourceError:
    """What a 401 or 403 means to a person: log in, or ask for the right to `pull` or `push`."""
    return SourceError(
        f"registry {registry} refused: {what} (HTTP {status})",
        remedy=f"'docker login {registry}' or 'skopeo login {registry}' with an account that may {right} it;"
        " a name that does not exist is refused the same way by many registries",
    )


def error_words(body: bytes) -> str:
    """The registry's own words (distribution-spec, "Error Codes") in parentheses, if it gave any."""
    try:
        errors = Fields(parse_json(body[:MAX_MANIFEST], "error", floats=True)).tables("errors")
        words = [f"{e.text('code', default='')} {e.text('message', default='')}" for e in errors[:3]]
    except InputError:
        return ""
    text = "; ".join(word.strip() for word in words if word.strip())
    return f" ({''.join(c if c.isprintable() else ' ' for c in text)[:200]})" if text else ""


def bare_url(url: str) -> str:
    """A URL fit for messages: no user, query or fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def origin(url: str) -> tuple[str, str, int]:
    """What must be equal for a secret to be sent: scheme, host, port (RFC 6454)."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.scheme, parts.hostname or "", port or {"https": 443, "http": 80}.get(parts.scheme, 0)
