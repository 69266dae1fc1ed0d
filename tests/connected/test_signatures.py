"""Signatures of images as registries keep them since OCI 1.1: referrers, by the API and by the tag for it."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from airgap.connected import signatures
from airgap.errors import InputError
from airgap.image_signatures import COSE, JWS, SIGNATURE, SIMPLE_SIGNING, judge_signature, signature_layers
from airgap.model import ContainerArtifact, Provenance, ProvenanceState, Sha256
from airgap.oci import OCI_MANIFEST, Descriptor, ImageManifest
from tests import images
from tests.connected.containing import bare_environment, context, image_request, lock
from tests.servers.referrers import OCI_INDEX, with_referrers
from tests.servers.registry import RunningRegistry, push, registry
from tests.servers.signing import (
    BUNDLE,
    MAKERS,
    SIGNER,
    bundle,
    jws,
    push_index,
    push_referrer,
    push_signature,
)
from tests.services import need

IMAGE = Sha256("ab" * 32)
SBOM = "application/spdx+json"
SLSA = "https://slsa.dev/provenance/v1"


def _ask(
    running: RunningRegistry, directory: Path, name: str = "app:1"
) -> tuple[ContainerArtifact, Provenance]:
    artifact, codes = lock(
        image_request(f"{running.host}/{name}"), replace(context(directory), provenance=True)
    )
    assert artifact.signature
    bad = artifact.signature.state in (ProvenanceState.FAILED, ProvenanceState.UNKNOWN)
    assert (bad or bool(artifact.signature.reason)) == any(code.startswith("signature-") for code in codes)
    return artifact, artifact.signature


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> images.Layout:
    need("docker-registry", "skopeo")
    bare_environment(monkeypatch, tmp_path / "home")
    return images.single(tmp_path / "layout")


def _sized(layout: images.Layout) -> tuple[str, int]:
    return layout.digest, (layout.path / "blobs/sha256" / layout.digest).stat().st_size


@pytest.mark.parametrize("api", [True, False], ids=["by the referrers API", "by the tag for it"])
def test_referrers_that_are_signatures_travel_and_others_do_not(
    tmp_path: Path, layout: images.Layout, api: bool
) -> None:
    with registry(tmp_path / "registry") as plain, with_referrers(plain) as (fronted, state):
        running = fronted if api else plain
        push(layout.path, plain, "app:1")
        assert _ask(running, tmp_path)[1].state is ProvenanceState.ABSENT
        image = _sized(layout)
        entries = [push_referrer(running, "app", image, kind) for kind in MAKERS]
        sbom = push_referrer(running, "app", image, SBOM, data=b"{}", artifact_type=SBOM)
        slsa = push_referrer(running, "app", image, BUNDLE, data=bundle(image[0], SLSA))
        state.page = 2
        if not api:
            push_index(plain, "app", f"sha256-{image[0]}", [*entries, sbom, slsa])
        artifact, found = _ask(running, tmp_path)
        by_tag = push_signature(running, "app", image[0])
        both, _ = _ask(running, tmp_path)
    # what says that it is something else is not even fetched
    assert not [path for path in state.asked if path.startswith("GET") and str(sbom["digest"]) in path]
    assert found.state is ProvenanceState.PRESENT
    assert found.files == tuple(f"blobs/{str(one['digest']).replace(':', '/')}" for one in entries)
    assert found.publishers == (SIGNER, "CN=example signer")
    # the image's manifest, config and layer; of each signature its manifest and itself, one config for all
    assert len(artifact.files) == 3 + 2 * len(MAKERS) + 1
    kept = context(tmp_path).store
    for file in artifact.files[3:]:
        assert len(kept.read(file.sha256, max_bytes=1 << 20)) == file.size
    assert both.signature and both.signature.files == (f"blobs/sha256/{by_tag}", *found.files)
    if api:
        assert len([path for path in state.asked if "last=" in path]) >= 2


def _by_api(
    tmp_path: Path, layout: images.Layout, spoil: "dict[str, str | bytes | int]", kind: str = SIMPLE_SIGNING
) -> Provenance:
    with registry(tmp_path / "registry") as plain, with_referrers(plain) as (running, _):
        push(layout.path, plain, "app:1")
        push_referrer(running, "app", _sized(layout), BUNDLE)
        push_referrer(running, "app", _sized(layout), kind, **spoil)  # type: ignore[arg-type]
        return _ask(running, tmp_path)[1]


@pytest.mark.parametrize("kind", MAKERS)
def test_one_that_is_about_another_image_makes_all_failed(
    tmp_path: Path, layout: images.Layout, kind: str
) -> None:
    found = _by_api(tmp_path, layout, {"about": "0" * 64}, kind)
    assert (found.state, found.files) == (ProvenanceState.FAILED, ())
    assert f"expected one about sha256:{layout.digest}, found sha256:{'0' * 64}" in found.reason


def test_one_of_another_size_than_is_said_is_refused(tmp_path: Path, layout: images.Layout) -> None:
    found = _by_api(tmp_path, layout, {"stated_size": 1})
    assert found.state is ProvenanceState.FAILED
    assert "its manifest says 1" in found.reason


def test_a_manifest_of_signatures_holds_nothing_else() -> None:
    signature = Descriptor(SIMPLE_SIGNING, IMAGE, 1)
    other = Descriptor("application/octet-stream", IMAGE, 1)
    pure, mixed, none = (
        ImageManifest(OCI_MANIFEST, other, layers)
        for layers in ((signature, signature), (signature, other), (other,))
    )
    assert signature_layers(pure, "it") == (signature, signature)
    assert signature_layers(none, "it") == ()
    with pytest.raises(InputError, match="other layers"):
        signature_layers(mixed, "it")
    with pytest.raises(InputError, match="without a signature in its annotations"):
        judge_signature(signature, SOUND[SIMPLE_SIGNING], IMAGE, "it")


def test_one_whose_subject_is_another_image_is_not_taken_for_ours(
    tmp_path: Path, layout: images.Layout
) -> None:
    with registry(tmp_path / "registry") as plain, with_referrers(plain) as (running, state):
        push(layout.path, plain, "app:1")
        push_referrer(running, "app", ("0" * 64, 1), SIMPLE_SIGNING, about=layout.digest)
        state.listed[f"sha256:{layout.digest}"] = state.listed.pop(f"sha256:{'0' * 64}")
        _, found = _ask(running, tmp_path)
    assert found.state is ProvenanceState.FAILED
    assert f"expected sha256:{layout.digest} as subject" in found.reason


def test_signatures_too_large_or_too_many_are_not_fetched_without_end(
    tmp_path: Path, layout: images.Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _by_api(tmp_path, layout, {"data": b" " * (1024 * 1024 + 1)})
    assert found.state is ProvenanceState.FAILED
    monkeypatch.setattr(signatures, "MAX_SIGNATURES", 3)
    with registry(tmp_path / "more") as plain, with_referrers(plain) as (running, state):
        push(layout.path, plain, "app:1")
        push_referrer(running, "app", _sized(layout), BUNDLE)
        push_referrer(running, "app", _sized(layout), JWS)
        before = len(state.asked)
        _, found = _ask(running, tmp_path / "second")
    assert found.state is ProvenanceState.FAILED
    assert found.reason.endswith("more than 3")
    assert len(state.asked) - before < 15


def test_a_list_that_never_ends_is_given_up(tmp_path: Path, layout: images.Layout) -> None:
    with registry(tmp_path / "registry") as plain, with_referrers(plain) as (running, state):
        push(layout.path, plain, "app:1")
        state.listed[f"sha256:{layout.digest}"] = [
            {"mediaType": SBOM, "digest": f"sha256:{number:064x}", "size": 1} for number in range(50)
        ]
        state.page = 1
        _, found = _ask(running, tmp_path)
    assert found.state is ProvenanceState.FAILED
    assert found.reason.endswith("more than 10 pages")
    assert len([path for path in state.asked if "/referrers/" in path]) == 10


@pytest.mark.parametrize(
    ("status", "signed", "state"),
    [
        (404, False, ProvenanceState.ABSENT),
        (405, False, ProvenanceState.ABSENT),
        (403, False, ProvenanceState.UNKNOWN),
        (403, True, ProvenanceState.PRESENT),
    ],
)
def test_a_registry_that_does_not_say_what_refers_to_an_image(
    tmp_path: Path, layout: images.Layout, status: int, signed: bool, state: ProvenanceState
) -> None:
    with registry(tmp_path / "registry") as plain, with_referrers(plain) as (running, front):
        push(layout.path, plain, "app:1")
        if signed:
            push_signature(running, "app", layout.digest)
        front.status = status
        _, found = _ask(running, tmp_path)
    assert found.state is state
    assert bool(found.reason) == (status == 403)  # what could not be asked is said beside what was found


@pytest.mark.parametrize(
    ("media_type", "state"), [("text/html", ProvenanceState.ABSENT), (OCI_INDEX, ProvenanceState.FAILED)]
)
def test_a_page_where_the_list_should_be_is_no_list(
    tmp_path: Path, layout: images.Layout, media_type: str, state: ProvenanceState
) -> None:
    """Some registries answer every path that they do not know with 200 and a page for people."""
    with registry(tmp_path / "registry") as plain, with_referrers(plain) as (running, front):
        push(layout.path, plain, "app:1")
        front.page_for_people, front.media_type = b"<html>", media_type
        _, found = _ask(running, tmp_path)
    assert found.state is state


SOUND = {kind: make(IMAGE) for kind, make in MAKERS.items()}
WRONG: dict[str, tuple[str, bytes, str]] = {
    "no JSON": (SIMPLE_SIGNING, b"{", "signature"),
    "a payload without a digest": (SIMPLE_SIGNING, SOUND[SIMPLE_SIGNING].replace(b"sha256:", b""), "digest"),
    "a bundle of a message": (
        BUNDLE,
        b'{"verificationMaterial": {}, "messageSignature": {}}',
        "dsseEnvelope",
    ),
    "a bundle without a signature": (BUNDLE, SOUND[BUNDLE].replace(b'"sig"', b'"gis"'), "sig"),
    "a bundle of another type": (BUNDLE, SOUND[BUNDLE].replace(b"in-toto", b"in-tote"), "payloadType"),
    "a bundle about nothing": (BUNDLE, bundle(""), "subject"),
    "a bundle with no certificate in its certificate": (
        BUNDLE,
        json.dumps(
            json.loads(SOUND[BUNDLE]) | {"verificationMaterial": {"certificate": {"rawBytes": "AAAA"}}}
        ).encode(),
        "a certificate that cannot be read",
    ),
    "an envelope without a payload": (JWS, SOUND[JWS].replace(b'"payload"', b'"load"'), "payload"),
    "an envelope without a signature": (JWS, SOUND[JWS].replace(b'"signature"', b'"sig"'), "signature"),
    "an envelope of no base64": (JWS, SOUND[JWS].replace(b'"payload": "', b'"payload": "!'), "base64url"),
    "an envelope about nothing": (JWS, jws(""), "targetArtifact.digest"),
    "an envelope in CBOR about nothing": (COSE, SOUND[COSE].replace(b"targetArtifact", b"x"), "COSE"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_signature_of_an_image_is_refused(name: str) -> None:
    kind, data, expected = WRONG[name]
    layer = Descriptor(kind, IMAGE, 1, annotations={SIGNATURE: "c2ln"})
    assert judge_signature(layer, SOUND[kind], IMAGE, "signature") is not None
    with pytest.raises(InputError) as caught:
        judge_signature(layer, data, IMAGE, "signature")
    assert expected in str(caught.value) + " ".join(caught.value.problems)
