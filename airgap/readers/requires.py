"""Declared pins, judged with the target's markers. Needs `packaging`, which the connected side brings."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from airgap.errors import InputError
from airgap.readers.wheel import Metadata
from airgap.tags import normalized_name


@dataclass(frozen=True, slots=True)
class Pin:
    """One Requires-Dist that applies. `specifier` is '' for any version; `line` is in METADATA."""

    name: str
    """Normalised (PEP 503)."""
    extras: frozenset[str]
    specifier: str
    written: str
    line: int

    def allows(self, version: str) -> bool:
        """As pip judges a version that is already chosen: pre-releases count. Raises InputError."""
        try:
            return SpecifierSet(self.specifier).contains(_version(version), prereleases=True)
        except ValueError:  # a number that Python will not convert
            raise InputError(f"expected a specifier of PEP 440, found {self.specifier[:80]!r}") from None


def pins(metadata: Metadata, environment: Mapping[str, str], extras: Iterable[str] = ()) -> tuple[Pin, ...]:
    """What the package requires where `environment` holds (`tags.marker_environment`) with these extras.

    Raises InputError for a requirement that PEP 508 does not allow.
    """
    wanted = [{**environment, "extra": extra} for extra in ("", *extras)]
    found = []
    for line in metadata.requires:
        written = re.sub(r"://[^/\s]*@", "://", line)  # a direct reference may hold a login
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            raise InputError(
                f"{metadata.name} {metadata.version}: expected a requirement of PEP 508,"
                f" found {written[:120]!r}"
            ) from None
        marker = requirement.marker
        try:
            applies = marker is None or any(marker.evaluate(values) for values in wanted)
        except (UndefinedComparison, UndefinedEnvironmentName) as error:
            raise InputError(f"{metadata.name} {metadata.version}: {written[:120]!r}: {error}") from None
        if applies:
            found.append(
                Pin(
                    normalized_name(requirement.name),
                    frozenset(requirement.extras),
                    str(requirement.specifier),
                    written,
                    metadata.lines.get(line, 0),
                )
            )
    return tuple(found)


def allows_python(requires_python: str, version: str) -> bool:
    """Whether Requires-Python accepts a Python such as `3.12.0` (PEP 440). Raises InputError."""
    try:
        return SpecifierSet(requires_python).contains(_version(version), prereleases=True)
    except ValueError:  # InvalidSpecifier, and a number that Python will not convert
        raise InputError(f"expected a Requires-Python of PEP 440, found {requires_python[:80]!r}") from None


def _version(text: str) -> Version:
    try:
        return Version(text)
    except ValueError:  # InvalidVersion, and a number that Python will not convert
        raise InputError(f"expected a version of PEP 440, found {text[:80]!r}") from None
