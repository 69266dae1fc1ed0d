"""The config of an image, and of a model (ModelPack).

Invariant: only InputError escapes; the platform reads back equal from what it is shown as.
"""

from functools import cache

from airgap.model import ModelArtifact, Platform
from airgap.modelpack import read_config, render_config
from airgap.oci import parse_config
from tests.fuzz.harness import accepted
from tests.images import image_config


@cache
def seeds() -> dict[str, bytes]:
    model = ModelArtifact("tiny", "", "org/tiny", "main", "c" * 40, "nvfp4", "", "mit", "", ())
    return {
        "image": image_config(["a" * 64, "b" * 64]),
        "unknown": image_config([], os="unknown", architecture="unknown"),
        "model": render_config(model).replace(b'"diffIds":[]', b'"diffIds":["sha256:%b"]' % (b"a" * 64)),
    }


def check(data: bytes) -> bool:
    image = accepted(lambda document: parse_config(document, "config"), data)
    if image is not None:
        assert Platform.parse(str(image.platform)) == image.platform
    model = accepted(lambda document: read_config(document, "config"), data)
    if model is not None:
        assert model.diff_ids
    return image is not None or model is not None
