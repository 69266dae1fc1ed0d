"""`airgap load` into real engines: podman, skopeo, containerd, dockerd; and what is said when one cannot."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airgap.cli import run
from airgap.errors import HostError
from airgap.image_tar import TarImage
from airgap.isolated.engines import choose_engine, make_engine, shortened
from airgap.isolated.export import fallback_name
from airgap.model import ContainerArtifact, Platform, Sha256
from airgap.oci import Reference
from tests import bundles, images
from tests.isolated import containers, engines
from tests.services import need

NAME = "registry.example/team/hello:1"


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bundles.Content:
    return containers.single("hello", tmp_path_factory.mktemp("image"), b"hello", reference=NAME)


@pytest.fixture(scope="module")
def digest(image: bundles.Content) -> str:
    assert isinstance(image.artifact, ContainerArtifact)
    return f"sha256:{image.artifact.digest}"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, image: bundles.Content) -> Path:
    """A site with three images: one with a tag, one without, one for two platforms."""
    scratch = tmp_path_factory.mktemp("load")
    unnamed = containers.single("unnamed", scratch / "unnamed", b"no name")
    several = containers.several(
        "several",
        scratch / "several",
        "linux/amd64",
        "linux/arm64",
        reference="registry.example/team/several:2",
    )
    bundle = bundles.write_bundle(scratch / "b", [image, unnamed, several], version="1.0+cu128")
    made = bundles.pin(scratch / "the, #1 site")
    assert run(["install", str(bundle), "--site", str(made)]) == 0
    return made


@pytest.fixture
def podman(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    need("podman", "skopeo")
    with engines.podman_storage() as environment:
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        yield


def load(site: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    assert run(["load", "--site", str(site), "--json", *options]) == 0
    document: dict[str, object] = json.loads(capsys.readouterr().out)
    return document


def ids(content: bundles.Content) -> set[str]:
    """The digests an engine may call this image by."""
    kinds = ("manifest.v1+json", "config.v1+json")
    return {f"sha256:{f.sha256}" for f in content.artifact.files if f.media_type.endswith(kinds)}


def test_podman_holds_what_was_signed(
    podman: None, site: Path, image: bundles.Content, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = load(site, capsys, "hello", "--engine", "podman")
    assert shown["digest"] == digest and shown["digest_kept"] is True and shown["id"] in ids(image)
    (held,) = engines.podman_images()
    assert held["Names"] == [NAME]
    assert held["Digest"] == digest
    assert f"sha256:{held['Id']}" == shown["id"]


def test_an_image_without_a_tag_gets_a_name(
    podman: None, site: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shown = load(site, capsys, "unnamed", "--engine", "podman")
    assert shown["image"] == "localhost/airgap/unnamed:1.0-cu128"
    (held,) = engines.podman_images()
    assert held["Names"] == ["localhost/airgap/unnamed:1.0-cu128"]
    assert run(["export", "unnamed", "--site", str(site), "-o", str(tmp_path / "x.tar")]) == 0
    assert "localhost/airgap/unnamed:1.0-cu128" in capsys.readouterr().out


def test_another_name_can_be_chosen(podman: None, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        load(site, capsys, "hello", "--engine", "podman", "--as", "registry.lan/x:7")["digest_kept"] is True
    )
    (held,) = engines.podman_images()
    assert held["Names"] == ["registry.lan/x:7"]
    pinned = f"x@sha256:{'0' * 64}"
    assert run(["load", "hello", "--site", str(site), "--engine", "podman", "--as", pinned]) == 3
    assert "expected NAME:TAG" in capsys.readouterr().err


def test_of_several_platforms_podman_takes_its_own(
    podman: None, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = load(site, capsys, "several", "--engine", "podman")
    assert shown["image"] == "registry.example/team/several:2"


def test_skopeo_fills_a_directory_and_the_storage(
    podman: None, site: Path, digest: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = load(site, capsys, "hello", "--engine", "skopeo", "--to", f"dir:{tmp_path}/out")
    assert (shown["id"], shown["digest_kept"]) == (digest, True)
    assert images.sha256((tmp_path / "out" / "manifest.json").read_bytes()) == digest[7:]
    load(site, capsys, "hello", "--engine", "skopeo")
    (held,) = engines.podman_images()
    assert (held["Names"], held["Digest"]) == ([NAME], digest)


def test_skopeo_copies_the_platform_asked_for(
    podman: None, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = load(
        site,
        capsys,
        *("several", "--engine", "skopeo", "--platform", "linux/arm64", "--to", f"dir:{tmp_path}/out"),
    )
    manifest = (tmp_path / "out" / "manifest.json").read_bytes()
    assert shown["id"] == f"sha256:{images.sha256(manifest)}" and shown["digest_kept"] is False
    config = json.loads(manifest)["config"]["digest"].removeprefix("sha256:")
    assert json.loads((tmp_path / "out" / config).read_bytes())["architecture"] == "arm64"


def test_containerd_holds_what_was_signed(
    site: Path, digest: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("ctr", "containerd")
    if os.getuid():
        pytest.skip("containerd runs as root")
    with engines.containerd() as environment:
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        shown = load(site, capsys, "hello", "--engine", "ctr", "--namespace", "k8s.io")
        assert (shown["id"], shown["digest_kept"]) == (digest, True)
        listed = subprocess.run(
            ["ctr", "-n", "k8s.io", "images", "ls"], capture_output=True, check=True
        ).stdout
        assert NAME in listed.decode() and digest in listed.decode()
        assert load(site, capsys, "several", "--engine", "ctr")["digest_kept"] is True


def test_docker_holds_what_was_signed(
    site: Path, image: bundles.Content, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not shutil.which("dockerd") or not shutil.which("docker") or os.getuid():
        pytest.skip("dockerd is not here, or not for this user")
    with engines.dockerd() as environment:
        for key, value in environment.items():
            monkeypatch.setenv(key, value)
        shown = load(site, capsys, "hello", "--engine", "docker")
        assert shown["id"] in ids(image)
        listed = subprocess.run(["docker", "images", "--no-trunc"], capture_output=True, check=True).stdout
        assert str(shown["id"]) in listed.decode()


# ------------------------------------------------------------------ what goes wrong


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert run(["load", *arguments]) == code
    return capsys.readouterr().err


def test_the_engine_must_be_here_and_be_the_only_one(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    here = tmp_path / "bin"
    here.mkdir()
    monkeypatch.setenv("PATH", str(here))
    assert "expected one container engine, found none" in refused(capsys, 9, "hello", "--site", str(site))
    engines.program(here, "skopeo", "exit 1")
    assert choose_engine(None) == "skopeo"
    engines.program(here, "podman", "exit 1")
    assert choose_engine(None) == "podman"
    engines.program(here, "docker", "exit 1")
    assert "found docker, podman" in refused(capsys, 9, "hello", "--site", str(site))
    assert "ctr is not installed here" in refused(capsys, 9, "hello", "--site", str(site), "--engine", "ctr")


def test_options_an_engine_does_not_have_are_refused(
    podman: None, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("hello", "--site", str(site), "--engine", "podman")
    assert "no namespaces" in refused(capsys, 3, *common, "--namespace", "k8s.io")
    assert "--to is for" in refused(capsys, 3, *common, "--to", "dir:x")


def test_a_container_that_is_not_installed_is_named(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "its containers: hello, several, unnamed" in refused(
        capsys, 3, "nothing", "--site", str(site), "--engine", "skopeo"
    )


def test_a_refusal_is_told_in_the_engines_words(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A fake podman, because a real one cannot be told to fail so; it reads nothing and ends at once."""
    engines.program(tmp_path / "bin", "podman", "printf 'no space\\033[31m left' >&2; exit 125")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    said = refused(capsys, 9, "hello", "--site", str(site), "--engine", "podman")
    assert "podman refused, with exit code 125: no space?[31m left" in said


def test_an_engine_that_ends_early_and_says_well_is_not_believed(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    big = containers.single("big", tmp_path / "layout", os.urandom(1_000_000))
    other = bundles.pin(tmp_path / "site")
    assert run(["install", str(bundles.write_bundle(tmp_path / "b", [big])), "--site", str(other)]) == 0
    engines.program(tmp_path / "bin", "podman", "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    said = refused(capsys, 9, "big", "--site", str(other), "--engine", "podman")
    assert "the reader of the tar ended before the tar did" in said


@pytest.mark.parametrize(
    ("answer", "code", "words"),
    [
        ('[{"Id": "' + "a" * 64 + '"}]', 6, "which is no part of the signed image"),
        ('[{"Id": "short"}]', 9, "cannot be read"),
        ("[]", 9, "cannot be read"),
        ("not JSON", 9, "cannot be read"),
        ('[{"Id": "' + "a" * 64 + '", "RepoDigests": ["x"]}]', 9, "cannot be read"),
    ],
)
def test_the_engines_word_is_checked(
    site: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    answer: str,
    code: int,
    words: str,
) -> None:
    """A fake podman that takes everything and then answers as the case says."""
    script = f"[ \"$1\" = load ] && exec cat >{tmp_path}/taken; cat <<'END'\n{answer}\nEND"
    engines.program(tmp_path / "bin", "podman", script)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    assert words in refused(capsys, code, "hello", "--site", str(site), "--engine", "podman")
    exported = tmp_path / "x.tar"
    assert run(["export", "hello", "--site", str(site), "-o", str(exported)]) == 0
    assert (tmp_path / "taken").read_bytes() == exported.read_bytes()


def test_a_damaged_blob_never_becomes_an_image(
    podman: None, image: bundles.Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(tmp_path / "site")
    assert run(["install", str(bundles.write_bundle(tmp_path / "b", [image])), "--site", str(site)]) == 0
    blob = site / "blobs" / "sha256" / image.artifact.files[-1].sha256
    blob.write_bytes(b"x" * blob.stat().st_size)
    assert "is not the" in refused(capsys, 6, "hello", "--site", str(site), "--engine", "podman")
    assert "skopeo refused" in refused(capsys, 9, "hello", "--site", str(site), "--engine", "skopeo")
    assert engines.podman_images() == []


def test_an_engine_that_hangs_does_not_outlive_an_interrupt(site: Path, tmp_path: Path) -> None:
    engines.program(
        tmp_path / "bin",
        "podman",
        f"echo $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 60",
    )
    big = containers.single("big", tmp_path / "layout", os.urandom(1_000_000))
    other = bundles.pin(tmp_path / "site")
    assert run(["install", str(bundles.write_bundle(tmp_path / "b", [big])), "--site", str(other)]) == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "airgap", "load", "big", "--site", str(other), "--engine", "podman"],
        env={**os.environ, "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"},
        stderr=subprocess.PIPE,
    )
    while not (tmp_path / "pid").exists():
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=10)
    assert process.returncode == 130 and b"interrupted" in said
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


# ------------------------------------------------------------------ pure parts


@settings(max_examples=30)
@given(
    st.from_regex(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", fullmatch=True),
    st.from_regex(r"[0-9A-Za-z]+(?:[._+-][0-9A-Za-z]+)*", fullmatch=True),
)
def test_a_fallback_name_is_a_reference(name: str, version: str) -> None:
    made = fallback_name(name[:60].rstrip("._-"), version)
    assert Reference.parse(made).tagged == made


@given(st.binary(max_size=2000))
def test_whatever_an_engine_says_fits_a_line(said: bytes) -> None:
    line = shortened(said)
    assert line.isprintable() and len(line) <= 401


@given(st.binary(max_size=300), st.sampled_from(["podman", "docker", "nerdctl", "ctr"]))
def test_any_answer_is_read_or_refused(answer: bytes, name: str) -> None:
    engine = make_engine(name, TarImage(NAME, Sha256("0" * 64), Platform("linux", "amd64")))
    try:
        engine.read(answer)
    except HostError as error:
        assert "cannot be read" in error.message
