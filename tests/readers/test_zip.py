"""The strict zip reader against Python's own, on real wheels and generated archives, and on broken ones."""

import contextlib
import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import InputError, IntegrityError
from airgap.readers import inflate
from airgap.readers.inflate import EVERY
from airgap.readers.source import BytesSource, FileSource
from airgap.readers.zip import MAX_AT_ONCE, Archive
from tests.readers.recordings import TRANSFORMERS, VLLM, Replay

MIB = 1 << 20


def made(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = comment
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def opened(data: bytes) -> Archive:
    return Archive(BytesSource(data), "test.whl")


def at_once_is_as_opened(data: bytes) -> None:
    """What `whole` gives of each member is what `open` gives, and nothing where that refuses it."""
    archive = opened(data)
    for member in archive.members():
        content: bytes | None = None
        with contextlib.suppress(InputError, IntegrityError):
            content = b"".join(archive.open(member.path))
        try:
            assert archive.whole(member) == content
        except InputError:  # of its local header, which both look at
            assert content is None


def read_all(data: bytes) -> dict[str, bytes]:
    archive = opened(data)
    return {path: archive.read(path, 64 * MIB) for path in archive.paths()}


# --- agreement with zipfile

_NAMES = st.text("abcdefghij_-é漢", min_size=1, max_size=12)
_FILES = st.dictionaries(
    st.lists(_NAMES, min_size=1, max_size=3).map(lambda parts: "top/" + "/".join(parts) + ".py"),
    st.binary(max_size=3000) | st.integers(0, 40_000).map(lambda n: b"repeated " * n),
    max_size=8,
)


@given(_FILES, st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]), st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
def test_reads_what_zipfile_wrote(files: dict[str, bytes], method: int, comment: bytes) -> None:
    if b"PK" in comment:
        comment = b""
    data = made(files, method, comment)
    assert read_all(data) == files
    at_once_is_as_opened(data)
    archive = opened(data)
    for path, content in files.items():
        source = archive.source(path)
        middle = len(content) // 2
        assert source.read(middle, len(content) - middle) == content[middle:]
        assert source.read(0, middle) == content[:middle]


@given(st.binary(max_size=400) | st.binary(max_size=100).map(lambda d: b"PK\x05\x06" + d))
@settings(max_examples=300)
def test_any_bytes_are_an_archive_or_an_input_error(data: bytes) -> None:
    try:
        read_all(data)
    except (InputError, IntegrityError):
        return
    assert zipfile.is_zipfile(io.BytesIO(data))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_an_archive_with_a_changed_byte_never_gives_other_bytes(draw: st.DataObject) -> None:
    files = {"a/one.py": b"one " * 50, "a/two.py": b"two", "a-1.dist-info/METADATA": b"Name: a\n"}
    data = bytearray(made(files, draw.draw(st.sampled_from([zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED]))))
    data[draw.draw(st.integers(0, len(data) - 1))] ^= draw.draw(st.integers(1, 255))
    try:
        at_once_is_as_opened(bytes(data))
        found = read_all(bytes(data))
    except (InputError, IntegrityError):
        return
    # A name can be spelled otherwise in both headers only by two changes; content is held by its CRC.
    assert all(content in files.values() for content in found.values())


@pytest.mark.parametrize("file", [VLLM["0.19.0"], VLLM["0.33.0"], TRANSFORMERS["5.23.0"]])
def test_real_wheels_have_the_members_that_zipfile_sees(file: str) -> None:
    """Only the directory is recorded, which is all that zipfile reads of it here."""
    archive = Replay().open(file)
    source = archive._source
    with zipfile.ZipFile(_Readable(source)) as theirs:
        expected = [
            (i.filename, i.file_size, i.compress_size, i.CRC) for i in theirs.infolist() if not i.is_dir()
        ]
    assert [(m.path, m.size, m.compressed, m.crc) for m in archive.members()] == expected


class _Readable(io.RawIOBase):
    def __init__(self, source: object) -> None:
        self._source: BytesSource = source  # type: ignore[assignment]
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._source.size)[whence]
        return self._at

    def read(self, count: int = -1) -> bytes:
        count = min(count if count >= 0 else self._source.size, self._source.size - self._at)
        self._at += count
        return self._source.read(self._at - count, count)


def test_every_wheel_of_this_environment_reads_the_same(tmp_path: Path) -> None:
    """Installed packages packed by zipfile, as builders do it."""
    root = Path(pytest.__file__).parents[1]
    files = sorted(path for name in ("click", "tqdm", "requests") for path in (root / name).rglob("*.py"))
    assert len(files) > 40
    target = tmp_path / "all.whl"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            archive.write(path, path.relative_to(root))
    with FileSource(target) as source, zipfile.ZipFile(target) as theirs:
        ours = Archive(source, target.name)
        assert list(ours.paths()) == theirs.namelist()
        for name in ours.paths():
            assert ours.read(name, MIB) == theirs.read(name)


def test_data_descriptors_and_zip64() -> None:
    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: object) -> int:
            self.data += bytes(data)  # type: ignore[call-overload]
            return len(data)  # type: ignore[arg-type]

    pipe = Pipe()
    with zipfile.ZipFile(pipe, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("streamed.py", b"streamed " * 100)
        with archive.open("large.py", "w", force_zip64=True) as member:
            member.write(b"zip64 " * 100)
    assert read_all(bytes(pipe.data)) == {"streamed.py": b"streamed " * 100, "large.py": b"zip64 " * 100}


def test_more_members_than_the_old_end_record_holds() -> None:
    data = made({f"m/{n}.py": b"" for n in range(66_000)}, zipfile.ZIP_STORED)
    assert len(opened(data).members()) == 66_000
    with pytest.raises(InputError, match="zip64 end record"):
        opened(data.replace(b"PK\x06\x06", b"PK\x06\x00"))


# --- a large member at any offset, without holding it


class Counting(BytesSource):
    """Bytes in memory, and how many of them were asked for."""

    asked = 0

    def read(self, start: int, count: int) -> bytes:
        self.asked += count
        return super().read(start, count)


def test_going_back_and_forth_unpacks_little_again() -> None:
    noise = random.Random(5).randbytes(4 * EVERY)
    source = Counting(made({"a.so": noise}))
    member = Archive(source, "test.whl").source("a.so")
    member.read(len(noise) - 10, 10)
    once = source.asked
    for start in (0, len(noise) - 10, 100, len(noise) - 10):
        assert member.read(start, 10) == noise[start : start + 10]
    assert source.asked - once < 3 * EVERY
    assert source.asked < 2 * len(noise)


def test_a_large_member_is_read_anywhere(tmp_path: Path) -> None:
    noise = random.Random(5).randbytes(MIB)
    content = b"".join(bytes([n]) * 3 * MIB + noise for n in range(12))  # 48 MiB
    assert len(content) > 2 * EVERY
    path = tmp_path / "large.whl"
    path.write_bytes(made({"a/large.so": content}))
    with FileSource(path) as source:
        archive = Archive(source, path.name)
        member = archive.source("a/large.so")
        places = [0, len(content) - 7, 20 * MIB + 3, 5, 4 * MIB - 2, EVERY - 1, EVERY + 1, len(content) - 1]
        for start in places:
            count = min(100, len(content) - start)
            assert member.read(start, count) == content[start : start + count]
        assert member.read(len(content), 0) == b""
        with pytest.raises(InputError, match="expected bytes"):
            member.read(len(content) - 1, 2)
        assert zlib.crc32(b"".join(archive.open("a/large.so"))) == zlib.crc32(content)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_member_source_checks_what_it_passed(method: int) -> None:
    data = bytearray(made({"a.so": b"content of a member"}, method))
    central = data.index(b"PK\x01\x02")
    data[central + 16] ^= 1  # both CRCs, so that only the content tells
    data[14] ^= 1
    with pytest.raises(IntegrityError, match="CRC-32"):
        opened(bytes(data)).source("a.so").read(0, 19)
    with pytest.raises(IntegrityError, match="CRC-32"):
        opened(bytes(data)).read("a.so", 100)


# --- what is refused


def changed(data: bytes, signature: bytes, offset: int, value: bytes) -> bytes:
    at = data.rindex(signature) + offset
    return data[:at] + value + data[at + len(value) :]


def behind_a_program() -> bytes:
    out = io.BytesIO(b"#!/bin/sh\n")
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("a.py", b"")
    return out.getvalue()


SIMPLE = made({"a/one.py": b"1 " * 20, "a/two.py": b"2 " * 20})
LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"

REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "ends with its end record"),
    "cut off": (SIMPLE[:-1], "ends with its end record"),
    "appended": (SIMPLE + b"\0", "ends with its end record"),
    "prepended": (b"#!" + SIMPLE, "central directory to end"),
    "behind a program": (behind_a_program(), "10 bytes before its first member"),
    "two archives": (SIMPLE + SIMPLE, "central directory to end"),
    "a second end in the comment": (made({"a.py": b""}, comment=SIMPLE[-22:]), "found 2 that could be it"),
    "volumes": (changed(SIMPLE, END, 4, b"\1\0"), "several volumes"),
    "a member uncounted": (changed(SIMPLE, END, 8, b"\1\0\1\0"), "behind the central directory"),
    "a member too many": (changed(SIMPLE, END, 8, b"\3\0\3\0"), "entry 2"),
    "encrypted": (changed(SIMPLE, CENTRAL, 8, b"\1"), "encrypted"),
    "bzip2": (changed(SIMPLE, CENTRAL, 10, b"\x0c"), "method 12"),
    "a bomb by ratio": (changed(SIMPLE, CENTRAL, 24, struct.pack("<L", 1 << 30)), "cannot hold"),
    "a link": (changed(SIMPLE, CENTRAL, 38, struct.pack("<L", 0o120777 << 16)), "link or a device"),
    "overlapping": (changed(SIMPLE, CENTRAL, 42, struct.pack("<L", 8)), "overlaps"),
    "the same place twice": (changed(SIMPLE, CENTRAL, 42, struct.pack("<L", 0)), "overlaps"),
    "hidden before the first": (changed(SIMPLE, CENTRAL, 42, SIMPLE[-22 + 16 : -22 + 20]), "overlaps"),
    "twice": (SIMPLE.replace(b"two", b"one"), "occurs twice"),
    "upwards": (SIMPLE.replace(b"a/two.py", b"../wo.py"), "not a path"),
    "absolute": (SIMPLE.replace(b"a/two.py", b"/etc/pwd"), "not a path"),
    "backslash": (SIMPLE.replace(b"a/two.py", b"a\\two.py"), "not a path"),
    "a NUL": (SIMPLE.replace(b"a/two.py", b"a/tw\0.py"), "not a path"),
    "not its encoding": (SIMPLE.replace(b"a/two.py", b"a/tw\xff.py"), "encoding"),
    "a file as parent": (made({"a": b"", "a/b": b""}), "also the parent"),
    "a directory with content": (made({"a/": b"content"}), "directory with content"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    data, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        opened(data)


DISAGREEING: dict[str, Callable[[bytes], bytes]] = {
    "name": lambda data: data.replace(b"a/one.py", b"a/uno.py", 1),
    "method": lambda data: data[:8] + b"\0" + data[9:],
    "flags": lambda data: data[:6] + b"\2" + data[7:],
    "crc": lambda data: data[:14] + b"\0" + data[15:],
    "size": lambda data: data[:22] + b"\1" + data[23:],
    "extra field into the next": lambda data: data[:28] + b"\xff" + data[29:],
    "signature": lambda data: b"PK\x03\x05" + data[4:],
}


@pytest.mark.parametrize("what", DISAGREEING)
def test_refuses_a_local_header_that_says_otherwise(what: str) -> None:
    archive = opened(DISAGREEING[what](SIMPLE))
    assert archive.read("a/two.py", 100) == b"2 " * 20
    with pytest.raises(InputError, match="disagree"):
        archive.read("a/one.py", 100)


def test_caps_what_is_read_at_once() -> None:
    with pytest.raises(InputError, match="40 bytes, more than the 39 allowed"):
        opened(SIMPLE).read("a/one.py", 39)
    with pytest.raises(InputError, match="found none of that name"):
        opened(SIMPLE).read("a/three.py", 39)


def test_a_large_member_is_not_given_at_once() -> None:
    archive = opened(made({"a.so": b"\0" * MAX_AT_ONCE, "b.so": b"\0" * (MAX_AT_ONCE + 1)}))
    assert [archive.whole(one) is None for one in archive.members()] == [False, True]


def test_a_member_that_unpacks_to_more_than_it_says_stops_there() -> None:
    content = b"\0" * 50 * MIB
    data = bytearray(made({"a.so": content}))
    central = data.index(CENTRAL)
    for at in (22, central + 24):
        data[at : at + 4] = struct.pack("<L", 10 * MIB)
    seen = 0
    with pytest.raises(IntegrityError, match="or more"):
        for chunk in opened(bytes(data)).open("a.so"):
            seen += len(chunk)
    assert seen <= 11 * MIB


@pytest.mark.parametrize("isal", [True, False])
@pytest.mark.parametrize("wrong", ["nothing", "behind", "cut off", "garbage"])
def test_packed_bytes_are_one_stream_and_no_more(
    wrong: str, isal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isal:
        monkeypatch.setattr(inflate, "_isal", lambda module: None)
    content = b"content " * 100
    packed = zlib.compress(content, wbits=-15)
    packed = {"behind": packed + b"more", "cut off": packed[:-3], "garbage": b"\xff" + packed}.get(
        wrong, packed
    )
    data = bytearray(made({"a.py": packed}, zipfile.ZIP_STORED))
    central = data.index(CENTRAL)
    for method, crc, size in ((8, 14, 22), (central + 10, central + 16, central + 24)):
        data[method : method + 2] = b"\x08\0"
        data[crc : crc + 4] = struct.pack("<L", zlib.crc32(content))
        data[size : size + 4] = struct.pack("<L", len(content))
    if wrong == "nothing":
        assert read_all(bytes(data)) == {"a.py": content}
    else:
        with pytest.raises(InputError, match=r"behind its packed|too early|cannot be unpacked"):
            read_all(bytes(data))
    at_once_is_as_opened(bytes(data))
