"""Looks into one blob while it is read: every file inside, its type and digest, and what is wrong with it.

Nothing is written, imported or run. Archives inside archives are looked into to a depth of `MAX_DEPTH`,
as long as all of it together stays within the blob's `Budget`.
"""

import hashlib
import io
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from airgap.audit import code, findings, secrets
from airgap.audit.evidence import Secret
from airgap.audit.findings import Rule
from airgap.audit.layers import KeptLayer, LayerKeeper
from airgap.audit.streams import CHUNK, STEP, BombError, Budget, Chunks, Hashed, Peeking
from airgap.audit.types import EXECUTABLES, HEAD, PICKLES, PRIVATE_KEY, recognised, sniff
from airgap.audit.unpacking import COMPRESSED, opened
from airgap.audit.wheel_seen import WheelSeen
from airgap.errors import InputError, IntegrityError
from airgap.model import Sha256
from airgap.readers.decompress import UnreadableLayer
from airgap.readers.source import BytesSource, Readable
from airgap.readers.tar import Entry, EntryKind, TarStream
from airgap.readers.zip import Archive

MAX_DEPTH = 4
"""Archives in archives; a wheel in a zip in a layer is three."""

MAX_HELD = 64 * 1024 * 1024
"""Bytes of a zip inside another archive, which is held in memory to be looked into."""

MAX_TEXT = 1024 * 1024
"""Bytes of a text that is looked at whole."""

OVERSIZE, OVERSIZE_RATIO = 1 << 30, 20
"""Bytes, and how many times its size something unpacks to, that surprise together."""

_CLOSED = frozenset({"7z", "rar", "squashfs"})
"""Archives that are not looked into."""

_WHEEL = re.compile(r"[^/]+\.dist-info/METADATA")
_IMAGE = re.compile(r"oci-layout|repositories|[0-9a-f]{64}/layer\.tar")
"""What of an archive shows that it is a wheel, or an image as docker, podman and skopeo write it."""

_TEXTS = frozenset({"text", "json", "markup", PRIVATE_KEY})
_OPENED = PICKLES | COMPRESSED | _CLOSED | {"hdf5", "zip", "tar"}
_DATA_NAMES = (
    *(".safetensors", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5", ".npy", ".npz", ".msgpack", ".parquet"),
    *(".json", ".jsonl", ".txt", ".md", ".rst", ".csv", ".tsv", ".yaml", ".yml", ".toml", ".model", ".jinja"),
    *(".png", ".jpg", ".jpeg", ".gif", ".webp", ".pdf", ".html", ".mp4", ".wav", ".zip"),
)
"""Names that promise data."""


class Role(StrEnum):
    """What a blob was declared to be: that decides what is out of place in it."""

    WHEEL = "wheel"
    LAYER = "layer"
    MODEL = "model"
    FILE = "file"
    DOCUMENT = "document"


@dataclass(frozen=True, slots=True)
class Inner:
    """A file inside the blob; '' is the blob itself. `depth` counts the archives around it."""

    path: str
    type: str
    size: int
    sha256: Sha256
    depth: int
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Noticed:
    """A finding that does not know yet where its blob is."""

    rule: Rule
    path: str
    message: str
    evidence: str = ""


@dataclass(slots=True)
class Contents:
    """What was seen of a blob. `kept` holds small documents by their path, for whoever understands them."""

    role: Role
    type: str = ""
    inner: list[Inner] = field(default_factory=list)
    noticed: list[Noticed] = field(default_factory=list)
    kept: dict[str, bytes] = field(default_factory=dict)
    secrets: list[Secret] = field(default_factory=list)
    layer: KeptLayer | None = None
    wheel: WheelSeen | None = None
    unpacked: int = 0

    def notice(self, rule: Rule, path: str, message: str, evidence: str = "") -> None:
        self.noticed.append(Noticed(rule, path, message, evidence))


class Looker:
    """Looks into one blob of `size` bytes that was declared as `role`, under the name `name`.

    `keep` says how many bytes of a path at a depth are wanted, if it has no more.
    """

    def __init__(self, role: Role, name: str, size: int, keep: Callable[[str, int], int]) -> None:
        self.seen = Contents(role)
        self._name = name
        self._size = size
        self._keep = keep
        self._budget = Budget(size)
        self._opened = _OPENED if self._is_package else _OPENED | _TEXTS
        """Types of which more is looked at than the head."""

    def forward(self, stream: Peeking, kind: str, size: int) -> None:
        """Look into what can be read from its start. Raises what the stream raises."""
        self._guarded("", lambda: self._inside(stream, "", kind, size, 0))

    def archive(self, archive: Archive) -> None:
        """Look into a zip archive where it lies. Raises what its source raises."""
        self._guarded("", lambda: self._zip(archive, "", 0))

    def _guarded(self, path: str, look: Callable[[], None]) -> None:
        try:
            look()
        except BombError as error:
            self.seen.notice(findings.BOMB, path, f"it {error.message}; the rest of it was not looked into")
        except UnreadableLayer as error:
            self.seen.notice(findings.NOT_LOOKED, path, error.message, error.remedy)
        except (InputError, IntegrityError) as error:
            self.seen.notice(findings.MALFORMED, path, _inner_message(error.message, self._name))
        self.seen.unpacked = self._budget.unpacked
        if OVERSIZE < self._budget.unpacked > self._size * OVERSIZE_RATIO:
            message = f"{self._size} bytes unpack to {self._budget.unpacked}"
            self.seen.notice(findings.OVERSIZE, path, message)

    def file(
        self, stream: Hashed, path: str, depth: int, *, executable: bool = False, size: int = -1
    ) -> None:
        """One file inside of something, whatever it is; `size` is -1 where only the end will tell."""
        self._budget.name()
        head = stream.peek(HEAD)
        whole = len(head) if len(head) < HEAD else size if size >= 0 else 1 << 62
        kind = recognised(stream.peek, whole, path or self._name)
        try:
            self._inside(stream, path, kind, whole, depth)
        except BombError:
            raise
        except UnreadableLayer as error:
            self.seen.notice(findings.NOT_LOOKED, path, error.message, error.remedy)
        except (InputError, IntegrityError) as error:
            self.seen.notice(findings.MALFORMED, path, _inner_message(error.message, self._name))
        stream.drain()
        sha256 = Sha256(stream.sha256)
        self.seen.inner.append(Inner(path, kind, stream.size, sha256, depth, executable))

    def small(self, data: memoryview, path: str, depth: int, *, executable: bool = False) -> None:
        """As `file`, of bytes that are all here: of most nothing more is asked than type and digest."""
        size = len(data)
        kind = recognised(lambda count: bytes(data[:count]), size, path or self._name)
        if kind in self._opened or 0 < size <= self._keep(path, depth):
            stream = Hashed(io.BytesIO(data), self._budget)
            self.file(stream, path, depth, executable=executable, size=size)
            return
        self._budget.name()
        self._budget.spend(size)
        self._judge_type(path, kind)
        sha256 = Sha256(hashlib.sha256(data).hexdigest())
        self.seen.inner.append(Inner(path, kind, size, sha256, depth, executable))

    def _inside(self, stream: Peeking, path: str, kind: str, size: int, depth: int) -> None:
        self._judge_type(path, kind)
        data_roles = self.seen.role in (Role.MODEL, Role.FILE)
        whole = MAX_TEXT
        if size <= self._keep(path, depth) and (size or not path):  # nothing is to be kept of what is empty
            self.seen.kept[path] = data = _take(stream, size)
            stream, whole = Peeking(io.BytesIO(data), lambda piece: None), size
        if self.seen.role is Role.LAYER and not path:
            self._unpacked(stream, path, kind, depth)
        elif kind in PICKLES:
            self._pickle(stream, path, kind, size)
        elif kind in _TEXTS and size <= whole and data_roles:
            self._text(_take(stream, size), path, kind)
        elif kind == "hdf5" or (kind == "json" and data_roles):
            self._keras(stream, path)
        elif kind in ("zip", "tar") or kind in COMPRESSED:
            if depth >= MAX_DEPTH:
                message = f"an archive inside {depth} others, deeper than is looked into"
                self.seen.notice(findings.NOT_LOOKED, path, message)
            elif kind == "zip":
                self._held_zip(stream, path, depth)
            else:
                self._unpacked(stream, path, kind, depth)
        elif kind in _CLOSED:
            self.seen.notice(findings.NOT_LOOKED, path, f"an archive ({kind}) that is not looked into")

    def _judge_type(self, path: str, kind: str) -> None:
        if kind == PRIVATE_KEY:
            self.seen.secrets.append(Secret(path, 1, "Private Key", "…"))
        if kind not in EXECUTABLES:
            return
        name = (path or self._name).lower()
        promised = name.endswith(_DATA_NAMES)
        match self.seen.role:
            case Role.MODEL if not (kind == "script" and name.endswith((".py", ".sh"))):
                message = f"a program ({kind}) among a model's files"
            case Role.FILE if promised:
                message = f"a program ({kind}), which its name does not say"
            case Role.WHEEL if promised and kind != "script" and not name.endswith(".bin"):
                message = f"a program ({kind}), which its name does not say"
            case _:
                return
        self.seen.notice(findings.EXECUTABLE, path, message)

    def _pickle(self, stream: Peeking, path: str, kind: str, size: int) -> None:
        data = _take(stream, code.MAX_PICKLE)
        pickled = code.after_numpy_header(data) if kind == "numpy-object" else data
        found = code.read_pickle(pickled, whole=size <= len(data))
        weights = self.seen.role in (Role.MODEL, Role.FILE)
        renamed = " and its name says otherwise" if (path or self._name).endswith(".safetensors") else ""
        if found is None:
            message = f"a {kind}, which may run code: pip install 'airgap[audit]' to have it disassembled"
            self.seen.notice(findings.NOT_LOOKED, path, message)
        elif found.dangerous:
            message = f"it is a pickle{renamed}, and loading it calls {', '.join(found.dangerous[:5])}"
            self.seen.notice(findings.PICKLE_CODE, path, message, ", ".join(found.dangerous))
        elif weights or found.problem:
            unknown = f", and imports {', '.join(found.unknown[:5])}" if found.unknown else ""
            message = f"it is a pickle{renamed}{unknown}" + (f"; {found.problem}" if found.problem else "")
            self.seen.notice(findings.PICKLE, path, message, ", ".join(found.unknown))

    def _keras(self, stream: Peeking, path: str) -> None:
        """Keras writes a model's config into HDF5 as text, wherever the library puts it."""
        before = b""
        while data := stream.read(CHUNK):
            if code.KERAS_LAMBDA.search(before + data):
                self.seen.notice(
                    findings.MODEL_CODE, path, "a Keras model with a Lambda layer, which is code"
                )
                return
            before = (before + data)[-code.KERAS_LONGEST :]

    def _text(self, data: bytes, path: str, kind: str) -> None:
        if kind == PRIVATE_KEY:
            return
        if kind == "json" and code.KERAS_LAMBDA.search(data):
            self.seen.notice(findings.MODEL_CODE, path, "a Keras model with a Lambda layer, which is code")
        if len(data) <= secrets.MAX_TEXT:
            self.seen.secrets += secrets.search(path, data.decode("utf-8", "replace"))

    def _held_zip(self, stream: Peeking, path: str, depth: int) -> None:
        data = _take(stream, MAX_HELD + 1)
        if len(data) > MAX_HELD:
            message = f"an archive of more than {MAX_HELD} bytes inside another, which is not looked into"
            self.seen.notice(findings.NOT_LOOKED, path, message)
            return
        self._zip(Archive(BytesSource(data, what=path), path), path, depth)

    def _zip(self, archive: Archive, path: str, depth: int) -> None:
        base = f"{path}!" if path else ""
        if not self._is_package and any(_WHEEL.fullmatch(member.path) for member in archive.members()):
            self._not_judged(path, "wheel")
        for member in sorted(archive.members(), key=lambda member: member.offset):
            if not self._is_package and code.TORCHSCRIPT.fullmatch(member.path):
                self.seen.notice(findings.MODEL_CODE, f"{base}{member.path}", "code of a TorchScript module")
            if member.size <= STEP and (data := archive.whole(member)) is not None:
                self.small(memoryview(data), f"{base}{member.path}", depth + 1)
                continue
            stream = Hashed(Chunks(archive.open(member.path)), self._budget)
            self.file(stream, f"{base}{member.path}", depth + 1, size=member.size)

    def _not_judged(self, path: str, what: str) -> None:
        message = f"a {what} among files, which is not judged as one: declare it as what it is"
        self.seen.notice(findings.NOT_LOOKED, path, message)

    @property
    def _is_package(self) -> bool:
        return self.seen.role in (Role.WHEEL, Role.LAYER)

    def _unpacked(self, stream: Peeking, path: str, kind: str, depth: int) -> None:
        """A tar, or one file or tar that is compressed."""
        what = path or self._name
        if kind not in COMPRESSED:
            self._tar(TarStream(stream, what, ahead=STEP), path, depth)
            return
        with opened(stream, kind, what) as inner:
            plain = Peeking(inner, lambda data: None)
            if (self.seen.role is Role.LAYER and not path) or sniff(plain.peek(HEAD), HEAD) == "tar":
                self._tar(TarStream(plain, what, ahead=STEP), path, depth)
            else:
                self.file(Hashed(plain, self._budget), f"{path}!", depth + 1)

    def _tar(self, tar: TarStream, path: str, depth: int) -> None:
        base = f"{path}!" if path else ""
        keeper = LayerKeeper(tar.what) if self.seen.role is Role.LAYER and not path else None
        image = False
        for entry in tar:
            name = entry.path.removeprefix("./")
            image = image or (not self._is_package and _IMAGE.fullmatch(name) is not None)
            wanted = keeper is not None and entry.kind is EntryKind.FILE and keeper.wants(entry)
            copy: bytes | None = None
            if entry.kind is not EntryKind.FILE:
                self._budget.name()
            elif (data := tar.held()) is not None:
                copy = bytes(data) if wanted else None
                self.small(data, base + name, depth + 1, executable=bool(entry.mode & 0o111))
            else:
                copy = self._passing(tar, entry, base + name, depth, wanted=wanted)
            if keeper:
                keeper.add(entry, copy)
        if keeper:
            self.seen.layer = keeper.layer()
        if image:
            self._not_judged(path, "image")
        self._end(tar, path)

    def _end(self, tar: TarStream, path: str) -> None:
        """Cut off between two entries a tar lacks its mark; what lies behind that no engine unpacks."""
        if not tar.marked:
            message = "it ends without the mark of an archive's end: entries may be cut off"
            self.seen.notice(findings.MALFORMED, path, message)
        behind = 0
        while data := tar.behind(STEP):
            self._budget.spend(len(data))
            behind += len(data) if data.strip(b"\0") else 0
        if behind:
            message = "something lies behind the archive's end, which was not looked into"
            self.seen.notice(findings.MALFORMED, path, message)

    def _passing(self, tar: TarStream, entry: Entry, name: str, depth: int, *, wanted: bool) -> bytes | None:
        """The current file of an archive as it passes; its bytes where they are wanted."""
        copy = io.BytesIO() if wanted else None
        stream = Hashed(_Read(_copying(tar, copy) if copy else tar.chunk), self._budget)
        self.file(stream, name, depth + 1, executable=bool(entry.mode & 0o111), size=entry.size)
        return copy.getvalue() if copy else None


@dataclass(frozen=True, slots=True)
class _Read:
    """A stream that is read by a function."""

    read: Callable[[int], bytes]


def _copying(tar: TarStream, copy: io.BytesIO) -> Callable[[int], bytes]:
    """The bytes of the current entry, of which a copy is kept."""

    def read(count: int) -> bytes:
        data = tar.chunk(count)
        copy.write(data)
        return data

    return read


def _take(stream: Readable, count: int) -> bytes:
    """At most `count` bytes."""
    parts: list[bytes] = []
    while count and (data := stream.read(min(count, CHUNK))):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _inner_message(message: str, name: str) -> str:
    return message.removeprefix(f"{name}: ")
