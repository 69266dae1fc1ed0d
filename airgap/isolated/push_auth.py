"""Authentication of one push: Basic or a bearer token, to the registry and to its token realm alone."""

import threading
from collections.abc import Mapping

from airgap.errors import SourceError
from airgap.isolated.push_http import Answer, Client, whole
from airgap.registry_credentials import Credentials, find_credentials
from airgap.registry_protocol import (
    Challenge,
    bare_url,
    basic_header,
    error_words,
    exchange_form,
    parse_challenges,
    read_token,
    refused,
    token_realm,
    token_url,
)


class Auth:
    """Answers a registry's challenges for one repository; shared by the threads of a push.

    `scope` is what is asked for, whatever the challenge names: a registry challenges a HEAD for `pull`
    alone, and each further scope would cost another token.
    """

    def __init__(
        self,
        registry: str,
        repository: str,
        client: Client,
        environ: Mapping[str, str],
        *,
        scope: str,
        plain_http: bool,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._client = client
        self._environ = environ
        self._scope = scope
        self._plain_http = plain_http
        self._lock = threading.Lock()
        self._header = ""

    @property
    def headers(self) -> dict[str, str]:
        """What goes with a request to the registry."""
        return {"Authorization": self._header} if self._header else {}

    def renew(self, answer: Answer, sent: Mapping[str, str]) -> bool:
        """After a 401: get what its challenge asks for. False where that would be what was `sent` already.

        Raises SourceError when the realm gives no token, and what `find_credentials` raises.
        """
        before = sent.get("Authorization", "")
        with self._lock:
            # Another thread may have renewed the token since this request was sent.
            if self._header in ("", before):
                challenges = parse_challenges(answer.headers.get("www-authenticate", ""))
                self._header = self._authorization(challenges)
            return self._header not in ("", before)

    def _authorization(self, challenges: tuple[Challenge, ...]) -> str:
        credentials = find_credentials(self._registry, self._repository, self._environ)
        for challenge in challenges:
            if challenge.scheme == "bearer":
                return f"Bearer {self._token(challenge, credentials)}"
        for challenge in challenges:
            if challenge.scheme == "basic" and credentials and credentials.password:
                return basic_header(credentials)
        return ""

    def _token(self, challenge: Challenge, credentials: Credentials | None) -> str:
        if credentials and credentials.registry_token:
            return credentials.registry_token
        realm = token_realm(challenge, self._registry, plain_http=self._plain_http)
        service = challenge.parameters.get("service", "")
        what = "a token"
        if credentials and credentials.identity_token:
            form = whole(exchange_form(service, self._scope, credentials))
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            answer = self._client.send("POST", realm, kind, form, what=what)
        else:
            header = {"Authorization": basic_header(credentials)} if credentials else {}
            url = token_url(realm, service, self._scope)
            answer = self._client.send("GET", url, header, what=what)
        if answer.status in (400, 401, 403):
            said = f"{bare_url(realm)} gave no token{error_words(answer.body)}"
            raise refused(self._registry, answer.status, said, right="push")
        if answer.status != 200:
            raise SourceError(
                f"registry {self._registry}: {bare_url(realm)} answered {answer.status} instead of a token",
                remedy="ask the registry's operator",
            )
        return read_token(answer.body, realm)
