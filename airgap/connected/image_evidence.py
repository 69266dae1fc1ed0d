"""What an image holds, as facts: its Python packages after whiteouts, the engines' tables, its serving code.

Layers are read where they are, in the bundle, the store or a local layout. Those of an image that nobody has
fetched are fetched first, up to a limit, and kept: each is compared with its digest before it is parsed, and
`airgap build` need not fetch it again.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

from airgap.connected.opener import Opener
from airgap.connected.serving_code import LIBRARY, GivenCode, SourceFile, compare
from airgap.errors import InputError
from airgap.model import ContainerArtifact, Kind, Sha256, Target
from airgap.oci import MAX_MANIFEST, Descriptor, ImageIndex, ImageManifest, parse_image, same_platform
from airgap.readers.decompress import ZSTD_REMEDY, reads_zstd
from airgap.readers.image import Distribution as Installed
from airgap.readers.image import Inventory, layers_of, read_image
from airgap.readers.passing import Passing, PassingObject
from airgap.readers.python_syntax import NotUnderstood
from airgap.readiness.components import Distribution, GpuCode, NotRead, Stack
from airgap.readiness.judgement import Evidence
from airgap.readiness.reading import Seen, see, stack_of
from airgap.readiness.rules_gpu import KERNELS

_ENGINE_FILES = re.compile(
    r"(?:.*/)?(?:site|dist)-packages/(?:vllm/(?:.*/)?[^/]+\.py|torch/version\.py"
    r"|transformers/models/auto/(?:configuration_auto|auto_mappings)\.py)"
)


_SETTLE = "ask the image itself: run pip list and python -c 'import vllm, transformers' in it"


def read_container(artifact: ContainerArtifact, target: Target, opener: Opener) -> Stack:
    """The packages of the image for the target's platform.

    Raises InputError where it has no such platform, is too large to be fetched for this, or a layer is
    damaged; and what fetching raises.
    """
    files = {file.sha256: file for file in artifact.files}
    manifest, digest = _manifest(artifact, target, opener)
    absent = [layer for layer in manifest.layers if (f := files.get(layer.digest)) and not opener.here(f)]
    if any(layer.media_type.endswith("+zstd") for layer in absent) and not reads_zstd():
        raise InputError(f"{artifact.name}: layers compressed with zstd, not fetched", remedy=ZSTD_REMEDY)
    opener.bring(artifact, {layer.digest for layer in absent})
    with ExitStack() as opened:

        def open_layer(descriptor: Descriptor) -> BinaryIO:
            if descriptor.digest not in files:
                raise InputError(f"{artifact.name}: the layer {descriptor.digest} is not locked")
            return opened.enter_context(opener.stream(files[descriptor.digest]))

        inventory = read_image(digest, layers_of(manifest, open_layer), _wanted, _passing)
    given = [code for code in opener.code if code.stack in ("", artifact.name)]
    return image_stack(artifact.name, artifact.image or artifact.name, inventory, given)


def image_stack(name: str, source: str, inventory: Inventory, given: Iterable[GivenCode] = ()) -> Stack:
    """The importable packages as a stack; of a package with copies in two places nothing is certain.

    `given` is code that will serve on it and is not in it.
    """
    unread = {part: NotRead("a part of the image that was not read", _SETTLE) for part in inventory.unread}
    seen: list[Seen] = []
    for key in dict.fromkeys(d.name for d in inventory.distributions if d.site):
        copies = inventory.copies(key)
        if len(copies) > 1:
            places = " and ".join(f"{copy.version} in /{copy.site}" for copy in copies)
            unread[key] = NotRead(f"is ambiguous: {places}", "leave one of them in the image")
        elif copies[0].metadata is None:
            unread[key] = NotRead(f"/{copies[0].path} is no METADATA that can be read", _SETTLE)
        else:
            seen.append(_see(copies[0], source, inventory))
    modules = next((one.tables.modules for one in seen if one.tables.modules), None)
    files = [*_own_code(inventory, source), *(file for code in given for file in code.files)]
    serving = compare(files, modules) if modules else None
    return stack_of(name, Kind.CONTAINER, seen, closed=True, unread=unread, serving=serving)


def _see(found: Installed, source: str, inventory: Inventory) -> Seen:
    assert found.metadata, "the caller looked"
    distribution = Distribution(source, found.layer, f"/{found.path}", found.metadata)
    seen = see(distribution, inventory, f"{found.site}/")
    if found.name != "vllm":
        return seen
    return replace(seen, tables=seen.tables._replace(gpu_code=_gpu_code(inventory, f"{found.site}/")))


def _gpu_code(inventory: Inventory, root: str) -> tuple[GpuCode, ...] | NotUnderstood:
    """What was learned of vLLM's extension modules below `root` as they went by."""
    found = []
    for path, file in inventory.files.items():
        if not path.startswith(root) or not KERNELS.fullmatch(path.removeprefix(root)):
            continue
        if not isinstance(file.passing, PassingObject):
            return NotUnderstood(f"/{path}", 0, "was not read: its bytes are not in this layer")
        if file.passing.problem:
            return replace(file.passing.problem, member=f"/{path}")
        found.append(GpuCode(file.layer, f"/{path}", file.passing.architectures, file.passing.needed))
    return tuple(found)


def _manifest(artifact: ContainerArtifact, target: Target, opener: Opener) -> tuple[ImageManifest, Sha256]:
    """The manifest for the target's platform, and its digest."""
    files = {file.sha256: file for file in artifact.files}

    def read(digest: Sha256) -> ImageManifest | ImageIndex:
        opener.bring(artifact, {digest})
        source = opener.locked(files[digest], None)
        data = source.read(0, min(source.size, MAX_MANIFEST + 1))
        return parse_image(data, artifact.name, media_type=files[digest].media_type)

    found, digest = read(artifact.root), artifact.root
    if isinstance(found, ImageIndex):
        named = [d for d in found.manifests if d.platform and same_platform(d.platform, target.platform)]
        if not named or named[0].digest not in files:
            raise InputError(
                f"{artifact.name}: its index has no image for {target.platform} that is locked",
                remedy="choose the platform in the manifest, and lock again",
            )
        found, digest = read(named[0].digest), named[0].digest
    if not isinstance(found, ImageManifest):
        raise InputError(f"{artifact.name}: an index inside an index", remedy="name the inner one")
    return found, digest


def _passing(path: str) -> Callable[[str, int], Passing] | None:
    """vLLM's extension modules, hundreds of megabytes each, wherever a link may lead to them from."""
    if path.endswith(".so") and "vllm/_C" in path and KERNELS.fullmatch("/".join(path.split("/")[-2:])):
        return PassingObject
    return None


def _wanted(path: str) -> bool:
    """The engines' sources, and code that is no library: what serves is among it."""
    if not path.endswith(".py"):
        return False
    return bool(_ENGINE_FILES.fullmatch(path)) or not LIBRARY.fullmatch(path)


def _own_code(inventory: Inventory, source: str) -> list[SourceFile]:
    """What is no library: the code that serves is among it."""
    return [
        SourceFile(file.data, Evidence(source, file.layer, f"/{path}"))
        for path, file in sorted(inventory.files.items())
        if file.data and path.endswith(".py") and not LIBRARY.fullmatch(path)
    ]
