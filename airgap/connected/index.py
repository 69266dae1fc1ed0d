"""Logins of package indexes: found where a person wrote them, kept out of everything that is written down."""

import re
from collections.abc import Iterable
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from requests.auth import AuthBase, HTTPBasicAuth


def strip_logins(text: str) -> str:
    """`text` (a requirement, a message of pip's or uv's) with no user or password in any URL."""
    return re.sub(r"://[^/\s]*@", "://", text)


def login_for(url: str, sources: Iterable[str]) -> AuthBase | None:
    """The login that the first of `sources` on the same scheme, host and port carries.

    None leaves the request to the user's netrc, which requests reads itself.
    """
    for source in sources:
        parts = urlsplit(source)
        if parts.username is not None and _origin(source) == _origin(url):
            return HTTPBasicAuth(unquote(parts.username), unquote(parts.password or ""))
    return None


def with_login(url: str, sources: Iterable[str]) -> str:
    """`url` as pip wants it told: with the login `login_for` finds, if any, inside."""
    login = login_for(url, sources)
    if not isinstance(login, HTTPBasicAuth):
        return url
    parts = urlsplit(url)
    user, password = quote(str(login.username), safe=""), quote(str(login.password), safe="")
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{parts.netloc}"))


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
