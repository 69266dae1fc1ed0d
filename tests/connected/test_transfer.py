"""The transfer engine against a real server that fails in every way we know of."""

import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from requests.auth import AuthBase

from airgap.connected import http
from airgap.connected.http import Transient, public_url, retry_after, shown_url
from airgap.connected.transfer import Download, HttpRefusal, Transfer
from airgap.errors import HostError, IntegrityError, SourceError
from airgap.model import Sha256
from airgap.progress import Silent
from airgap.store import CHUNK, Blob, Store
from tests.servers.faults import Fault, FaultServer, fault_server

MIB = 1024 * 1024
BODY = bytes(range(251)) * 12_000  # 3 MB, and no power of two in sight


def digest(data: bytes) -> Sha256:
    return Sha256(hashlib.sha256(data).hexdigest())


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


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


# --- the straight path


def test_fetches_in_order_and_counts_every_byte_once(server: FaultServer, store: Store) -> None:
    bodies = [os.urandom(200_000 + n) for n in range(7)]
    for n, body in enumerate(bodies):
        server.serve(f"/{n}", body)
    progress = Counting()
    downloads = [Download(server.url(f"/{n}"), str(n), digest(b), len(b)) for n, b in enumerate(bodies)]
    blobs = engine(store, progress).fetch(downloads)
    assert blobs == [Blob(digest(body), len(body)) for body in bodies]
    assert progress.count == sum(map(len, bodies))
    assert leftovers(store) == []


def test_works_side_by_side(server: FaultServer, store: Store) -> None:
    """Four answers that each keep silent for 0.3 s take 0.3 s together, not 1.2."""
    for n in range(4):
        server.serve(f"/{n}", b"x" * n, always=Fault(silent=0.3))
    began = time.monotonic()
    engine(store, jobs=4).fetch([Download(server.url(f"/{n}"), str(n)) for n in range(4)])
    assert time.monotonic() - began < 0.9


def test_what_the_store_holds_costs_no_request(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY)
    progress = Counting()
    store.prepare()
    store.add_bytes(BODY)
    [blob] = engine(store, progress).fetch([Download(server.url("/file"), "file", digest(BODY))])
    assert blob == Blob(digest(BODY), len(BODY))
    assert (server.seen, progress.count) == ([], 0)


def test_a_blob_of_the_wrong_size_in_the_store_is_fetched_again(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY)
    store.prepare()
    store.path(digest(BODY)).write_bytes(BODY[:-1])
    assert_stored(store, engine(store).fetch([wanted(server)])[0])


def test_one_digest_is_fetched_once(server: FaultServer, store: Store) -> None:
    server.serve("/a", BODY)
    server.serve("/b", BODY)
    server.serve("/c", b"unknown")
    downloads = [wanted(server, path="/a"), wanted(server, path="/b")]
    downloads += [Download(server.url("/c"), "c"), Download(server.url("/c"), "c again")]
    blobs = engine(store).fetch(downloads)
    assert blobs[0] == blobs[1]
    assert blobs[2] == blobs[3] == Blob(digest(b"unknown"), 7)
    assert len(server.seen) == 2


@pytest.mark.parametrize("body", [b"", b"x", BODY[:CHUNK], BODY[: CHUNK + 1]])
@pytest.mark.parametrize("fault", [Fault(), Fault(chunked=True), Fault(open_ended=True)])
def test_every_framing_and_length(server: FaultServer, store: Store, body: bytes, fault: Fault) -> None:
    server.serve("/file", body, always=fault)
    for download in (wanted(server, body), Download(server.url("/file"), "file")):
        assert_stored(store, engine(store).fetch([download])[0], body)
        store.path(digest(body)).unlink()


def test_nothing_wanted(store: Store) -> None:
    assert engine(store).fetch([]) == []


def test_asks_for_bytes_as_they_are(server: FaultServer, store: Store) -> None:
    """A server that encodes all the same gets its bytes stored as sent: digests are of those."""
    server.serve("/file", BODY, always=Fault(headers={"Content-Encoding": "gzip"}))
    assert_stored(store, engine(store).fetch([wanted(server)])[0])
    assert server.seen[0].headers["accept-encoding"] == "identity"
    assert server.seen[0].headers["user-agent"].startswith("airgap/")


# --- resumption


def interrupted(server: FaultServer, store: Store, after: int, download: Download) -> None:
    """A first run that loses its connection for good after so many bytes."""
    served = server.files["/file"]
    served.script = [Fault(drop_after=after)]
    with pytest.raises(SourceError):
        engine(store, retries=0).fetch([download])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(after=st.integers(0, 299_999), known=st.booleans(), framing=st.sampled_from(["length", "chunked"]))
def test_continues_in_a_new_run_at_any_byte(tmp_path: Path, after: int, known: bool, framing: str) -> None:
    body = BODY[:300_000]
    with fault_server() as server:
        store = Store(tmp_path / os.urandom(8).hex())
        server.serve("/file", body, always=Fault(chunked=framing == "chunked"))
        download = wanted(server, body) if known else Download(server.url("/file"), "file")
        interrupted(server, store, after, download)
        progress = Counting()
        [blob] = engine(store, progress).fetch([download])
        assert_stored(store, blob, body)
        assert progress.count == len(body)
        kept = len(body) - server.seen[-1].sent if len(server.seen) > 1 else len(body)
        assert kept == after
        if 0 < after < len(body):
            assert server.seen[-1].headers["range"] == f"bytes={after}-"
            assert server.seen[-1].headers["if-range"] == '"v1"'


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


@pytest.mark.parametrize("known", [True, False])
def test_a_killed_process_leaves_only_the_rest_to_fetch(
    server: FaultServer, store: Store, known: bool
) -> None:
    download = wanted(server) if known else Download(server.url("/file"), "file")
    server.serve("/file", BODY, Fault(rate=MIB))
    store.prepare()
    with child(store, download) as first:
        wait_for_bytes(store, 400_000)
        first.send_signal(signal.SIGKILL)
        first.communicate()
    [part] = store.partial.glob("*.part")
    kept = part.stat().st_size
    assert 400_000 <= kept < len(BODY)
    with child(store, download) as second:
        assert second.communicate()[1] == b""
    assert second.returncode == 0
    assert server.seen[-1].headers["range"] == f"bytes={kept}-"
    assert server.seen[-1].sent == len(BODY) - kept
    assert_stored(store, Blob(digest(BODY), len(BODY)))


def test_ctrl_c_ends_at_once_without_a_word_from_threads(server: FaultServer, store: Store) -> None:
    """A client that waits for a silent server (60 s would be the timeout) is gone in moments."""
    server.serve("/file", BODY, always=Fault(rate=MIB // 2))
    server.serve("/silent", BODY, always=Fault(silent=30))
    store.prepare()
    code = CHILD.replace('"file", sha', '"silent"), Download(url.replace("silent", "file"), "file", sha')
    arguments = [str(store.root), server.url("/silent"), digest(BODY), str(len(BODY))]
    with subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE) as process:
        wait_for_bytes(store, 100_000)
        process.send_signal(signal.SIGINT)
        began = time.monotonic()
        stderr = process.communicate()[1].decode()
    assert time.monotonic() - began < 6
    assert stderr.count("Traceback") == 1, stderr  # the main thread's KeyboardInterrupt alone
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert any(name.endswith(".part") for name in leftovers(store))


def test_a_source_that_changed_is_begun_anew(server: FaultServer, store: Store) -> None:
    """If-Range is what tells: the new bytes come as a 200, none of the old ones stay."""
    served = server.serve("/file", BODY)
    download = Download(server.url("/file"), "file")
    interrupted(server, store, 1000, download)
    served.body, served.etag = BODY[::-1], '"v2"'
    progress = Counting()
    [blob] = engine(store, progress).fetch([download])
    assert_stored(store, blob, BODY[::-1])
    assert progress.count == len(BODY)
    assert server.seen[-1].headers["if-range"] == '"v1"'


def test_a_206_of_something_else_is_not_joined_on(server: FaultServer, store: Store) -> None:
    """A server that ignores If-Range betrays itself by its ETag."""
    served = server.serve("/file", BODY)
    download = Download(server.url("/file"), "file")
    interrupted(server, store, 1000, download)
    served.body, served.etag = BODY[::-1], '"v2"'
    served.script = [Fault(ignore_if_range=True)]
    assert_stored(store, engine(store).fetch([download])[0], BODY[::-1])
    assert "range" not in server.seen[-1].headers


@pytest.mark.parametrize("shift", [-7, 7])
def test_a_206_from_elsewhere_is_begun_anew(server: FaultServer, store: Store, shift: int) -> None:
    served = server.serve("/file", BODY)
    interrupted(server, store, 1000, wanted(server))
    served.script = [Fault(shift=shift)]
    assert_stored(store, engine(store).fetch([wanted(server)])[0])
    assert "range" not in server.seen[-1].headers


def test_a_server_without_ranges_is_read_from_the_start(server: FaultServer, store: Store) -> None:
    served = server.serve("/file", BODY)
    interrupted(server, store, 1000, wanted(server))
    served.always = Fault(ignore_range=True)
    progress = Counting()
    assert_stored(store, engine(store, progress).fetch([wanted(server)])[0])
    assert progress.count == len(BODY)


def test_a_range_past_the_end(server: FaultServer, store: Store) -> None:
    """416 where our bytes are all there are means done; where there are fewer, begin anew."""
    served = server.serve("/file", BODY[:5000], Fault(announced=5, drop_after=5000))
    download = Download(server.url("/file"), "file")
    with pytest.raises(SourceError):
        engine(store, retries=0).fetch([download])
    assert_stored(store, engine(store).fetch([download])[0], BODY[:5000])
    assert server.seen[-1].sent == 0
    store.path(digest(BODY[:5000])).unlink()

    served.script = [Fault(announced=5, drop_after=5000)]
    with pytest.raises(SourceError):
        engine(store, retries=0).fetch([download])
    served.body = BODY[:3000]
    assert_stored(store, engine(store).fetch([download])[0], BODY[:3000])


def test_without_validators_only_a_known_digest_is_continued(server: FaultServer, store: Store) -> None:
    served = server.serve("/file", BODY)
    served.etag, served.last_modified = 'W/"weak"', ""
    interrupted(server, store, 1000, Download(server.url("/file"), "file"))
    engine(store).fetch([Download(server.url("/file"), "file")])
    assert "range" not in server.seen[-1].headers
    store.path(digest(BODY)).unlink()

    interrupted(server, store, 1000, wanted(server))
    assert_stored(store, engine(store).fetch([wanted(server)])[0])
    assert server.seen[-1].headers["range"] == "bytes=1000-"
    assert "if-range" not in server.seen[-1].headers


def test_last_modified_serves_where_there_is_no_etag(server: FaultServer, store: Store) -> None:
    served = server.serve("/file", BODY)
    served.etag = ""
    interrupted(server, store, 1000, Download(server.url("/file"), "file"))
    engine(store).fetch([Download(server.url("/file"), "file")])
    assert server.seen[-1].headers["if-range"] == served.last_modified
    assert server.seen[-1].sent == len(BODY) - 1000


@pytest.mark.parametrize(
    "sidecar",
    [
        b"",
        b"{}",
        b'{"boot":"","etag":"\\"a\\"\\r\\nX: y","last_modified":""}',
        b'{"boot":"","etag":"","last_modified":"","more":1}',
        b'{"boot":"","boot":"","etag":"","last_modified":""}',
    ],
)
def test_a_sidecar_that_is_not_ours_is_not_believed(
    server: FaultServer, store: Store, sidecar: bytes
) -> None:
    server.serve("/file", BODY)
    interrupted(server, store, 1000, wanted(server))
    (store.partial / f"{digest(BODY)}.json").write_bytes(sidecar)
    assert_stored(store, engine(store).fetch([wanted(server)])[0])
    assert "range" not in server.seen[-1].headers


def test_after_a_reboot_an_unknown_digest_is_begun_anew(server: FaultServer, store: Store) -> None:
    """A power cut can leave zeros where bytes were, and there is no digest that would notice."""
    server.serve("/file", BODY)
    download = Download(server.url("/file"), "file")
    interrupted(server, store, 1000, download)
    [sidecar] = store.partial.glob("*.json")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in sidecar.read_text()
    sidecar.write_text(sidecar.read_text().replace(boot, boot[::-1]))
    assert_stored(store, engine(store).fetch([download])[0])
    assert "range" not in server.seen[-1].headers


def test_damage_in_a_partial_is_mended_by_one_clean_fetch(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY)
    interrupted(server, store, 1000, wanted(server))
    part = store.partial / f"{digest(BODY)}.part"
    part.write_bytes(b"!" + part.read_bytes()[1:])
    progress = Counting()
    assert_stored(store, engine(store, progress).fetch([wanted(server)])[0])
    assert [seen.headers.get("range") for seen in server.seen] == [None, "bytes=1000-", None]
    assert progress.count == len(BODY)
    assert len(progress.notes) == 1


@pytest.mark.parametrize("size", [len(BODY), None])
def test_a_whole_partial_needs_no_request(server: FaultServer, store: Store, size: int | None) -> None:
    """Killed between the last byte and the rename."""
    store.prepare()
    (store.partial / f"{digest(BODY)}.part").write_bytes(BODY)
    (store.partial / f"{digest(BODY)}.json").write_bytes(b'{"boot":"","etag":"","last_modified":""}')
    download = Download(server.url("/file"), "file", digest(BODY), size)
    assert_stored(store, engine(store).fetch([download])[0])
    assert server.seen == []


# --- two at once


def test_two_processes_on_one_store_fetch_once(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY, always=Fault(rate=6 * MIB))
    store.prepare()
    with child(store, wanted(server)) as first, child(store, wanted(server)) as second:
        assert (first.communicate()[1], second.communicate()[1]) == (b"", b"")
    assert (first.returncode, second.returncode) == (0, 0)
    assert sum(seen.sent for seen in server.seen) == len(BODY)
    assert_stored(store, Blob(digest(BODY), len(BODY)))


def test_a_partial_that_was_renamed_while_we_waited_is_not_written_to(
    server: FaultServer, store: Store
) -> None:
    """The lock is on an inode: after the holder's rename it is the finished blob's, not ours."""
    server.serve("/file", BODY)
    store.prepare()
    part = store.partial / f"{digest(BODY)}.part"
    with open(part, "wb") as holder:
        holder.write(BODY)
        holder.flush()
        fcntl.flock(holder, fcntl.LOCK_EX)
        found: list[Blob] = []
        waiter = threading.Thread(target=lambda: found.extend(engine(store).fetch([wanted(server)])))
        waiter.start()
        time.sleep(0.3)
        assert found == []
        os.replace(part, store.path(digest(BODY)))
    waiter.join(5)
    assert server.seen == []
    assert_stored(store, found[0])


def test_a_link_in_place_of_a_partial_is_refused(server: FaultServer, store: Store, tmp_path: Path) -> None:
    server.serve("/file", BODY)
    store.prepare()
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (store.partial / f"{digest(BODY)}.part").symlink_to(victim)
    with pytest.raises(HostError):
        engine(store).fetch([wanted(server)])
    assert victim.read_bytes() == b"precious"


# --- wrong bytes


def test_wrong_bytes_are_never_kept(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY, always=Fault(flip_at=5))
    wrong = bytes([*BODY[:5], BODY[5] ^ 0xFF]) + BODY[6:]
    url = server.url("/file").replace("//", "//alice:hunter2@") + "?token=hunter2"
    server.files["/file?token=hunter2"] = server.files["/file"]
    with pytest.raises(IntegrityError) as caught:
        engine(store).fetch([Download(url, "file", digest(BODY), len(BODY))])
    message = caught.value.message
    assert server.url("/file") in message
    assert digest(BODY) in message
    assert digest(wrong) in message
    assert "hunter2" not in message + caught.value.remedy
    assert caught.value.remedy
    assert not store.holds(digest(BODY))
    assert leftovers(store) == []
    assert len(server.seen) == 1  # nothing was joined, so trying again would only repeat it


def test_an_endless_answer_is_cut_off(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY[:1000], always=Fault(extra=64 * MIB, rate=64 * MIB))
    with pytest.raises(IntegrityError, match=r"expected sha256 .* and 1000 bytes; found more than 1000 bytes"):
        engine(store).fetch([wanted(server, BODY[:1000])])
    assert leftovers(store) == []
    time.sleep(0.1)
    assert server.seen[0].sent < 16 * MIB


def test_a_shorter_file_is_named_with_both_sizes(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY[:-1])
    with pytest.raises(IntegrityError, match=f"and {len(BODY)} bytes; found .* and {len(BODY) - 1} bytes"):
        engine(store).fetch([wanted(server)])
    assert leftovers(store) == []


def test_sizes_are_judged_without_a_digest_too(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY)
    with pytest.raises(IntegrityError):
        engine(store).fetch([Download(server.url("/file"), "file", size=len(BODY) + 1)])
    with pytest.raises(IntegrityError):
        engine(store).fetch([Download(server.url("/file"), "file", size=len(BODY) - 1)])


def test_two_sizes_for_one_digest(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY)
    good = wanted(server)
    with pytest.raises(IntegrityError):
        engine(store).fetch([good, Download(good.url, "again", good.sha256, len(BODY) + 1)])


# --- trying again


@pytest.mark.parametrize(
    "fault",
    [
        Fault(drop_after=0),
        Fault(drop_after=70_000),
        Fault(drop_after=70_000, chunked=True),
        Fault(announced=3),
        Fault(status=408),
        Fault(status=429, headers={"Retry-After": "0"}),
        Fault(status=500),
        Fault(status=503),
    ],
    ids=str,
)
def test_tries_again_and_says_so(server: FaultServer, store: Store, fault: Fault) -> None:
    server.serve("/file", BODY, fault, fault)
    progress = Counting()
    assert_stored(store, engine(store, progress, retries=2).fetch([wanted(server)])[0])
    assert progress.count == len(BODY)
    assert progress.notes
    assert all("trying again" in note for note in progress.notes)


def test_an_answer_without_length_that_ends_early(server: FaultServer, store: Store) -> None:
    """Nothing in HTTP tells this end from the real one; only the locked size does."""
    served = server.serve("/file", BODY[:1000], Fault(open_ended=True))
    progress = Counting()
    transfer = Transfer(store, progress, first_wait=0.4)
    growing = threading.Timer(0.1, lambda: setattr(served, "body", BODY))
    growing.start()
    assert_stored(store, transfer.fetch([wanted(server)])[0])
    growing.join()
    assert server.seen[1].headers["range"] == "bytes=1000-"


def test_patience_ends(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY, always=Fault(drop_after=1000))
    with pytest.raises(SourceError, match=r"file: http://127\.0\.0\.1"):
        engine(store, retries=2).fetch([wanted(server)])
    assert len(server.seen) == 3
    assert f"{digest(BODY)}.part" in leftovers(store)


def test_patience_is_renewed_by_progress(server: FaultServer, store: Store) -> None:
    """A long download over a bad line may fail often, as long as a MiB comes in between."""
    server.serve("/file", BODY, always=Fault(drop_after=CHUNK + 1000))
    assert_stored(store, engine(store, retries=1).fetch([wanted(server)])[0])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 416])
def test_a_refusal_is_final(server: FaultServer, store: Store, status: int) -> None:
    server.serve("/file", BODY, always=Fault(status=status, headers={"X-Error-Code": "GatedRepo"}))
    with pytest.raises(HttpRefusal) as caught:
        engine(store).fetch([wanted(server)])
    assert caught.value.status == status
    assert caught.value.headers["x-error-code"] == "GatedRepo"
    assert server.url("/file") in caught.value.message
    assert caught.value.remedy
    assert len(server.seen) == 1


def test_retry_after_is_obeyed(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY, Fault(status=429, headers={"Retry-After": "1"}))
    began = time.monotonic()
    engine(store).fetch([wanted(server)])
    assert 1.0 <= time.monotonic() - began < 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        (" 7 ", 7.0),
        ("86400", http.MAX_RETRY_AFTER),
        ("Tue, 14 Nov 2023 22:13:30 GMT", 10.0),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0.0),
        ("Tue, 14 Nov 2033 22:13:10 GMT", http.MAX_RETRY_AFTER),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        ("9" * 400, None),
        ("Tue, 14 Nov 99999 22:13:10 GMT", None),
    ],
)
def test_retry_after_header(value: str, seconds: float | None) -> None:
    assert retry_after(value, now=1_700_000_000.0) == seconds


@given(st.text())
def test_retry_after_never_fails_and_is_capped(value: str) -> None:
    seconds = retry_after(value)
    assert seconds is None or 0 <= seconds <= http.MAX_RETRY_AFTER


def test_the_first_failure_stops_the_others(server: FaultServer, store: Store) -> None:
    server.serve("/slow", BODY, always=Fault(rate=MIB // 2))
    began = time.monotonic()
    with pytest.raises(HttpRefusal):
        engine(store).fetch([wanted(server, path="/slow"), Download(server.url("/none"), "none")])
    assert time.monotonic() - began < 3


# --- credentials


class Key(AuthBase):
    """A credential that is not in the Authorization header."""

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["X-Private-Key"] = "hunter2"
        return request


def test_credentials_stay_with_their_origin(server: FaultServer, store: Store) -> None:
    server.serve("/from", b"", always=Fault(redirect=server.other_url("/file")))
    server.serve("/file", BODY)
    server.serve("/within", b"", always=Fault(redirect="/from"))
    headers = {"Authorization": "Bearer hunter2", "X-Other": "hunter2", "Accept": "application/json"}
    url = server.url("/within")
    engine(store).fetch([Download(url, "file", digest(BODY), len(BODY), Key(), headers)])
    within, first, second = server.seen
    for own in (within, first):
        assert own.headers["authorization"] == "Bearer hunter2"
        assert own.headers["x-private-key"] == own.headers["x-other"] == "hunter2"
    assert "hunter2" not in str(second.headers)
    assert second.headers["accept"] == "application/json"
    assert second.headers["accept-encoding"] == "identity"


def test_a_resumed_range_follows_the_redirect(server: FaultServer, store: Store) -> None:
    server.serve("/from", b"", always=Fault(redirect=server.other_url("/file")))
    server.serve("/file", BODY, Fault(drop_after=1000))
    engine(store).fetch([wanted(server, path="/from")])
    assert server.requests("/file")[1].headers["range"] == "bytes=1000-"


def test_netrc_is_used_but_never_over_what_was_given(
    server: FaultServer, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login bob password fromnetrc\n")
    monkeypatch.setenv("NETRC", str(netrc))
    server.serve("/doc", b"{}")
    transfer = engine(store)

    def authorization(url: str, **options: dict[str, str]) -> str:
        transfer.get(url, what="doc", max_bytes=10, **options)  # type: ignore[arg-type]
        return server.seen[-1].headers["authorization"]

    basic_bob = "Basic Ym9iOmZyb21uZXRyYw=="
    assert authorization(server.url("/doc")) == basic_bob
    assert authorization(server.url("/doc"), headers={"authorization": "Bearer x"}) == "Bearer x"
    own = server.url("/doc").replace("//", "//alice:pa%20ss@")
    assert authorization(own) == "Basic YWxpY2U6cGEgc3M="
    server.serve("/moved", b"", always=Fault(redirect=server.url("/doc")))
    assert authorization(server.url("/moved"), headers={"Authorization": "Bearer x"}) == "Bearer x"
    assert authorization(server.other_url("/moved")) == basic_bob


@pytest.mark.parametrize(
    "target", ["file:///etc/hostname", "ftp://127.0.0.1/x", "gopher://x", "http://[bad/", "http://h:99999/"]
)
def test_a_redirect_that_is_not_http(server: FaultServer, store: Store, target: str) -> None:
    server.serve("/file", BODY, always=Fault(redirect=target))
    with pytest.raises(SourceError):
        engine(store, retries=0).fetch([wanted(server)])
    assert len(server.seen) == 1


def test_redirects_without_end(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY, always=Fault(redirect="/file"))
    with pytest.raises(SourceError, match="more than 10 redirects"):
        engine(store).fetch([wanted(server)])
    assert len(server.seen) == 11


def test_a_proxy_of_the_environment_is_used(
    server: FaultServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url(""))
    monkeypatch.setenv("no_proxy", "")
    server.serve("http://packages.invalid/file", BODY)
    engine(store).fetch([Download("http://packages.invalid/file", "file", digest(BODY))])
    assert server.seen[0].path == "http://packages.invalid/file"


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://u:p@h.example:8443/a?x=1#part", "https://h.example:8443/a?x=1"),
        ("https://token@h.example/a", "https://h.example/a"),
        ("https://u:p@ss@h.example/a", "https://h.example/a"),
        ("https://h/a?X-Amz-Signature=s&x=1&access_token=t&sig=q", "https://h/a?x=1"),
        ("https://h/a?%74oken=t", "https://h/a"),
        ("https://h/a?signed=1&key=path", "https://h/a?signed=1&key=path"),
        ("file:///a/b", "file:///a/b"),
    ],
)
def test_public_url(url: str, public: str) -> None:
    assert public_url(url) == public
    assert "=" not in shown_url(url)


# --- TLS


def test_an_untrusted_certificate_is_final_and_the_environment_can_trust_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*new, "-keyout", key, "-out", certificate, *subject], check=True, capture_output=True)
    with fault_server() as server:
        server.use_tls(certificate, key)
        server.serve("/doc", b"{}")
        url = server.url("/doc").replace("http:", "https:")
        with pytest.raises(SourceError, match="certificate is not trusted") as caught:
            engine(store).get(url, what="doc", max_bytes=10)
        assert not isinstance(caught.value, Transient)
        assert "REQUESTS_CA_BUNDLE" in caught.value.remedy
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
            with monkeypatch.context() as patch:
                patch.setenv(name, str(certificate))
                assert engine(store).get(url, what="doc", max_bytes=10).body == b"{}"
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none"))
        with pytest.raises(HostError, match="TLS certificates cannot be checked"):
            engine(store).get(url, what="doc", max_bytes=10)


# --- this host


def test_what_cannot_fit_is_refused_before_the_first_byte(server: FaultServer, store: Store) -> None:
    with pytest.raises(HostError, match="more bytes are needed"):
        engine(store).fetch([Download(server.url("/file"), "file", digest(BODY), 2**60)])
    assert server.seen == []


FULL_DISK = textwrap.dedent("""
    import sys
    from pathlib import Path
    from airgap.connected.transfer import Download, Transfer
    from airgap.errors import HostError
    from airgap.progress import Silent
    from airgap.store import Store
    store = Store(Path(sys.argv[1]) / "store")
    try:
        Transfer(store, Silent()).fetch([Download(sys.argv[2], "file", sys.argv[3])])
    except HostError as error:
        print(error.message, "|", error.remedy)
    print([part.stat().st_size for part in store.partial.glob("*.part")])
""")


def test_a_disk_that_fills_keeps_what_came(server: FaultServer, tmp_path: Path) -> None:
    """On a real 2 MiB tmpfs, in a mount namespace of its own."""
    server.serve("/file", BODY)
    script = f'mount -t tmpfs -o size=2m none "$1" && exec {sys.executable} -c "$2" "$1" "$3" "$4"'
    namespace = ["unshare", "--mount", "--map-root-user", "sh", "-c", script, "sh"]
    if subprocess.run([*namespace[:-4], "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces")
    arguments = [str(tmp_path), FULL_DISK, server.url("/file"), digest(BODY)]
    done = subprocess.run([*namespace, *arguments], capture_output=True, text=True, check=True, timeout=30)
    message, kept = done.stdout.splitlines()
    assert "no space left: file: http://127.0.0.1" in message
    assert "needed" in message
    assert "AIRGAP_CACHE" in message
    assert int(kept.strip("[]")) > MIB


def test_memory_does_not_grow_with_the_blob(server: FaultServer, store: Store) -> None:
    """48 MiB fetched in four threads; the peak above the imports stays near four chunks."""
    code = CHILD + textwrap.dedent("""
        import resource
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    """)
    body = os.urandom(MIB) * 48
    server.serve("/small", b"x")
    server.serve("/large", body)
    peaks = []
    for path, data in (("/small", b"x"), ("/large", body)):
        arguments = [str(store.root), server.url(path), digest(data), str(len(data))]
        run = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
        peaks.append(int(run.stdout))
    assert peaks[1] - peaks[0] < 8 * 1024, peaks  # KiB


# --- small documents


def test_get_answers_with_what_was_allowed(server: FaultServer, store: Store) -> None:
    server.serve("/doc", b'{"a":1}', always=Fault(headers={"X-Some": "Thing"}))
    reply = engine(store).get(server.url("/doc"), what="the index", max_bytes=100)
    assert (reply.status, reply.body, reply.headers["x-some"]) == (200, b'{"a":1}', "Thing")
    head = engine(store).get(server.url("/doc"), what="the index", max_bytes=0, method="HEAD")
    assert (head.body, head.headers["content-length"]) == (b"", "7")
    missing = engine(store).get(server.url("/none"), what="the index", max_bytes=100, allow=(200, 404))
    assert missing.status == 404
    with pytest.raises(HttpRefusal, match=r"the index: http://127\.0\.0\.1:.*/none: the server answered 404"):
        engine(store).get(server.url("/none"), what="the index", max_bytes=100)


def test_get_posts_a_body_and_follows_no_redirect_with_it(server: FaultServer, store: Store) -> None:
    server.serve("/token", b"{}", Fault(), Fault(redirect=server.other_url("/token")))
    options = {"what": "token", "max_bytes": 10, "method": "POST", "body": b"secret=1"}
    assert engine(store).get(server.url("/token"), **options).status == 200  # type: ignore[arg-type]
    assert (server.seen[0].method, server.seen[0].body) == ("POST", b"secret=1")
    with pytest.raises(HttpRefusal):
        engine(store).get(server.url("/token"), **options)  # type: ignore[arg-type]
    assert len(server.seen) == 2


def test_get_is_capped_even_when_compressed(server: FaultServer, store: Store) -> None:
    import gzip

    server.serve("/doc", BODY)
    with pytest.raises(SourceError, match="larger than 1000 bytes"):
        engine(store).get(server.url("/doc"), what="doc", max_bytes=1000)
    server.serve("/gz", gzip.compress(b"{}"), always=Fault(headers={"Content-Encoding": "gzip"}))
    assert engine(store).get(server.url("/gz"), what="doc", max_bytes=1000).body == b"{}"
    bomb = gzip.compress(bytes(50 * MIB))
    server.serve("/bomb", bomb, always=Fault(headers={"Content-Encoding": "gzip"}))
    with pytest.raises(SourceError, match="larger than 1000 bytes"):
        engine(store).get(server.url("/bomb"), what="doc", max_bytes=1000)


def test_get_tries_again_on_what_may_pass(server: FaultServer, store: Store) -> None:
    server.serve("/doc", b"{}", Fault(status=503), Fault(drop_after=1), Fault(status=429))
    assert engine(store).get(server.url("/doc"), what="doc", max_bytes=10).body == b"{}"
    server.serve("/doc", b"{}", always=Fault(status=503))
    with pytest.raises(SourceError, match="503"):
        engine(store, retries=2).get(server.url("/doc"), what="doc", max_bytes=10)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:1/x", "Connection refused"),
        ("http://host.invalid/x", "host name is not known"),
        ("ftp://127.0.0.1/x", "not an http"),
        ("http://[bad/x", "malformed"),
        ("http:///x", "not an http"),
        ("nonsense", "not an http"),
        ("file:///none/x", "No such file"),
        ("file:///dev/zero", "not a regular file"),
        ("file://elsewhere/x", "another host"),
    ],
)
def test_sources_that_cannot_be_asked(store: Store, url: str, said: str) -> None:
    with pytest.raises(SourceError, match=said) as caught:
        engine(store, retries=1).fetch([Download(url, "file")])
    assert caught.value.remedy
    with pytest.raises(SourceError, match=said):
        engine(store, retries=1).get(url, what="doc", max_bytes=10)


# --- file URLs


def test_file_urls(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "a b%.bin"
    source.write_bytes(BODY)
    url = source.as_uri()
    assert_stored(store, engine(store).fetch([Download(url, "file")])[0])
    assert_stored(store, engine(store).fetch([Download(url, "file", digest(BODY), len(BODY))])[0])
    assert engine(store).get(url, what="doc", max_bytes=len(BODY)).body == BODY
    with pytest.raises(SourceError, match="larger"):
        engine(store).get(url, what="doc", max_bytes=len(BODY) - 1)
    with pytest.raises(IntegrityError):
        engine(store).fetch([Download(url, "file", digest(b"other"), len(BODY))])
    assert leftovers(store) == []
