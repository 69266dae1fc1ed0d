"""Several bundles, several installers, media that fail, and places that are awkward."""

import errno
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.isolated.site import Site
from tests import bundles
from tests.isolated.sites import problems, snapshot

Read = pytest.CaptureFixture[str]


def installing(site: Path, *arguments: str | Path) -> int:
    return run(["install", *map(str, arguments), "--site", str(site)])


def whole(site: Path) -> bool:
    return run(["status", "--verify", "--site", str(site)]) == 0 and problems(site) == []


def file_bundle(path: Path, data: bytes = b"bytes", **stated: object) -> Path:
    """One file, in a bundle of the directory's name."""
    content = [bundles.file(path.name, data)]
    return bundles.write_bundle(path, content, **{"name": path.name, **stated})  # type: ignore[arg-type]


# ------------------------------------------------------------------ several bundles at once


def test_several_bundles_are_one_generation(site: Path, tmp_path: Path) -> None:
    made = [file_bundle(tmp_path / name, name.encode()) for name in ("one", "two", "three")]
    assert installing(site, *made) == 0
    assert os.listdir(site / "generations") == ["1"]
    assert sorted(os.listdir(site / "current" / "files")) == ["one", "three", "two"]
    receipt = json.loads((site / "receipts" / "1.json").read_bytes())
    assert [bundle["name"] for bundle in receipt["added"]] == ["one", "three", "two"]
    assert installing(site, *made) == 0
    assert os.listdir(site / "generations") == ["1"]
    assert whole(site)


def test_if_one_of_them_is_bad_none_is_installed(site: Path, tmp_path: Path, capsys: Read) -> None:
    good, bad = file_bundle(tmp_path / "good"), file_bundle(tmp_path / "bad", b"other")
    digest = bundles.file("bad", b"other").artifact.files[0].sha256
    (bad / "blobs" / "sha256" / digest).write_bytes(b"0ther")
    assert installing(site, good, bad) == 6
    assert digest in capsys.readouterr().err
    assert snapshot(site) is None
    assert installing(site, good) == 0


def test_two_of_them_may_not_collide(site: Path, tmp_path: Path, capsys: Read) -> None:
    one = bundles.write_bundle(tmp_path / "one", [bundles.file("notes", b"1")], name="one")
    two = bundles.write_bundle(tmp_path / "two", [bundles.file("notes", b"2")], name="two")
    assert installing(site, one, two) == 8
    said = capsys.readouterr().err
    assert "of one 2026.11" in said
    assert "of two 2026.11" in said
    assert os.listdir(site / "blobs" / "sha256") == []


def test_one_name_in_two_versions_is_refused(site: Path, tmp_path: Path, capsys: Read) -> None:
    one = file_bundle(tmp_path / "one", name="same")
    two = file_bundle(tmp_path / "two", name="same", sequence=2)
    assert installing(site, one, two) == 3
    assert "name the newer one alone" in capsys.readouterr().err


def test_the_same_bundle_on_two_discs_is_one(site: Path, tmp_path: Path) -> None:
    one = file_bundle(tmp_path / "one")
    shutil.copytree(one, tmp_path / "copy")
    assert installing(site, one, tmp_path / "copy") == 0
    assert whole(site)


def test_a_blob_that_two_of_them_share_is_read_once(site: Path, tmp_path: Path, capsys: Read) -> None:
    shared = bundles.file("shared", b"shared" * 1000)
    for name in ("one", "two"):
        bundles.write_bundle(tmp_path / name, [shared], name=name)
    capsys.readouterr()
    assert installing(site, tmp_path / "one", tmp_path / "two", "--json") == 0
    done = json.loads(capsys.readouterr().out)
    assert done["artifacts"] == ["shared", "shared"]
    assert done["missing"]["blobs"] == len(os.listdir(site / "blobs" / "sha256")) - 4  # envelopes and indexes


def test_two_statements_that_name_different_bytes_alike_are_an_alarm(
    site: Path, tmp_path: Path, capsys: Read
) -> None:
    honest = bundles.file("honest", b"honest text")
    (digest,) = honest.blobs
    assert installing(site, bundles.write_bundle(tmp_path / "one", [honest], name="one")) == 0
    lying = bundles.Content(bundles.file("lying", b"honest text").artifact, {digest: b"other words"})
    assert installing(site, bundles.write_bundle(tmp_path / "two", [lying], name="two")) == 7
    said = capsys.readouterr().err
    assert f"blob {digest}: one 2026.11 (sequence 1) states" in said
    assert whole(site)


# ------------------------------------------------------------------ several installers


def test_a_second_one_waits_for_the_first(site: Path, tmp_path: Path) -> None:
    bundle = file_bundle(tmp_path / "one")
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with Site(site).locked("airgap install /media/first"):
            held.set()
            release.wait(10)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(10)
    threading.Timer(0.5, release.set).start()
    began = time.monotonic()
    assert installing(site, bundle, "--wait", "20") == 0
    assert 0.3 < time.monotonic() - began < 10
    holder.join()


@pytest.mark.parametrize("verb", [["install", "BUNDLE"], ["rollback"], ["uninstall", "one"], ["gc"]])
def test_every_change_says_who_holds_the_site(
    site: Path, tmp_path: Path, verb: list[str], capsys: Read
) -> None:
    bundle = file_bundle(tmp_path / "one")
    assert installing(site, bundle) == 0
    arguments = [str(bundle) if word == "BUNDLE" else word for word in verb]
    with Site(site).locked("airgap install /media/first"):
        assert run([*arguments, "--site", str(site), "--wait", "0.1"]) == 9
    said = capsys.readouterr().err
    assert f"being changed by process {os.getpid()} on" in said
    assert "airgap install /media/first" in said


def test_a_glance_at_who_holds_the_site_turns_no_change_away(site: Path, tmp_path: Path) -> None:
    bundle = file_bundle(tmp_path / "one")
    assert installing(site, bundle) == 0
    descriptor = os.open(site / "lock", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)  # as `Site.busy` does
    threading.Timer(0.1, os.close, [descriptor]).start()
    with Site(site).locked("airgap gc"):
        pass


def test_many_at_once_all_get_their_turn(site: Path, tmp_path: Path) -> None:
    made = [file_bundle(tmp_path / name, name.encode() * 50_000) for name in ("one", "two", "three")]
    command = [sys.executable, "-m", "airgap", "install", "--site", str(site), "--wait", "60"]
    running = [subprocess.Popen([*command, str(b)], stdout=subprocess.DEVNULL) for b in made]
    assert [process.wait() for process in running] == [0, 0, 0]
    assert sorted(os.listdir(site / "current" / "files")) == ["one", "three", "two"]
    assert sorted(os.listdir(site / "generations")) == ["1", "2", "3"]
    assert whole(site)


def test_a_lock_whose_holder_died_holds_nobody_up(site: Path, tmp_path: Path) -> None:
    bundle = file_bundle(tmp_path / "one")
    assert installing(site, bundle) == 0
    (site / "lock").write_text("process 1 on elsewhere: airgap install /media/gone\n")
    assert installing(site, bundle) == 0
    with open(site / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


# ------------------------------------------------------------------ media that fail


def test_a_blob_that_changes_under_us_is_not_kept(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    """What was hashed is what was written, whatever the medium says next."""
    data = b"a" * 3_000_000
    bundle = file_bundle(tmp_path / "one", data)
    digest = bundles.file("one", data).artifact.files[0].sha256
    read, reads = os.readv, 0

    def changing(descriptor: int, buffers: list[memoryview]) -> int:
        nonlocal reads
        if os.fstat(descriptor).st_size == len(data):
            reads += 1
            if reads == 2:
                (bundle / "blobs" / "sha256" / digest).write_bytes(b"b" * len(data))
        return read(descriptor, buffers)

    with monkeypatch.context() as someone_writes:
        someone_writes.setattr(os, "readv", changing)
        assert installing(site, bundle) == 6
    assert reads > 1
    assert f"{digest}: its bytes are not what was signed" in capsys.readouterr().err
    assert digest not in os.listdir(site / "blobs" / "sha256")
    assert os.listdir(site / "staging") == []


def mounted(directory: Path, image: Path, *options: str) -> None:
    mount = ["mount", *options, str(image), str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting needs root and a loop device")


@pytest.fixture
def disc(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A medium: an ext4 image of 32 MiB and where it is mounted, writable until the test says otherwise."""
    image, directory = tmp_path / "disc.img", tmp_path / "disc"
    with open(image, "wb") as file:
        file.truncate(32 * 1024 * 1024)
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    directory.mkdir()
    mounted(directory, image, "-o", "loop")
    yield image, directory
    subprocess.run(["umount", "--lazy", str(directory)], check=False, capture_output=True)


def test_a_read_only_medium_of_another_file_system(site: Path, disc: tuple[Path, Path]) -> None:
    _, directory = disc
    bundle = file_bundle(directory / "one", os.urandom(100_000))
    subprocess.run(["mount", "-o", "remount,ro", str(directory)], check=True)
    assert installing(site, bundle) == 0
    assert whole(site)


def test_a_medium_pulled_out_while_it_is_read(
    site: Path, disc: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    """The file system is there no more: what was open fails with EIO, what was not is missing."""
    image, directory = disc
    weights = {f"part-{n}.bin": os.urandom(3_000_000) for n in range(4)}
    bundle = bundles.write_bundle(directory / "one", [bundles.model("tiny", weights)])
    subprocess.run(["umount", str(directory)], check=True)
    mounted(directory, image, "-o", "loop,ro")
    read, pulled = os.readv, False

    def pulling(descriptor: int, buffers: list[memoryview]) -> int:
        nonlocal pulled
        count = read(descriptor, buffers)
        if os.fstat(descriptor).st_size == 3_000_000 and not pulled:
            pulled = True
            with open(image, "r+b") as file:
                file.truncate(0)
            # Without its cache the mounted file system has nothing left to answer from.
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            Path("/proc/sys/vm/drop_caches").write_text("3")
        return count

    with monkeypatch.context() as pulled_out:
        pulled_out.setattr(os, "readv", pulling)
        assert installing(site, bundle) in (6, 9)
    assert pulled
    assert str(directory) in capsys.readouterr().err
    assert snapshot(site) is None
    subprocess.run(["umount", "--lazy", str(directory)], check=True)
    again = bundles.write_bundle(site.parent / "again", [bundles.model("tiny", weights)])
    assert installing(site, again) == 0
    assert whole(site)


def test_media_that_answer_with_an_error_are_named(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Read
) -> None:
    one, two = file_bundle(tmp_path / "one", b"1" * 100), file_bundle(tmp_path / "two", b"2" * 200)
    read = os.readv

    def failing(descriptor: int, buffers: list[memoryview]) -> int:
        if os.fstat(descriptor).st_size == 200:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, buffers)

    with monkeypatch.context() as scratched:
        scratched.setattr(os, "readv", failing)
        assert installing(site, one, two) == 9
    assert f"{two}/blobs/sha256/" in capsys.readouterr().err
    assert installing(site, one, two) == 0
    assert whole(site)


# ------------------------------------------------------------------ awkward places


def test_every_verb_works_behind_a_link_and_with_umask_077(site: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(site)
    link = tmp_path / "link"
    before = os.umask(0o077)
    try:
        assert installing(link, file_bundle(tmp_path / "one")) == 0
        assert installing(link, file_bundle(tmp_path / "two", b"2")) == 0
        for verb in (["rollback"], ["rollback", "2"], ["uninstall", "two"], ["gc", "--keep", "1"]):
            assert run([*verb, "--site", str(link)]) == 0
    finally:
        os.umask(before)
    assert whole(link)
    for path in site.rglob("*"):
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_file() and not path.is_symlink() and path.name != "lock":
            assert mode == 0o644, path


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user reaches; pytest's own are private."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def test_without_root_everything_works(public: Path) -> None:
    """As nobody, in a site of nobody's; one of root's is refused with what to do."""
    if os.geteuid() != 0:
        pytest.skip("becoming another user needs root")
    site = bundles.pin(public / "own" / "site")
    foreign = bundles.pin(public / "foreign")
    bundle = file_bundle(public / "one")
    subprocess.run(["chown", "-R", "65534:65534", str(site.parent)], check=True)
    child = os.fork()
    if child == 0:
        os.setgroups([])
        os.setgid(65534)
        os.setuid(65534)
        codes = [installing(site, bundle), run(["gc", "--site", str(site)]), installing(foreign, bundle)]
        os._exit(0 if codes == [0, 0, 9] else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert whole(site)
