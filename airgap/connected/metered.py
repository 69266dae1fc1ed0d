"""The transfer engine with a meter: how much was asked for, and no more than was allowed."""

from collections.abc import Mapping, Sequence
from threading import Lock
from urllib.parse import urlsplit

from requests.auth import AuthBase

from airgap.connected.transfer import Reply, Transfer
from airgap.progress import Progress
from airgap.readiness.search import OutOfRequests
from airgap.store import Store


class Metered(Transfer):
    """Counts requests and the bytes of their answers; the request after the `limit`th raises OutOfRequests.

    What is tried again after a failure counts once; local files do not count. Progress advances by bytes.
    """

    def __init__(self, store: Store, progress: Progress, *, limit: int, jobs: int = 4) -> None:
        super().__init__(store, progress, jobs=jobs)
        self.limit = limit
        self.requests = 0
        self.traffic = 0
        self._counting = Lock()

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
        body: bytes = b"",
    ) -> Reply:
        counted = urlsplit(url).scheme != "file"
        if counted:
            self._count(what)
        reply = super().get(
            url,
            what=what,
            max_bytes=max_bytes,
            headers=headers,
            auth=auth,
            allow=allow,
            method=method,
            body=body,
        )
        if counted:
            with self._counting:
                self.traffic += len(reply.body)
            self._progress.advance(len(reply.body))
        return reply

    def _count(self, what: str) -> None:
        with self._counting:
            if self.requests >= self.limit:
                raise OutOfRequests(
                    f"{what}: all {self.limit} requests that were allowed are spent",
                    remedy="allow more, or ask for fewer releases",
                )
            self.requests += 1
