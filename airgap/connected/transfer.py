"""The one HTTP engine of the connected side. (Interface first; the engine follows.)"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from requests.auth import AuthBase

from airgap.model import Sha256
from airgap.progress import Progress
from airgap.store import Blob, Store


@dataclass(frozen=True, slots=True)
class Download:
    """Bytes wanted into the store. `label` is what a person calls them; `sha256` and `size` if known."""

    url: str
    label: str
    sha256: Sha256 | None = None
    size: int | None = None
    auth: AuthBase | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """A small document fetched whole: its final URL, status, headers (lower-case names) and bytes."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class Transfer:
    """Fetches over HTTP(S) into `store`, several files at once; safe to share between threads."""

    def __init__(self, store: Store, progress: Progress, *, jobs: int = 4, retries: int = 5) -> None:
        raise NotImplementedError

    def fetch(self, downloads: Sequence[Download]) -> list[Blob]:
        """Fetch all, in the order asked for; progress advances by bytes, the caller opens the task."""
        raise NotImplementedError

    def get(
        self,
        url: str,
        *,
        what: str,
        max_bytes: int,
        headers: Mapping[str, str] | None = None,
        auth: AuthBase | None = None,
        allow: Sequence[int] = (200,),
        method: str = "GET",
    ) -> Reply:
        """A small document; a status outside `allow` is a SourceError, after retries where they help."""
        raise NotImplementedError
