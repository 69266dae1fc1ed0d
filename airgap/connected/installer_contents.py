"""What is in the one-file installer: airgap's own modules that work without a network, and four packages.

The file is a zip archive behind a line that names an interpreter, as `zipapp` (PEP 441) makes them. Members
are stored, not compressed: the bytes then depend on no version of zlib, and the same modules and wheels
give the same file everywhere.
"""

import ast
import hashlib
import io
import json
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import airgap
from airgap import __version__
from airgap.errors import InputError
from airgap.model import Platform, bundle_path
from airgap.tags import WheelName, machine

SHEBANG = b"#!/usr/bin/env python3\n"
CUT_SHORT = b'"this installer is cut short: copy it again, and compare its sha384\n'
"""The zip's directory lies at its end. Without it Python takes the file for source text, and shows the first
line that is none: the missing quote is on purpose."""
FACTS = "installer.json"
"""As airgap/bootstrap.py names it, which is the file's `__main__`."""

_CARRIED = {"click", "cryptography", "tqdm"}
_OPTIONAL = {"pkcs11", "cyclonedx", "packageurl", "spdx_tools", "license_expression"}
"""For tokens and bills of materials, which a host may have besides and whose absence the verbs say;
everything else must be inside or in the standard library."""

_NETWORK = {"asyncio", "ftplib", "http", "imaplib", "poplib", "smtplib", "socket", "socketserver", "ssl"}
_NETWORK |= {"telnetlib", "urllib.error", "urllib.request", "xmlrpc"}

_NATIVE = (("_cffi_backend", "_cffi_backend."), ("cryptography.hazmat.bindings._rust", "_rust."))
"""Modules in the order they are loaded, and how the names of their files begin."""

_LEFT_OUT = ("cffi/", "tqdm/contrib/", "tqdm/asyncio.py", "tqdm/auto.py")
"""A compiler's front end, which nothing runs; bars that are sent to chat servers, or need an event loop."""

_SUFFIXES = (".py", ".so")
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The oldest time a zip archive can hold."""


def compose(python: str, platform: Platform, wheels: Mapping[str, bytes]) -> bytes:
    """The installer for a Python such as `3.12`; `wheels` maps each wheel's file name to its bytes.

    Raises InputError for a platform without manylinux wheels, and for wheels that are not such.
    """
    members = {f"{'/'.join(parts)}.py": data for parts, data in _own_files()} | dict(_own_data())
    members |= {"__main__.py": _source("airgap.bootstrap").read_bytes(), "LICENSE": _licence()}
    for name, data in sorted(wheels.items()):
        members |= dict(_wheel_members(name, data))
    facts = {
        "airgap": __version__,
        "python": python,
        "platform": str(platform),
        "machine": machine(platform),
        "glibc": oldest_glibc(wheels),
        "native": [[module, _native_member(members, begin)] for module, begin in _NATIVE],
        "sha384": {member: hashlib.sha384(data).hexdigest() for member, data in sorted(members.items())},
    }
    members[FACTS] = (json.dumps(facts, indent=1) + "\n").encode()
    return _archive(members)


def own_digest() -> str:
    """sha256 over airgap's modules in the installer: it changes whenever the file would."""
    digest = hashlib.sha256(_source("airgap.bootstrap").read_bytes() + _licence())
    for parts, data in _own_files():
        digest.update(f"{'.'.join(parts)} {len(data)}\n".encode() + data)
    for member, data in _own_data():
        digest.update(f"{member} {len(data)}\n".encode() + data)
    return digest.hexdigest()


def oldest_glibc(wheels: Iterable[str]) -> str:
    """The glibc that every one of the wheels needs at least, by its manylinux tags (PEP 600).

    Raises InputError for a name that is no wheel's.
    """
    needed = [(2, 17)]
    for name in wheels:
        platforms = [tag.split("-")[2].split("_") for tag in WheelName.parse(name).tags]
        found = [(int(p[1]), int(p[2])) for p in platforms if p[0] == "manylinux" and len(p) > 3]
        needed += [min(found)] if found else []
    return "{}.{}".format(*max(needed))


def own_modules() -> tuple[str, ...]:
    """Every module that a verb needs which needs neither a network nor a package that is not carried."""
    verbs = [f"airgap.cli.{path.stem}" for path in _directory("airgap.cli").glob("[a-z]*.py")]
    closures = [_closure(verb) for verb in verbs]
    wanted = {module for closure in closures if _self_contained(closure) for module in closure}
    return tuple(sorted(wanted))


def _self_contained(modules: Iterable[str]) -> bool:
    inside = {"airgap", *_CARRIED, *_OPTIONAL, *sys.stdlib_module_names}
    used = {name for module in modules for name in _imports(module)}
    below = {"airgap.connected", *_NETWORK}
    return all(name.partition(".")[0] in inside for name in used) and not any(
        name == other or name.startswith(f"{other}.") for name in used for other in below
    )


def _closure(start: str) -> frozenset[str]:
    """`start`, every module of airgap that it imports anywhere in its code, and the packages around them."""
    pending, found = [start], set[str]()
    while pending:
        module = pending.pop()
        if module in found or not _source(module).is_file():
            continue
        found.add(module)
        parents = module.split(".")
        pending += [".".join(parents[:end]) for end in range(1, len(parents))]
        pending += [name for name in _imports(module) if name.startswith("airgap")]
    return frozenset(found)


@cache
def _imports(module: str) -> frozenset[str]:
    """Absolute names; `from a import b` yields both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(_source(module).read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def _own_files() -> Iterator[tuple[tuple[str, ...], bytes]]:
    for module in own_modules():
        source = _source(module)
        parts = tuple(module.split("."))
        yield (*parts, "__init__") if source.name == "__init__.py" else parts, source.read_bytes()


def _own_data() -> Iterator[tuple[str, bytes]]:
    """Style sheets of pages, which lie beside the modules that read them."""
    for package in sorted({module.rpartition(".")[0] for module in own_modules()} - {""}):
        for path in sorted(_directory(package).glob("*.css")):
            yield f"{package.replace('.', '/')}/{path.name}", path.read_bytes()


def _source(module: str) -> Path:
    directory = _directory(module)
    return directory / "__init__.py" if directory.is_dir() else directory.with_suffix(".py")


def _directory(module: str) -> Path:
    return Path(airgap.__file__).parent.joinpath(*module.split(".")[1:])


def _licence() -> bytes:
    """airgap's own; the packages bring theirs in their dist-info."""
    path = Path(airgap.__file__).parents[1] / "LICENSE"
    return path.read_bytes() if path.is_file() else b"Apache-2.0\n"


def _wheel_members(wheel: str, data: bytes) -> Iterator[tuple[str, bytes]]:
    """The code of a wheel, and what it says of itself: licences, and RECORD with the publisher's hashes."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for info in archive.infolist():
                told = ".dist-info/" in info.filename
                code = info.filename.endswith(_SUFFIXES) and not info.filename.startswith(_LEFT_OUT)
                if not info.is_dir() and (told or code):
                    yield bundle_path(info.filename), archive.read(info)
    except zipfile.BadZipFile as error:
        raise InputError(f"{wheel}: expected a wheel, found no zip archive: {error}") from None


def _native_member(members: Iterable[str], begin: str) -> str:
    found = [member for member in members if member.rpartition("/")[2].startswith(begin)]
    if len(found) != 1 or not found[0].endswith(".so"):
        raise InputError(f"expected one native module {begin}*so in the wheels, found {found or 'none'}")
    return found[0]


def _archive(members: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    out.write(SHEBANG + CUT_SHORT)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # Unix, wherever it is made
            info.external_attr = 0o100644 << 16
            archive.writestr(info, data)
    return out.getvalue()
