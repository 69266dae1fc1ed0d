"""sbom.spdx.json: SPDX 2.3 by the SPDX project's own library, which validates what it writes.

Files are packages whose purpose is to be one: a file of the format's own must have a SHA-1, which nobody
here computes.
"""

import io
import json
from collections.abc import Iterable, Iterator, Mapping
from uuid import NAMESPACE_URL, uuid5

from license_expression import ExpressionError, Licensing, get_spdx_licensing
from spdx_tools.spdx.model import (
    Actor,
    ActorType,
    Checksum,
    ChecksumAlgorithm,
    CreationInfo,
    Document,
    ExternalPackageRef,
    ExternalPackageRefCategory,
    ExtractedLicensingInfo,
    Package,
    PackagePurpose,
    Relationship,
    RelationshipType,
    SpdxNoAssertion,
)
from spdx_tools.spdx.writer.json.json_writer import write_document_to_stream

from airgap.audit.debian_copyright import REFERENCE, references
from airgap.audit.evidence import Audit
from airgap.audit.sbom import Component, ComponentKind, components_of, identity, title

PURPOSES: Mapping[ComponentKind, PackagePurpose] = {
    ComponentKind.SUBJECT: PackagePurpose.ARCHIVE,
    ComponentKind.WHEELS: PackagePurpose.APPLICATION,
    ComponentKind.PACKAGE: PackagePurpose.LIBRARY,
    ComponentKind.MODEL: PackagePurpose.OTHER,
    ComponentKind.CONTAINER: PackagePurpose.CONTAINER,
    ComponentKind.FILE: PackagePurpose.FILE,
    ComponentKind.PART: PackagePurpose.FILE,
}


def render_spdx(audit: Audit) -> bytes:
    """The document; equal audits give equal bytes."""
    components = components_of(audit)
    name, version = title(audit)
    licensing = get_spdx_licensing()
    document = Document(
        CreationInfo(
            spdx_version="SPDX-2.3",
            spdx_id="SPDXRef-DOCUMENT",
            name=" ".join(filter(None, (name, version))),
            document_namespace=f"urn:uuid:{identity(audit)}",
            creators=[Actor(ActorType.TOOL, f"airgap-{audit.airgap}")],
            created=audit.at.replace(tzinfo=None),
        ),
        packages=[_package(component, licensing) for component in components],
        extracted_licensing_info=[_referred(name) for name in _referred_names(components)],
        relationships=list(_relationships(components)),
    )
    written = io.StringIO()
    # Validation is for tests: it takes minutes where an image has thousands of packages.
    write_document_to_stream(document, written, validate=False)
    # The schema's first edition knows this spelling alone, its later ones both.
    whole = json.loads(written.getvalue().replace('"PACKAGE_MANAGER"', '"PACKAGE-MANAGER"'))
    return json.dumps(whole, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _package(component: Component, licensing: Licensing) -> Package:
    licence = _expression(component.licence, licensing)
    return Package(
        spdx_id=_id(component.ref),
        name=component.name,
        version=component.version or None,
        download_location=SpdxNoAssertion(),
        files_analyzed=False,
        checksums=[Checksum(ChecksumAlgorithm.SHA256, component.sha256)] if component.sha256 else [],
        source_info=component.source or None,
        license_concluded=SpdxNoAssertion(),
        license_declared=SpdxNoAssertion() if licence is None else licence,
        license_comment=f"as it says: {component.licence}" if licence is None and component.licence else None,
        copyright_text=SpdxNoAssertion(),
        comment="; ".join(f"{name}: {value}" for name, value in (component.properties or {}).items()) or None,
        external_references=[_purl(component.purl)] if component.purl else [],
        primary_package_purpose=PURPOSES[component.kind],
    )


def _purl(purl: str) -> ExternalPackageRef:
    return ExternalPackageRef(ExternalPackageRefCategory.PACKAGE_MANAGER, "purl", purl)


def _expression(licence: str, licensing: Licensing) -> object | None:
    """The licence where it is an SPDX expression of known licences; None for any other text."""
    try:
        found = licensing.parse(licence, strict=True) if licence else None
        unknown = set(licensing.unknown_license_keys(found)) if found is not None else set()
    except ExpressionError:
        return None
    return None if unknown - set(references(licence)) else found


def _referred_names(components: Iterable[Component]) -> list[str]:
    return sorted({name for component in components for name in references(component.licence)})


def _referred(name: str) -> ExtractedLicensingInfo:
    """SPDX 2.3, section 10: whoever refers to a licence outside of its list says which one that is."""
    said = f"what Debian's copyright files call {name.removeprefix(REFERENCE)}; its text stands there"
    return ExtractedLicensingInfo(license_id=name, extracted_text=said)


def _relationships(components: Iterable[Component]) -> Iterator[Relationship]:
    for component in components:
        if component.kind is ComponentKind.SUBJECT:
            yield Relationship("SPDXRef-DOCUMENT", RelationshipType.DESCRIBES, _id(component.ref))
        if component.within:
            yield Relationship(_id(component.within), RelationshipType.CONTAINS, _id(component.ref))
        for other in component.needs:
            yield Relationship(_id(component.ref), RelationshipType.DEPENDS_ON, _id(other))


def _id(ref: str) -> str:
    """SPDX 2.3, section 7.2: letters, digits, `.` and `-` alone, so a name that anything can be is hashed."""
    return f"SPDXRef-{uuid5(NAMESPACE_URL, ref)}"
