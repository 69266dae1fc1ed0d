"""sbom.cdx.json: CycloneDX 1.6 by the project's own library, models as machine-learning models.

The library has no model cards yet (its issue tracker says so); they are added to what it wrote, in the
form of the official schema (`modelCard`), which a test holds the whole document to.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component as CdxComponent
from cyclonedx.model.component import ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import License, LicenseExpression
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from airgap.audit.debian_copyright import references
from airgap.audit.evidence import Audit, ModelFact
from airgap.audit.sbom import Component, ComponentKind, components_of, identity

TYPES: Mapping[ComponentKind, ComponentType] = {
    ComponentKind.SUBJECT: ComponentType.PLATFORM,
    ComponentKind.WHEELS: ComponentType.APPLICATION,
    ComponentKind.PACKAGE: ComponentType.LIBRARY,
    ComponentKind.MODEL: ComponentType.MACHINE_LEARNING_MODEL,
    ComponentKind.CONTAINER: ComponentType.CONTAINER,
    ComponentKind.FILE: ComponentType.FILE,
    ComponentKind.PART: ComponentType.FILE,
}


def render_cyclonedx(audit: Audit) -> bytes:
    """The document; equal audits give equal bytes."""
    components, parts = _without_parts(components_of(audit))
    made = {component.ref: _component(component, parts[component.ref]) for component in components}
    subject, *others = components
    bom = Bom(
        serial_number=identity(audit),
        components=[made[component.ref] for component in others],
        metadata=BomMetaData(
            timestamp=audit.at,
            component=made[subject.ref],
            tools=_tools(audit),
        ),
        dependencies=_dependencies(components, made),
    )
    document = json.loads(JsonV1Dot6(bom).output_as_string())
    _add_cards(document, {component.ref: component.model for component in others if component.model})
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False).encode() + b"\n"


def _tools(audit: Audit) -> ToolRepository:
    return ToolRepository(
        components=[CdxComponent(name="airgap", version=audit.airgap, type=ComponentType.APPLICATION)]
    )


def _without_parts(
    components: Iterable[Component],
) -> tuple[list[Component], Mapping[str, list[Component]]]:
    """The components of which a dependency can be said, and by their references what those are made of."""
    others: list[Component] = []
    parts: defaultdict[str, list[Component]] = defaultdict(list)
    for component in components:
        (parts[component.within] if component.kind is ComponentKind.PART else others).append(component)
    return others, parts


def _component(component: Component, parts: Iterable[Component] = ()) -> CdxComponent:
    return CdxComponent(
        name=component.name,
        version=component.version or None,
        type=TYPES[component.kind],
        bom_ref=component.ref,
        purl=_purl(component.purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=component.sha256)] if component.sha256 else (),
        licenses=[_licence(component.licence)] if component.licence else (),
        description=component.source or None,
        properties=[Property(name=name, value=value) for name, value in (component.properties or {}).items()],
        components=[_component(part) for part in parts],
    )


def _licence(said: str) -> License:
    """The library takes no expression that refers to a licence of nobody's list; the format does."""
    factory = LicenseFactory()
    return LicenseExpression(said) if references(said) else factory.make_from_string(said)


def _purl(written: str) -> PackageURL | None:
    """None for a package whose name, which nobody vouches for, makes no purl."""
    try:
        return PackageURL.from_string(written) if written else None
    except ValueError:
        return None


def _dependencies(components: Iterable[Component], made: Mapping[str, CdxComponent]) -> list[Dependency]:
    """An artifact is needed by the subject, a package by its artifact and by what requires it."""
    needs: defaultdict[str, set[str]] = defaultdict(set)
    for component in components:
        needs[component.ref] |= set(component.needs)
        if component.within:
            needs[component.within].add(component.ref)
    return [
        Dependency(made[ref].bom_ref, [Dependency(made[other].bom_ref) for other in sorted(others)])
        for ref, others in sorted(needs.items())
    ]


def _add_cards(document: dict[str, object], models: Mapping[str, ModelFact]) -> None:
    listed = document.get("components", [])
    assert isinstance(listed, list)
    for component in listed:
        if model := models.get(component["bom-ref"]):
            component["modelCard"] = _card(model)
            component.update(_pedigree(model))


def _card(model: ModelFact) -> dict[str, object]:
    """What is known from the card and the weights (CycloneDX 1.6, modelCard)."""
    parameters: dict[str, object] = {}
    task = model.card.get("pipeline_tag")
    if isinstance(task, str) and task:
        parameters["task"] = task
    if model.datasets:
        parameters["datasets"] = [{"type": "dataset", "name": name} for name in model.datasets]
    figures = {
        "airgap:format": model.format,
        "airgap:tensors": str(model.tensors),
        "airgap:parameters": str(model.parameters),
        "airgap:quantized-share": f"{model.quantized_share:.4f}",
        "airgap:gating": model.gating,
        **{f"airgap:bytes:{dtype}": str(size) for dtype, size in model.bytes_by_dtype.items()},
    }
    properties = [{"name": name, "value": value} for name, value in figures.items() if value]
    return {**({"modelParameters": parameters} if parameters else {}), "properties": properties}


def _pedigree(model: ModelFact) -> dict[str, object]:
    """The models it was made from, as its card names them."""
    ancestors = [{"type": "machine-learning-model", "name": name} for name in model.base_models]
    return {"pedigree": {"ancestors": ancestors}} if ancestors else {}
