"""Holders' key files on disk: read where only their owner can, written once and never over another.

A passphrase comes from a file (AIRGAP_PASSPHRASE_FILE), an inherited descriptor (--passphrase-fd) or a
prompt, never from argv or the environment itself, which other processes can read.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from pathlib import Path

from airgap.errors import InputError, TrustError
from airgap.store import host_errors
from airgap.trust.keys import Holder, HolderSecret
from airgap.trust.pem import (
    MAX_KEY_FILE,
    needs_passphrase,
    parse_holder,
    parse_secret,
    render_holder,
    render_secret,
)

PASSPHRASE_FILE = "AIRGAP_PASSPHRASE_FILE"  # noqa: S105 (a variable's name)

MAX_PASSPHRASES = 64 * 1024
"""Bytes of a passphrase file."""

Ask = Callable[[str], str]
"""Prompts a person with a question; `airgap.cli.passphrase` has the terminal's form."""


class PassphraseSource:
    """Gives the passphrase of one key file after the other.

    A file or descriptor holds one line for all keys, or one line for each encrypted key in the order
    in which the keys are named. `ask` is used when there is neither.
    """

    def __init__(self, ask: Ask, *, fd: int | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._ask = ask
        self._lines: Iterator[bytes] | None = None
        file = (environ or {}).get(PASSPHRASE_FILE, "")
        if fd is not None:
            self._lines = _in_turn(_read_lines(fd, f"descriptor {fd}"))
        elif file:
            self._lines = _in_turn(_read_lines(file, f"{PASSPHRASE_FILE}={file}"))

    def next(self, question: str) -> bytes:
        """Raises TrustError when there is no further line, or it is empty."""
        if self._lines is None:
            return self._ask(question).encode()
        passphrase = next(self._lines, b"")
        if not passphrase:
            raise TrustError(
                f"{question}: none was given",
                remedy="write one line for all keys, or one for each encrypted key in the order of --key",
            )
        return passphrase


def load_secret(path: Path, passphrases: PassphraseSource) -> HolderSecret:
    """The private keys in a `.key` file.

    Raises InputError when it is not one, TrustError when others may read it or the passphrase is wrong.
    """
    data = _read_key_file(path, private=True)
    passphrase = None
    if needs_passphrase(data, str(path)):
        passphrase = passphrases.next(f"passphrase of {path}")
    return parse_secret(data, passphrase, str(path))


def load_holder(path: Path) -> Holder:
    """The public keys in a `.pub` file. Raises InputError when it is not one."""
    return parse_holder(_read_key_file(path, private=False), str(path))


def write_holder(secret: HolderSecret, directory: Path, passphrase: bytes | None) -> tuple[Path, Path]:
    """Write `<name>.key` (mode 0600) and `<name>.pub`, both new; returns their paths in that order.

    Raises InputError when either exists, HostError when they cannot be written.
    """
    name = secret.holder.name
    key, pub = directory / f"{name}.key", directory / f"{name}.pub"
    for path in (key, pub):
        if os.path.lexists(path):
            raise InputError(
                f"{path} exists already",
                remedy="a key that signed something is never overwritten: choose another name or directory",
            )
    private, public = render_secret(secret, passphrase), render_holder(secret.holder)
    with host_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _write_new(key, private, 0o600)
        _write_new(pub, public, 0o644)
    return key, pub


def _write_new(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    with open(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _read_key_file(path: Path, *, private: bool) -> bytes:
    try:
        # A FIFO in place of the file must not hang the reader.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as stream:
            mode = os.fstat(descriptor).st_mode
            data = stream.read(MAX_KEY_FILE + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{path}: expected a key file, found something that is no regular file")
    if private and mode & 0o077:
        raise TrustError(
            f"{path}: expected a key file that only its owner can read, found mode {stat.S_IMODE(mode):04o}",
            remedy=f"chmod 600 {path}; if others could have read it, make new keys",
        )
    return data


def _in_turn(lines: list[bytes]) -> Iterator[bytes]:
    return repeat(lines[0]) if len(lines) == 1 else iter(lines)


def _read_lines(source: int | str, what: str) -> list[bytes]:
    try:
        # The descriptor stays the caller's.
        with open(source, "rb", closefd=isinstance(source, str)) as stream:
            data = stream.read(MAX_PASSPHRASES + 1)
    except OSError as error:
        raise InputError(f"{what}: no passphrase can be read: {error.strerror}") from None
    if len(data) > MAX_PASSPHRASES:
        raise InputError(f"{what}: larger than {MAX_PASSPHRASES} bytes, which no passphrases are")
    return data.replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
