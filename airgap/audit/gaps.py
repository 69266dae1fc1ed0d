"""What an audit could not find out, by the checks of a policy: pure, over what it saw."""

from collections.abc import Callable, Iterator

from airgap.audit.evidence import Audit
from airgap.audit.vulnerabilities import UNKNOWN as VULNERABILITY_UNKNOWN

_NOT_LOOKED = "audit-not-looked"
_CONTENTS = (_NOT_LOOKED, "audit-bomb", "audit-malformed")
"""Findings that say that something was not, or not wholly, looked into."""

NEEDED = {
    **dict.fromkeys(
        ("audit-pickle", "audit-pickle-code", "audit-model-code", "audit-executable"), "contents"
    ),
    **dict.fromkeys(("audit-remote-code", "audit-startup-code", "audit-setuid", "audit-record"), "contents"),
    **dict.fromkeys(("audit-record-unhashed", "audit-oversize", "audit-gated"), "contents"),
    **dict.fromkeys(("audit-licence-none", "audit-licence-unknown", "audit-noncommercial"), "licences"),
    "audit-secret": "secrets",
    "audit-vulnerable": "vulnerabilities",
}
"""What must have been found out before it can be said that there is no such finding."""

Gap = tuple[str, str, str]
"""Subject, message, remedy."""


def _unread_contents(audit: Audit) -> Iterator[Gap]:
    tools = {"secrets", "licences"} - {artifact.name for artifact in audit.artifacts}
    for finding in audit.findings:
        missing_tool = finding.code == _NOT_LOOKED and finding.subject in tools
        if finding.code in _CONTENTS and not missing_tool:
            yield finding.subject, finding.message, finding.remedy


def _missing_tool(name: str) -> Callable[[Audit], Iterator[Gap]]:
    def find(audit: Audit) -> Iterator[Gap]:
        for finding in audit.findings:
            if finding.code == _NOT_LOOKED and finding.subject == name:
                yield finding.subject, finding.message, finding.remedy
        yield from _unread_contents(audit)

    return find


def _unjudged(audit: Audit) -> Iterator[Gap]:
    for bundle in audit.subject.bundles:
        if not bundle.signing.judged:
            yield f"{bundle.name} {bundle.version}", "nobody judged its signatures", "give --site or --root"


def _unmatched(audit: Audit) -> Iterator[Gap]:
    if audit.vulnerabilities is None:
        yield audit.subject.where, "no advisories were given", "give an OSV export: --osv FILE"
    for finding in audit.findings:
        if finding.code == VULNERABILITY_UNKNOWN:
            yield finding.subject, finding.message, finding.remedy
    yield from _unread_contents(audit)


def _unready(audit: Audit) -> Iterator[Gap]:
    if audit.verdicts is None:
        why = "nobody asked what airgap check says; of the verbs that judge a policy audit --check alone asks"
        yield audit.subject.where, why, "airgap audit … --check --policy FILE"
    for verdict in audit.verdicts or ():
        if verdict.verdict.lower() in ("unknown", "blocked"):
            yield verdict.component, f"airgap check says {verdict.verdict}", "; ".join(verdict.reasons)[:200]


GAPS: dict[str, Callable[[Audit], Iterator[Gap]]] = {
    "contents": _unread_contents,
    "licences": _missing_tool("licences"),
    "secrets": _missing_tool("secrets"),
    "signatures": _unjudged,
    "vulnerabilities": _unmatched,
    "readiness": _unready,
}
"""What each check could not find out."""
