"""What wheels say of themselves: real ones, made ones, and ones that contradict themselves."""

import email
import importlib.metadata
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airgap.errors import AirgapError, InputError
from airgap.model import Platform, Target
from airgap.readers.requires import allows_python, pins
from airgap.readers.source import BytesSource
from airgap.readers.wheel import Metadata, Wheel, parse_headers, read_wheel
from airgap.readers.zip import Archive
from airgap.tags import marker_environment
from tests.readers.recordings import TRANSFORMERS, VLLM, Replay

FILE = "made_up-1.0+cu12.8-1-py3-none-any.whl"
METADATA = "Metadata-Version: 2.4\nName: Made.Up\nVersion: 1.0+cu12.8\n"
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
INFO = "made_up-1.0+cu12.8.dist-info"


def target(python: str = "3.12", architecture: str = "amd64") -> dict[str, str]:
    return marker_environment(Target(python, Platform("linux", architecture), "2.35"))


def wheel(files: dict[str, str] | None = None, file: str = FILE) -> Wheel:
    out = io.BytesIO()
    members = {f"{INFO}/METADATA": METADATA, f"{INFO}/WHEEL": WHEEL, "made_up/__init__.py": ""} | (
        files or {}
    )
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return read_wheel(Archive(BytesSource(out.getvalue()), file), file)


def test_a_real_vllm() -> None:
    file = VLLM["0.19.0"]
    found = read_wheel(Replay().open(file), file)
    assert (found.metadata.name, found.metadata.version) == ("vllm", "0.19.0")
    assert found.metadata.requires_python == "<3.14,>=3.10"
    assert (found.metadata.license, found.metadata.license_files) == ("Apache-2.0", ("LICENSE",))
    assert found.tags == ("cp38-abi3-linux_x86_64",)  # built before it was renamed for manylinux
    assert found.file.tags == ("cp38-abi3-manylinux_2_31_x86_64",)
    assert not found.purelib
    assert found.top_level() == ("vllm",)
    assert found.metadata.lines[found.metadata.requires_python] == 19
    assert len(found.metadata.requires) > 60


@pytest.mark.parametrize("file", [*VLLM.values(), *TRANSFORMERS.values()])
def test_real_metadata_as_the_standard_librarys_reader_has_it(file: str) -> None:
    found = read_wheel(Replay().open(file), file)
    data = found.archive.read(found.metadata_member, 1 << 20)
    theirs = email.message_from_bytes(data)
    assert list(found.metadata.requires) == theirs.get_all("Requires-Dist", [])
    assert list(found.metadata.classifiers) == theirs.get_all("Classifier", [])
    assert found.metadata.version == theirs["Version"]


def test_the_metadata_of_every_installed_package_reads() -> None:
    count = 0
    for installed in importlib.metadata.distributions():
        text = installed.read_text("METADATA")
        if text:
            found = Metadata.parse(text.encode(), installed.name)
            assert (found.name, found.version) == (installed.name, installed.version)
            assert len(pins(found, target(), found.extras)) <= len(found.requires)
            count += 1
    assert count > 30


def test_a_made_wheel() -> None:
    record = (
        "made_up/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0\n"
        f'"made_up/a,b.py",,\n{INFO}/RECORD,,\n'
    )
    found = wheel(
        {
            f"{INFO}/RECORD": record,
            "made_up-1.0+cu12.8.data/purelib/also/x.py": "",
            "made_up-1.0+cu12.8.data/scripts/run.py": "",
            "single.py": "",
            "native.cpython-312-x86_64-linux-gnu.so": "",
            "space/inner/x.py": "",
        }
    )
    assert found.file.build == "1"
    assert found.top_level() == ("also", "made_up", "native", "single", "space")
    first, second, third = found.record()
    assert first.sha256 == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert (first.size, second.path, second.sha256, third.size) == (0, "made_up/a,b.py", None, None)


REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "another name": ({f"{INFO}/METADATA": METADATA.replace("Made.Up", "other")}, "one project and version"),
    "another version": ({f"{INFO}/METADATA": METADATA.replace("1.0", "1.1")}, "one project and version"),
    "two dist-infos": ({"b-1.dist-info/METADATA": METADATA}, "found 2"),
    "two names": ({f"{INFO}/METADATA": METADATA + "name: other\n"}, "expected name once"),
    "no version": ({f"{INFO}/METADATA": "Name: made-up\n"}, "expected a version"),
    "no header": ({f"{INFO}/METADATA": METADATA + "a line\n"}, "line 4: expected 'Name: value'"),
    "a newer format": ({f"{INFO}/WHEEL": "Wheel-Version: 2.0\n"}, "Wheel-Version 1.x"),
    "no format": ({f"{INFO}/WHEEL": "Tag: py3-none-any\n"}, "Wheel-Version 1.x"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    files, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        wheel(files)


@pytest.mark.parametrize("line", ["a,b", "a,md5,1", "a,sha256=00,1", "a,sha256=!,1", "a,,-1", 'a"b,"c,,'])
def test_refuses_a_record_that_is_none(line: str) -> None:
    with pytest.raises(InputError, match="RECORD"):
        wheel({f"{INFO}/RECORD": line}).record()


def test_refuses_metadata_that_is_not_text() -> None:
    with pytest.raises(InputError, match="not UTF-8 at byte 6"):
        Metadata.parse(b"Name: \xff", "METADATA")


def test_headers_continue_and_end() -> None:
    data = b"License: MIT\r\n        |second\n\tthird\nTag: a\nTag: b: c\n\nTag: body\n"
    assert parse_headers(data, "x") == {
        "license": ((1, "MIT\n|second\nthird"),),
        "tag": ((4, "a"), (5, "b: c")),
    }
    assert "\x0c" in parse_headers(b"License: MIT\x0cmore\n", "x")["license"][0][1]


@given(st.binary(max_size=200))
def test_any_bytes_are_metadata_or_an_input_error(data: bytes) -> None:
    try:
        Metadata.parse(data, "METADATA")
    except AirgapError as error:
        assert isinstance(error, InputError)


def test_pins_are_judged_for_the_target() -> None:
    lines = [
        'a>=1; platform_machine == "aarch64"',
        'b==2.*; python_version < "3.12"',
        'c[x,y]<5,>=4; extra == "gpu"',
        "D_d!=1.5",
    ]
    metadata = Metadata.parse(
        (METADATA + "".join(f"Requires-Dist: {line}\n" for line in lines)).encode(), "m"
    )
    assert [pin.name for pin in pins(metadata, target())] == ["d-d"]
    assert [pin.name for pin in pins(metadata, target(python="3.11"))] == ["b", "d-d"]
    assert [pin.name for pin in pins(metadata, target(architecture="arm64"))] == ["a", "d-d"]
    found = pins(metadata, target(), ["gpu"])[0]
    assert (found.name, sorted(found.extras), found.line) == ("c", ["x", "y"], 6)
    allowed = [found.allows(version) for version in ("3.9", "4.0", "4.9rc1", "5.0", "5.0.dev1")]
    assert allowed == [False, True, True, False, False]
    with pytest.raises(InputError, match=r"PEP 440, found 'x\.y'"):
        found.allows("x.y")


def test_numbers_that_python_will_not_convert_are_bad_input() -> None:
    """int() refuses more than 4300 digits with a ValueError that is no InvalidVersion."""
    huge = "9" * 5000
    metadata = Metadata.parse(f"{METADATA}Requires-Dist: a=={huge}\nRequires-Dist: b>=1\n".encode(), "m")
    for pin, version in zip(pins(metadata, target()), ("1", huge), strict=True):
        with pytest.raises(InputError, match="PEP 440, found"):
            pin.allows(version)


def test_a_pin_shows_no_login() -> None:
    text = METADATA + "Requires-Dist: a @ https://user:password@host/a-1-py3-none-any.whl\n"
    [found] = pins(Metadata.parse(text.encode(), "m"), target())
    assert found.written == "a @ https://host/a-1-py3-none-any.whl"
    with pytest.raises(InputError) as caught:
        pins(Metadata.parse(f"{METADATA}Requires-Dist: a @@ https://u:password@h/".encode(), "m"), target())
    assert "password" not in caught.value.message


def test_python_versions() -> None:
    assert allows_python("<3.14,>=3.10", "3.12.0")
    assert not allows_python("<3.14,>=3.10", "3.14.0")
    assert allows_python("", "3.12.0")
    with pytest.raises(InputError, match="Requires-Python"):
        allows_python("~=x", "3.12.0")
