"""Types are told by content: what writers of each format write, and what only looks like it."""

import bz2
import collections
import gzip
import importlib.util
import io
import lzma
import pickle
import py_compile
import re
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.audit import types
from airgap.audit.types import HEAD, sniff
from tests.audit.faults import HARMLESS, MALICIOUS, safetensors
from tests.readers.images import tar


def told(data: bytes) -> str:
    return sniff(data[:HEAD], len(data))


@pytest.mark.parametrize("begin", [b"\x88c", b"\x80\x02c"])
def test_escapes_that_there_are_none_of_raise_nothing(begin: bytes) -> None:
    """pickletools warns of them, and here warnings raise."""
    sniff(data := begin + b"\\\xe8\nx\n" + b"\0" * 99, len(data), "weights.bin")


@given(st.sampled_from(types._MAGIC), st.sampled_from(types._MAGIC), st.binary(max_size=300), st.booleans())
def test_the_first_of_the_table_that_fits_decides(
    one: tuple[int, bytes, str], other: tuple[int, bytes, str], data: bytes, both: bool
) -> None:
    head = bytearray(data.ljust(300, b" "))
    for offset, magic, _ in (one, other)[: 1 + both]:
        head[offset : offset + len(magic)] = magic
    first = next((name for offset, magic, name in types._MAGIC if head.startswith(magic, offset)), None)
    if first and not types.is_pickle(bytes(head), whole=True):
        assert sniff(bytes(head), len(head)) == first


def zipped() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a", b"b")
    return out.getvalue()


def tarred() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return out.getvalue()


KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"


@pytest.mark.parametrize(
    ("data", "type"),
    [
        (b"", "empty"),
        (zipped(), "zip"),
        (tarred(), "tar"),
        (gzip.compress(b"x", mtime=0), "gzip"),
        (lzma.compress(b"x"), "xz"),
        (bz2.compress(b"x"), "bzip2"),
        (safetensors(), "safetensors"),
        (b"GGUF\x03\0\0\0", "gguf"),
        (b"\x89HDF\r\n\x1a\n" + bytes(90), "hdf5"),
        (b"\x93NUMPY\x01\0v\0{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }", "numpy"),
        (b"\x93NUMPY\x01\0v\0{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", "numpy-object"),
        (b"MZ" + bytes(58) + (64).to_bytes(4, "little") + b"PE\0\0", "pe"),
        (b"MZ is how this text begins, and it is none: " + bytes(40), "data"),
        (b"\xca\xfe\xba\xbe\0\0\0\x34", "java-class"),
        (b"\xca\xfe\xba\xbe\0\0\0\x02", "mach-o"),
        (b"#!/bin/sh\n", "script"),
        (b"#! what a heading\n", "text"),
        (b'{"a": 1}', "json"),
        (b"  \n[1]", "json"),
        (b"[\n  true]", "json"),
        (b'["a"]', "json"),
        (b"[]", "json"),
        (b"[[1], [2]]", "json"),
        (b"[console_scripts]\nalpha = alpha:main\n", "text"),
        (b"<!DOCTYPE html>", "markup"),
        ("naïve text\n".encode(), "text"),
        ("naïve text\n".encode("latin-1") + b"more and more", "data"),
        (b"a\0b", "data"),
        (KEY, "private-key"),
        (b"a certificate first\n" + KEY, "private-key"),
        (MALICIOUS, "pickle"),
        (HARMLESS, "pickle"),
        (b"certifi\nrequests\n", "text"),
        (b"certifi\n" + b"idna\nurllib3\n" * 2000, "text"),
        (b"(see the notes, and then the other notes.)\n" * 300, "text"),
        (b"import os\n", "text"),
        (b"\x80\x02", "data"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",
)
def test_types(data: bytes, type: str) -> None:
    assert told(data) == type


def test_elf_and_bytecode_of_this_machine(tmp_path: Path) -> None:
    assert told(Path("/proc/self/exe").read_bytes()[:HEAD]) == "elf"
    (tmp_path / "a.py").write_text("x = 1\n")
    py_compile.compile(str(tmp_path / "a.py"), str(tmp_path / "a"))
    assert told((tmp_path / "a").read_bytes()) == "python-bytecode"
    assert importlib.util.MAGIC_NUMBER[2:] == b"\r\n"


values = st.recursive(
    st.none() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("data", [MALICIOUS, HARMLESS])
def test_a_pickle_is_one_though_it_is_an_archive_too(data: bytes) -> None:
    """As the first name of a tar, which loaders of pickles begin with."""
    archive = tar([(data.decode("utf-8", "surrogateescape"), b"text")], tarfile.GNU_FORMAT)
    assert archive[257:262] == b"ustar"
    assert told(archive) == "pickle"
    assert told(tar([("cos", b"text")])) == "tar"


@given(values, st.integers(2, 5))
def test_every_pickle_of_a_protocol_with_a_header_is_one(value: object, protocol: int) -> None:
    assert told(pickle.dumps(value, protocol)) == "pickle"


@pytest.mark.parametrize("protocol", [0, 1])
@pytest.mark.parametrize("value", [collections.OrderedDict(a=1), {"weight": [1.0, 2.0]}, [1, 2], len])
def test_old_pickles_of_what_is_worth_loading(value: object, protocol: int) -> None:
    assert told(pickle.dumps(value, protocol)) == "pickle"


def test_a_pickle_larger_than_what_is_looked_at_is_one() -> None:
    assert told(pickle.dumps({"weights": bytes(100_000)})) == "pickle"
    many = collections.OrderedDict((str(n), float(n)) for n in range(5000))
    for protocol in range(5):
        assert told(pickle.dumps(many, protocol)) == "pickle"
    assert told(pickle.dumps(dict(many), 1)) == "pickle"


@given(st.text(min_size=1))
def test_text_is_no_pickle(text: str) -> None:
    assert sniff(text.encode("utf-8", "ignore")[:HEAD], HEAD) not in ("pickle", "elf")


@given(
    st.builds(
        lambda first, lines, rest: first + b"\n".join(lines) + rest,
        st.sampled_from([b"c", b"i"]),
        st.lists(st.text("ab_.09 é\r", max_size=6).map(lambda line: line.encode("latin-1")), max_size=4),
        st.sampled_from([b"", b"\n)R.", b"\n(S'x'\ntR.", b"\n\xff\x00"]),
    ),
    st.booleans(),
)
def test_a_text_is_told_from_an_import_by_its_first_line_as_by_all_of_it(head: bytes, whole: bool) -> None:
    quick = types.is_pickle(head, whole=whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(types, "_IMPORTS_FIRST", re.compile(b""))
        assert quick == types.is_pickle(head, whole=whole)
