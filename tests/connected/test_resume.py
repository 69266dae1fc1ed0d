"""A download that was stopped goes on where it was, in another process, and joins nothing foreign to it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgap.connected.partial import Validators
from airgap.connected.transfer import Download
from airgap.errors import SourceError
from airgap.store import Blob, Store
from tests.connected.transfers import (
    BODY,
    CHILD,
    MIB,
    Counting,
    assert_stored,
    child,
    digest,
    engine,
    interrupted,
    leftovers,
    wait_for_bytes,
    wanted,
)
from tests.servers.faults import Fault, FaultServer, fault_server


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
@pytest.mark.parametrize("known", [True, False])
def test_a_206_from_elsewhere_is_begun_anew(
    server: FaultServer, store: Store, shift: int, known: bool
) -> None:
    served = server.serve("/file", BODY)
    download = wanted(server) if known else Download(server.url("/file"), "file")
    interrupted(server, store, 1000, download)
    served.script = [Fault(shift=shift)]
    progress = Counting()
    assert_stored(store, engine(store, progress).fetch([download])[0])
    assert "range" not in server.seen[-1].headers
    assert "answered with others" in progress.notes[0]


def test_a_206_that_nobody_asked_for(server: FaultServer, store: Store) -> None:
    server.serve("/file", BODY, always=Fault(shift=7))
    with pytest.raises(SourceError, match="answered with others"):
        engine(store).fetch([Download(server.url("/file"), "file")])
    assert len(server.seen) == 1


LONG_AGO, NOW = "Tue, 14 Nov 2023 22:13:19 GMT", "Tue, 14 Nov 2023 22:13:20 GMT"


@pytest.mark.parametrize(
    ("headers", "if_range"),
    [
        ({"etag": '"a"', "last-modified": LONG_AGO, "date": NOW}, '"a"'),
        ({"etag": 'W/"a"', "last-modified": LONG_AGO, "date": NOW}, LONG_AGO),
        ({"etag": "a", "last-modified": LONG_AGO, "date": NOW}, LONG_AGO),
        ({"last-modified": NOW, "date": NOW}, ""),
        ({"last-modified": LONG_AGO}, ""),
        ({"last-modified": "yesterday", "date": NOW}, ""),
        ({"last-modified": LONG_AGO, "date": "today"}, ""),
        ({}, ""),
    ],
)
def test_only_strong_validators_count(headers: dict[str, str], if_range: str) -> None:
    """RFC 9110 §8.8.2.2: a file changed within the second its date was read may change again in it."""
    assert Validators.of(headers).if_range == if_range


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
