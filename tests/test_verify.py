"""`verify_bundle` and `airgap verify`: every way in which media can differ from what was signed."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.errors import InputError, IntegrityError, TrustError
from airgap.media import Entry, EntryType, Media
from airgap.model import Platform, Sha256, Sha384, Target
from airgap.progress import Silent
from airgap.trust.blobs import StatedBlob
from airgap.trust.checkable import render_sums
from airgap.verify import Verification, refuse, verify_bundle
from airgap.verify_entries import MAX_SUPERFLUOUS, judge_entries
from tests import bundles
from tests.services import need

OTHER = Target("3.12", Platform("linux", "arm64"), "2.35")
NOW = bundles.CREATED + timedelta(hours=1)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    scratch = tmp_path_factory.mktemp("bundle")
    return bundles.write_bundle(scratch / "bundle", bundles.one_of_each(scratch))


@pytest.fixture
def bundle(master: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(master, tmp_path / "bundle"))


def verify(bundle: Path) -> Verification:
    with Media(bundle) as media:
        return verify_bundle(media, bundles.trust().root, NOW, progress=Silent())


def codes(bundle: Path) -> set[tuple[str, str]]:
    return {(finding.code, finding.subject) for finding in verify(bundle).findings}


def blob_of(bundle: Path, data: bytes) -> Path:
    return next(p for p in (bundle / "blobs" / "sha256").iterdir() if p.read_bytes() == data)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_sound_bundle_has_no_findings(bundle: Path) -> None:
    verification = verify(bundle)
    assert verification.findings == ()
    assert verification.sound
    assert verification.contents is not None
    assert [b.artifact.name for b in verification.contents.artifacts] == ["serving", "tiny", "hello", "notes"]
    assert verification.judged.signers == ("alice", "bob")
    assert verification.judged.missing == ("carol",)


def test_one_flipped_byte_in_any_file_is_found(bundle: Path) -> None:
    for path in sorted(p for p in bundle.rglob("*") if p.is_file() and p.name != "bundle.dsse.json"):
        before = path.read_bytes()
        flip(path)
        subject = str(path.relative_to(bundle))
        assert ("integrity-changed", subject) in codes(bundle), subject
        path.write_bytes(before)
    assert verify(bundle).sound


def test_one_flipped_byte_in_the_envelope_is_refused(bundle: Path) -> None:
    flip(bundle / "bundle.dsse.json")
    with pytest.raises(TrustError):
        verify(bundle)


def put_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def put_link(path: Path) -> None:
    path.rename(path.parents[2] / "moved")
    path.symlink_to("../../moved")


def put_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def put_hole(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 0)
    os.truncate(path, size)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def extend(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"x")


@pytest.mark.parametrize(
    ("code", "damage"),
    [
        ("integrity-missing", Path.unlink),
        ("integrity-size", truncate),
        ("integrity-size", extend),
        ("integrity-type", put_fifo),
        ("integrity-type", put_link),
        ("integrity-type", put_directory),
        ("integrity-changed", put_hole),
    ],
)
def test_damage_to_a_blob_is_found(bundle: Path, code: str, damage: Callable[[Path], None]) -> None:
    blob = blob_of(bundle, b"\x08" + bytes(70_000))
    damage(blob)
    assert (code, f"blobs/sha256/{blob.name}") in codes(bundle)


def test_a_hard_link_to_another_blob_is_found(bundle: Path) -> None:
    blob = blob_of(bundle, b"carried across\n")
    blob.unlink()
    blob.hardlink_to(bundle / "oci-layout")
    assert ("integrity-size", f"blobs/sha256/{blob.name}") in codes(bundle)


def test_swapped_blobs_are_both_found(bundle: Path) -> None:
    one, other = sorted((bundle / "blobs" / "sha256").iterdir())[:2]
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert {f"blobs/sha256/{p.name}" for p in (one, other)} <= {subject for _, subject in codes(bundle)}


def test_what_was_not_signed_is_found_wherever_it_lies(bundle: Path) -> None:
    for path in ("autorun.sh", "verify/extra.sig", f"blobs/sha256/{'f' * 64}", "blobs/readme"):
        (bundle / path).write_bytes(b"")
    (bundle / "blobs" / "sha512").mkdir()
    (bundle / "lost+found").mkdir()
    (bundle / "lost+found" / "#12").write_bytes(b"")
    (bundle / "link").symlink_to("/etc/passwd")
    assert {subject for code, subject in codes(bundle) if code == "integrity-unexpected"} == {
        "autorun.sh",
        "verify/extra.sig",
        f"blobs/sha256/{'f' * 64}",
        "blobs/readme",
        "blobs/sha512",
        "lost+found",
        "link",
    }


def test_the_empty_lost_and_found_of_ext4_is_nobodys_concern(bundle: Path) -> None:
    (bundle / "lost+found").mkdir()
    assert codes(bundle) == set()


def test_who_is_refused_is_told_what_mends_all_of_it(bundle: Path) -> None:
    (bundle / "blobs" / "extra").touch()
    with pytest.raises(IntegrityError, match="extra") as extra:
        refuse(verify(bundle).findings, "x")
    (bundle / "oci-layout").unlink()
    with pytest.raises(IntegrityError, match=r"extra(.|\n)*oci-layout") as both:
        refuse(verify(bundle).findings, "x")
    assert extra.value.remedy.startswith("remove it") and both.value.remedy.startswith(
        "copy the bundle again"
    )


def test_all_differences_are_reported_in_one_run(bundle: Path) -> None:
    flip(bundle / "oci-layout")
    flip(bundle / "verify" / "HOWTO.txt")
    blob_of(bundle, b"carried across\n").unlink()
    flip(blob_of(bundle, b"\x08" + bytes(70_000)))
    (bundle / "extra").mkdir()
    found = verify(bundle).findings
    assert len(found) == 5
    assert all(finding.remedy for finding in found)


def test_a_bundle_without_its_index_still_has_its_blobs_checked(bundle: Path) -> None:
    (bundle / "index.json").unlink()
    blob_of(bundle, b"carried across\n").unlink()
    verification = verify(bundle)
    assert verification.contents is None
    assert {finding.code for finding in verification.findings} == {"integrity-missing"}
    assert len(verification.findings) == 2


def test_documents_that_were_signed_and_disagree_are_found(tmp_path: Path) -> None:
    signed = bundles.write_bundle(
        tmp_path / "bundle", [bundles.file("notes", b"text")], version="2", name="a"
    )
    assert verify(signed).sound
    lying = bundles.write_bundle(tmp_path / "bundle", [bundles.file("notes", b"text")], target=OTHER)
    assert ("layout-disagrees", "index.json") in codes(lying)


def test_a_signed_list_that_differs_from_the_statement_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def all_but_one(files: Mapping[str, Sha384], blobs: Mapping[Sha256, StatedBlob]) -> bytes:
        return render_sums(files, dict(list(blobs.items())[1:]))

    monkeypatch.setattr("tests.bundles.render_sums", all_but_one)  # a signer whose software is wrong
    lying = bundles.write_bundle(tmp_path / "bundle", [bundles.file("notes", b"text")])
    assert codes(lying) == {("layout-disagrees", "verify/SHA384SUMS")}


def test_hostile_media_with_very_many_names_are_summed_up() -> None:
    entries = (Entry(f"junk{n}", EntryType.FILE, 0) for n in range(MAX_SUPERFLUOUS + 50))
    found = [f for f in judge_entries(entries, {}) if f.code == "integrity-unexpected"]
    assert len(found) == MAX_SUPERFLUOUS + 1
    assert "50 more" in found[-1].message


# ------------------------------------------------------------------ trust


def test_too_few_signers_are_refused_and_named(tmp_path: Path) -> None:
    lone = bundles.write_bundle(tmp_path / "b", [bundles.file("notes", b"text")], signers=["alice"])
    with pytest.raises(TrustError, match="1 of 2 required signed: alice; missing: bob, carol"):
        verify(lone)


def test_no_signature_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrustError, match="0 of 2"):
        verify(bundles.write_bundle(tmp_path / "b", [bundles.file("notes", b"text")], signers=[]))


def test_strangers_with_the_right_names_are_refused(tmp_path: Path) -> None:
    strangers = bundles.make_trust("alice", "bob", "carol")
    with pytest.raises(TrustError, match="0 of 2"):
        verify(bundles.write_bundle(tmp_path / "b", [bundles.file("notes", b"text")], by=strangers))


def test_trust_is_judged_before_anything_else_is_read(tmp_path: Path) -> None:
    lone = bundles.write_bundle(tmp_path / "b", [bundles.file("notes", b"text")], signers=["alice"])
    shutil.rmtree(lone / "blobs")
    with pytest.raises(TrustError):
        verify(lone)


def test_an_expired_bundle_is_refused(tmp_path: Path) -> None:
    old = bundles.write_bundle(
        tmp_path / "b", [bundles.file("notes", b"text")], expires_at=bundles.CREATED + timedelta(minutes=1)
    )
    with pytest.raises(TrustError, match="expired"):
        verify(old)


def test_an_envelope_behind_a_link_is_not_read(bundle: Path) -> None:
    (bundle / "bundle.dsse.json").rename(bundle / "moved")
    (bundle / "bundle.dsse.json").symlink_to("moved")
    assert run(["verify", str(bundle), "--site", str(bundles.pin(bundle.parent / "site"))]) == 6


def test_a_directory_without_an_envelope_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a bundle"):
        verify(tmp_path)


# ------------------------------------------------------------------ the command


def test_media_that_this_user_may_not_read_are_the_hosts_matter(bundle: Path) -> None:
    """Not wrong usage, which the parser of the command line would make of it."""
    need("setpriv")
    site = bundles.pin(bundle.parent / "site")
    bundle.chmod(0)
    unprivileged = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    command = [*unprivileged, sys.executable, "-m", "airgap", "verify", str(bundle), "--site", str(site)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    bundle.chmod(0o755)
    assert done.returncode == 9
    assert "run as a user who may read the media" in done.stderr


def test_the_command_says_who_signed_and_until_when(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(tmp_path / "site")
    assert run(["verify", str(bundle), "--site", str(site)]) == 0
    shown = capsys.readouterr().out
    assert "signed by alice, bob; not signed by carol, not needed; holds until" in shown
    assert "every byte is as signed" in shown


def test_the_command_judges_by_a_root_file_and_its_fingerprint(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "1.root.json"
    root.write_bytes(bundles.trust().root_file)
    assert (
        run(["verify", str(bundle), "--root", str(root), "--fingerprint", bundles.trust().fingerprint]) == 0
    )
    assert run(["verify", str(bundle), "--root", str(root), "--fingerprint", "0000 " * 12]) == 7
    assert run(["verify", str(bundle), "--root", str(root)]) == 7
    assert run(["verify", str(bundle)]) == 7
    assert "give --site DIR where one is pinned" in capsys.readouterr().err


def test_the_command_refuses_by_the_wrong_root(bundle: Path, tmp_path: Path) -> None:
    site = bundles.pin(tmp_path / "site", bundles.make_trust("alice", "bob"))
    assert run(["verify", str(bundle), "--site", str(site)]) == 7


def test_the_command_prints_one_document_and_exits_6(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(tmp_path / "site")
    flip(bundle / "oci-layout")
    assert run(["verify", str(bundle), "--site", str(site), "--json"]) == 6
    (document,) = json.loads(capsys.readouterr().out)["bundles"]
    assert document["sound"] is False
    assert document["findings"][0]["code"] == "integrity-changed"
    assert document["findings"][0]["subject"] == "oci-layout"


def test_hostile_names_reach_the_terminal_escaped(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(tmp_path / "site")
    (bundle / "\x1b[2Jclear").write_bytes(b"")
    (bundle / os.fsdecode(b"latin-\xff")).write_bytes(b"")
    assert run(["verify", str(bundle), "--site", str(site)]) == 6
    shown = capsys.readouterr().out
    assert run(["verify", str(bundle), "--site", str(site), "--json"]) == 6
    (document,) = json.loads(capsys.readouterr().out.encode("utf-8", "strict"))["bundles"]
    assert "latin-\\xff" in {finding["subject"] for finding in document["findings"]}
    assert "\x1b" not in shown
    assert "clear" in shown
