"""Models on the isolated side: a flat catalogue, and the Hugging Face cache layout. Pure: no I/O.

The cache layout is what huggingface_hub reads with HF_HUB_OFFLINE=1 (its guide "Understand caching"):
`refs/<revision>` holds a commit with no newline, `snapshots/<commit>/<path>` the files. The client asks of
a snapshot file only that it exists, so these are hard links, where the client itself makes symlinks.
"""

from collections.abc import Iterable

from airgap.isolated.entries import Entry, Link, Text
from airgap.model import ModelArtifact, bundle_path

DEFAULT_REVISION = "main"
"""What `from_pretrained("org/name")` asks for."""


def catalogue_entries(artifact: ModelArtifact) -> list[Link]:
    """The model as a directory of plain files, relative to `models/`: `<name>/<path>`."""
    return [Link(bundle_path(f"{artifact.name}/{file.path}"), file.sha256) for file in artifact.files]


def hub_cache_entries(artifact: ModelArtifact) -> list[Entry]:
    """The model in the cache layout, relative to `hub/`; nothing for a model that has no repository.

    Raises InputError when repository or revision cannot be part of a path.
    """
    if not artifact.repo:
        return []
    root = _root(artifact)
    entries: list[Entry] = []
    if artifact.revision != artifact.commit:
        entries.append(_ref(artifact, artifact.revision))
    entries += [
        Link(bundle_path(f"{root}/snapshots/{artifact.commit}/{file.path}"), file.sha256)
        for file in artifact.files
    ]
    return entries


def hub_cache(artifacts: Iterable[ModelArtifact]) -> list[Entry]:
    """The cache of several models, each path once.

    A repository of which no artifact is locked at `main` gets `refs/main` to its first one, so that it
    is found by its name alone.
    """
    models = [artifact for artifact in artifacts if artifact.repo]
    entries: dict[str, Entry] = {}
    for artifact in models:
        for entry in hub_cache_entries(artifact):
            entries.setdefault(entry.path, entry)
    for artifact in models:
        default = _ref(artifact, DEFAULT_REVISION)
        entries.setdefault(default.path, default)
    return [entries[path] for path in sorted(entries)]


def _root(artifact: ModelArtifact) -> str:
    return "models--" + artifact.repo.replace("/", "--")


def _ref(artifact: ModelArtifact, revision: str) -> Text:
    return Text(bundle_path(f"{_root(artifact)}/refs/{revision}"), artifact.commit.encode())
