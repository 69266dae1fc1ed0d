"""What a file is by its first bytes, never by its name.

A small table of our own and no libmagic: that one needs a C library whose parsers meet hostile bytes, and
knows a thousand formats where an audit has to tell a few dozen apart, above all what runs from what does
not. Offsets and values are those of the formats' own specifications.
"""

import pickletools
import re
import zlib
from collections.abc import Callable

HEAD = 4096
"""Bytes from the start of a file that decide."""

MAX_AHEAD = 2 * 1024 * 1024
"""The same under names that loaders unpickle, where opcodes go on behind `HEAD`."""

EXECUTABLES = frozenset({"elf", "pe", "mach-o", "java-class", "wasm", "script", "python-bytecode"})
"""What a machine or an interpreter runs as it is."""

PICKLES = frozenset({"pickle", "numpy-object"})

PRIVATE_KEY = "private-key"

PICKLE_NAMES = (".bin", ".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".joblib", ".dill", ".dat")
"""Names that loaders unpickle whatever the first bytes are."""

_MAGIC: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x7fELF", "elf"),
    (0, b"PK\x03\x04", "zip"),
    (0, b"PK\x05\x06", "zip"),
    (0, b"\x1f\x8b", "gzip"),
    (0, b"\x28\xb5\x2f\xfd", "zstd"),
    (0, b"\xfd7zXZ\x00", "xz"),
    (0, b"BZh", "bzip2"),
    (257, b"ustar", "tar"),
    (0, b"7z\xbc\xaf\x27\x1c", "7z"),
    (0, b"Rar!\x1a\x07", "rar"),
    (0, b"!<arch>\n", "ar"),
    (0, b"\xed\xab\xee\xdb", "rpm"),
    (0, b"hsqs", "squashfs"),
    (0, b"GGUF", "gguf"),
    (0, b"\x89HDF\r\n\x1a\n", "hdf5"),
    (4, b"TFL3", "tflite"),
    (0, b"PAR1", "parquet"),
    (0, b"SQLite format 3\x00", "sqlite"),
    (0, b"\x00asm", "wasm"),
    (0, b"\xfe\xed\xfa\xce", "mach-o"),
    (0, b"\xfe\xed\xfa\xcf", "mach-o"),
    (0, b"\xce\xfa\xed\xfe", "mach-o"),
    (0, b"\xcf\xfa\xed\xfe", "mach-o"),
    (0, b"dex\n", "java-class"),
    (0, b"%PDF-", "pdf"),
    (0, b"\x89PNG\r\n\x1a\n", "png"),
    (0, b"\xff\xd8\xff", "jpeg"),
    (0, b"GIF8", "gif"),
    (0, b"OggS", "ogg"),
    (0, b"RIFF", "riff"),
    (0, b"wOF", "font"),
    (0, b"\x00\x01\x00\x00\x00", "font"),
    (0, b"OTTO", "font"),
)

_BY_FIRST = tuple(tuple(one for one in _MAGIC if one[0] or one[1][0] == first) for first in range(256))
"""Those that a file may be that begins with this byte."""

_SCRIPT = re.compile(rb"#![ \t]*/")
_KEY_BEGINS = b"-----BEGIN "
_KEY = re.compile(rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----")
_BEGINS_OLD = b"(]}ci"
"""How a pickle of protocol 0 or 1 begins that holds more than one value, or calls something."""

_DOUBTFUL = frozenset(b"M\xca#\x93\x80" + _BEGINS_OLD)
"""First bytes of what `_executable` and `_weights` know; others are known by bytes behind them."""

_NAMED = re.compile(r"[A-Za-z_][\w.]* [A-Za-z_][\w.]*")
"""What GLOBAL and INST import: module and name."""

_IMPORTS = ("GLOBAL", "INST")
_IMPORTS_FIRST = re.compile(rb"[ci][A-Za-z_][\w.\x80-\xff]*\n")
"""How a pickle begins that imports something at once: GLOBAL or INST, and the module's line."""

_CALLS = ("MARK", "EMPTY_TUPLE")
"""What follows an import sooner or later: its arguments."""

_NO_PICKLE = (ValueError, IndexError, OverflowError, MemoryError, DeprecationWarning)
"""What pickletools raises for other bytes; of unknown escapes it warns, which may raise, too."""

_ZLIB = 0x78
"""The first byte of a zlib stream with a window of 32 KiB, which every writer takes."""

_TEXT = bytes({7, 8, 9, 10, 12, 13, 27} | set(range(0x20, 0x100)) - {0x7F})


def sniff(head: bytes, size: int, name: str = "") -> str:
    """The type of a file of `size` bytes by its first `HEAD`; `data` for what is none of those known.

    `name` decides one thing alone: under one of `PICKLE_NAMES` a pickle may begin with anything.
    """
    if not head:
        return "empty"
    first = head[0]
    if _unpickled(name) and _loads(head, size):
        return "pickle"
    for offset, magic, found in _BY_FIRST[first]:
        if head.startswith(magic, offset):
            # What stands behind the start may be a string of a pickle, whose loaders begin at the start.
            return "pickle" if offset and is_pickle(head, whole=size <= len(head)) else found
    if first == _ZLIB and _is_zlib(head):
        return "zlib"
    told = ""
    if first in _DOUBTFUL or head[2:4] == b"\r\n" or head[8:9] == b"{":
        told = _executable(head) or _weights(head, size)
    return told or _text(head)


def _is_zlib(head: bytes) -> bool:
    """Whether zlib's header (RFC 1950) is followed by what unpacks to something: joblib writes pickles so."""
    if len(head) < 8 or int.from_bytes(head[:2], "big") % 31:
        return False
    try:
        return bool(zlib.decompressobj().decompress(head, 1))
    except zlib.error:
        return False


def recognised(peek: Callable[[int], bytes], size: int, name: str = "") -> str:
    """As `sniff`, of a file that `peek` gives the start of: more where a pickle may go on behind `HEAD`."""
    head = peek(HEAD)
    if len(head) < size and _unpickled(name) and _imports(head, size) is None:
        head = peek(MAX_AHEAD)
    return sniff(head, size, name)


def _unpickled(name: str) -> bool:
    return name.lower().endswith(PICKLE_NAMES)


def _loads(head: bytes, size: int) -> bool:
    """Whether a loader that takes these bytes for a pickle imports something, or may far behind them."""
    imports = _imports(head, size)
    return imports or (imports is None and MAX_AHEAD <= len(head) < size)


def _imports(head: bytes, size: int) -> bool | None:
    """Whether a file that begins with these bytes, taken for a pickle, imports something before it is none.

    None where they are one to their end, or to what is larger than them.
    """
    if head[:1] == _PERSISTENT:
        return False
    try:
        for opcode, argument, _ in pickletools.genops(head):
            if opcode.name == "STACK_GLOBAL":
                return True
            if opcode.name in _IMPORTS and _NAMED.fullmatch(str(argument)):
                return True
    except _NO_PICKLE as error:
        ends = _ENDS.search(str(error))
        beyond = ends and ends[2] and len(head) - int(ends[3]) + int(ends[2]) >= size
        return None if ends and not beyond else False
    return False


_PERSISTENT = b"P"
"""Refers to what no loader knows that takes a whole file for a pickle; zip and Parquet begin so, too."""

_ENDS = re.compile(r"(exhausted|not enough data|no newline)|expected (\d+) bytes .*only (\d+) remain")
"""What pickletools says where bytes end before a pickle or one of its opcodes does, and by how much."""


def _executable(head: bytes) -> str:
    """Formats whose first bytes are too short to be believed alone."""
    if head[0] not in b"M\xca#" and head[2:4] != b"\r\n":
        return ""
    if head.startswith(b"MZ") and len(head) >= 64:
        at = int.from_bytes(head[60:64], "little")
        if at > HEAD - 4 or head.startswith(b"PE\0\0", at):
            return "pe"
    if head.startswith(b"\xca\xfe\xba\xbe") and len(head) >= 8:
        # Java counts class file versions from 45 (JVMS 4.1), a fat Mach-O's architectures are few.
        return "java-class" if int.from_bytes(head[4:8], "big") >= 45 else "mach-o"
    if _SCRIPT.match(head):
        return "script"
    # importlib: a magic number, "\r\n", then flags of which three are in use (PEP 552).
    if (
        head[2:4] == b"\r\n"
        and len(head) >= 16
        and head[4] <= 3
        and not any(head[5:8])
        and head[1] in (12, 13, 14)
    ):
        return "python-bytecode"
    return ""


def _weights(head: bytes, size: int) -> str:
    if head.startswith(b"\x93NUMPY"):
        return "numpy-object" if re.search(rb"'descr':[^,]*[|<>=]O", head[:1024]) else "numpy"
    length = int.from_bytes(head[:8], "little")
    if len(head) > 8 and head[8:9] == b"{" and 2 <= length <= size - 8:
        return "safetensors"
    return "pickle" if is_pickle(head, whole=size <= len(head)) else ""


def is_pickle(head: bytes, *, whole: bool) -> bool:
    """Whether bytes begin as a pickle of any protocol does, and go on as one for as far as they are here."""
    named = head[:1] == b"\x80" and len(head) > 1 and 2 <= head[1] <= 5
    if not named and (not head or head[0] not in _BEGINS_OLD):
        return False
    if head[0] in b"ci" and not _IMPORTS_FIRST.match(head):
        return False  # some other text: most sources begin with `import`
    count = called = 0
    imported = False
    try:
        for opcode, argument, _ in pickletools.genops(head):
            count += 1
            called += imported and opcode.name in _CALLS
            if opcode.name in _IMPORTS:
                imported = True
                if not named and not _NAMED.fullmatch(str(argument)):
                    return False  # some other text
            if opcode.name == "STOP":
                return True if named else imported or count > 2
    except _NO_PICKLE:
        pass
    if whole:
        return named and count > 1  # damaged, and still loaded up to there
    return named or called > 0 or (count >= 8 and bool(head.translate(None, _TEXT)))


_ARRAY = re.compile(rb"\[\s*(?:[\[\]{\"0-9-]|true|false|null|$)")
"""What else begins so is a section of an INI file."""


def _text(head: bytes) -> str:
    if _KEY_BEGINS in head and _KEY.search(head):
        return PRIVATE_KEY
    if head.translate(None, _TEXT):
        return "data"
    if not head.isascii():
        try:
            head.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.start < len(head) - 3:
                return "data"
    start = head.lstrip()[:64].lower()
    if start[:1] == b"{" or _ARRAY.match(start):
        return "json"
    if start.startswith((b"<?xml", b"<!doctype html", b"<html", b"<svg")):
        return "markup"
    return "text"
