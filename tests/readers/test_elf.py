"""What shared objects need: real ones against readelf and this host's loader, made ones field by field."""

import contextlib
import os
import re
import shutil
import struct
import subprocess
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import InputError
from airgap.readers.elf import Elf, read_elf
from airgap.readers.source import BytesSource, FileSource
from tests.readers.objects import dynamic, elf, needed_versions

STRINGS = b"\0libc.so.6\0libx.so.12\0GLIBC_2.2.5\0GLIBC_2.34\0GLIBC_2.9\0X_1\0me.so\0$ORIGIN\0"


def offset(text: str) -> int:
    return STRINGS.index(b"\0" + text.encode() + b"\0") + 1


def made(order: str = "<", wide: bool = True) -> bytes:
    entries = [
        (1, offset("libc.so.6")),
        (1, offset("libx.so.12")),
        (14, offset("me.so")),
        (29, offset("$ORIGIN")),
    ]
    versions = [
        (offset("libc.so.6"), [offset(f"GLIBC_{v}") for v in ("2.2.5", "2.34", "2.9")]),
        (offset("libx.so.12"), [offset("X_1")]),
    ]
    parts = [
        (".dynstr", 3, STRINGS, 0),
        (".dynamic", 6, dynamic(entries, order, wide), 1),
        (".gnu.version_r", 0x6FFFFFFE, needed_versions(versions, order), 1),
        (".bss", 8, b"", 0),
    ]
    return elf(parts, order=order, wide=wide, machine=62 if order == "<" else 22)


def parsed(data: bytes) -> Elf:
    return read_elf(BytesSource(data), "test.so")


@pytest.mark.parametrize(("order", "wide"), [("<", True), (">", True), ("<", False), (">", False)])
def test_every_layout(order: str, wide: bool) -> None:
    found = parsed(made(order, wide))
    assert found.machine == ("x86_64" if order == "<" else "s390x")
    assert (found.needed, found.soname) == (("libc.so.6", "libx.so.12"), "me.so")
    assert found.search_path == ("$ORIGIN",)
    assert found.versions == {"libc.so.6": ("GLIBC_2.2.5", "GLIBC_2.34", "GLIBC_2.9"), "libx.so.12": ("X_1",)}
    assert found.glibc == "2.34"  # 34 is more than 9
    assert [section.name for section in found.sections][1:3] == [".dynstr", ".dynamic"]


def native_modules() -> list[Path]:
    import cryptography.hazmat.bindings._rust as rust

    libraries = sysconfig.get_config_var("LIBDIR")
    found = [Path(rust.__file__), *Path(str(libraries)).rglob("libssl.so.3"), *Path("/bin").glob("bash")]
    return [path for path in found if path.is_file()]


def test_real_objects_fit_this_host() -> None:
    here = tuple(map(int, str(os.confstr("CS_GNU_LIBC_VERSION")).split()[1].split(".")))
    modules = native_modules()
    assert modules
    for path in modules:
        with FileSource(path) as source:
            found = read_elf(source, path.name)
        assert any(name.startswith("libc.so") for name in found.needed)
        assert (2, 2) <= tuple(map(int, found.glibc.split("."))) <= here
        assert found.machine == os.uname().machine


def test_agrees_with_readelf() -> None:
    if not shutil.which("readelf"):
        pytest.skip("not installed: readelf (binutils); nothing else needs it")
    for path in native_modules():
        said = subprocess.run(["readelf", "-dVW", path], capture_output=True, text=True, check=True).stdout
        with FileSource(path) as source:
            found = read_elf(source, path.name)
        assert list(found.needed) == re.findall(r"NEEDED.*\[(.+)\]", said)
        names = {name for names in found.versions.values() for name in names}
        assert names == set(re.findall(r"Name: (\S+)  Flags", said.partition(".gnu.version_r")[2]))


def test_refuses_what_is_no_elf() -> None:
    for data in (b"", b"\x7fELF", b"MZ" + bytes(100), made()[:63]):
        with pytest.raises(InputError, match="expected"):
            parsed(data)


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (4, b"\3", "class and data"),
        (58, b"\1\0", "section headers of 64 bytes"),
        (60, b"\xff\xff", "65535 sections"),
        (40, b"\xff\xff\xff\0", "expected bytes"),
    ],
)
def test_refuses_tables_outside_of_the_file(at: int, value: bytes, message: str) -> None:
    data = made()
    with pytest.raises(InputError, match=message):
        parsed(data[:at] + value + data[at + len(value) :])


def test_a_name_outside_of_its_table_is_refused() -> None:
    parts = [(".dynstr", 3, STRINGS, 0), (".dynamic", 6, dynamic([(1, 10_000)]), 1)]
    with pytest.raises(InputError, match="a name leads outside"):
        parsed(elf(parts))
    with pytest.raises(InputError, match="expected a string table"):
        parsed(elf([(".dynamic", 6, dynamic([(1, 1)]), 9)]))


def test_versions_that_claim_to_be_many_are_refused() -> None:
    """A library whose one version says that it is followed by itself, 65 535 times; and many libraries."""
    one = struct.pack("<2H3I", 1, 0xFFFF, 1, 16, 32) + struct.pack("<I2H2I", 0, 0, 2, 1, 0)
    many = needed_versions([(1, [1])] * 10_001)
    for data in (one, many):
        with pytest.raises(InputError, match="more than 10000 symbol versions"):
            parsed(elf([(".dynstr", 3, STRINGS, 0), (".gnu.version_r", 0x6FFFFFFE, data, 1)]))
    with pytest.raises(InputError, match="more than 10000 libraries"):
        parsed(elf([(".dynstr", 3, STRINGS, 0), (".dynamic", 6, dynamic([(1, 1)] * 10_002), 1)]))


@given(st.integers(0, len(made()) - 1), st.integers(1, 255))
@settings(max_examples=300)
def test_a_changed_byte_is_read_or_an_input_error(at: int, flip: int) -> None:
    data = bytearray(made())
    data[at] ^= flip
    with contextlib.suppress(InputError):
        assert parsed(bytes(data)).sections
