"""Old, foreign, expired and revoked bundles, and roots that follow or do not, before a real site."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.errors import TrustError
from airgap.isolated.memory import load_memory
from airgap.isolated.site import Site
from airgap.lock import render_lock
from airgap.model import Sha384
from airgap.pinned import extend, trusted_root
from airgap.trust import keys
from airgap.trust.decide import survey
from airgap.trust.root import Floor, Role
from airgap.trust.statement import Previous
from airgap.trust.succession import Successor
from tests import bundles

from .refusals import Capture, accepted, notes, refused

MAX = 2**53 - 1


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return bundles.pin(tmp_path / "site")


def payload(bundle: Path) -> Sha384:
    return survey((bundle / "bundle.dsse.json").read_bytes()).payload


# ------------------------------------------------------------------ sequence


def test_lower_sequence(site: Path, tmp_path: Path, capsys: Capture) -> None:
    accepted(notes(tmp_path / "b", sequence=5), site, capsys)
    said = refused(notes(tmp_path / "c", b"older", sequence=4), site, capsys)
    assert "this site has accepted epoch 0, sequence 5; found epoch 0, sequence 4" in said


def test_equal_sequence_with_other_payload(site: Path, tmp_path: Path, capsys: Capture) -> None:
    accepted(notes(tmp_path / "b", sequence=5), site, capsys)
    said = refused(notes(tmp_path / "c", b"other", sequence=5), site, capsys)
    assert "two different statements claim epoch 0, sequence 5" in said
    accepted(tmp_path / "b", site, capsys)


def test_sequence_2_to_the_53_minus_1_then_recovery(site: Path, tmp_path: Path, capsys: Capture) -> None:
    accepted(notes(tmp_path / "b", sequence=MAX), site, capsys)
    assert "older" in refused(notes(tmp_path / "c", b"c", sequence=1), site, capsys)
    accepted(notes(tmp_path / "d", b"d", sequence=1, epoch=1), site, capsys)
    assert load_memory(Site(site)).accepted["quickstart"].floor == Floor(1, 1)
    assert "accepted epoch 1, sequence 1" in refused(tmp_path / "b", site, capsys)


def test_sequences_that_were_not_seen_are_named(site: Path, tmp_path: Path, capsys: Capture) -> None:
    first = notes(tmp_path / "b", sequence=5)
    assert "sequence-gap" not in accepted(first, site, capsys), "a fresh site has nothing to compare with"
    later = notes(tmp_path / "c", b"c", sequence=9, previous=Previous(8, Sha384("8" * 96)))
    said = accepted(later, site, capsys)
    assert said.count("this site has not seen sequence 6 to 8 of epoch 0  [sequence-gap]") == 2
    after = notes(tmp_path / "d", b"d", sequence=12, previous=Previous(9, payload(later)))
    assert "sequence-gap" not in accepted(after, site, capsys), "10 and 11 were never given to a bundle"
    fresh = notes(tmp_path / "e", b"e", epoch=1, sequence=2, previous=Previous(1, Sha384("1" * 96)))
    assert "not seen sequence 1 of epoch 1" in accepted(fresh, site, capsys)


def test_a_builder_that_counts_from_another_bundle_is_named(
    site: Path, tmp_path: Path, capsys: Capture
) -> None:
    accepted(notes(tmp_path / "b", sequence=5), site, capsys)
    for sequence, previous in ((6, Previous(5, Sha384("5" * 96))), (7, Previous(4, Sha384("4" * 96)))):
        other = notes(tmp_path / "c", b"c%d" % sequence, sequence=sequence, previous=previous)
        assert "sequence-fork" in accepted(other, site, capsys)


def test_a_floor_in_the_root_holds_where_the_site_has_no_memory(tmp_path: Path, capsys: Capture) -> None:
    by = bundles.make_trust("alice", "bob", floors={"quickstart": Floor(0, 7)})
    site = bundles.pin(tmp_path / "site", by)
    said = refused(notes(tmp_path / "b", sequence=6, by=by), site, capsys)
    assert "root version 1 demands epoch 0, sequence 7" in said
    accepted(notes(tmp_path / "b", sequence=7, by=by), site, capsys)


# ------------------------------------------------------------------ audience and channel


def name_site(site: Path, tmp_path: Path, *options: str) -> int:
    root = tmp_path / "1.root.json"
    root.write_bytes(bundles.trust().root_file)
    pin = ["trust", "pin", str(root), "--site", str(site), "--fingerprint", bundles.trust().fingerprint]
    return run([*pin, *options])


def test_wrong_audience(site: Path, tmp_path: Path, capsys: Capture) -> None:
    for_a = notes(tmp_path / "b", audience=("site-a", "site-b"))
    said = refused(for_a, site, capsys)
    assert "is for site-a, site-b only, and who judges it has no name" in said
    assert "--site-name NAME" in said
    assert name_site(site, tmp_path, "--site-name", "site-c") == 0
    assert "is for site-a, site-b; this is site-c" in refused(for_a, site, capsys)
    assert name_site(site, tmp_path, "--site-name", "site-b") == 0
    assert "for site-a, site-b only" in accepted(for_a, site, capsys)
    accepted(notes(tmp_path / "c", b"all", sequence=2), site, capsys)


def test_wrong_audience_where_there_is_no_site_yet(tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "1.root.json").write_bytes(bundles.trust().root_file)
    for_a = notes(tmp_path / "b", audience=("site-a",))
    by = ["--root", str(tmp_path / "1.root.json"), "--fingerprint", bundles.trust().fingerprint]
    assert run(["verify", str(for_a), *by]) == 7
    assert run(["verify", str(for_a), *by, "--site-name", "site-b"]) == 7
    assert run(["verify", str(for_a), *by, "--site-name", "site-a"]) == 0


def test_an_audience_that_the_lock_does_not_have(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Statement and lock say it both; what a reviewer saw in the lock is what is obeyed."""
    monkeypatch.setattr("tests.bundles.render_lock", lambda lock: render_lock(replace(lock, audience=())))
    assert name_site(site, tmp_path, "--site-name", "site-a") == 0
    said = refused(notes(tmp_path / "b", audience=("site-a",)), site, capsys, code=6)
    assert "audience: ('site-a',) is signed, the lock has ()" in said


def test_wrong_channel(site: Path, tmp_path: Path, capsys: Capture) -> None:
    assert name_site(site, tmp_path, "--channel", "gpu", "--channel", "cpu") == 0
    said = refused(notes(tmp_path / "b"), site, capsys)
    assert "this site takes the channels gpu, cpu; found quickstart" in said
    accepted(notes(tmp_path / "b", channel="cpu"), site, capsys)


def test_a_name_that_was_damaged_or_linked_is_an_error(site: Path, tmp_path: Path, capsys: Capture) -> None:
    assert name_site(site, tmp_path, "--site-name", "site-a") == 0
    path, bundle = site / "trust" / "site.json", notes(tmp_path / "b", audience=("site-a",))
    data = path.read_bytes()
    path.write_bytes(data[:-1])
    refused(bundle, site, capsys)
    path.unlink()
    (tmp_path / "elsewhere").write_bytes(data)
    path.symlink_to(tmp_path / "elsewhere")
    refused(bundle, site, capsys)
    path.unlink()
    assert "has no name" in refused(bundle, site, capsys)
    assert name_site(site, tmp_path, "--site-name", "Not A Name") == 3


# ------------------------------------------------------------------ time


def test_expired_bundle(site: Path, tmp_path: Path, capsys: Capture) -> None:
    old = notes(tmp_path / "b", expires_at=bundles.CREATED + timedelta(minutes=1))
    assert "expired at" in refused(old, site, capsys)


def test_expired_root(tmp_path: Path, capsys: Capture) -> None:
    by = bundles.make_trust("alice", "bob", expires=bundles.CREATED)
    said = refused(notes(tmp_path / "b", by=by), bundles.pin(tmp_path / "site", by), capsys)
    assert "root version 1 expired" in said


def test_expired_key(tmp_path: Path, capsys: Capture) -> None:
    """Keys carry no date of their own: they end with the root that lists them, and a newer one goes on."""
    by = bundles.make_trust("alice", "bob", expires=bundles.CREATED)
    site = bundles.pin(tmp_path / "site", by)
    fresh = bundles.next_trust(by, expires=bundles.CREATED + timedelta(days=9))
    bundle = bundles.carry(notes(tmp_path / "b", by=by), fresh)
    assert "when root version 2 expires" in accepted(bundle, site, capsys)


def set_clock(monkeypatch: pytest.MonkeyPatch, now: datetime) -> None:
    """What this host believes the time to be: the machine's own clock is not a test's to change."""

    class Clock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return now

    for module in ("verify", "install"):
        monkeypatch.setattr(f"airgap.cli.{module}.datetime", Clock)


def test_clock_set_back(site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What expired before the newest accepted bundle was made stays expired."""
    accepted(notes(tmp_path / "b"), site, capsys)
    year = timedelta(days=365)
    old = notes(
        tmp_path / "c",
        b"c",
        name="other",
        created_at=bundles.CREATED - year,
        expires_at=bundles.CREATED - timedelta(days=300),
    )
    set_clock(monkeypatch, bundles.CREATED - year)
    assert "expired" in refused(old, site, capsys)


def test_clock_years_ahead(
    site: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the site: bundles look expired, and nothing of the wrong time stays once it is set right."""
    bundle = notes(tmp_path / "b")
    with monkeypatch.context() as patch:
        set_clock(patch, bundles.CREATED + timedelta(days=3650))
        assert "see that this host's clock is right" in refused(bundle, site, capsys)
    accepted(bundle, site, capsys)
    assert load_memory(Site(site)).newest == bundles.CREATED


def test_clock_of_the_builder_years_ahead(site: Path, tmp_path: Path, capsys: Capture) -> None:
    """It would move the site's clock for good, and make every bundle after it expired."""
    far = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1, minutes=5)
    ahead = notes(tmp_path / "b", created_at=far, expires_at=far + timedelta(days=90))
    assert "a day or more after this host's time" in refused(ahead, site, capsys)
    near = far - timedelta(hours=1)
    accepted(notes(tmp_path / "b", created_at=near, expires_at=near + timedelta(days=9)), site, capsys)


# ------------------------------------------------------------------ roots


def test_a_newer_root_in_the_bundle_is_applied_before_the_bundle_is_judged(
    site: Path, tmp_path: Path, capsys: Capture
) -> None:
    """Carol and dave sign under root 3, which the site has never seen."""
    one = bundles.trust()
    dave = keys.generate("dave")
    role = Role(2, ("carol", "dave"))
    carol = next(s for s in one.holders if s.holder.name == "carol")
    two = bundles.next_trust(one)
    holders = (carol.holder, dave.holder)
    secrets = (*one.holders, dave)
    three = bundles.next_trust(
        bundles.Trust(secrets, two.root, b"", ""), holders=holders, root=role, release=role
    )
    bundle = notes(tmp_path / "b", signers=("carol", "dave"), by=three)
    assert "1 of 2 required signed: carol" in refused(bundle, site, capsys)
    bundles.carry(bundle, two, three)
    assert run(["verify", str(bundle), "--site", str(site)]) == 0
    assert trusted_root(site, None, None).version == 1, "verify keeps nothing"
    assert "signed by carol, dave" in accepted(bundle, site, capsys)
    assert trusted_root(site, None, None) == three.root
    kept = {path.name for path in (site / "trust").iterdir()}
    assert kept == {"root.json", "2.root.json", "3.root.json", "accepted.json"}
    assert "0 of 2" in refused(notes(tmp_path / "c", b"c", sequence=2), site, capsys)


def test_root_gap(site: Path, tmp_path: Path, capsys: Capture) -> None:
    two = bundles.next_trust(bundles.trust())
    five = bundles.next_trust(bundles.trust(), version=5)
    said = refused(bundles.carry(notes(tmp_path / "b"), two, five), site, capsys)
    assert "root version 1 is trusted, and version 5 is here; missing: 3, 4" in said


def test_root_signed_only_by_new_holders(site: Path, tmp_path: Path, capsys: Capture) -> None:
    eve = bundles.make_trust("eve", "mallory")
    usurper = bundles.next_trust(eve)
    said = refused(bundles.carry(notes(tmp_path / "b", by=eve), usurper), site, capsys)
    assert "2.root.json: 0 of 2 required signed: nobody; missing: alice, bob, carol" in said


def test_root_signed_only_by_old_holders(site: Path, tmp_path: Path, capsys: Capture) -> None:
    dave, role = keys.generate("dave"), Role(2, ("carol", "dave"))
    carol = next(h for h in bundles.trust().root.holders if h.name == "carol")
    two = bundles.next_trust(bundles.trust(), holders=(carol, dave.holder), root=role, release=role)
    said = refused(bundles.carry(notes(tmp_path / "b"), two), site, capsys)
    assert "1 of 2 required signed: carol; missing: dave" in said


def test_revoked_key(site: Path, tmp_path: Path, capsys: Capture) -> None:
    """Bob's keys were stolen: root 2 revokes them, and what he signed before counts no more."""
    stolen = notes(tmp_path / "b", signers=("alice", "bob"))
    rest = tuple(h for h in bundles.trust().root.holders if h.name != "bob")
    bob = next(h for h in bundles.trust().root.holders if h.name == "bob")
    role = Role(2, ("alice", "carol"))
    two = bundles.next_trust(
        bundles.trust(), holders=rest, root=role, release=role, revoked_keys=frozenset(bob.keyids)
    )
    good = notes(tmp_path / "c", b"c", signers=("alice", "carol"))
    accepted(bundles.carry(good, two), site, capsys)
    newer = notes(tmp_path / "d", b"d", sequence=2, signers=("alice", "bob"))
    assert "1 of 2 required signed: alice; missing: carol" in refused(newer, site, capsys)
    assert "1 of 2 required signed: alice; missing: carol" in refused(stolen, site, capsys)
    back = bundles.next_trust(two, holders=(*rest, bob), revoked_keys=frozenset())
    refused(bundles.carry(notes(tmp_path / "e", sequence=3, signers=("alice", "carol")), back), site, capsys)


def test_revoked_bundle(site: Path, tmp_path: Path, capsys: Capture) -> None:
    bad = notes(tmp_path / "b")
    two = bundles.next_trust(bundles.trust(), revoked_bundles=frozenset({payload(bad)}))
    said = refused_with_root(bundles.carry(bad, two), site, capsys)
    assert "root version 2 revokes this bundle" in said
    assert trusted_root(site, None, None).version == 2, "the revocation stays, though the bundle was refused"
    accepted(notes(tmp_path / "c", b"good", sequence=2), site, capsys)


def refused_with_root(bundle: Path, site: Path, capsys: Capture) -> str:
    for verb in ("verify", "install"):
        assert run([verb, str(bundle), "--site", str(site)]) == 7
    return capsys.readouterr().err


def test_a_root_that_is_a_link_or_too_large_in_a_bundle(site: Path, tmp_path: Path, capsys: Capture) -> None:
    two = bundles.next_trust(bundles.trust())
    bundle = bundles.carry(notes(tmp_path / "b"), two)
    path = bundle / "roots" / "2.root.json"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    refused(bundle, site, capsys, code=6)
    path.unlink()
    path.write_bytes(two.root_file + b" " * 2**20)
    refused(bundle, site, capsys)
    path.write_bytes(two.root_file)
    (bundle / "roots" / "notes.txt").write_bytes(b"")
    assert "integrity-unexpected" in refused_files(bundle, site, capsys)


def refused_files(bundle: Path, site: Path, capsys: Capture) -> str:
    for verb in ("verify", "install"):
        assert run([verb, str(bundle), "--site", str(site)]) == 6
    return "".join(capsys.readouterr())


def test_very_many_roots_in_a_bundle(site: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle = notes(tmp_path / "b")
    (bundle / "roots").mkdir()
    for number in range(1001):
        (bundle / "roots" / f"{number}.root.json").touch()
    assert "more than 1000 names" in refused(bundle, site, capsys, code=6)


def test_roots_behind_a_link(site: Path, tmp_path: Path, capsys: Capture) -> None:
    bundle = bundles.carry(notes(tmp_path / "b"), bundles.next_trust(bundles.trust()))
    (bundle / "roots").rename(tmp_path / "elsewhere")
    (bundle / "roots").symlink_to(tmp_path / "elsewhere")
    assert "expected a directory" in refused(bundle, site, capsys, code=6)


def test_roots_that_the_site_has_are_not_read(site: Path, tmp_path: Path, capsys: Capture) -> None:
    two = bundles.next_trust(bundles.trust())
    accepted(bundles.carry(notes(tmp_path / "b"), two), site, capsys)
    again = bundles.carry(notes(tmp_path / "c", b"c", sequence=2), two)
    (again / "roots" / "2.root.json").write_bytes(b"anything")
    accepted(again, site, capsys)


# ------------------------------------------------------------------ memory


@pytest.mark.parametrize("how", ["deleted", "corrupted", "linked", "an older copy", "the directory linked"])
def test_memory_deleted_corrupted_or_replaced(site: Path, tmp_path: Path, capsys: Capture, how: str) -> None:
    accepted(notes(tmp_path / "b", sequence=5), site, capsys)
    memory = site / "trust" / "accepted.json"
    older = memory.read_bytes()
    accepted(notes(tmp_path / "c", b"c", sequence=6), site, capsys)
    if how == "deleted":
        memory.unlink()
    elif how == "corrupted":
        memory.write_bytes(memory.read_bytes()[:-1])
    elif how == "linked":
        memory.rename(tmp_path / "elsewhere")
        memory.symlink_to(tmp_path / "elsewhere")
    elif how == "an older copy":
        memory.write_bytes(older)
    else:
        memory.parent.rename(tmp_path / "elsewhere")
        memory.parent.symlink_to(tmp_path / "elsewhere")
    for bundle in (notes(tmp_path / "d", b"d", sequence=7), notes(tmp_path / "e", b"e", sequence=1)):
        refused(bundle, site, capsys)


def test_memory_lost_is_recalled_from_the_receipts(site: Path, tmp_path: Path, capsys: Capture) -> None:
    """An operator's deliberate act; pinning anew does not do it by the way."""
    accepted(notes(tmp_path / "b", sequence=5), site, capsys)
    before = load_memory(Site(site))
    for path in (site / "trust").iterdir():
        path.unlink()
    assert name_site(site, tmp_path) == 0
    said = refused(notes(tmp_path / "c", b"c", sequence=1), site, capsys)
    assert "airgap trust recall" in said
    assert run(["trust", "recall", "--site", str(site)]) == 0
    assert load_memory(Site(site)).accepted == before.accepted
    assert load_memory(Site(site)).newest == before.newest
    assert "older" in refused(tmp_path / "c", site, capsys)
    accepted(notes(tmp_path / "d", b"d", sequence=6), site, capsys)


def test_a_damaged_receipt_is_no_silent_witness(site: Path, tmp_path: Path, capsys: Capture) -> None:
    accepted(notes(tmp_path / "b", sequence=5), site, capsys)
    (site / "receipts" / "1.json").write_bytes(b"{}")
    said = refused(notes(tmp_path / "c", b"c", sequence=6), site, capsys)
    assert "it vouches for what was accepted" in said


def test_an_older_root_put_back(site: Path, tmp_path: Path, capsys: Capture) -> None:
    """The chain beside it leads on; where the chain is gone too, the memory still knows the version."""
    two = bundles.next_trust(bundles.trust())
    accepted(bundles.carry(notes(tmp_path / "b"), two), site, capsys)
    (site / "trust" / "root.json").write_bytes(bundles.trust().root_file)
    assert trusted_root(site, None, None) == two.root
    (site / "trust" / "2.root.json").unlink()
    said = refused(notes(tmp_path / "c", b"c", sequence=2), site, capsys)
    assert "this site has trusted root version 2; its trust directory holds 1" in said


def test_killed_between_the_two_writes_of_a_root(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    two = bundles.next_trust(bundles.trust())
    replace = os.replace

    def power_cut(source: Path, target: Path) -> None:
        if Path(target).name == "root.json":
            raise KeyboardInterrupt
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", power_cut)
        extend(site, [Successor(two.root, two.root_file)])
    assert (site / "trust" / "root.json").read_bytes() == bundles.trust().root_file
    assert trusted_root(site, None, None) == two.root


def test_memory_is_durable_before_activation(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: Site, number: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Site, "activate", killed)
        run_raw(notes(tmp_path / "b", sequence=5), site)
    assert Site(site).current() is None
    floors = json.loads((site / "trust" / "accepted.json").read_bytes())["channels"]
    assert floors["quickstart"]["sequence"] == 5


def run_raw(bundle: Path, site: Path) -> None:
    """As `run`, which would turn the interrupt into an exit code."""
    if run(["install", str(bundle), "--site", str(site)]) == 130:
        raise KeyboardInterrupt


def test_a_site_refuses_by_its_own_root(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="pins no root"):
        trusted_root(tmp_path, None, None)
