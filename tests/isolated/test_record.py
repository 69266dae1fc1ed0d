"""What a site writes about itself is read back as it was, or refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import InputError, TrustError
from airgap.isolated.memory import Memory, load_memory, save_memory
from airgap.isolated.record import (
    Action,
    Amount,
    InstalledBundle,
    Receipt,
    SiteRecord,
    difference,
    parse_receipt,
    parse_record,
    render_receipt,
    render_record,
)
from airgap.isolated.site import Site
from airgap.trust.decide import Accepted
from airgap.trust.instant import EPOCH
from airgap.trust.root import Floor
from tests.trust.statements import hex_digits, instants, names

installed = st.builds(
    InstalledBundle,
    names,
    st.just("2026.11"),
    names,
    st.integers(0, 9),
    st.integers(1, 2**53 - 1),
    hex_digits(96),
    st.lists(names, max_size=3).map(tuple),
    hex_digits(64),
    hex_digits(64),
    hex_digits(64),
    instants,
    st.lists(names, max_size=2).map(tuple),
)
amounts = st.builds(Amount, st.integers(0, 2**53), st.integers(0, 2**53))
bundle_lists = st.lists(installed, max_size=2).map(tuple)
receipts = st.builds(
    Receipt,
    st.sampled_from(Action),
    st.integers(1, 2**53),
    st.none() | st.integers(1, 2**53),
    instants,
    st.text(st.characters(codec="utf-8"), max_size=9),
    bundle_lists,
    bundle_lists,
    st.lists(names, max_size=2).map(tuple),
    amounts,
    amounts,
)
records = st.lists(installed, max_size=3, unique_by=lambda bundle: bundle.name).map(
    lambda bundles: SiteRecord(tuple(sorted(bundles, key=lambda b: b.name)))
)
memories = st.builds(
    Memory,
    st.dictionaries(
        names,
        st.builds(Accepted, st.builds(Floor, st.integers(0, 9), st.integers(1, 2**53 - 1)), hex_digits(96)),
        max_size=3,
    ),
    instants,
)


@given(records)
def test_a_record_comes_back_as_it_was(record: SiteRecord) -> None:
    assert parse_record(render_record(record), "site.json") == record


@given(receipts)
def test_a_receipt_comes_back_as_it_was(receipt: Receipt) -> None:
    assert parse_receipt(render_receipt(receipt), "1.json") == receipt


def test_an_unknown_action_is_refused() -> None:
    data = render_receipt(Receipt(Action.ROLLBACK, 1, 2, EPOCH, "", (), ()))
    with pytest.raises(InputError, match="expected install, uninstall, rollback"):
        parse_receipt(data.replace(b'"rollback"', b'"erase"'), "1.json")


@given(records, records)
def test_a_difference_leads_from_one_record_to_the_other(before: SiteRecord, after: SiteRecord) -> None:
    added, removed = difference(before, after)
    assert (set(before.bundles) - set(removed)) | set(added) == set(after.bundles)
    assert not set(added) & set(before.bundles)


@given(records, installed)
def test_a_newer_bundle_replaces_only_its_own_name(record: SiteRecord, bundle: InstalledBundle) -> None:
    after = record.replacing(bundle)
    assert after.find(bundle.name) == bundle
    assert {b for b in after.bundles if b != bundle} == {b for b in record.bundles if b.name != bundle.name}


@given(records, st.binary(max_size=3), st.integers(0))
def test_a_damaged_record_is_refused_or_equal(record: SiteRecord, insertion: bytes, place: int) -> None:
    data = render_record(record)
    cut = place % len(data)
    try:
        parse_record(data[:cut] + insertion + data[cut + 1 :], "site.json")
    except InputError:
        return


def test_every_problem_of_a_record_is_named() -> None:
    with pytest.raises(InputError) as raised:
        parse_record(b'{"format": 2, "bundles": [{"name": "A"}], "more": 1}', "site.json")
    assert len(raised.value.problems) > 9


@given(memories)
def test_memory_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, memory: Memory) -> None:
    site = Site(tmp_path_factory.getbasetemp() / "memory")
    site.trust.mkdir(parents=True, exist_ok=True)
    save_memory(site, memory)
    assert load_memory(site) == memory


def test_memory_of_another_format_is_an_alarm(tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.trust.mkdir()
    (site.trust / "accepted.json").write_bytes(b'{"format":2,"newest":"2026-01-01T00:00:00Z","channels":{}}')
    with pytest.raises(TrustError, match="memory format 1"):
        load_memory(site)
