"""Small deterministic images, written as OCI layouts and docker archives for the tests to carry."""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

OCI = "application/vnd.oci.image."
LAYER_TYPES = {"": f"{OCI}layer.v1.tar", "gzip": f"{OCI}layer.v1.tar+gzip"}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def layer_tar(name: str, data: bytes) -> bytes:
    """An uncompressed layer of one file."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo(name)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def image_config(diff_ids: Sequence[str], os: str = "linux", architecture: str = "amd64") -> bytes:
    return json.dumps(
        {
            "architecture": architecture,
            "os": os,
            "config": {"Cmd": ["/hello"], "Labels": {"score": "0.5"}},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{d}" for d in diff_ids]},
            "history": [{"created_by": "test"} for _ in diff_ids],
        }
    ).encode()


@dataclass
class Layout:
    """An OCI layout being written. `digests` holds each platform's manifest digest."""

    path: Path
    digest: str = ""
    digests: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        (self.path / "blobs" / "sha256").mkdir(parents=True, exist_ok=True)
        (self.path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')

    def blob(self, data: bytes, media_type: str) -> dict[str, object]:
        (self.path / "blobs" / "sha256" / sha256(data)).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{sha256(data)}", "size": len(data)}

    def manifest(
        self, platform: str, contents: Sequence[bytes], compression: str = "gzip"
    ) -> dict[str, object]:
        """A manifest with one layer for each of `contents`; its descriptor."""
        os, architecture, *variant = platform.split("/")
        tars = [layer_tar(f"file-{n}", data) for n, data in enumerate(contents)]
        packed = [gzip.compress(tar, mtime=0, compresslevel=1) if compression else tar for tar in tars]
        config = image_config([sha256(tar) for tar in tars], os, architecture)
        document = {
            "schemaVersion": 2,
            "mediaType": f"{OCI}manifest.v1+json",
            "config": self.blob(config, f"{OCI}config.v1+json"),
            "layers": [self.blob(data, LAYER_TYPES[compression]) for data in packed],
        }
        described = {"os": os, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        return self.blob(json.dumps(document, indent=3).encode(), f"{OCI}manifest.v1+json") | {
            "platform": described
        }

    def index(self, entries: Sequence[Mapping[str, object]]) -> dict[str, object]:
        document = {"schemaVersion": 2, "mediaType": f"{OCI}index.v1+json", "manifests": list(entries)}
        return self.blob(json.dumps(document, indent=3).encode(), f"{OCI}index.v1+json")

    def finish(self, **named: Mapping[str, object]) -> None:
        """Write index.json: reference name -> descriptor."""
        entries = [
            {key: value for key, value in entry.items() if key != "platform"}
            | {"annotations": {"org.opencontainers.image.ref.name": name}}
            for name, entry in named.items()
        ]
        (self.path / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": entries}))


def single(path: Path, *contents: bytes, platform: str = "linux/amd64", compression: str = "gzip") -> Layout:
    """A layout of one image for one platform, under the name `latest`."""
    layout = Layout(path)
    entry = layout.manifest(platform, contents or (b"hello",), compression)
    layout.digest = str(entry["digest"]).removeprefix("sha256:")
    layout.finish(latest=entry)
    return layout


def multi(path: Path, *platforms: str, attestation: bool = False) -> Layout:
    """A layout of one multi-platform index, under the name `latest`."""
    layout = Layout(path)
    entries = [layout.manifest(platform, [platform.encode()]) for platform in platforms]
    layout.digests = {
        p: str(e["digest"]).removeprefix("sha256:") for p, e in zip(platforms, entries, strict=True)
    }
    if attestation:
        entries.append(layout.manifest("unknown/unknown", [b"provenance"]))
    index = layout.index(entries)
    layout.digest = str(index["digest"]).removeprefix("sha256:")
    layout.finish(latest=index)
    return layout


def tar_of(path: Path, members: Sequence[tuple[str, bytes | str]]) -> None:
    """A tar of regular files (bytes) and symbolic links (their target as text)."""
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def tar_of_directory(path: Path, directory: Path) -> None:
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    tar_of(path, [(str(file.relative_to(directory)), file.read_bytes()) for file in files])


def docker_members(*contents: bytes) -> list[tuple[str, bytes | str]]:
    """What `docker save` before 25 writes for one image, manifest.json excepted; layers as dir/layer.tar."""
    tars = [layer_tar(f"file-{n}", data) for n, data in enumerate(contents)]
    config = image_config([sha256(tar) for tar in tars])
    members: list[tuple[str, bytes | str]] = [(f"{sha256(config)}.json", config)]
    members += [(f"{n}{sha256(tar)[:16]}/layer.tar", tar) for n, tar in enumerate(tars)]
    return members


def docker_entry(members: Sequence[tuple[str, bytes | str]], tags: Sequence[str]) -> dict[str, object]:
    """The manifest.json entry of `docker_members`."""
    names = [name for name, _ in members]
    return {"Config": names[0], "RepoTags": list(tags) or None, "Layers": names[1:]}


def docker_archive(path: Path, tags: Sequence[str], *contents: bytes) -> None:
    """A docker archive of one image."""
    members = docker_members(*contents)
    manifest = json.dumps([docker_entry(members, tags)]).encode()
    tar_of(path, [*members, ("manifest.json", manifest)])
