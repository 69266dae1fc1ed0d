"""What a model's card says of it, and what its weights are by their own headers."""

import importlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from airgap.audit import findings, licences
from airgap.audit.evidence import ModelFact
from airgap.errors import InputError
from airgap.model import Finding, ModelArtifact
from airgap.readers.checkpoint import MAX_DOCUMENT, Checkpoint, read_checkpoints
from airgap.readers.model_config import parse_remote_code
from airgap.readers.safetensors import parse_header
from airgap.readiness.nvfp4 import assess
from airgap.units import amount

CARD = "README.md"
MAX_CARD = 1024 * 1024
MAX_FRONT_MATTER = 256 * 1024
"""Bytes; a card with the results of every benchmark there is has some 100 KiB."""

MAX_TEXT = 500
"""Characters of one value of a card."""

_CONFIGS = re.compile(r"(?:.*_)?config\.json|model_index\.json")
"""What may name code to run: of the model, its tokenizer, processors, adapters, a pipeline."""

_INDEX = ".safetensors.index.json"
_FRONT_MATTER = re.compile(rb"\A\xef?\xbb?\xbf?---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)

Card = Mapping[str, str | tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ModelSeen:
    fact: ModelFact
    findings: tuple[Finding, ...]


def keep(path: str) -> int:
    """How many bytes of a model's file are kept whole, if it has no more."""
    name = PurePosixPath(path).name
    if path == CARD:
        return MAX_CARD
    return MAX_DOCUMENT if _CONFIGS.fullmatch(name) or name.endswith(_INDEX) else 0


def see_model(artifact: ModelArtifact, kept: Mapping[str, bytes], complained: frozenset[str]) -> ModelSeen:
    """`kept` are documents and headers by their path; damage of paths in `complained` is known already."""
    name = artifact.name
    found: list[Finding] = []
    card = _card(name, kept.get(CARD), found)
    checkpoints = read_checkpoints({file.path: file.size for file in artifact.files}, _reader(kept))
    for damage in (damage for checkpoint in checkpoints for damage in checkpoint.damaged):
        if damage.path not in complained:
            found.append(findings.MALFORMED.at(f"{name}: {damage.path}", damage.message))
    found += _aside(artifact, checkpoints, kept, complained)
    known = complained | {damage.path for checkpoint in checkpoints for damage in checkpoint.damaged}
    remote = _remote_code(artifact, kept, known, found)
    if remote:
        message = (
            f"{amount(len(remote), 'file or class', 'files or classes')} that trust_remote_code would run"
        )
        found.append(findings.REMOTE_CODE.at(name, message, ", ".join(remote[:20])))
    licence = _text(card, "license") or artifact.licence
    found += judge_terms(name, licence, _text(card, "license_name"))
    gating = artifact.gated or (
        "card" if "extra_gated_prompt" in card or "extra_gated_fields" in card else ""
    )
    if gating:
        found.append(
            findings.GATED.at(name, f"its hub gives it out only to who accepted its terms ({gating})")
        )
    found_in = [(checkpoint, assess(checkpoint)) for checkpoint in checkpoints if checkpoint.headers]
    sizes: dict[str, int] = {}
    for _, measured in found_in:
        for dtype, size in measured.bytes_by_dtype.items():
            sizes[dtype] = sizes.get(dtype, 0) + size
    fact = ModelFact(
        name,
        artifact.repo,
        artifact.commit,
        licence,
        _text(card, "license_name"),
        _text(card, "license_link"),
        _texts(card, "base_model"),
        gating,
        card,
        ", ".join(dict.fromkeys(str(measured.format) for _, measured in found_in if measured.format)),
        sum(len(header.tensors) for checkpoint, _ in found_in for header in checkpoint.headers.values()),
        sum(measured.parameters for _, measured in found_in),
        sum(measured.quantized_parameters for _, measured in found_in),
        sizes,
        remote,
        _texts(card, "datasets"),
        _texts(card, "language"),
    )
    return ModelSeen(fact, tuple(found))


def _aside(
    artifact: ModelArtifact,
    checkpoints: Sequence[Checkpoint],
    kept: Mapping[str, bytes],
    complained: frozenset[str],
) -> Iterator[Finding]:
    """Damage of weights that no engine would load by itself: something may lie behind their last tensor."""
    sizes = {str(file.path): file.size for file in artifact.files}
    aside = {checkpoint.at(file) for checkpoint in checkpoints for file in checkpoint.set_aside}
    for path in sorted(aside & kept.keys() - complained):
        try:
            parse_header(kept[path], sizes[path], path)
        except InputError as error:
            message = error.message.removeprefix(f"{path}: ")
            yield findings.MALFORMED.at(f"{artifact.name}: {path}", message)


def judge_terms(subject: str, licence: str, name: str = "") -> list[Finding]:
    """What an auditor must know of the terms that `licence`, or else `name`, stand for."""
    said = name or licence if licence.lower() in ("other", "") else licence
    if not said or said.lower() in ("unknown", "none"):
        return [findings.LICENCE_NONE.at(subject, "nothing says under which terms it may be used")]
    if licences.noncommercial(said):
        return [findings.NONCOMMERCIAL.at(subject, f"its terms forbid commercial use: {said[:MAX_TEXT]}")]
    if licences.available() and not licences.expression(said):
        shown = said.split("\n")[0][:80]
        return [findings.LICENCE_UNKNOWN.at(subject, f"its licence is no SPDX expression: {shown!r}")]
    return []


def _reader(kept: Mapping[str, bytes]) -> Callable[[str, int, int], bytes]:
    def read(path: str, start: int, count: int) -> bytes:
        data = kept.get(path, b"")
        wanted = data[start : start + count]
        # A header is kept to its end, and asked for with what may lie behind it.
        if not wanted or (len(wanted) < count and not path.endswith(".safetensors")):
            raise InputError(f"{path}: not kept, or no safetensors file")
        return wanted

    return read


def _remote_code(
    artifact: ModelArtifact, kept: Mapping[str, bytes], known: frozenset[str], found: list[Finding]
) -> tuple[str, ...]:
    """What is damaged or was not read is a finding, but for what is `known` already."""
    code = {file.path: None for file in artifact.files if file.path.endswith(".py")}
    named: dict[str, None] = {}
    for path in (str(file.path) for file in artifact.files):
        if not _CONFIGS.fullmatch(PurePosixPath(path).name) or path in known:
            continue
        subject = f"{artifact.name}: {path}"
        if path not in kept:
            found.append(findings.NOT_LOOKED.at(subject, "a config that was not read"))
            continue
        try:
            named |= {f"{one.key}: {one.reference}": None for one in parse_remote_code(kept[path], path)}
        except InputError as error:
            found.append(findings.MALFORMED.at(subject, error.message.removeprefix(f"{path}: ")))
    return (*code, *named)


def _card(name: str, data: bytes | None, found: list[Finding]) -> Card:
    """The front matter of a card: its texts and its lists of texts. No card is no finding: licences are."""
    match = _FRONT_MATTER.match(data) if data else None
    if match is None:
        return {}
    try:
        yaml = importlib.import_module("yaml")
    except ModuleNotFoundError:
        message = "its card was not read: pip install 'airgap[audit]'"
        found.append(findings.NOT_LOOKED.at(f"{name}: {CARD}", message))
        return {}
    if len(match[1]) > MAX_FRONT_MATTER:
        found.append(
            findings.NOT_LOOKED.at(f"{name}: {CARD}", f"a card of {len(match[1])} bytes is not read")
        )
        return {}
    try:
        document = yaml.load(match[1].decode("utf-8"), getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError, TypeError) as error:
        why = str(error).split("\n")[0][:200]
        found.append(findings.MALFORMED.at(f"{name}: {CARD}", f"its front matter is no YAML: {why}"))
        return {}
    return _flattened(document)


def _flattened(document: object) -> dict[str, str | tuple[str, ...]]:
    """Texts, numbers and lists of them; what is nested deeper is left out."""
    table: dict[str, str | tuple[str, ...]] = {}
    for key, value in document.items() if isinstance(document, dict) else ():
        if isinstance(value, str | int | float):
            table[str(key)[:MAX_TEXT]] = str(value)[:MAX_TEXT]
        elif isinstance(value, list):
            texts = tuple(
                str(item)[:MAX_TEXT] for item in value[:1000] if isinstance(item, str | int | float)
            )
            table[str(key)[:MAX_TEXT]] = texts
    return table


def _text(card: Card, key: str) -> str:
    value = card.get(key, "")
    return value if isinstance(value, str) else " AND ".join(value)


def _texts(card: Card, key: str) -> tuple[str, ...]:
    value = card.get(key, ())
    return (value,) if isinstance(value, str) else value
