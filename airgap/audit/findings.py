"""Every finding an audit can make of its own, each under a code that never changes its meaning.

docs/audit.md explains each; `integrity-…` and `layout-disagrees` are those of `airgap verify`.
"""

from dataclasses import dataclass

from airgap.model import Finding, Severity


@dataclass(frozen=True, slots=True)
class Rule:
    """What is found under a code, how bad it is, and what clears it."""

    code: str
    severity: Severity
    title: str
    remedy: str

    def at(self, subject: str, message: str, evidence: str = "") -> Finding:
        return Finding(self.code, self.severity, subject, message, evidence, self.remedy)


def _error(code: str, title: str, remedy: str) -> Rule:
    return Rule(code, Severity.ERROR, title, remedy)


def _warning(code: str, title: str, remedy: str) -> Rule:
    return Rule(code, Severity.WARNING, title, remedy)


_ASK = "ask whoever built the bundle what it is for; leave it out if nobody can say"
_PUBLISHER = "fetch it again; if it is as published, report it to its publisher and leave it out"
_TERMS = "read its terms, and have whoever may decide accept them"

UNTRUSTED = _error(
    "audit-untrusted", "the signatures do not hold", "do not install it: see what the root refuses"
)
UNJUDGED = _warning(
    "audit-unjudged", "nobody judged the signatures", "give --site, or --root and --fingerprint"
)
EXPIRES = _warning(
    "audit-expires", "statement or root expires soon", "ask the holders for a newer one in time"
)
NOT_LOOKED = _warning(
    "audit-not-looked",
    "something was not looked into",
    "name all volumes, install what the message names, or look by hand",
)
MALFORMED = _warning("audit-malformed", "a file breaks the rules of what it is", _PUBLISHER)
BOMB = _error("audit-bomb", "something unpacks to more than anything honest does", _PUBLISHER)
OVERSIZE = _warning("audit-oversize", "something unpacks to far more than it takes", _ASK)
PICKLE = _warning(
    "audit-pickle",
    "weights that may run code when they are loaded",
    "ask for the same weights as safetensors",
)
PICKLE_CODE = _error(
    "audit-pickle-code",
    "a pickle that runs code when it is loaded",
    "do not load it: ask who made it, and for safetensors",
)
MODEL_CODE = _error(
    "audit-model-code",
    "weights that carry functions",
    "ask for weights alone, and keep the code where it can be read",
)
EXECUTABLE = _error("audit-executable", "a program where data was declared", _ASK)
REMOTE_CODE = _warning(
    "audit-remote-code", "a model brings code of its own", "read it before anybody sets trust_remote_code"
)
STARTUP = _warning(
    "audit-startup-code",
    "code that Python runs at every start",
    "read the line; leave the package out if nobody can say what it is for",
)
RECORD = _error("audit-record", "a wheel's members are not what its RECORD says", _PUBLISHER)
RECORD_UNHASHED = _warning(
    "audit-record-unhashed", "a wheel's RECORD has no digests", "build the wheel again with a current tool"
)
YANKED = _warning("audit-yanked", "a version that its index wants nobody to choose", "lock another version")
SETUID = _warning(
    "audit-setuid",
    "a program that runs as its owner, whoever starts it",
    "run the image with no-new-privileges, or remove the bit when it is built",
)
SECRET = _error("audit-secret", "a secret travels", "have it revoked, then build without it")
LICENCE_NONE = _warning(
    "audit-licence-none", "nothing says under which terms it may be used", "ask its publisher"
)
LICENCE_UNKNOWN = _warning("audit-licence-unknown", "terms that are no SPDX licence", _TERMS)
NONCOMMERCIAL = _warning("audit-noncommercial", "terms that forbid commercial use", _TERMS)
GATED = _warning("audit-gated", "given out only to who accepted its terms", _TERMS)

RULES = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
"""Every rule there is, in this order."""
