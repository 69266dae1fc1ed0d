"""Bills of materials: valid by the official schemas, complete, the same for the same audit."""

import json
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from hypothesis import given
from hypothesis import strategies as st
from spdx_tools.spdx.parser.json.json_parser import parse_from_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from airgap.audit.evidence import Audit, Ecosystem, FileFact, PackageFact
from airgap.audit.sbom import SUBJECT, components_of
from airgap.audit.sbom_cyclonedx import render_cyclonedx
from airgap.audit.sbom_spdx import render_spdx
from airgap.model import Sha256
from tests.audit.values import audit

LICENCES = [
    "MIT",
    "MIT OR Apache-2.0",
    "BSD, see LICENSE",
    "GPL-9.9-never",
    "Apache Software License\n2.0",
    "",
    "MIT AND (LicenseRef-debian-odd OR LicenseRef-debian-GPL-2-or-later-with-x)",
    "LicenseRef-debian-odd AND whatever",
]


@cache
def spdx_schema() -> jsonschema.Draft7Validator:
    schema = json.loads((files("lib4sbom") / "schemas/spdx/2.3-schema.json").read_text())
    assert schema["$id"] == "http://spdx.org/rdf/terms/2.3"
    return jsonschema.Draft7Validator(schema)


def require_cyclonedx(document: bytes) -> None:
    """Valid by CycloneDX's own schema, the strict one."""
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(document.decode())
    assert wrong is None, str(wrong)


def with_licences() -> Audit:
    packages = tuple(
        PackageFact(
            Ecosystem.PYPI, f"p{number}", "1", f"pkg:pypi/p{number}@1", "packages", f"p{number}.whl",
            Sha256("7" * 64), licence=licence, requires=("p0", "not-here"),
        )
        for number, licence in enumerate(LICENCES)
    )  # fmt: skip
    return audit(packages=packages)


def with_files() -> Audit:
    """A model of two files and an archive, an image's layer; what lies inside of archives."""
    paths = {
        "weights/model.safetensors": 0,
        "config.json": 0,
        "odd!name": 0,
        "old.zip": 0,
        "old.zip!a.pkl": 1,
        "old.zip!b!c": 2,
        "old.zip!beside": 0,
    }
    inside = FileFact("engine", "layer!usr/bin/su", "elf", 4, Sha256("9" * 64), depth=1)
    files = (
        FileFact("tiny", path, "data", 9, Sha256(f"{n}" * 64), depth=depth)
        for n, (path, depth) in enumerate(paths.items())
    )
    return audit(files=(*audit().files, *files, replace(inside, path="layer", depth=0), inside))


@pytest.mark.parametrize(
    "subject", [audit(), with_licences(), with_files(), audit(packages=(), models=(), artifacts=())]
)
def test_both_are_valid_by_their_official_schemas(subject: Audit, tmp_path: Path) -> None:
    require_cyclonedx(render_cyclonedx(subject))
    spdx_schema().validate(json.loads(render_spdx(subject)))
    path = tmp_path / "sbom.spdx.json"
    path.write_bytes(render_spdx(subject))
    assert [
        found.validation_message for found in validate_full_spdx_document(parse_from_file(str(path)))
    ] == []


def test_the_schema_sees_a_broken_document() -> None:
    with pytest.raises(AssertionError):
        require_cyclonedx(render_cyclonedx(audit()).replace(b'"machine-learning-model"', b'"oracle"'))
    broken = json.loads(render_spdx(audit()))
    del broken["packages"][0]["downloadLocation"]
    with pytest.raises(jsonschema.ValidationError):
        spdx_schema().validate(broken)


@given(st.text(min_size=1, max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_names_that_nobody_vouches_for_leave_them_valid(name: str, version: str, licence: str) -> None:
    package = replace(audit().packages[0], name=name, version=version, licence=licence, purl=f"pkg:{name}")
    hostile = audit(packages=(package,))
    require_cyclonedx(render_cyclonedx(hostile))
    spdx_schema().validate(json.loads(render_spdx(hostile)))


def test_equal_audits_give_equal_bytes() -> None:
    assert render_cyclonedx(with_licences()) == render_cyclonedx(with_licences())
    assert render_spdx(with_licences()) == render_spdx(with_licences())
    turned = replace(with_files(), files=with_files().files[::-1])
    assert render_cyclonedx(with_files()) == render_cyclonedx(turned)
    assert render_spdx(with_files()) == render_spdx(turned)


def test_a_model_is_a_machine_learning_model_with_its_card() -> None:
    document = json.loads(render_cyclonedx(audit()))
    (model,) = [one for one in document["components"] if one["type"] == "machine-learning-model"]
    assert model["name"] == "tiny"
    assert model["purl"] == f"pkg:huggingface/org/tiny@{'c' * 40}"
    assert model["licenses"] == [{"license": {"id": "Apache-2.0"}}]
    assert model["pedigree"]["ancestors"][0]["name"] == "org/base"
    figures = {one["name"]: one["value"] for one in model["modelCard"]["properties"]}
    assert figures["airgap:format"] == "bf16"
    assert figures["airgap:quantized-share"] == "0.2500"


def test_a_model_names_its_files_and_nothing_names_what_lies_inside_of_one() -> None:
    listed = json.loads(render_cyclonedx(with_files()))["components"]
    parts = {
        one["name"]: [(part["type"], part["name"], part["hashes"]) for part in one.get("components", ())]
        for one in listed
    }

    def part(path: str, digit: str) -> tuple[str, str, list[dict[str, str]]]:
        return "file", path, [{"alg": "SHA-256", "content": digit * 64}]

    assert parts == {
        "tiny": [
            part("config.json", "1"),
            part("odd!name", "2"),
            part("old.zip", "3"),
            part("old.zip!beside", "6"),
            part("weights/model.safetensors", "0"),
        ],
        "notes": [part("notes.txt", "5")],
        **{name: [] for name in ("packages", "alpha", "engine", "libssl3")},
    }


def test_both_bills_list_the_same() -> None:
    components = json.loads(render_cyclonedx(with_files()))["components"]
    inner = [part for one in components for part in one.get("components", ())]
    document = json.loads(render_spdx(with_files()))
    packages = {one["SPDXID"]: one for one in document["packages"]}
    contained = [
        (packages[one["spdxElementId"]]["name"], packages[one["relatedSpdxElement"]])
        for one in document["relationships"]
        if one["relationshipType"] == "CONTAINS"
    ]
    assert sorted(one["name"] for _, one in contained) == sorted(one["name"] for one in components + inner)
    (config,) = [(parent, one) for parent, one in contained if one["name"] == "config.json"]
    assert config[0] == "tiny"
    assert config[1]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "1" * 64}]
    assert config[1]["primaryPackagePurpose"] == "FILE"


def test_what_needs_what_is_in_both() -> None:
    subject = with_licences()
    graph = {
        one["ref"]: one.get("dependsOn", []) for one in json.loads(render_cyclonedx(subject))["dependencies"]
    }
    assert set(graph[SUBJECT]) == {f"artifact/{name}" for name in ("packages", "engine", "tiny", "notes")}
    refs = {component.name: component.ref for component in components_of(subject)}
    assert graph[refs["p1"]] == [refs["p0"]]
    assert graph[refs["p0"]] == []
    relations = json.loads(render_spdx(subject))["relationships"]
    kinds = [relation["relationshipType"] for relation in relations]
    assert kinds.count("DEPENDS_ON") == len(LICENCES) - 1
    assert kinds.count("CONTAINS") == 4 + len(LICENCES) + 1  # of the file `notes` what it is
    assert kinds.count("DESCRIBES") == 1


def test_every_licence_is_in_them_as_it_stands() -> None:
    listed = json.loads(render_cyclonedx(with_licences()))["components"]
    licences = {one["name"]: one.get("licenses") for one in listed}
    assert licences["p0"] == [{"license": {"id": "MIT"}}]
    assert licences["p1"] == [{"expression": "MIT OR Apache-2.0"}]
    assert licences["p2"] == [{"license": {"name": "BSD, see LICENSE"}}]
    assert licences["p5"] is None
    assert licences["p6"] == [{"expression": LICENCES[6]}]
    assert licences["p7"] == [{"license": {"name": LICENCES[7]}}]
    declared = {one["name"]: one for one in json.loads(render_spdx(with_licences()))["packages"]}
    assert declared["p1"]["licenseDeclared"] == "MIT OR Apache-2.0"
    assert declared["p3"]["licenseDeclared"] == "NOASSERTION"
    assert declared["p3"]["licenseComments"] == "as it says: GPL-9.9-never"
    assert declared["p6"]["licenseDeclared"] == LICENCES[6]
    assert declared["p7"]["licenseDeclared"] == "NOASSERTION"


def test_who_says_so_and_what_a_name_of_debian_refers_to_is_in_them() -> None:
    package = replace(
        audit().packages[1],
        licence="MIT AND LicenseRef-debian-odd",
        licence_by="usr/share/doc/libssl3/copyright",
    )
    stated = audit(packages=(package,))
    (said,) = [one for one in json.loads(render_cyclonedx(stated))["components"] if one["name"] == "libssl3"]
    assert {"name": "airgap:licence-by", "value": package.licence_by} in said["properties"]
    document = json.loads(render_spdx(stated))
    (said,) = [one for one in document["packages"] if one["name"] == "libssl3"]
    assert f"airgap:licence-by: {package.licence_by}" in said["comment"]
    (referred,) = document["hasExtractedLicensingInfos"]
    assert referred["licenseId"] == "LicenseRef-debian-odd"
    assert "call odd" in referred["extractedText"]


def test_a_package_in_two_images_is_two_components() -> None:
    package = audit().packages[1]
    twice = audit(packages=(package, replace(package, artifact="tiny"), package))
    named = [component.ref for component in components_of(twice) if component.name == "libssl3"]
    assert len(named) == len(set(named)) == 2
