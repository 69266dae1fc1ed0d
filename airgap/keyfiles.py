"""Holders' key files on disk: read where only their owner can, written once and never over another.

A passphrase, and the PIN of a token, comes from a file (AIRGAP_PASSPHRASE_FILE), an inherited descriptor
(--passphrase-fd) or a prompt, never from argv or the environment itself, which other processes can read.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from itertools import repeat
from pathlib import Path

from airgap.errors import InputError, TrustError
from airgap.store import host_errors
from airgap.trust.keys import Holder, HolderSecret, Signer
from airgap.trust.pem import (
    MAX_KEY_FILE,
    needs_passphrase,
    parse_holder,
    parse_secret,
    render_holder,
    render_secret,
)
from airgap.trust.token import TokenSecret

PASSPHRASE_FILE = "AIRGAP_PASSPHRASE_FILE"  # noqa: S105 (a variable's name)

MAX_PASSPHRASES = 64 * 1024
"""Bytes of a passphrase file."""

Ask = Callable[[str], str]
"""Prompts a person with a question; `airgap.cli.passphrase` has the terminal's form."""


class PassphraseSource:
    """Gives the passphrase of one key file after the other, and behind it the PIN where one is needed.

    A file or descriptor holds one line for all keys, or one line for each passphrase and each PIN in the
    order in which the keys are named. `ask` is used when there is neither; `ask_pin` where a PIN is
    to be asked for in another way.
    """

    def __init__(
        self,
        ask: Ask,
        *,
        ask_pin: Ask | None = None,
        fd: int | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._ask = ask
        self._ask_pin = ask_pin or ask
        self._lines: Iterator[bytes] | None = None
        self._one_for_all = False
        self._served = 0
        file = (environ or {}).get(PASSPHRASE_FILE, "")
        if fd is not None:
            self._take(_read_lines(fd, f"descriptor {fd}"))
        elif file:
            self._take(_read_lines(file, f"{PASSPHRASE_FILE}={file}"))

    def _take(self, lines: list[bytes]) -> None:
        self._one_for_all = len(lines) == 1
        self._lines = repeat(lines[0]) if self._one_for_all else iter(lines)

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
        self._served += 1
        return passphrase

    def next_pin(self, question: str) -> str:
        """The PIN of a token. Raises TrustError as `next`, and when the one line given has served already.

        A passphrase tried as a PIN would tell it to the token, and cost one of few tries.
        """
        if self._lines is None:
            return self._ask_pin(question)
        if self._one_for_all and self._served:
            raise TrustError(
                f"{question}: expected a line of its own, found one line for all",
                remedy="write one line for each passphrase and each PIN, in the order of --key",
            )
        try:
            return self.next(question).decode()
        except UnicodeDecodeError:
            raise TrustError(f"{question}: the line given is not UTF-8") from None


def load_secret(path: Path, passphrases: PassphraseSource) -> Signer:
    """Whoever signs with a `.key` file: the private keys in it, or one of them in the token it names.

    Raises InputError when it is not one, TrustError when others may read it or the passphrase is wrong;
    for a token also what `airgap.pkcs11.open_signer` raises.
    """
    secret = read_secret(path, passphrases)
    if isinstance(secret, HolderSecret):
        return secret
    from airgap.pkcs11 import open_signer  # noqa: PLC0415 - needs a package that only such keys need

    return open_signer(secret, passphrases.next_pin, str(path))


def read_secret(path: Path, passphrases: PassphraseSource) -> HolderSecret | TokenSecret:
    """What is in a `.key` file, without a look at the token it may name. Raises as `load_secret`."""
    data = _read_key_file(path, private=True)
    passphrase = None
    if needs_passphrase(data, str(path)):
        passphrase = passphrases.next(f"passphrase of {path}")
    return parse_secret(data, passphrase, str(path))


def load_holder(path: Path) -> Holder:
    """The public keys in a `.pub` file. Raises InputError when it is not one."""
    return parse_holder(_read_key_file(path, private=False), str(path))


def new_key_paths(name: str, directory: Path) -> tuple[Path, Path]:
    """Where the `.key` and the `.pub` file of a new holder go. Raises InputError when either exists."""
    key, pub = directory / f"{name}.key", directory / f"{name}.pub"
    for path in (key, pub):
        if os.path.lexists(path):
            raise InputError(
                f"{path} exists already",
                remedy="a key that signed something is never overwritten: choose another name or directory",
            )
    return key, pub


def write_holder(
    secret: HolderSecret | TokenSecret, directory: Path, passphrase: bytes | None
) -> tuple[Path, Path]:
    """Write `<name>.key` (mode 0600) and `<name>.pub`, both new; returns their paths in that order.

    Raises InputError when either exists, HostError when they cannot be written.
    """
    key, pub = new_key_paths(secret.holder.name, directory)
    private, public = render_secret(secret, passphrase), render_holder(secret.holder)
    with host_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _write_new(key, private, 0o600)
        _write_new(pub, public, 0o644)
    return key, pub


def write_public(holder: Holder, path: Path) -> None:
    """Write a `.pub` file, new or just as it is there already. Raises InputError, HostError."""
    data = render_holder(holder)
    if os.path.lexists(path):
        if _read_key_file(path, private=False) == data:
            return
        raise InputError(
            f"{path} exists already, with other content",
            remedy="move it away, or name another file with --out",
        )
    with host_errors(path):
        _write_new(path, data, 0o644)


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
