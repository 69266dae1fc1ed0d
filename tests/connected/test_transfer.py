"""The transfer engine against a real server that fails in every way we know of."""

import fcntl
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from airgap.connected.partial import open_partial
from airgap.connected.transfer import Download, HttpRefusal, Transfer
from airgap.errors import HostError, IntegrityError, SourceError
from airgap.store import CHUNK, Blob, Store
from tests.connected.transfers import (
    BODY,
    CHILD,
    MIB,
    Counting,
    assert_stored,
    child,
    digest,
    engine,
    leftovers,
    wanted,
)
from tests.servers.faults import Fault, FaultServer

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


def test_a_partial_that_is_renamed_between_open_and_lock(
    server: FaultServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The race itself, made certain: the holder finishes just before our lock is granted."""
    store.prepare()
    part = store.partial / "key.part"
    part.write_bytes(b"finished")
    flock = fcntl.flock

    def granted_late(descriptor: int, operation: int) -> None:
        if part.exists() and part.stat().st_size:
            os.replace(part, store.path(digest(b"finished")))
        flock(descriptor, operation)

    monkeypatch.setattr("airgap.connected.partial.fcntl.flock", granted_late)
    with open_partial(store.partial, "key", time.sleep) as partial:
        partial.write(b"ours")
    assert store.path(digest(b"finished")).read_bytes() == b"finished"
    assert part.read_bytes() == b"ours"


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
    progress = Counting()
    with pytest.raises(IntegrityError, match=r"expected .* and 1000 bytes; found more than 1000 bytes"):
        engine(store, progress).fetch([wanted(server, BODY[:1000])])
    assert progress.count == 1001
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
    assert not store.holds(digest(BODY))


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


def test_the_first_failure_stops_the_others(server: FaultServer, store: Store) -> None:
    """Whatever they are at: receiving, waiting before another try, waiting for another process."""
    server.serve("/slow", BODY, always=Fault(rate=MIB // 2))
    server.serve("/later", BODY[1:], always=Fault(status=503, headers={"Retry-After": "60"}))
    server.serve("/bad", BODY, always=Fault(silent=0.3, status=404))
    store.prepare()
    with open(store.partial / f"{digest(BODY[2:])}.part", "wb") as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        downloads = [wanted(server, path="/slow"), wanted(server, BODY[1:], "/later")]
        downloads += [wanted(server, BODY[2:], "/held"), Download(server.url("/bad"), "bad")]
        with pytest.raises(HttpRefusal):
            engine(store).fetch(downloads)
    assert [thread for thread in threading.enumerate() if "(labour)" in thread.name] == []


# --- this host


def test_what_cannot_fit_is_refused_before_the_first_byte(server: FaultServer, store: Store) -> None:
    with pytest.raises(HostError, match="too little"):
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
        import re
        from pathlib import Path
        # Not ru_maxrss, which begins with the memory of the process that forked this one.
        print(re.search("VmHWM:\\s+([0-9]+)", Path("/proc/self/status").read_text())[1])
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
