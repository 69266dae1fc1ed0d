"""The exported tar, judged by podman, skopeo and tarfile; and what it does with a damaged store."""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from airgap.errors import InputError, IntegrityError
from airgap.image_tar import Contents, TarImage, plan_image_tar, write_image_tar
from airgap.model import Platform, Sha256
from airgap.oci import Descriptor
from airgap.store import Store
from tests import images
from tests.services import need

NAME = "registry.example/team/app:1"
AMD64 = Platform("linux", "amd64")


def stored(tmp_path: Path, layout: images.Layout, name: str = NAME) -> tuple[TarImage, Store]:
    """The layout's blobs as a store."""
    store = Store(tmp_path / "store")
    store.prepare()
    for path in (layout.path / "blobs/sha256").iterdir():
        shutil.copy(path, store.path(Sha256(path.name)))
    return TarImage(name, Sha256(layout.digest), AMD64), store


def written(image: TarImage, store: Store) -> bytes:
    out = io.BytesIO()
    write_image_tar(out, image, store)
    return out.getvalue()


def run(*arguments: str, data: bytes = b"") -> bytes:
    done = subprocess.run(arguments, input=data, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


def test_podman_loads_it_with_name_and_digest(tmp_path: Path) -> None:
    need("podman")
    layout = images.single(tmp_path / "layout", b"one", b"two")
    data = written(*stored(tmp_path, layout))
    # podman wants a runroot of at most 50 characters
    with tempfile.TemporaryDirectory(prefix="pod", ignore_cleanup_errors=True) as home:
        podman = ("podman", "--root", f"{home}/root", "--runroot", f"{home}/run", "--storage-driver", "vfs")
        run(*podman, "load", data=data)
        inspected = json.loads(run(*podman, "image", "inspect", NAME))[0]
    assert inspected["Digest"] == f"sha256:{layout.digest}"
    assert inspected["RepoTags"] == [NAME]


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_skopeo_reads_both_of_its_sides(tmp_path: Path, kind: str) -> None:
    need("skopeo")
    layout = images.single(tmp_path / "layout", b"one", b"two")
    (tmp_path / "image.tar").write_bytes(written(*stored(tmp_path, layout)))
    source = f"{kind}:{tmp_path}/image.tar"
    raw = run("skopeo", "inspect", "--raw", source)
    if kind == "oci-archive":  # the docker side has no manifest of its own: skopeo makes one up
        assert hashlib.sha256(raw).hexdigest() == layout.digest
    assert run("skopeo", "inspect", "--config", "--raw", source) == config_of(layout)
    run("skopeo", "copy", source, f"dir:{tmp_path}/copied")
    run("skopeo", "copy", f"{source}:{NAME}", f"dir:{tmp_path}/copied-by-name")


def config_of(layout: images.Layout) -> bytes:
    blobs = layout.path / "blobs/sha256"
    config: str = json.loads((blobs / layout.digest).read_bytes())["config"]["digest"]
    return (blobs / config.removeprefix("sha256:")).read_bytes()


def test_it_is_bit_identical_and_as_long_as_planned(tmp_path: Path) -> None:
    image, store = stored(tmp_path, images.single(tmp_path / "layout", b"x" * 1000, b""))
    first = written(image, store)
    for path in (store.root / "blobs/sha256").iterdir():
        path.touch()
    assert written(image, store) == first
    assert len(first) == plan_image_tar(image, store).size


def test_it_holds_the_image_and_nothing_else(tmp_path: Path) -> None:
    image, store = stored(tmp_path, images.single(tmp_path / "layout"))
    store.add_bytes(b"another artifact's")
    with tarfile.open(fileobj=io.BytesIO(written(image, store))) as tar:
        members = tar.getmembers()
        assert [m.name for m in members[:5]] == [
            "oci-layout",
            "index.json",
            "manifest.json",
            "blobs",
            "blobs/sha256",
        ]
        assert len(members) == 5 + 3
        assert {(m.uid, m.gid, m.mtime, m.uname) for m in members} == {(0, 0, 0, "")}
        for member in members[5:]:
            stream = tar.extractfile(member)
            assert stream and hashlib.sha256(stream.read()).hexdigest() == Path(member.name).name


def test_a_whole_index_travels_and_docker_gets_the_targets_image(tmp_path: Path) -> None:
    need("skopeo")
    layout = images.multi(tmp_path / "layout", "linux/arm64", "linux/amd64")
    assert layout.digests
    image, store = stored(tmp_path, layout)
    data = written(image, store)
    (tmp_path / "image.tar").write_bytes(data)
    raw = run("skopeo", "inspect", "--raw", f"oci-archive:{tmp_path}/image.tar")
    assert hashlib.sha256(raw).hexdigest() == layout.digest
    config = json.loads(run("skopeo", "inspect", "--config", f"docker-archive:{tmp_path}/image.tar"))
    assert config["architecture"] == "amd64"


def test_a_sparse_index_is_written_with_what_there_is(tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", "linux/amd64", "linux/arm64")
    assert layout.digests
    image, store = stored(tmp_path, layout)
    store.path(Sha256(layout.digests["linux/arm64"])).unlink()
    assert len(plan_image_tar(image, store).blobs) == 1 + 3
    store.path(Sha256(layout.digests["linux/amd64"])).unlink()
    with pytest.raises(InputError, match="linux/amd64"):
        plan_image_tar(image, store)


def test_without_a_name_it_names_none(tmp_path: Path) -> None:
    image, store = stored(tmp_path, images.single(tmp_path / "layout"), name="")
    with tarfile.open(fileobj=io.BytesIO(written(image, store))) as tar:
        index, docker = (tar.extractfile(name) for name in ("index.json", "manifest.json"))
        assert index and "annotations" not in json.load(index)["manifests"][0]
        assert docker and json.load(docker)[0]["RepoTags"] == []


@pytest.mark.parametrize("name", ["app", "app:1", "r.example/app", f"r.example/a@sha256:{'0' * 64}", "A:1"])
def test_a_name_an_engine_would_change_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        TarImage(name, Sha256("0" * 64), AMD64)


@pytest.mark.parametrize("damage", ["flip", "longer", "shorter", "gone"])
@pytest.mark.parametrize("what", ["manifest", "layer"])
def test_a_damaged_store_is_noticed(tmp_path: Path, damage: str, what: str) -> None:
    image, store = stored(tmp_path, images.single(tmp_path / "layout", b"data" * 100))
    blobs = plan_image_tar(image, store).blobs
    victim = store.path(next(blob.digest for blob in blobs if what in blob.media_type))
    data = victim.read_bytes()
    changed = {"flip": data[:-1] + bytes([data[-1] ^ 1]), "longer": data + b"x", "shorter": data[:-1]}
    if damage == "gone":
        victim.unlink()
    else:
        victim.write_bytes(changed[damage])
    with pytest.raises(IntegrityError, match=victim.name):
        written(image, store)


def test_a_layer_beyond_8_gib_has_a_pax_size() -> None:
    """The header alone, since the bytes would take a minute: ustar's octal field ends at 8 GiB."""
    small, large = (
        Contents((), (Descriptor("x", Sha256("1" * 64), size),)).size - size for size in (8**11 - 512, 8**11)
    )
    assert large - small == 1024
