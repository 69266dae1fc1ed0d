"""The bytes of a blob pass once, in order, however they are asked for."""

import hashlib
import io
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.audit import streams
from airgap.audit.streams import BombError, Budget, Chunks, Hashed, Peeking, Seeking
from airgap.errors import InputError


class Disk:
    """Bytes on a medium, and how often each was read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.reads: Counter[int] = Counter()

    def read_at(self, start: int, count: int) -> bytes:
        piece = self.data[start : start + count]
        self.reads.update(range(start, start + len(piece)))
        return piece


ranges = st.lists(st.tuples(st.integers(0, 300), st.integers(0, 300)), max_size=12)


@given(st.binary(max_size=300), ranges, ranges, st.integers(0, 40))
def test_whatever_is_read_every_byte_passes_once_and_in_order(
    data: bytes, before: list[tuple[int, int]], after: list[tuple[int, int]], head: int
) -> None:
    disk, seen = Disk(data), bytearray()
    source = Seeking(disk.read_at, len(data), seen.extend, "x", data[:head])
    for phase in (before, after):
        for one, other in phase:
            start, end = sorted((min(one, len(data)), min(other, len(data))))
            assert source.read(start, end - start) == data[start:end]
        assert phase is after or not seen
        source.begin()
    source.finish()
    assert bytes(seen) == data


@given(st.binary(min_size=60, max_size=300), st.integers(0, 40), st.integers(0, 20))
def test_what_is_asked_for_before_its_turn_in_parts_that_overlap_is_read_once(
    data: bytes, head: int, cut: int
) -> None:
    """As a zip is: its head, its tail, and the directory, which may begin before the tail and end in it."""
    disk = Disk(data)
    source = Seeking(disk.read_at, len(data), lambda piece: None, "x", disk.read_at(0, head))
    tail = len(data) - 30 + cut
    for start, end in ((tail, len(data)), (tail - 10, tail + 5), (0, len(data))):
        assert source.read(start, end - start) == data[start:end]
    source.begin()
    source.finish()
    assert max(disk.reads[at] for at in range(tail - 10, len(data))) <= 2
    assert {disk.reads[at] for at in range(head)} <= {1}


@given(st.binary(min_size=1, max_size=300), st.integers(0, 300))
def test_what_was_kept_is_not_read_again(data: bytes, at: int) -> None:
    disk = Disk(data)
    source = Seeking(disk.read_at, len(data), lambda piece: None, "x")
    source.read(min(at, len(data)), len(data) - min(at, len(data)))
    source.begin()
    source.finish()
    assert set(disk.reads.values()) == {1}


def test_what_has_left_the_window_is_read_once_more_and_passes_no_second_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "CHUNK", 10)
    monkeypatch.setattr(streams, "WINDOW", 20)
    data, seen = bytes(range(100)), bytearray()
    disk = Disk(data)
    source = Seeking(disk.read_at, 100, seen.extend, "x")
    source.begin()
    assert source.read(90, 10) == data[90:]
    assert source.read(5, 10) == data[5:15]
    assert bytes(seen) == data
    assert [at for at, count in disk.reads.items() if count == 2] == list(range(5, 15))


def test_a_file_that_is_shorter_than_promised_is_refused() -> None:
    source = Seeking(Disk(b"abc").read_at, 5, lambda piece: None, "x")
    with pytest.raises(InputError, match="ends before byte 5"):
        source.read(2, 3)


def test_no_more_is_kept_than_a_directory_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "MAX_PEEKED", 10)
    source = Seeking(Disk(bytes(100)).read_at, 100, lambda piece: None, "x")
    source.read(0, 10)
    with pytest.raises(InputError, match="more than 10 bytes"):
        source.read(50, 1)


@given(st.lists(st.binary(max_size=9)), st.integers(0, 20), st.integers(1, 20))
def test_peeking_takes_nothing_away(pieces: list[bytes], ahead: int, step: int) -> None:
    seen = bytearray()
    whole = b"".join(pieces)
    stream = Peeking(Chunks(piece for piece in pieces if piece), seen.extend)
    assert stream.peek(ahead) == whole[:ahead]
    found = bytearray()
    while data := stream.read(step):
        found += data
    assert found == seen == whole
    assert stream.size == len(whole)


@given(st.binary(max_size=2000), st.integers(1, 700), st.integers(0, 900), st.integers(0, 900))
def test_whatever_was_looked_at_all_of_a_file_is_hashed(
    data: bytes, piece: int, ahead: int, taken: int
) -> None:
    inner = Chunks(data[at : at + piece] for at in range(0, len(data), piece))
    stream = Hashed(inner, Budget(10))
    assert stream.peek(ahead) == data[:ahead]
    assert data.startswith(stream.read(taken))
    stream.drain()
    assert (stream.size, stream.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert stream.peek(1) == stream.read(1) == b""


def test_a_budget_is_one_for_all_levels() -> None:
    budget = Budget(10)
    budget.allowed = 30
    Hashed(io.BytesIO(bytes(20)), budget).drain()
    with pytest.raises(BombError, match="more than 30 bytes"):
        Hashed(io.BytesIO(bytes(20)), budget).drain()


def test_small_blobs_may_unpack_to_something_all_the_same() -> None:
    assert Budget(1).allowed == Budget.FREE
    assert Budget(1 << 30).allowed == (1 << 30) * Budget.RATIO
