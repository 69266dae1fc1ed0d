"""Statements for the tests: one small real one, and a strategy for any."""

from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

from airgap.model import Gpu, Kind, Platform, Sha256, Sha384, Target
from airgap.trust.blobs import Base, StatedBlob
from airgap.trust.statement import Previous, StatedArtifact, Statement, Subject

NOW = datetime(2026, 11, 23, 15, 4, 5, tzinfo=UTC)
TARGET = Target("3.12", Platform("linux", "amd64"), "2.35", Gpu("NVIDIA L4", "8.9", 24, 4), "570.86")


def example(**changes: object) -> Statement:
    """A bundle of one file, created at NOW, valid for a year."""
    lock, manifest = Sha256("1" * 64), Sha256("2" * 64)
    values: dict[str, object] = {
        "name": "quickstart",
        "version": "2026.11",
        "channel": "quickstart",
        "epoch": 0,
        "sequence": 2,
        "previous": Previous(1, Sha384("3" * 96)),
        "created_at": NOW,
        "expires_at": NOW + timedelta(days=365),
        "target": TARGET,
        "lock": lock,
        "artifacts": (
            StatedArtifact(Kind.FILE, "notes", "application/vnd.oci.image.manifest.v1+json", manifest, 400),
        ),
        "blobs": {lock: StatedBlob(Sha384("4" * 96), 100), manifest: StatedBlob(Sha384("5" * 96), 400)},
        "index": Subject(Sha256("6" * 64), Sha384("6" * 96)),
        "sums": Subject(Sha256("7" * 64), Sha384("7" * 96)),
    }
    return Statement(**(values | changes))  # type: ignore[arg-type]


def hex_digits(count: int) -> st.SearchStrategy[str]:
    return st.text("0123456789abcdef", min_size=count, max_size=count)


names = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,5})?", fullmatch=True)
instants = st.datetimes(datetime(1, 1, 1), datetime(9998, 1, 1)).map(
    lambda when: when.replace(microsecond=0, tzinfo=UTC)
)
targets = st.builds(
    Target,
    st.sampled_from(["3.9", "3.12"]),
    st.builds(Platform, st.just("linux"), st.sampled_from(["amd64", "arm64"]), st.sampled_from(["", "v8"])),
    st.sampled_from(["2.17", "2.35"]),
    st.none() | st.builds(Gpu, st.text(), st.just("9.0a"), st.integers(1, 999), st.integers(1, 64)),
    st.sampled_from(["", "570.86"]),
)
subjects = st.builds(Subject, hex_digits(64), hex_digits(96))


def _bases(leavable: frozenset[Sha256]) -> st.SearchStrategy[Base | None]:
    """A base of some of the blobs that need not travel; none where there is no such blob."""
    if not leavable:
        return st.none()
    blobs = st.frozensets(st.sampled_from(sorted(leavable)), min_size=1)
    return st.none() | st.builds(Base, hex_digits(96), blobs)


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    sizes = st.integers(0, 2**40)
    stated = st.builds(StatedBlob, hex_digits(96), sizes)
    blobs = draw(st.dictionaries(hex_digits(64), stated, min_size=1, max_size=5))
    digests = st.sampled_from(sorted(blobs))
    artifacts = []
    for name in draw(st.lists(names, max_size=4, unique=True)):
        digest = draw(digests)
        kind, media_type = draw(st.sampled_from(Kind)), "application/vnd.oci.image.manifest.v1+json"
        artifacts.append(StatedArtifact(kind, name, media_type, Sha256(digest), blobs[digest].size))
    sequence = draw(st.integers(1, 2**53 - 1))
    before = st.builds(Previous, st.integers(1, max(1, sequence - 1)), hex_digits(96))
    created = draw(instants)
    lock = draw(digests)
    return example(
        name=draw(names),
        channel=draw(names),
        epoch=draw(st.integers(0, 9)),
        sequence=sequence,
        previous=draw(st.none() | before) if sequence > 1 else None,
        created_at=created,
        expires_at=created + timedelta(seconds=draw(st.integers(1, 10**6))),
        target=draw(targets),
        lock=lock,
        artifacts=tuple(artifacts),
        blobs=blobs,
        index=draw(subjects),
        sums=draw(subjects),
        audience=tuple(draw(st.lists(names, max_size=3, unique=True))),
        base=draw(
            _bases(frozenset(map(Sha256, blobs)) - {lock, *(artifact.digest for artifact in artifacts)})
        ),
    )
