"""The reader of media that somebody hostile may have written."""

import hashlib
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from airgap.errors import HostError, InputError
from airgap.media import (
    KEPT_DIRECTORIES,
    Entry,
    EntryType,
    Media,
    MissingFileError,
    NotAFileError,
    not_a_bundle,
)
from airgap.model import Sha384
from airgap.progress import Silent
from airgap.trust.blobs import StatedBlob
from airgap.verify import hash_files


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    root = tmp_path / "media"
    (root / "blobs" / "sha256").mkdir(parents=True)
    (root / "blobs" / "sha256" / "aa").write_bytes(b"0123456789")
    return root


def test_reads_at_most_one_byte_beyond_what_was_asked(directory: Path) -> None:
    with Media(directory) as media:
        assert media.read("blobs/sha256/aa", max_bytes=10) == b"0123456789"
        assert media.read("blobs/sha256/aa", max_bytes=4) == b"01234"
        assert media.read("blobs/sha256/aa", max_bytes=99) == b"0123456789"


def test_a_fifo_is_refused_and_does_not_hang(directory: Path) -> None:
    os.mkfifo(directory / "pipe")
    with Media(directory) as media, pytest.raises(NotAFileError, match="found a FIFO"):
        media.read("pipe", max_bytes=1)


def test_a_link_is_refused_wherever_it_points(directory: Path) -> None:
    (directory / "inside").symlink_to("blobs/sha256/aa")
    (directory / "dangling").symlink_to("/nowhere")
    with Media(directory) as media:
        for name in ("inside", "dangling"):
            with pytest.raises(NotAFileError, match="found a symbolic link"):
                media.read(name, max_bytes=99)


def test_a_linked_directory_is_not_entered(directory: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "aa").write_bytes(b"secret")
    (directory / "verify").symlink_to(tmp_path / "elsewhere")
    with Media(directory) as media:
        with pytest.raises(NotAFileError):
            media.read("verify/aa", max_bytes=99)
        assert {e.path for e in media.entries({"verify"})} == {"blobs", "verify"}


def test_sockets_directories_and_devices_are_refused(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        # Bound by a short relative name: socket paths have about 100 bytes.
        here = os.getcwd()
        os.chdir(directory)
        listener.bind("socket")
        os.chdir(here)
    with Media(directory) as media:
        for name, found in (("socket", "a socket"), ("blobs", "a directory")):
            with pytest.raises(NotAFileError, match=found):
                media.read(name, max_bytes=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="making a device node needs root")
def test_a_device_is_refused_before_it_is_opened(directory: Path) -> None:
    try:
        os.mknod(directory / "zero", stat.S_IFCHR | 0o600, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("this container may not make device nodes")
    with Media(directory) as media, pytest.raises(NotAFileError, match="found a device"):
        media.read("zero", max_bytes=1)


def test_what_is_missing_says_so(directory: Path) -> None:
    with Media(directory) as media:
        for name in ("index.json", "verify/pae.bin"):
            with pytest.raises(MissingFileError, match="missing"):
                media.read(name, max_bytes=1)


def test_entries_name_everything_and_enter_only_what_they_are_told_to(directory: Path) -> None:
    (directory / "extra" / "deep").mkdir(parents=True)
    os.mkfifo(directory / "pipe")
    with Media(directory) as media:
        found = set(media.entries({"blobs", "blobs/sha256"}))
    assert found == {
        Entry("blobs", EntryType.DIRECTORY, 0),
        Entry("blobs/sha256", EntryType.DIRECTORY, 0),
        Entry("blobs/sha256/aa", EntryType.FILE, 10),
        Entry("extra", EntryType.DIRECTORY, 0),
        Entry("pipe", EntryType.FIFO, 0),
    }


def test_names_that_are_not_utf8_are_listed(directory: Path) -> None:
    (directory / os.fsdecode(b"\xff\x1b[2J")).write_bytes(b"")
    with Media(directory) as media:
        assert os.fsdecode(b"\xff\x1b[2J") in {e.path for e in media.entries(())}


def test_no_bundle_directory_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for name, found in (("file", "a file"), ("nothing", "nothing of that name")):
        with pytest.raises(InputError, match=f"expected a bundle directory, found {found}$"):
            Media(tmp_path / name)


def test_a_directory_that_is_no_bundle_says_where_one_may_be(tmp_path: Path) -> None:
    with Media(tmp_path) as media:
        empty = not_a_bundle(media)
        (tmp_path / "lost+found").mkdir()
        formatted = not_a_bundle(media)
        (tmp_path / "pictures").mkdir()
        other = not_a_bundle(media)
        for name in ("one-1", "two-1"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "bundle.dsse.json").write_bytes(b"{}")
        (tmp_path / "linked").symlink_to("one-1")
        deeper = not_a_bundle(media, also=", or a lock")
    assert "empty" in empty.message
    assert "mounted" in empty.remedy
    assert formatted.message == empty.message
    assert "never signed" in other.remedy
    assert deeper.remedy == f"name the directory that holds it: {tmp_path}/one-1, {tmp_path}/two-1"


def test_a_failing_read_is_the_hosts_error_and_names_the_file(directory: Path) -> None:
    # /proc/self/mem answers a read at offset 0 with EIO, as a failing disc does.
    with Media(Path("/proc/self")) as media, pytest.raises(HostError) as raised:
        media.read("mem", max_bytes=1)
    assert "/proc/self/mem" in raised.value.message
    assert "finished work is kept" in raised.value.remedy


def test_a_file_that_turns_into_a_fifo_between_two_looks_is_refused(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look = os.stat

    def looking(path: str, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
        found = look(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        (directory / path).unlink()
        os.mkfifo(directory / path)
        return found

    (directory / "document").write_bytes(b"text")
    with Media(directory) as media, monkeypatch.context() as hostile_media:
        hostile_media.setattr(os, "stat", looking)
        with pytest.raises(NotAFileError, match="found a FIFO"):
            media.read("document", max_bytes=9)


def test_a_link_put_in_place_of_a_directory_that_was_entered_is_not_followed(
    directory: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "sha256").mkdir(parents=True)
    (elsewhere / "sha256" / "aa").write_bytes(b"secret")
    with Media(directory) as media:
        assert media.read("blobs/sha256/aa", max_bytes=99) == b"0123456789"
        (directory / "blobs").rename(directory / "moved")
        (directory / "blobs").symlink_to(elsewhere)
        assert media.read("blobs/sha256/aa", max_bytes=99) == b"0123456789"
        with pytest.raises(NotAFileError):
            media.read("blobs/other", max_bytes=99)


def test_no_more_directories_stay_open_than_promised(directory: Path) -> None:
    for number in range(KEPT_DIRECTORIES * 2):
        (directory / f"d{number}").mkdir()
        (directory / f"d{number}" / "file").write_bytes(b"")
    before = len(os.listdir("/proc/self/fd"))
    with Media(directory) as media:
        for number in range(KEPT_DIRECTORIES * 2):
            assert media.read(f"d{number}/file", max_bytes=1) == b""
        assert len(os.listdir("/proc/self/fd")) <= before + KEPT_DIRECTORIES + 1
    assert len(os.listdir("/proc/self/fd")) == before


class OneAtATime(Media):
    """Media whose files are watched: how many were ever open at once."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.most = self._now = 0
        self._counting = threading.Lock()

    @contextmanager
    def open(self, path: str, start: int = 0) -> Iterator[Callable[[memoryview], int]]:
        with self._counting:
            self._now += 1
            self.most = max(self.most, self._now)
        time.sleep(0.002)  # long enough for another thread to come, if there is one
        with super().open(path, start) as readinto:
            yield readinto
        with self._counting:
            self._now -= 1


@pytest.mark.parametrize("disc", [True, False])
def test_a_disc_is_read_one_file_after_another(
    tmp_path: Path, disc: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No disc drive is here: the disk that the test writes to is taken for one."""
    if disc:
        monkeypatch.setattr("airgap.media.OPTICAL", os.major(os.stat(tmp_path).st_dev))
    monkeypatch.setattr("airgap.media.cores", lambda: 4)
    blobs = {}
    for number in range(40):
        (tmp_path / f"{number}").write_bytes(bytes([number]))
        blobs[f"{number}"] = StatedBlob(Sha384(hashlib.sha384(bytes([number])).hexdigest()), 1)
    media = OneAtATime(tmp_path)
    with media:
        assert hash_files(media, blobs, Silent()) == []
    assert (media.most == 1) is disc
