"""The one strict reader of JSON and TOML from outside, and of the fields inside them.

Refused in JSON (RFC 8259 leaves these open, readers differ on them, and differing readers are how
signed documents get two meanings): a byte order mark, duplicate keys, NaN and Infinity, floats
where they are not asked for, integers beyond 2^63-1, a negative zero, lone surrogates, and deep nesting.
"""

import base64
import binascii
import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn, TypeVar

from airgap.errors import InputError

MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes: the default cap on a document; the lock of a very large bundle is below 16 MiB."""

MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1

MAX_PROBLEMS = 100
"""How many problems of one document are listed: more help nobody, and could fill the memory."""

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

T = TypeVar("T")


def parse_json(
    data: bytes, what: str, *, max_bytes: int = MAX_DOCUMENT, floats: bool = False, python: bool = False
) -> Json:
    """Parse `data` strictly. `what` names the document in errors.

    `floats` allows them; `python` allows every number that Python's json module writes, NaN and Infinity
    included, and reads integers beyond 2^63-1 as floats: hubs are full of such configs.
    Raises InputError when the bytes are too many, not UTF-8, or break any rule of this module.
    """
    text = _text(data, what, max_bytes)
    _cap_depth(data, what)

    def constant(token: str) -> float:
        if not python:
            raise InputError(f"{what}: {token} is not allowed in JSON")
        return float(token)

    def no_float(token: str) -> NoReturn:
        raise InputError(f"{what}: expected an integer, found {token[:40]}")

    def finite(token: str) -> float:
        number = float(token)
        if math.isinf(number):
            raise InputError(f"{what}: the number {token[:24]} is beyond what a float holds")
        return number

    def integer(digits: str) -> int | float:
        if digits == "-0":  # an integer to some readers, a float to others
            raise InputError(f"{what}: expected an integer, found -0")
        if len(digits) > 20 or abs(int(digits)) > MAX_INTEGER:
            if python:
                return finite(digits)
            raise InputError(f"{what}: the integer {digits[:24]} is beyond 2^63-1")
        return int(digits)

    def unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
        table = dict(pairs)
        if len(table) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice = next(key for key, count in counts.items() if count > 1)
            raise InputError(f"{what}: the key {twice[:80]!r} occurs twice in one object")
        return table

    try:
        value: Json = json.loads(
            text,
            object_pairs_hook=unique,
            parse_constant=constant,
            parse_int=integer,
            parse_float=finite if floats or python else no_float,
        )
    except json.JSONDecodeError as error:
        raise InputError(f"{what}: not JSON, line {error.lineno} column {error.colno}: {error.msg}") from None
    if "\\u" in text:  # UTF-8 holds no surrogates, so an escape is the only way to write one
        _refuse_surrogates(value, what)
    return value


def parse_toml(data: bytes, what: str, *, max_bytes: int = MAX_DOCUMENT) -> dict[str, object]:
    """Parse TOML 1.0 (`tomllib` refuses duplicate keys itself). Raises InputError."""
    text = _text(data, what, max_bytes)
    _cap_depth(data, what)
    if _LONG_KEY.search(data):
        raise InputError(f"{what}: a key of {MAX_DEPTH} parts or more")
    import tomllib  # noqa: PLC0415  the isolated side reads none: every verb starts sooner

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{what}: not TOML: {error}") from None
    except ValueError:  # what int() says to thousands of decimal digits
        raise InputError(f"{what}: a number is too long") from None
    except RecursionError:
        raise InputError(f"{what}: nested too deeply") from None


def canonical_json(value: object) -> bytes:
    """The bytes airgap writes for a signed or addressed document: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def parse_base64(text: str, what: str) -> bytes:
    """Standard base64 with padding (RFC 4648 section 4), one spelling for each value. Raises InputError."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        data = b""
    # Python ignores set bits behind the last byte; a signed document has no second spelling.
    if base64.b64encode(data).decode() != text:
        raise InputError(f"{what}: not base64 as RFC 4648 section 4 writes it")
    return data


def read_capped(path: Path, *, max_bytes: int = MAX_DOCUMENT) -> bytes:
    """The bytes of a document a user named. Raises InputError when absent, too large or unreadable.

    A shell's `<(...)` is read as a file is; a FIFO that has a name of its own is refused.
    """
    try:
        # Opening a FIFO without a writer, or reading it, would wait for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as stream:
            if stat.S_ISFIFO(os.fstat(descriptor).st_mode) and not _PIPE.fullmatch(os.path.abspath(path)):
                raise InputError(f"{path}: expected a file, found a FIFO", remedy="name the file itself")
            os.set_blocking(descriptor, True)
            data = stream.read(max_bytes + 1)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > max_bytes:
        raise InputError(f"{path}: larger than {max_bytes} bytes, which no such document is")
    return data


def _text(data: bytes, what: str, max_bytes: int) -> str:
    if len(data) > max_bytes:
        raise InputError(f"{what}: {len(data)} bytes, more than the {max_bytes} allowed")
    if data.startswith(b"\xef\xbb\xbf"):
        raise InputError(f"{what}: begins with a byte order mark; save it as plain UTF-8")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: not UTF-8 at byte {error.start}") from None


_PIPE = re.compile(r"/dev/(fd/[0-9]+|stdin)|/proc/[^/]+/(task/[^/]+/)?fd/[0-9]+")
"""What a shell calls an open pipe; its other end is there already."""


# The closing quote is optional and nothing backtracks, so a string without an end is scanned once.
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)

_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _cap_depth(data: bytes, what: str) -> None:
    """Judge nesting before any recursive parser sees the bytes."""
    # Without an escape every second part between quotes is a string: ten times as fast, and the usual case.
    bare = _STRING.sub(b"", data) if b"\\" in data else b"".join(data.split(b'"')[::2])
    depth = 0
    for bracket in bare.translate(None, _NO_BRACKETS):
        if bracket in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InputError(f"{what}: nested more than {MAX_DEPTH} levels deep")
        else:
            depth -= 1


# tomllib takes quadratic time over the parts of one dotted key, and each nests one table more. What
# looks like such a key inside a string or comment is refused too; nobody writes 63 words each with a dot.
_PART = rb"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rb"(?<![\w-])(?:%b\.[ \t]*+){%d}" % (_PART, MAX_DEPTH - 1))

_SURROGATE = re.compile("[\ud800-\udfff]")


def _refuse_surrogates(value: Json, what: str) -> None:
    stack: list[Json] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
        elif isinstance(item, str) and not item.isascii() and _SURROGATE.search(item):
            raise InputError(f"{what}: a string holds a lone surrogate, which is not Unicode")


class Fields:
    """One table of a decoded document, read key by key; every problem is kept, none stops the reading.

    A getter returns a usable stand-in after it recorded a problem, so that one run reports all of
    them. Whoever began the reading calls `done()` on each table (unknown keys) and then `raise_if_bad`.
    """

    def __init__(self, value: object, path: str = "", problems: list[str] | None = None) -> None:
        self.path = path
        self.problems: list[str] = [] if problems is None else problems
        self._table: Mapping[str, object] = {}
        self._read: set[str] = set()
        self._asked: set[str] = set()
        """Keys that may be there; whoever finds one reads it."""
        if isinstance(value, dict):
            self._table = value
        else:
            self.problem("", f"expected a table, found {_kind(value)}")

    def problem(self, key: str, message: str) -> None:
        """Record that the value under `key` ('' for the table itself) is wrong, up to `MAX_PROBLEMS`."""
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{self._at(key) or 'document'}: {message}")
        elif len(self.problems) == MAX_PROBLEMS:
            self.problems.append("further problems are not listed")

    def has(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._table

    def raw(self, key: str) -> object:
        """The value as it was decoded, None when absent: for keys of which several shapes are in use."""
        self._read.add(key)
        return self._table.get(key)

    def text(
        self, key: str, *, default: str | None = None, pattern: str = "", expected: str = "a string"
    ) -> str:
        """A string; with `pattern`, one that matches it whole."""
        value = self._take(key, default, expected)
        if value is None:
            return ""
        if not isinstance(value, str) or (pattern and not re.fullmatch(pattern, value)):
            shown = repr(value) if isinstance(value, str) else _kind(value)
            self.problem(key, f"expected {expected}, found {shown[:80]}")
            return ""
        return value

    def optional_text(self, key: str, *, pattern: str = "", expected: str = "a string") -> str | None:
        return self.text(key, pattern=pattern, expected=expected) if self.has(key) else None

    def parsed(self, key: str, parse: Callable[[str], T], stand_in: T, *, default: str | None = None) -> T:
        """A string turned into a value by `parse`; its InputError becomes a problem here."""
        before = len(self.problems)
        value = self.text(key, default=default)
        if len(self.problems) > before:
            return stand_in
        try:
            return parse(value)
        except InputError as error:
            self.problem(key, error.message)
            return stand_in

    def integer(self, key: str, *, default: int | None = None, minimum: int = 0) -> int:
        value = self._take(key, default, "an integer")
        if value is None:
            return minimum
        if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
            shown = repr(value) if isinstance(value, int) else _kind(value)
            self.problem(key, f"expected an integer of at least {minimum}, found {shown:.40}")
            return minimum
        if value > MAX_INTEGER:
            self.problem(key, "beyond 2^63-1")
            return minimum
        return value

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self._take(key, default, "true or false")
        if not isinstance(value, bool):
            self.problem(key, f"expected true or false, found {_kind(value)}")
            return default
        return value

    def texts(self, key: str, *, default: Sequence[str] | None = ()) -> tuple[str, ...]:
        """A list of strings; `default=None` makes it required."""
        value = self._take(key, None if default is None else list(default), "a list of strings")
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.problem(key, f"expected a list of strings, found {_kind(value)}")
            return ()
        return tuple(value)

    def integers(self, key: str) -> tuple[int, ...]:
        """A required list of integers, none negative."""
        value = self._take(key, None, "a list of integers")
        if value is None:
            return ()
        if not isinstance(value, list) or not all(type(item) is int and item >= 0 for item in value):
            self.problem(key, f"expected a list of integers of at least 0, found {_kind(value)}")
            return ()
        return tuple(value)

    def table(self, key: str) -> "Fields":
        """A required table inside this one."""
        value = self._take(key, None, "a table")
        return Fields({} if value is None else value, self._at(key), self.problems)

    def optional_table(self, key: str) -> "Fields | None":
        return self.table(key) if self.has(key) else None

    def tables(self, key: str) -> "list[Fields]":
        """A list of tables; absent means none."""
        value = self._take(key, [], "a list of tables")
        if not isinstance(value, list):
            self.problem(key, f"expected a list of tables, found {_kind(value)}")
            return []
        return [Fields(item, f"{self._at(key)}[{index}]", self.problems) for index, item in enumerate(value)]

    def all_keys(self) -> tuple[str, ...]:
        """The keys of a table whose keys are data; reading them this way makes none unknown."""
        self._read.update(self._table)
        return tuple(self._table)

    def one_of(self, *keys: str) -> None:
        """Record a problem unless exactly one of `keys` is present."""
        present = [key for key in keys if self.has(key)]
        if len(present) != 1:
            found = " and ".join(present) or "none"
            self.problem("", f"expected exactly one of {', '.join(keys)}; found {found}")

    def done(self) -> None:
        """Record every key that nobody asked for."""
        known = ", ".join(sorted(self._read | self._asked)) or "none"
        for key in self._table:
            if key not in self._read:
                self.problem(key, f"unknown key; known here: {known}")

    def raise_if_bad(self, what: str) -> None:
        """Raise one InputError that names every problem."""
        if self.problems:
            count = len(self.problems)
            number = f"{count}" if count <= MAX_PROBLEMS else f"more than {MAX_PROBLEMS}"
            raise InputError(f"{what}: {number} problem{'s' if count > 1 else ''}", problems=self.problems)

    def _take(self, key: str, default: object, expected: str) -> object:
        self._read.add(key)
        if key in self._table:
            if self._table[key] is None:
                self.problem(key, f"expected {expected}, found null")
                return default
            return self._table[key]
        if default is None:
            self.problem(key, f"missing; expected {expected}")
        return default

    def _at(self, key: str) -> str:
        # Cut, because the key may be hostile and is repeated for everything below it.
        key = key if len(key) <= 80 else f"{key[:79]}…"
        return ".".join(part for part in (self.path, key) if part)


def read_document(data: bytes, what: str, build: Callable[[Fields], T]) -> T:
    """Parse strict JSON and build a value from its fields, all problems in one InputError."""
    fields = Fields(parse_json(data, what))
    fields.raise_if_bad(what)
    value = build(fields)
    fields.done()
    fields.raise_if_bad(what)
    return value


def _kind(value: object) -> str:
    names = {dict: "a table", list: "a list", str: "a string", bool: "a boolean", int: "an integer"}
    return names.get(type(value), type(value).__name__)
