"""Authentication to a registry: the bearer-token dance, and who may see which secret.

Sources: distribution/spec/auth/token.md and oauth2.md.
"""

import threading
from collections.abc import Mapping
from typing import Any

import requests
from requests.auth import AuthBase

from airgap.connected.transfer import Reply, Transfer
from airgap.registry_credentials import Credentials, find_credentials
from airgap.registry_protocol import (
    MAX_TOKEN,
    Challenge,
    bare_url,
    basic_header,
    exchange_form,
    origin,
    parse_challenges,
    read_token,
    refused,
    token_realm,
    token_url,
)


class RegistryAuth(AuthBase):
    """Answers one registry's challenges for one repository; shared by all requests and threads.

    Secrets go to the origin of `api` (scheme://host[:port]) and the token realm it names, nowhere else: a
    redirect to another host carries none. A token that expired in mid-pull is fetched again.
    """

    def __init__(
        self,
        registry: str,
        repository: str,
        api: str,
        *,
        plain_http: bool,
        transfer: Transfer,
        environ: Mapping[str, str],
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._origin = origin(api)
        self._plain_http = plain_http
        self._transfer = transfer
        self._environ = environ
        self._lock = threading.Lock()
        self._header = ""
        self._credentials: Credentials | None = None
        self._looked_up = False

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if origin(request.url or "") == self._origin:
            if self._header:
                request.headers["Authorization"] = self._header
            request.register_hook("response", self._answer)  # type: ignore[no-untyped-call]
        return request

    def _answer(self, response: requests.Response, **sending: Any) -> requests.Response:
        """Repeat a request that was met with 401, once, with what the challenge asks for."""
        if response.status_code != 401 or origin(response.url) != self._origin:
            return response
        refused = response.request.headers.get("Authorization", "")
        try:
            header = self._renewed(refused, response.headers.get("WWW-Authenticate", ""))
        except BaseException:
            response.close()  # whoever asked never sees it
            raise
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

    def _renewed(self, refused: str, challenge: str) -> str:
        """The Authorization header after one was refused."""
        challenges = parse_challenges(challenge)
        with self._lock:
            # Another thread may have renewed the token since this request was sent.
            if self._header in ("", refused):
                self._header = self._authorization(challenges)
            return self._header

    def _authorization(self, challenges: tuple[Challenge, ...]) -> str:
        """The Authorization header that answers, or '' where there is nothing to answer with."""
        credentials = self._found()
        for challenge in challenges:
            if challenge.scheme == "bearer":
                return f"Bearer {self._token(challenge, credentials)}"
        for challenge in challenges:
            if challenge.scheme == "basic" and credentials and credentials.password:
                return basic_header(credentials)
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
        if reply.status != 200:
            raise refused(self._registry, reply.status, f"{bare_url(realm)} gave no token")
        return read_token(reply.body, realm)

    def _ask(self, realm: str, service: str, scope: str, credentials: Credentials | None) -> Reply:
        """GET, anonymous or with Basic (distribution/spec/auth/token.md)."""
        given = _Given(basic_header(credentials) if credentials else "")
        return self._transfer.get(
            token_url(realm, service, scope),
            what=f"a token from {bare_url(realm)}",
            max_bytes=MAX_TOKEN,
            auth=given,
            allow=(200, 400, 401, 403),
        )

    def _exchange(self, realm: str, service: str, scope: str, credentials: Credentials) -> Reply:
        """POST a refresh token (distribution/spec/auth/oauth2.md)."""
        return self._transfer.get(
            realm,
            what=f"a token from {bare_url(realm)}",
            max_bytes=MAX_TOKEN,
            auth=_Given(""),
            allow=(200, 400, 401, 403),
            method="POST",
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=exchange_form(service, scope, credentials),
        )


class _Given(AuthBase):
    """One Authorization header, or none; either way requests asks no netrc for another."""

    def __init__(self, header: str) -> None:
        self._header = header

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._header:
            request.headers["Authorization"] = self._header
        return request
