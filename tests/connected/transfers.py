"""What the tests of the transfer engine share."""

import hashlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import AbstractContextManager, nullcontext

import pytest

from airgap.connected.transfer import Download, Transfer
from airgap.errors import SourceError
from airgap.model import Sha256
from airgap.progress import Silent
from airgap.store import Blob, Store
from tests.servers.faults import Fault, FaultServer

MIB = 1024 * 1024
BODY = bytes(range(251)) * 12_000  # 3 MB, and no power of two in sight


def digest(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


class Counting:
    """Progress that keeps what it is told."""

    def __init__(self) -> None:
        self.count = 0
        self.notes: list[str] = []
        self._lock = threading.Lock()

    def task(self, label: str, total: int | None) -> AbstractContextManager[object]:
        return nullcontext()

    def advance(self, count: int) -> None:
        with self._lock:
            self.count += count

    def note(self, message: str) -> None:
        self.notes.append(message)


def engine(store: Store, progress: Counting | Silent | None = None, **options: int) -> Transfer:
    return Transfer(store, progress or Silent(), first_wait=0.001, **options)


def wanted(server: FaultServer, body: bytes = BODY, path: str = "/file") -> Download:
    return Download(server.url(path), "file", digest(body), len(body))


def leftovers(store: Store) -> list[str]:
    return sorted(os.listdir(store.partial))


def assert_stored(store: Store, blob: Blob, body: bytes = BODY) -> None:
    assert blob == Blob(digest(body), len(body))
    assert store.path(blob.sha256).read_bytes() == body
    assert leftovers(store) == []


def interrupted(server: FaultServer, store: Store, after: int, download: Download) -> None:
    """A first run that loses its connection for good after so many bytes."""
    served = server.files["/file"]
    served.script = [Fault(drop_after=after)]
    with pytest.raises(SourceError):
        engine(store, retries=0).fetch([download])


CHILD = textwrap.dedent("""
    import sys
    from pathlib import Path
    from airgap.connected.transfer import Download, Transfer
    from airgap.progress import Silent
    from airgap.store import Store
    root, url, sha256, size = sys.argv[1:]
    Transfer(Store(Path(root)), Silent()).fetch([Download(url, "file", sha256 or None, int(size) or None)])
""")


def child(store: Store, download: Download) -> "subprocess.Popen[bytes]":
    arguments = [str(store.root), download.url, download.sha256 or "", str(download.size or 0)]
    return subprocess.Popen([sys.executable, "-c", CHILD, *arguments], stderr=subprocess.PIPE)


def wait_for_bytes(store: Store, least: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any(part.stat().st_size >= least for part in store.partial.glob("*.part")):
            return
        time.sleep(0.01)
    pytest.fail(f"{least} bytes never came")
