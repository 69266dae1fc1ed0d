"""DSSE v1 envelopes (secure-systems-lab/dsse, protocol.md and envelope.md), read more strictly than asked.

What is signed is the pre-authentication encoding, so a payload is never parsed before it is verified
and never canonicalised again. The algorithm comes from the trusted key; the envelope names none, and its
key ids only say which key to try first. Base64 is the standard alphabet in its one canonical spelling.
"""

import base64
import hashlib
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from airgap.decode import MAX_DOCUMENT, Fields, canonical_json, parse_base64, parse_json
from airgap.errors import TrustError
from airgap.model import Sha384
from airgap.trust.keys import Algorithm, Holder, Message, PublicKey, Signer, shared_keys

MAX_ENVELOPE = MAX_DOCUMENT
"""Bytes; a statement over 100 000 blobs makes an envelope of 27 MB."""

MAX_RECORD = 4 * 1024 * 1024
"""Bytes of the envelope of a smoke record; each blob adds about 400."""

MAX_SIGNATURES = 128
"""Two for each of 64 holders; bounds the work an unsigned envelope can ask for."""

_PRINTABLE = r"[ -~]{0,128}"


@dataclass(frozen=True, slots=True)
class Signature:
    """`keyid` is a hint; `sig` is DER for P-384, 4627 raw bytes for ML-DSA-87."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope: nothing in it is believed yet."""

    payload: bytes
    payload_type: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class Tally:
    """Who signed, by name and sorted. `partial` signed with one of their two keys, and do not count."""

    signers: tuple[str, ...]
    partial: tuple[str, ...]
    missing: tuple[str, ...]
    """Everyone else who may sign."""

    def met(self, threshold: int) -> bool:
        return len(self.signers) >= threshold

    def describe(self, threshold: int) -> str:
        """`1 of 2 required signed: alice; missing: bob; with only one of two signatures: carol`."""
        text = f"{len(self.signers)} of {threshold} required signed: {', '.join(self.signers) or 'nobody'}"
        if self.missing:
            text += f"; missing: {', '.join(self.missing)}"
        if self.partial:
            text += f"; with only one of two signatures: {', '.join(self.partial)}"
        return text


@dataclass(frozen=True, slots=True)
class Verified:
    """The exact payload bytes that enough holders signed, and who they are."""

    payload: bytes
    tally: Tally

    @property
    def signers(self) -> tuple[str, ...]:
        return self.tally.signers

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(sorted((*self.tally.missing, *self.tally.partial)))


def pae(payload: bytes, payload_type: str) -> bytes:
    """The pre-authentication encoding; the lengths keep type and payload from leaking into each other."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def payload_digest(payload: bytes) -> Sha384:
    """What floors, `previous` and revocations name a payload by."""
    return Sha384(hashlib.sha384(payload).hexdigest())


def parse(data: bytes, what: str = "envelope", *, max_bytes: int = MAX_ENVELOPE) -> Envelope:
    """Read an envelope without believing it. Raises InputError naming every problem."""
    fields = Fields(parse_json(data, what, max_bytes=max_bytes))
    payload = fields.parsed("payload", lambda text: parse_base64(text, "payload"), b"")
    payload_type = fields.text("payloadType", pattern=r"[!-~]{1,128}", expected="a media type")
    tables = fields.tables("signatures")
    if len(tables) > MAX_SIGNATURES:
        fields.problem("signatures", f"{len(tables)} signatures, more than the {MAX_SIGNATURES} allowed")
    signatures = tuple(_read_signature(table) for table in tables[:MAX_SIGNATURES])
    fields.done()
    fields.raise_if_bad(what)
    return Envelope(payload, payload_type, signatures)


def _read_signature(fields: Fields) -> Signature:
    keyid = fields.text("keyid", default="", pattern=_PRINTABLE, expected="printable ASCII")
    sig = fields.parsed("sig", lambda text: parse_base64(text, "sig"), b"")
    fields.done()
    return Signature(keyid, sig)


def render(payload: bytes, payload_type: str, signatures: Iterable[Signature]) -> bytes:
    """The envelope's bytes; the order in which people signed leaves no trace in them."""
    ordered = sorted(signatures, key=lambda signature: (signature.keyid, signature.sig))
    return canonical_json(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": [
                {"keyid": signature.keyid, "sig": base64.b64encode(signature.sig).decode()}
                for signature in ordered
            ],
        }
    )


def sign(payload: bytes, payload_type: str, signer: Signer) -> tuple[Signature, Signature]:
    """Both signatures of one holder, each checked with the public key before anyone else sees it.

    Raises TrustError when a signer (a token, a bad key file) does not sign as the holder it claims.
    """
    message = Message.of(pae(payload, payload_type))

    def one(algorithm: Algorithm, key: PublicKey) -> Signature:
        signature = Signature(key.keyid, signer.sign(algorithm, message))
        if not key.verifies(signature.sig, message):
            raise TrustError(
                f"the {algorithm.label} signature of {holder.name} does not verify with their own key"
            )
        return signature

    holder = signer.holder
    return one(Algorithm.P384, holder.p384), one(Algorithm.MLDSA87, holder.mldsa87)


def add(data: bytes, signatures: Iterable[Signature], what: str = "envelope") -> bytes:
    """The envelope with `signatures` in place of earlier ones by the same key ids. Raises InputError."""
    envelope = parse(data, what)
    new = {signature.keyid: signature for signature in signatures}
    kept = {signature for signature in envelope.signatures if signature.keyid not in new}
    return render(envelope.payload, envelope.payload_type, [*kept, *new.values()])


def tally(envelope: Envelope, holders: Collection[Holder]) -> Tally:
    """Count holders, never signatures: one counts when both of their keys verify one each.

    Raises TrustError when two of the holders share a name or a key.
    """
    names = [holder.name for holder in holders]
    problems = shared_keys(holders)
    if len(set(names)) != len(names) or problems:
        raise TrustError("holders must differ: " + ("; ".join(problems) or "a name occurs twice"))
    message = Message.of(pae(envelope.payload, envelope.payload_type))
    counts = {
        holder.name: sum(
            _verifies(key, envelope.signatures, message) for key in (holder.p384, holder.mldsa87)
        )
        for holder in holders
    }

    def having(count: int) -> tuple[str, ...]:
        return tuple(sorted(name for name, found in counts.items() if found == count))

    return Tally(signers=having(2), partial=having(1), missing=having(0))


def _verifies(key: PublicKey, signatures: Sequence[Signature], message: Message) -> bool:
    hinted_first = sorted(signatures, key=lambda signature: signature.keyid != key.keyid)
    return any(key.verifies(signature.sig, message) for signature in hinted_first)


def verify(
    data: bytes, payload_type: str, holders: Collection[Holder], threshold: int, what: str = "envelope"
) -> Verified:
    """The payload, once `threshold` distinct holders are proven to have signed it as `payload_type`.

    Raises InputError for a malformed envelope, TrustError for another payload type or too few holders.
    """
    envelope = parse(data, what)
    if envelope.payload_type != payload_type:
        raise TrustError(f"{what}: expected the payload type {payload_type}, found {envelope.payload_type}")
    if threshold < 1:
        raise TrustError(f"{what}: a threshold of {threshold} would believe anyone")
    found = tally(envelope, holders)
    if not found.met(threshold):
        raise TrustError(
            f"{what}: {found.describe(threshold)}", remedy="have the missing holders sign it, then try again"
        )
    return Verified(envelope.payload, found)
