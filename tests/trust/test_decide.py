"""The verdict on a bundle's statement, and that its checks run in the stated order."""

from datetime import timedelta

import pytest

from airgap.errors import InputError, TrustError
from airgap.model import Sha384
from airgap.trust.decide import Accepted, judge, survey
from airgap.trust.envelope import payload_digest
from airgap.trust.root import PAYLOAD_TYPE as ROOT_TYPE
from airgap.trust.root import Floor, Role, Root
from airgap.trust.root import render as render_root
from airgap.trust.statement import PAYLOAD_TYPE, Statement, render

from .people import person, root_of, sealed, sealed_root
from .statements import NOW, example

OTHER = Sha384("a" * 96)


def bundle(statement: Statement, *signers: str) -> bytes:
    return sealed(render(statement), PAYLOAD_TYPE, *signers)


def two_of_three(**changes: object) -> Root:
    return root_of("alice", "bob", "carol", threshold=2, **changes)  # type: ignore[arg-type]


def refused(data: bytes, match: str, root: Root | None = None, **more: object) -> TrustError:
    with pytest.raises(TrustError, match=match) as caught:
        judge(data, root or two_of_three(), **({"now": NOW} | more))  # type: ignore[arg-type]
    return caught.value


def test_a_bundle_that_enough_holders_signed_is_believed() -> None:
    statement = example()
    judged = judge(bundle(statement, "carol", "alice"), two_of_three(), NOW)
    assert judged.statement == statement
    assert judged.payload == payload_digest(render(statement))
    assert (judged.signers, judged.missing) == (("alice", "carol"), ("bob",))


def test_a_bundle_that_lacks_a_holder_says_who_signed_and_who_is_missing() -> None:
    error = refused(bundle(example(), "bob"), "1 of 2 required signed: bob; missing: alice, carol")
    assert error.exit_code == 7


def test_only_the_release_role_counts() -> None:
    holders = tuple(person(name).holder for name in ("alice", "bob"))
    root = Root(1, NOW + timedelta(1), holders, Role(1, ("alice",)), Role(1, ("bob",)))
    refused(bundle(example(), "alice"), "0 of 1 required signed", root)
    assert judge(bundle(example(), "bob"), root, NOW).signers == ("bob",)


def test_a_root_replayed_as_a_bundle() -> None:
    refused(sealed_root(two_of_three(), "alice", "bob"), "expected the payload type application/vnd.in-toto")
    data = sealed(render_root(two_of_three()), ROOT_TYPE, "alice", "bob")
    refused(data.replace(ROOT_TYPE.encode(), PAYLOAD_TYPE.encode()), "0 of 2 required signed")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_a_damaged_envelope_is_a_matter_of_trust(data: bytes) -> None:
    assert refused(data, "bundle.dsse.json").remedy


def test_a_signed_payload_that_is_no_statement_names_who_signed_it() -> None:
    error = refused(sealed(b"{}", PAYLOAD_TYPE, "alice", "bob"), "problems")
    assert "alice, bob signed" in error.remedy


def test_an_unsigned_payload_is_never_parsed() -> None:
    """Payload bytes that any parser would choke on are refused for their signatures."""
    refused(sealed(b"\xff{{{", PAYLOAD_TYPE, "alice"), "1 of 2 required signed")


def test_expired_bundle() -> None:
    data = bundle(example(expires_at=NOW + timedelta(seconds=1)), "alice", "bob")
    assert judge(data, two_of_three(), NOW)
    refused(data, "quickstart 2026.11 expired at 2026-11-23T15:04:06Z", now=NOW + timedelta(seconds=1))


def test_expired_root() -> None:
    root = two_of_three(expires=NOW, version=4)
    refused(bundle(example(), "alice", "bob"), "root version 4 expired", root)


def test_revoked_bundle() -> None:
    digest = payload_digest(render(example()))
    root = two_of_three(revoked_bundles=frozenset({digest}))
    refused(bundle(example(), "alice", "bob"), "revokes this bundle", root)


def test_a_floor_of_the_root() -> None:
    data = bundle(example(), "alice", "bob")
    root = two_of_three(floors={"quickstart": Floor(0, 2), "other": Floor(9, 9)})
    assert judge(data, root, NOW)
    root = two_of_three(floors={"quickstart": Floor(0, 3)})
    refused(data, "demands epoch 0, sequence 3; found epoch 0, sequence 2", root)


def test_lower_sequence() -> None:
    memory = {"quickstart": Accepted(Floor(0, 3), OTHER)}
    data = bundle(example(), "alice", "bob")
    refused(data, "this site has accepted epoch 0, sequence 3; found epoch 0, sequence 2", accepted=memory)
    assert judge(data, two_of_three(), NOW, {"other": Accepted(Floor(0, 3), OTHER)})


def test_equal_sequence_with_other_payload() -> None:
    data = bundle(example(), "alice", "bob")
    memory = {"quickstart": Accepted(Floor(0, 2), OTHER)}
    refused(data, "two different statements claim epoch 0, sequence 2", accepted=memory)
    same = {"quickstart": Accepted(Floor(0, 2), payload_digest(render(example())))}
    assert judge(data, two_of_three(), NOW, same)


def test_a_new_epoch_recovers_from_a_sequence_pushed_too_high() -> None:
    memory = {"quickstart": Accepted(Floor(0, 2**53 - 1), OTHER)}
    refused(bundle(example(), "alice", "bob"), "which is older", accepted=memory)
    fresh = example(epoch=1, sequence=1, previous=None)
    assert judge(bundle(fresh, "alice", "bob"), two_of_three(), NOW, memory)


def test_signatures_are_judged_before_everything_else() -> None:
    """Every later check would refuse this bundle too; the missing signature is what is said."""
    root = two_of_three(
        expires=NOW,
        revoked_bundles=frozenset({payload_digest(render(example()))}),
        floors={"quickstart": Floor(9, 9)},
    )
    refused(bundle(example(), "alice"), "1 of 2 required signed", root)
    refused(bundle(example(), "alice", "bob"), "expired", root)


def test_a_survey_shows_without_believing() -> None:
    data = bundle(example(), "alice")
    shown = survey(data)
    assert (shown.statement, shown.tally) == (example(), None)
    assert set(shown.keyids) == set(person("alice").holder.keyids)
    shown = survey(data, two_of_three())
    assert shown.tally is not None
    assert shown.tally.describe(shown.threshold) == "1 of 2 required signed: alice; missing: bob, carol"
    with pytest.raises(InputError):
        survey(sealed_root(two_of_three()))
