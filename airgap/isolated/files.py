"""A file as it is, under its artifact's name."""

from collections.abc import Iterator

from airgap.isolated.entries import Link
from airgap.layout import BundledArtifact
from airgap.model import BundlePath


def place(bundled: BundledArtifact) -> Iterator[Link]:
    """`files/<name>/<file>`."""
    for layer in bundled.layers:
        yield Link(BundlePath(f"files/{bundled.artifact.name}/{layer.path}"), layer.sha256)
