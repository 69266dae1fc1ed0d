"""The name of an image, from a manifest, and the name of a wheel, from an index.

Invariant: only InputError escapes; what parses is shown in full and parses back equal; neither can leave
the URL or directory it is put into.
"""

from functools import cache

from airgap.model import Platform, Target
from airgap.oci import Reference
from airgap.tags import WheelName, supported_tags
from tests.fuzz.harness import accepted

TAGS = supported_tags(Target("3.12", Platform("linux", "amd64"), "2.35"))


@cache
def seeds() -> dict[str, bytes]:
    texts = (
        "debian",
        "docker.io/vllm/vllm-openai:v0.19.1",
        "localhost:5000/a/b__c-d.e@sha256:" + "a" * 64,
        "[::1]:443/a:b@sha256:" + "0" * 64,
        "Registry/x",
        "numpy-2.4.6-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
        "a_b-1!2.0+local-1x-py2.py3-none-any.whl",
    )
    return {f"{number}": text.encode() for number, text in enumerate(texts)}


def check(data: bytes) -> bool:
    text = data.decode("utf-8", "surrogateescape")
    reference = accepted(lambda _: Reference.parse(text), data)
    if reference is not None:
        assert Reference.parse(str(reference)) == reference
        assert reference.tag or reference.digest
        assert ".." not in reference.repository and "/" not in reference.registry
    wheel = accepted(lambda _: WheelName.parse(text), data)
    if wheel is not None:
        assert "/" not in text and wheel.tags
        place = wheel.rank(TAGS)
        assert place is None or TAGS[place] in wheel.tags
    return reference is not None or wheel is not None
