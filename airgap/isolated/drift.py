"""Whether a site still is what was installed: names, types and sizes first, then every byte.

A generation carries SHA384SUMS of its files, and the statements of its bundles the sha384 of every blob.
A file that is the same inode as its blob is hashed once, as that blob.
"""

import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from airgap.decode import MAX_DOCUMENT, read_capped
from airgap.errors import InputError, IntegrityError
from airgap.isolated.generation import Member, load_member, stated_blobs
from airgap.isolated.site import SUMS_FILE, Site
from airgap.isolated.tree import Inode, inode, look, walk
from airgap.layout import INDEX_FILE, LAYOUT_FILE, OCI_LAYOUT, blob_path
from airgap.media import Media, shown
from airgap.model import Finding, Severity, Sha256, Sha384, bundle_path
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.verify import distinct, hash_files

REINSTALL = "install the bundle again from its media: what is damaged is copied anew, into a new generation"
OUTDATED = "this generation is not current: airgap gc --keep 1 removes it"
REMOVE = "nothing but airgap may write there: find out who did, then remove it"

_SUM = re.compile(r"([0-9a-f]{96})  (.+)")


@dataclass(frozen=True, slots=True)
class Surveyed:
    """What is wrong without reading files, and the files, relative to the site, whose bytes must be these."""

    findings: tuple[Finding, ...]
    files: Mapping[str, StatedBlob]


def verify_site(site: Site, progress: Progress, jobs: int | None = None) -> tuple[Finding, ...]:
    """Rehash everything that any generation needs, in `jobs` threads (default: one per CPU).

    Raises HostError when the site cannot be read; everything else is a finding.
    """
    findings = list(_judge_links(site))
    files: dict[str, StatedBlob] = {}
    for number in site.numbers():
        surveyed = survey_generation(site, number)
        findings += surveyed.findings
        files.update(surveyed.files)
    findings += _hash(site, files, progress, jobs)
    current = (
        f"generations/{site.current()}/" if not any(f.code == "integrity-link" for f in findings) else ""
    )
    return distinct(_advised(finding, current) for finding in findings)


def verify_generation(site: Site, number: int, progress: Progress) -> tuple[Finding, ...]:
    """Rehash the files of one generation that are not blobs; the blobs are judged by who they are alone."""
    surveyed = survey_generation(site, number)
    own = {path: stated for path, stated in surveyed.files.items() if path.startswith("generations/")}
    return (*surveyed.findings, *_hash(site, own, progress, None))


def _hash(
    site: Site, files: Mapping[str, StatedBlob], progress: Progress, jobs: int | None
) -> Iterator[Finding]:
    with Media(site.root) as media:
        found = hash_files(media, files, progress, jobs)
    for finding in found:
        message = finding.message.replace("was signed", "was installed")
        evidence = finding.evidence.replace("signed sha384", "installed sha384")
        yield replace(finding, message=message, evidence=evidence, remedy=REINSTALL)


def _advised(finding: Finding, current: str) -> Finding:
    """With advice that helps: an older generation is not repaired, it goes."""
    if current and finding.subject.startswith("generations/") and not finding.subject.startswith(current):
        return replace(finding, remedy=OUTDATED)
    return finding


def survey_generation(site: Site, number: int) -> Surveyed:
    """Every name, type and size of a generation and of the blobs it needs. Raises HostError."""
    findings: list[Finding] = []
    files: dict[str, StatedBlob] = {}
    held: dict[Inode, Sha384] = {}
    for digest, stated in _needed(site, number, findings).items():
        path = blob_path(digest)
        found = look(site.root / path)
        problem = wrong_file(path, found, stated.size)
        if problem:
            findings.append(problem)
        elif found:
            files[path] = stated
            held[inode(found)] = stated.sha384
    base = PurePosixPath("generations", str(number))
    sums = _read_sums(site, number, findings)
    if not sums:
        return Surveyed(tuple(findings), files)
    directories = {str(parent) for name in sums for parent in PurePosixPath(name).parents}
    seen = set()
    for name, found in walk(site.generation(number)):
        seen.add(name)
        expected = sums.get(name)
        where = str(base / name)
        if stat.S_ISDIR(found.st_mode):
            if name not in directories:
                findings.append(fault("integrity-unexpected", where, "a directory of no artifact", REMOVE))
        elif expected is None and name != SUMS_FILE:
            findings.append(fault("integrity-unexpected", where, "a file of no artifact", REMOVE))
        elif problem := wrong_file(where, found, None):
            findings.append(problem)
        elif expected and held.get(inode(found)) != expected:
            files[where] = StatedBlob(expected, found.st_size)
    findings += (missing_file(str(base / name)) for name in sorted(sums.keys() - seen))
    return Surveyed(tuple(findings), files)


def _needed(site: Site, number: int, findings: list[Finding]) -> dict[Sha256, StatedBlob]:
    """The blobs of a generation, as far as its bundles' documents can be read."""
    members: list[Member] = []
    try:
        for bundle in site.record(number).bundles:
            try:
                members.append(load_member(site, bundle))
            except IntegrityError as error:
                findings.append(fault("integrity-changed", str(bundle), error.message, REINSTALL))
    except IntegrityError as error:
        findings.append(fault("integrity-changed", f"generations/{number}", error.message, REINSTALL))
    return stated_blobs(members)


def _read_sums(site: Site, number: int, findings: list[Finding]) -> dict[str, Sha384]:
    """Path to sha384. Empty, with a finding, when the list itself is damaged."""
    path = site.generation(number) / SUMS_FILE
    try:
        text = read_capped(path, max_bytes=MAX_DOCUMENT).decode("utf-8", "strict")
        return dict(_read_line(line) for line in text.split("\n")[:-1])
    except (InputError, UnicodeDecodeError) as error:
        found = error.message if isinstance(error, InputError) else "it is not UTF-8"
        findings.append(fault("integrity-changed", f"generations/{number}/{SUMS_FILE}", found, REINSTALL))
        return {}


def _read_line(line: str) -> tuple[str, Sha384]:
    match = _SUM.fullmatch(line)
    if match is None:
        raise InputError("a line is not '<96 hex digits>  <path>'")
    return bundle_path(match[2]), Sha384(match[1])


def _judge_links(site: Site) -> Iterator[Finding]:
    """`current` and the two files that make the site an OCI layout."""
    try:
        current = site.current()
    except IntegrityError as error:
        yield fault("integrity-link", "current", error.message, error.remedy)
        return
    if current is None:
        return
    wanted = f"current/{INDEX_FILE}"
    index = site.root / INDEX_FILE
    if not index.is_symlink() or os.readlink(index) != wanted:
        yield fault("integrity-link", INDEX_FILE, f"expected a link to {wanted}", REINSTALL)
    layout = site.root / LAYOUT_FILE
    if layout.is_symlink() or not layout.is_file() or layout.read_bytes() != OCI_LAYOUT:
        yield fault("integrity-changed", LAYOUT_FILE, "its bytes are not what airgap writes", REINSTALL)


def wrong_file(path: str, found: os.stat_result | None, size: int | None) -> Finding | None:
    if found is None:
        return missing_file(path)
    if not stat.S_ISREG(found.st_mode):
        return fault("integrity-type", path, "expected a regular file, found something else", REINSTALL)
    if size not in (None, found.st_size):
        message = f"expected {size} bytes, found {found.st_size}"
        return fault("integrity-size", path, message, REINSTALL)
    return None


def missing_file(path: str, remedy: str = REINSTALL) -> Finding:
    return fault("integrity-missing", path, "missing", remedy)


def fault(code: str, subject: str, message: str, remedy: str) -> Finding:
    return Finding(code, Severity.ERROR, shown(subject), message, "", remedy)
