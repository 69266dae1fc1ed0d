"""`install`: what a site becomes, what is refused, and what is read."""

import errno
import json
import os
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.errors import HostError, TrustError
from airgap.isolated.install import install
from airgap.isolated.plan import Room, require_room
from airgap.isolated.rate import measure
from airgap.isolated.record import parse_record
from airgap.isolated.site import Site
from airgap.media import Media
from airgap.model import Sha256, Sha384
from airgap.progress import Silent
from airgap.trust.blobs import StatedBlob
from tests import bundles
from tests.isolated.sites import problems, snapshot


def installing(bundle: Path, site: Path, *options: str) -> int:
    return run(["install", str(bundle), "--site", str(site), *options])


def notes(path: Path, text: bytes, **stated: object) -> Path:
    return bundles.write_bundle(path, [bundles.file("notes", text)], **stated)  # type: ignore[arg-type]


def current_text(site: Path) -> bytes:
    return (site / "current" / "files" / "notes" / "notes.txt").read_bytes()


def test_a_site_holds_all_four_kinds(site: Path, tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "b", bundles.one_of_each(tmp_path))
    assert installing(bundle, site) == 0
    found = snapshot(site)
    assert found is not None
    assert {path.split("/")[0] for path in found} == {
        "wheels", "models", "hub", "containers", "files", "env.sh", "index.json",
    }  # fmt: skip
    assert found["hub/models--example--tiny/refs/main"] == b"c" * 40
    assert found["models/tiny/config.json"] == b'{"model_type": "tiny"}'
    assert problems(site) == []


def test_generations_are_hard_links_into_the_blobs(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    linked = os.stat(site / "current" / "files" / "notes" / "notes.txt")
    assert linked.st_nlink == 2
    assert linked.st_ino in {os.stat(blob).st_ino for blob in (site / "blobs" / "sha256").iterdir()}


def test_the_receipt_says_what_changed_and_who_vouched(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    assert installing(notes(tmp_path / "c", b"two", sequence=2, version="2"), site) == 0
    receipt = json.loads((site / "receipts" / "2.json").read_bytes())
    assert (receipt["generation"], receipt["previous"]) == (2, 1)
    assert receipt["action"] == "install"
    (added,), (removed,) = receipt["added"], receipt["removed"]
    assert added["signers"] == ["alice", "bob"]
    assert (added["sequence"], removed["sequence"]) == (2, 1)
    assert receipt["asked"] == f"airgap install {tmp_path / 'c'}"
    assert receipt["shared"]["blobs"] == 1  # the empty config of every file artifact
    assert sorted(os.listdir(site / "receipts")) == ["1.json", "2.json"]


def test_a_newer_bundle_replaces_its_older_one(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    assert installing(notes(tmp_path / "c", b"two", sequence=2), site) == 0
    assert current_text(site) == b"two"
    assert (site / "generations" / "1" / "files" / "notes" / "notes.txt").read_bytes() == b"one"


def test_bundles_of_other_names_stay(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    other = bundles.write_bundle(tmp_path / "c", [bundles.file("more", b"more")], name="other")
    assert installing(other, site) == 0
    assert current_text(site) == b"one"
    assert (site / "current" / "files" / "more" / "notes.txt").read_bytes() == b"more"
    record = parse_record((site / "current" / "site.json").read_bytes(), "site.json")
    assert [bundle.name for bundle in record.bundles] == ["other", "quickstart"]
    index = json.loads((site / "index.json").read_bytes())
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index["manifests"]]
    assert names == ["more", "notes"]


def test_artifacts_that_collide_are_refused_with_both_named(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    before = snapshot(site)
    assert installing(notes(tmp_path / "c", b"two", name="other", version="7"), site) == 8
    said = capsys.readouterr().err
    assert "file 'notes' of other 7 (sequence 1)" in said
    assert "file 'notes' of quickstart 2026.11 (sequence 1)" in said
    assert snapshot(site) == before


def test_one_repository_at_two_commits_collides(site: Path, tmp_path: Path) -> None:
    for name, commit, code in (("one", "a" * 40, 0), ("two", "b" * 40, 8)):
        model = bundles.model(name, {"config.json": b"{}"}, repo="example/tiny", commit=commit)
        assert installing(bundles.write_bundle(tmp_path / name, [model], name=name), site) == code


def test_the_same_artifact_in_two_bundles_is_no_collision(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    assert installing(notes(tmp_path / "c", b"one", name="other"), site) == 0
    assert current_text(site) == b"one"


def test_installing_again_changes_nothing(site: Path, tmp_path: Path) -> None:
    bundle = notes(tmp_path / "b", b"one")
    assert installing(bundle, site) == 0
    assert installing(bundle, site) == 0
    assert os.listdir(site / "generations") == ["1"]


def test_installing_again_brings_back_a_lost_blob(site: Path, tmp_path: Path) -> None:
    bundle = notes(tmp_path / "b", b"one")
    assert installing(bundle, site) == 0
    lost = site / "blobs" / "sha256" / bundles.file("notes", b"one").artifact.files[0].sha256
    lost.unlink()
    assert installing(bundle, site) == 0
    assert lost.read_bytes() == b"one"
    assert current_text(site) == b"one"


def test_installing_again_repairs_what_the_sites_disk_changed(site: Path, tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "b", bundles.one_of_each(tmp_path))
    assert installing(bundle, site) == 0
    before = snapshot(site)
    for blob in (site / "blobs" / "sha256").iterdir():
        blob.write_bytes(b"x" * blob.stat().st_size)
    assert installing(bundle, site) == 0
    assert snapshot(site) == before
    assert problems(site) == []


def test_a_dry_run_writes_nothing(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = notes(tmp_path / "b", b"one")
    assert installing(bundle, site, "--dry-run", "--json") == 0
    assert sorted(os.listdir(site)) == ["trust"]
    document = json.loads(capsys.readouterr().out)
    assert document["missing"]["blobs"] == 4
    assert document["generation"] is None


def test_each_file_of_the_media_is_opened_once(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = bundles.write_bundle(tmp_path / "b", bundles.one_of_each(tmp_path))
    opened: Counter[str] = Counter()
    open_file = Media._open_file

    def counting(media: Media, path: str) -> int:
        opened[path] += 1
        return open_file(media, path)

    monkeypatch.setattr(Media, "_open_file", counting)
    assert installing(bundle, site) == 0
    assert set(opened.values()) == {1}
    assert set(opened) == {str(p.relative_to(bundle)) for p in bundle.rglob("*") if p.is_file()}


# ------------------------------------------------------------------ refused


def test_an_older_bundle_is_refused_with_both_sequences(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installing(notes(tmp_path / "b", b"two", sequence=2), site) == 0
    assert installing(notes(tmp_path / "c", b"one", sequence=1), site) == 7
    said = capsys.readouterr().err
    assert "sequence 2" in said
    assert "sequence 1" in said
    assert current_text(site) == b"two"


def test_a_bundle_of_the_same_name_cannot_go_back_by_another_channel(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"two", sequence=2), site) == 0
    older = notes(tmp_path / "c", b"one", channel="elsewhere")
    assert installing(older, site) == 7


def test_equal_sequence_with_other_bytes_is_an_alarm(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    assert installing(notes(tmp_path / "c", b"two"), site) == 7
    assert "two different statements" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["deleted", "corrupted", "linked"])
def test_memory_that_was_tampered_with_is_an_alarm(site: Path, tmp_path: Path, how: str) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    memory = site / "trust" / "accepted.json"
    if how == "deleted":
        memory.unlink()
    elif how == "corrupted":
        memory.write_bytes(memory.read_bytes()[:-1])
    else:
        memory.rename(site / "elsewhere")
        memory.symlink_to(site / "elsewhere")
    newer = notes(tmp_path / "c", b"two", sequence=2)
    assert installing(newer, site) == 7
    assert run(["verify", str(newer), "--site", str(site)]) == 7
    assert current_text(site) == b"one"


def test_no_root_says_how_to_pin_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert installing(notes(tmp_path / "b", b"one"), tmp_path / "nowhere") == 7
    assert "airgap trust pin" in capsys.readouterr().err
    assert not (tmp_path / "nowhere").exists()


def test_too_few_signers_change_nothing(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"one", signers=["alice"]), site) == 7
    assert snapshot(site) is None


def test_every_damaged_blob_is_named_and_none_is_kept(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {f"part-{n}.bin": bytes([n]) * 5000 for n in range(4)}
    bundle = bundles.write_bundle(tmp_path / "b", [bundles.model("tiny", weights)])
    blobs = {p: p.read_bytes() for p in (bundle / "blobs" / "sha256").iterdir()}
    bad = [p for p, data in blobs.items() if data[:1] in (b"\x01", b"\x03")]
    for path in bad:
        path.write_bytes(b"x" * 5000)
    assert installing(bundle, site) == 6
    said = capsys.readouterr().err
    assert all(path.name in said for path in bad)
    held = set(os.listdir(site / "blobs" / "sha256"))
    assert not held & {path.name for path in bad}
    assert snapshot(site) is None
    for path in bad:
        path.write_bytes(blobs[path])
    assert installing(bundle, site) == 0
    assert problems(site) == []


def test_signed_bytes_under_a_wrong_name_deceive_no_later_bundle(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sha384 decides: an honest bundle never takes them for what their name says."""
    content = bundles.file("notes", b"honest text")
    (digest,) = content.blobs
    lying = bundles.Content(content.artifact, {digest: b"other bytes"})
    assert installing(bundles.write_bundle(tmp_path / "b", [lying], name="lying"), site) == 0
    honest = bundles.write_bundle(tmp_path / "c", [bundles.file("honest", b"honest text")], name="honest")
    assert installing(honest, site) == 7
    assert f"blob {digest}: lying 2026.11 (sequence 1) states" in capsys.readouterr().err
    for verb in (["uninstall", "lying"], ["gc", "--keep", "1"]):
        assert run([*verb, "--site", str(site)]) == 0
    assert installing(honest, site) == 0
    assert problems(site) == []


def test_what_no_generation_vouches_for_is_hashed_before_it_is_taken(site: Path, tmp_path: Path) -> None:
    """Left by an install that was killed, or by a power cut that an fsync did not survive."""
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    new = bundles.file("new", b"new text")
    (digest,) = new.blobs
    (site / "blobs" / "sha256" / digest).write_bytes(b"n3w text")
    assert installing(bundles.write_bundle(tmp_path / "c", [new], name="other"), site) == 0
    assert (site / "current" / "files" / "new" / "notes.txt").read_bytes() == b"new text"
    assert problems(site) == []


def test_media_that_fail_midway_are_named_and_a_rerun_reads_only_the_rest(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = {f"part-{n}.bin": bytes([n]) * (5000 - n) for n in range(6)}
    bundle = bundles.write_bundle(tmp_path / "b", [bundles.model("tiny", weights)])
    last = bundles.model("tiny", weights).artifact.files[-1]
    read = os.readv

    def failing(descriptor: int, buffers: list[memoryview]) -> int:
        if os.fstat(descriptor).st_size == last.size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, buffers)

    with monkeypatch.context() as pulled_out:
        pulled_out.setattr(os, "readv", failing)
        assert installing(bundle, site) == 9
    said = capsys.readouterr().err
    assert f"{bundle}/blobs/sha256/{last.sha256}: cannot be read: Input/output error" in said
    assert snapshot(site) is None
    assert installing(bundle, site, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["missing"]["blobs"] < len(weights)
    assert problems(site) == []


def test_what_was_not_signed_is_refused_before_anything_is_copied(site: Path, tmp_path: Path) -> None:
    bundle = notes(tmp_path / "b", b"one")
    (bundle / "extra").mkdir()
    assert installing(bundle, site) == 6
    assert os.listdir(site / "blobs" / "sha256") == []


def test_a_second_installer_is_told_who_holds_the_site(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = notes(tmp_path / "b", b"one")
    with Site(site).locked("airgap install /media/first"):
        assert installing(bundle, site) == 9
    assert f"process {os.getpid()} on" in (said := capsys.readouterr().err)
    assert "airgap install /media/first" in said
    assert installing(bundle, site) == 0


def test_two_installers_at_once_leave_one_whole_site(site: Path, tmp_path: Path) -> None:
    made = [
        bundles.write_bundle(tmp_path / name, [bundles.file(name, name.encode() * 200_000)], name=name)
        for name in ("one", "two")
    ]
    commands = [[sys.executable, "-m", "airgap", "install", str(b), "--site", str(site)] for b in made]
    running = [subprocess.Popen(c, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for c in commands]
    codes = [process.wait() for process in running]
    assert 0 in codes
    assert set(codes) <= {0, 9}
    assert [installing(bundle, site) for bundle in made] == [0, 0]
    assert sorted(os.listdir(site / "current" / "files")) == ["one", "two"]
    assert problems(site) == []


# ------------------------------------------------------------------ hosts


def test_umask_077_leaves_a_site_others_can_read(site: Path, tmp_path: Path) -> None:
    bundle = bundles.write_bundle(tmp_path / "b", bundles.one_of_each(tmp_path))
    before = os.umask(0o077)
    try:
        assert installing(bundle, site) == 0
    finally:
        os.umask(before)
    for path in site.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_dir() and not path.is_symlink():
            assert mode == (0o700 if path.name == "staging" else 0o755), path
        elif not path.is_symlink() and path.name != "lock":
            assert mode == 0o644, path


def test_paths_that_are_not_utf8_work(tmp_path: Path) -> None:
    site = bundles.pin(tmp_path / os.fsdecode(b"site-\xff"))
    bundle = notes(tmp_path / os.fsdecode(b"media-\xff"), b"one")
    assert installing(bundle, site, "--dry-run") == 0
    assert installing(bundle, site) == 0
    assert installing(bundle, site, "--json") == 0
    assert current_text(site) == b"one"
    show = ["bash", "-c", '. "$0/current/env.sh"; printf %s "$HF_HUB_CACHE"', str(site)]
    env = subprocess.run(show, capture_output=True, check=True)
    assert env.stdout == os.fsencode(site / "current" / "hub")


def test_a_site_behind_a_link_works(site: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(site)
    assert installing(notes(tmp_path / "b", b"one"), tmp_path / "link") == 0
    assert current_text(site) == b"one"


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    directory = tmp_path / "small"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    yield directory
    subprocess.run(["umount", directory], check=True)


def test_what_cannot_fit_is_refused_before_anything_is_copied(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(small / "site")
    bundle = notes(tmp_path / "b", os.urandom(3_000_000))
    assert installing(bundle, site, "--dry-run") == 9
    assert installing(bundle, site) == 9
    assert "too little" in capsys.readouterr().err
    assert os.listdir(site / "blobs" / "sha256") == []


def test_who_lacks_inodes_is_not_told_to_free_space(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="91 inodes needed, 22 free") as found:
        require_room(tmp_path, Room(1000, 91), Room(5000, 22))
    assert found.value.remedy.startswith("delete small files on that file system")


def test_a_disk_that_fills_up_midway_changes_nothing(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(small / "site")
    weights = {f"part-{n}.bin": os.urandom(200_000) for n in range(7)}
    bundle = bundles.write_bundle(tmp_path / "b", [bundles.model("tiny", weights)])
    with monkeypatch.context() as someone_else_fills_the_disk:
        someone_else_fills_the_disk.setattr("airgap.isolated.install.require_fit", lambda site, plan: None)
        assert installing(bundle, site) == 9
    assert "free space on that file system" in capsys.readouterr().err
    assert snapshot(site) is None
    assert problems(site) == []
    subprocess.run(["mount", "-o", "remount,size=8m", small], check=True)
    assert installing(bundle, site) == 0
    assert problems(site) == []


def test_a_file_system_without_hard_links_is_refused(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def as_fat_answers(source: Path, target: Path, **options: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", as_fat_answers)
    assert installing(notes(tmp_path / "b", b"one"), site) == 9
    assert "cannot live on FAT" in capsys.readouterr().err
    assert os.listdir(site / "blobs" / "sha256") == []


def test_a_clock_set_back_does_not_revive_what_expired(site: Path, tmp_path: Path) -> None:
    assert installing(notes(tmp_path / "b", b"one"), site) == 0
    long_ago = datetime(2001, 1, 1, tzinfo=UTC)
    expired = notes(
        tmp_path / "c",
        b"two",
        name="other",
        created_at=long_ago,
        expires_at=long_ago.replace(year=2002),
    )
    with Media(expired) as media, pytest.raises(TrustError, match="expired"):
        install([media], Site(site), long_ago, asked="", progress=Silent())


def test_a_dry_run_says_how_long_it_will_take_from_a_rate_just_measured(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = notes(tmp_path / "b", os.urandom(3_000_000))
    assert installing(bundle, site, "--dry-run", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    estimate, missing = document["estimate"], document["missing"]["bytes"]
    assert 3_000_000 <= estimate["sampled_bytes"] <= missing
    assert estimate["seconds"] == round(missing / estimate["bytes_per_second"], 1)
    assert installing(bundle, site, "--dry-run") == 0
    assert "time: about " in capsys.readouterr().out
    assert not (site / "blobs").exists()
    assert installing(bundle, site, "--json") == 0
    assert json.loads(capsys.readouterr().out)["estimate"] is None


def test_the_sample_ends_where_it_is_promised_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = notes(tmp_path / "b", os.urandom(3_000_000))
    monkeypatch.setattr("airgap.isolated.rate.MOST_BYTES", 1_000_000)
    digest = max((bundle / "blobs" / "sha256").iterdir(), key=lambda path: path.stat().st_size).name
    with Media(bundle) as media:
        rate = measure([media], {Sha256(digest): StatedBlob(Sha384("0" * 96), 3_000_000)})
        assert measure([media], {}) is None
    assert rate and 1_000_000 <= rate.sampled < 2_000_000
