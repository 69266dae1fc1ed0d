"""Pictures where people look: composition by size, licences, severity, and when things happened."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from airgap.audit.debian_copyright import REFERENCE
from airgap.audit.evidence import Audit, Ecosystem
from airgap.audit.page import Bar, Html, bars, element, join, section, text
from airgap.audit.report_since import changes, summary
from airgap.audit.spdx import conjuncts
from airgap.model import Kind
from airgap.trust.instant import render_instant
from airgap.units import human_bytes

MOST = 10
"""Bars of one chart; what is smaller is put together."""

KIND_STYLE = {Kind.MODEL: "c0", Kind.CONTAINER: "c1", Kind.WHEELS: "c2", Kind.FILE: "c3"}
NO_LICENCE = "none stated"


def pictures_section(audit: Audit) -> Html:
    """Each picture has its numbers beside it, so that it can be read aloud and printed in grey."""
    charts = (
        bars("Composition by size", composition(audit)),
        bars("Findings by severity", severities(audit)),
        bars("Licences of packages and models", licences(audit)),
        bars("Bytes of weights by type", weights(audit)),
        *([bars(f"Artifacts since {audit.since.title}", changes(audit))] if audit.since else []),
        _timeline(audit),
    )
    return section("pictures", "Pictures", element("div", *charts, kind="figures"))


def composition(audit: Audit) -> list[Bar]:
    """A bar an artifact, the largest first."""
    largest = sorted(audit.artifacts, key=lambda artifact: (-artifact.bytes, artifact.name))
    named = [
        Bar(
            f"{artifact.kind} {artifact.name}",
            artifact.bytes,
            human_bytes(artifact.bytes),
            KIND_STYLE[artifact.kind],
        )
        for artifact in largest[:MOST]
    ]
    rest = largest[MOST:]
    size = sum(artifact.bytes for artifact in rest)
    return named + ([Bar(f"{len(rest)} more", size, human_bytes(size), "c4")] if rest else [])


def severities(audit: Audit) -> list[Bar]:
    return [Bar(s.value, count, str(count), s.value) for s, count in audit.by_severity().items() if count]


def licences(audit: Audit) -> list[Bar]:
    """How many packages and models state which, of several each; OS packages without a word by themselves."""
    counts: Counter[str] = Counter()
    spelled: dict[str, str] = {}
    for package in audit.packages:
        silent = NO_LICENCE if package.ecosystem is Ecosystem.PYPI else f"{NO_LICENCE} ({package.ecosystem})"
        parts = dict.fromkeys(_known(one) for one in conjuncts(package.licence))
        counts.update(_same(_short(one) or silent, spelled) for one in parts)
    counts.update(_same(_short(model.licence) or NO_LICENCE, spelled) for model in audit.models)
    common = counts.most_common()
    named = [
        Bar(name, count, str(count), "c4" if NO_LICENCE in name else "c0") for name, count in common[:MOST]
    ]
    rest = common[MOST:]
    total = sum(count for _, count in rest)
    return named + ([Bar(f"{len(rest)} more licences", total, str(total), "c4")] if rest else [])


def weights(audit: Audit) -> list[Bar]:
    sizes: defaultdict[str, int] = defaultdict(int)
    for model in audit.models:
        for dtype, size in model.bytes_by_dtype.items():
            sizes[dtype] += size
    ordered = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))
    return [Bar(dtype, size, human_bytes(size)) for dtype, size in ordered]


def moments(audit: Audit) -> list[tuple[str, str]]:
    """Dated events, the oldest first: (instant, what happened)."""
    return sorted(set(_moments(audit)))


def _moments(audit: Audit) -> Iterator[tuple[str, str]]:
    for bundle in audit.subject.bundles:
        named = f"{bundle.name} {bundle.version}"
        changed = f": {summary(audit.since)} since {audit.since.title}" if audit.since else ""
        yield render_instant(bundle.made), f"{named} was made{changed}"
        yield render_instant(bundle.expires), f"{named} expires"
        if bundle.installed:
            yield render_instant(bundle.installed), f"{named} was installed"
        if bundle.signing.holds_until and bundle.signing.holds_until != bundle.expires:
            yield render_instant(bundle.signing.holds_until), f"the root that {named} is judged by expires"
    if audit.since and audit.since.made:
        yield render_instant(audit.since.made), f"{audit.since.title} was made"
    for image in audit.images:
        if image.created:
            yield image.created, f"image {image.artifact} was built, as it says"
    yield render_instant(audit.at), "this audit"


def _timeline(audit: Audit) -> Html:
    return timeline("Timeline", moments(audit))


def timeline(title: str, events: Iterable[tuple[str, str]]) -> Html:
    """Events along a line; the order is theirs."""
    items = (
        element("li", element("time", text(instant[:16].replace("T", " "))), element("span", text(what)))
        for instant, what in events
    )
    return element("figure", element("figcaption", text(title)), element("ol", join(items), kind="timeline"))


def _known(licence: str) -> str:
    """Names that SPDX has not are told apart in the table of packages: there are dozens, each of a few."""
    return f"{REFERENCE}…" if licence.startswith(REFERENCE) and " " not in licence else licence


def _same(licence: str, spelled: dict[str, str]) -> str:
    """SPDX names mean the same in any case, and hubs write them small: the first spelling stands for all."""
    return spelled.setdefault(licence.casefold(), licence)


def _short(licence: str) -> str:
    """One line of a licence text, as a label."""
    first = licence.strip().split("\n")[0]
    return first if len(first) <= 48 else f"{first[:47]}…"
