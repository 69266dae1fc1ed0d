"""A Hugging Face hub: what a revision holds, who may have it, and why it refuses.

huggingface_hub supplies the metadata calls, the error classes and every user setting (HF_ENDPOINT,
HF_TOKEN, token files, proxies). The bytes come over the transfer engine: the client checks no
sha256 of what it downloads and cannot resume in a later run.
"""

import base64
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, unquote, urlsplit

from huggingface_hub import HfApi, ModelInfo, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    OIDCError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.errors import HTTPError as TransportError  # type: ignore[attr-defined]  # httpx's or httpx2's
from huggingface_hub.utils import get_session  # type: ignore[attr-defined]
from requests import PreparedRequest
from requests.auth import AuthBase

from airgap import __version__
from airgap.connected.http import HttpRefusal
from airgap.connected.transfer import Transfer
from airgap.decode import MAX_INTEGER
from airgap.errors import HostError, InputError, SourceError
from airgap.manifest import is_commit
from airgap.model import BundlePath, Sha256, bundle_path, path_collisions, sha256_hex

TIMEOUT = 30.0
"""Seconds for one metadata call."""

PAUSES = (1.0, 3.0, 10.0)
"""Seconds before each further attempt at a metadata call; Retry-After is obeyed up to MAX_PAUSE."""

MAX_PAUSE = 60.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HubFile:
    """One file of a revision. `sha256` is known for files in LFS; `blob_id` is git's sha1 of the others."""

    path: BundlePath
    size: int
    blob_id: str
    sha256: Sha256 | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What a revision is: its commit (40 hex digits), licence as the model card has it, gating, files."""

    commit: str
    licence: str
    gated: str
    files: tuple[HubFile, ...]


@dataclass(frozen=True, slots=True)
class Hub:
    """One hub, and the credentials for it, which no repr, error or URL shows."""

    endpoint: str
    """`scheme://host[:port][/path]`, without credentials."""
    token: str = field(default="", repr=False)
    userinfo: str = field(default="", repr=False)
    """`user:password` of an HF_ENDPOINT that carries one (a mirror behind basic authentication)."""

    @classmethod
    def from_environment(cls) -> "Hub":
        """The hub and token that huggingface_hub would use. Raises InputError or SourceError."""
        try:
            parts = urlsplit(os.environ.get("HF_ENDPOINT") or constants.ENDPOINT)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:
            valid = False
        if not valid:
            raise InputError(
                "HF_ENDPOINT: expected an http(s) URL of a hub",
                remedy="set it to https://huggingface.co or to your mirror, or unset it",
            )
        userinfo, _, address = parts.netloc.rpartition("@")
        endpoint = f"{parts.scheme}://{address}{parts.path.rstrip('/')}"
        return cls(endpoint, _token(), unquote(userinfo))

    def url(self, repo: str, commit: str, path: str) -> str:
        """Where the bytes of one file at one commit are."""
        return f"{self.endpoint}/{repo}/resolve/{commit}/{quote(path)}"

    def auth(self) -> AuthBase | None:
        """Credentials that requests to this hub's origin carry, and no other host ever sees."""
        if self.userinfo:
            return HubAuth(self.endpoint, "Basic " + base64.b64encode(self.userinfo.encode()).decode())
        return HubAuth(self.endpoint, f"Bearer {self.token}") if self.token else None

    def listing(self, repo: str, revision: str) -> Listing:
        """Ask the hub what `revision` of `repo` is.

        Raises SourceError when there is no such repository or revision, when it is gated and this
        user may not have it, and when the hub cannot be reached or does not answer as a hub does;
        InputError when a file's name cannot travel; HostError when TLS cannot be set up.
        """
        _open_session()
        endpoint = self.endpoint.replace("://", f"://{quote(self.userinfo, safe=':')}@", 1)
        api = HfApi(
            endpoint=endpoint if self.userinfo else self.endpoint,
            token=self.token or False,
            library_name="airgap",
            library_version=__version__,
        )

        def ask() -> ModelInfo:
            return api.model_info(repo, revision=revision, files_metadata=True, timeout=TIMEOUT)

        what = f"{repo} at {revision!r} on {self.endpoint}"
        try:
            info = _patiently(ask)
        except RevisionNotFoundError:
            raise SourceError(
                f"{repo}: expected the revision {revision!r}; {self.endpoint} has none of that name",
                remedy=f"choose one from {self.endpoint}/{repo}/tree/main, or relock with --upgrade",
            ) from None
        except HfHubHTTPError as error:
            raise self._refused(repo, error) from None
        except HFValidationError as error:
            raise InputError(f"{repo!r} cannot name a hub repository: {error}") from None
        except OfflineModeIsEnabled:
            raise SourceError(
                f"{what}: HF_HUB_OFFLINE is set, which forbids asking the hub", remedy="unset HF_HUB_OFFLINE"
            ) from None
        except TransportError as error:
            raise SourceError(
                f"{what}: cannot be reached: {error or type(error).__name__}",
                remedy="check the network, HTTPS_PROXY, SSL_CERT_FILE and HF_ENDPOINT",
            ) from None
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _not_a_hub(what, f"{type(error).__name__}: {error}") from None
        listing = _read(info, what)
        if is_commit(revision) and listing.commit != revision:
            raise _not_a_hub(what, f"it is the commit {listing.commit}")
        return listing

    def require_access(self, repo: str, url: str, transfer: Transfer) -> None:
        """Ask for the headers of one file. Raises SourceError when the hub does not let this user have it."""
        try:
            transfer.get(url, what=repo, max_bytes=0, auth=self.auth(), method="HEAD")
        except HttpRefusal as error:
            explained = self.explain(repo, error)
            # A CDN's URL may be signed for GET alone; that the hub sent us there is the answer.
            if explained is not error:
                raise explained from None

    def explain(self, repo: str, error: HttpRefusal) -> SourceError:
        """The refusal of a file in the hub's terms; a CDN's, which knows nothing of gates, as it is."""
        code = error.headers.get("x-error-code", "")
        if not code and _origin(error.url) != _origin(self.endpoint):
            return error
        return self.refusal(repo, error.status, code, error.headers.get("x-error-message", ""))

    def refusal(self, repo: str, status: int, code: str, message: str) -> SourceError:
        """The hub's refusal as what is missing and who can mend it.

        The hub's X-Error-Code tells a gate from a missing repository; only its X-Error-Message tells
        a licence not yet accepted from a request that is pending or was rejected.
        """
        told = message.lower()
        if "invalid credentials" in told:
            return SourceError(
                f"{repo}: {self.endpoint} does not accept the token (expired or revoked)",
                remedy="run 'hf auth login', or correct HF_TOKEN",
            )
        if code == "GatedRepo":
            return self._gate(repo, told)
        if code in ("EntryNotFound", "RevisionNotFound"):
            return SourceError(
                f"{repo}: the hub no longer holds a locked file", remedy="run 'airgap lock' again"
            )
        if code == "RepoNotFound" or status == 401:
            who = "this account may not see it" if self.token else "it is private and there is no token"
            return SourceError(
                f"{repo}: {self.endpoint} has no such model repository, or {who}",
                remedy="check the spelling; for a private one run 'hf auth login' or set HF_TOKEN",
            )
        said = f": {one_line(message)}" if message else ""
        return SourceError(
            f"{repo}: {self.endpoint} answered {status}{said}",
            remedy="repeat later; check HF_ENDPOINT, the proxy and the token's permissions if it stays",
        )

    def _gate(self, repo: str, told: str) -> SourceError:
        page = f"{self.endpoint}/{repo}"
        if not self.token:
            return SourceError(
                f"{repo} is gated and there is no token",
                remedy=f"accept the licence at {page}, then run 'hf auth login' or set HF_TOKEN",
            )
        if "awaiting" in told:
            return SourceError(
                f"{repo} is gated; the request for access is awaiting its authors' review",
                remedy=f"wait for their answer at {page}",
            )
        if "rejected" in told:
            return SourceError(
                f"{repo} is gated and its authors have denied access to this account",
                remedy="use another account's token, or another model",
            )
        if "fine-grained" in told:
            return SourceError(
                f"{repo} is gated and the token may not read gated repositories",
                remedy="allow 'public gated repositories' in the token's settings",
            )
        return SourceError(
            f"{repo} is gated and this account has not accepted its licence",
            remedy=f"open {page} as the owner of the token, accept the licence, then repeat",
        )

    def _refused(self, repo: str, error: HfHubHTTPError) -> SourceError:
        headers = error.response.headers
        code = headers.get("X-Error-Code", "")
        if isinstance(error, RepositoryNotFoundError):
            # GatedRepoError is one, too.
            code = "GatedRepo" if isinstance(error, GatedRepoError) else "RepoNotFound"
        message = headers.get("X-Error-Message") or error.server_message or ""
        return self.refusal(repo, error.response.status_code, code, message)


class HubAuth(AuthBase):
    """An Authorization header that only requests to `endpoint`'s own origin are given."""

    def __init__(self, endpoint: str, header: str) -> None:
        self._origin = _origin(endpoint)
        self._header = header

    def __call__(self, request: PreparedRequest) -> PreparedRequest:
        if _origin(request.url or "") == self._origin:
            request.headers["Authorization"] = self._header
        return request


def _origin(url: str) -> tuple[str, str, int | None]:
    """Scheme, host and port (RFC 6454)."""
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port


def _token() -> str:
    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:
        return ""
    try:
        return get_token() or ""
    except OIDCError as error:
        raise SourceError(
            f"HF_OIDC_RESOURCE is set, but no token came of it: {error}",
            remedy="mend the trusted publisher's set-up, or unset HF_OIDC_RESOURCE",
        ) from None


def _open_session() -> None:
    """Open the client's one HTTP session, trusting what the user's environment trusts.

    httpx reads SSL_CERT_FILE alone; the bundle that requests and pip are given serves here too.
    """
    given = {} if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ else _ca_bundle()
    os.environ.update(given)
    try:
        get_session()
    except (OSError, ValueError) as error:
        raise HostError(
            f"no HTTPS client can be made: {error}",
            remedy="let SSL_CERT_FILE or REQUESTS_CA_BUNDLE name a file that exists, and HTTPS_PROXY a URL",
        ) from None
    finally:
        for name in given:
            del os.environ[name]


def _ca_bundle() -> dict[str, str]:
    bundle = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    return {"SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE": bundle} if bundle else {}


def _patiently(ask: Callable[[], T]) -> T:
    """Repeat a metadata call that failed on the way, was throttled, or met a server in trouble."""
    for pause in PAUSES:
        try:
            return ask()
        except HfHubHTTPError as error:
            if error.response.status_code not in (408, 429, 500, 502, 503, 504):
                raise
            asked = error.response.headers.get("Retry-After", "")
            time.sleep(min(float(asked), MAX_PAUSE) if asked.isdecimal() else pause)
        except TransportError:
            time.sleep(pause)
    return ask()


def _read(info: ModelInfo, what: str) -> Listing:
    """Judge what the hub said before anything is built on it."""
    commit = info.sha
    if not isinstance(commit, str) or not is_commit(commit):
        raise _not_a_hub(what, f"its commit is {commit!r:.60}")
    files, unusable = [], []
    for sibling in info.siblings or ():
        try:
            path = bundle_path(str(sibling.rfilename))
        except InputError as error:
            unusable.append(error.message)
            continue
        size, blob_id = sibling.lfs.size if sibling.lfs else sibling.size, str(sibling.blob_id)
        if not isinstance(size, int) or not 0 <= size <= MAX_INTEGER or not is_commit(blob_id):
            raise _not_a_hub(what, f"{path} has no size or no git blob id")
        sha256 = _lfs_sha256(sibling.lfs.sha256, f"{what}: {path}") if sibling.lfs else None
        files.append(HubFile(path, size, blob_id, sha256))
    unusable += path_collisions(file.path for file in files)
    if unusable:
        raise InputError(f"{what}: names that cannot travel", problems=unusable)
    gated = info.gated if info.gated in ("auto", "manual") else "manual" if info.gated else ""
    return Listing(commit, _licence(info), gated, tuple(sorted(files, key=lambda file: file.path)))


def one_line(text: str) -> str:
    """Text from outside as one short printable line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]


def _lfs_sha256(value: object, what: str) -> Sha256:
    try:
        return sha256_hex(str(value))
    except InputError as error:
        raise _not_a_hub(what, error.message) from None


def _licence(info: ModelInfo) -> str:
    """The card's `license`, or its `license_name` where that says `other`."""
    card = info.card_data
    licence = getattr(card, "license", None)
    name = getattr(card, "license_name", None)
    said = name if licence == "other" and name else licence
    words = said if isinstance(said, list) else [said] if said else []
    return one_line(" ".join(map(str, words)))


def _not_a_hub(what: str, found: str) -> SourceError:
    return SourceError(
        f"{what}: expected the answer of a Hugging Face hub; {one_line(found)}",
        remedy="check that HF_ENDPOINT names a hub or its mirror, and that no proxy answers in its place",
    )
