"""Advisories for the tests in true OSV form: ids, ranges and severities as published for old releases.

Written by hand, because no vulnerability service can be asked here; `versions` is what `packaging` finds
among the releases that the public index lists, from specifiers that are written apart from the events. So a
matcher that reads ranges is judged by lists that another program made.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packaging.specifiers import SpecifierSet

RELEASES: Mapping[str, Sequence[str]] = {
    "requests": (
        "0.2.0", "0.14.2", "1.0.0", "1.2.3", "2.0.0", "2.2.1", "2.3.0", "2.4.0", "2.19.1", "2.20.0",
        "2.25.1", "2.27.1", "2.28.0", "2.28.2", "2.29.0", "2.30.0", "2.31.0", "2.32.2", "2.32.3",
        "2.32.4", "2.32.5",
    ),
    "urllib3": (
        "0.3", "1.0", "1.21.1", "1.23", "1.24.3", "1.25.2", "1.25.11", "1.26.0", "1.26.4", "1.26.5",
        "1.26.15", "1.26.16", "1.26.17", "1.26.18", "1.26.19", "1.26.20", "2.0.2", "2.0.3", "2.0.4",
        "2.0.5", "2.0.6", "2.0.7", "2.1.0", "2.2.0", "2.2.1", "2.2.2", "2.2.3", "2.3.0",
    ),
    "jinja2": (
        "2.0", "2.7.3", "2.10", "2.10.1", "2.11.2", "2.11.3", "3.0.3", "3.1.0", "3.1.1", "3.1.2",
        "3.1.3", "3.1.4", "3.1.5", "3.1.6",
    ),
    "certifi": (
        "0.0.8", "14.5.14", "2015.4.28", "2022.9.24", "2022.12.7", "2023.5.7", "2023.7.22",
        "2024.2.2", "2024.7.4",
    ),
    "py": (
        "1.4.0", "1.8.1", "1.9.0", "1.10.0", "1.11.0",
    ),
}  # fmt: skip

Document = dict[str, Any]


def advisory(
    identifier: str,
    aliases: Sequence[str],
    package: str,
    events: Sequence[Mapping[str, str]],
    affected: Sequence[str] = (),
    vector: str = "",
    word: str = "",
    *,
    ecosystem: str = "PyPI",
    modified: str = "2024-11-19T05:37:33Z",
    withdrawn: str = "",
) -> Document:
    """One advisory about one package; `affected` are specifiers of what its `versions` list."""
    releases = RELEASES.get(package, ())
    listed = [v for v in releases if any(SpecifierSet(s).contains(v, prereleases=True) for s in affected)]
    document: Document = {
        "schema_version": "1.6.0",
        "id": identifier,
        "modified": modified,
        "published": "2023-05-22T20:36:32Z",
        "aliases": list(aliases),
        "details": f"What {identifier} is about.",
        "affected": [
            {
                "package": {"ecosystem": ecosystem, "name": package},
                "ranges": [{"type": "ECOSYSTEM", "events": [dict(event) for event in events]}],
                "versions": listed,
            }
        ],
    }
    if vector:
        kind = "CVSS_V4" if vector.startswith("CVSS:4") else "CVSS_V3"
        document["severity"] = [{"type": kind, "score": vector}]
    if word:
        document["database_specific"] = {"severity": word}
    if withdrawn:
        document["withdrawn"] = withdrawn
    return document


def span(introduced: str, fixed: str) -> list[dict[str, str]]:
    return [{"introduced": introduced}, {"fixed": fixed}]


PROXY = "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:C/C:H/I:N/A:N"

PUBLISHED: Sequence[Document] = (
    advisory(
        "GHSA-j8r2-6x86-q33q", ["CVE-2023-32681", "PYSEC-2023-74"], "requests", span("2.3.0", "2.31.0"),
        [">=2.3.0,<2.31.0"], PROXY, "MODERATE",
    ),
    advisory(
        "PYSEC-2023-74", ["CVE-2023-32681", "GHSA-j8r2-6x86-q33q"], "requests", span("2.3.0", "2.31.0"),
        [">=2.3.0,<2.31.0"],
    ),
    advisory(
        "GHSA-9wx4-h78v-vm56", ["CVE-2024-35195"], "requests", span("0", "2.32.0"), ["<2.32.0"],
        "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:H/I:H/A:N", "MODERATE",
    ),
    advisory(
        "GHSA-9hjg-9r4m-mvj7", ["CVE-2024-47081"], "requests", span("0", "2.32.4"), ["<2.32.4"],
        "CVSS:3.1/AV:N/AC:H/PR:N/UI:R/S:U/C:H/I:N/A:N", "MODERATE",
    ),
    advisory(
        "GHSA-v845-jxx5-vc9f", ["CVE-2023-43804", "PYSEC-2023-192"], "urllib3",
        [*span("2.0.0", "2.0.6"), *span("0", "1.26.17")], ["<1.26.17", ">=2.0.0,<2.0.6"],
        "CVSS:3.1/AV:N/AC:H/PR:H/UI:N/S:U/C:H/I:H/A:N", "MODERATE",
    ),
    advisory(
        "PYSEC-2023-192", ["CVE-2023-43804", "GHSA-v845-jxx5-vc9f"], "urllib3",
        [*span("0", "1.26.17"), *span("2.0.0", "2.0.6")], ["<1.26.17", ">=2.0.0,<2.0.6"],
    ),
    advisory(
        "GHSA-g4mx-q9vg-27p4", ["CVE-2023-45803", "PYSEC-2023-212"], "urllib3",
        [*span("2.0.0", "2.0.7"), *span("0", "1.26.18")], ["<1.26.18", ">=2.0.0,<2.0.7"],
        "CVSS:3.1/AV:A/AC:H/PR:H/UI:N/S:U/C:H/I:N/A:N", "MODERATE",
    ),
    advisory(
        "GHSA-34jh-p97f-mpxf", ["CVE-2024-37891"], "urllib3",
        [*span("2.0.0", "2.2.2"), *span("0", "1.26.19")],
        ["<1.26.19", ">=2.0.0,<2.2.2"], "CVSS:3.1/AV:N/AC:H/PR:H/UI:N/S:U/C:H/I:N/A:N", "MODERATE",
    ),
    advisory(
        "GHSA-h5c8-rqwp-cp95", ["CVE-2024-22195"], "jinja2", span("0", "3.1.3"), ["<3.1.3"],
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", "MODERATE",
    ),
    advisory(
        "GHSA-h75v-3vvj-5mfj", ["CVE-2024-34064"], "jinja2", span("0", "3.1.4"), ["<3.1.4"],
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:L/I:L/A:N", "MODERATE",
    ),
    advisory(
        "GHSA-xqr8-7jwr-rhp7", ["CVE-2023-37920", "PYSEC-2023-135"], "certifi",
        span("2015.4.28", "2023.7.22"), [">=2015.4.28,<2023.7.22"],
        "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:H/A:N", "HIGH",
    ),
    advisory(
        "PYSEC-2023-135", ["CVE-2023-37920", "GHSA-xqr8-7jwr-rhp7"], "certifi",
        span("2015.4.28", "2023.7.22"), [">=2015.4.28,<2023.7.22"], modified="2025-02-26T18:48:16.113242Z",
    ),
    advisory(
        "GHSA-w596-4wvx-j9j6", ["CVE-2022-42969"], "py", [{"introduced": "0"}, {"last_affected": "1.11.0"}],
        ["<=1.11.0"], "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", "HIGH",
    ),
    advisory(
        "PYSEC-2022-42969", ["CVE-2022-42969"], "py", span("0", "9"), ["<=1.11.0"],
        withdrawn="2024-11-22T04:37:03Z",
    ),
)  # fmt: skip


def export(documents: Iterable[Document] = PUBLISHED) -> bytes:
    """The zip archive that osv.dev makes of one ecosystem: one JSON document a member, compressed."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for document in documents:
            info = zipfile.ZipInfo(f"{document['id']}.json")
            archive.writestr(info, json.dumps(document, indent=1), zipfile.ZIP_DEFLATED)
    return out.getvalue()


def ranges_only(documents: Iterable[Document] = PUBLISHED) -> list[Document]:
    """The same without their lists of versions, so that only ranges can answer."""
    copies = [json.loads(json.dumps(document)) for document in documents]
    for document in copies:
        for affected in document["affected"]:
            del affected["versions"]
    return copies


def lists_only(documents: Iterable[Document] = PUBLISHED) -> list[Document]:
    """The same without their ranges."""
    copies = [json.loads(json.dumps(document)) for document in documents]
    for document in copies:
        for affected in document["affected"]:
            del affected["ranges"]
    return copies
