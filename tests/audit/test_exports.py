"""Where advisories come from: files, and artifacts that are found by what they are."""

import hashlib
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from airgap.audit.evidence import ArtifactFact, Audit, Ecosystem, FileFact
from airgap.audit.exports import add_vulnerabilities, exports_in
from airgap.errors import InputError, IntegrityError
from airgap.model import Kind, Sha256
from airgap.progress import Silent
from tests.audit.advisories import PUBLISHED, advisory, export, span
from tests.audit.test_vulnerabilities import python, system
from tests.audit.values import audit

EXPORT = export()
DIGEST = Sha256(hashlib.sha256(EXPORT).hexdigest())


def carrying(name: str = "osv", member: str = "GHSA-1.json") -> Audit:
    """An audit of a bundle with old packages, and an export as one of its files."""
    files = (
        FileFact(name, "all.zip", "zip", len(EXPORT), DIGEST),
        FileFact(name, f"all.zip!{member}", "json", 1, Sha256("8" * 64), depth=1),
        FileFact("packages", "x.whl", "zip", 1, Sha256("9" * 64)),
        FileFact("packages", "x.whl!x.json", "json", 1, Sha256("8" * 64), depth=1),
    )
    artifacts = (
        ArtifactFact("b", Kind.WHEELS, "packages", Sha256("a" * 64), 1, 1),
        ArtifactFact("b", Kind.FILE, name, Sha256("b" * 64), 1, len(EXPORT)),
    )
    return audit(files=files, artifacts=artifacts, packages=(python("requests", "2.30.0"),), findings=())


@contextmanager
def blobs(digest: Sha256, data: bytes = EXPORT) -> Iterator[Callable[[memoryview], int]]:
    assert digest == DIGEST
    yield io.BytesIO(data).readinto


def vulnerable(seen: Audit, *given: str, data: bytes = EXPORT) -> Audit:
    return add_vulnerabilities(seen, given, lambda digest: blobs(digest, data), Silent())


def test_an_export_among_the_artifacts_is_found_by_what_it_is() -> None:
    assert exports_in(carrying()) == ("osv",)
    assert exports_in(carrying(member="README.txt")) == ()
    found = vulnerable(carrying())
    assert {one.id for one in found.vulnerabilities or ()} == {
        "CVE-2023-32681", "CVE-2024-35195", "CVE-2024-47081",
    }  # fmt: skip
    [data] = found.vulnerability_data
    assert (data.source, data.sha256, data.advisories) == ("artifact osv", DIGEST, len(PUBLISHED))
    assert {one.code for one in found.findings} == {"audit-vulnerable"}


def test_a_newer_export_answers_for_the_same_packages(tmp_path: Path) -> None:
    """On the isolated side, again and again: the bundle stays as it is."""
    newer = tmp_path / "all.zip"
    newer.write_bytes(export([*PUBLISHED, advisory("X-1", [], "requests", span("0", "99"))]))
    found = vulnerable(carrying(), str(newer))
    assert "X-1" in {one.id for one in found.vulnerabilities or ()}
    assert [data.source for data in found.vulnerability_data] == [str(newer)]
    assert found.vulnerability_data[0].sha256 == hashlib.sha256(newer.read_bytes()).hexdigest()


def test_several_exports_answer_together(tmp_path: Path) -> None:
    debian = tmp_path / "debian.zip"
    debian.write_bytes(export([advisory("DSA-1-1", [], "bash", span("0", "9"), ecosystem="Debian:12")]))
    seen = carrying()
    seen = replace(seen, packages=(*seen.packages, system(Ecosystem.DEB, "bash", "5", "debian", "12")))
    assert "audit-vulnerability-unknown" in {one.code for one in vulnerable(seen).findings}
    both = vulnerable(seen, "osv", str(debian))
    assert "DSA-1-1" in {one.id for one in both.vulnerabilities or ()}
    assert {one.code for one in both.findings} == {"audit-vulnerable"}


def test_without_advisories_nothing_is_said() -> None:
    seen = replace(carrying(), files=())
    assert vulnerable(seen).vulnerabilities is None


def test_bytes_that_are_not_those_that_were_audited_are_refused() -> None:
    with pytest.raises(IntegrityError):
        vulnerable(carrying(), data=EXPORT + b"more")


def test_what_is_no_export_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.zip").write_bytes(export([]))
    for name in ("nothing", str(tmp_path), str(tmp_path / "empty.zip"), "packages"):
        with pytest.raises(InputError, match="expected"):
            vulnerable(carrying(), name)
