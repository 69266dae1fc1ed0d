"""GPU code against the target's compute capability: 'a' and 'f' told apart, read from objects in a wheel."""

import io
import zipfile
from typing import Any

import pytest

from airgap.readers.fatbin import Architecture, CodeKind
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.source import BytesSource
from airgap.readers.zip import Archive
from airgap.readiness.judgement import Verdict
from airgap.readiness.reading import read_package
from airgap.readiness.rules_gpu import judge_gpu_code, runs_on
from tests.readers.objects import dynamic, elf, gpu_code
from tests.readiness.compositions import gpu, package, stack, verdicts

CUBIN, PTX = CodeKind.CUBIN, CodeKind.PTX
BLOCKED, CLEAR, UNKNOWN = Verdict.BLOCKED, Verdict.NO_BLOCKER, Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("sm", "variant", "kind", "runs", "refuses"),
    [
        (80, "", CUBIN, {80, 86, 89}, {75, 90, 100}),
        (89, "", CUBIN, {89}, {80, 86, 90}),
        (90, "a", CUBIN, {90}, {89, 100}),
        (100, "a", CUBIN, {100}, {103, 120}),
        (100, "f", CUBIN, {100, 103}, {90, 120}),
        (100, "", CUBIN, {100, 103}, {120}),
        (90, "", PTX, {90, 100, 120}, {89}),
        (90, "a", PTX, {90}, {100}),
        (100, "f", PTX, {100, 103}, {90, 110, 120}),
    ],
)
def test_what_runs_where(sm: int, variant: str, kind: CodeKind, runs: set[int], refuses: set[int]) -> None:
    code = Architecture(sm, variant, kind)
    assert {other for other in runs | refuses if runs_on(code, other)} == runs


def wheel(
    *entries: tuple[int, int, int], cuda: str = "12", more: dict[str, bytes] | None = None
) -> tuple[Archive, str]:
    """A vLLM with one extension module of this GPU code, and `more` members."""
    names = b"\0libcudart.so." + cuda.encode() + b"\0"
    module = elf(
        [
            (".dynstr", 3, names, 0),
            (".dynamic", 6, dynamic([(1, 1)]), 1),
            (".nv_fatbin", 1, gpu_code(*entries), 0),
        ]
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("vllm/_C.abi3.so", module)
        for path, data in (more or {}).items():
            archive.writestr(path, data)
        archive.writestr("vllm-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: vllm\nVersion: 1.0\n")
        archive.writestr("vllm-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
    file = "vllm-1.0-py3-none-any.whl"
    return Archive(BytesSource(out.getvalue(), digest="a" * 64), file), file


def test_a_damaged_module_is_unknown_and_named() -> None:
    archive, file = wheel((2, 80, 0x11), more={"vllm/_C_stable.abi3.so": b"\x7fELF and no more"})
    seen = read_package(archive, file, whole=True)
    [found] = judge_gpu_code(stack(seen, gpu_code=seen.tables.gpu_code), gpu("8.9"))
    assert (found.verdict, found.message) == (
        UNKNOWN,
        "vllm/_C_stable.abi3.so: expected an ELF file, found something else",
    )
    assert [(e.source, e.member) for e in found.evidence] == [(file, "vllm/_C_stable.abi3.so")]


def judged(capability: str, *entries: tuple[int, int, int], torch: str = "", **more: Any) -> list[Verdict]:
    seen = [read_package(*wheel(*entries, **more), whole=True)]
    seen += [package("torch", "2.10.0")] if torch else []
    return verdicts(list(judge_gpu_code(stack(*seen, torch_cuda=torch or None), gpu(capability))))


def test_sm120_is_not_sm100() -> None:
    assert judged("10.0", (2, 100, 0x100011)) == [CLEAR]
    assert judged("12.0", (2, 100, 0x100011)) == [BLOCKED]
    assert judged("8.9", (2, 80, 0x11), (2, 90, 0x100011)) == [CLEAR]
    assert judged("7.0", (2, 80, 0x11)) == [BLOCKED]


def test_two_cuda_majors_clash() -> None:
    assert judged("8.9", (2, 80, 0x11), torch="12.8") == [CLEAR]
    assert judged("8.9", (2, 80, 0x11), torch="12.8", cuda="13") == [CLEAR, BLOCKED]


def test_what_was_not_read_is_unknown() -> None:
    archive, file = wheel((2, 80, 0x11))
    apart = stack(read_package(archive, file))
    assert verdicts(list(judge_gpu_code(apart, gpu("8.9")))) == [UNKNOWN]
    moved = stack(package("vllm", "1"), gpu_code=NotUnderstood("vllm/_C.so", 0, "no ELF"))
    assert verdicts(list(judge_gpu_code(moved, gpu("8.9")))) == [UNKNOWN]
