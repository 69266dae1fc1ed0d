"""What a site lets in: policy.toml, read whole or refused with every problem at once.

A rule that is not there asks nothing. A rule that is there is a promise: what it needs to know and nobody
could find out breaks it, unless a waiver with a reason, a name and a day lets it pass.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from airgap.audit.rating import Rating
from airgap.audit.spdx import FAMILY
from airgap.decode import Fields, parse_toml, read_capped
from airgap.model import Sha256

MAX_POLICY = 1024 * 1024
"""Bytes; a policy is written by a person."""

FORMAT = 1

WITHOUT_LICENCE = ("deb",)
"""Types of packages, as in purls, whose database has no field for a licence: Debian keeps prose beside it."""

CHECKS = ("contents", "licences", "secrets", "signatures", "vulnerabilities", "readiness")
"""What an audit may have been unable to find out."""

RULES = (
    "licences.allowed",
    "formats.weights",
    "formats.pickle",
    "formats.remote-code",
    "formats.startup-code",
    "sources.hosts",
    "sources.indexes",
    "sources.registries",
    "sources.local",
    "signers.minimum",
    "signers.names",
    "sizes.bundle",
    "sizes.artifact",
    "sizes.file",
    "vulnerabilities.maximum",
    "vulnerabilities.data-age",
    "findings.errors",
    "findings.forbidden",
    "checks.required",
)
"""Every rule there is, as `table.key`; a waiver names one of them."""

EXPIRED = "waivers.expires"
"""Broken by a waiver that has ended, which nothing waives."""

_UNITS = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,3})?) ?(B|kB|MB|GB|TB)")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where bytes may come from; None asks nothing of that kind. `registries` are those of images."""

    hosts: frozenset[str] | None = None
    indexes: frozenset[str] | None = None
    registries: frozenset[str] | None = None
    local: bool = True


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes; None asks nothing."""

    bundle: int | None = None
    artifact: int | None = None
    file: int | None = None


@dataclass(frozen=True, slots=True)
class Waiving:
    """One `[[waivers]]` table: `*` in `subject` stands for anything."""

    rule: str
    subject: str
    reason: str
    name: str
    expires: date


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy as read. None, and True for what may be there, ask nothing."""

    where: str
    sha256: Sha256
    licences: frozenset[str] | None = None
    weights: frozenset[str] | None = None
    pickle: bool = True
    remote_code: bool = True
    startup_code: bool = True
    sources: Sources = Sources()
    signers_minimum: int | None = None
    signers: frozenset[str] | None = None
    """Who must be among them."""
    limits: Limits = Limits()
    worst: Rating | None = None
    data_age_days: int | None = None
    errors: bool = True
    forbidden: frozenset[str] | None = None
    checks: frozenset[str] | None = None
    waivers: tuple[Waiving, ...] = ()
    unstated: frozenset[str] = frozenset()
    """Types of packages that may state no licence."""
    os_packages: frozenset[str] = frozenset()
    """Licences that packages of an image's distribution may have besides."""

    @property
    def rules(self) -> tuple[str, ...]:
        """Those that it sets, in the order of `RULES`."""
        asked = (
            self.licences is not None,
            self.weights is not None,
            not self.pickle,
            not self.remote_code,
            not self.startup_code,
            self.sources.hosts is not None,
            self.sources.indexes is not None,
            self.sources.registries is not None,
            not self.sources.local,
            self.signers_minimum is not None,
            self.signers is not None,
            self.limits.bundle is not None,
            self.limits.artifact is not None,
            self.limits.file is not None,
            self.worst is not None,
            self.data_age_days is not None,
            not self.errors,
            self.forbidden is not None,
            self.checks is not None,
        )
        return tuple(rule for rule, is_asked in zip(RULES, asked, strict=True) if is_asked)


def load_policy(path: Path) -> Policy:
    """Read and judge a policy. Raises InputError naming file, key and expectation for every problem."""
    return parse_policy(read_capped(path, max_bytes=MAX_POLICY), str(path))


def parse_policy(data: bytes, what: str) -> Policy:
    """The pure part of `load_policy`. Raises InputError."""
    document = Fields(parse_toml(data, what))
    if document.integer("format") != FORMAT:
        document.problem("format", f"this airgap reads policy format {FORMAT}")
    tables = {name: document.table(name) if document.has(name) else Fields({}, name) for name in _TABLES}
    licences, formats, signers = tables["licences"], tables["formats"], tables["signers"]
    vulnerabilities, found = tables["vulnerabilities"], tables["findings"]
    policy = Policy(
        what,
        Sha256(hashlib.sha256(data).hexdigest()),
        _names(licences, "allowed"),
        _names(formats, "weights"),
        formats.flag("pickle", default=True),
        formats.flag("remote-code", default=True),
        formats.flag("startup-code", default=True),
        _sources(tables["sources"]),
        signers.integer("minimum", minimum=1) if signers.has("minimum") else None,
        _names(signers, "names"),
        Limits(*(_size(tables["sizes"], key) for key in ("bundle", "artifact", "file"))),
        _rating(vulnerabilities),
        vulnerabilities.integer("data-age", minimum=1) if vulnerabilities.has("data-age") else None,
        found.flag("errors", default=True),
        _names(found, "forbidden"),
        _checks(tables["checks"]),
        tuple(_waiver(table) for table in document.tables("waivers")),
        _unstated(licences),
        _os_packages(licences),
    )
    for table in tables.values():
        table.done()
    document.done()
    document.raise_if_bad(what)
    return policy


_TABLES = ("licences", "formats", "sources", "signers", "sizes", "vulnerabilities", "findings", "checks")


def _names(fields: Fields, key: str) -> frozenset[str] | None:
    return frozenset(fields.texts(key)) if fields.has(key) else None


def _sources(fields: Fields) -> Sources:
    return Sources(
        _names(fields, "hosts"),
        _names(fields, "indexes"),
        _names(fields, "registries"),
        fields.flag("local", default=True),
    )


def _size(fields: Fields, key: str) -> int | None:
    """`500 GB`, in powers of 1000 as media are sold."""
    text = fields.optional_text(key, pattern=_SIZE.pattern, expected="a size such as 500 GB")
    match = _SIZE.fullmatch(text) if text else None
    return int(float(match[1]) * _UNITS[match[2]]) if match else None


def _rating(fields: Fields) -> Rating | None:
    if not fields.has("maximum"):
        return None
    word = fields.text("maximum")
    known = [rating.value for rating in Rating if rating is not Rating.UNKNOWN]
    if word not in known:
        fields.problem("maximum", f"expected one of {', '.join(known)}, found {word[:40]!r}")
        return Rating.NONE
    return Rating(word)


def _unstated(fields: Fields) -> frozenset[str]:
    names = _names(fields, "unstated") or frozenset()
    for name in sorted(names - set(WITHOUT_LICENCE)):
        known = ", ".join(WITHOUT_LICENCE)
        fields.problem("unstated", f"expected types among {known}, found {name[:40]!r}")
    if names and not fields.has("allowed"):
        fields.problem("unstated", "says what allowed passes over, and there is no allowed")
    return names


def _os_packages(fields: Fields) -> frozenset[str]:
    names = _names(fields, "os-packages") or frozenset()
    for name in sorted(names):
        if "*" in name and not FAMILY.fullmatch(name):
            fields.problem("os-packages", f"expected * behind LicenseRef-… alone, found {name[:40]!r}")
    if names and not fields.has("allowed"):
        fields.problem("os-packages", "says what is allowed besides, and there is no allowed")
    return names


def _checks(fields: Fields) -> frozenset[str] | None:
    names = _names(fields, "required")
    for name in sorted((names or frozenset()) - set(CHECKS)):
        fields.problem("required", f"expected checks among {', '.join(CHECKS)}, found {name[:40]!r}")
    return names


def _waiver(fields: Fields) -> Waiving:
    rule = fields.text("rule")
    if rule not in RULES:
        fields.problem("rule", f"expected one of {', '.join(RULES)}, found {rule[:40]!r}")
    expires = fields.raw("expires")
    if not isinstance(expires, date) or isinstance(expires, datetime):
        fields.problem("expires", "expected a day such as 2027-03-31, without quotes")
        expires = date.min
    said = {key: fields.text(key) for key in ("subject", "reason", "name")}
    for key, text in said.items():
        if fields.has(key) and not text.strip():
            fields.problem(key, "expected something to read, found nothing")
    fields.done()
    return Waiving(rule, said["subject"], said["reason"], said["name"], expires)
