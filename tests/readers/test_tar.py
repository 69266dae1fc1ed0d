"""Where readers of tar differ, a layer is read as the engines that unpack it do: by Go's archive/tar."""

import io

import pytest

from airgap.readers.tar import Entry, EntryKind, TarStream

EVIL = "usr/lib/python3/dist-packages/evil.pth"


def header(
    name: str,
    size: int = 0,
    kind: bytes = b"0",
    *,
    mode: bytes = b"0000644\0",
    octal: bytes = b"",
    magic: bytes = b"ustar\x0000",
    prefix: bytes = b"",
    trailer: bytes = b"",
) -> bytes:
    """One header block, its checksum right."""
    numbers = b"0000000\0" * 2 + (octal or b"%011o\0" % size) + b"0" * 11 + b"\0"
    start = name.encode().ljust(100, b"\0") + mode + numbers + b" " * 8 + kind + bytes(100) + magic
    block = bytearray((start.ljust(345, b"\0") + prefix).ljust(508, b"\0") + trailer.ljust(4, b"\0"))
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(kind: bytes = b"x", /, **records: str) -> bytes:
    """A PAX header; `__` in a key is a dot."""
    data = b""
    for key, value in records.items():
        rest = f" {key.replace('__', '.')}={value}\n".encode()
        length = len(rest) + 1
        while len(b"%d" % length + rest) != length:
            length += 1
        data += b"%d" % length + rest
    return header("pax", len(data), kind) + padded(data)


def long_name(name: str, kind: bytes = b"L") -> bytes:
    return header("././@LongLink", len(name), kind) + padded(name.encode())


def entries(*blocks: bytes) -> list[Entry]:
    return list(TarStream(io.BytesIO(b"".join(blocks) + bytes(1024)), "layer"))


PLAIN = header(EVIL, 9) + padded(b"import os")


@pytest.mark.parametrize(
    "blocks",
    [
        (pax(path="srv/a"), pax(mtime="1"), PLAIN),
        (pax(path="srv/a"), pax(b"g", comment="x"), PLAIN),
        (long_name("srv/a"), pax(b"g", comment="x"), PLAIN),
        (long_name(EVIL), pax(path="srv/a"), header("srv/b")),
        (pax(path=EVIL), header("srv/b")),
        (pax(GNU__sparse__name="srv/a"), PLAIN),
        (pax(path=EVIL, GNU__sparse__name="srv/a", GNU__sparse__major="2"), header("srv/b")),
        (header("evil.pth", prefix=b"./" * 51 + EVIL.encode()[:29] + b"123", trailer=b"tar\0"),),
    ],
    ids=["replaced", "global", "global-name", "gnu-name", "path", "no-sparse", "unknown-sparse", "star"],
)  # fmt: skip
def test_an_entry_has_the_name_that_engines_give_it(blocks: tuple[bytes, ...]) -> None:
    [one] = entries(*blocks)
    assert one.path.replace("./", "") == EVIL


@pytest.mark.parametrize(
    "version",
    [
        {"GNU__sparse__major": "1", "GNU__sparse__minor": "0"},
        {"GNU__sparse__map": "0,1"},
        {"GNU__sparse__offset": "0"},
    ],
)
def test_a_sparse_file_has_its_own_name(version: dict[str, str]) -> None:
    [one] = entries(pax(GNU__sparse__name=EVIL, **version), header("GNUSparseFile.1/evil.pth"))
    assert (one.path, one.sparse) == (EVIL, True)


@pytest.mark.parametrize(
    "mode",
    [b"0004755\0", b"\x0004755\0\0", b"   4755 ", b"\x80\0\0\0\0\0\x09\xed", b"\x81\0\0\0\0\0\x09\xed",
     b"\xff\xff\xff\xff\xff\xff\xf9\xed", b"\xc1\xff\xff\xff\xff\xff\xf9\xed"],
)  # fmt: skip
def test_a_mode_is_what_engines_read_however_it_is_written(mode: bytes) -> None:
    [one] = entries(header("bin/su", mode=mode))
    assert one.mode == 0o4755


def test_a_size_may_begin_with_what_is_no_digit() -> None:
    first, second = entries(header("a", octal=b"\0" * 8 + b"3\0\0\0") + padded(b"abc"), header("b"))
    assert (first.size, second.path) == (3, "b")


def test_a_file_whose_name_ends_as_a_directory_is_a_file() -> None:
    hidden = header("import os #\n")
    [one] = entries(header(f"{EVIL}/", len(hidden)) + hidden)
    assert (one.kind, one.size) == (EntryKind.FILE, 512)
    [old] = entries(header("usr/lib/", kind=b"\0"))
    assert old.kind is EntryKind.DIRECTORY
