"""`airgap export`: an installed container as one tar that every engine loads, its digest unchanged."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from airgap.errors import HostError, InputError
from airgap.image_tar import TarImage, plan_image_tar, write_image_tar
from airgap.isolated.generation import load_member
from airgap.isolated.site import Site
from airgap.model import ContainerArtifact, Platform
from airgap.oci import Reference
from airgap.progress import Progress
from airgap.store import FILE_MODE, fsync_directory, host_errors


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the image as engines will name it, and the tar's bytes."""

    image: TarImage
    size: int


def find_image(site: Site, name: str, platform: str | None = None, called: str = "") -> TarImage:
    """The installed container artifact `name`, under the reference `called`, else under its own.

    An image that was locked without a tag is `localhost/airgap/<name>:<version of its bundle>`: engines
    show an image without a name as `<none>` and prune it. `platform` is what docker's side of the tar
    names: of several, the target's unless another is asked for. Raises InputError where nothing is
    installed, else naming the containers that are, or the platforms that travelled.
    """
    site.require_installed()
    containers = {
        bundled.artifact.name: (bundled.artifact, member.lock)
        for member in (load_member(site, bundle) for bundle in site.record().bundles)
        for bundled in member.artifacts
        if isinstance(bundled.artifact, ContainerArtifact)
    }
    if name not in containers:
        there = ", ".join(sorted(containers)) or "none"
        raise InputError(
            f"{site.root} holds no container {name!r}; its containers: {there}",
            remedy="name one of these; models, wheels and files are used where they lie, or pushed",
        )
    found, lock = containers[name]
    target = str(lock.target.platform)
    if platform is not None and platform not in found.platforms:
        raise InputError(f"{name}: no image for {platform}; installed: {', '.join(found.platforms)}")
    usual = target if target in found.platforms else found.platforms[0]
    if called:
        chosen = _tagged(called)
    else:
        own = Reference.parse(found.image).tagged if found.image else ""
        chosen = own or fallback_name(name, lock.version)
    return TarImage(chosen, found.root, Platform.parse(platform or usual))


def _tagged(called: str) -> str:
    reference = Reference.parse(called)
    if reference.digest:
        raise InputError(f"expected NAME:TAG, found {called[:200]!r}: an image keeps the digest it has")
    return reference.tagged


def fallback_name(name: str, version: str) -> str:
    """What an image without a tag is called; a tag has no `+` and at most 128 characters."""
    return f"localhost/airgap/{name}:{version.replace('+', '-')[:128]}"


def export(site: Site, image: TarImage, output: Path, progress: Progress) -> Exported:
    """Write the tar under `output` by rename, so that a half one never has its name.

    Raises IntegrityError when a blob of the site is damaged, HostError when it cannot be written.
    """
    temporary = output.with_name(f".{output.name}.{os.getpid()}")
    with host_errors(output):
        try:
            with open(temporary, "wb") as out:
                size = export_to(site, image, out, progress)
                os.fchmod(out.fileno(), FILE_MODE)
                out.flush()
                os.fsync(out.fileno())
            os.replace(temporary, output)
            fsync_directory(output.absolute().parent)
        finally:
            temporary.unlink(missing_ok=True)
    return Exported(image, size)


def export_to(site: Site, image: TarImage, out: BinaryIO, progress: Progress) -> int:
    """Stream the tar to an open file or pipe; returns its length. Raises IntegrityError or HostError."""
    size = plan_image_tar(image, site.store).size
    try:
        with progress.task(f"exporting {image.name or image.root[:12]}", size):
            write_image_tar(out, image, site.store, progress)
            out.flush()
    except BrokenPipeError:
        raise HostError("the reader of the tar ended before the tar did", remedy="see what it said") from None
    return size
