"""Reading by range from a real server that keeps to RFC 9110, and from ones that do not."""

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgap.connected.ranges import BLOCK, CACHE, MAX_REQUEST, MAX_WHOLE, TAIL, RemoteSource, fetch_metadata
from airgap.connected.transfer import HttpRefusal, Transfer
from airgap.errors import InputError, IntegrityError, SourceError
from airgap.model import Sha256
from airgap.store import Store
from tests.connected.transfers import engine
from tests.servers.faults import Fault, FaultServer, fault_server

BODY = random.Random(7).randbytes(3_000_017)


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with fault_server() as server:
        server.serve("/file", BODY)
        yield server


@pytest.fixture
def transfer(tmp_path: Path) -> Transfer:
    return engine(Store(tmp_path), retries=1)


@given(places=st.lists(st.tuples(st.integers(0, len(BODY)), st.integers(0, 200_000)), max_size=6))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_those_of_the_file(
    server: FaultServer, transfer: Transfer, places: list[tuple[int, int]]
) -> None:
    source = RemoteSource(server.url("/file"), transfer, size=len(BODY))
    for start, count in places:
        expected = BODY[start : start + count]
        assert source.read(start, len(expected)) == expected
    distinct = {n for start, count in places for n in range(start // BLOCK, -(-(start + count) // BLOCK))}
    assert source.traffic <= len(BODY) + BLOCK
    assert source.requests <= len(places)
    assert not distinct or source.traffic <= (max(distinct) - min(distinct) + 1) * BLOCK * len(places)


def test_the_size_and_the_end_come_in_one_request(server: FaultServer, transfer: Transfer) -> None:
    source = RemoteSource(server.url("/file"), transfer)
    assert source.size == len(BODY)
    assert source.read(len(BODY) - 1000, 1000) == BODY[-1000:]
    assert (source.requests, source.traffic) == (1, TAIL)


def test_blocks_are_fetched_once_and_side_by_side_in_one_request(
    server: FaultServer, transfer: Transfer
) -> None:
    source = RemoteSource(server.url("/file"), transfer, size=len(BODY))
    source.read(10, 10)
    source.read(5000, 100)
    assert (source.requests, source.traffic) == (1, BLOCK)
    assert source.read(0, 10 * BLOCK) == BODY[: 10 * BLOCK]
    assert (source.requests, source.traffic) == (2, 10 * BLOCK)
    sent = sum(seen.sent for seen in server.requests("/file")[-2:])
    assert sent == source.traffic


def test_no_request_is_larger_than_what_memory_is_meant_for(server: FaultServer, transfer: Transfer) -> None:
    body = bytes(CACHE + 3 * MAX_REQUEST)
    server.serve("/huge", body)
    source = RemoteSource(server.url("/huge"), transfer, size=len(body))
    assert source.read(0, len(body)) == body
    assert max(seen.sent for seen in server.requests("/huge")) == MAX_REQUEST
    assert sum(map(len, source._blocks.values())) <= CACHE


def test_outside_is_refused_without_a_request(server: FaultServer, transfer: Transfer) -> None:
    source = RemoteSource(server.url("/file"), transfer, size=len(BODY))
    for start, count in ((len(BODY), 1), (-1, 1), (0, -1), (0, len(BODY) + 1)):
        with pytest.raises(InputError, match="expected bytes"):
            source.read(start, count)
    assert source.requests == 0


def test_a_server_without_ranges_gives_a_small_file_whole(server: FaultServer, transfer: Transfer) -> None:
    server.serve("/whole", BODY, always=Fault(ignore_range=True))
    for source in (
        RemoteSource(server.url("/whole"), transfer),
        RemoteSource(server.url("/whole"), transfer, size=len(BODY)),
    ):
        assert source.read(1_000_000, 50) == BODY[1_000_000:1_000_050]
        assert source.read(0, len(BODY)) == BODY
        assert (source.size, source.requests, source.traffic) == (len(BODY), 1, len(BODY))


def test_a_server_without_ranges_does_not_give_a_large_one(server: FaultServer, transfer: Transfer) -> None:
    server.serve("/large", bytes(MAX_WHOLE + 1), always=Fault(ignore_range=True))
    with pytest.raises(SourceError, match="ignores ranges") as caught:
        RemoteSource(server.url("/large"), transfer, size=MAX_WHOLE + 1).read(0, 10)
    assert "airgap build" in caught.value.remedy


@pytest.mark.parametrize(
    "fault",
    [
        Fault(shift=1),
        Fault(shift=BLOCK),
        Fault(headers={"Content-Range": ""}),
        Fault(headers={"Content-Range": f"bytes 0-{BLOCK - 1}/*"}),
        Fault(headers={"Content-Range": f"bytes 0-{BLOCK - 1}/{len(BODY) + 1}"}),
        Fault(headers={"Content-Range": f"bytes {BLOCK}-{2 * BLOCK - 1}/{len(BODY)}"}),
        Fault(extra=1),
    ],
)
def test_other_bytes_than_asked_for_are_refused(
    server: FaultServer, transfer: Transfer, fault: Fault
) -> None:
    server.serve("/other", BODY, always=fault)
    with pytest.raises(SourceError, match="expected bytes 0 to 16384"):
        RemoteSource(server.url("/other"), transfer, size=len(BODY)).read(0, 10)


def test_a_file_that_changed_is_never_mixed(server: FaultServer, transfer: Transfer) -> None:
    served = server.serve("/moving", BODY, always=Fault(ignore_if_range=True))
    source = RemoteSource(server.url("/moving"), transfer, size=len(BODY))
    source.read(0, 10)
    served.etag = '"v2"'
    with pytest.raises(SourceError, match="changed while it was read"):
        source.read(BLOCK, 10)


def test_goes_on_after_a_dropped_connection(server: FaultServer, transfer: Transfer) -> None:
    server.serve("/flaky", BODY, Fault(drop_after=100))
    assert RemoteSource(server.url("/flaky"), transfer, size=len(BODY)).read(0, 5000) == BODY[:5000]


def test_errors_name_no_secret(server: FaultServer, transfer: Transfer) -> None:
    url = server.url("/gone?token=verysecret").replace("//", "//user:password@")
    with pytest.raises(HttpRefusal) as caught:
        RemoteSource(url, transfer, size=10).read(0, 10)
    assert "verysecret" not in str(caught.value)
    assert "password" not in str(caught.value)


def test_metadata_beside_a_wheel(server: FaultServer, transfer: Transfer) -> None:
    metadata = b"Metadata-Version: 2.1\nName: a\nVersion: 1\n"
    server.serve("/a-1-py3-none-any.whl.metadata", metadata)
    url = server.url("/a-1-py3-none-any.whl#sha256=00")
    assert fetch_metadata(url, transfer) == metadata
    digest = Sha256(hashlib.sha256(metadata).hexdigest())
    assert fetch_metadata(url, transfer, sha256=digest) == metadata
    with pytest.raises(IntegrityError, match="expected sha256 0000"):
        fetch_metadata(url, transfer, sha256=Sha256("0" * 64))
    assert fetch_metadata(server.url("/b-1-py3-none-any.whl"), transfer) is None
    with pytest.raises(HttpRefusal):
        fetch_metadata(server.url("/b-1-py3-none-any.whl"), transfer, sha256=digest)
