"""Any blob, as an audit looks into it under every role: archives, pickles, texts, and a model's card.

Invariant: nothing escapes, whatever the bytes are: what cannot be looked into is noticed. Every file inside
is listed once, and no more is unpacked than the budget allows.
"""

import gzip
import io
import zipfile
from functools import cache

from airgap.audit.look import Looker, Role
from airgap.audit.models import CARD, see_model
from airgap.audit.streams import Budget, Peeking
from airgap.audit.types import HEAD, sniff
from airgap.audit.wheel_seen import check_record, kept_of_wheel, read_seen
from airgap.model import ModelArtifact
from airgap.readers.source import BytesSource
from airgap.readers.zip import Archive
from tests import bundles
from tests.audit.faults import CARD as CARD_TEXT
from tests.audit.faults import HARMLESS, MALICIOUS, SYSTEM, layer, safetensors, wheel
from tests.fuzz.harness import accepted


@cache
def seeds() -> dict[str, bytes]:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", HARMLESS)
        archive.writestr("inner.gz", gzip.compress(b"text\n", mtime=0))
    return {
        "wheel": wheel()[1],
        "layer": layer(*SYSTEM),
        "torch": out.getvalue(),
        "pickle": MALICIOUS,
        "card": CARD_TEXT,
        "safetensors": safetensors(),
        "bad-nothing": b"",
    }


def check(data: bytes) -> bool:
    kind = sniff(data[:HEAD], len(data))
    for role in Role:
        looker = Looker(role, "x-1.0-py3-none-any.whl", len(data), kept_of_wheel)
        archive = accepted(lambda _: Archive(BytesSource(data), "x"), data) if kind == "zip" else None
        if archive is None:
            looker.forward(Peeking(io.BytesIO(data), lambda piece: None), kind, len(data))
        else:
            looker.archive(archive)
            seen = read_seen(archive, "alpha-1.0-py3-none-any.whl")
            members = {one.path: (one.sha256, one.size) for one in looker.seen.inner if one.depth == 1}
            assert check_record(seen, members).checked <= len(members)
        paths = [one.path for one in looker.seen.inner]
        assert kind != "zip" or len(paths) == len(set(paths))
        assert looker.seen.unpacked <= Budget(len(data)).allowed + (1 << 20)
    artifact = bundles.model("m", {CARD: data}).artifact
    assert isinstance(artifact, ModelArtifact)
    see_model(artifact, {CARD: data}, frozenset())
    return kind != "empty"
