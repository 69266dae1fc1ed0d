"""What a smoke run states: that a command ran, on this GPU, while exactly these blobs lay in a site.

A DSSE envelope of a payload type of its own, so that neither a bundle's statement nor a root can pass for
one, over an in-toto Statement v1 whose subjects are the blobs. docs/format.md describes it field by field.
One holder of the release role is enough: a record releases nothing, it says what its signer saw
(docs/adr/0010-records-vouch-for-themselves.md). Bytes in, values out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from airgap.decode import Fields, canonical_json, parse_json
from airgap.errors import InputError, TrustError
from airgap.model import (
    NAME_PATTERN,
    VERSION_PATTERN,
    Card,
    Kind,
    Platform,
    Sha256,
    Sha384,
    oci_digest,
    sha256_hex,
    sha384_hex,
)
from airgap.trust import envelope
from airgap.trust.decide import MAX_AHEAD
from airgap.trust.envelope import MAX_RECORD, Envelope, Tally
from airgap.trust.instant import EPOCH, parse_instant, render_instant
from airgap.trust.root import Root
from airgap.trust.statement import STATEMENT_TYPE

PAYLOAD_TYPE = "application/vnd.airgap.smoke.v1+json"
PREDICATE_TYPE = "https://airgap.dev/smoke/v1"

MAX_TAIL = 64 * 1024
"""Bytes of the command's output that a record may quote."""

_BLOB = "blobs/sha256/"


@dataclass(frozen=True, slots=True)
class RanBundle:
    """A bundle of the generation that ran; `payload` is the sha384 of its statement."""

    name: str
    version: str
    payload: Sha384


@dataclass(frozen=True, slots=True)
class RanArtifact:
    """An artifact whose blobs are among the subjects; `digest` is that of its manifest."""

    kind: Kind
    name: str
    digest: Sha256


@dataclass(frozen=True, slots=True)
class Output:
    """What the command printed on both streams: how many bytes, their digest, and the end of it, or ''."""

    size: int
    sha384: Sha384
    tail: str = ""


@dataclass(frozen=True, slots=True)
class RanOn:
    """The host; '' and () for what it does not say. `engine` is a container engine that the command names."""

    cards: tuple[Card, ...]
    python: str
    libc: str
    platform: Platform
    kernel: str
    engine: tuple[str, str] | None = None
    """Name and version."""


@dataclass(frozen=True, slots=True)
class SmokeRun:
    """One run. `status` is the command's exit status as a shell has it: 128 + N after signal N.

    No value of the environment is in it; the command line is, word by word. Times are UTC in whole seconds.
    """

    command: tuple[str, ...]
    status: int
    started_at: datetime
    expires_at: datetime
    milliseconds: int
    output: Output
    host: RanOn
    bundles: tuple[RanBundle, ...]
    artifacts: tuple[RanArtifact, ...]
    blobs: Mapping[Sha256, Sha384]
    """Every blob of the artifacts, rehashed just before and untouched just after."""

    @property
    def gpu(self) -> str:
        """`8 × NVIDIA H100 80GB HBM3, driver 570.86.15`, as a person reads it; `no GPU`."""
        kinds = dict.fromkeys(f"{card.name or 'a card without a name'}, driver {card.driver or '?'}"
                              for card in self.host.cards)  # fmt: skip
        count = f"{len(self.host.cards)} × " if len(self.host.cards) > 1 and len(kinds) == 1 else ""
        return count + " and ".join(kinds) if kinds else "no GPU"


@dataclass(frozen=True, slots=True)
class Attested:
    """A run that holders of the release role vouch for."""

    run: SmokeRun
    signers: tuple[str, ...]


def render(run: SmokeRun) -> bytes:
    """The payload to sign; equal runs give equal bytes."""
    host = run.host
    engine = {"engine": {"name": host.engine[0], "version": host.engine[1]}} if host.engine else {}
    output: dict[str, object] = {"bytes": run.output.size, "sha384": run.output.sha384}
    output |= {"tail": run.output.tail} if run.output.tail else {}
    predicate = {
        "command": list(run.command),
        "exitStatus": run.status,
        "startedAt": render_instant(run.started_at),
        "expiresAt": render_instant(run.expires_at),
        "milliseconds": run.milliseconds,
        "output": output,
        "host": {
            "gpus": [
                {
                    "name": card.name,
                    "computeCapability": card.compute_capability,
                    "memoryMiB": card.memory_mib,
                    "driver": card.driver,
                }
                for card in host.cards
            ],
            "python": host.python,
            "libc": host.libc,
            "platform": str(host.platform),
            "kernel": host.kernel,
            **engine,
        },
        "bundles": [{"name": b.name, "version": b.version, "payload": b.payload} for b in run.bundles],
        "artifacts": [
            {"kind": a.kind.value, "name": a.name, "digest": f"sha256:{a.digest}"} for a in run.artifacts
        ],
    }
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [
                {"name": f"{_BLOB}{digest}", "digest": {"sha256": digest, "sha384": run.blobs[digest]}}
                for digest in sorted(run.blobs)
            ],
            "predicateType": PREDICATE_TYPE,
            "predicate": predicate,
        }
    )


def parse(payload: bytes, what: str = "record") -> SmokeRun:
    """Read a payload strictly; claims no trust. Raises InputError naming every problem."""
    fields = Fields(parse_json(payload, what, max_bytes=MAX_RECORD))
    for key, value in (("_type", STATEMENT_TYPE), ("predicateType", PREDICATE_TYPE)):
        fields.text(key, pattern=re.escape(value), expected=value)
    blobs = _read_blobs(fields)
    predicate = fields.table("predicate")
    run = SmokeRun(
        predicate.texts("command", default=None),
        predicate.integer("exitStatus"),
        predicate.parsed("startedAt", parse_instant, EPOCH),
        predicate.parsed("expiresAt", parse_instant, EPOCH),
        predicate.integer("milliseconds"),
        _read_output(predicate.table("output")),
        _read_host(predicate.table("host")),
        tuple(_read_bundle(table) for table in predicate.tables("bundles")),
        tuple(_read_artifact(table) for table in predicate.tables("artifacts")),
        blobs,
    )
    if not run.command or not run.artifacts or not run.blobs:
        fields.problem("", "expected a command, artifacts and their blobs")
    if run.status > 255:
        predicate.problem("exitStatus", "expected 0 to 255")
    if run.expires_at <= run.started_at:
        predicate.problem("expiresAt", "not after startedAt")
    for table in (predicate, fields):
        table.done()
    fields.raise_if_bad(what)
    return run


def survey(data: bytes, what: str = "record") -> tuple[SmokeRun, tuple[str, ...]]:
    """What a record says of itself, and its signatures' key ids, believing nothing. Raises InputError."""
    sealed = _open(data, what)
    keyids = tuple(sorted({signature.keyid for signature in sealed.signatures}))
    return parse(sealed.payload, what), keyids


def judge(data: bytes, root: Root, now: datetime, what: str = "record") -> Attested:
    """A run that at least one holder of the release role signed with both keys, and that still holds.

    `now` is UTC. Raises TrustError saying why it may not be believed.
    """
    try:
        sealed = _open(data, what)
        tally = envelope.tally(sealed, root.holders_of(root.release))
        if not tally.signers:
            raise _unsigned(sealed, tally, root, what)
        run = parse(sealed.payload, what)
    except InputError as error:
        raise TrustError(error.message, remedy="ask for the record again: it is damaged") from error
    for expired, when in ((f"root version {root.version}", root.expires), ("the record", run.expires_at)):
        if now >= when:
            raise TrustError(f"{what}: {expired} expired at {render_instant(when)}")
    if run.started_at - now >= MAX_AHEAD:
        raise TrustError(
            f"{what}: made at {render_instant(run.started_at)}, a day or more after this host's time",
            remedy="see that the clocks of both hosts are right",
        )
    return Attested(run, tally.signers)


def _open(data: bytes, what: str) -> Envelope:
    sealed = envelope.parse(data, what, max_bytes=MAX_RECORD)
    if sealed.payload_type != PAYLOAD_TYPE:
        raise InputError(
            f"{what}: no record of a smoke run: expected the payload type {PAYLOAD_TYPE},"
            f" found {sealed.payload_type}"
        )
    return sealed


def _unsigned(sealed: Envelope, tally: Tally, root: Root, what: str) -> TrustError:
    """A key id is a hint, which is enough to tell a person about a revoked key."""
    if root.revoked_keys.intersection(signature.keyid for signature in sealed.signatures):
        return TrustError(f"{what}: signed with a key that root version {root.version} revokes")
    return TrustError(
        f"{what}: {tally.describe(1)}", remedy="have one of them sign it: airgap attest … --key KEY"
    )


def _read_blobs(fields: Fields) -> dict[Sha256, Sha384]:
    blobs: dict[Sha256, Sha384] = {}
    for table in fields.tables("subject"):
        digest = table.table("digest")
        sha256 = digest.parsed("sha256", sha256_hex, Sha256(""))
        sha384 = digest.parsed("sha384", sha384_hex, Sha384(""))
        name = f"{_BLOB}{sha256}"
        table.text("name", pattern=re.escape(name), expected=name)
        if sha256 in blobs:
            table.problem("", f"{sha256} occurs twice")
        blobs[sha256] = sha384
        digest.done()
        table.done()
    return blobs


def _read_output(fields: Fields) -> Output:
    tail = fields.text("tail", default="")
    if len(tail.encode()) > 3 * MAX_TAIL:  # a byte that is no UTF-8 is replaced by three
        fields.problem("tail", "longer than a record may quote")
    output = Output(fields.integer("bytes"), fields.parsed("sha384", sha384_hex, Sha384("")), tail)
    fields.done()
    return output


def _read_host(fields: Fields) -> RanOn:
    engine = fields.optional_table("engine")
    host = RanOn(
        tuple(_read_card(table) for table in fields.tables("gpus")),
        fields.text("python"),
        fields.text("libc"),
        fields.parsed("platform", Platform.parse, Platform("linux", "amd64")),
        fields.text("kernel"),
        (engine.text("name"), engine.text("version")) if engine else None,
    )
    for table in (engine, fields):
        if table:
            table.done()
    return host


def _read_card(fields: Fields) -> Card:
    card = Card(
        fields.text("name"),
        fields.text("computeCapability"),
        fields.integer("memoryMiB"),
        fields.text("driver"),
    )
    fields.done()
    return card


def _read_bundle(fields: Fields) -> RanBundle:
    bundle = RanBundle(
        fields.text("name", pattern=NAME_PATTERN, expected="a bundle name"),
        fields.text("version", pattern=VERSION_PATTERN, expected="a version"),
        fields.parsed("payload", sha384_hex, Sha384("")),
    )
    fields.done()
    return bundle


def _read_artifact(fields: Fields) -> RanArtifact:
    kinds = "|".join(Kind)
    kind = fields.text("kind", pattern=kinds, expected=f"one of {', '.join(Kind)}")
    artifact = RanArtifact(
        Kind(kind or Kind.FILE),
        fields.text("name", pattern=NAME_PATTERN, expected="an artifact name"),
        fields.parsed("digest", oci_digest, Sha256("")),
    )
    fields.done()
    return artifact
