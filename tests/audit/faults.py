"""Small artifacts of each kind, clean as an auditor wants them or with one fault planted. Nothing here runs.

The pickles here are made by hand: unpickling is what they are made to be dangerous for.
"""

import base64
import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from airgap.model import BundlePath, ContainerArtifact, Local, LockedFile, Sha256
from tests.bundles import REQUEST, Content
from tests.images import LAYER_TYPES, OCI

MALICIOUS = b"cos\nsystem\n(S'echo owned'\ntR."
"""Protocol 0: calls os.system when it is loaded."""

HARMLESS = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01."

CARD = b"---\nlicense: apache-2.0\nbase_model: org/base\nlanguage:\n- en\n- de\n---\n# Tiny\n"


def wheel(
    name: str = "alpha",
    *,
    licence: str = "MIT",
    members: Mapping[str, bytes] | None = None,
    unlisted: Mapping[str, bytes] | None = None,
    record: Mapping[str, bytes] | None = None,
    compression: int = zipfile.ZIP_DEFLATED,
) -> tuple[str, bytes]:
    """A wheel whose RECORD is right but for `record`, which it lists with these bytes instead."""
    info = f"{name}-1.0.dist-info"
    listed = {
        f"{name}/__init__.py": b"VERSION = 1\n",
        **(members or {}),
        f"{info}/METADATA": f"Metadata-Version: 2.4\nName: {name}\nVersion: 1.0\n".encode()
        + (f"License-Expression: {licence}\n".encode() if licence else b""),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n".encode(),
    }
    lines = [
        f"{path},sha256={_b64(data)},{len(data)}\n" for path, data in (listed | dict(record or {})).items()
    ]
    files = {**listed, **(unlisted or {}), f"{info}/RECORD": f"{''.join(lines)}{info}/RECORD,,\n".encode()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for path, data in files.items():
            archive.writestr(zipfile.ZipInfo(path), data, compression)
    return f"{name}-1.0-py3-none-any.whl", out.getvalue()


def safetensors(count: int = 2, dtype: str = "BF16") -> bytes:
    """`count` tensors of eight elements."""
    table = {
        f"layer.{n}.weight": {"dtype": dtype, "shape": [8], "data_offsets": [16 * n, 16 * n + 16]}
        for n in range(count)
    }
    header = json.dumps(table).encode()
    return struct.pack("<Q", len(header)) + header + bytes(16 * count)


def model_files(**changes: bytes) -> dict[str, bytes]:
    files = {
        "README.md": CARD,
        "config.json": b'{"model_type": "tiny", "architectures": ["Tiny"]}',
        "model.safetensors": safetensors(),
    }
    return files | changes


@dataclass(frozen=True)
class Entry:
    """One entry of a layer: a file, or with `target` a link, symbolic unless `hard`."""

    path: str
    data: bytes = b""
    mode: int = 0o644
    target: str = ""
    hard: bool = False
    capability: bytes = b""


OS_RELEASE = b'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n'
DPKG = b"""Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.1-1)
Version: 3.0.1-1+b2

"""
SYSTEM = (
    Entry("etc/os-release", OS_RELEASE),
    Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\nserve:x:1000:1000::/home/serve:/bin/false\n"),
    Entry("var/lib/dpkg/status", DPKG),
    Entry(
        "usr/lib/python3/dist-packages/six-1.16.0.dist-info/METADATA",
        b"Metadata-Version: 2.1\nName: six\nVersion: 1.16.0\nLicense: MIT\n",
    ),
)


def layer(*entries: Entry) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for entry in entries:
            info = tarfile.TarInfo(entry.path)
            info.mode, info.size = entry.mode, len(entry.data)
            if entry.capability:
                value = entry.capability.decode("latin-1")
                info.pax_headers = {"SCHILY.xattr.security.capability": value}
            if entry.target:
                info.type = tarfile.LNKTYPE if entry.hard else tarfile.SYMTYPE
                info.linkname = entry.target
            tar.addfile(info, io.BytesIO(entry.data))
    return gzip.compress(out.getvalue(), 1, mtime=0)


def image(
    name: str,
    *layers: Sequence[Entry],
    env: Sequence[str] = ("PATH=/usr/bin", "LANG=C.UTF-8"),
    user: str = "serve",
    labels: Mapping[str, str] | None = None,
    command: Sequence[str] = ("--port", "8000"),
    steps: Sequence[str] = (),
    more: Mapping[str, object] | None = None,
) -> Content:
    """An image for linux/amd64 of these layers."""
    packed = [layer(*entries) for entries in layers or (SYSTEM,)]
    diffs = [f"sha256:{hashlib.sha256(gzip.decompress(data)).hexdigest()}" for data in packed]
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "created": "2026-10-01T00:00:00Z",
            "config": {
                "Env": list(env),
                "User": user,
                "Entrypoint": ["/bin/serve"],
                "Cmd": list(command),
                "ExposedPorts": {"8000/tcp": {}},
                "WorkingDir": "/srv",
                "Labels": {"maintainer": "tests", **(labels or {})},
            },
            "rootfs": {"type": "layers", "diff_ids": diffs},
            "history": [{"created_by": step} for step in steps or ["COPY . ."] * len(packed)],
            **(more or {}),
        }
    ).encode()
    described = [(config, f"{OCI}config.v1+json"), *((data, LAYER_TYPES["gzip"]) for data in packed)]
    parts = [
        {"mediaType": kind, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}
        for data, kind in described
    ]
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": f"{OCI}manifest.v1+json",
            "config": parts[0],
            "layers": parts[1:],
        }
    ).encode()
    files = [_locked(data, kind) for data, kind in ((manifest, f"{OCI}manifest.v1+json"), *described)]
    root = files[0].sha256
    distinct = tuple({file.sha256: file for file in files}.values())
    artifact = ContainerArtifact(
        name, REQUEST, "registry.example/team/engine:1", root, root, ("linux/amd64",), (), distinct
    )
    return Content(
        artifact,
        {file.sha256: data for file, (data, _) in zip(files, ((manifest, ""), *described), strict=True)},
    )


def indexed(content: Content, **named: object) -> Content:
    """The same image below an index, whose entry says this of it besides."""
    artifact = content.artifact
    assert isinstance(artifact, ContainerArtifact)
    manifest = artifact.files[0]
    entry = {"mediaType": manifest.media_type, "digest": f"sha256:{manifest.sha256}", "size": manifest.size}
    kind = f"{OCI}index.v1+json"
    index = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [entry | named]}).encode()
    locked = _locked(index, kind)
    files = (locked, *artifact.files)
    return Content(
        replace(artifact, root=locked.sha256, digest=locked.sha256, files=files),
        {locked.sha256: index, **content.blobs},
    )


def _locked(data: bytes, media_type: str) -> LockedFile:
    digest = Sha256(hashlib.sha256(data).hexdigest())
    path = BundlePath(f"blobs/sha256/{digest}")
    return LockedFile(path, len(data), digest, Local("engine"), media_type)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
