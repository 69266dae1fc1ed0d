"""Code that serves, named by a path: against the vLLM of wheels that nobody has fetched, or of an image."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from airgap.cli import run
from airgap.connected import serving_code
from airgap.connected.serving_code import read_given
from airgap.errors import InputError
from tests.readiness.served import NEW, VLLM, image

Capture = pytest.CaptureFixture[str]

OLD_API = "import json\nfrom vllm.inputs.data import TokensPrompt\n"
NEW_API = "from vllm.inputs import TokensPrompt\n"
HEAD = """[bundle]
name = "m"
version = "1"
[target]
python = "3.12"
platform = "linux/amd64"
glibc = "2.35"
"""


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheels set `serving` with a vLLM whose inputs moved, in a directory of wheels."""
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    files = {
        "vllm/__init__.py": "",
        "vllm/inputs/__init__.py": "class TokensPrompt: ...\n",
        "vllm/lazy.py": "def __getattr__(name): ...\n",
        "vllm-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: vllm\nVersion: 1.0\n",
        "vllm-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nTag: py3-none-any\n",
    }
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "vllm-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
    path = tmp_path / "m.toml"
    path.write_text(
        f'{HEAD}[[wheels]]\nname = "serving"\nrequirements = ["vllm==1.0"]\nfind-links = ["wheels"]\n'
    )
    return path


def checked(capsys: Capture, *arguments: object) -> tuple[int, list[dict[str, Any]]]:
    capsys.readouterr()
    code = run(["check", *map(str, arguments), "--json"])
    document = json.loads(capsys.readouterr().out)
    judged = [j for component in document["components"] for j in component["judgements"]]
    return code, [j for j in judged if j["rule"] in ("imports", "evidence")]


def write(root: Path, **files: str) -> Path:
    root.mkdir(exist_ok=True)
    for name, text in files.items():
        (root / f"{name}.py").write_text(text)
    return root


@pytest.mark.parametrize("form", ["directory", "file", "for the set"])
def test_a_backend_that_imports_what_its_vllm_lacks_is_blocked_with_file_and_line(
    form: str, manifest: Path, tmp_path: Path, capsys: Capture
) -> None:
    code = write(tmp_path / "backend", model=OLD_API, fine=NEW_API)
    given = {"directory": code, "file": code / "model.py", "for the set": f"serving={code}"}[form]
    exit_code, [found] = checked(capsys, manifest, "--code", given)
    assert (exit_code, found["verdict"], found["subject"]) == (5, "blocked", "serving")
    assert "there is no module vllm.inputs.data" in found["message"]
    place = found["evidence"][0]
    assert (place["source"], place["member"], place["line"]) == (
        str(given).removeprefix("serving="),
        "model.py",
        2,
    )


def test_code_that_fits_finds_no_blocker_and_without_code_nothing_is_said(
    manifest: Path, tmp_path: Path, capsys: Capture
) -> None:
    code = write(tmp_path / "backend", model=NEW_API)
    exit_code, [found] = checked(capsys, manifest, "--code", code)
    assert (exit_code, found["verdict"]) == (0, "no_blocker")
    assert checked(capsys, manifest) == (0, [])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import vllm\nthis is no Python\n", "not Python as this version reads it"),
        ("from vllm.lazy import anything\n", "has a module-level __getattr__"),
        ("import vllm  #" + "x" * 2**20, "more than the 1048576 allowed"),
    ],
)
def test_what_cannot_be_judged_is_unknown(
    text: str, said: str, manifest: Path, tmp_path: Path, capsys: Capture
) -> None:
    code = write(tmp_path / "backend", model=text)
    _, [found] = checked(capsys, manifest, "--code", code)
    assert found["verdict"] == "unknown" and said in found["message"] and "model.py" in found["message"]


def test_compiled_modules_are_not_among_the_sources_that_are_compared(
    manifest: Path, tmp_path: Path, capsys: Capture
) -> None:
    code = write(tmp_path / "backend", model="import vllm._C\nfrom vllm import _moe_C\n")
    assert [found["verdict"] for found in checked(capsys, manifest, "--code", code)[1]] == ["no_blocker"]


def test_code_that_meets_no_vllm_is_unknown(manifest: Path, tmp_path: Path, capsys: Capture) -> None:
    code = write(tmp_path / "backend", model=OLD_API)
    bare = '[[wheels]]\nname = "bare"\nrequirements = ["other>=1"]\n'
    manifest.write_text(manifest.read_text() + bare)
    exit_code, [found] = checked(capsys, manifest, "--code", f"bare={code}", "--strict")
    assert (exit_code, found["rule"], found["verdict"]) == (5, "evidence", "unknown")
    assert found["message"] == "no vLLM of bare was read to compare this code with"


def test_code_of_a_set_that_is_not_there_is_wrong_input(
    manifest: Path, tmp_path: Path, capsys: Capture
) -> None:
    code = write(tmp_path / "backend", model=OLD_API)
    assert run(["check", str(manifest), "--code", f"servnig={code}"]) == 3
    said = capsys.readouterr().err
    assert "servnig=…: no wheels set or container has that name" in said and "name one of: serving" in said


def test_links_pipes_and_libraries_are_not_read(manifest: Path, tmp_path: Path, capsys: Capture) -> None:
    code = write(tmp_path / "backend", model=NEW_API)
    outside = write(tmp_path / "outside", old=OLD_API)
    (code / "linked.py").symlink_to(outside / "old.py")
    (code / "linked").symlink_to(outside)
    write(code / ".hidden", old=OLD_API)
    (code / "venv" / "lib" / "python3.12").mkdir(parents=True)
    write(code / "venv" / "lib" / "python3.12" / "site-packages", old=OLD_API)
    _, [found] = checked(capsys, manifest, "--code", code)
    assert found["verdict"] == "no_blocker"
    os.mkfifo(code / "pipe.py")
    assert run(["check", str(manifest), "--code", str(code)]) == 3
    assert "pipe.py: expected Python code, found no regular file" in capsys.readouterr().err


def test_a_path_that_cannot_be_read_is_wrong_input(
    manifest: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run(["check", str(manifest), "--code", str(tmp_path / "nothing")]) == 3
    assert run(["check", str(manifest), "--code", str(tmp_path), "--suggest"]) == 2
    capsys.readouterr()
    code = write(tmp_path / "backend", **{f"m{n}": NEW_API for n in range(3)})
    assert len(read_given(str(code)).files) == 3
    monkeypatch.setattr(serving_code, "MAX_FILES", 2)
    with pytest.raises(InputError, match="more than 2 Python files"):
        read_given(str(code))


def test_code_beside_an_image_meets_the_vllm_inside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("AIRGAP_CACHE", str(tmp_path / "cache"))
    image(tmp_path / "image", VLLM | NEW)
    path = tmp_path / "m.toml"
    path.write_text(f'{HEAD}[[containers]]\nname = "server"\nlayout = "image"\n')
    code = write(tmp_path / "backend", model=OLD_API)
    exit_code, [found] = checked(capsys, path, "--code", code)
    assert (exit_code, found["verdict"], found["subject"]) == (5, "blocked", "server")
    assert found["evidence"][0]["member"] == "model.py"
