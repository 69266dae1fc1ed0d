"""Authentication to a registry: challenges, the bearer-token dance, and who may see which secret.

Sources: RFC 9110 §11 (challenges), RFC 7617 (Basic), distribution/spec/auth/token.md and oauth2.md.
"""

import base64
import ipaddress
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import requests
from requests.auth import AuthBase

from airgap.connected.registry_credentials import Credentials, find_credentials
from airgap.connected.transfer import Reply, Transfer
from airgap.decode import Fields, parse_json
from airgap.errors import SourceError

MAX_TOKEN = 1024 * 1024
"""Bytes of a token answer."""

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?:\s+|\s*,|\s*$)")
_PARAMETER = re.compile(rf'[\s,]*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|({_WORD}))\s*(?=,|$)')


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
    parts = urlsplit(realm)
    allowed = parts.scheme == "https" or (
        parts.scheme == "http" and (plain_http or is_loopback(parts.hostname or ""))
    )
    if not allowed or not parts.hostname or parts.username is not None:
        raise SourceError(
            f"registry {registry}: expected an https token realm, found {realm[:200]!r}",
            remedy="ask the registry's operator; plain-http = true allows it where the network is trusted",
        )
    return realm


class RegistryAuth(AuthBase):
    """Answers one registry's challenges for one repository; shared by all requests and threads.

    Secrets go to `origin` (scheme://host[:port]) and the token realm it names, nowhere else: a
    redirect to another host carries none. A token that expired in mid-pull is fetched again.
    """

    def __init__(
        self,
        registry: str,
        repository: str,
        origin: str,
        *,
        plain_http: bool,
        transfer: Transfer,
        environ: Mapping[str, str],
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._origin = _origin(origin)
        self._plain_http = plain_http
        self._transfer = transfer
        self._environ = environ
        self._lock = threading.Lock()
        self._header = ""
        self._credentials: Credentials | None = None
        self._looked_up = False

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if _origin(request.url or "") == self._origin:
            if self._header:
                request.headers["Authorization"] = self._header
            request.register_hook("response", self._answer)  # type: ignore[no-untyped-call]
        return request

    def _answer(self, response: requests.Response, **sending: Any) -> requests.Response:
        """Repeat a request that was met with 401, once, with what the challenge asks for."""
        if response.status_code != 401 or _origin(response.url) != self._origin:
            return response
        refused = response.request.headers.get("Authorization", "")
        challenges = parse_challenges(response.headers.get("WWW-Authenticate", ""))
        with self._lock:
            # Another thread may have renewed the token since this request was sent.
            if self._header in ("", refused):
                self._header = self._authorization(challenges)
            header = self._header
        if not header or header == refused:
            return response
        response.raw.read(MAX_TOKEN)  # what is read whole leaves its connection to the next request
        response.close()
        again = response.request  # not a copy: a redirect within the origin starts from its headers
        again.headers["Authorization"] = header
        answer: requests.Response = response.connection.send(again, **sending)
        answer.history.append(response)
        answer.request = again
        return answer

    def _authorization(self, challenges: tuple[Challenge, ...]) -> str:
        """The Authorization header that answers, or '' where there is nothing to answer with."""
        credentials = self._found()
        for challenge in challenges:
            if challenge.scheme == "bearer":
                return f"Bearer {self._token(challenge, credentials)}"
        for challenge in challenges:
            if challenge.scheme == "basic" and credentials and credentials.password:
                return _basic(credentials)
        return ""

    def _found(self) -> Credentials | None:
        if not self._looked_up:
            self._credentials = find_credentials(self._registry, self._repository, self._environ)
            self._looked_up = True
        return self._credentials

    def _token(self, challenge: Challenge, credentials: Credentials | None) -> str:
        if credentials and credentials.registry_token:
            return credentials.registry_token
        realm = token_realm(challenge, self._registry, plain_http=self._plain_http)
        scope = challenge.parameters.get("scope") or f"repository:{self._repository}:pull"
        service = challenge.parameters.get("service", "")
        if credentials and credentials.identity_token:
            reply = self._exchange(realm, service, scope, credentials)
        else:
            reply = self._ask(realm, service, scope, credentials)
        what = f"the token answer of {_bare(realm)}"
        if reply.status != 200:
            raise refused(self._registry, reply.status, f"{_bare(realm)} gave no token")
        answer = Fields(parse_json(reply.body, what, max_bytes=MAX_TOKEN, floats=True))
        token = answer.optional_text("token") or answer.optional_text("access_token") or ""
        if answer.problems or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise SourceError(f"{what}: expected a token, found none", remedy="ask the registry's operator")
        return token

    def _ask(self, realm: str, service: str, scope: str, credentials: Credentials | None) -> Reply:
        """GET, anonymous or with Basic (distribution/spec/auth/token.md)."""
        parts = urlsplit(realm)
        query = parse_qsl(parts.query)
        if service:
            query.append(("service", service))
        query.extend(("scope", part) for part in scope.split())
        url = urlunsplit(parts._replace(query=urlencode(query), fragment=""))
        given = _Given(_basic(credentials) if credentials else "")
        return self._transfer.get(
            url,
            what=f"a token from {_bare(realm)}",
            max_bytes=MAX_TOKEN,
            auth=given,
            allow=(200, 400, 401, 403),
        )

    def _exchange(self, realm: str, service: str, scope: str, credentials: Credentials) -> Reply:
        """POST a refresh token (distribution/spec/auth/oauth2.md)."""
        form = {
            "grant_type": "refresh_token",
            "refresh_token": credentials.identity_token,
            "service": service,
            "scope": scope,
            "client_id": "airgap",
        }
        return self._transfer.get(
            realm,
            what=f"a token from {_bare(realm)}",
            max_bytes=MAX_TOKEN,
            auth=_Given(""),
            allow=(200, 400, 401, 403),
            method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )


class _Given(AuthBase):
    """One Authorization header, or none; either way requests asks no netrc for another."""

    def __init__(self, header: str) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header:
            request.headers["Authorization"] = self._header
        return request


def refused(registry: str, status: int, what: str) -> SourceError:
    """What a 401 or 403 means to a person: log in, or ask for the right to pull."""
    return SourceError(
        f"registry {registry} refused: {what} (HTTP {status})",
        remedy=f"'docker login {registry}' or 'skopeo login {registry}' with an account that may pull it;"
        " a name that does not exist is refused the same way by many registries",
    )


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _bare(url: str) -> str:
    """A URL fit for messages: no user, query or fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _origin(url: str) -> tuple[str, str, int]:
    """What must be equal for a secret to be sent: scheme, host, port (RFC 6454)."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = None
    return parts.scheme, parts.hostname or "", port or {"https": 443, "http": 80}.get(parts.scheme, 0)
