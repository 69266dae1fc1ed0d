"""Hypothesis strategies for the values of airgap.model."""

import hashlib

from hypothesis import strategies as st

from airgap.lock import Lock
from airgap.model import (
    Artifact,
    BundlePath,
    ContainerArtifact,
    FileArtifact,
    Gpu,
    Local,
    LockedFile,
    Made,
    ModelArtifact,
    Origin,
    Package,
    Platform,
    Remote,
    Sha256,
    Target,
    Variant,
    WheelsArtifact,
)

names = st.from_regex(r"[a-z0-9]{1,8}([._-][a-z0-9]{1,8}){0,2}", fullmatch=True)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=1, max_size=20)
digests = st.binary(max_size=8).map(lambda data: Sha256(hashlib.sha256(data).hexdigest()))
sizes = st.integers(0, 2**63 - 1)
components = st.from_regex(r"[a-z][a-z0-9_-]{0,8}(\.[a-z0-9]{1,5})?", fullmatch=True).filter(
    lambda part: part.split(".")[0] not in ("con", "prn", "aux", "nul") and part[:3] not in ("com", "lpt")
)
paths = st.lists(components, min_size=1, max_size=3).map("/".join).map(BundlePath)
sources = st.one_of(
    names.map(lambda name: Remote(f"https://example.org/{name}")),
    st.builds(Local, texts, st.just("") | texts),
)
origins: st.SearchStrategy[Origin] = st.one_of(
    sources, st.builds(Made, st.just("wheel-from-sdist"), sources, digests)
)
files = st.builds(LockedFile, paths, sizes, digests, origins)
targets = st.builds(
    Target,
    st.integers(8, 20).map(lambda minor: f"3.{minor}"),
    st.sampled_from([Platform("linux", "amd64"), Platform("linux", "arm", "v7")]),
    st.integers(17, 45).map(lambda minor: f"2.{minor}"),
    st.none() | st.builds(Gpu, texts, st.just("8.9"), st.integers(1, 200), st.integers(1, 16)),
    st.sampled_from(["", "570.86"]),
)


def _file_lists(minimum: int = 0) -> st.SearchStrategy[tuple[LockedFile, ...]]:
    """Files whose first components differ, so that no path is another's parent."""
    lists = st.lists(files, min_size=minimum, max_size=4, unique_by=lambda file: file.path.split("/")[0])
    return lists.map(tuple)


def _yanked() -> st.SearchStrategy[str | None]:
    return st.none() | st.just("") | texts


@st.composite
def wheels_artifacts(draw: st.DrawFn, name: str) -> WheelsArtifact:
    held = draw(_file_lists())
    packages = tuple(
        Package(
            draw(names),
            draw(texts),
            file.path,
            draw(st.just("") | texts),
            "",
            draw(_words()),
            draw(_yanked()),
        )
        for file in held
    )
    return WheelsArtifact(name, draw(digests), draw(_words()), "3.12", packages, held)


@st.composite
def container_artifacts(draw: st.DrawFn, name: str) -> ContainerArtifact:
    held = draw(_file_lists(1))
    digest = held[0].sha256
    return ContainerArtifact(name, draw(digests), "", digest, digest, draw(_words()), draw(_words()), held)


@st.composite
def model_artifacts(draw: st.DrawFn, name: str) -> ModelArtifact:
    commit = draw(digests)[:40]
    request, held = draw(digests), draw(_file_lists())
    variants = draw(st.lists(st.builds(Variant, texts, texts, texts), max_size=2))
    if variants:
        variants.append(Variant(draw(texts), "NVFP4", draw(texts), chosen=True))
    return ModelArtifact(
        name, request, "org/name", "main", commit, "nvfp4", "", "mit", "", held, tuple(variants)
    )


@st.composite
def artifacts(draw: st.DrawFn, name: str) -> Artifact:
    return draw(
        st.one_of(
            wheels_artifacts(name),
            container_artifacts(name),
            model_artifacts(name),
            st.builds(FileArtifact, st.just(name), digests, files.map(lambda file: (file,))),
        )
    )


@st.composite
def locks(draw: st.DrawFn) -> Lock:
    unique = draw(st.lists(names, max_size=4, unique=True))
    return Lock(
        draw(names),
        "2026.11",
        draw(names),
        draw(digests),
        draw(targets),
        draw(st.dictionaries(texts, texts, max_size=3)),
        tuple(draw(artifacts(name)) for name in unique),
    )


def _words() -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(texts, max_size=3).map(tuple)
