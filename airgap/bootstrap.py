"""The `__main__` of the one-file installer (docs/adr/0008-one-file-installer.md); elsewhere nobody runs it.

It runs on the isolated host before anything of airgap does, on whatever Python is found there: its syntax
stays that of Python 3.6, so that the wrong one is told so instead of failing to read this. Python code is
imported from the file itself. Native modules cannot be: the dynamic linker wants a file of their own, so
they are written into a private directory, loaded, and removed again before a verb begins.
"""

import contextlib
import hashlib
import importlib
import importlib.machinery
import importlib.util
import json
import os
import shutil
import sys
import tempfile
import zipimport
from typing import Any, NoReturn

FACTS = "installer.json"
"""What the file is for, its native modules in the order they are loaded, and every member's sha384."""

INTEGRITY = 6
HOST = 9


def start() -> None:
    """Check the host and the file, load what is native, then be the command line."""
    archive = zipimport.zipimporter(os.path.dirname(os.path.abspath(__file__)))
    try:
        facts = json.loads(_read(archive, FACTS))
    except (OSError, ValueError, EOFError):
        _refuse_damaged()
    _require_host(facts)
    _require_whole(archive, facts["sha384"])
    _load_native(archive, facts["native"])
    from airgap.cli import main  # noqa: PLC0415  only now can its packages be imported

    main()


def _read(archive: zipimport.zipimporter, member: str) -> bytes:
    return archive.get_data(os.path.join(archive.archive, member))


def _require_host(facts: Any) -> None:
    wanted = f"CPython {facts['python']} on {facts['platform']} with glibc {facts['glibc']} or later"
    libc = _glibc()
    found = "{} {}.{}{} on {} {} with {}".format(
        {"cpython": "CPython"}.get(sys.implementation.name, sys.implementation.name),
        sys.version_info[0],
        sys.version_info[1],
        " (free-threaded)" if "t" in sys.abiflags else "",
        sys.platform,
        os.uname().machine,
        f"glibc {libc}" if libc else "another C library",
    )
    fits = (
        sys.implementation.name == "cpython"
        and "{}.{}".format(*sys.version_info[:2]) == facts["python"]
        and "t" not in sys.abiflags
        and (sys.platform, os.uname().machine) == ("linux", facts["machine"])
        and sys.maxsize > 2**32
        and _number(libc) >= _number(facts["glibc"])
    )
    if not fits:
        remedy = f"start it with python{facts['python']}, or ask for the installer made for this host"
        _refuse(HOST, f"this installer is for {wanted}; found {found}", remedy)


def _glibc() -> str:
    """Such as `2.36`; empty where the C library is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return ""
    return version if name == "glibc" else ""


def _number(version: str) -> Any:
    return tuple(int(part) for part in version.split(".")) if version else ()


def _require_whole(archive: zipimport.zipimporter, sums: Any) -> None:
    """A medium's read errors, not an attacker: who changes a member can change its digest as well."""
    for member in sorted(sums):
        try:
            data = _read(archive, member)
        except (OSError, ValueError, EOFError):
            _refuse_damaged()
        if hashlib.sha384(data).hexdigest() != sums[member]:
            _refuse_damaged()


def _load_native(archive: zipimport.zipimporter, native: Any) -> None:
    """Import each [module, member] of `native`, from a private directory that is gone afterwards."""
    place = _executable_place()
    try:
        directory = tempfile.mkdtemp(prefix="airgap-", dir=place)
    except OSError as error:
        _refuse(HOST, f"{place}: {error.strerror}", "set TMPDIR to a directory that you may write to")
    try:
        for module, member in native:
            path = os.path.join(directory, os.path.basename(member))
            _write(path, _read(archive, member))
            _import_native(module, path)
    except OSError as error:
        _refuse(HOST, f"{directory}: {error.strerror}", "free space there, or set TMPDIR to another place")
    except ImportError as error:
        _refuse(
            HOST, f"{directory}: a native module cannot be loaded: {error}", "set TMPDIR to another place"
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _executable_place() -> str:
    """Where native code may be loaded from: hardened hosts mount /tmp with noexec."""
    for place in (os.environ.get("TMPDIR"), "/tmp", "/var/tmp", os.path.expanduser("~")):  # noqa: S108
        writable = place and os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK)
        if place and writable and not os.statvfs(place).f_flag & os.ST_NOEXEC:
            return os.path.abspath(place)
    _refuse(
        HOST,
        "expected /tmp, /var/tmp or a home directory to write to and to run code from, found none",
        "set TMPDIR to a directory on a file system that is not mounted with noexec",
    )


def _write(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "wb") as stream:
        stream.write(data)


def _import_native(module: str, path: str) -> None:
    """What `import` does, from `path`; the packages around the module come from the installer's file."""
    parent, _, name = module.rpartition(".")
    package = importlib.import_module(parent) if parent else None
    loader = importlib.machinery.ExtensionFileLoader(module, path)
    spec = importlib.util.spec_from_file_location(module, path, loader=loader)
    assert spec is not None
    sys.modules[module] = loaded = importlib.util.module_from_spec(spec)
    loader.exec_module(loaded)
    if package:
        setattr(package, name, loaded)


def _refuse_damaged() -> NoReturn:
    _refuse(INTEGRITY, "this installer is damaged", "copy it again, and compare its sha384")


def _refuse(code: int, message: str, remedy: str) -> NoReturn:
    with contextlib.suppress(OSError):  # the exit code says it, too
        os.write(2, f"airgap: {message}\n  -> {remedy}\n".encode())
    sys.exit(code)


if __name__ == "__main__":
    start()
