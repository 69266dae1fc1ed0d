"""What an image holds, as facts: its Python packages after whiteouts, the engines' tables, its serving code.

Layers are read where they are, in the bundle, the store or a local layout. Those of an image that nobody has
fetched are fetched first, up to a limit, and kept: each is compared with its digest before it is parsed, and
`airgap build` need not fetch it again.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import BinaryIO

from airgap.connected.opener import Opener
from airgap.errors import InputError
from airgap.model import ContainerArtifact, Kind, Sha256, Target
from airgap.oci import MAX_MANIFEST, Descriptor, ImageIndex, ImageManifest, parse_image, same_platform
from airgap.readers.decompress import ZSTD_REMEDY, reads_zstd
from airgap.readers.image import Distribution as Installed
from airgap.readers.image import Inventory, layers_of, read_image
from airgap.readers.imports import Guard, Import, Missing, Modules, read_imports
from airgap.readers.passing import Passing, PassingObject
from airgap.readers.python_syntax import MAX_SOURCE, NotUnderstood
from airgap.readiness.components import BrokenImport, Distribution, GpuCode, Stack
from airgap.readiness.judgement import Evidence
from airgap.readiness.reading import Seen, see, stack_of
from airgap.readiness.rules_gpu import KERNELS

_ENGINE_FILES = re.compile(
    r"(?:.*/)?(?:site|dist)-packages/(?:vllm/(?:.*/)?[^/]+\.py|torch/version\.py"
    r"|transformers/models/auto/(?:configuration_auto|auto_mappings)\.py)"
)
_LIBRARY = re.compile(r"(?:.*/)?(?:site-packages|dist-packages|lib(?:64)?/python[23][^/]*)/.*")


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
    return image_stack(artifact.name, artifact.image or artifact.name, inventory)


def image_stack(name: str, source: str, inventory: Inventory) -> Stack:
    """The importable packages as a stack; of a package with copies in two places nothing is certain."""
    unread = dict.fromkeys(inventory.unread, "a part of the image that was not read")
    seen: list[Seen] = []
    for key in dict.fromkeys(d.name for d in inventory.distributions if d.site):
        copies = inventory.copies(key)
        if len(copies) > 1:
            places = " and ".join(f"{copy.version} in /{copy.site}" for copy in copies)
            unread[key] = f"is ambiguous: {places}"
        elif copies[0].metadata is None:
            unread[key] = f"/{copies[0].path} is no METADATA that can be read"
        else:
            seen.append(_see(copies[0], source, inventory))
    broken = _broken_imports(inventory, source) if "vllm" not in unread else ()
    return stack_of(name, Kind.CONTAINER, seen, closed=True, unread=unread, broken=tuple(broken))


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
    return bool(_ENGINE_FILES.fullmatch(path)) or not _LIBRARY.fullmatch(path)


def _broken_imports(inventory: Inventory, source: str) -> Iterator[BrokenImport]:
    """Imports of vLLM's modules in the image's own code that the vLLM beside it does not have."""
    copies = inventory.copies("vllm")
    if len(copies) != 1:
        return
    modules = Modules(inventory, f"{copies[0].site}/")
    for path, file in sorted(inventory.files.items()):
        if _LIBRARY.fullmatch(path) or not file.data or b"vllm" not in file.data[:MAX_SOURCE]:
            continue
        found = read_imports(file.data, path, path.rpartition("/")[2].removesuffix(".py"))
        for wanted in found if not isinstance(found, NotUnderstood) else ():
            missing = modules.judge(wanted) if _judgeable(wanted) else None
            if isinstance(missing, Missing):
                where = Evidence(source, file.layer, f"/{path}", wanted.line, str(wanted))
                fails = wanted.guard is Guard.NONE and not wanted.deferred
                yield BrokenImport(str(wanted), missing.reason, where, fails)


def _judgeable(wanted: Import) -> bool:
    """Compiled modules such as `vllm._C` are not among the sources that were read."""
    parts = wanted.module.split(".")
    return parts[0] == "vllm" and not any(part.startswith("_") for part in (*parts, wanted.name))
