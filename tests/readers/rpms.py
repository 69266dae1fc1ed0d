"""rpm databases: one that rpm itself makes, and headers laid out by hand as its manual says."""

import sqlite3
import struct
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

INT32, STRING = 4, 6
NAME, VERSION, RELEASE, EPOCH, ARCHITECTURE = 1000, 1001, 1002, 1003, 1022

SPEC = """Name: {name}
Version: {version}
Release: 3.el9
{more}
Summary: A package of nothing
License: MIT
BuildArch: noarch
%description
Nothing.
%files
"""


def install(scratch: Path, packages: Mapping[str, str], **more: str) -> Path:
    """Build packages (name -> version, and more lines of its spec) and list them in a database; its file."""
    root = scratch / "root"
    root.mkdir(parents=True)
    rpm = ["rpm", "--root", str(root), "--dbpath", "/var/lib/rpm"]
    subprocess.run([*rpm, "--initdb"], check=True)
    for name, version in packages.items():
        spec = scratch / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, version=version, more=more.get(name, "")))
        build = ["rpmbuild", "-bb", "--quiet", "--define", f"_topdir {scratch / name}", str(spec)]
        subprocess.run(build, check=True, capture_output=True)
        [made] = (scratch / name).rglob("*.rpm")
        subprocess.run([*rpm, "-i", "--justdb", "--nodeps", str(made)], check=True, capture_output=True)
    return root / "var" / "lib" / "rpm" / "rpmdb.sqlite"


def listed(database: Path) -> list[str]:
    """What rpm says is in it."""
    root = database.parents[3]
    query = [
        "rpm",
        "--root",
        str(root),
        "--dbpath",
        "/var/lib/rpm",
        "-qa",
        "--qf",
        "%{NAME} %{EVR} %{ARCH}\n",
    ]
    return subprocess.run(query, check=True, capture_output=True, text=True).stdout.splitlines()


def header(entries: Sequence[tuple[int, int, bytes]]) -> bytes:
    """A header of these tags, types and values."""
    index, data = b"", b""
    for tag, kind, value in entries:
        data += bytes(-len(data) % 4)
        index += struct.pack(">4I", tag, kind, len(data), 1)
        data += value
    return struct.pack(">2I", len(entries), len(data)) + index + data


def simple(name: str = "bash", version: str = "5.1", epoch: int | None = None) -> bytes:
    entries = [(NAME, STRING, name.encode() + b"\0"), (VERSION, STRING, version.encode() + b"\0")]
    entries += [(RELEASE, STRING, b"6.el9\0"), (ARCHITECTURE, STRING, b"x86_64\0")]
    entries += [(EPOCH, INT32, struct.pack(">I", epoch))] if epoch is not None else []
    return header(entries)


def packages(path: Path, blobs: Sequence[bytes]) -> bytes:
    """A database with rpm's own table of these headers; its bytes."""
    rows = (f"INSERT INTO Packages (blob) VALUES (x'{blob.hex()}')" for blob in blobs)
    table = "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)"
    return database(path, table, *rows)


def database(path: Path, *statements: str) -> bytes:
    """What these statements make, in small pages; its bytes."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA page_size = 512")
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    return path.read_bytes()
