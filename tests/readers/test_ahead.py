"""A stream that is read ahead in a thread of its own, against the same stream read as it is."""

import gzip
import io
import os
import threading
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.readers.ahead import CHUNK, DEPTH, SMALL, ahead
from airgap.readers.decompress import decompressed
from airgap.readers.image import read_image
from airgap.readers.source import Readable
from airgap.readers.union import Layer
from tests.readers.images import tar


class Pieces:
    """Gives what it has in pieces, fails where one is None; `far` is set when it gave so many bytes."""

    def __init__(self, pieces: list[bytes | None], far: int = 1 << 40) -> None:
        self._pieces = deque(pieces)
        self._left = far
        self.far = threading.Event()

    def read(self, count: int, /) -> bytes:
        piece = self._pieces.popleft() if self._pieces else b""
        if piece is None:
            raise InputError("damaged")
        if len(piece) > count:
            self._pieces.appendleft(piece[count:])
            piece = piece[:count]
        self._left -= len(piece)
        if self._left <= 0:
            self.far.set()
        return piece


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("ahead")]


def read_all(stream: Readable, count: int) -> Iterator[bytes]:
    while data := stream.read(count):
        assert len(data) <= count
        yield data


@given(st.lists(st.integers(1, SMALL // 2), max_size=12), st.integers(1000, 2 * CHUNK))
def test_the_bytes_are_the_same_in_their_order_however_they_come(sizes: list[int], count: int) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate(sizes)]
    with ahead(Pieces([*pieces])) as stream:
        assert b"".join(read_all(stream, count)) == b"".join(pieces)
        assert stream.read(1) == b"", "the end stays the end"
    assert not threads()


def test_what_goes_wrong_is_raised_behind_the_last_good_byte_and_stays_wrong() -> None:
    good = bytes(CHUNK)
    before = SMALL // CHUNK + 2
    with ahead(Pieces([*[good] * before, None, good])) as stream:
        assert sum(len(stream.read(CHUNK)) for _ in range(before)) == before * CHUNK
        for _ in range(2):
            with pytest.raises(InputError, match="damaged"):
                stream.read(1)
    assert not threads()


def test_it_goes_on_ahead_of_its_reader_and_stops_where_he_does() -> None:
    inner = Pieces([bytes(CHUNK)] * 100, far=SMALL + DEPTH * CHUNK)
    with pytest.raises(KeyError), ahead(inner) as stream:
        for _ in range(SMALL // CHUNK):
            stream.read(CHUNK)
        assert inner.far.wait(60)
        raise KeyError
    assert not threads()


def test_it_is_never_further_ahead_than_its_depth() -> None:
    inner = Pieces([bytes(CHUNK)] * 100, far=SMALL + (1 + DEPTH) * CHUNK + 1)
    with ahead(inner) as stream:
        for _ in range(SMALL // CHUNK + 1):
            stream.read(CHUNK)
        assert not inner.far.wait(0.2)


def test_what_is_small_takes_no_thread() -> None:
    with decompressed(io.BytesIO(gzip.compress(bytes(SMALL - 1))), "layer") as stream:
        assert len(b"".join(read_all(stream, 5000))) == SMALL - 1
        assert not threads()


@pytest.mark.parametrize("damage", ["cut", "bent"])
def test_a_large_layer_that_is_damaged_far_behind_its_start_is_refused(damage: str) -> None:
    packed = bytearray(gzip.compress(tar([("a", os.urandom(6 * SMALL)), ("b", os.urandom(SMALL))])))
    if damage == "cut":
        del packed[5 * SMALL :]
    else:
        packed[5 * SMALL] ^= 1  # random bytes are stored as they are: only the checksum at the end tells
        packed += gzip.compress(b"")
    data = bytes(packed)
    with pytest.raises(InputError, match=r"layer 1 of 1.*the compressed data is damaged"):
        read_image("0" * 64, [Layer("1" * 64, lambda: io.BytesIO(data))])
    assert not threads()


def test_what_lies_before_damage_is_read() -> None:
    """Else whoever damages a layer behind a file keeps an auditor from seeing it."""
    plain = os.urandom(3_000_000)
    packed = gzip.compress(plain)[:2_900_000]
    passed = bytearray()
    with decompressed(io.BytesIO(packed), "a layer") as stream, pytest.raises(InputError, match="damaged"):
        for data in read_all(stream, 1 << 20):
            passed += data
    assert plain.startswith(bytes(passed))
    assert len(passed) > len(packed) - 300_000
