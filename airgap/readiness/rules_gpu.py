"""The GPU code in vLLM's extension modules against the target's compute capability and torch's CUDA."""

import re
from collections.abc import Iterable, Iterator

from airgap.errors import InputError
from airgap.model import Kind, Target
from airgap.readers.elf import read_elf
from airgap.readers.fatbin import Architecture, CodeKind, read_architectures
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.zip import Archive
from airgap.readiness.components import Distribution, GpuCode, Stack, version_key
from airgap.readiness.judgement import Evidence, Judgement, Rule

GPU_CODE = Rule("gpu-code", 2, "vLLM's extension modules hold code for the GPU, and for torch's CUDA")

KERNELS = re.compile(r"vllm/_C[^/]*\.so")
"""vLLM's own, below site-packages; other modules beside them are for some GPUs only."""


def read_gpu_code(archive: Archive) -> tuple[GpuCode, ...] | NotUnderstood:
    """Of every such module the GPU code and the CUDA runtime it links. Raises IntegrityError."""
    found = []
    for path in archive.paths():
        if KERNELS.fullmatch(path):
            try:
                found.append(_gpu_code(archive, path))
            except InputError as error:
                message = error.message.removeprefix(f"{archive.what}: ").removeprefix(f"{path}: ")
                return NotUnderstood(path, 0, message)
    return tuple(found)


def _gpu_code(archive: Archive, path: str) -> GpuCode:
    source, what = archive.source(path), f"{archive.what}: {path}"
    elf = read_elf(source, what)
    return GpuCode(archive.digest, path, frozenset(read_architectures(source, elf, what)), elf.needed)


def runs_on(architecture: Architecture, sm: int) -> bool:
    """Whether a GPU of compute capability `sm` / 10 runs it (CUDA programming guide, "Compute capabilities").

    A cubin runs on its major version from its minor on, one of 'a' on exactly its own, one of 'f' on its
    family; PTX without a letter is compiled for anything newer.
    """
    if architecture.variant == "a":
        return architecture.sm == sm
    if architecture.kind is CodeKind.PTX and not architecture.variant:
        return architecture.sm <= sm
    return architecture.sm // 10 == sm // 10 and architecture.sm <= sm


def judge_gpu_code(stack: Stack, target: Target) -> Iterator[Judgement]:
    """Read only where wheel or image is here: the code lies in hundreds of megabytes."""
    vllm = stack.find("vllm")
    if target.gpu is None or vllm is None:
        return
    if isinstance(stack.gpu_code, NotUnderstood):
        yield GPU_CODE.unknown(
            stack.name,
            str(stack.gpu_code),
            settle="run cuobjdump on it",
            evidence=[vllm.says(stack.gpu_code)],
        )
    elif not stack.gpu_code or not any(code.architectures for code in stack.gpu_code):
        yield GPU_CODE.unknown(
            stack.name,
            f"the GPU code of {vllm.label} was not read; the target needs {target.gpu.compute_capability}",
            settle=_settle(stack),
        )
    else:
        yield _judge_architectures(stack, target, vllm, stack.gpu_code)
        yield from _judge_runtime(stack, vllm, stack.gpu_code)


def _settle(stack: Stack) -> str:
    if stack.kind is Kind.CONTAINER:
        return "load the model in it on such a GPU"
    return "run: airgap build, then check again: it is read where the wheel is here"


def _judge_architectures(
    stack: Stack, target: Target, vllm: Distribution, codes: tuple[GpuCode, ...]
) -> Judgement:
    assert target.gpu, "the caller looked"
    major, minor = (*version_key(target.gpu.compute_capability), 0)[:2]
    gpu = f"{target.gpu.name} ({target.gpu.compute_capability})"
    running = sorted({a for code in codes for a in code.architectures if runs_on(a, 10 * major + minor)})
    evidence = [_says(vllm, code, _names(code.architectures)) for code in codes if code.architectures]
    if running:
        return GPU_CODE.clear(stack.name, f"{_names(running)} runs on {gpu}", evidence=evidence)
    return GPU_CODE.blocked(
        stack.name,
        f"no GPU code of {vllm.label} runs on {gpu}",
        gap=f"{vllm.label} has no code for {target.gpu.compute_capability}",
        things=(vllm.label, gpu),
        evidence=evidence,
        remedy="a build of vllm for that compute capability, or another GPU",
    )


def _judge_runtime(stack: Stack, vllm: Distribution, codes: tuple[GpuCode, ...]) -> Iterator[Judgement]:
    """`libcudart.so.N` of the modules and the CUDA of torch are one major version, or two runtimes clash."""
    torch, cuda = stack.find("torch"), stack.torch_cuda
    if torch is None or not isinstance(cuda, str) or not cuda:
        return
    for code in codes:
        linked = code.cuda
        if linked and linked != cuda.partition(".")[0]:
            yield GPU_CODE.blocked(
                stack.name,
                f"{vllm.label} links CUDA {linked}, {torch.label} is built for CUDA {cuda}",
                gap=f"{vllm.label} is for CUDA {linked}, {torch.label} for {cuda}",
                things=(vllm.label, torch.label),
                evidence=[
                    _says(vllm, code, f"DT_NEEDED libcudart.so.{linked}"),
                    Evidence(torch.file, torch.digest, "torch/version.py", 0, f"cuda = {cuda!r}"),
                ],
                remedy=f"builds of both for one CUDA: torch for {linked}, or vllm for {cuda}",
            )
            return


def _says(vllm: Distribution, code: GpuCode, text: str) -> Evidence:
    return Evidence(vllm.file, code.digest, code.member, 0, text)


def _names(architectures: Iterable[Architecture]) -> str:
    return " ".join(str(architecture) for architecture in sorted(architectures))
