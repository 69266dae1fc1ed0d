"""The next root: what it keeps, what it changes, who signs it, and a chain of them."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.errors import InputError, TrustError
from airgap.model import Sha384
from airgap.trust.keys import Holder
from airgap.trust.root import Floor, Role, Root, load_pinned, verify_next
from airgap.trust.succession import MAX_VERSIONS, Change, follow, standing, succeed

from .people import person, root_of, sealed_root
from .statements import NOW, hex_digits

LATER = NOW + timedelta(days=700)


def chain(*holders: tuple[str, ...]) -> dict[int, bytes]:
    """Versions 1, 2, … each with these holders, signed by them and by those before."""
    found: dict[int, bytes] = {}
    before: tuple[str, ...] = ()
    for version, names in enumerate(holders, 1):
        signers = sorted({*names, *before})
        found[version] = sealed_root(root_of(*names, version=version, threshold=len(names)), *signers)
        before = names
    return found


def test_a_root_without_changes_is_the_next_version_with_a_later_expiry() -> None:
    old = root_of(
        "alice", "bob", threshold=2, floors={"main": Floor(1, 2)}, revoked_keys=frozenset({"a" * 64})
    )
    new = succeed(old, Change(), LATER)
    assert (new.version, new.expires) == (2, LATER)
    assert (new.holders, new.root, new.release) == (old.holders, old.root, old.release)
    assert (new.floors, new.revoked_keys) == (old.floors, old.revoked_keys)
    assert verify_next(old, sealed_root(new, "alice", "bob")) == new


def test_holders_come_and_go_and_thresholds_change() -> None:
    old = root_of("alice", "bob", threshold=2)
    change = Change((person("carol").holder,), frozenset({"bob"}), root_threshold=1)
    new = succeed(old, change, LATER)
    assert [holder.name for holder in new.holders] == ["alice", "carol"]
    assert (new.root, new.release) == (Role(1, ("alice", "carol")), Role(2, ("alice", "carol")))
    assert verify_next(old, sealed_root(new, "alice", "bob")) == new
    with pytest.raises(TrustError, match="1 of 2 required signed: alice; missing: bob"):
        verify_next(old, sealed_root(new, "alice", "carol"))


def test_a_holder_gets_new_keys_under_the_old_name() -> None:
    other = person("carol").holder
    renamed = Holder("bob", other.p384, other.mldsa87)
    old = root_of("alice", "bob")
    with pytest.raises(InputError, match="bob: a holder already"):
        succeed(old, Change((renamed,)), LATER)
    new = succeed(old, Change((renamed,), frozenset({"bob"})), LATER)
    assert new.holders[1].keyids == person("carol").holder.keyids


def test_revoking_a_holder_revokes_both_keys_for_good() -> None:
    old = root_of("alice", "bob")
    new = succeed(old, Change(revoke_holders=frozenset({"bob"})), LATER)
    assert new.revoked_keys == set(person("bob").holder.keyids)
    assert new.root.holders == ("alice",)
    with pytest.raises(InputError, match="is revoked"):
        succeed(new, Change((person("bob").holder,)), LATER)


@pytest.mark.parametrize("half", [0, 1])
def test_revoking_one_key_removes_its_holder(half: int) -> None:
    keyid = person("bob").holder.keyids[half]
    new = succeed(root_of("alice", "bob"), Change(revoke_keys=frozenset({keyid})), LATER)
    assert new.revoked_keys == frozenset({keyid})
    assert [holder.name for holder in new.holders] == ["alice"]


def test_a_threshold_that_the_rest_cannot_meet_is_refused() -> None:
    with pytest.raises(InputError, match="a threshold of 2 cannot be met by 1 holders"):
        succeed(root_of("alice", "bob", threshold=2), Change(revoke_holders=frozenset({"bob"})), LATER)


def test_what_a_change_may_not_do() -> None:
    old = root_of("alice", floors={"main": Floor(1, 5)})
    with pytest.raises(InputError, match="no holder mallory") as caught:
        succeed(old, Change(remove=frozenset({"mallory"})), LATER)
    assert "alice" in caught.value.remedy
    with pytest.raises(InputError, match="the floor of main would be lowered"):
        succeed(old, Change(floors={"main": Floor(0, 9)}), LATER)
    assert succeed(old, Change(floors={"main": Floor(2, 0)}), LATER).floors == {"main": Floor(2, 0)}


@given(
    st.frozensets(hex_digits(64), max_size=3),
    st.frozensets(hex_digits(96).map(Sha384), max_size=3),
    st.integers(0, 9),
)
@settings(max_examples=20, deadline=None)
def test_every_successor_follows_its_root(keys: frozenset[str], bundles: frozenset[Sha384], up: int) -> None:
    old = root_of("alice", floors={"main": Floor(0, 3)}, revoked_keys=frozenset({"b" * 64}))
    change = Change(revoke_keys=keys, revoke_bundles=bundles, floors={"main": Floor(0, 3 + up)})
    new = succeed(old, change, LATER)
    assert verify_next(old, sealed_root(new, "alice")) == new


def test_standing_counts_each_version_apart() -> None:
    old, new = root_of("alice", "bob", threshold=2), root_of("bob", "carol", threshold=2, version=2)
    found = standing(sealed_root(new, "bob"), old)
    assert [(version, tally.signers, need) for version, tally, need in found.tallies] == [
        (1, ("bob",), 2),
        (2, ("bob",), 2),
    ]
    assert len(found.lacking) == 2
    found = standing(sealed_root(new, "alice", "bob"), old)
    assert [version for version, *_ in found.lacking] == [2]
    assert not found.complete
    assert standing(sealed_root(new, "alice", "bob", "carol"), old).complete
    assert not standing(sealed_root(new, "alice"), None).complete


def start(data: bytes) -> Root:
    return load_pinned(data)


def test_a_chain_is_followed_in_order_and_only_beyond_what_is_trusted() -> None:
    roots = chain(("alice", "bob"), ("bob", "carol"), ("carol",), ("carol", "dave"))
    read: list[int] = []

    def reading(version: int) -> bytes:
        read.append(version)
        return roots[version]

    found = follow(start(roots[1]), [4, 2, 3, 1], reading)
    assert [one.root.version for one in found] == read == [2, 3, 4]
    assert [one.data for one in found] == [roots[2], roots[3], roots[4]]
    assert follow(found[-1].root, roots, reading) == ()
    assert read == [2, 3, 4]


def test_a_gap_names_what_is_missing() -> None:
    roots = chain(*[("alice",)] * 7)
    with pytest.raises(
        TrustError, match="root version 1 is trusted, and version 7 is here; missing: 3, 5, 6"
    ):
        follow(start(roots[1]), [2, 4, 7], roots.__getitem__)
    with pytest.raises(TrustError, match=r"missing: 2, 3, .*, 21, …"):
        follow(start(roots[1]), [500], roots.__getitem__)
    with pytest.raises(TrustError, match="missing: 2, 3"):
        follow(start(roots[1]), [10**8, MAX_VERSIONS + 9], roots.__getitem__)


def test_a_chain_has_an_end() -> None:
    """Nothing is read of one that is longer than any honest one."""
    first = start(chain(("alice",))[1])
    with pytest.raises(TrustError, match="missing: too many"):
        follow(first, range(2, MAX_VERSIONS + 3), lambda version: pytest.fail(f"read {version}"))


def test_a_chain_stops_at_the_first_that_does_not_follow() -> None:
    roots = chain(("alice",), ("bob",), ("carol",))
    roots[2] = sealed_root(root_of("bob", version=2), "bob")
    with pytest.raises(TrustError, match=r"2\.root\.json: 0 of 1 required signed"):
        follow(start(roots[1]), roots, roots.__getitem__)
    with pytest.raises(TrustError, match="not JSON"):
        follow(start(roots[1]), [2], lambda version: b"")
    mislabelled = {2: chain(("alice",), ("alice",), ("alice",))[3]}
    with pytest.raises(TrustError, match="expected version 2, found 3"):
        follow(start(roots[1]), [2], mislabelled.__getitem__)


def test_an_intermediate_root_may_have_expired() -> None:
    old = root_of("alice")
    past = root_of("alice", version=2, expires=NOW - timedelta(days=9000))
    new = root_of("alice", version=3)
    found = {2: sealed_root(past, "alice"), 3: sealed_root(new, "alice")}
    assert follow(old, found, found.__getitem__)[-1].root == new
