"""What a bundle's signers state: an in-toto Statement v1 over every byte that ships.

The payload is canonical JSON (`airgap.decode.canonical_json`), so equal statements are equal bytes.
The predicate type is a name, never fetched; docs/format.md describes the predicate field by field.
sha256 names a blob, because wheels, hubs and registries name by it; sha384 decides.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from airgap.decode import Fields, canonical_json, parse_json
from airgap.destination import read_audience, read_target, target_table
from airgap.errors import InputError
from airgap.model import (
    NAME_PATTERN,
    VERSION_PATTERN,
    Kind,
    Sha256,
    Sha384,
    Target,
    oci_digest,
    path_collisions,
    sha256_hex,
    sha384_hex,
)
from airgap.trust.blobs import Base, StatedBlob, base_table, blobs_table, read_base, read_blobs
from airgap.trust.instant import EPOCH, instant_problem, parse_instant, render_instant

PAYLOAD_TYPE = "application/vnd.in-toto+json"
"""in-toto attestation spec v1, envelope."""

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://airgap.dev/bundle/v1"

INDEX = "index.json"
SUMS = "verify/SHA384SUMS"

MAX_SEQUENCE = 2**53 - 1
"""The largest integer every JSON reader holds exactly (RFC 8259 section 6)."""

_MEDIA_TYPE = r"[A-Za-z0-9][A-Za-z0-9.+-]*/[A-Za-z0-9][A-Za-z0-9.+-]*"
_NAME = "a name of lower-case letters and digits joined by single '.', '_' or '-'"


@dataclass(frozen=True, slots=True)
class Subject:
    """A file of the bundle that is not a blob."""

    sha256: Sha256
    sha384: Sha384


@dataclass(frozen=True, slots=True)
class StatedArtifact:
    """One descriptor of index.json: the artifact's own manifest or index, `size` in bytes."""

    kind: Kind
    name: str
    media_type: str
    digest: Sha256
    size: int


@dataclass(frozen=True, slots=True)
class Previous:
    """The bundle before this one in the channel and epoch: its sequence, its statement payload's sha384."""

    sequence: int
    sha384: Sha384


@dataclass(frozen=True, slots=True)
class Statement:
    """Everything that is signed about one bundle. Raises InputError when its parts contradict each other.

    `sequence` counts from 1 within an `epoch` of a channel; a new epoch recovers from a sequence
    pushed too high and begins without `previous`. Times are UTC in whole seconds.
    """

    name: str
    version: str
    channel: str
    epoch: int
    sequence: int
    previous: Previous | None
    created_at: datetime
    expires_at: datetime
    target: Target
    lock: Sha256
    artifacts: tuple[StatedArtifact, ...]
    blobs: Mapping[Sha256, StatedBlob]
    index: Subject
    sums: Subject
    audience: tuple[str, ...] = ()
    """Names of the sites it is for; empty for every site."""
    base: Base | None = None
    """None for a whole bundle; else this is a delta."""

    def __post_init__(self) -> None:
        problems = list(_contradictions(self))
        if problems:
            raise InputError("the statement contradicts itself", problems=problems)

    @property
    def place(self) -> str:
        """Where in its channel it stands, and for whom it is, as a person reads it."""
        epoch = f", epoch {self.epoch}" if self.epoch else ""
        audience = f", for {', '.join(self.audience)} only" if self.audience else ""
        return f"channel {self.channel}{epoch}, sequence {self.sequence}{audience}"

    @property
    def travelling(self) -> Mapping[Sha256, StatedBlob]:
        """The blobs that must lie on the media: all of them, or for a delta those that its base lacks."""
        if self.base is None:
            return self.blobs
        absent = self.absent
        patches = {patch.sha256: patch.stated for patch in self.base.patches.values()}
        return {digest: blob for digest, blob in self.blobs.items() if digest not in absent} | patches

    @property
    def absent(self) -> frozenset[Sha256]:
        """The blobs of the bundle that do not lie on the media: none for a whole one."""
        return self.base.blobs | self.base.patches.keys() if self.base else frozenset()

    @property
    def counted_on(self) -> Mapping[Sha256, StatedBlob]:
        """What the site must hold: the blobs of a delta's base, and those that patches take bytes from."""
        if self.base is None:
            return {}
        sources = {d: blob for patch in self.base.patches.values() for d, blob in patch.sources.items()}
        return {digest: self.blobs[digest] for digest in sorted(self.base.blobs)} | sources

    @property
    def total_bytes(self) -> int:
        """Bytes of all blobs that travel, each counted once."""
        return sum(blob.size for blob in self.travelling.values())


def render(statement: Statement) -> bytes:
    """The payload to sign; equal statements give equal bytes."""
    predicate: dict[str, object] = {
        "name": statement.name,
        "version": statement.version,
        "channel": statement.channel,
        "epoch": statement.epoch,
        "sequence": statement.sequence,
        "createdAt": render_instant(statement.created_at),
        "expiresAt": render_instant(statement.expires_at),
        "target": target_table(statement.target),
        "lock": statement.lock,
        "artifacts": [
            {
                "kind": artifact.kind.value,
                "name": artifact.name,
                "mediaType": artifact.media_type,
                "digest": f"sha256:{artifact.digest}",
                "size": artifact.size,
            }
            for artifact in statement.artifacts
        ],
        "blobs": blobs_table(statement.blobs),
        "totals": {"blobs": len(statement.travelling), "bytes": statement.total_bytes},
    }
    if statement.audience:
        predicate["audience"] = list(statement.audience)
    if statement.base:
        predicate["base"] = base_table(statement.base)
    if statement.previous:
        predicate["previous"] = {
            "sequence": statement.previous.sequence,
            "sha384": statement.previous.sha384,
        }
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": name, "digest": {"sha256": subject.sha256, "sha384": subject.sha384}}
                for name, subject in ((INDEX, statement.index), (SUMS, statement.sums))
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


def parse(payload: bytes, what: str = "statement") -> Statement:
    """Read a payload whose signatures were verified, or one shown without any claim of trust.

    Raises InputError naming every malformed, missing, unknown or contradictory field.
    """
    fields = Fields(parse_json(payload, what))
    _expect(fields, "_type", STATEMENT_TYPE)
    _expect(fields, "predicateType", PREDICATE_TYPE)
    index, sums = _read_subjects(fields)
    predicate = fields.table("predicate")
    build = _read_predicate(predicate)
    audience = read_audience(predicate)
    base = read_base(predicate.table("base")) if predicate.has("base") else None
    totals = predicate.table("totals")
    stated = (totals.integer("blobs"), totals.integer("bytes"))
    for table in (totals, predicate, fields):
        table.done()
    fields.raise_if_bad(what)
    statement = build(index, sums, audience, base)
    found = (len(statement.travelling), statement.total_bytes)
    if stated != found:
        totals.problem(
            "", f"states {stated[0]} blobs of {stated[1]} bytes; they are {found[0]} of {found[1]}"
        )
    fields.raise_if_bad(what)
    return statement


def _read_predicate(
    fields: Fields,
) -> Callable[[Subject, Subject, tuple[str, ...], Base | None], Statement]:
    """Read the fields now; build the value only once none of them is known to be wrong."""
    previous = fields.optional_table("previous")
    return partial(
        Statement,
        fields.text("name", pattern=NAME_PATTERN, expected=_NAME),
        fields.text("version", pattern=VERSION_PATTERN, expected="a version"),
        fields.text("channel", pattern=NAME_PATTERN, expected=_NAME),
        fields.integer("epoch"),
        fields.integer("sequence", minimum=1),
        _read_previous(previous) if previous else None,
        fields.parsed("createdAt", parse_instant, EPOCH),
        fields.parsed("expiresAt", parse_instant, EPOCH),
        read_target(fields.table("target")),
        fields.parsed("lock", sha256_hex, Sha256("")),
        tuple(_read_artifact(table) for table in fields.tables("artifacts")),
        read_blobs(fields.table("blobs")),
    )


def _contradictions(statement: Statement) -> Iterator[str]:
    for key, when in (("createdAt", statement.created_at), ("expiresAt", statement.expires_at)):
        if problem := instant_problem(when):
            yield f"{key}: {problem}"
            return
    if statement.expires_at <= statement.created_at:
        yield "expiresAt: not after createdAt"
    if not 1 <= statement.sequence <= MAX_SEQUENCE or not 0 <= statement.epoch <= MAX_SEQUENCE:
        yield "sequence: expected 1 to 2^53-1, and an epoch of 0 to 2^53-1"
    if statement.previous and not 1 <= statement.previous.sequence < statement.sequence:
        yield f"previous.sequence: {statement.previous.sequence} is not below {statement.sequence}"
    if statement.lock not in statement.blobs:
        yield f"lock: {statement.lock} is not among the blobs"
    yield from _base_contradictions(statement)
    yield from (f"artifacts: {problem}" for problem in path_collisions(a.name for a in statement.artifacts))
    for artifact in statement.artifacts:
        blob = statement.blobs.get(artifact.digest)
        if blob is None:
            yield f"artifacts.{artifact.name}: its digest {artifact.digest} is not among the blobs"
        elif blob.size != artifact.size:
            yield f"artifacts.{artifact.name}: {artifact.size} bytes, its blob has {blob.size}"


def _base_contradictions(statement: Statement) -> Iterator[str]:
    """The lock and the artifacts' own documents always travel, so that a delta can be read on its own."""
    if statement.base is None:
        return
    if not statement.absent:
        yield "base.blobs: empty, and a bundle that counts on nothing has no base"
    key = {
        digest: "base.blobs" if digest in statement.base.blobs else "base.patches"
        for digest in statement.absent
    }
    unknown = sorted(statement.absent - statement.blobs.keys())
    yield from (f"{key[digest]}: {digest} is not among the blobs" for digest in unknown)
    yield from _patch_contradictions(statement, statement.base)
    documents = {"the lock": statement.lock, **{a.name: a.digest for a in statement.artifacts}}
    yield from (
        f"{key[digest]}: {digest} ({name}) must travel"
        for name, digest in documents.items()
        if digest in statement.absent
    )


def _patch_contradictions(statement: Statement, base: Base) -> Iterator[str]:
    """A patch stands for a blob that is not left to the base, and is no blob of the bundle itself."""
    stated: dict[Sha256, StatedBlob] = dict(statement.blobs)
    for digest, patch in base.patches.items():
        if digest in base.blobs:
            yield f"base.patches.{digest}: it is among base.blobs, too"
        if not patch.sources:
            yield f"base.patches.{digest}: it takes bytes from no blob"
        if digest in patch.sources or patch.sha256 in statement.blobs:
            yield f"base.patches.{digest}: it is made of itself"
        for source, blob in {**patch.sources, patch.sha256: patch.stated}.items():
            if stated.setdefault(source, blob) != blob:
                yield f"base.patches.{digest}: two sizes or sha384 are stated of {source}"


def _expect(fields: Fields, key: str, value: str) -> None:
    found = fields.text(key)
    if found and found != value:
        fields.problem(key, f"expected {value}, found {found[:80]!r}")


def _read_subjects(fields: Fields) -> tuple[Subject, Subject]:
    tables = fields.tables("subject")
    names = [table.text("name") for table in tables]
    if names != [INDEX, SUMS]:
        fields.problem("subject", f"expected {INDEX} and {SUMS}, found {', '.join(names)[:200] or 'none'}")
        nothing = Subject(Sha256(""), Sha384(""))
        return nothing, nothing
    index, sums = (_read_subject(table) for table in tables)
    return index, sums


def _read_subject(fields: Fields) -> Subject:
    digest = fields.table("digest")
    subject = Subject(
        digest.parsed("sha256", sha256_hex, Sha256("")), digest.parsed("sha384", sha384_hex, Sha384(""))
    )
    digest.done()
    fields.done()
    return subject


def _read_previous(fields: Fields) -> Previous:
    previous = Previous(
        fields.integer("sequence", minimum=1), fields.parsed("sha384", sha384_hex, Sha384(""))
    )
    fields.done()
    return previous


def _read_artifact(fields: Fields) -> StatedArtifact:
    artifact = StatedArtifact(
        fields.parsed("kind", _kind, Kind.FILE),
        fields.text("name", pattern=NAME_PATTERN, expected=_NAME),
        fields.text("mediaType", pattern=_MEDIA_TYPE, expected="a media type"),
        fields.parsed("digest", oci_digest, Sha256("")),
        fields.integer("size"),
    )
    fields.done()
    return artifact


def _kind(text: str) -> Kind:
    if text not in tuple(Kind):
        raise InputError(f"expected one of {', '.join(Kind)}, found {text[:40]!r}")
    return Kind(text)
