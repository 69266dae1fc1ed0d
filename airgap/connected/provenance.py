"""Who says that they made a wheel: the attestations its index has of it, carried as they are.

Source: PEP 740; in-toto attestation spec v1 for the statements. What is checked is what the bytes alone
can show: that the document is one, and about exactly this wheel. Signatures are not judged: that takes
Sigstore's roots, which neither the wheel nor its index can vouch for.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from functools import partial
from threading import Event
from urllib.parse import urlsplit

from airgap.connected.index import login_for
from airgap.connected.resolver_protocol import Choice
from airgap.connected.source import Context
from airgap.connected.transfer import HttpRefusal, TooLarge
from airgap.decode import Fields, parse_base64, parse_json
from airgap.errors import AirgapError, InputError, SourceError
from airgap.model import (
    PROVENANCE_SUFFIX,
    Finding,
    Local,
    LockedFile,
    Provenance,
    ProvenanceState,
    Remote,
    Severity,
    Sha256,
    bundle_path,
)
from airgap.oci import without_nulls
from airgap.workers import run_all

MAX_PROVENANCE = 1024 * 1024
"""Bytes of the attestations of one wheel; those of the public index have some 10 KB."""

STATEMENT = "https://in-toto.io/Statement/v1"
_JOBS = 4
_MAX_PUBLISHER = 200
_MAX_PUBLISHERS = 20

Carried = tuple[Provenance | None, LockedFile | None]
"""What was found of one wheel, None for a local one, and the file that travels where it is present."""


def attestations_of(
    wheels: Sequence[LockedFile], choices: Sequence[Choice], logins: Sequence[str], context: Context
) -> list[Carried]:
    """Of each wheel what its index has; an index that cannot be asked makes it UNKNOWN, no error.

    A host that failed is not asked for the next wheel: each time would cost all the retries. A wheel that
    was built here has none: its sdist's are about other bytes. Raises HostError.
    """
    silent: set[str] = set()
    works = [
        partial(_ask, wheel, c.provenance if wheel.origin == Remote(c.url) else "", logins, context, silent)
        for wheel, c in zip(wheels, choices, strict=True)
    ]
    return run_all(works, _JOBS, Event())


def _ask(wheel: LockedFile, url: str, logins: Sequence[str], context: Context, silent: set[str]) -> Carried:
    """`silent` are the hosts that failed so far; all threads share it."""
    if isinstance(wheel.origin, Local):
        return None, None
    if not url:
        return Provenance(ProvenanceState.ABSENT), None
    if not re.fullmatch(r"https?://\S+", url):
        return Provenance(ProvenanceState.FAILED, reason="its index names no URL of http or https"), None
    path = bundle_path(f"{wheel.path}{PROVENANCE_SUFFIX}")
    host = urlsplit(url).netloc
    unasked = Provenance(ProvenanceState.UNKNOWN, reason=f"{host} could not be asked"), None
    if host in silent:
        return unasked
    try:
        reply = context.transfer.get(url, what=path, max_bytes=MAX_PROVENANCE, auth=login_for(url, logins))
        publishers = read_provenance(reply.body, wheel.path, wheel.sha256)
    except (InputError, TooLarge) as error:
        return Provenance(ProvenanceState.FAILED, reason=one_line(error)), None
    except HttpRefusal as refusal:
        return Provenance(ProvenanceState.UNKNOWN, reason=one_line(refusal)), None
    except SourceError:
        silent.add(host)
        return unasked
    context.store.add_bytes(reply.body)
    digest = Sha256(hashlib.sha256(reply.body).hexdigest())
    file = LockedFile(path, len(reply.body), digest, Remote(url))
    return Provenance(ProvenanceState.PRESENT, publishers, files=(path,)), file


def one_line(error: AirgapError) -> str:
    """Why nothing is carried, as a lock keeps it: no more than a line."""
    return " ".join(error.message.split())[:500]


def read_provenance(data: bytes, wheel: str, sha256: Sha256) -> tuple[str, ...]:
    """The publishers that a provenance object (PEP 740) names, each once; every one is a claim.

    Raises InputError unless it is one, holds an attestation, and each is about this wheel.
    """
    what = f"attestations of {wheel}"
    fields = Fields(without_nulls(parse_json(data, what, max_bytes=MAX_PROVENANCE, floats=True)))
    fields.raise_if_bad(what)
    if fields.integer("version") != 1:
        fields.problem("version", "expected 1")
    publishers = []
    count = 0
    for bundle in fields.tables("attestation_bundles"):
        publishers.append(_publisher(bundle.table("publisher")))
        for attestation in bundle.tables("attestations"):
            count += 1
            _judge_attestation(attestation, wheel, sha256)
    if not count:
        fields.problem("attestation_bundles", "expected an attestation, found none")
    if len(publishers) > _MAX_PUBLISHERS:
        fields.problem("attestation_bundles", f"more than {_MAX_PUBLISHERS}")
    fields.raise_if_bad(what)
    return tuple(dict.fromkeys(publishers))


def _publisher(fields: Fields) -> str:
    """`GitHub org/name (release.yml)`; the keys beside `kind` are each kind's own, as the index has them."""
    kind = fields.text("kind")
    where = next((v for key in ("repository", "email", "sub") if isinstance(v := fields.raw(key), str)), "")
    flow = next((v for key in ("workflow", "workflow_filepath") if isinstance(v := fields.raw(key), str)), "")
    said = " ".join(filter(None, (kind, where, f"({flow})" if flow else "")))
    if not said.isprintable() or len(said) > _MAX_PUBLISHER:
        fields.problem("", f"expected a publisher's name, found {said[:80]!r}")
        return ""
    return said


def _judge_attestation(fields: Fields, wheel: str, sha256: Sha256) -> None:
    if fields.integer("version") != 1:
        fields.problem("version", "expected 1")
    fields.table("verification_material")
    envelope = fields.table("envelope")
    encoded, signature = envelope.text("statement"), envelope.text("signature")
    try:
        parse_base64(signature, "signature")
        statement = Fields(parse_json(parse_base64(encoded, "statement"), "statement", floats=True))
    except InputError as error:
        envelope.problem("", error.message)
        return
    if statement.text("_type") != STATEMENT:
        statement.problem("_type", f"expected {STATEMENT}")
    subjects = [
        (subject.text("name"), subject.table("digest").text("sha256"))
        for subject in statement.tables("subject")
    ]
    for problem in statement.problems:
        envelope.problem("statement", problem)
    if not any(digest == sha256 and _same_file(name, wheel) for name, digest in subjects):
        shown = ", ".join(f"{name[:100]} of sha256 {digest[:64]}" for name, digest in subjects[:3])
        envelope.problem(
            "statement", f"expected it about {wheel} of sha256 {sha256}, found {shown or 'none'}"
        )


def _same_file(name: str, wheel: str) -> bool:
    """PEP 740 compares names as PEP 427 and 440 normalise them."""
    return re.sub(r"[-_.]+", "-", name).lower() == re.sub(r"[-_.]+", "-", wheel).lower()


def judge(name: str, packages: Sequence[tuple[str, Provenance]]) -> Iterator[Finding]:
    """What a person should know about the attestations of a set, given by package."""
    for package, found in packages:
        if found.state is ProvenanceState.FAILED:
            yield Finding(
                "provenance-failed",
                Severity.WARNING,
                f"{name}: {package}",
                f"what its index has as its attestations is not carried: {found.reason}",
                remedy="ask who runs the index; the wheel itself has the sha256 that the index gives",
            )
        elif found.state is ProvenanceState.UNKNOWN:
            yield Finding(
                "provenance-unknown",
                Severity.WARNING,
                f"{name}: {package}",
                f"whether it has attestations is not known: {found.reason}",
                remedy=f"airgap lock … --upgrade {name} asks again",
            )
