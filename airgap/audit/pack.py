"""The evidence pack: everything an auditor files away, from one audit."""

import hashlib
from collections.abc import Iterator
from importlib.util import find_spec

from airgap.audit.evidence import Audit
from airgap.audit.table import render_files
from airgap.decode import canonical_json
from airgap.errors import HostError
from airgap.model import Sha256

REPORT, PAGE, FILES = "report.json", "report.html", "files.csv"
CYCLONEDX, SPDX = "sbom.cdx.json", "sbom.spdx.json"

LIBRARIES = {"cyclonedx": "cyclonedx-python-lib", "spdx_tools": "spdx-tools"}
"""What bills of materials are written by: the module, and the package that has it."""


def require_libraries() -> None:
    """Raise HostError where bills of materials cannot be written, before hours of reading."""
    lacking = [package for module, package in LIBRARIES.items() if find_spec(module) is None]
    if lacking:
        raise HostError(
            f"bills of materials need {' and '.join(lacking)}, which this Python has not",
            remedy="pip install 'airgap[audit]', or pass --no-sbom",
        )


def render_pack(audit: Audit, *, sbom: bool) -> Iterator[tuple[str, bytes]]:
    """Each file of the pack, by its name; last the page to sign, which names the digests of the others."""
    # Imported here, as what writes is for who writes; bills of materials' libraries are heavy, too, and an
    # isolated host may do without them.
    from airgap.audit.report import Beside, render_report  # noqa: PLC0415

    others: list[Beside] = []
    for name, data in _others(audit, sbom=sbom):
        others.append(Beside(name, len(data), Sha256(hashlib.sha256(data).hexdigest())))
        yield name, data
    yield PAGE, render_report(audit, others).encode("utf-8", "backslashreplace")


def _others(audit: Audit, *, sbom: bool) -> Iterator[tuple[str, bytes]]:
    yield REPORT, canonical_json(audit.as_json()) + b"\n"
    yield FILES, b"".join(render_files(audit.files))
    if sbom:
        from airgap.audit.sbom_cyclonedx import render_cyclonedx  # noqa: PLC0415
        from airgap.audit.sbom_spdx import render_spdx  # noqa: PLC0415

        yield CYCLONEDX, render_cyclonedx(audit)
        yield SPDX, render_spdx(audit)
