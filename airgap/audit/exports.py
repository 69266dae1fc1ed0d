"""Where advisories come from: an OSV export on disk, or one that travels as an artifact of what is audited.

An artifact's bytes are hashed while they are copied aside, and parsed from the copy: what is read is what was
locked, whatever the media say the second time. The copy has no name and is gone with the process.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from airgap.audit.advisories import Database, read_database
from airgap.audit.answers import VulnerabilityData
from airgap.audit.evidence import Audit, FileFact
from airgap.audit.vulnerabilities import match, names_of
from airgap.errors import HostError, InputError, IntegrityError
from airgap.model import Kind, Severity, Sha256
from airgap.progress import Progress
from airgap.readers.source import FileSource, inside
from airgap.readers.zip import Archive

CHUNK = 1024 * 1024

OpenBlob = Callable[[Sha256], AbstractContextManager[Callable[[memoryview], int]]]
"""Gives a blob's bytes from its start. Raises IntegrityError where it is not there."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file without a name, as a `Source`."""

    stream: BinaryIO
    size: int
    digest: str

    def read(self, start: int, count: int) -> bytes:
        inside(self.size, start, count, "advisories")
        return os.pread(self.stream.fileno(), count, start)


def add_vulnerabilities(audit: Audit, given: Sequence[str], open_blob: OpenBlob, progress: Progress) -> Audit:
    """The same audit with what advisories say of its packages, and the findings that follow.

    `given` names files or `[[files]]` artifacts; without any, every artifact that is an export is used. Where
    there is none, nothing is said. Raises InputError for what is neither, and for a file that is no export.
    """
    databases: list[Database] = []
    data: list[VulnerabilityData] = []
    names = names_of(audit.packages)
    for name in given or exports_in(audit):
        with _opened(audit, name, open_blob, progress) as (source, what):
            database = read_database(Archive(source, what), names, audit.at, progress)
        databases.append(database)
        data.append(
            VulnerabilityData(
                what,
                Sha256(source.digest),
                database.count,
                database.newest,
                database.age_days(audit.at),
                tuple(sorted(database.ecosystems)),
            )
        )
    if not databases:
        return audit
    found, findings = match(audit.packages, _united(databases))
    order = list(Severity)
    everything = sorted((*audit.findings, *findings), key=lambda finding: order.index(finding.severity))
    return replace(audit, vulnerabilities=found, vulnerability_data=tuple(data), findings=tuple(everything))


def exports_in(audit: Audit) -> tuple[str, ...]:
    """Names of the `[[files]]` artifacts that are zip archives of JSON documents and of nothing else."""
    inner: dict[str, list[str]] = {}
    for file in audit.files:
        if file.depth:
            inner.setdefault(file.artifact, []).append(file.path)
    return tuple(
        name
        for name in _archives(audit)
        if (members := inner.get(name)) and all(member.endswith(".json") for member in members)
    )


def _archives(audit: Audit) -> dict[str, FileFact]:
    kinds = {artifact.name for artifact in audit.artifacts if artifact.kind is Kind.FILE}
    return {
        file.artifact: file
        for file in audit.files
        if file.artifact in kinds and file.type == "zip" and not file.depth
    }


@contextmanager
def _opened(
    audit: Audit, name: str, open_blob: OpenBlob, progress: Progress
) -> Iterator[tuple[_Kept | FileSource, str]]:
    """The archive that `name` stands for, and what it is called."""
    artifact = _archives(audit).get(name)
    if artifact is not None:
        with tempfile.TemporaryFile() as stream:
            yield _copied(artifact, open_blob, stream, progress), f"artifact {name}"
        return
    path = Path(name)
    if not path.is_file():
        raise InputError(
            f"{name}: expected an OSV export, or the name of an artifact that is one; found neither",
            remedy="name the all.zip of an ecosystem, or an artifact of [[files]]",
        )
    with FileSource(path) as opened:
        digest = _digest(opened, progress)
    with FileSource(path, digest=digest) as opened:
        yield opened, str(path)


def _copied(file: FileFact, open_blob: OpenBlob, stream: BinaryIO, progress: Progress) -> _Kept:
    hasher = hashlib.sha256()
    size = 0
    buffer = memoryview(bytearray(CHUNK))
    try:
        with progress.task("reading advisories", file.size), open_blob(file.sha256) as readinto:
            while size <= file.size and (count := readinto(buffer)):
                hasher.update(buffer[:count])
                stream.write(buffer[:count])
                size += count
                progress.advance(count)
        stream.flush()
    except OSError as error:
        raise HostError(f"{tempfile.gettempdir()}: {error.strerror}", remedy="set TMPDIR") from error
    if hasher.hexdigest() != file.sha256:
        raise IntegrityError(f"artifact {file.artifact}: its bytes are not those that were audited")
    return _Kept(stream, size, file.sha256)


def _digest(source: FileSource, progress: Progress) -> str:
    hasher = hashlib.sha256()
    with progress.task("reading advisories", source.size):
        for start in range(0, source.size, CHUNK):
            hasher.update(source.read(start, min(CHUNK, source.size - start)))
    return hasher.hexdigest()


def _united(databases: Sequence[Database]) -> Database:
    dates = [database.newest for database in databases if database.newest]
    return Database(
        ", ".join(database.what for database in databases),
        tuple(chain.from_iterable(database.advisories for database in databases)),
        sum(database.count for database in databases),
        max(dates, default=None),
        frozenset(chain.from_iterable(database.ecosystems for database in databases)),
        tuple(chain.from_iterable(database.unread for database in databases)),
    )
