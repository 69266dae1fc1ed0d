"""Package URLs (ECMA-427): the one name that advisories and SBOMs know a package by."""

from urllib.parse import quote

from airgap.audit.evidence import Ecosystem

_SAFE = "-._~"


def purl_of(
    ecosystem: Ecosystem,
    name: str,
    version: str,
    *,
    architecture: str = "",
    distribution: str = "",
    distribution_version: str = "",
) -> str:
    """The purl of a package; its namespace is the distribution's ID, qualifiers are sorted by their key.

    The epoch of an rpm is a qualifier, that of a deb stays in its version (purl-spec, types rpm and deb).
    """
    epoch, colon, rest = version.partition(":")
    if ecosystem is not Ecosystem.RPM or not colon:
        epoch, rest = "", version
    namespace = f"{quote(distribution.lower(), safe=_SAFE)}/" if distribution else ""
    pairs = []
    if architecture:
        pairs.append(("arch", architecture))
    if distribution and distribution_version:
        pairs.append(("distro", f"{distribution}-{distribution_version}"))
    if epoch:
        pairs.append(("epoch", epoch))
    qualifiers = "&".join(f"{key}={quote(value, safe=_SAFE)}" for key, value in pairs)
    at = f"@{quote(rest, safe=_SAFE + ':')}" if rest else ""
    return f"pkg:{ecosystem}/{namespace}{quote(name, safe=_SAFE)}{at}" + (
        f"?{qualifiers}" if qualifiers else ""
    )
