"""The target's tag set, held against `packaging` and against the interpreter that runs the tests."""

import platform
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging import markers, tags
from packaging.utils import canonicalize_name, parse_wheel_filename

from airgap.errors import InputError
from airgap.model import Platform, Target
from airgap.tags import (
    WheelName,
    machine,
    marker_environment,
    normalized_name,
    platform_tags,
    supported_tags,
)


def target(python: str = "3.12", platform: str = "linux/amd64", glibc: str = "2.35") -> Target:
    return Target(python, Platform.parse(platform), glibc)


@pytest.mark.parametrize("python", ["3.8", "3.10", "3.12", "3.14"])
@pytest.mark.parametrize("architecture", ["linux/amd64", "linux/arm64"])
def test_same_tags_in_the_same_order_as_packaging(python: str, architecture: str) -> None:
    wanted = target(python, architecture, "2.28")
    version = (3, int(python.partition(".")[2]))
    here = f"cp3{version[1]}"
    platforms = list(platform_tags(wanted))
    theirs = [
        *tags.cpython_tags(version, abis=[here], platforms=platforms),
        *tags.compatible_tags(version, interpreter=here, platforms=platforms),
    ]
    assert list(supported_tags(wanted)) == [str(tag) for tag in theirs]


@pytest.mark.skipif(
    sys.platform != "linux"
    or platform.libc_ver()[0] != "glibc"
    or platform.machine() not in ("x86_64", "aarch64"),
    reason="the running interpreter is not on glibc Linux",
)
def test_the_running_interpreter_agrees() -> None:
    architecture = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}[platform.machine()]
    here = target(f"3.{sys.version_info.minor}", architecture, platform.libc_ver()[1])
    assert supported_tags(here) == tuple(str(t) for t in tags.sys_tags() if "musllinux" not in t.platform)
    ours, theirs = marker_environment(here), markers.default_environment()
    same = {"python_version", "sys_platform", "os_name", "platform_machine", "platform_system"}
    assert {key: ours[key] for key in same} == {key: dict(theirs)[key] for key in same}
    assert set(ours) == set(theirs)


def test_legacy_names_and_the_floor() -> None:
    x86 = platform_tags(target(glibc="2.18"))
    assert x86[:3] == ("linux_x86_64", "manylinux_2_18_x86_64", "manylinux_2_17_x86_64")
    assert x86[3] == "manylinux2014_x86_64"
    assert x86[-2:] == ("manylinux_2_5_x86_64", "manylinux1_x86_64")
    arm = platform_tags(target(platform="linux/arm64", glibc="2.18"))
    assert arm == (
        "linux_aarch64",
        "manylinux_2_18_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
    )


@pytest.mark.parametrize("text", ["windows/amd64", "linux/mips"])
def test_a_platform_without_wheels_is_named(text: str) -> None:
    with pytest.raises(InputError, match=text):
        machine(Platform.parse(text))


_FILES = [
    "vllm-0.19.1-cp38-abi3-manylinux_2_31_x86_64.whl",
    "vllm-0.21.0-1-cp38-abi3-manylinux_2_24_x86_64.whl",
    "torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl",
    "six-1.17.0-py2.py3-none-any.whl",
    "numpy-2.2.0-cp312-cp312-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
]


@pytest.mark.parametrize("file", _FILES)
def test_wheel_names_read_as_packaging_reads_them(file: str) -> None:
    ours = WheelName.parse(file)
    name, version, build, expanded = parse_wheel_filename(file)
    assert canonicalize_name(ours.name) == name
    assert ours.version == str(version)
    assert ours.build == "".join(map(str, build))
    assert set(ours.tags) == {str(tag) for tag in expanded}


def test_rank_prefers_the_closer_wheel_and_refuses_a_foreign_one() -> None:
    supported = supported_tags(target())
    close = WheelName.parse("a-1-cp312-cp312-manylinux_2_28_x86_64.whl").rank(supported)
    pure = WheelName.parse("a-1-py3-none-any.whl").rank(supported)
    assert close is not None and pure is not None and close < pure
    assert WheelName.parse("a-1-cp312-cp312-manylinux_2_36_x86_64.whl").rank(supported) is None
    assert WheelName.parse("a-1-cp311-cp311-manylinux_2_28_x86_64.whl").rank(supported) is None


@given(st.text(max_size=60))
def test_any_text_is_a_wheel_name_or_an_input_error(text: str) -> None:
    try:
        parsed = WheelName.parse(text)
    except InputError:
        return
    assert text.startswith(f"{parsed.name}-{parsed.version}-") and parsed.tags


@given(st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", fullmatch=True))
def test_names_normalise_as_packaging_does(name: str) -> None:
    assert normalized_name(name) == canonicalize_name(name)
