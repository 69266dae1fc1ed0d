"""A policy over what an audit saw: pure, so the same bundle is judged alike on both sides of the gap.

Each rule yields violations; what it needed and nobody could find out is one, too. Waivers are applied last:
a violation that one of them lets pass stays in the answer, with its waiver, for the first page of the report.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import date
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import urlsplit

from airgap.audit.answers import PolicyFact, Violation, Waiver, some_of_each
from airgap.audit.evidence import Audit, Ecosystem, FileFact
from airgap.audit.gaps import GAPS, NEEDED
from airgap.audit.policy import EXPIRED, Policy
from airgap.audit.spdx import conjuncts, permitted
from airgap.errors import PolicyError
from airgap.model import Kind, Severity
from airgap.units import amount, human_bytes

_WEIGHT_TYPES = frozenset({"safetensors", "pickle", "numpy-object", "numpy", "gguf", "hdf5", "tflite", "zip"})
"""Types by content that hold weights; a zip among a model's files is what torch.save writes."""

_WEIGHT_SUFFIXES = frozenset(
    (".safetensors", ".bin", ".pth", ".pt", ".ckpt", ".pkl", ".gguf", ".ggml", ".onnx", ".onnx_data", ".h5")
) | {".msgpack", ".tflite", ".engine", ".nemo", ".npz", ".npy"}

_FILE_WEIGHTS = frozenset({"safetensors", "pickle", "numpy-object", "gguf", "hdf5", "tflite"})
"""Types of weights that are them wherever they are."""

_FINDINGS_OF = {
    "formats.pickle": ("audit-pickle", "audit-pickle-code", "audit-model-code"),
    "formats.remote-code": ("audit-remote-code",),
    "formats.startup-code": ("audit-startup-code",),
}
_EXPLAINED = "airgap audit shows it whole"


class Stage(StrEnum):
    """When a policy is judged: a bundle that is being built has not all its signatures yet."""

    BUILD = "build"
    ARRIVED = "arrived"


def judge_policy(audit: Audit, policy: Policy, stage: Stage = Stage.ARRIVED) -> Audit:
    """The same audit with what the policy says of it, as of the audit's own time."""
    today = audit.at.date()
    if stage is Stage.BUILD:
        checks = None if policy.checks is None else policy.checks - {"signatures"}
        policy = replace(policy, signers_minimum=None, signers=None, checks=checks)
    found: list[Violation] = []
    for rule in policy.rules:
        found += dict.fromkeys(_RULES[rule](audit, policy))
    waivers = tuple(Waiver(w.rule, w.subject, w.reason, w.name, w.expires) for w in policy.waivers)
    waived = [_waived(violation, waivers, today) for violation in found]
    used = {violation.waived for violation in waived if violation.waived}
    expired = [
        Violation(
            EXPIRED,
            f"{waiver.rule} for {waiver.subject}",
            f"the waiver of {waiver.name} ended on {waiver.expires}",
            "remove it, or have it given again with a new day",
        )
        for waiver in waivers
        if waiver.expires < today
    ]
    fact = PolicyFact(
        policy.where,
        policy.sha256,
        policy.rules,
        tuple(replace(w, used=w in used, ended=w.expires < today) for w in waivers),
        (*waived, *expired),
    )
    return replace(audit, policy=fact)


def refuse_broken(audit: Audit) -> None:
    """Raise one PolicyError that names the policy's file and every rule that is broken and not waived."""
    policy = audit.policy
    if policy is None or not policy.broken:
        return
    count = len(policy.broken)
    lines: list[str] = []
    for violation, more in some_of_each(policy.broken):
        lines.append(f"{violation.rule}: {violation.subject}: {violation.message}")
        lines += [f"{violation.rule}: and {more} more for the same reason"] if more > 0 else []
    first = f"{policy.where}: {count} violation{'s' if count > 1 else ''} of the policy"
    raise PolicyError("\n  ".join((first, *lines)), remedy=policy.broken[0].remedy)


def _waived(violation: Violation, waivers: Iterable[Waiver], today: date) -> Violation:
    for waiver in waivers:
        holds = waiver.rule == violation.rule and waiver.expires >= today
        if holds and _matches(waiver.subject, violation.subject):
            return replace(violation, waived=waiver)
    return violation


def _matches(pattern: str, subject: str) -> bool:
    """`*` stands for anything; nothing else means anything but itself."""
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), subject, re.DOTALL) is not None


# ------------------------------------------------------------------ the rules


def _licences(audit: Audit, policy: Policy) -> Iterator[Violation]:
    allowed = policy.licences or frozenset()
    system = allowed | policy.os_packages
    for one in audit.packages:
        if one.licence or one.ecosystem not in policy.unstated:
            by = " (by its copyright file)" if one.licence_by else ""
            which = allowed if one.ecosystem is Ecosystem.PYPI else system
            yield from _terms(f"{one.artifact}: {one.name} {one.version}", one.licence, which, by)
    for model in audit.models:
        yield from _terms(model.artifact, model.licence, allowed)
    yield from _unknown(audit, "licences.allowed", "licences")


def _terms(subject: str, licence: str, allowed: frozenset[str], by: str = "") -> Iterator[Violation]:
    answer = licence in allowed or permitted(licence, allowed)
    if answer:
        return
    if not licence:
        message = "no licence is said"
    elif answer is None:
        message = f"{licence[:120]!r}{by} is no SPDX expression, and not among those allowed"
    else:
        refused = ", ".join(part for part in conjuncts(licence) if not permitted(part, allowed))
        message = f"{refused}{by} is not allowed"
    yield Violation("licences.allowed", subject, message, "allow it, leave it out, or waive it")


def _weights(audit: Audit, policy: Policy) -> Iterator[Violation]:
    allowed = policy.weights or frozenset()
    kinds = {artifact.name: artifact.kind for artifact in audit.artifacts}
    for file in audit.files:
        if file.depth == 0 and _is_weights(file, kinds.get(file.artifact)) and file.type not in allowed:
            message = f"weights in the format {file.type}; allowed are {', '.join(sorted(allowed)) or 'none'}"
            yield Violation(
                "formats.weights",
                f"{file.artifact}: {file.path}",
                message,
                "ask for the model in that format",
            )
    yield from _unknown(audit, "formats.weights", "contents")


def _is_weights(file: FileFact, kind: Kind | None) -> bool:
    if kind is not Kind.MODEL:
        return kind is Kind.FILE and file.type in _FILE_WEIGHTS
    return file.type in _WEIGHT_TYPES or PurePosixPath(file.path).suffix.lower() in _WEIGHT_SUFFIXES


def _of_findings(rule: str) -> Callable[[Audit, Policy], Iterator[Violation]]:
    def judge(audit: Audit, policy: Policy) -> Iterator[Violation]:
        for finding in audit.findings:
            if finding.code in _FINDINGS_OF[rule]:
                yield Violation(rule, finding.subject, finding.message, finding.remedy)
        yield from _unknown(audit, rule, "contents")

    return judge


def _hosts(audit: Audit, policy: Policy) -> Iterator[Violation]:
    """Of everything but images, which `sources.registries` judges."""
    allowed = policy.sources.hosts or frozenset()
    images = {artifact.name for artifact in audit.artifacts if artifact.kind is Kind.CONTAINER}
    for file in audit.files:
        source = _origin(file.source)
        if file.artifact in images or file.depth or source.startswith("local:"):
            continue
        host = _host(source)
        if host not in allowed:
            message = f"files come from {host or 'nobody knows where'}"
            yield Violation("sources.hosts", file.artifact, message, "allow the host, or use a mirror")


def _indexes(audit: Audit, policy: Policy) -> Iterator[Violation]:
    allowed = {index.rstrip("/") for index in policy.sources.indexes or ()}
    for wheel in audit.wheels:
        if wheel.index.rstrip("/") not in allowed:
            subject = f"{wheel.artifact}: {wheel.name} {wheel.version}"
            message = f"comes from {wheel.index or 'no index'}"
            yield Violation("sources.indexes", subject, message, "allow the index, or lock from one that is")


def _registries(audit: Audit, policy: Policy) -> Iterator[Violation]:
    allowed = policy.sources.registries or frozenset()
    fetched = {file.artifact for file in audit.files if not _origin(file.source).startswith("local:")}
    local = {file.artifact for file in audit.files} - fetched
    for artifact in audit.artifacts:
        if artifact.kind is not Kind.CONTAINER or artifact.name in local:
            continue
        registry = artifact.source.partition("/")[0] if "/" in artifact.source else ""
        if registry not in allowed:
            message = f"the image {artifact.source or 'without a reference'} is of another registry"
            yield Violation(
                "sources.registries", artifact.name, message, "allow the registry, or use a mirror"
            )


def _local(audit: Audit, policy: Policy) -> Iterator[Violation]:
    for file in audit.files:
        if _origin(file.source).startswith("local:"):
            message = "holds files from the stager's own disk"
            yield Violation("sources.local", file.artifact, message, "publish them where they can be fetched")


def _minimum(audit: Audit, policy: Policy) -> Iterator[Violation]:
    least = policy.signers_minimum or 0
    for bundle in audit.subject.bundles:
        signing = bundle.signing
        subject = f"{bundle.name} {bundle.version}"
        if not signing.holds:
            message = f"its signatures do not count: {signing.problem or 'nobody judged them'}"
            remedy = _EXPLAINED if signing.problem else "give --site, or --root and --fingerprint"
            yield Violation("signers.minimum", subject, message, remedy)
        elif len(signing.signers) < least:
            did = f"{len(signing.signers)} did: {', '.join(signing.signers)}"
            message = f"{amount(least, 'holder')} must sign, {did}"
            yield Violation("signers.minimum", subject, message, "airgap sign, by more holders")


def _signers(audit: Audit, policy: Policy) -> Iterator[Violation]:
    for bundle in audit.subject.bundles:
        signed = frozenset(bundle.signing.signers) if bundle.signing.holds else frozenset()
        for name in sorted((policy.signers or frozenset()) - signed):
            yield Violation(
                "signers.names", f"{bundle.name} {bundle.version}", f"{name} did not sign", "airgap sign"
            )


def _bundle_size(audit: Audit, policy: Policy) -> Iterator[Violation]:
    limit = policy.limits.bundle or 0
    if audit.totals.bytes > limit:
        yield _too_large("sizes.bundle", audit.subject.where, audit.totals.bytes, limit)


def _artifact_size(audit: Audit, policy: Policy) -> Iterator[Violation]:
    limit = policy.limits.artifact or 0
    for artifact in audit.artifacts:
        if artifact.bytes > limit:
            yield _too_large("sizes.artifact", artifact.name, artifact.bytes, limit)


def _file_size(audit: Audit, policy: Policy) -> Iterator[Violation]:
    limit = policy.limits.file or 0
    for file in audit.files:
        if file.size > limit:
            yield _too_large("sizes.file", f"{file.artifact}: {file.path}", file.size, limit)
    yield from _unknown(audit, "sizes.file", "contents")


def _too_large(rule: str, subject: str, size: int, limit: int) -> Violation:
    message = f"{human_bytes(size)}, more than the {human_bytes(limit)} allowed"
    return Violation(rule, subject, message, "raise the limit, or leave it out")


def _worst(audit: Audit, policy: Policy) -> Iterator[Violation]:
    limit = policy.worst
    assert limit is not None, "the rule is asked"
    for one in audit.vulnerabilities or ():
        if one.rating.exceeds(limit):
            fix = f"take {one.package} {one.fixed[0]} or newer" if one.fixed else "no fix is named"
            message = f"rated {one.rating}; allowed is at most {limit}"
            yield Violation("vulnerabilities.maximum", f"{one.subject}: {one.id}", message, fix)
    yield from _unknown(audit, "vulnerabilities.maximum", "vulnerabilities")


def _data_age(audit: Audit, policy: Policy) -> Iterator[Violation]:
    limit = policy.data_age_days or 0
    remedy = "audit again with a newer export: --osv FILE"
    if not audit.vulnerability_data:
        yield Violation("vulnerabilities.data-age", audit.subject.where, "no advisories were given", remedy)
    for data in audit.vulnerability_data:
        if data.age_days is None or data.age_days > limit:
            age = "of unknown age" if data.age_days is None else f"{data.age_days} days old"
            message = f"the advisories are {age}; allowed are {limit} days"
            yield Violation("vulnerabilities.data-age", data.source, message, remedy)


def _errors(audit: Audit, policy: Policy) -> Iterator[Violation]:
    for finding in audit.findings:
        if finding.severity is Severity.ERROR:
            message = f"{finding.code}: {finding.message}"
            yield Violation("findings.errors", finding.subject, message, finding.remedy)
    yield from _unknown(audit, "findings.errors", "secrets")


def _forbidden(audit: Audit, policy: Policy) -> Iterator[Violation]:
    for finding in audit.findings:
        if finding.code in (policy.forbidden or ()):
            message = f"{finding.code}: {finding.message}"
            yield Violation("findings.forbidden", finding.subject, message, finding.remedy)
    for check in sorted({NEEDED[code] for code in policy.forbidden or () if code in NEEDED}):
        yield from _unknown(audit, "findings.forbidden", check)


def _checks(audit: Audit, policy: Policy) -> Iterator[Violation]:
    for check in sorted(policy.checks or ()):
        yield from _unknown(audit, "checks.required", check)


# ------------------------------------------------------------------ what nobody could find out


def _unknown(audit: Audit, rule: str, check: str) -> Iterator[Violation]:
    """A violation of `rule` for everything that `check` could not find out."""
    for subject, message, remedy in GAPS[check](audit):
        yield Violation(rule, subject, f"not known: {message}", remedy)


_RULES: dict[str, Callable[[Audit, Policy], Iterator[Violation]]] = {
    "licences.allowed": _licences,
    "formats.weights": _weights,
    **{rule: _of_findings(rule) for rule in _FINDINGS_OF},
    "sources.hosts": _hosts,
    "sources.indexes": _indexes,
    "sources.registries": _registries,
    "sources.local": _local,
    "signers.minimum": _minimum,
    "signers.names": _signers,
    "sizes.bundle": _bundle_size,
    "sizes.artifact": _artifact_size,
    "sizes.file": _file_size,
    "vulnerabilities.maximum": _worst,
    "vulnerabilities.data-age": _data_age,
    "findings.errors": _errors,
    "findings.forbidden": _forbidden,
    "checks.required": _checks,
}


def _origin(source: str) -> str:
    """What bytes that airgap made were made from."""
    return source.rpartition(") from ")[2] if source.startswith("made (") else source


def _host(source: str) -> str:
    try:
        return urlsplit(source).hostname or ""
    except ValueError:
        return ""
