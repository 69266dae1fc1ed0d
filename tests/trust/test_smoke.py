"""The record of a smoke run: read back as it was written, and judged by who signed it and when."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError, TrustError
from airgap.model import Card, Kind, Platform, Sha256, Sha384
from airgap.trust import envelope, smoke, statement
from airgap.trust.instant import EPOCH, parse_instant
from airgap.trust.root import Role

from .people import person, root_of, sealed
from .statements import NOW, hex_digits, instants, names

L4 = Card("NVIDIA L4", "8.9", 23034, "570.86.15")


def example(**changes: object) -> smoke.SmokeRun:
    run = smoke.SmokeRun(
        ("python", "load.py"),
        0,
        NOW,
        NOW + timedelta(days=365),
        4200,
        smoke.Output(12, Sha384("a" * 96), "8 tokens"),
        smoke.RanOn(
            (L4, L4), "3.12.4", "glibc 2.35", Platform("linux", "amd64"), "Linux 6.8", ("podman", "5.0")
        ),
        (smoke.RanBundle("quickstart", "2026.11", Sha384("b" * 96)),),
        (smoke.RanArtifact(Kind.MODEL, "tiny", Sha256("c" * 64)),),
        {Sha256("c" * 64): Sha384("d" * 96), Sha256("e" * 64): Sha384("f" * 96)},
    )
    return replace(run, **changes)  # type: ignore[arg-type]


cards = st.builds(Card, st.text(max_size=20), st.text(max_size=5), st.integers(0, 10**9), st.text(max_size=9))
texts = st.text(max_size=20)
runs = st.builds(
    example,
    command=st.lists(st.text(), min_size=1, max_size=3).map(tuple),
    status=st.integers(0, 255),
    started_at=instants.filter(lambda when: when > EPOCH),
    expires_at=st.just(parse_instant("9999-01-01T00:00:00Z")),
    milliseconds=st.integers(0, 2**53),
    output=st.builds(smoke.Output, st.integers(0, 2**53), hex_digits(96), texts),
    host=st.builds(
        smoke.RanOn,
        st.lists(cards, max_size=2).map(tuple),
        texts,
        texts,
        st.just(Platform("linux", "arm64", "v8")),
        texts,
        st.none() | st.tuples(texts, texts),
    ),
    bundles=st.lists(st.builds(smoke.RanBundle, names, st.just("1.0"), hex_digits(96)), max_size=2).map(
        tuple
    ),
    artifacts=st.lists(
        st.builds(smoke.RanArtifact, st.sampled_from(Kind), names, hex_digits(64)), min_size=1, max_size=2
    ).map(tuple),
    blobs=st.dictionaries(hex_digits(64), hex_digits(96), min_size=1, max_size=3),
)


@given(runs)
def test_it_is_read_back_as_it_was_written(run: smoke.SmokeRun) -> None:
    assert smoke.parse(smoke.render(run)) == run


def judge(run: smoke.SmokeRun, *signers: str, **changes: object) -> smoke.Attested:
    data = sealed(smoke.render(run), smoke.PAYLOAD_TYPE, *signers)
    return smoke.judge(data, root_of("alice", "bob", threshold=2, **changes), NOW)  # type: ignore[arg-type]


def test_one_holder_is_enough_and_every_other_signature_is_not_counted() -> None:
    assert judge(example(), "bob").signers == ("bob",)
    assert judge(example(), "alice", "bob", "mallory") == smoke.Attested(example(), ("alice", "bob"))
    with pytest.raises(TrustError, match="0 of 1 required signed: nobody; missing: alice, bob"):
        judge(example(), "mallory")
    with pytest.raises(TrustError, match="0 of 1"):
        judge(example())


def test_who_signs_roots_alone_attests_nothing() -> None:
    root = root_of("alice", "bob", release=Role(1, ("alice",)))
    data = sealed(smoke.render(example()), smoke.PAYLOAD_TYPE, "bob")
    with pytest.raises(TrustError, match="nobody; missing: alice"):
        smoke.judge(data, root, NOW)


def test_one_of_two_signatures_is_none() -> None:
    half = envelope.sign(smoke.render(example()), smoke.PAYLOAD_TYPE, person("alice"))[:1]
    data = envelope.render(smoke.render(example()), smoke.PAYLOAD_TYPE, half)
    with pytest.raises(TrustError, match="with only one of two signatures: alice"):
        smoke.judge(data, root_of("alice"), NOW)


@pytest.mark.parametrize(
    ("changes", "root", "said"),
    [
        ({"started_at": NOW + timedelta(days=1), "expires_at": NOW + timedelta(days=9)}, {}, "a day or more"),
        ({}, {"expires": NOW}, "root version 1 expired"),
        ({"started_at": NOW - timedelta(days=9), "expires_at": NOW}, {}, "the record expired"),
    ],
)
def test_it_counts_for_a_time(changes: dict[str, object], root: dict[str, object], said: str) -> None:
    with pytest.raises(TrustError, match=said):
        judge(example(**changes), "alice", **root)


def test_a_revoked_key_is_named_as_the_reason() -> None:
    revoked = frozenset({person("mallory").holder.p384.keyid})
    with pytest.raises(TrustError, match="a key that root version 1 revokes"):
        judge(example(), "mallory", revoked_keys=revoked)


def test_it_passes_for_no_statement_and_no_statement_passes_for_it() -> None:
    data = sealed(smoke.render(example()), statement.PAYLOAD_TYPE, "alice")
    with pytest.raises(TrustError, match="expected the payload type"):
        smoke.judge(data, root_of("alice"), NOW)
    with pytest.raises(InputError):
        statement.parse(smoke.render(example()))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (b'"exitStatus":0', b'"exitStatus":256', "0 to 255"),
        (b'"command":["python","load.py"]', b'"command":[]', "expected a command"),
        (b'"kind":"model"', b'"kind":"modem"', "one of wheels, model"),
        (b"blobs/sha256/c", b"blobs/sha256/d", "expected blobs/sha256/c"),
        (b"/smoke/v1", b"/smoke/v2", "airgap.dev/smoke/v1"),
        (b'"milliseconds":4200', b'"milliseconds":4200,"more":1', "unknown key"),
        (b'"expiresAt":"2027-', b'"expiresAt":"2017-', "not after startedAt"),
        (b"e" * 64, b"c" * 64, "occurs twice"),
    ],
)
def test_what_is_not_a_record_is_refused(old: bytes, new: bytes, said: str) -> None:
    payload = smoke.render(example())
    assert old in payload
    with pytest.raises(InputError, match=said):
        smoke.parse(payload.replace(old, new))


def test_a_person_reads_the_gpus_in_few_words() -> None:
    host = example().host
    assert example().gpu == "2 × NVIDIA L4, driver 570.86.15"
    assert example(host=replace(host, cards=())).gpu == "no GPU"
    other = Card("", "", 0, "")
    both = "NVIDIA L4, driver 570.86.15 and a card without a name, driver ?"
    assert example(host=replace(host, cards=(L4, other))).gpu == both
