"""URLs of package indexes: with the login a person wrote into them, and without it."""

from collections.abc import Iterable
from urllib.parse import unquote, urlsplit, urlunsplit

from requests.auth import AuthBase, HTTPBasicAuth


def without_login(url: str) -> str:
    """`url` without user, password and fragment: the form that locks, errors and logs may hold."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment=""))


def login_for(url: str, sources: Iterable[str]) -> AuthBase | None:
    """The login that the first of `sources` on the same scheme, host and port carries.

    None leaves the request to the user's netrc, which requests reads itself.
    """
    for source in sources:
        parts = urlsplit(source)
        if _origin(source) == _origin(url) and parts.username is not None:
            return HTTPBasicAuth(unquote(parts.username), unquote(parts.password or ""))
    return None


def _origin(url: str) -> tuple[str, str, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"http": 80, "https": 443}.get(parts.scheme)
