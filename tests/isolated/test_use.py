"""What the isolated side does with a site afterwards, offline and without airgap: real clients only."""

import json
import os
import subprocess
import sys
import tempfile
import venv
from collections.abc import Mapping
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.isolated.environment import render_environment
from airgap.model import ContainerArtifact
from tests import bundles
from tests.isolated.sites import snapshot
from tests.services import need

UV = Path(sys.executable).with_name("uv")
HF = Path(sys.executable).with_name("hf")
SAFETENSORS = (8).to_bytes(8, "little") + b"{}      "


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bundles.Content:
    return bundles.container("hello", tmp_path_factory.mktemp("image") / "layout")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, image: bundles.Content) -> Path:
    """A site with two real wheels from the index, a model, an image; its path holds a space."""
    scratch = tmp_path_factory.mktemp("use")
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "-d"]
    subprocess.run(
        [*download, scratch / "wheels", "six==1.17.0", "idna==3.10"], check=True, capture_output=True
    )
    real = {path.name: path.read_bytes() for path in (scratch / "wheels").iterdir()}
    second = bundles.wheels("second", dict([bundles.wheel("alpha")]))
    weights = {"config.json": b'{"model_type": "bert"}', "sub/model.safetensors": SAFETENSORS}
    model = bundles.model("tiny", weights, repo="example/tiny")
    bundle = bundles.write_bundle(scratch / "b", [bundles.wheels("serving", real), second, model, image])
    made = bundles.pin(scratch / "the, #1 site")
    assert run(["install", str(bundle), "--site", str(made)]) == 0
    return made


def offline(**extra: str) -> dict[str, str]:
    """This process's environment without its package sources, proxies leading nowhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "UV_", "HF_"))}
    dead = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
    return kept | dead | {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1", "NO_PROXY": ""} | extra


def call(*command: object, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env or offline(),
        text=True,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of an empty venv; our pip installs into it by --python."""
    venv.create(tmp_path / "venv", with_pip=False)
    return tmp_path / "venv" / "bin" / "python"


IMPORT = "import six, idna; print(six.__version__, idna.__version__)"


def test_pip_installs_the_lock_from_the_directory(site: Path, python: Path) -> None:
    wheels = site / "current" / "wheels" / "serving"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-index"]
    call(*pip, "--find-links", ".", "-r", "pylock.serving.toml", cwd=wheels)
    assert call(python, "-c", IMPORT) == "1.17.0 3.10\n"


def test_the_pip_that_comes_with_python_installs_the_lock_too(site: Path, tmp_path: Path) -> None:
    wheels = site / "current" / "wheels" / "serving"
    venv.create(tmp_path / "old", with_pip=True)
    python = tmp_path / "old" / "bin" / "python"
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--require-hashes"]
    call(*pip, "--find-links", ".", "-r", "requirements.txt", cwd=wheels)
    assert call(python, "-c", IMPORT) == "1.17.0 3.10\n"


def test_pip_installs_from_the_simple_index(site: Path, python: Path) -> None:
    index = (site / "current" / "wheels" / "serving" / "simple").as_uri()
    call(sys.executable, "-m", "pip", "--python", python, "install", "--index-url", index, "six", "idna")
    assert call(python, "-c", IMPORT) == "1.17.0 3.10\n"


def test_uv_installs_the_lock_from_the_directory(site: Path, python: Path) -> None:
    wheels = site / "current" / "wheels" / "serving"
    uv = [UV, "pip", "install", "--offline", "--no-cache", "--python", python, "--no-index"]
    call(*uv, "--preview", "-r", "pylock.serving.toml", cwd=wheels)
    assert call(python, "-c", IMPORT) == "1.17.0 3.10\n"


def test_uv_installs_from_the_simple_index(site: Path, python: Path) -> None:
    index = (site / "current" / "wheels" / "serving" / "simple").as_uri()
    call(UV, "pip", "install", "--no-cache", "--python", python, "--index-url", index, "six", "idna")
    assert call(python, "-c", IMPORT) == "1.17.0 3.10\n"


def test_the_json_index_says_what_the_html_says(site: Path) -> None:
    simple = site / "current" / "wheels" / "serving" / "simple"
    assert json.loads((simple / "index.json").read_bytes())["projects"] == [{"name": "idna"}, {"name": "six"}]
    (entry,) = json.loads((simple / "six" / "index.json").read_bytes())["files"]
    page = (simple / "six" / "index.html").read_text()
    assert f'href="{entry["url"]}#sha256={entry["hashes"]["sha256"]}"' in page
    assert (simple / "six" / entry["url"]).stat().st_size == entry["size"]


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_env_sh_is_all_that_pip_and_uv_need(site: Path, python: Path, shell: str) -> None:
    script = """
        . "$1/current/env.sh"
        "$2" -m pip --python "$3" install six alpha >&2 &&
        "$4" pip install --no-cache --python "$3" idna >&2 &&
        printf '%s\\n' "$HF_HUB_CACHE" "$HF_HUB_OFFLINE"
    """
    shown = call(shell, "-c", script, shell, site, sys.executable, python, UV)
    assert shown == f"{site}/current/hub\n1\n"
    assert call(python, "-c", IMPORT + "; import alpha") == "1.17.0 3.10\n"


def test_env_sh_follows_a_site_that_moved(site: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").symlink_to(site)
    assert (
        call("bash", "-c", f". '{tmp_path}/moved/current/env.sh'; echo $HF_HUB_CACHE")
        == f"{tmp_path}/moved/current/hub\n"
    )
    told = offline(AIRGAP_SITE=f"{tmp_path}/moved")
    assert (
        call("dash", "-c", f". '{site}/current/env.sh'; echo $HF_HUB_CACHE", env=told)
        == f"{tmp_path}/moved/current/hub\n"
    )


@pytest.mark.parametrize("name", ["/srv/$(touch owned)'s", '/srv/a}b"c', "/srv/two\nexit 3", "/srv/\\n`x`"])
@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_env_sh_quotes_hostile_site_names(name: str, shell: str) -> None:
    text = render_environment(Path(name), []).decode()
    assert call(shell, "-c", text + '\nprintf %s "$HF_HUB_CACHE"') == f"{name}/current/hub"


def test_the_hub_client_finds_the_model_by_its_repository(site: Path) -> None:
    code = (
        "import huggingface_hub as h;"
        "print(open(h.hf_hub_download('example/tiny', 'config.json')).read());"
        "print(h.snapshot_download('example/tiny'))"
    )
    env = offline(HF_HUB_CACHE=str(site / "current" / "hub"), HF_HUB_OFFLINE="1")
    before = snapshot(site)
    config, found = call(sys.executable, "-c", code, env=env).splitlines()
    assert config == '{"model_type": "bert"}'
    assert (Path(found) / "sub" / "model.safetensors").read_bytes() == SAFETENSORS
    assert snapshot(site) == before


def test_the_hub_command_writes_nothing_into_the_site(site: Path, tmp_path: Path) -> None:
    before = snapshot(site)
    script = '. "$1/current/env.sh"; "$2" cache ls'
    shown = call("bash", "-c", script, "bash", site, HF, env=offline(HOME=str(tmp_path)))
    assert "example/tiny" in shown
    assert snapshot(site) == before


def test_the_catalogue_holds_plain_files(site: Path) -> None:
    catalogue = site / "current" / "models" / "tiny"
    assert (catalogue / "sub" / "model.safetensors").read_bytes() == SAFETENSORS
    assert not any(path.is_symlink() for path in catalogue.rglob("*"))


def test_skopeo_reads_the_site_as_an_oci_layout(site: Path, image: bundles.Content) -> None:
    need("skopeo")
    assert isinstance(image.artifact, ContainerArtifact)
    inspected = json.loads(call("skopeo", "inspect", f"oci:{site}:hello"))
    assert inspected["Digest"] == f"sha256:{image.artifact.digest}"


def test_podman_loads_the_exported_tar_with_its_digest(
    site: Path, image: bundles.Content, tmp_path: Path
) -> None:
    need("podman", "skopeo")
    assert isinstance(image.artifact, ContainerArtifact)
    tar = tmp_path / "hello.tar"
    assert run(["export", "hello", "-o", str(tar), "--site", str(site)]) == 0
    assert (
        json.loads(call("skopeo", "inspect", f"oci-archive:{tar}"))["Digest"]
        == f"sha256:{image.artifact.digest}"
    )
    with tempfile.TemporaryDirectory(prefix="pod") as short:  # podman refuses a runroot above 50 characters
        podman = ["podman", "--root", f"{short}/root", "--runroot", f"{short}/run", "--storage-driver", "vfs"]
        call(*podman, "load", "-i", tar)
        (loaded,) = json.loads(call(*podman, "images", "--format", "json"))
    assert loaded["Names"] == ["registry.example/team/hello:1"]
    assert loaded["Digest"] == f"sha256:{image.artifact.digest}"


def test_export_streams_the_same_bytes_to_stdout(site: Path, tmp_path: Path) -> None:
    tar = tmp_path / "hello.tar"
    assert run(["export", "hello", "-o", str(tar), "--site", str(site)]) == 0
    command = [sys.executable, "-m", "airgap", "export", "hello", "-o", "-", "--site", str(site)]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stdout == tar.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["hello.tar"]


def test_export_names_what_is_there(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "x.tar"
    assert run(["export", "serving", "-o", str(output), "--site", str(site)]) == 3
    assert "its containers: hello" in capsys.readouterr().err
    assert run(["export", "hello", "-o", str(output), "--site", str(site), "--platform", "linux/arm64"]) == 3
    assert not output.exists()


def test_export_leaves_nothing_when_a_blob_is_damaged(
    image: bundles.Content, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = bundles.pin(tmp_path / "site")
    assert run(["install", str(bundles.write_bundle(tmp_path / "b", [image])), "--site", str(site)]) == 0
    blob = site / "blobs" / "sha256" / image.artifact.files[-1].sha256
    blob.write_bytes(b"x" * blob.stat().st_size)
    (tmp_path / "out").mkdir()
    assert run(["export", "hello", "-o", str(tmp_path / "out" / "x.tar"), "--site", str(site)]) == 6
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize("verb", [["export", "hello"], ["receipt"], ["inventory"]], ids=lambda verb: verb[0])
def test_what_is_written_for_the_user_overwrites_nothing(site: Path, tmp_path: Path, verb: list[str]) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    for path in tmp_path.iterdir():
        assert run([*verb, "-o", str(path), "--site", str(site)]) == 3
    assert (tmp_path / "kept").read_text() == "kept" and (tmp_path / "fifo").is_fifo()
    assert len(list(tmp_path.iterdir())) == 3 and (tmp_path / "link").is_symlink()
    assert run([*verb, "-o", str(tmp_path / "new"), "--site", str(site)]) == 0


def test_a_page_replaces_a_page_and_no_device(site: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert run(["diff", str(site), str(site), "--html", str(tmp_path / "fifo")]) == 3
    assert (tmp_path / "fifo").is_fifo()
    for _ in range(2):
        assert run(["diff", str(site), str(site), "--html", str(tmp_path / "page.html")]) == 0
