"""The root: what it may say, who must sign it, and how one follows another."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.decode import canonical_json
from airgap.errors import InputError, TrustError
from airgap.model import Sha384
from airgap.trust.keys import Holder
from airgap.trust.root import (
    PAYLOAD_TYPE,
    Floor,
    Role,
    Root,
    fingerprint,
    load_pinned,
    parse,
    parse_fingerprint,
    render,
    survey,
    verify_first,
    verify_next,
)
from airgap.trust.statement import render as render_statement

from .people import person, root_of, sealed, sealed_root
from .statements import NOW, example, hex_digits, instants, names

floors = st.dictionaries(
    names, st.builds(Floor, st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1)), max_size=3
)


@given(
    st.integers(1, 2**40),
    st.lists(st.sampled_from(["alice", "bob", "carol"]), min_size=1, unique=True),
    instants,
    floors,
    st.frozensets(hex_digits(64), max_size=3),
    st.frozensets(hex_digits(96).map(Sha384), max_size=3),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_round_trip(
    version: int,
    who: list[str],
    expires: Any,
    floors: dict[str, Floor],
    keys: frozenset[str],
    bundles: frozenset[Sha384],
    data: st.DataObject,
) -> None:
    threshold = data.draw(st.integers(1, len(who)))
    changes = {"expires": expires, "floors": floors, "revoked_keys": keys, "revoked_bundles": bundles}
    root = root_of(*sorted(who), version=version, threshold=threshold, **changes)
    assert parse(render(root)) == root
    assert render(parse(render(root))) == render(root)


def test_the_order_of_holders_leaves_no_trace() -> None:
    assert render(root_of("alice", "bob")) == render(root_of("bob", "alice"))


CONTRADICTIONS: dict[str, tuple[dict[str, object], str]] = {
    "threshold above holders": ({"release": Role(3, ("alice", "bob"))}, "cannot be met by 2 holders"),
    "threshold 0": ({"root": Role(0, ("alice",))}, "threshold of 0"),
    "one holder listed twice": ({"root": Role(2, ("alice", "alice"))}, "a holder occurs twice"),
    "unknown holder": ({"root": Role(1, ("alice", "eve"))}, "no holder is named eve"),
    "revoked key listed": (
        {"revoked_keys": frozenset({person("bob").holder.mldsa87.keyid})},
        "holders.bob: the key .* is revoked",
    ),
    "one key, two holders": (
        {
            "holders": (
                person("alice").holder,
                Holder("bob", person("bob").holder.p384, person("alice").holder.mldsa87),
            )
        },
        "alice and bob share the key",
    ),
    "one name, two holders": ({"holders": (person("alice").holder,) * 2}, "a name occurs twice"),
    "half a second": ({"expires": NOW.replace(microsecond=5)}, "whole seconds"),
    "floor beyond": ({"floors": {"x": Floor(0, 2**53)}}, "floors.x"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contradictory_root_cannot_be_made(case: str) -> None:
    changes, match = CONTRADICTIONS[case]
    base: dict[str, object] = {"holders": tuple(person(n).holder for n in ("alice", "bob"))}
    values = {"expires": NOW, "root": Role(1, ("alice",)), "release": Role(1, ("bob",))}
    with pytest.raises(InputError, match=match):
        Root(1, **(base | values | changes))  # type: ignore[arg-type]


def pem(key: Any) -> str:
    encoded: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return encoded.decode()


FOREIGN = {
    "ECDSA secp256r1": ec.generate_private_key(ec.SECP256R1()),
    "Ed25519": ed25519.Ed25519PrivateKey.generate(),
    "RSA 2048": rsa.generate_private_key(65537, 2048),
    "MLDSA65": mldsa.MLDSA65PrivateKey.generate(),
}


@pytest.mark.parametrize("key", FOREIGN)
@pytest.mark.parametrize("slot", ["p384", "mldsa87"])
def test_a_key_of_another_algorithm_in_a_root(key: str, slot: str) -> None:
    document = json.loads(render(root_of("alice")))
    document["holders"]["alice"][slot] = pem(FOREIGN[key])
    with pytest.raises(InputError, match=rf"holders\.alice\.{slot}: expected an .* public key, found {key}"):
        parse(canonical_json(document))


def test_the_two_keys_of_a_holder_swapped() -> None:
    document = json.loads(render(root_of("alice")))
    keys = document["holders"]["alice"]
    keys["p384"], keys["mldsa87"] = keys["mldsa87"], keys["p384"]
    with pytest.raises(InputError, match="2 problems"):
        parse(canonical_json(document))


MALFORMED: dict[str, Callable[[dict[str, Any]], object]] = {
    "unknown key": lambda d: d.update(extra=1),
    "unknown role": lambda d: d["roles"].update(timestamp={"threshold": 1, "holders": ["alice"]}),
    "a third key": lambda d: d["holders"]["alice"].update(ed25519="x"),
    "scheme label": lambda d: d["holders"]["alice"].update(scheme="ecdsa-sha2-nistp384"),
    "no release role": lambda d: d["roles"].pop("release"),
    "version 0": lambda d: d.update(version=0),
    "version text": lambda d: d.update(version="1"),
    "no expiry": lambda d: d.pop("expires"),
    "no revocations": lambda d: d.pop("revoked"),
    "revoked key in capitals": lambda d: d["revoked"].update(keys=["A" * 64]),
    "floor of a path": lambda d: d["floors"].update({"../x": {"epoch": 0, "sequence": 1}}),
    "floor of -1": lambda d: d["floors"].update({"x": {"epoch": 0, "sequence": -1}}),
    "a holder's name": lambda d: d["holders"].update({"A B": d["holders"]["alice"]}),
    "key with text before it": lambda d: d["holders"]["alice"].update(
        p384="x\n" + d["holders"]["alice"]["p384"]
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_root_is_refused(case: str) -> None:
    document = json.loads(render(root_of("alice")))
    MALFORMED[case](document)
    with pytest.raises(InputError):
        parse(canonical_json(document))


def test_a_fingerprint_is_read_however_it_was_typed() -> None:
    payload = render(root_of("alice"))
    shown = fingerprint(payload)
    assert len(shown.split()) == 12
    for typed in (shown.upper(), shown.replace(" ", ""), shown.replace(" ", ":"), f" {shown}\n"):
        assert parse_fingerprint(typed) == shown
    for wrong in ("", shown[:-1], shown + "0", shown.replace(shown[0], "g")):
        with pytest.raises(InputError, match="12 groups"):
            parse_fingerprint(wrong)


def test_the_first_root_needs_its_fingerprint_and_its_own_threshold() -> None:
    root = root_of("alice", "bob", threshold=2)
    known = fingerprint(render(root))
    assert verify_first(sealed_root(root, "alice", "bob"), known) == root
    with pytest.raises(TrustError, match="1 of 2 required signed: alice; missing: bob"):
        verify_first(sealed_root(root, "alice"), known)
    other = root_of("mallory", "bob", threshold=2)
    with pytest.raises(TrustError) as caught:
        verify_first(sealed_root(other, "mallory", "bob"), known)
    assert known in caught.value.message, "both fingerprints are shown"
    assert fingerprint(render(other)) in caught.value.message


def test_the_fingerprint_does_not_depend_on_who_signed() -> None:
    root = root_of("alice", "bob", threshold=2)
    _, first, tally = survey(sealed_root(root))
    assert tally.missing == ("alice", "bob")
    assert survey(sealed_root(root, "bob", "alice"))[1] == first == fingerprint(render(root))


def test_a_statement_is_no_root() -> None:
    data = sealed(render_statement(example()), "application/vnd.in-toto+json", "alice")
    with pytest.raises(TrustError, match=r"expected the payload type application/vnd\.airgap\.root"):
        load_pinned(data)


def test_the_next_root_satisfies_old_and_new() -> None:
    old = root_of("alice", "bob", threshold=2)
    new = root_of("bob", "carol", threshold=2, version=2)
    assert verify_next(old, sealed_root(new, "alice", "bob", "carol")) == new
    with pytest.raises(TrustError, match="missing: alice"):
        verify_next(old, sealed_root(new, "bob", "carol"))
    with pytest.raises(TrustError, match="missing: carol"):
        verify_next(old, sealed_root(new, "alice", "bob"))


@pytest.mark.parametrize("version", [1, 3])
def test_the_next_root_leaves_no_gap(version: int) -> None:
    new = root_of("alice", version=version)
    with pytest.raises(TrustError, match=f"expected version 2, found {version}"):
        verify_next(root_of("alice"), sealed_root(new, "alice"))


def test_the_next_root_takes_nothing_back() -> None:
    revoked = frozenset({"a" * 64})
    old = root_of("alice", revoked_keys=revoked, floors={"main": Floor(0, 7)})
    good = root_of("alice", version=2, revoked_keys=revoked, floors={"main": Floor(1, 1)})
    assert verify_next(old, sealed_root(good, "alice")) == good
    forgets = root_of("alice", version=2, floors={"main": Floor(0, 7)})
    with pytest.raises(TrustError, match=r"takes back the revocation of a{64}"):
        verify_next(old, sealed_root(forgets, "alice"))
    lowers = root_of("alice", version=2, revoked_keys=revoked, floors={"main": Floor(0, 6)})
    with pytest.raises(TrustError, match="lowers the floor of main"):
        verify_next(old, sealed_root(lowers, "alice"))


def test_a_huge_root_is_not_read() -> None:
    with pytest.raises(InputError, match="more than the 1048576 allowed"):
        load_pinned(sealed(b" " * 2**20, PAYLOAD_TYPE))


def test_expiry_is_not_judged_here() -> None:
    root = root_of("alice", expires=NOW - timedelta(days=9000))
    assert load_pinned(sealed_root(root, "alice")) == root
