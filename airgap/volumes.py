"""Cutting a bundle for media that it does not fit on: which bytes travel on which volume.

The cut is a pure function of the signed statement and the medium, so whoever holds one volume knows what
every other must hold, and nothing unsigned says what belongs where. docs/format.md describes a volume.

A blob is cut into ranges only where it is larger than a volume or a file may be, or where a volume
would otherwise stay more than a hundredth empty. Each volume also carries the company: the statement and the
small documents by which any single volume can be judged and inspected.
"""

import io
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from airgap.decode import Fields, canonical_json, read_document
from airgap.errors import InputError
from airgap.layout import blob_path
from airgap.media import VOLUME_MARKS
from airgap.model import BundlePath, Sha256, Sha384, sha384_hex
from airgap.trust.blobs import StatedBlob
from airgap.trust.statement import Statement
from airgap.units import human_bytes

FORMAT = 1
MARK_FILE, LIST_FILE, PARTS_DIRECTORY = VOLUME_MARKS

MAX_MARK = 1024 * 1024
"""Bytes of volume.json; only a list of re-burnt items makes it longer than 400."""

MAX_VOLUMES = 9999
MAX_ITEMS = 1_000_000
"""In all volumes together: bounds what a hostile medium can make a reader compute."""

ITEM_OVERHEAD = 1024
"""Bytes a file costs beside its own: its line in SHA384SUMS, its names in ISO 9660, Joliet, FAT or ext4."""

BLOB_OVERHEAD = 720
"""Bytes a blob costs on every volume: twice in the statement, once of them in base64, once in SHA384SUMS."""

ARTIFACT_OVERHEAD = 3072
"""Bytes an artifact costs on every volume: in the statement, again in base64, in index.json."""

MARGIN = (128 * 1024, 4 * 1024 * 1024)
"""Least and most kept free for signatures, roots and the file system's own; a 256th of the medium between."""

MARGIN_BLOCKS = 24
"""As many blocks are kept free at least: each of those files, and each directory, takes one or more."""

NO_LIMIT = 1 << 50
FAT32_FILE = (1 << 32) - 1
"""Bytes: FAT32 counts a file's size in 32 bits."""

_PART = re.compile(rf"{PARTS_DIRECTORY}/([0-9a-f]{{64}})/([0-9]{{15}})")


@dataclass(frozen=True, slots=True)
class Medium:
    """What a volume must fit on: the bytes it takes, and the most bytes of a file.

    Raises InputError for what no medium is.
    """

    capacity: int
    file_limit: int = NO_LIMIT

    def __post_init__(self) -> None:
        problems = []
        if not 64 * 1024 <= self.file_limit <= NO_LIMIT:
            problems.append(f"file limit: expected 65536 to {NO_LIMIT} bytes, found {self.file_limit}")
        if not 256 * 1024 <= self.capacity <= NO_LIMIT:
            problems.append(f"capacity: expected 262144 to {NO_LIMIT} bytes, found {self.capacity}")
        if problems:
            raise InputError("no such medium", problems=problems)

    @property
    def block(self) -> int:
        """Bytes that files are rounded up to: the largest cluster of FAT32, else the usual page."""
        return 32768 if self.file_limit == FAT32_FILE else 4096

    def takes(self, size: int) -> int:
        """Bytes of the medium that a file of `size` bytes uses."""
        return -(-size // self.block) * self.block + ITEM_OVERHEAD


MEDIA = {
    "cd": Medium(737_280_000),
    "dvd": Medium(4_700_372_992),
    "dvd-dl": Medium(8_543_666_176),
    "bd": Medium(25_025_314_816),
    "bd-dl": Medium(50_050_629_632),
    "bd-xl": Medium(100_103_356_416),
    "fat32": Medium(1 << 41, FAT32_FILE),
    "stream": Medium(NO_LIMIT),
}
"""What an empty medium takes: the sectors of CD-R, DVD+R, DVD-R DL and BD-R; the most that FAT32 can be;
a pipe, which takes everything as one volume."""


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a volume: a whole blob, or `size` bytes of one from `offset` on."""

    digest: Sha256
    offset: int
    size: int
    whole: bool

    @property
    def path(self) -> BundlePath:
        return blob_path(self.digest) if self.whole else part_path(self.digest, self.offset)

    @property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True, slots=True)
class Volume:
    """`items[k - 1]` is item k, as lists of what to burn again number it; volumes count from 1."""

    number: int
    items: tuple[Item, ...]

    @property
    def size(self) -> int:
        return sum(item.size for item in self.items)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a volume says of itself in volume.json. Nobody signs it, so nothing is believed for its sake.

    `only` are the numbers of the items that are here where not all are: a volume that was burnt again.
    """

    payload: Sha384
    medium: Medium
    number: int
    count: int
    only: tuple[int, ...] | None = None


def medium_options(medium: Medium) -> str:
    """How `airgap split` is told of a medium: `--size bd`, `--size 32000000000 --file-limit fat32`."""
    for name, known in MEDIA.items():
        if medium == known:
            return f"--size {name}"
    limit = "fat32" if medium.file_limit == FAT32_FILE else str(medium.file_limit)
    return f"--size {medium.capacity}" + ("" if medium.file_limit == NO_LIMIT else f" --file-limit {limit}")


def part_path(digest: Sha256, offset: int) -> BundlePath:
    """Where a range of a blob lies on a volume; in the order of their names ranges make the blob."""
    return BundlePath(f"{PARTS_DIRECTORY}/{digest}/{offset:015}")


def parse_part(path: str) -> tuple[Sha256, int] | None:
    """The inverse of `part_path`; None for any other path."""
    match = _PART.fullmatch(path)
    return (Sha256(match[1]), int(match[2])) if match else None


def volume_name(statement: Statement, number: int, count: int) -> str:
    """`gemma4-serving-2026.11.03of12`: names sort as volumes count."""
    return f"{statement.name}-{statement.version}.{number:0{len(str(count))}}of{count}"


def company(statement: Statement) -> dict[Sha256, StatedBlob]:
    """The blobs that lie on every volume: the lock and the artifacts' own manifests."""
    digests = dict.fromkeys((statement.lock, *(artifact.digest for artifact in statement.artifacts)))
    return {digest: statement.blobs[digest] for digest in digests}


def cut(statement: Statement, medium: Medium) -> tuple[Volume, ...]:
    """Every volume of a bundle, one at least. Equal arguments give equal volumes, whoever asks.

    Raises InputError where the company alone nearly fills a volume, or for more than MAX_VOLUMES.
    """
    here = company(statement)
    room = medium.capacity - _reserve(statement, medium)
    if medium.capacity < (least := _least_for(statement, medium)):
        while (larger := _least_for(statement, replace(medium, capacity=least))) > least:
            least = larger
        raise InputError(
            f"{human_bytes(medium.capacity)} is too small a volume: the statement and the documents that lie"
            f" on each take {human_bytes(medium.capacity - room)}, which leaves less than a volume is worth",
            remedy=f"give at least --size {-(-least // 1000)}kB",
        )
    too_many = InputError(
        f"volumes of {medium.capacity} bytes in files of at most {medium.file_limit}: more than"
        f" {MAX_VOLUMES} volumes or {MAX_ITEMS} items would be needed",
        remedy="give a larger --size",
    )
    if statement.total_bytes // min(medium.file_limit, room) > MAX_ITEMS:
        raise too_many
    waiting = sorted(
        (blob.size, digest) for digest, blob in statement.travelling.items() if digest not in here
    )
    volumes: list[Volume] = []
    items = 0
    for filled in _fill(waiting, medium, room):
        volumes.append(Volume(len(volumes) + 1, tuple(filled)))
        items += len(filled)
        if len(volumes) > MAX_VOLUMES or items > MAX_ITEMS:
            raise too_many
    return tuple(volumes) or (Volume(1, ()),)


def _least_for(statement: Statement, medium: Medium) -> int:
    """Bytes that such a medium must have at least: a larger one reserves a little more."""
    return _reserve(statement, medium) + max(32 * medium.block, medium.capacity // 16)


def _reserve(statement: Statement, medium: Medium) -> int:
    least, most = max(MARGIN[0], MARGIN_BLOCKS * medium.block), MARGIN[1]
    documents = sum(medium.takes(blob.size) for blob in company(statement).values())
    described = BLOB_OVERHEAD * len(statement.blobs) + ARTIFACT_OVERHEAD * len(statement.artifacts)
    return documents + described + min(max(medium.capacity // 256, least), most)


def _fill(waiting: list[tuple[int, Sha256]], medium: Medium, room: int) -> Iterator[list[Item]]:
    """Fill volume by volume with the largest blob that fits whole; then what is left of it with a range.

    `waiting` is sorted by size, and is used up. What must be cut anyway is cut first; else the smallest
    that does not fit, so that few bytes are in ranges.
    """
    largest = medium.file_limit // medium.block * medium.block
    slack = max(medium.capacity // 128, 4 * medium.block)
    begun: tuple[Sha256, int, int] | None = None
    """A blob that is partly placed: its digest, its size, how much of it is."""
    while waiting or begun:
        items: list[Item] = []
        left = room
        while waiting or begun:
            if begun is None:
                fitting = min(medium.file_limit, (left - ITEM_OVERHEAD) // medium.block * medium.block)
                position = bisect_right(waiting, fitting, key=lambda blob: blob[0]) - 1
                if position >= 0:
                    size, digest = waiting.pop(position)
                    items.append(Item(digest, 0, size, whole=True))
                    left -= medium.takes(size)
                    continue
                if left <= slack:
                    break
                must = waiting[-1][0] > medium.file_limit or medium.takes(waiting[-1][0]) > room
                size, digest = waiting.pop(-1 if must else 0)
                begun = digest, size, 0
            digest, size, offset = begun
            length = size - offset
            if medium.takes(length) > left or length > medium.file_limit:
                if left <= slack:
                    break
                length = min(largest, (left - ITEM_OVERHEAD) // medium.block * medium.block)
            items.append(Item(digest, offset, length, whole=False))
            left -= medium.takes(length)
            begun = (digest, size, offset + length) if offset + length < size else None
        yield items


def render_mark(mark: Mark) -> bytes:
    """The bytes of volume.json."""
    document: dict[str, object] = {
        "format": FORMAT,
        "statement": mark.payload,
        "capacity": mark.medium.capacity,
        "fileLimit": mark.medium.file_limit,
        "number": mark.number,
        "count": mark.count,
    }
    if mark.only is not None:
        document["items"] = list(mark.only)
    return canonical_json(document)


def parse_mark(data: bytes, what: str = MARK_FILE) -> Mark:
    """Read volume.json. Raises InputError naming every problem."""
    return read_document(data, what, _read_mark)


def _read_mark(fields: Fields) -> Mark:
    if fields.integer("format", minimum=1) != FORMAT:
        fields.problem("format", f"expected {FORMAT}; a newer airgap reads others")
    payload = fields.parsed("statement", sha384_hex, Sha384(""))
    sizes = [fields.integer(key, minimum=1) for key in ("capacity", "fileLimit")]
    number, count = fields.integer("number", minimum=1), fields.integer("count", minimum=1)
    if not number <= count <= MAX_VOLUMES:
        fields.problem("number", f"expected 1 to count, and a count of at most {MAX_VOLUMES}")
    only = fields.integers("items") if fields.has("items") else None
    medium = MEDIA["cd"]
    try:
        medium = Medium(*sizes)
    except InputError as error:
        for problem in error.problems:
            fields.problem("", problem)
    return Mark(payload, medium, number, count, only)


def render_list(digests: Iterable[tuple[str, Sha384]]) -> bytes:
    """SHA384SUMS of a volume, for `sha384sum --check`: items in the order of their numbers, then the rest."""
    return "".join(f"{digest}  {path}\n" for path, digest in digests).encode()


def parse_list(data: bytes) -> dict[str, Sha384]:
    """Path to digest. Raises InputError for any line that `render_list` does not write."""
    found: dict[str, Sha384] = {}
    for number, line in enumerate(io.BytesIO(data), 1):  # a line at a time: none may be a million of them
        match = re.fullmatch(rb"([0-9a-f]{96})  ([!-~]+)\n", line)
        path = match[2].decode() if match else ""
        if match is None or path in found:
            raise InputError(f"{LIST_FILE}: line {number}: expected a digest and a path, once each")
        found[path] = Sha384(match[1].decode())
    return found
