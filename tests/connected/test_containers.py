"""Which platforms travel, what is said about the rest, and images from layouts and archives."""

import contextlib
import gzip
import hashlib
import io
import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airgap.connected import archives, containers
from airgap.connected.archives import TarFiles
from airgap.connected.local_images import DockerImage
from airgap.connected.source import Context
from airgap.errors import AirgapError, InputError, IntegrityError
from airgap.image_tar import TarImage, write_image_tar
from airgap.model import ContainerArtifact, Local, Made, Severity, Sha256
from airgap.oci import ImageManifest, parse_image
from tests import images
from tests.connected.containing import (
    archive_request,
    context,
    image_request,
    layout_request,
    lock,
    write_layout,
)
from tests.services import need

THREE = ("linux/amd64", "linux/arm64/v8", "linux/s390x")


def fetched(artifact: ContainerArtifact, where: Context) -> None:
    """Fetch, and judge the result by hashlib and by skopeo."""
    need("skopeo")
    containers.fetch(artifact, where)
    for file in artifact.files:
        data = where.store.path(file.sha256).read_bytes()
        assert (hashlib.sha256(data).hexdigest(), len(data)) == (file.sha256, file.size)
    copy = write_layout(artifact, where, where.directory / "read-by-skopeo")
    raw = subprocess.run(["skopeo", "inspect", "--raw", copy], check=True, capture_output=True).stdout
    assert hashlib.sha256(raw).hexdigest() == artifact.root


# ------------------------------------------------------------------ platforms


def test_the_targets_platform_travels_as_the_child_manifest(tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", *THREE, attestation=True)
    assert layout.digests
    where = context(tmp_path, "linux/arm64")
    artifact, codes = lock(layout_request("layout"), where)
    assert (artifact.digest, artifact.root) == (layout.digest, layout.digests["linux/arm64/v8"])
    assert artifact.platforms == ("linux/arm64/v8",)
    assert artifact.left_out == ("linux/amd64", "linux/s390x", "unknown/unknown")
    assert codes == ["container-narrowed"]
    assert [file.sha256 for file in artifact.files[:2]] == [artifact.digest, artifact.root]
    assert len(artifact.files) == 4
    fetched(artifact, where)


def test_all_keeps_the_index_whole(tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", *THREE, attestation=True)
    where = context(tmp_path)
    artifact, codes = lock(layout_request("layout", "all"), where)
    assert (artifact.root, artifact.platforms, artifact.left_out) == (layout.digest, THREE, ())
    assert codes == []
    assert len({file.sha256 for file in artifact.files}) == len(artifact.files) == 1 + 4 * 3
    fetched(artifact, where)


def test_several_of_many_is_a_sparse_index_and_said_to_be(tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", *THREE)
    artifact, codes = lock(layout_request("layout", "linux/s390x", "linux/amd64"), context(tmp_path))
    assert (artifact.root, artifact.left_out) == (layout.digest, ("linux/arm64/v8",))
    assert artifact.platforms == ("linux/amd64", "linux/s390x")
    assert codes == ["container-sparse-index"]


def test_an_index_of_one_platform_is_whole(tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", "linux/amd64")
    artifact, codes = lock(layout_request("layout"), context(tmp_path))
    assert (artifact.root, codes) == (layout.digest, [])


def test_a_missing_platform_names_those_there_are(tmp_path: Path) -> None:
    images.multi(tmp_path / "layout", *THREE)
    with pytest.raises(InputError, match="linux/amd64, linux/arm64/v8, linux/s390x"):
        lock(layout_request("layout", "linux/riscv64"), context(tmp_path))


def test_a_pinned_index_that_is_narrowed_is_a_warning(tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", *THREE)
    artifact, _ = lock(layout_request("layout"), context(tmp_path))
    target = context(tmp_path).target
    severities = [
        containers.judge(artifact, image_request(image), target)[0].severity
        for image in ("r.example/a:1", f"r.example/a:1@sha256:{layout.digest}")
    ]
    assert severities == [Severity.INFO, Severity.WARNING]


def test_an_image_for_another_platform_is_a_warning(tmp_path: Path) -> None:
    images.single(tmp_path / "layout", platform="linux/s390x")
    assert lock(layout_request("layout"), context(tmp_path))[1] == ["container-platform"]
    assert lock(layout_request("layout"), context(tmp_path, "linux/s390x"))[1] == []
    assert lock(layout_request("layout", "linux/s390x"), context(tmp_path))[1] == []


def test_zstd_layers_are_mentioned(tmp_path: Path) -> None:
    layout = images.Layout(tmp_path / "layout")
    tar = images.layer_tar("f", b"x")
    config = layout.blob(images.image_config([images.sha256(tar)]), f"{images.OCI}config.v1+json")
    layer = layout.blob(b"\x28\xb5\x2f\xfd...", f"{images.OCI}layer.v1.tar+zstd")
    manifest = {"schemaVersion": 2, "config": config, "layers": [layer]}
    layout.finish(latest=layout.blob(json.dumps(manifest).encode(), f"{images.OCI}manifest.v1+json"))
    assert lock(layout_request("layout"), context(tmp_path))[1] == ["container-zstd"]


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    layout = images.Layout(tmp_path / "layout")
    config = layout.blob(b"{}", "application/vnd.cncf.helm.config.v1+json")
    manifest = {"schemaVersion": 2, "config": config, "layers": []}
    layout.finish(latest=layout.blob(json.dumps(manifest).encode(), f"{images.OCI}manifest.v1+json"))
    with pytest.raises(InputError, match="helm"):
        lock(layout_request("layout"), context(tmp_path))


def test_an_index_inside_an_index_travels_with_all(tmp_path: Path) -> None:
    layout = images.Layout(tmp_path / "layout")
    inner = layout.index([layout.manifest("linux/arm64", [b"inner"])])
    layout.finish(latest=layout.index([layout.manifest("linux/amd64", [b"outer"]), inner]))
    where = context(tmp_path)
    artifact, _ = lock(layout_request("layout", "all"), where)
    assert len(artifact.files) == 2 + 3 + 3
    fetched(artifact, where)


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    layout = images.Layout(tmp_path / "layout")
    entry = layout.manifest("linux/amd64", [b"innermost"])
    for _ in range(6):
        entry = layout.index([entry])
    layout.finish(latest=entry)
    with pytest.raises(InputError, match="nested"):
        lock(layout_request("layout", "all"), context(tmp_path))


# ------------------------------------------------------------------ layouts and archives


def test_one_image_of_several_must_be_chosen(tmp_path: Path) -> None:
    layout = images.Layout(tmp_path / "layout")
    one, two = layout.manifest("linux/amd64", [b"1"]), layout.manifest("linux/amd64", [b"2"])
    layout.finish(**{"one": one, "localhost/team/two:2": two})
    with pytest.raises(InputError, match="images: one, localhost/team/two:2") as several:
        lock(layout_request("layout"), context(tmp_path))
    assert '"layout:NAME:TAG"' in several.value.remedy
    first, _ = lock(layout_request("layout:one"), context(tmp_path))
    second, _ = lock(layout_request("layout:localhost/team/two:2"), context(tmp_path))
    assert (first.root, first.image) == (str(one["digest"])[7:], "")
    assert (second.root, second.image) == (str(two["digest"])[7:], "localhost/team/two:2")
    with pytest.raises(InputError, match="named 'three'"):
        lock(layout_request("layout:three"), context(tmp_path))


def test_an_oci_archive_is_read_in_place(tmp_path: Path) -> None:
    layout = images.multi(tmp_path / "layout", *THREE)
    images.tar_of_directory(tmp_path / "image.tar", layout.path)
    where = context(tmp_path)
    artifact, _ = lock(archive_request("image.tar", "all"), where)
    assert artifact.root == layout.digest
    assert artifact.files[-1].origin == Local("image.tar", artifact.files[-1].path)
    fetched(artifact, where)


@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
def test_what_skopeo_writes_is_read(tmp_path: Path, kind: str) -> None:
    need("skopeo")
    images.single(tmp_path / "layout", b"one", b"two")
    target = f"{kind}:{tmp_path}/image.tar:docker.io/team/app:1"
    subprocess.run(
        ["skopeo", "copy", f"oci:{tmp_path}/layout:latest", target], check=True, capture_output=True
    )
    where = context(tmp_path)
    artifact, codes = lock(archive_request("image.tar"), where)
    assert (artifact.image, artifact.platforms) == ("docker.io/team/app:1", ("linux/amd64",))
    assert codes == []
    fetched(artifact, where)


def test_a_docker_archive_gets_the_same_manifest_each_time(tmp_path: Path) -> None:
    images.docker_archive(tmp_path / "image.tar", ["app:1", "app:latest"], b"one", b"two")
    where = context(tmp_path)
    artifact, _ = lock(archive_request("image.tar"), where)
    archive = hashlib.sha256((tmp_path / "image.tar").read_bytes()).hexdigest()
    assert artifact.image == "docker.io/library/app:1"
    assert artifact.files[0].origin == Made("image-manifest", Local("image.tar"), Sha256(archive))
    assert [file.media_type.rpartition(".")[2] for file in artifact.files] == [
        "v1+json",
        "v1+json",
        "tar",
        "tar",
    ]
    fetched(artifact, where)
    elsewhere = context(tmp_path / "other-machine")
    elsewhere = Context(where.target, tmp_path, elsewhere.store, elsewhere.transfer, where.progress)
    containers.fetch(artifact, elsewhere)
    assert elsewhere.store.holds(artifact.root)
    assert lock(archive_request("image.tar"), elsewhere)[0] == artifact


def test_equal_layers_are_links_in_old_docker_archives(tmp_path: Path) -> None:
    tar = images.layer_tar("f", b"same")
    config = images.image_config([images.sha256(tar)] * 2)
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["a/layer.tar", "b/layer.tar"]}]
    images.tar_of(
        tmp_path / "image.tar",
        [
            ("c.json", config),
            ("a/layer.tar", tar),
            ("b/layer.tar", "../a/layer.tar"),
            ("manifest.json", json.dumps(manifest).encode()),
        ],
    )
    where = context(tmp_path)
    artifact, _ = lock(archive_request("image.tar"), where)
    assert (artifact.image, len(artifact.files)) == ("", 3)
    fetched(artifact, where)
    where.store.path(artifact.root).unlink()
    containers.fetch(artifact, where)
    assert where.store.holds(artifact.root)


def test_compressed_layers_of_a_docker_archive_are_proven_too(tmp_path: Path) -> None:
    tar = images.layer_tar("f", b"data")
    packed = gzip.compress(tar, mtime=0)
    manifest = json.dumps([{"Config": "c.json", "RepoTags": [], "Layers": ["l.tar.gz"]}]).encode()

    def write(layer: bytes, diff_id: str) -> None:
        config = images.image_config([diff_id])
        images.tar_of(
            tmp_path / "image.tar", [("c.json", config), ("l.tar.gz", layer), ("manifest.json", manifest)]
        )

    write(packed, images.sha256(tar))
    where = context(tmp_path)
    artifact, _ = lock(archive_request("image.tar"), where)
    assert artifact.files[-1].media_type.endswith("tar+gzip")
    fetched(artifact, where)
    write(packed, "0" * 64)
    with pytest.raises(IntegrityError, match="diff_id"):
        lock(archive_request("image.tar"), where)
    write(packed[:-4], images.sha256(tar))
    with pytest.raises(InputError, match="not gzip"):
        lock(archive_request("image.tar"), where)


def test_an_image_without_layers_is_an_image(tmp_path: Path) -> None:
    manifest = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": None}]).encode()
    config = images.image_config([])
    images.tar_of(tmp_path / "image.tar", [("c.json", config), ("manifest.json", manifest)])
    where = context(tmp_path)
    artifact, _ = lock(archive_request("image.tar"), where)
    assert len(artifact.files) == 2
    fetched(artifact, where)


def test_a_layer_that_is_not_its_diff_id_is_refused(tmp_path: Path) -> None:
    members = images.docker_members(b"one")
    members[1] = (members[1][0], images.layer_tar("file-0", b"two"))
    manifest = json.dumps([images.docker_entry(members, ["app:1"])]).encode()
    images.tar_of(tmp_path / "image.tar", [*members, ("manifest.json", manifest)])
    with pytest.raises(IntegrityError, match="diff_id"):
        lock(archive_request("image.tar"), context(tmp_path))


def test_one_image_of_a_docker_archive_must_be_chosen(tmp_path: Path) -> None:
    one, two = images.docker_members(b"one"), images.docker_members(b"two")
    manifest = [images.docker_entry(one, ["app:1"]), images.docker_entry(two, ["app:2", "app:latest"])]
    images.tar_of(tmp_path / "i.tar", [*one, *two, ("manifest.json", json.dumps(manifest).encode())])
    with pytest.raises(InputError, match="found 2; images: app:1, app:2"):
        lock(archive_request("i.tar"), context(tmp_path))
    chosen, _ = lock(archive_request("i.tar:app:latest"), context(tmp_path))
    assert chosen.image == "docker.io/library/app:latest"
    assert Local("i.tar", two[0][0]) in [file.origin for file in chosen.files]


def test_an_archive_that_is_both_keeps_its_oci_manifest(tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout")
    (layout.path / "manifest.json").write_text("[]")
    images.tar_of_directory(tmp_path / "image.tar", layout.path)
    assert lock(archive_request("image.tar"), context(tmp_path))[0].root == layout.digest


def test_local_sources_are_read_again_each_time(tmp_path: Path) -> None:
    images.docker_archive(tmp_path / "image.tar", ["app:1"], b"one")
    before, _ = lock(archive_request("image.tar"), context(tmp_path))
    images.docker_archive(tmp_path / "image.tar", ["app:1"], b"two")
    after, _ = lock(archive_request("image.tar"), context(tmp_path), before)
    assert after.root != before.root
    with pytest.raises(IntegrityError, match="as locked"):
        containers.fetch(before, context(tmp_path))


def test_a_layer_that_changed_after_the_lock_is_refused(tmp_path: Path) -> None:
    for kind, origin in (("archive", "image.tar"), ("layout", "layout")):
        layout = images.single(tmp_path / "layout", kind.encode())
        images.tar_of_directory(tmp_path / "image.tar", layout.path)
        where = context(tmp_path)
        request = archive_request(origin) if kind == "archive" else layout_request(origin)
        artifact, _ = lock(request, where)
        layer = layout.path / artifact.files[-1].path
        data = layer.read_bytes()
        layer.write_bytes(bytes([data[0] ^ 1]) + data[1:])
        images.tar_of_directory(tmp_path / "image.tar", layout.path)
        with pytest.raises(IntegrityError, match="as locked"):
            containers.fetch(artifact, where)
        assert not where.store.holds(artifact.files[-1].sha256)


def test_a_manifest_that_would_come_out_otherwise_is_refused(tmp_path: Path) -> None:
    members = images.docker_members(b"one")
    manifest = json.dumps([images.docker_entry(members, ["app:1"])]).encode()
    images.tar_of(tmp_path / "image.tar", [*members, ("manifest.json", manifest)])
    where = context(tmp_path)
    artifact, _ = lock(archive_request("image.tar"), where)
    containers.fetch(artifact, where)
    name, config = members[0]
    assert isinstance(config, bytes)
    members[0] = (name, config.replace(b"0.5", b"0.6"))
    images.tar_of(tmp_path / "image.tar", [*members, ("manifest.json", manifest)])
    where.store.path(artifact.root).unlink()
    with pytest.raises(IntegrityError, match="the image manifest, as locked"):
        containers.fetch(artifact, where)
    assert not where.store.holds(artifact.root)


def test_a_layout_whose_manifest_was_altered_is_refused(tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout")
    path = layout.path / "blobs/sha256" / layout.digest
    path.write_bytes(path.read_bytes().replace(b"   ", b" \t ", 1))
    with pytest.raises(IntegrityError, match=layout.digest):
        lock(layout_request("layout"), context(tmp_path))


def test_an_archive_of_too_many_members_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "MAX_MEMBERS", 2)
    images.tar_of(tmp_path / "image.tar", [(str(number), b"") for number in range(3)])
    with pytest.raises(InputError, match="more than 2 members"):
        lock(archive_request("image.tar"), context(tmp_path))


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "expected a docker or OCI archive"),
        ([("repositories", b"{}")], "expected a docker or OCI archive"),
        ([("manifest.json", b"[]")], "found no; images: none"),
        ([("manifest.json", b" " * (4 << 20) + b"[]")], "larger than"),
        ([("manifest.json", b"{}")], "expected a list of tables"),
        ([("manifest.json", b'[{"Config":"c","Layers":[]}]')], "expected a regular file 'c'"),
        ([("manifest.json", b'[{"Config":"../../etc/passwd","Layers":[]}]')], "expected a regular file"),
        ([("manifest.json", b"[]"), ("./manifest.json", b"[]")], "occurs twice"),
        ([("manifest.json", "manifest.json")], "expected a docker or OCI archive"),
        ([("oci-layout", b"{}"), ("index.json", b"{}")], "schemaVersion"),
        ([("c", "/etc/passwd"), ("manifest.json", b'[{"Config":"c","Layers":[]}]')], "expected a regular"),
        ([("c", "../../etc/passwd"), ("manifest.json", b'[{"Config":"c","Layers":[]}]')], "expected a reg"),
    ],
)
def test_archives_that_are_no_image(
    tmp_path: Path, members: list[tuple[str, bytes | str]], message: str
) -> None:
    images.tar_of(tmp_path / "image.tar", members)
    with pytest.raises(InputError, match=message):
        lock(archive_request("image.tar"), context(tmp_path))


def test_layer_and_diff_id_counts_must_agree(tmp_path: Path) -> None:
    members = [*images.docker_members(b"one"), ("x/layer.tar", images.layer_tar("x", b"y"))]
    manifest = json.dumps([images.docker_entry(members, [])]).encode()
    images.tar_of(tmp_path / "image.tar", [*members, ("manifest.json", manifest)])
    with pytest.raises(InputError, match="2 layers, but 1 diff_ids"):
        lock(archive_request("image.tar"), context(tmp_path))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"x" * 2000, mtime=0), "gunzip"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "unzstd"),
        (b"not a tar" * 200, "not a tar archive"),
    ],
)
def test_files_that_are_no_tar(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "image.tar").write_bytes(data)
    with pytest.raises(InputError) as refused:
        lock(archive_request("image.tar"), context(tmp_path))
    assert message in refused.value.message + refused.value.remedy


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    images.docker_archive(tmp_path / "image.tar", ["app:1"], b"x" * 5000)
    data = (tmp_path / "image.tar").read_bytes()
    (tmp_path / "image.tar").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut short"):
        lock(archive_request("image.tar"), context(tmp_path))


def test_a_header_that_claims_gigabytes_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 5 << 30
    with open(tmp_path / "image.tar", "wb") as out:
        out.write(info.tobuf(tarfile.GNU_FORMAT))
        out.truncate(6 << 30)
    with pytest.raises(InputError, match="a tar header claims"):
        lock(archive_request("image.tar"), context(tmp_path))


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.tar: cannot be read"):
        lock(archive_request("nowhere.tar"), context(tmp_path))
    with pytest.raises(InputError, match="regular file") as refused:
        lock(archive_request("."), context(tmp_path))
    assert "layout =" in refused.value.remedy
    with pytest.raises(InputError, match="expected an OCI layout directory"):
        lock(layout_request("nowhere"), context(tmp_path))


def test_a_layout_whose_blobs_are_missing_or_links(tmp_path: Path) -> None:
    layout = images.single(tmp_path / "layout")
    manifest = layout.path / "blobs/sha256" / layout.digest
    layer = layout.path / "blobs/sha256" / json.loads(manifest.read_bytes())["layers"][0]["digest"][7:]
    layer.rename(tmp_path / "moved")
    with pytest.raises(InputError, match="found none"):
        lock(layout_request("layout"), context(tmp_path))
    layer.symlink_to(tmp_path / "moved")
    with pytest.raises(InputError, match="found none"):
        lock(layout_request("layout"), context(tmp_path))


@settings(max_examples=25, deadline=None)
@given(contents=st.lists(st.binary(max_size=1500), min_size=1, max_size=4), compressed=st.booleans())
def test_an_exported_tar_comes_back_as_the_same_image(contents: list[bytes], compressed: bool) -> None:
    with tempfile.TemporaryDirectory() as text:
        home = Path(text)
        layout = images.single(home / "layout", *contents, compression="gzip" if compressed else "")
        where = context(home)
        artifact, _ = lock(layout_request("layout"), where)
        containers.fetch(artifact, where)
        with open(home / "image.tar", "wb") as out:
            write_image_tar(out, TarImage("r.example/a:1", artifact.root, where.target.platform), where.store)
        again, _ = lock(archive_request("image.tar:r.example/a:1"), where)
        assert (again.root, again.image) == (layout.digest, "r.example/a:1")
        docker = DockerImage.named(TarFiles(home / "image.tar", "image.tar"), "", where.progress)
        derived = parse_image(docker.top().data, "derived")
    assert isinstance(derived, ImageManifest)
    files = list(dict.fromkeys([derived.config.digest, *(layer.digest for layer in derived.layers)]))
    assert files == [file.sha256 for file in artifact.files[1:]]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_to_an_archive_is_an_airgap_error(tmp_path: Path, data: st.DataObject) -> None:
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in (("x" * 120, b"1"), ("manifest.json", b"[]"), ("blobs/é", b"2")):
            info = tarfile.TarInfo(name)
            info.size, info.pax_headers = len(text), {"comment": "y"}
            tar.addfile(info, io.BytesIO(text))
    damaged = bytearray(whole.getvalue()[: 512 * 12])
    for _ in range(data.draw(st.integers(1, 4))):
        block = 512 * data.draw(st.integers(0, 11))
        position = block + data.draw(st.integers(0, 511))
        damaged[position] = data.draw(st.integers(0, 255))
        # A header that sums up again, so that damage reaches the reading of its fields.
        if position < block + 148 or position >= block + 156:
            total = sum(damaged[block : block + 148]) + 8 * 32 + sum(damaged[block + 156 : block + 512])
            damaged[block + 148 : block + 156] = b"%06o\0 " % total
    path = tmp_path / "damaged.tar"
    path.write_bytes(damaged)
    with contextlib.suppress(AirgapError):
        TarFiles(path, "damaged.tar")
