"""A container stays what it is: blobs of the site, which is an OCI layout; beside them a note for people."""

import json
from collections.abc import Iterator

from airgap.isolated.entries import Text
from airgap.layout import BundledArtifact
from airgap.model import BundlePath, ContainerArtifact


def place(bundled: BundledArtifact) -> Iterator[Text]:
    """`containers/<name>.json`: the image's reference, digests and platforms."""
    artifact = bundled.artifact
    assert isinstance(artifact, ContainerArtifact)
    note = {
        "name": artifact.name,
        "image": artifact.image,
        "digest": f"sha256:{artifact.root}",
        "upstreamDigest": f"sha256:{artifact.digest}",
        "mediaType": bundled.media_type,
        "platforms": list(artifact.platforms),
        "leftOut": list(artifact.left_out),
    }
    data = (json.dumps(note, indent=1, ensure_ascii=False) + "\n").encode()
    yield Text(BundlePath(f"containers/{artifact.name}.json"), data)
