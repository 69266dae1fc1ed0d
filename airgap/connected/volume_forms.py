"""The forms in which a volume is written: a directory, one tar, or one ISO 9660 image.

Each appears under its name by rename, after it is whole and fsynced. A directory takes whole blobs as
hard links where it lies on the bundle's file system. A tar is streamed: nothing of it is held elsewhere.
An ISO is made by xorriso out of the bundle itself, so that no second copy of the data is written first.
"""

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Protocol

from airgap.errors import HostError
from airgap.image_tar import TAR_BLOCK, tar_header, tar_padding
from airgap.store import fsync_directory, host_errors, write_all

SUFFIXES = {"directory": "", "tar": ".tar", "iso": ".iso"}


class Sink(Protocol):
    """Where one volume is written to. At most `jobs` threads call it at once, each for another path."""

    @property
    def jobs(self) -> int: ...

    def write(self, path: str, data: bytes) -> None:
        """One small file. Raises HostError."""

    def link(self, path: str, blob: Path) -> bool:
        """Take a whole blob as it lies, writing nothing; False where that cannot be. Raises HostError."""

    def file(self, path: str, source: Path, start: int, size: int) -> AbstractContextManager[int | None]:
        """One file of the `size` bytes that `source` holds from `start` on.

        Yields the descriptor to write them to; None where it takes them from `source` itself.
        """


def destination(out: Path, name: str, form: str) -> Path:
    """Where a volume of that name will be."""
    return out / f"{name}{SUFFIXES[form]}"


@contextmanager
def open_sink(place: Path, form: str, bundle: Path, made: datetime) -> Iterator[Sink]:
    """A sink whose volume gets the name `place` when the work ends well, and leaves nothing when not.

    The volume is of `bundle`; `made` dates the files inside a tar or an ISO. Raises HostError.
    """
    temporary = place.with_name(f".{place.name}.splitting")
    opened: Callable[[Path, Path, datetime], AbstractContextManager[Sink]] = {
        "directory": _directory,
        "tar": _tar,
        "iso": _iso,
    }[form]
    with host_errors(temporary):
        place.parent.mkdir(parents=True, exist_ok=True)
        _remove(temporary)  # what a killed run left
        try:
            with opened(temporary, bundle, made) as sink:
                yield sink
            os.rename(temporary, place)
            fsync_directory(place.parent)
        finally:
            _remove(temporary)


@dataclass(frozen=True, slots=True)
class _Directory:
    top: Path
    jobs: int = 2

    def write(self, path: str, data: bytes) -> None:
        with self.file(path, self.top, 0, len(data)) as descriptor:
            write_all(descriptor, memoryview(data))

    def link(self, path: str, blob: Path) -> bool:
        with host_errors(self.top / path):
            try:
                os.link(blob, self._place(path), follow_symlinks=False)
            except OSError as error:
                if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                    raise
                return False
        return True

    @contextmanager
    def file(self, path: str, source: Path, start: int, size: int) -> Iterator[int]:
        place = self._place(path)
        with host_errors(place), open(place, "xb", buffering=0) as out:
            yield out.fileno()
            os.fsync(out.fileno())

    def _place(self, path: str) -> Path:
        place = self.top / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


@contextmanager
def _directory(top: Path, bundle: Path, made: datetime) -> Iterator[Sink]:
    top.mkdir()
    yield _Directory(top)
    for directory, _, _ in os.walk(top, topdown=False):
        fsync_directory(Path(directory))


@dataclass(frozen=True, slots=True)
class TarSink:
    """A tar to the descriptor `out`, `made` in seconds since 1970, every path `below` a directory or none."""

    out: int
    made: int
    below: str = ""
    jobs: int = 1

    def write(self, path: str, data: bytes) -> None:
        with self.file(path, Path(), 0, len(data)) as descriptor:
            write_all(descriptor, memoryview(data))

    def link(self, path: str, blob: Path) -> bool:
        return False

    @contextmanager
    def file(self, path: str, source: Path, start: int, size: int) -> Iterator[int]:
        write_all(self.out, memoryview(tar_header(f"{self.below}{path}", size, self.made)))
        yield self.out
        write_all(self.out, memoryview(tar_padding(size)))


@contextmanager
def _tar(place: Path, bundle: Path, made: datetime) -> Iterator[Sink]:
    with open(place, "xb", buffering=0) as out:
        yield TarSink(out.fileno(), int(made.timestamp()))
        write_all(out.fileno(), memoryview(bytes(2 * TAR_BLOCK)))
        os.fsync(out.fileno())


@dataclass(frozen=True, slots=True)
class _Iso:
    """Notes what xorriso will be told to take from where; only the small files are written, below `own`."""

    own: Path
    commands: list[str] = field(default_factory=list)
    jobs: int = 2

    def write(self, path: str, data: bytes) -> None:
        place = self.own / "small" / path
        with host_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)

    def link(self, path: str, blob: Path) -> bool:
        self.commands.append(f"-map bundle/blobs/sha256/{blob.name} {path}")
        return True

    def file(self, path: str, source: Path, start: int, size: int) -> AbstractContextManager[None]:
        self.commands.append(f"-cut_out bundle/blobs/sha256/{source.name} {start} {size} {path}")
        return nullcontext()


@contextmanager
def _iso(place: Path, bundle: Path, made: datetime) -> Iterator[Sink]:
    if shutil.which("xorriso") is None:
        raise HostError(
            "--iso needs xorriso, which is not on the PATH",
            remedy="install it (apt install xorriso), or split into directories and use another tool",
        )
    sink = _Iso(place.with_name(f"{place.name}.parts"))
    _remove(sink.own)  # what a killed run left
    try:
        (sink.own / "small").mkdir(parents=True)
        (sink.own / "bundle").symlink_to(bundle.resolve())
        yield sink
        (sink.own / "commands").write_text("\n".join(_iso_commands(sink, place, made)) + "\n")
        _run_xorriso(sink.own, place)
    finally:
        _remove(sink.own)
    with open(place, "rb") as image:
        os.fsync(image.fileno())


def _iso_commands(sink: _Iso, place: Path, made: datetime) -> list[str]:
    """ISO 9660 level 3 with Rock Ridge and Joliet; the same bytes for the same volume."""
    date = made.strftime("%Y%m%d%H%M%S00")
    return [
        "-volid AIRGAP",
        "-joliet on",
        "-compliance iso_9660_level=3:joliet_long_names:no_emul_toc:old_empty",
        f"-volume_date uuid {date}",
        f"-volume_date c {date}",
        f"-volume_date m {date}",
        f"-volume_date all_file_dates {date}",
        "-padding 0",
        "-map small /",
        *sorted(sink.commands),
        "-chown_r 0 / --",
        "-chgrp_r 0 / --",
        "-find / -type d -exec chmod 0555 --",
        "-find / -type f -exec chmod 0444 --",
        "-commit",
    ]


def _run_xorriso(directory: Path, image: Path) -> None:
    argv = ["xorriso", "-abort_on", "FAILURE", "-outdev", f"stdio:{image.resolve()}"]
    done = subprocess.run(
        [*argv, "-options_from_file", "commands", "-end"],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode != 0:
        said = "\n  ".join(done.stdout.strip().splitlines()[-5:])
        raise HostError(f"xorriso refused, with exit code {done.returncode}\n  {said}")


def _remove(place: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)
