"""Our forward-only tar reader against the standard library's, and against bytes that are no tar."""

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.readers.decompress import UnreadableLayer, decompressed
from airgap.readers.tar import MAX_EXTENDED, Entry, EntryKind, TarStream
from tests.readers.images import DIRECTORY, FIFO, Content, Link, tar

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]

_names = st.text(st.characters(codec="utf-8", exclude_characters="/\0\n"), min_size=1, max_size=12)
_paths = st.lists(_names, min_size=1, max_size=30).map("/".join)
_contents: st.SearchStrategy[Content] = (
    st.binary(max_size=1500) | st.builds(Link, _paths, st.booleans()) | st.sampled_from([DIRECTORY, FIFO])
)


def ours(data: bytes) -> Iterator[tuple[Entry, bytes]]:
    archive = TarStream(io.BytesIO(data), "layer")
    for entry in archive:
        yield entry, archive.read(1 << 20) if entry.kind is EntryKind.FILE else b""


def theirs(data: bytes) -> Iterator[tuple[Entry, bytes]]:
    kinds = {
        tarfile.REGTYPE: EntryKind.FILE,
        tarfile.LNKTYPE: EntryKind.HARD_LINK,
        tarfile.SYMTYPE: EntryKind.SYMLINK,
        tarfile.DIRTYPE: EntryKind.DIRECTORY,
        tarfile.FIFOTYPE: EntryKind.SPECIAL,
    }
    with tarfile.open(fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape") as archive:
        for info in archive:
            stream = archive.extractfile(info) if info.isreg() else None
            yield (
                Entry(info.name, kinds[info.type], info.size, info.linkname),
                stream.read() if stream else b"",
            )


@given(st.lists(st.tuples(_paths, _contents), max_size=6), st.sampled_from(FORMATS[1:]))
def test_entries_are_those_that_the_standard_library_reads(
    members: list[tuple[str, Content]], format: int
) -> None:
    data = tar(members, format)
    found = [(Entry(e.path.rstrip("/"), e.kind, e.size, e.target), content) for e, content in ours(data)]
    expected = [(Entry(e.path.rstrip("/"), e.kind, e.size, e.target), c) for e, c in theirs(data)]
    assert found == expected


def pieces(data: bytes, ahead: int, step: int) -> list[object]:
    """Every entry and its bytes, read `step` at a time; in the end, what is wrong with the archive."""
    archive = TarStream(io.BytesIO(data), "layer", ahead=ahead)
    found: list[object] = []
    try:
        for number, entry in enumerate(archive):
            found.append(entry)
            content = bytearray()
            while number % 3 and (piece := archive.chunk(step)):  # some entries are passed over unread
                assert len(piece) <= step
                content += piece
            found.append(bytes(content))
    except InputError as error:
        found.append(error.message)
    return found


@given(
    st.lists(st.tuples(_paths, _contents), max_size=6),
    st.sampled_from(FORMATS[1:]),
    st.integers(1, 4000),
    st.integers(1, 2000),
    st.data(),
)
def test_reading_ahead_changes_nothing(
    members: list[tuple[str, Content]], format: int, ahead: int, step: int, draw: st.DataObject
) -> None:
    data = tar(members, format)
    data = data[: draw.draw(st.integers(0, len(data)))] if draw.draw(st.booleans()) else data
    assert pieces(data, ahead, step) == pieces(data, 0, step)


@given(st.lists(st.tuples(_paths, _contents), max_size=6), st.sampled_from(FORMATS[1:]), st.integers(1, 4000))
def test_what_was_read_ahead_is_given_whole_or_not_at_all(
    members: list[tuple[str, Content]], format: int, ahead: int
) -> None:
    data = tar(members, format)
    archive = TarStream(io.BytesIO(data), "layer", ahead=ahead)
    found = []
    for entry in archive:
        held = archive.held() if entry.kind is EntryKind.FILE else b""
        found.append((entry, archive.read(1 << 20) if held is None else held))
    assert found == list(ours(data))


def test_reading_ahead_costs_one_read_for_many_entries() -> None:
    stream = Counted(tar([(f"f{n}", b"x") for n in range(100)], tarfile.GNU_FORMAT))
    assert len(list(TarStream(stream, "layer", ahead=1 << 20))) == 100
    assert stream.reads == 1


class Counted(io.BytesIO):
    """Bytes, and how many reads they took."""

    reads = 0

    def read(self, count: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(count)


@given(st.binary(min_size=500, max_size=512), st.integers(0, 0o777777))
def test_a_header_is_believed_by_its_sum_alone(header: bytes, sum_said: int) -> None:
    """As pax(1) has it: all bytes of the block, the sum's own eight as blanks."""
    block = bytearray(header.ljust(512, b"\xff"))
    block[124:136] = b"00000000000\0"
    block[156:157] = b"0"
    true = sum(block[:148]) + 8 * 32 + sum(block[156:])
    for said in {true, sum_said}:
        block[148:156] = b"%07o\0" % said
        try:
            taken = [entry.kind for entry in TarStream(io.BytesIO(bytes(block)), "layer")]
        except InputError as error:
            assert said != true
            assert "expected a tar header" in error.message
        else:
            assert said == true
            assert taken


@pytest.mark.parametrize("format", FORMATS)
def test_long_names_and_what_is_not_read_are_passed_over(format: int) -> None:
    names = ["a" * 60 + "/" + "b" * 90, "c", "d" * 99]
    data = tar([(name, name.encode() * 200) for name in names], format)
    archive = TarStream(io.BytesIO(data), "layer")
    assert [entry.path for entry in archive] == names


@pytest.mark.parametrize("cut", [100, 512, 1000, 1536, 1600])
def test_an_archive_that_ends_early_is_refused(cut: int) -> None:
    data = tar([("a", b"x" * 700), ("b", b"y" * 700)], tarfile.USTAR_FORMAT)
    if cut % 1536 == 0:
        assert [e.path for e, _ in ours(data[:cut])] == ["a"], "an archive may lack its empty blocks"
        return
    with pytest.raises(InputError, match="ends early"):
        list(ours(data[:cut]))


def test_bytes_that_are_no_tar_are_refused() -> None:
    with pytest.raises(InputError, match="expected a tar header, found other bytes"):
        list(ours(bytes(100) + b"1" * 412))
    data = bytearray(tar([("a", b"")]))
    data[0] ^= 1
    with pytest.raises(InputError, match="expected a tar header"):
        list(ours(bytes(data)))


def test_an_extended_header_beyond_any_path_is_refused_unread() -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, MAX_EXTENDED + 1
    with pytest.raises(InputError, match="an extended header of"):
        list(ours(info.tobuf(tarfile.USTAR_FORMAT)))


@pytest.mark.parametrize(
    "record", [b"9 path=x\n", b"99 path=x\n", b"path=x\n", b" path=x\n", b"0 \n", b"10 size=-1\n"]
)
def test_pax_records_that_do_not_fit_are_refused(record: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    data = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + tar([("a", b"")])
    if record == b"9 path=x\n":
        assert next(ours(data))[0].path == "x"
        return
    with pytest.raises(InputError, match="PAX"):
        list(ours(data))


@settings(max_examples=300)
@given(st.data())
def test_altered_bytes_are_read_or_refused(data: st.DataObject) -> None:
    archive = bytearray(tar([("a", b"x" * 20), ("l" * 200, Link("a", hard=True)), ("é", b"")]))
    for _ in range(data.draw(st.integers(1, 4))):
        archive[data.draw(st.integers(0, len(archive) - 1))] = data.draw(st.integers(0, 255))
    try:
        list(ours(bytes(archive)))
    except InputError as error:
        assert error.message.startswith("layer: ")


def unpacked(data: bytes) -> bytes:
    with decompressed(io.BytesIO(data), "layer") as stream:
        whole = b""
        while piece := stream.read(1000):
            whole += piece
        return whole


@given(st.binary(max_size=3000))
def test_what_is_not_compressed_passes_unchanged(data: bytes) -> None:
    if not data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")):
        assert unpacked(data) == data


def test_gzip_of_several_members_is_one_stream() -> None:
    assert unpacked(gzip.compress(b"one") + gzip.compress(b"two")) == b"onetwo"


def test_zstd_is_read_where_a_decompressor_is_installed() -> None:
    zstandard = pytest.importorskip("zstandard", reason="pip install 'airgap[images]'")
    frames = zstandard.ZstdCompressor().compress(b"one") + zstandard.ZstdCompressor().compress(b"two")
    assert unpacked(frames) == b"onetwo"
    with pytest.raises(InputError, match="damaged"):
        unpacked(frames[:6] + b"\xff\xff\xff")


@pytest.mark.parametrize(
    "data",
    [gzip.compress(b"x" * 9999)[:-9], b"\x1f\x8bnot gzip at all", b"\x1f\x8b"],
    ids=["cut off", "something else", "no more than the mark"],
)
def test_damaged_gzip_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="the compressed data is damaged"):
        unpacked(data)


def test_a_broken_block_is_damage_whoever_unpacks_it() -> None:
    broken = gzip.compress(bytes(range(256)) * 40)
    for at in range(10, 40):
        changed = broken[:at] + b"\xff\xff" + broken[at + 2 :]
        with pytest.raises(InputError, match="the compressed data is damaged"):
            unpacked(changed)


def test_gzip_without_isal_is_the_standard_librarys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "isal.igzip", None)
    assert unpacked(gzip.compress(b"x" * 5000)) == b"x" * 5000
    with pytest.raises(InputError, match="damaged"):
        unpacked(gzip.compress(zlib.compress(b"abc"))[:-3])


def test_zstd_without_a_decompressor_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("compression.zstd", "zstandard"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(UnreadableLayer, match="compressed with zstd") as caught:
        unpacked(b"\x28\xb5\x2f\xfd....")
    assert "airgap[images]" in caught.value.remedy


def test_owner_and_mode_are_read_and_an_entry_comes_in_chunks() -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo("usr/bin/su")
        info.size, info.mode, info.uid, info.gid = 5, 0o4755, 1000, 3_000_000
        archive.addfile(info, io.BytesIO(b"12345"))
        info = tarfile.TarInfo("after")
        info.size = 1
        archive.addfile(info, io.BytesIO(b"x"))
    stream = TarStream(io.BytesIO(out.getvalue()), "layer")
    entries = iter(stream)
    first = next(entries)
    assert (first.mode, first.uid, first.gid) == (0o4755, 1000, 3_000_000)
    assert [stream.chunk(3), stream.chunk(3), stream.chunk(3)] == [b"123", b"45", b""]
    assert next(entries).path == "after"
    assert stream.chunk(0) == b""


def test_an_owner_that_is_no_number_is_nobody_in_particular() -> None:
    header = bytearray(tar([("a", b"")])[:512])
    header[108:116] = b"\xff" * 7 + b"\xfe"
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + 8 * 32 + sum(header[156:]))
    [entry] = TarStream(io.BytesIO(bytes(header)), "layer")
    assert entry.uid == 0


def test_an_entry_that_is_cut_off_is_refused_in_chunks_too() -> None:
    stream = TarStream(io.BytesIO(tar([("a", b"12345")])[:514]), "layer")
    next(iter(stream))
    assert stream.chunk(2) == b"12"
    with pytest.raises(InputError, match="ends early"):
        stream.chunk(2)
