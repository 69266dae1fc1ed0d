"""Small real signed bundles on disk, laid out, stated and signed by the product's own code."""

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from airgap.inventory import inventory_digest
from airgap.layout import OCI_LAYOUT, digest_of, pack, render_index
from airgap.lock import Lock, render_lock
from airgap.model import (
    Artifact,
    BundlePath,
    ContainerArtifact,
    FileArtifact,
    Local,
    LockedFile,
    ModelArtifact,
    Package,
    Platform,
    Sha256,
    Sha384,
    Target,
    WheelsArtifact,
)
from airgap.patch import LITERAL, Piece, Recipe, render_header
from airgap.trust import envelope, keys, root, statement
from airgap.trust.blobs import Base, Patch, StatedBlob
from airgap.trust.checkable import checkable, render_sums
from airgap.trust.statement import StatedArtifact, Statement, Subject
from tests.images import OCI, Layout, single

CREATED = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
TARGET = Target("3.11", Platform("linux", "amd64"), "2.35")
REQUEST = "0" * 64


@dataclass(frozen=True)
class Content:
    """An artifact and the bytes of its files."""

    artifact: Artifact
    blobs: Mapping[Sha256, bytes]


@dataclass(frozen=True)
class Trust:
    """Two holders who must both sign releases, a third who may, and the signed root that says so."""

    holders: tuple[keys.HolderSecret, ...]
    root: root.Root
    root_file: bytes
    fingerprint: str


@cache
def trust() -> Trust:
    return make_trust("alice", "bob", "carol")


def make_trust(*names: str, **changes: object) -> Trust:
    secrets = tuple(keys.generate(name) for name in names)
    role = root.Role(2, tuple(sorted(names)))
    holders = tuple(secret.holder for secret in secrets)
    values = {"expires": CREATED + timedelta(days=365), "root": role, "release": role}
    value = root.Root(1, holders=holders, **(values | changes))  # type: ignore[arg-type]
    return Trust(secrets, value, seal_root(value, secrets), root.fingerprint(root.render(value)))


def next_trust(before: Trust, *signers: str, **changes: object) -> Trust:
    """The root after `before`, signed by `signers` (default: everyone), with other values where named."""
    values = {"version": before.root.version + 1} | changes
    value = replace(before.root, **values)  # type: ignore[arg-type]
    secrets = [s for s in before.holders if not signers or s.holder.name in signers]
    return Trust(before.holders, value, seal_root(value, secrets), root.fingerprint(root.render(value)))


def seal_root(value: root.Root, secrets: Sequence[keys.HolderSecret]) -> bytes:
    payload = root.render(value)
    signatures = [s for secret in secrets for s in envelope.sign(payload, root.PAYLOAD_TYPE, secret)]
    return envelope.render(payload, root.PAYLOAD_TYPE, signatures)


def carry(bundle: Path, *roots: Trust) -> Path:
    """Put roots into a bundle, as `airgap build` does."""
    (bundle / "roots").mkdir(exist_ok=True)
    for one in roots:
        (bundle / "roots" / f"{one.root.version}.root.json").write_bytes(one.root_file)
    return bundle


def file(name: str, data: bytes, path: str = "notes.txt") -> Content:
    held = _locked(path, data)
    return Content(FileArtifact(name, REQUEST, (held,)), {held.sha256: data})


def model(name: str, files: Mapping[str, bytes], repo: str = "", commit: str = "c" * 40) -> Content:
    locked = tuple(_locked(path, data) for path, data in sorted(files.items()))
    revision, commit = ("main", commit) if repo else ("", "")
    artifact = ModelArtifact(name, REQUEST, repo, revision, commit, "", "", "", "", locked)
    return Content(artifact, {digest_of(data): data for data in files.values()})


def wheels(name: str, files: Mapping[str, bytes]) -> Content:
    locked = tuple(_locked(path, data) for path, data in sorted(files.items()))
    packages = tuple(
        Package(f.path.split("-")[0].replace("_", "-").lower(), f.path.split("-")[1], f.path) for f in locked
    )
    artifact = WheelsArtifact(name, REQUEST, (), "3.11", packages, locked)
    return Content(artifact, {digest_of(data): data for data in files.values()})


def wheel(name: str, version: str = "1.0") -> tuple[str, bytes]:
    """A real wheel of one module (PEP 427): its file name and its bytes."""
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*members, f"{info}/RECORD"])
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in {**members, f"{info}/RECORD": record}.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return f"{name}-{version}-py3-none-any.whl", out.getvalue()


def container(name: str, layout: Path, image: str = "registry.example/team/hello:1") -> Content:
    """One image for linux/amd64, made in `layout`."""
    made: Layout = single(layout, b"hello")
    blobs = {Sha256(p.name): p.read_bytes() for p in (layout / "blobs" / "sha256").iterdir()}
    manifest = Sha256(made.digest)
    document = json.loads(blobs[manifest])
    described = [{"mediaType": f"{OCI}manifest.v1+json", "digest": f"sha256:{manifest}"}]
    described += [document["config"], *document["layers"]]
    locked = tuple(
        _locked(f"blobs/sha256/{d['digest'][7:]}", blobs[Sha256(d["digest"][7:])], media_type=d["mediaType"])
        for d in described
    )
    platforms = ("linux/amd64",)
    artifact = ContainerArtifact(name, REQUEST, image, manifest, manifest, platforms, (), locked)
    return Content(artifact, blobs)


def one_of_each(scratch: Path, seed: bytes = b"") -> list[Content]:
    """All four kinds, small. `seed` makes other bytes under the same names."""
    return [
        wheels("serving", dict([wheel("alpha"), wheel("beta", "2.0")])),
        model(
            "tiny",
            {"config.json": b'{"model_type": "tiny"}' + seed, "model.safetensors": b"\x08" + bytes(70_000)},
            repo="example/tiny",
        ),
        container("hello", scratch / "image"),
        file("notes", b"carried across\n" + seed),
    ]


def write_bundle(
    path: Path,
    contents: Sequence[Content],
    *,
    name: str = "quickstart",
    version: str = "2026.11",
    channel: str = "",
    sequence: int = 1,
    signers: Sequence[str] = ("alice", "bob"),
    by: Trust | None = None,
    patches: Sequence[bytes] = (),
    **stated: object,
) -> Path:
    """Lay a bundle out at `path`, replacing what is there; `stated` overrides fields of the statement.

    `patches` travel for those that its `base` has (`patched`).
    """
    shutil.rmtree(path, ignore_errors=True)
    (path / "blobs" / "sha256").mkdir(parents=True)
    (path / "verify").mkdir()
    artifacts = tuple(content.artifact for content in contents)
    audience = stated.get("audience", ())
    assert isinstance(audience, tuple)
    lock = Lock(name, version, channel or name, Sha256("0" * 64), TARGET, {}, artifacts, audience)
    packed = tuple(pack(artifact) for artifact in artifacts)
    lock_bytes = render_lock(lock)
    blobs = {digest_of(lock_bytes): lock_bytes}
    for documents in (*(content.blobs for content in contents), *(bundled.documents for bundled in packed)):
        blobs |= documents
    index = render_index(packed, digest_of(lock_bytes))
    held = {digest: StatedBlob(_sha384(data), len(data)) for digest, data in blobs.items()}
    base = stated.get("base")
    assert base is None or isinstance(base, Base)
    absent = base.blobs | base.patches.keys() if base else frozenset()
    travelling = {digest: data for digest, data in blobs.items() if digest not in absent}
    travelling |= {digest_of(data): data for data in patches}
    listed = {digest: StatedBlob(_sha384(data), len(data)) for digest, data in travelling.items()}
    sums = render_sums({"oci-layout": _sha384(OCI_LAYOUT), "index.json": _sha384(index)}, listed)
    values = {
        "name": name,
        "version": version,
        "channel": channel or name,
        "epoch": 0,
        "sequence": sequence,
        "previous": None,
        "created_at": CREATED,
        "expires_at": CREATED + timedelta(days=90),
        "target": TARGET,
        "lock": digest_of(lock_bytes),
        "artifacts": tuple(
            StatedArtifact(b.artifact.kind, b.artifact.name, b.media_type, b.digest, b.size) for b in packed
        ),
        "blobs": held,
        "index": Subject(digest_of(index), _sha384(index)),
        "sums": Subject(digest_of(sums), _sha384(sums)),
    }
    payload = statement.render(Statement(**(values | stated)))  # type: ignore[arg-type]
    secrets = [secret for secret in (by or trust()).holders if secret.holder.name in signers]
    signatures = [s for secret in secrets for s in envelope.sign(payload, statement.PAYLOAD_TYPE, secret)]
    sealed = envelope.render(payload, statement.PAYLOAD_TYPE, signatures)
    for digest, data in travelling.items():
        (path / "blobs" / "sha256" / digest).write_bytes(data)
    files = {"oci-layout": OCI_LAYOUT, "index.json": index, "bundle.dsse.json": sealed}
    for file_path, data in (files | checkable(sealed, sums)).items():
        (path / file_path).write_bytes(data)
    return path


def patched(old: bytes, new: bytes, *, shared: int) -> tuple[Base, bytes]:
    """The base of a delta that makes `new` of the first `shared` bytes of `old`, and its patch."""
    source, target = digest_of(old), digest_of(new)
    pieces = (Piece(1, 0, shared), Piece(LITERAL, 0, len(new) - shared))
    data = render_header(Recipe(len(new), (source,), pieces)) + new[shared:]
    sources = {source: StatedBlob(_sha384(old), len(old))}
    patch = Patch(digest_of(data), StatedBlob(_sha384(data), len(data)), sources)
    return Base(inventory_digest([source]), frozenset(), {target: patch}), data


def pin(site: Path, by: Trust | None = None) -> Path:
    """A site that trusts the test's root, as `airgap trust pin` leaves it."""
    (site / "trust").mkdir(parents=True)
    (site / "trust" / "root.json").write_bytes((by or trust()).root_file)
    return site


def _locked(path: str, data: bytes, media_type: str = "") -> LockedFile:
    return LockedFile(BundlePath(path), len(data), digest_of(data), Local(path), media_type)


def _sha384(data: bytes) -> Sha384:
    return Sha384(hashlib.sha384(data).hexdigest())
