"""An image manifest or index, from a registry, an archive or a bundle (OCI and Docker).

Invariant: only InputError escapes; no bytes are a manifest to one caller and an index to another, whatever
they were announced as (CVE-2021-41190); a selection of platforms loses no entry of an index.
"""

from functools import cache
from json import dumps

from airgap.errors import InputError
from airgap.oci import (
    DOCKER_CONFIG,
    DOCKER_INDEX,
    DOCKER_MANIFEST,
    INDEXES,
    MANIFESTS,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_LAYER,
    OCI_MANIFEST,
    ImageIndex,
    parse_image,
    select,
)
from tests.fuzz.harness import accepted

DIGEST = "sha256:" + "a" * 64


def _descriptor(media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": DIGEST, "size": 7, **more}


@cache
def seeds() -> dict[str, bytes]:
    def manifest(own: str, config: str) -> dict[str, object]:
        layers = [_descriptor(OCI_LAYER), _descriptor(OCI_LAYER, urls=["https://example.org/layer"])]
        return {"schemaVersion": 2, "mediaType": own, "config": _descriptor(config), "layers": layers}

    def index(own: str, child: str) -> dict[str, object]:
        platforms = [
            {"os": "linux", "architecture": "amd64"},
            {"os": "linux", "architecture": "arm64", "variant": "v8"},
            {"os": "unknown", "architecture": "unknown"},
        ]
        entries = [_descriptor(child, platform=p, annotations={"a": "b"}) for p in platforms]
        return {"schemaVersion": 2, "mediaType": own, "manifests": [*entries, _descriptor(child)]}

    documents = {
        "oci-manifest": manifest(OCI_MANIFEST, OCI_CONFIG),
        "docker-manifest": manifest(DOCKER_MANIFEST, DOCKER_CONFIG),
        "oci-index": index(OCI_INDEX, OCI_MANIFEST),
        "docker-index": index(DOCKER_INDEX, DOCKER_MANIFEST),
        "bad-both": index(OCI_INDEX, OCI_MANIFEST) | manifest(OCI_MANIFEST, OCI_CONFIG),
        "bad-schema-1": {"schemaVersion": 1, "fsLayers": [], "extra": 0.5, "none": None},
    }
    return {name: dumps(document).encode() for name, document in documents.items()}


def check(data: bytes) -> bool:
    announced = ("", "application/json", *INDEXES, *MANIFESTS)
    found = [image for kind in announced if (image := _read(data, kind)) is not None]
    assert len({type(image) for image in found}) <= 1
    for image in found:
        if isinstance(image, ImageIndex):
            _select(image)
    return bool(found)


def _read(data: bytes, media_type: str) -> object:
    image = accepted(lambda document: parse_image(document, "image", media_type=media_type), data)
    if image is not None and media_type in (*INDEXES, *MANIFESTS):
        assert image.media_type == media_type
    return image


def _select(index: ImageIndex) -> None:
    assert select(index, ["all"], "image").kept == index.manifests
    wanted = {str(entry.platform) for entry in index.manifests if entry.names_platform}
    try:
        chosen = select(index, sorted(wanted), "image")
    except InputError as error:
        raise AssertionError("a platform that the index names was not found in it") from error
    assert len(chosen.kept) + len(chosen.left_out) == len(index.manifests)
