"""Virtual environments of a wheels set, made by real Pythons and their real pip; and hosts that cannot."""

import json
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest

from airgap.cli import run
from airgap.errors import HostError, InputError, IntegrityError
from airgap.isolated.host import Interpreter, ask, judge_interpreter, judge_machine, this_interpreter
from airgap.isolated.site import Site
from airgap.isolated.venv import MARKER, VenvRequest, make_venv
from airgap.isolated.wheels import requirements
from airgap.model import BundlePath, Package, Platform, Target, WheelsArtifact
from airgap.progress import Silent
from tests import bundles

HERE = Target(
    "{}.{}".format(*sys.version_info[:2]),
    Platform("linux", {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]),
    "2.28",
)


@pytest.fixture(autouse=True)
def _for_this_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "TARGET", HERE)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    return bundles.pin(tmp_path / "the #1 site")


def requiring(wheel: tuple[str, bytes], requirement: str) -> tuple[str, bytes]:
    """The same wheel with a dependency."""
    name, data = wheel
    out = BytesIO()
    with zipfile.ZipFile(BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for info in old.infolist():
            text = old.read(info)
            if info.filename.endswith("/METADATA"):
                text += f"Requires-Dist: {requirement}\n".encode()
            new.writestr(info, text)
    return name, out.getvalue()


def bundle(path: Path, *wheels: tuple[str, bytes], sequence: int = 1, name: str = "serving") -> Path:
    return bundles.write_bundle(path, [bundles.wheels(name, dict(wheels))], sequence=sequence)


def install(site: Path, bundle: Path, *options: object) -> int:
    return run(["install", str(bundle), "--site", str(site), *map(str, options)])


def python(venv: Path, code: str) -> str:
    command = [str(venv / "bin" / "python"), "-I", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def installed(venv: Path) -> Path:
    return venv.parent / os.readlink(venv)


def is_empty(site: Path) -> bool:
    return not any((site / "blobs" / "sha256").iterdir()) and not (site / "current").exists()


# ------------------------------------------------------------------ made


def test_a_venv_is_made_replaced_and_kept_when_the_next_one_fails(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One story, because each venv costs seconds. pip's settings of this host have no say in it."""
    monkeypatch.setenv("PIP_NO_BINARY", ":all:")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "nowhere"))
    venv = tmp_path / "a venv"
    first = bundle(tmp_path / "1", bundles.wheel("alpha"), requiring(bundles.wheel("beta"), "alpha>=1"))
    assert install(site, first, "--venv", venv) == 0
    assert f"{venv}: 2 packages of serving for " in capsys.readouterr().out
    assert python(venv, "import alpha, beta; print(alpha.VERSION, beta.VERSION)") == "1.0 1.0"
    assert python(venv, "import sys; print(sys.prefix != sys.base_prefix)") == "True"
    script = subprocess.run([venv / "bin" / "pip", "--version"], capture_output=True, text=True, check=True)
    assert str(installed(venv)) in script.stdout
    before = installed(venv)
    assert json.loads((before / MARKER).read_text())["generation"] == 1

    second = bundle(tmp_path / "2", bundles.wheel("alpha", "2.0"), sequence=2)
    assert install(site, second, "--venv", venv) == 0
    assert python(venv, "import alpha; print(alpha.VERSION)") == "2.0"
    assert not before.exists()
    assert python(venv, "import importlib.util as u; print(u.find_spec('beta'))") == "None"

    current = installed(venv)
    (tmp_path / "a venv.deadbeef").mkdir()
    (tmp_path / "a venv.deadbeef" / MARKER).touch()  # as a killed run leaves one
    (tmp_path / "a venv.cafecafe").mkdir()  # somebody else's
    broken = bundle(tmp_path / "3", requiring(bundles.wheel("alpha", "3.0"), "gamma"), sequence=3)
    capsys.readouterr()
    assert install(site, broken, "--venv", venv) == HostError.exit_code
    said = capsys.readouterr().err
    assert "the packages of serving do not fit together" in said and "gamma" in said
    assert installed(venv) == current
    assert python(venv, "import alpha; print(alpha.VERSION)") == "2.0"
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith("a venv")}
    assert left == {"a venv", current.name, "a venv.cafecafe"}


def test_pip_of_the_set_is_used_where_the_set_holds_it(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With it a Python without ensurepip will do; tests/test_installer.py runs one."""
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "-d", str(tmp_path / "w")]
    subprocess.run([*download, "pip==26.3"], check=True, capture_output=True)
    pip = next((tmp_path / "w").iterdir())
    made = bundle(tmp_path / "b", bundles.wheel("alpha"), (pip.name, pip.read_bytes()))
    assert install(site, made, "--venv", tmp_path / "v", "--json") == 0
    shown = json.loads(capsys.readouterr().out)["venv"]
    assert (shown["set"], shown["packages"]) == ("serving", 2)
    assert python(tmp_path / "v", "import alpha, pip; print(pip.__version__)") == "26.3"


def test_a_wheel_that_changed_in_the_site_is_not_installed(site: Path, tmp_path: Path) -> None:
    assert install(site, bundle(tmp_path / "b", bundles.wheel("alpha"))) == 0
    [wheel] = (site / "current" / "wheels" / "serving").glob("alpha-*.whl")
    name, other = bundles.wheel("alpha", "1.0")
    wheel.write_bytes(requiring((name, other), "anything")[1])
    with pytest.raises(IntegrityError, match="not the locked one"):
        make_venv(Site(site), VenvRequest(tmp_path / "v"), asked="test", progress=Silent())
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("v")]


# ------------------------------------------------------------------ refused before anything is copied


def refused(site: Path, bundle: Path, capsys: pytest.CaptureFixture[str], *options: object) -> str:
    assert install(site, bundle, *options) == HostError.exit_code
    assert is_empty(site)
    return capsys.readouterr().err


def test_the_wrong_python_is_refused(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "TARGET", replace(HERE, python="3.99"))
    made = bundle(tmp_path / "b", bundles.wheel("alpha"))
    assert "no python3.99 is on the PATH" in refused(site, made, capsys, "--venv", tmp_path / "v")
    said = refused(site, made, capsys, "--venv", tmp_path / "v", "--python", sys.executable)
    assert f"are for CPython 3.99; this is cpython {HERE.python}" in said
    assert not (tmp_path / "v").exists()


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (replace(HERE, glibc="2.99"), "the wheels may need glibc 2.99; this host has glibc 2."),
        (replace(HERE, platform=Platform("linux", "s390x")), "the wheels are for s390x (linux/s390x)"),
    ],
)
def test_the_wrong_host_is_refused(
    site: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    target: Target,
    said: str,
) -> None:
    monkeypatch.setattr(bundles, "TARGET", target)
    made = bundle(tmp_path / "b", bundles.wheel("alpha"))
    assert said in refused(site, made, capsys, "--venv", tmp_path / "v")


def test_a_python_that_is_none_is_refused(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = bundle(tmp_path / "b", bundles.wheel("alpha"))
    venv = ("--venv", tmp_path / "v", "--python")
    assert "found another program" in refused(site, made, capsys, *venv, "/bin/echo")
    assert "found no program there" in refused(site, made, capsys, *venv, tmp_path / "absent")


@pytest.mark.parametrize("kind", ["directory", "file", "link", "unmarked"])
def test_what_airgap_did_not_make_is_not_replaced(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    venv = tmp_path / "v"
    if kind == "directory":
        venv.mkdir()
        (venv / MARKER).touch()
    elif kind == "file":
        venv.touch()
    else:
        target = {"link": "mine", "unmarked": "v.cafecafe"}[kind]
        (tmp_path / target).mkdir()
        if kind == "link":
            (tmp_path / target / MARKER).touch()
        venv.symlink_to(target)
    made = bundle(tmp_path / "b", bundles.wheel("alpha"))
    assert "airgap did not make it" in refused(site, made, capsys, "--venv", venv)
    assert os.path.lexists(venv)


def test_a_place_that_is_not_there_is_said(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = bundle(tmp_path / "b", bundles.wheel("alpha"))
    assert "expected a directory to write to" in refused(site, made, capsys, "--venv", tmp_path / "no" / "v")


def test_one_set_must_be_meant(site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    two = [bundles.wheels("one", dict([bundles.wheel("alpha")])), bundles.wheels("two", {})]
    two[1] = bundles.wheels("two", dict([bundles.wheel("beta")]))
    made = bundles.write_bundle(tmp_path / "b", two)
    for options in ([], ["--set", "three"]):
        assert install(site, made, "--venv", tmp_path / "v", *options) == InputError.exit_code
        assert "found: one, two" in capsys.readouterr().err
        assert is_empty(site)
    none = bundles.write_bundle(tmp_path / "none", [bundles.file("notes", b"text")])
    assert install(site, none, "--venv", tmp_path / "v") == InputError.exit_code
    assert "found: none" in capsys.readouterr().err
    assert install(site, made, "--set", "one") == 2


def test_a_dry_run_judges_the_venv_and_makes_none(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = bundle(tmp_path / "b", bundles.wheel("alpha"))
    assert install(site, made, "--dry-run", "--venv", tmp_path / "v") == 0
    assert not os.path.lexists(tmp_path / "v")
    assert install(site, made, "--dry-run", "--venv", tmp_path / "v", "--set", "x") == InputError.exit_code


# ------------------------------------------------------------------ a plain install only warns


def test_a_plain_install_warns_before_it_copies(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "TARGET", replace(HERE, python="3.99"))
    made = bundle(tmp_path / "b", bundles.wheel("alpha"))
    blob = max((made / "blobs" / "sha256").iterdir(), key=lambda path: b"alpha.py" in path.read_bytes())
    blob.write_bytes(blob.read_bytes()[:-1] + b"x")
    assert install(site, made) == IntegrityError.exit_code
    said = capsys.readouterr().err
    assert said.index("[host-python]") < said.index("is not what was signed")
    bundle(tmp_path / "b", bundles.wheel("alpha"))
    assert install(site, made, "--json") == 0
    [finding] = json.loads(capsys.readouterr().out)["findings"]
    assert (finding["code"], finding["severity"]) == ("host-python", "warning")


def test_a_bundle_without_wheels_asks_nothing_of_the_host(
    site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundles, "TARGET", replace(HERE, python="3.99", glibc="2.99"))
    made = bundles.write_bundle(tmp_path / "b", [bundles.file("notes", b"text")])
    assert install(site, made) == 0
    assert "host-" not in capsys.readouterr().err


# ------------------------------------------------------------------ the judgement alone


def test_an_interpreter_says_the_same_asked_or_running() -> None:
    here = this_interpreter()
    assert ask(sys.executable) == here
    assert list(judge_interpreter(HERE, here)) == []


def test_musl_and_pypy_are_named() -> None:
    musl = Interpreter("/usr/bin/python3", HERE.python, "cpython", os.uname().machine, "", True, True)
    assert [finding.code for finding in judge_machine(HERE, musl)] == ["host-glibc"]
    pypy = replace(this_interpreter(), implementation="pypy")
    assert [finding.code for finding in judge_interpreter(HERE, pypy)] == ["host-python"]


@pytest.mark.parametrize(("glibc", "fits"), [("2.9", False), ("2.28", True), ("2.100", True), ("3.0", True)])
def test_glibc_versions_are_numbers(glibc: str, fits: bool) -> None:
    found = replace(this_interpreter(), glibc=glibc)
    assert (not list(judge_machine(HERE, found))) is fits


def artifact(name: str, version: str, file: str) -> WheelsArtifact:
    locked = bundles.wheels("x", {"alpha-1.0-py3-none-any.whl": b""}).artifact.files[0]
    locked = replace(locked, path=BundlePath(file))
    package = Package(name, version, BundlePath(file))
    return WheelsArtifact("x", "0" * 64, (), HERE.python, (package,), (locked,))


def test_requirements_pin_version_and_digest() -> None:
    wheels = artifact("torch", "2.13.0+cpu", "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl")
    assert requirements(wheels).decode() == f"torch==2.13.0+cpu --hash=sha256:{wheels.files[0].sha256}\n"


@pytest.mark.parametrize(
    ("name", "version", "file"),
    [
        ("--index-url", "1", "a-1-py3-none-any.whl"),
        ("a\n-r /etc/passwd #", "1", "a-1-py3-none-any.whl"),
        ("a", "1 --hash=sha256:0", "a-1-py3-none-any.whl"),
    ],
)
def test_requirements_cannot_be_made_to_say_more(name: str, version: str, file: str) -> None:
    with pytest.raises(InputError):
        requirements(artifact(name, version, file))
