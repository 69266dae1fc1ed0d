"""`airgap load`: an installed container streamed into a local engine, which is then asked what it holds.

No engine is linked in: each is a program that reads the tar of `airgap.image_tar` from a pipe and
answers for itself. An image ID is the digest of its config (docker, podman) or of its manifest
(containerd's store), so an ID among the signed digests says that the engine holds the signed image.
"""

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, BinaryIO, cast

from airgap.decode import Fields, parse_json
from airgap.errors import AirgapError, HostError, InputError, IntegrityError
from airgap.image_tar import TarImage, plan_image_tar
from airgap.isolated.export import export_to
from airgap.isolated.site import Site
from airgap.layout import INDEX_FILE, LAYOUT_FILE, OCI_LAYOUT, digest_of
from airgap.model import Sha256, oci_digest
from airgap.oci import CONFIGS, INDEXES, MANIFESTS, MAX_MANIFEST, without_nulls
from airgap.progress import Progress
from airgap.store import host_errors

ANSWER_SECONDS = 120
"""How long an engine may think about what it holds; vfs storage of a large image is slow to open."""

MAX_ANSWER = MAX_MANIFEST
_WORDS = 400
"""Characters of an engine's own words that an error repeats."""


@dataclass(frozen=True, slots=True)
class Held:
    """What an engine says it holds under a name: its ID of the image, and further digests it knows it by."""

    id: Sha256
    digests: frozenset[Sha256] = frozenset()


@dataclass(frozen=True, slots=True)
class Engine:
    """`load` reads a tar on its standard input; `ask` prints what is held, which `read` understands.

    With `to`, `load` is given an OCI layout and that destination instead: skopeo reads no pipe.
    """

    name: str
    load: tuple[str, ...]
    ask: tuple[str, ...]
    read: Callable[[bytes], Held]
    to: str = ""


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image that an engine was proven to hold. `kept` says that the engine knows the signed digest too."""

    engine: str
    image: TarImage
    where: str
    id: Sha256
    kept: bool


ENGINES = ("docker", "podman", "nerdctl", "ctr", "skopeo")
NAMESPACED = ("nerdctl", "ctr")


def choose_engine(asked: str | None) -> str:
    """The engine asked for, or the only one here; skopeo, which runs nothing, counts where none does.

    Raises HostError when it is not installed, when there is none, or when there are several.
    """
    found = [name for name in ENGINES if shutil.which(name)]
    if asked:
        if asked not in found:
            raise HostError(
                f"{asked} is not installed here; found: {', '.join(found) or 'no engine'}",
                remedy="install it, choose another with --engine, or write a tar with airgap export",
            )
        return asked
    running = [name for name in found if name != "skopeo"] or found
    if len(running) != 1:
        raise HostError(
            f"expected one container engine, found {', '.join(running) or 'none'}",
            remedy="say which with --engine" if running else "install one of " + ", ".join(ENGINES),
        )
    return running[0]


def make_engine(name: str, image: TarImage, *, namespace: str = "", to: str = "") -> Engine:
    """The commands that load `image` and ask for it.

    `namespace` is containerd's; without one its clients go by CONTAINERD_NAMESPACE. `to` is where skopeo
    copies, in its notation. Raises InputError for an option that the engine does not have.
    """
    if namespace and name not in NAMESPACED:
        raise InputError(f"{name} has no namespaces", remedy=f"--namespace is for {' and '.join(NAMESPACED)}")
    if to and name != "skopeo":
        raise InputError(f"{name} loads into its own store", remedy="--to is for --engine skopeo")
    space = ("--namespace", namespace) if namespace else ()
    if name == "ctr":
        listing = ("ctr", *space, "images", "ls", f"name=={image.name}")
        return Engine(name, ("ctr", *space, "images", "import", "-"), listing, _read_ctr)
    if name == "skopeo":
        where = to or f"containers-storage:{image.name}"
        chosen = image.platform
        variant = ("--override-variant", chosen.variant) if chosen.variant else ()
        platform = ("--override-os", chosen.os, "--override-arch", chosen.architecture, *variant)
        copy = ("skopeo", *platform, "copy", "--preserve-digests")
        return Engine(name, copy, ("skopeo", "inspect", "--raw", where), _read_raw, where)
    inspect = (name, *space, "image", "inspect", image.name)
    return Engine(name, (name, *space, "load"), inspect, _read_inspect)


def load(site: Site, image: TarImage, engine: Engine, progress: Progress) -> Loaded:
    """Stream the image into the engine and prove what it then holds; `image` has a name.

    Raises IntegrityError when a blob of the site is damaged or the engine holds another image than the
    signed one, HostError when the engine cannot be run or refuses.
    """
    signed = _signed_digests(image, site)
    if engine.to:
        _copy_layout(site, image, engine)
    else:
        _feed(site, image, engine, progress)
    held = engine.read(_ask(engine))
    if held.id not in signed:
        raise IntegrityError(
            f"{engine.name} holds sha256:{held.id} as {image.name}, which is no part of the signed image"
            f" sha256:{image.root}",
            remedy=f"do not run it: remove {image.name} from {engine.name}, and ask who else loads images",
        )
    return Loaded(
        engine.name, image, engine.to or image.name, held.id, image.root in {held.id, *held.digests}
    )


def _signed_digests(image: TarImage, site: Site) -> frozenset[Sha256]:
    """Every digest that can be the ID of this image: of its index, manifests and configs."""
    kinds = (*INDEXES, *MANIFESTS, *CONFIGS)
    blobs = plan_image_tar(image, site.store).blobs
    return frozenset({image.root, *(blob.digest for blob in blobs if blob.media_type in kinds)})


def _feed(site: Site, image: TarImage, engine: Engine, progress: Progress) -> None:
    with tempfile.TemporaryFile() as said:
        process = _start(engine, said)
        stdin = cast(BinaryIO, process.stdin)
        broken: HostError | None = None
        try:
            export_to(site, image, stdin, progress)
            stdin.close()
            process.wait()
        except HostError as error:
            broken = error  # it ended before the tar did: its own words say why
        except BaseException:
            process.kill()  # before its input ends, so that it takes half a tar for nothing whole
            raise
        finally:
            # Bytes it never read; how it ended says the rest.
            with contextlib.suppress(BrokenPipeError):
                stdin.close()
            process.wait()
        if process.returncode != 0:
            raise _refusal(engine.name, process.returncode, _tail(said))
        if broken:
            raise broken


def _copy_layout(site: Site, image: TarImage, engine: Engine) -> None:
    """Let skopeo, which hashes what it copies, read the site's own blobs as a layout of this one image.

    Not the site's index.json: skopeo 1.9 finds no Docker schema 2 manifest there by its name.
    """
    with tempfile.TemporaryDirectory(prefix="airgap-") as directory:
        layout = Path(directory)
        with host_errors(layout):
            (layout / "blobs").symlink_to(site.blobs.parent)
            (layout / LAYOUT_FILE).write_bytes(OCI_LAYOUT)
            (layout / INDEX_FILE).write_bytes(dict(plan_image_tar(image, site.store).documents)[INDEX_FILE])
        done = _run(engine, (*engine.load, f"oci:{layout}", engine.to), None)
        if done.returncode != 0:
            raise _refusal(engine.name, done.returncode, done.stderr)


def _start(engine: Engine, said: IO[bytes]) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(engine.load, stdin=subprocess.PIPE, stdout=said, stderr=said)
    except OSError as error:
        raise _cannot_run(engine, error) from None


def _cannot_run(engine: Engine, error: OSError) -> HostError:
    return HostError(
        f"{engine.name} cannot be run: {error.strerror}", remedy="install it, or choose another engine"
    )


def _ask(engine: Engine) -> bytes:
    try:
        done = _run(engine, engine.ask, ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise HostError(
            f"{engine.name} took the image and did not answer within {ANSWER_SECONDS} s",
            remedy=f"see whether it works, with: {' '.join(engine.ask)}",
        ) from None
    if done.returncode != 0:
        raise _refusal(engine.name, done.returncode, done.stderr)
    return done.stdout


def _run(
    engine: Engine, command: tuple[str, ...], seconds: float | None
) -> "subprocess.CompletedProcess[bytes]":
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds, check=False
        )
    except OSError as error:
        raise _cannot_run(engine, error) from None


def _refusal(name: str, code: int, said: bytes) -> HostError:
    return HostError(
        f"{name} refused, with exit code {code}: {shortened(said) or 'it gave no reason'}",
        remedy=f"see that {name} works here for this user, and that the disk it stores on is not full",
    )


def shortened(said: bytes) -> str:
    """The end of what a program said, as one printable line."""
    text = " ".join(said.decode("utf-8", "replace").split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= _WORDS else f"…{text[-_WORDS:]}"


def _tail(said: IO[bytes]) -> bytes:
    size = said.seek(0, 2)
    said.seek(max(0, size - 4 * _WORDS))
    return said.read()


# ------------------------------------------------------------------ what engines answer


def _read_inspect(answer: bytes) -> Held:
    """`image inspect` of docker, podman and nerdctl: one table in a list, with `Id` and known digests."""
    what = "the engine's answer"
    try:
        document = without_nulls(parse_json(answer, what, max_bytes=MAX_ANSWER, floats=True))
        fields = Fields(document[0] if isinstance(document, list) and len(document) == 1 else document)
        identity = fields.text("Id")
        digests = {fields.text("Digest", default="")}
        digests |= {text.rpartition("@")[2] for text in fields.texts("RepoDigests")}
        fields.raise_if_bad(what)
        return Held(_digest(identity), frozenset(_digest(text) for text in digests if text))
    except InputError as error:
        raise _odd(error) from None


def _read_ctr(answer: bytes) -> Held:
    """`ctr images ls`: a table whose third column is the digest of what the name points at."""
    found = re.findall(r"^\S+\s+\S+\s+sha256:([0-9a-f]{64})\s", answer.decode("utf-8", "replace"), re.M)
    if len(found) != 1:
        raise _odd(InputError(f"ctr's listing: expected one image, found {len(found)}"))
    return Held(Sha256(found[0]))


def _read_raw(answer: bytes) -> Held:
    """`skopeo inspect --raw`: the manifest itself."""
    return Held(digest_of(answer))


def _digest(text: str) -> Sha256:
    """podman writes an ID without its algorithm."""
    return oci_digest(text if ":" in text else f"sha256:{text}")


def _odd(error: AirgapError) -> HostError:
    return HostError(
        f"the image was loaded, but what the engine says of it cannot be read: {error.message}",
        remedy="compare its digest by hand",
    )
