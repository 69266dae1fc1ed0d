"""What unpacks a zip's members: `isal` sees the bytes that the standard library's zlib sees."""

import random
import zlib
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.readers import inflate
from airgap.readers.inflate import DEFLATED, PACKED_CHUNK, PASSING_CHUNK, STORED, Inflation, passing
from airgap.readers.source import BytesSource


@pytest.fixture
def without_isal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(__import__("sys").modules, "isal.igzip_lib", None)
    monkeypatch.setitem(__import__("sys").modules, "isal.isal_zlib", None)
    inflate._isal.cache_clear()
    yield
    inflate._isal.cache_clear()


def result_of(chunks: Callable[[], Iterator[bytes]]) -> bytes | None:
    """None where the bytes do not unpack."""
    try:
        return b"".join(chunks())
    except InputError:
        return None


def by_zlib(data: bytes) -> Iterator[bytes]:
    place = Inflation(BytesSource(data), 0, len(data), DEFLATED, "x")
    while chunk := place.step():
        yield chunk


def by_isal(data: bytes) -> Iterator[bytes]:
    return passing(BytesSource(data), 0, len(data), DEFLATED, "x")


def deflated(data: bytes, level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> bytes:
    packer = zlib.compressobj(level, zlib.DEFLATED, -15, 9, strategy)
    return packer.compress(data) + packer.flush()


def agree(data: bytes) -> None:
    """`isal` takes a few that zlib does not: codes that are incomplete, of which nothing is used."""
    expected = result_of(lambda: by_zlib(data))
    if expected is not None:
        assert result_of(lambda: by_isal(data)) == expected


PLAIN = st.binary(max_size=400) | st.integers(0, 2000).map(lambda n: b"def one() -> int: ...\n" * n)
STRATEGIES = st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_FIXED, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE])


@given(PLAIN, st.integers(0, 9), STRATEGIES, st.data())
@settings(max_examples=300, deadline=None)
def test_isal_sees_what_zlib_sees_in_whole_and_in_damaged_bytes(
    plain: bytes, level: int, strategy: int, draw: st.DataObject
) -> None:
    packed = bytearray(deflated(plain, level, strategy))
    assert result_of(lambda: by_isal(bytes(packed))) == plain
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(packed) - 1))
        packed[at] ^= draw.draw(st.integers(1, 255))
    packed = packed[: draw.draw(st.integers(0, len(packed)))] if draw.draw(st.booleans()) else packed
    agree(bytes(packed))


@given(st.binary(max_size=60))
@example(b"\x03\x00")
@example(b"\x03\x00more")
@example(deflated(b"one"))
@settings(max_examples=500, deadline=None)
def test_isal_sees_what_zlib_sees_in_any_bytes(data: bytes) -> None:
    agree(data)


@pytest.mark.parametrize("library", ["isal", "zlib"])
@pytest.mark.parametrize("method", [DEFLATED, STORED])
def test_what_is_large_comes_in_pieces(library: str, method: int, request: pytest.FixtureRequest) -> None:
    if library == "zlib":
        request.getfixturevalue("without_isal")
    noise = random.Random(7).randbytes(3 * PACKED_CHUNK + 5)
    plain = noise + bytes(5 * PASSING_CHUNK) + noise
    packed = deflated(plain) if method == DEFLATED else plain
    pieces = list(passing(BytesSource(b"before" + packed + b"behind"), 6, len(packed), method, "x"))
    assert b"".join(pieces) == plain
    assert max(map(len, pieces)) <= inflate.CHUNK


@pytest.mark.parametrize("library", ["isal", "zlib"])
@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (deflated(b"one") + b"more", "4 bytes lie behind its packed bytes"),
        (deflated(b"one")[:-1], "end too early"),
        (b"", "end too early"),
        (b"\xff" * 20, "cannot be unpacked"),
        (deflated(bytes(3 * PASSING_CHUNK)) + b"more", "4 bytes lie behind its packed bytes"),
        (deflated(b"one") + bytes(PACKED_CHUNK), f"{PACKED_CHUNK} bytes lie behind its packed bytes"),
    ],
)
def test_says_what_is_wrong(
    library: str, packed: bytes, message: str, request: pytest.FixtureRequest
) -> None:
    if library == "zlib":
        request.getfixturevalue("without_isal")
    with pytest.raises(InputError, match=message):
        list(by_isal(packed))


@given(st.binary(), st.integers(0, 2**32 - 1))
def test_a_crc_is_zlibs(data: bytes, before: int) -> None:
    assert inflate.crc32(data, before) == zlib.crc32(data, before)
