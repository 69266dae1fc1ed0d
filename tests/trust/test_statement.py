"""The statement: the same value gives the same bytes, and no bytes but those give a value."""

import json
from collections.abc import Callable
from datetime import timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings

from airgap.decode import canonical_json
from airgap.errors import InputError
from airgap.model import Kind, Sha256, Sha384
from airgap.trust.statement import Previous, StatedArtifact, Statement, parse, render

from .statements import NOW, example, statements


@given(statements())
@settings(max_examples=60, deadline=None)
def test_round_trip(statement: Statement) -> None:
    payload = render(statement)
    assert parse(payload) == statement
    assert render(parse(payload)) == payload


def test_blobs_in_any_order_give_the_same_bytes() -> None:
    statement = example()
    assert render(example(blobs=dict(reversed(list(statement.blobs.items()))))) == render(statement)


def test_it_is_an_in_toto_statement() -> None:
    document = json.loads(render(example()))
    assert document["_type"] == "https://in-toto.io/Statement/v1"
    assert [subject["name"] for subject in document["subject"]] == ["index.json", "verify/SHA384SUMS"]
    assert document["predicate"]["totals"] == {"blobs": 2, "bytes": 500}


Change = Callable[[dict[str, Any]], object]

BROKEN: dict[str, tuple[Change, str]] = {
    "statement type": (lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
    "predicate type": (lambda d: d.update(predicateType="https://slsa.dev/provenance/v1"), "predicateType"),
    "unknown key": (lambda d: d.update(extra=1), "extra: unknown key"),
    "unknown key below": (lambda d: d["predicate"].update(extra=[]), "predicate.extra: unknown key"),
    "an audience of nobody": (lambda d: d["predicate"].update(audience=[]), "audience: expected distinct"),
    "an audience named twice": (lambda d: d["predicate"].update(audience=["a", "a"]), "expected distinct"),
    "an audience of no name": (
        lambda d: d["predicate"].update(audience=["../x"]),
        "audience: expected a name",
    ),
    "unknown key in a subject": (lambda d: d["subject"][0].update(uri=""), r"subject\[0\].uri: unknown key"),
    "third subject": (lambda d: d["subject"].append({"name": "x", "digest": {}}), "subject: expected"),
    "subjects swapped": (lambda d: d["subject"].reverse(), "subject: expected"),
    "no sha384": (lambda d: d["subject"][0]["digest"].pop("sha384"), r"subject\[0\].digest.sha384: missing"),
    "name": (lambda d: d["predicate"].update(name="../x"), "predicate.name"),
    "sequence 0": (lambda d: d["predicate"].update(sequence=0), "predicate.sequence"),
    "sequence true": (lambda d: d["predicate"].update(sequence=True), "predicate.sequence"),
    "sequence beyond": (lambda d: d["predicate"].update(sequence=2**53), "sequence: expected 1 to 2"),
    "no such day": (lambda d: d["predicate"].update(createdAt="2026-02-30T00:00:00Z"), "createdAt"),
    "other zone": (lambda d: d["predicate"].update(createdAt="2026-02-03T00:00:00+01:00"), "createdAt"),
    "expires first": (lambda d: d["predicate"].update(expiresAt="2026-01-01T00:00:00Z"), "not after"),
    "lock elsewhere": (lambda d: d["predicate"].update(lock="9" * 64), "lock: 9"),
    "artifact elsewhere": (
        lambda d: d["predicate"]["artifacts"][0].update(digest="sha256:" + "9" * 64),
        "its digest 9",
    ),
    "artifact of another size": (
        lambda d: d["predicate"]["artifacts"][0].update(size=401),
        "401 bytes, its blob has 400",
    ),
    "a base of nothing": (
        lambda d: d["predicate"].update(base={"inventory": "8" * 96, "blobs": []}),
        "base.blobs: empty",
    ),
    "a base elsewhere": (
        lambda d: d["predicate"].update(base={"inventory": "8" * 96, "blobs": ["9" * 64]}),
        "base.blobs: 9",
    ),
    "a base with the lock": (
        lambda d: d["predicate"].update(base={"inventory": "8" * 96, "blobs": ["1" * 64]}),
        r"base.blobs: 1+ \(the lock\) must travel",
    ),
    "a base with a manifest": (
        lambda d: d["predicate"].update(base={"inventory": "8" * 96, "blobs": ["2" * 64]}),
        r"base.blobs: 2+ \(notes\) must travel",
    ),
    "a base out of order": (
        lambda d: d["predicate"].update(base={"inventory": "8" * 96, "blobs": ["2" * 64, "1" * 64]}),
        "expected ascending digests",
    ),
    "a base of no digests": (
        lambda d: d["predicate"].update(base={"inventory": "8" * 96, "blobs": ["../x"]}),
        "expected sha256 digests",
    ),
    "a base without an inventory": (
        lambda d: d["predicate"].update(base={"blobs": ["1" * 64]}),
        "base.inventory: missing",
    ),
    "unknown kind": (lambda d: d["predicate"]["artifacts"][0].update(kind="dataset"), "expected one of"),
    "two artifacts of one name": (
        lambda d: d["predicate"]["artifacts"].append(d["predicate"]["artifacts"][0]),
        "are one file",
    ),
    "blob named in capitals": (
        lambda d: d["predicate"]["blobs"].update({"A" * 64: {"sha384": "4" * 96, "size": 1}}),
        "expected a sha256",
    ),
    "totals": (lambda d: d["predicate"]["totals"].update(bytes=499), "states 2 blobs of 499 bytes"),
    "previous not before": (
        lambda d: d["predicate"]["previous"].update(sequence=2),
        "previous.sequence: 2 is not below 2",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_statement_is_refused(case: str) -> None:
    change, message = BROKEN[case]
    document = json.loads(render(example()))
    change(document)
    with pytest.raises(InputError, match=message):
        parse(canonical_json(document))


def test_every_problem_is_named_in_one_error() -> None:
    document = json.loads(render(example()))
    document["predicate"].update(name="", sequence=-1, target={})
    with pytest.raises(InputError) as caught:
        parse(canonical_json(document))
    assert len(caught.value.problems) == 5


@pytest.mark.parametrize(
    "changes",
    [
        {"created_at": NOW.replace(microsecond=1)},
        {"created_at": NOW.replace(tzinfo=None)},
        {"created_at": NOW.astimezone(timezone(timedelta(hours=1)))},
        {"previous": Previous(2, Sha384("3" * 96))},
        {"lock": Sha256("f" * 64)},
        {"artifacts": (StatedArtifact(Kind.FILE, "notes", "text/plain", Sha256("2" * 64), 1),)},
        {"sequence": 0, "previous": None},
    ],
)
def test_a_contradictory_value_cannot_be_made(changes: dict[str, object]) -> None:
    with pytest.raises(InputError, match="contradicts itself"):
        example(**changes)
