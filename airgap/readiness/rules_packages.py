"""Rules over the packages of one stack: pins, tags, the CUDA they were built for."""

from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement

from airgap.errors import InputError
from airgap.model import Kind, Target
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.requires import Pin, allows_python, pins
from airgap.readiness.components import LOCK_FIRST, Distribution, GpuCode, Stack, counted, version_key
from airgap.readiness.judgement import Evidence, Judgement, Rule
from airgap.tags import WheelName, marker_environment, normalized_name, supported_tags

PINS = Rule("pin", 1, "every declared requirement is met by the package that is there")
TAGS = Rule("wheel-tag", 1, "the target's pip accepts every wheel")
CUDA = Rule("cuda-driver", 2, "the driver runs the CUDA that torch was built for")
IMPORTS = Rule("imports", 2, "code that serves imports nothing that its vLLM lacks")

DRIVERS = {11: "450.80", 12: "525", 13: "580"}
"""CUDA major -> the oldest Linux driver that runs it (NVIDIA, CUDA compatibility, minor version table)."""


def judge_pins(stack: Stack, target: Target) -> Iterator[Judgement]:
    """`Requires-Dist` and `Requires-Python` (core metadata), with the target's markers (PEP 508)."""
    judged = [j for package in stack.packages for j in _judge_python(package, stack, target)]
    for package, pin in _declared(stack, target):
        if isinstance(pin, InputError):
            judged.append(PINS.unknown(stack.name, pin.message, settle="ask its publisher"))
        else:
            judged += _judge_pin(package, pin, stack)
    yield from judged
    for name, why in sorted(stack.unread.items()):
        yield PINS.unknown(stack.name, f"{name}: {why.reason}", settle=why.settle)
    if judged or stack.unread:
        return
    if stack.closed:
        yield PINS.clear(stack.name, f"{counted(len(stack.packages), 'package')}: every requirement is met")
    else:
        read = ", ".join(package.label for package in stack.packages) or "nothing"
        yield PINS.unknown(
            stack.name,
            f"only what the manifest pins was read ({read}); what it needs besides is not chosen yet",
            settle=LOCK_FIRST,
        )


def only_unchosen(judgement: Judgement) -> bool:
    """Whether a pin is unknown for no other reason than that nothing has chosen what is needed besides."""
    return judgement.rule == PINS.id and judgement.remedy == LOCK_FIRST


def _declared(stack: Stack, target: Target) -> Iterator[tuple[Distribution, Pin | InputError]]:
    """Every requirement of every package; extras are those that anything in the stack asks for."""
    environment = marker_environment(target)
    asked = _extras(stack)
    while True:
        found: list[tuple[Distribution, Pin | InputError]] = []
        known = {name: set(extras) for name, extras in asked.items()}
        for package in stack.packages:
            try:
                declared = pins(package.metadata, environment, sorted(asked.get(package.key, ())))
            except InputError as error:
                found.append((package, error))
                continue
            found += [(package, pin) for pin in declared]
            for pin in declared:
                asked.setdefault(pin.name, set()).update(pin.extras)
        if asked == known:
            yield from found
            return


def _extras(stack: Stack) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for text in stack.requirements:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        found.setdefault(normalized_name(requirement.name), set()).update(requirement.extras)
    return found


def _judge_pin(package: Distribution, pin: Pin, stack: Stack) -> Iterator[Judgement]:
    wanted = f"{pin.name}{pin.specifier}"
    evidence = package.declares(pin.line, f"Requires-Dist: {pin.written}")
    found = stack.find(pin.name)
    if stack.kind is Kind.CONTAINER:
        yield from _judge_installed(package, pin, found, stack, evidence)
        return
    if found is None:
        if stack.closed and pin.name not in stack.unread:
            yield PINS.blocked(
                stack.name,
                f"{package.label} requires {wanted}, which is not there",
                gap=f"{pin.name} is missing",
                things=(package.label, f"no {pin.name}"),
                evidence=[evidence],
                remedy=f"add {wanted}",
            )
        return
    try:
        allowed = pin.allows(found.version)
    except InputError as error:
        yield PINS.unknown(stack.name, error.message, settle="ask its publisher", evidence=[found.itself])
        return
    if not allowed:
        yield PINS.blocked(
            stack.name,
            f"{package.label} requires {wanted}; with it is {found.label}",
            gap=f"{package.label} requires {wanted}",
            things=(package.label, found.label),
            evidence=[evidence, found.itself],
            remedy=f"{wanted}, or a {package.metadata.name} that accepts {found.label}",
        )


def _judge_installed(
    package: Distribution, pin: Pin, found: Distribution | None, stack: Stack, evidence: Evidence
) -> Iterator[Judgement]:
    """In an image nothing is resolved any more: a pin that is not met warns, and proves nothing."""
    try:
        met = found is None or pin.allows(found.version)
    except InputError:
        met = True
    if found and not met:
        yield PINS.clear(
            stack.name,
            f"{package.label} declares {pin.name}{pin.specifier}; the image has {found.label}",
            evidence=[evidence, found.declares(0, f"Version: {found.version}")],
            remedy="run the image's own tests, or build it with releases that agree",
            warning=True,
        )


def _judge_python(package: Distribution, stack: Stack, target: Target) -> Iterator[Judgement]:
    written = package.metadata.requires_python
    if not written or stack.kind is Kind.CONTAINER:  # an image brings its own Python
        return
    try:
        # The target says no patch release, so any of it may be meant.
        allowed = any(allows_python(written, f"{target.python}.{patch}") for patch in (0, 99))
    except InputError as error:
        yield PINS.unknown(stack.name, f"{package.label}: {error.message}", settle="ask its publisher")
        return
    if not allowed:
        yield PINS.blocked(
            stack.name,
            f"{package.label} requires Python {written}; the target has {target.python}",
            gap=f"{package.label} requires Python {written}",
            things=(package.label, f"Python {target.python}"),
            evidence=[
                package.declares(package.metadata.lines.get(written, 0), f"Requires-Python: {written}")
            ],
            remedy=f"another release of {package.metadata.name}, or another Python on the target",
        )


def judge_tags(stack: Stack, target: Target) -> Iterator[Judgement]:
    """The platform compatibility tags in every file name (PEP 425, PEP 600)."""
    if stack.kind is not Kind.WHEELS:
        return
    supported = supported_tags(target)
    wrong = False
    for package in stack.packages:
        try:
            name = WheelName.parse(package.file)
        except InputError:
            continue
        if name.rank(supported) is None:
            wrong = True
            platform = f"CPython {target.python}, {target.platform}, glibc {target.glibc}"
            yield TAGS.blocked(
                stack.name,
                f"{package.file} is for {_some(name.tags)}; the target is {platform}",
                gap=f"{package.label} has no wheel for the target",
                things=(package.file, platform),
                evidence=[package.itself],
                remedy=f"another release of {package.metadata.name}, or correct [target]",
            )
    if not wrong and stack.packages:
        yield TAGS.clear(stack.name, f"the target accepts all {len(stack.packages)} wheels that were read")


def judge_cuda(stack: Stack, target: Target) -> Iterator[Judgement]:
    """The CUDA of `torch/version.py`, else the one that vLLM's modules link, against the target's driver."""
    torch = stack.find("torch")
    if target.gpu is None or (torch is None and stack.find("vllm") is None):
        return
    cuda = stack.torch_cuda
    if (torch is None or not isinstance(cuda, str)) and (linking := _linking(stack)):
        yield _judge_linked(stack, target, linking)
    elif torch is None or cuda is None:
        yield CUDA.unknown(
            stack.name, "no torch was read, so its CUDA is not known", settle=_settle_cuda(stack)
        )
    elif isinstance(cuda, NotUnderstood):
        yield CUDA.unknown(stack.name, str(cuda), settle="print torch.version.cuda on a staging host")
    elif not cuda and stack.find("vllm") is None:
        yield CUDA.clear(
            stack.name,
            f"{torch.label} is a build for the CPU; the target has {target.gpu.name}",
            evidence=[torch.states(_TORCH, "cuda is None")],
            remedy="an index with CUDA builds of torch, if it is to use the GPU",
            warning=True,
        )
    elif not cuda:
        yield CUDA.blocked(
            stack.name,
            f"{torch.label} is a build for the CPU; the target has {target.gpu.name}",
            gap=f"{torch.label} is a CPU build",
            things=(torch.label, target.gpu.name),
            evidence=[torch.states(_TORCH, "cuda is None")],
            remedy="an index with CUDA builds of torch for this platform",
        )
    else:
        where = torch.states(_TORCH, f"cuda = {cuda!r}")
        yield _judge_driver(stack, target, cuda, f"{torch.label} is built for", where)


_TORCH = "torch/version.py"


def _settle_cuda(stack: Stack) -> str:
    """What helps where no torch was read: another lock only where none has chosen one yet."""
    why = stack.unread.get("torch")
    if why or not stack.closed:
        return why.settle if why else LOCK_FIRST
    place = "in" if stack.kind is Kind.CONTAINER else "on a staging host with"
    return f"run python -c 'import torch; print(torch.version.cuda)' {place} {stack.name}"


def _linking(stack: Stack) -> GpuCode | None:
    """A module of vLLM that links a CUDA runtime."""
    codes = stack.gpu_code if isinstance(stack.gpu_code, tuple) else ()
    return next((code for code in codes if code.cuda), None)


def _judge_linked(stack: Stack, target: Target, code: GpuCode) -> Judgement:
    vllm = stack.find("vllm")
    assert vllm, "whose module it is"
    evidence = Evidence(vllm.file, code.digest, code.member, 0, f"DT_NEEDED libcudart.so.{code.cuda}")
    return _judge_driver(stack, target, code.cuda, f"{vllm.label} links", evidence)


def _judge_driver(stack: Stack, target: Target, cuda: str, who: str, where: Evidence) -> Judgement:
    evidence = [where]
    built = f"{who} CUDA {cuda}"
    floor = DRIVERS.get(next(iter(version_key(cuda)), 0))
    if floor is None:
        return CUDA.unknown(
            stack.name,
            f"{built}, whose driver airgap does not know",
            settle="see NVIDIA's CUDA release notes",
            evidence=evidence,
        )
    if not target.driver:
        return CUDA.unknown(
            stack.name,
            f"{built}, which needs driver {floor} or newer; [target] names none",
            settle="add driver to [target]",
            evidence=evidence,
        )
    if version_key(target.driver) < version_key(floor):
        return CUDA.blocked(
            stack.name,
            f"{built}, which needs driver {floor} or newer; the target has {target.driver}",
            gap=f"CUDA {cuda} needs driver {floor}",
            things=(built, f"driver {target.driver}"),
            evidence=evidence,
            remedy=f"driver {floor} or newer on the target, or wheels built for an older CUDA",
        )
    return CUDA.clear(
        stack.name, f"CUDA {cuda} runs on driver {target.driver} ({floor} or newer)", evidence=evidence
    )


def judge_imports(stack: Stack, target: Target) -> Iterator[Judgement]:
    """Code that serves against the vLLM it meets: the backend that an upgrade of vLLM breaks."""
    vllm = stack.find("vllm")
    if stack.serving is None or vllm is None:
        return
    for broken in stack.serving.broken:
        evidence = [broken.where, vllm.states("", broken.reason)]
        if broken.fails:
            yield IMPORTS.blocked(
                stack.name,
                f"{broken.wanted} fails: {vllm.label} has it no more ({broken.reason})",
                gap=f"{broken.reason} in {vllm.label}",
                things=(broken.where.member, vllm.label),
                evidence=evidence,
                remedy="a backend written for this vllm, or the vllm that the backend was written for",
            )
        else:
            yield IMPORTS.clear(
                stack.name,
                f"{broken.wanted} would fail where it is reached: {broken.reason}",
                evidence=evidence,
                warning=True,
            )
    undecided = stack.serving.undecided
    if undecided:
        yield IMPORTS.unknown(
            stack.name,
            f"{len(undecided)} imports or files of the code that serves cannot be judged: {undecided[0]}",
            settle="import that code on a staging host",
            evidence=[Evidence(one.member, "", "", one.line, one.reason) for one in undecided[:3]],
        )
    elif not stack.serving.broken:
        yield IMPORTS.clear(stack.name, f"the code that serves imports nothing that {vllm.label} lacks")


def _some(tags: tuple[str, ...]) -> str:
    return ", ".join(tags[:3]) + (f" and {len(tags) - 3} more" if len(tags) > 3 else "")
