"""Advisories against the packages of an audit: the same answer as pip-audit, and what cannot be answered."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from airgap.audit.advisories import read_database
from airgap.audit.answers import VulnerabilityFact
from airgap.audit.evidence import Ecosystem, PackageFact
from airgap.audit.rating import Rating
from airgap.audit.vulnerabilities import UNKNOWN, VULNERABLE, ecosystems_of, match, names_of
from airgap.model import Finding, Severity
from airgap.progress import Silent
from airgap.readers.source import BytesSource
from airgap.readers.zip import Archive
from tests.audit.advisories import PUBLISHED, Document, advisory, export, lists_only, ranges_only, span
from tests.audit.values import LAYER, WHEEL
from tests.servers.osv import Osv

NOW = datetime(2026, 11, 26, tzinfo=UTC)

OLD = {"requests": "2.28.2", "urllib3": "1.26.15", "jinja2": "3.1.3", "certifi": "2022.12.7", "py": "1.11.0"}
NEW = {"requests": "2.32.4", "urllib3": "2.2.2", "jinja2": "3.1.4", "certifi": "2023.7.22"}
MIXED = {"requests": "2.31.0", "urllib3": "2.0.6", "jinja2": "2.11.3", "certifi": "2014.5.14"}


def python(name: str, version: str) -> PackageFact:
    file = f"{name}-{version}-py3-none-any.whl"
    return PackageFact(Ecosystem.PYPI, name, version, f"pkg:pypi/{name}@{version}", "packages", file, WHEEL)


def system(ecosystem: Ecosystem, name: str, version: str, distribution: str, release: str) -> PackageFact:
    purl = f"pkg:{ecosystem}/{distribution}/{name}@{version}"
    return PackageFact(
        ecosystem, name, version, purl, "engine", "var/lib/db", LAYER,
        distribution=distribution, distribution_version=release,
    )  # fmt: skip


def matched(
    packages: Sequence[PackageFact], documents: Sequence[Document]
) -> tuple[tuple[VulnerabilityFact, ...], tuple[Finding, ...]]:
    archive = Archive(BytesSource(export(documents)), "all.zip")
    return match(packages, read_database(archive, names_of(packages), NOW, Silent()))


def pip_audit(packages: dict[str, str], directory: Path) -> set[tuple[str, frozenset[str]]]:
    """What the real pip-audit says: package, and every id and alias of one vulnerability of it."""
    requirements = directory / "requirements.txt"
    requirements.write_text("".join(f"{name}=={version}\n" for name, version in packages.items()))
    with Osv(export()) as service:
        ran = subprocess.run(
            [sys.executable, "-m", "pip_audit", "-r", requirements, "--no-deps", "--disable-pip", "-f",
             "json", "--vulnerability-service", "osv", "--osv-url", service.url,
             "--cache-dir", directory / "cache", "--progress-spinner", "off"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert ran.returncode in (0, 1), ran.stderr
        assert {name for name, _ in service.asked} == set(packages)
    return {
        (dependency["name"], frozenset({one["id"], *one["aliases"]}))
        for dependency in json.loads(ran.stdout)["dependencies"]
        for one in dependency["vulns"]
    }


@pytest.mark.parametrize("packages", [OLD, NEW, MIXED], ids=["old", "new", "mixed"])
def test_the_answer_is_that_of_pip_audit(packages: dict[str, str], tmp_path: Path) -> None:
    """pip-audit asks a service which answers from the lists of versions; ours may have ranges alone."""
    theirs = pip_audit(packages, tmp_path)
    for documents in (PUBLISHED, ranges_only(), lists_only()):
        found, _ = matched([python(*package) for package in packages.items()], documents)
        assert {(one.package, frozenset({one.id, *one.aliases})) for one in found} == theirs
        assert len(found) == len(theirs)
    assert bool(theirs) == (packages is not NEW)


def test_one_vulnerability_under_two_ids_is_one() -> None:
    found, findings = matched([python("requests", "2.30.0")], PUBLISHED)
    [proxy] = [one for one in found if one.id == "CVE-2023-32681"]
    assert proxy.aliases == ("GHSA-j8r2-6x86-q33q", "PYSEC-2023-74")
    assert proxy.rating is Rating.MEDIUM
    assert proxy.fixed == ("2.31.0",)
    [finding] = [one for one in findings if "CVE-2023-32681" in one.message]
    assert (finding.code, finding.severity) == (VULNERABLE, Severity.WARNING)
    assert finding.subject == "packages: requests 2.30.0"
    assert "PYSEC-2023-74" in finding.evidence
    assert finding.remedy == "take requests 2.31.0 or newer"


def test_ids_that_only_meet_through_a_third_are_one() -> None:
    documents = [
        advisory("A-1", ["X-1"], "demo", span("0", "2")),
        advisory("B-1", ["X-2"], "demo", span("0", "2")),
        advisory("C-1", ["X-1", "X-2"], "demo", span("0", "2")),
        advisory("D-1", ["A-1"], "demo", span("0", "2")),
    ]
    found, _ = matched([python("demo", "1")], documents)
    assert len(found) == 1


def test_a_site_is_judged_by_source_packages_as_its_distribution_names_them() -> None:
    openssl = advisory("DSA-1-1", [], "openssl", span("0", "3.0.11-1~deb12u2"), ecosystem="Debian:12")
    package = system(Ecosystem.DEB, "libssl3", "3.0.11-1~deb12u1+b1", "debian", "12")
    package = replace(package, source_name="openssl", source_version="3.0.11-1~deb12u1")
    [found], _ = matched([package], [openssl])
    assert (found.id, found.package, found.fixed) == ("DSA-1-1", "libssl3", ("3.0.11-1~deb12u2",))
    assert matched([replace(package, source_version="3.0.11-1~deb12u2")], [openssl])[0] == ()
    for_11 = advisory("DSA-2-1", [], "openssl", span("0", "9"), ecosystem="Debian:11")
    assert [one.id for one in matched([package], [openssl, for_11])[0]] == ["DSA-1-1"]
    assert matched([replace(package, distribution_version="11")], [openssl])[0] == ()


@pytest.mark.parametrize(
    ("package", "ecosystems"),
    [
        (system(Ecosystem.DEB, "a", "1", "debian", "12"), ("Debian:12",)),
        (system(Ecosystem.DEB, "a", "1", "ubuntu", "22.04"), ("Ubuntu:22.04:LTS", "Ubuntu:22.04")),
        (system(Ecosystem.APK, "a", "1", "alpine", "3.19.1"), ("Alpine:v3.19",)),
        (system(Ecosystem.RPM, "a", "1", "rocky", "9.3"), ("Rocky Linux:9",)),
        (system(Ecosystem.RPM, "a", "1", "almalinux", "8.10"), ("AlmaLinux:8",)),
        (system(Ecosystem.RPM, "a", "1", "rhel", "9.3"), ()),
        (system(Ecosystem.DEB, "a", "1", "", ""), ()),
        (python("a", "1"), ("PyPI",)),
    ],
)
def test_ecosystems_are_named_as_osv_names_them(package: PackageFact, ecosystems: tuple[str, ...]) -> None:
    assert ecosystems_of(package) == ecosystems


def test_what_an_export_does_not_cover_is_unknown_and_counted() -> None:
    packages = [
        python("requests", "2.32.4"),
        system(Ecosystem.DEB, "bash", "5.2", "debian", "12"),
        system(Ecosystem.DEB, "zlib", "1.3", "debian", "12"),
        system(Ecosystem.RPM, "bash", "5.2", "rhel", "9"),
    ]
    found, findings = matched(packages, PUBLISHED)
    assert found == ()
    assert [(one.code, one.subject) for one in findings] == [(UNKNOWN, "engine"), (UNKNOWN, "engine")]
    assert "2 packages of debian 12" in findings[0].message
    assert "rhel 9, whose versions are not ordered here" in findings[1].message


def test_an_advisory_that_cannot_be_judged_is_a_finding() -> None:
    odd = advisory("X-1", [], "demo", span("0", "not a version"))
    found, [finding] = matched([python("demo", "1")], [odd])
    assert found == ()
    assert finding.code == UNKNOWN
    assert "X-1" in finding.message
