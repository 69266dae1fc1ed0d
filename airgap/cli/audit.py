"""`airgap audit`: what is in a bundle or a site, file by file, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airgap.audit.evidence import Audit, BundleFact, SubjectKind
from airgap.audit.pack import PAGE, render_pack, require_libraries
from airgap.audit.rating import Rating
from airgap.audit.reading import BlobSource
from airgap.audit.run import Judge, audit_bundle
from airgap.audit.spdx import conjuncts
from airgap.cli.options import FILE, json_option, policy_options, root_options
from airgap.cli.terminal import emit, print_findings, printable, progress_for
from airgap.errors import IntegrityError, PolicyError, TrustError
from airgap.isolated.identity import load_recipient
from airgap.isolated.memory import Memory, load_memory
from airgap.isolated.site import Site
from airgap.layout import read_envelope
from airgap.media import Media, is_volume, shown
from airgap.model import Kind, Severity
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.provenance import describe, of_wheels
from airgap.store import host_errors, write_durably
from airgap.trust.instant import render_instant
from airgap.units import amount, human_bytes

if TYPE_CHECKING:
    from airgap.audit.policy import Policy

MAX_SHOWN = 25
"""Findings that the page repeats, the worst first: an image of a distribution alone may have a dozen."""


_NOUNS = {Severity.ERROR: ("error",), Severity.WARNING: ("warning",), Severity.INFO: ("info", "info")}


@click.command(
    epilog="""\b
Examples
  airgap audit /media/disc1 --site /srv/airgap -o evidence
  airgap audit /media/disc1 /media/disc2 --site /srv/airgap
  airgap audit /srv/airgap --osv all.zip --policy policy.toml
Exit codes: 0 looked at, 3 neither bundle nor site, 6 bytes are not what was signed,
  7 the signatures do not hold, 8 the policy is broken, or found what --fail-on
  names, 9 it cannot be read, or DIR not written
"""
)
@click.argument("subjects", type=FILE, metavar="BUNDLE|VOLUME...|SITE", nargs=-1, required=True)
@root_options
@click.option(
    "-o",
    "--out",
    type=FILE,
    metavar="DIR",
    help="Write the evidence pack there: report.html, report.json, files.csv, SBOMs.",
)
@click.option("--no-sbom", is_flag=True, help="Leave sbom.cdx.json and sbom.spdx.json out.")
@click.option(
    "--fail-on",
    type=click.Choice([Severity.ERROR.value, Severity.WARNING.value]),
    help="Exit with 8 on a finding this bad or worse.",
)
@click.option("--check", is_flag=True, help="Also what airgap check says; reads images once more.")
@click.option(
    "--since", "earlier", type=FILE, metavar="A", help="Also what changed since this bundle or lock."
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Blobs read at once; default one per CPU, one for a disc drive.",
)
@policy_options
@json_option
def audit(
    subjects: Sequence[Path],
    site: Path | None,
    root: Path | None,
    fingerprint: str | None,
    *,
    out: Path | None,
    no_sbom: bool,
    fail_on: str | None,
    check: bool,
    earlier: Path | None,
    jobs: int | None,
    policy_file: Path | None,
    osv: tuple[str, ...],
    as_json: bool,
) -> int:
    """Read every byte once, look inside of everything, and say what it is and what is wrong with it.

    Offline, and nothing is unpacked, imported or run. A SITE is judged by its own root. Of a bundle in
    volumes, name all that are here at once.
    """
    policy = _policy(policy_file) if policy_file else None
    if check and (len(subjects) > 1 or Site(subjects[0]).ever_installed()):
        raise click.UsageError("--check takes a bundle that is whole, neither its volumes nor a site")
    if out and not no_sbom:
        require_libraries()
    progress = progress_for(json=as_json)
    found = _audit(subjects, site, root, fingerprint, progress, jobs)
    if check and not _damaged(found):
        from airgap.cli.verdicts import verdicts_of  # noqa: PLC0415

        found = replace(found, verdicts=verdicts_of(subjects[0], progress))
    if earlier and not _damaged(found):
        from airgap.cli.since import changes_since  # noqa: PLC0415

        found = replace(found, since=changes_since(earlier, subjects[0], progress))
    if policy or osv or any(one.kind is Kind.FILE for one in found.artifacts):  # which may be advisories
        found = _judged(found, subjects, policy, osv, progress)
    written = _write(found, out, sbom=not no_sbom) if out else []
    if as_json:
        emit(found.as_json())
    else:
        print_findings(found.findings[:MAX_SHOWN])
        if len(found.findings) > MAX_SHOWN:
            click.echo(f"and {len(found.findings) - MAX_SHOWN} more: -o DIR or --json has every one")
        for line in _page(found):
            click.echo(printable(line))
        if out:
            click.echo(f"in {printable(shown(str(out)))}: {', '.join(written)}; open {PAGE} in any browser")
    return _exit_code(found, fail_on)


# What some ask for is imported by them alone: all of it together is half of the start.


def _policy(file: Path) -> "Policy":
    """Raises InputError with every problem of the policy."""
    from airgap.audit.policy import load_policy  # noqa: PLC0415

    return load_policy(file)


def _judged(
    found: Audit, subjects: Sequence[Path], policy: "Policy | None", osv: tuple[str, ...], progress: Progress
) -> Audit:
    """With what advisories and the policy say of it."""
    from airgap.cli.policing import judged  # noqa: PLC0415

    with ExitStack() as stack:
        media = [stack.enter_context(Media(subject)) for subject in subjects]
        return judged(found, _source(media, found.subject.kind), policy, osv, progress)


def _audit(
    subjects: Sequence[Path],
    site: Path | None,
    root: Path | None,
    fingerprint: str | None,
    progress: Progress,
    jobs: int | None,
) -> Audit:
    installed = Site(subjects[0])
    of_site = len(subjects) == 1 and installed.ever_installed()
    site = site or (subjects[0] if of_site else None)
    trusted = trusted_root(site, root, fingerprint) if site or root or fingerprint else None
    memory = load_memory(Site(site)) if site else Memory()
    memory = memory.following(trusted) if trusted else memory
    recipient = load_recipient(Site(site)) if site else None
    now = memory.clock(datetime.now(UTC).replace(microsecond=0))
    where = ", ".join(shown(str(subject)) for subject in subjects)
    if of_site:
        from airgap.audit.site import audit_site  # noqa: PLC0415

        # What is installed was judged by the floors of its day; it may be older than what came since.
        judging = Judge(now, trusted, None, recipient)
        name = recipient.name if recipient else ""
        return audit_site(installed, where, name, judging, progress=progress, jobs=jobs)
    judging = Judge(now, trusted, memory.accepted, recipient)
    with ExitStack() as stack:
        media = [stack.enter_context(Media(subject)) for subject in subjects]
        envelope = read_envelope(media[0], also=", or a site's directory")
        if len(media) == 1 and not is_volume(media[0]):
            return audit_bundle(media[0], where, judging, envelope, progress=progress, jobs=jobs)
        from airgap.audit.volumes import audit_volumes  # noqa: PLC0415

        return audit_volumes(media, where, judging, progress=progress, jobs=jobs)


def _source(media: Sequence[Media], kind: SubjectKind) -> BlobSource:
    if kind is not SubjectKind.VOLUMES:
        return media[0]
    from airgap.audit.volumes import together  # noqa: PLC0415

    return together(media)


def _write(found: Audit, out: Path, *, sbom: bool) -> list[str]:
    """Write the pack; returns the names of its files. Raises HostError."""
    with host_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, data in render_pack(found, sbom=sbom):
        write_durably(out / name, data)
        written.append(name)
    return written


def _damaged(found: Audit) -> bool:
    return any(
        one.code.startswith(("integrity-", "layout-", "volume-")) and one.severity is Severity.ERROR
        for one in found.findings
    )


def _exit_code(found: Audit, fail_on: str | None) -> int:
    if any(bundle.signing.problem for bundle in found.subject.bundles):
        return TrustError.exit_code
    if _damaged(found):
        return IntegrityError.exit_code
    if found.policy and found.policy.broken:
        return PolicyError.exit_code
    order = list(Severity)
    if fail_on and any(order.index(one.severity) <= order.index(Severity(fail_on)) for one in found.findings):
        return PolicyError.exit_code
    return 0


def _page(found: Audit) -> Iterator[str]:
    """One page that can be read aloud: what it is, who vouches for it, what is in it, what is wrong."""
    subject = found.subject
    if subject.kind is SubjectKind.SITE:
        name = f" {subject.site}" if subject.site else ""
        yield f"site{name} at {subject.where}, generation {subject.generation}"
    for bundle in subject.bundles:
        yield from _bundle(bundle)
    for artifact in found.artifacts:
        source = f", {artifact.source}" if artifact.source else ""
        size = f"{amount(artifact.files, 'file')}, {human_bytes(artifact.bytes)}"
        yield f"  {artifact.kind} {artifact.name}: {size}{source}"
        if artifact.signature:
            yield f"    signature: {describe(artifact.signature)}"
        wheels = [w.provenance for w in found.wheels if w.artifact == artifact.name and w.provenance]
        if wheels:
            yield f"    {of_wheels(wheels)}"
    totals = found.totals
    yield (
        f"  {amount(totals.files, 'file')} inside, {amount(totals.packages, 'package')};"
        f" read {human_bytes(totals.read)} of {human_bytes(totals.bytes)}"
    )
    licences = Counter(one or "nothing said" for each in found.packages for one in conjuncts(each.licence))
    if licences:
        most = ", ".join(f"{name} {count}" for name, count in licences.most_common(6))
        yield f"  licences: {most}{' and others' if len(licences) > 6 else ''}"
    yield from _vulnerabilities(found)
    for verdict in found.verdicts or ():
        said = f": {verdict.reasons[0]}" if verdict.reasons else ""
        yield f"  airgap check of {verdict.component}: {verdict.verdict.replace('_', ' ')}{said}"
    if found.since:
        from airgap.audit.report_since import summary  # noqa: PLC0415

        yield f"  since {found.since.title}: {summary(found.since)}"
    if found.policy:
        from airgap.cli.policing import policy_lines  # noqa: PLC0415

        yield from policy_lines(found.policy)
    counts = [amount(count, *_NOUNS[severity]) for severity, count in found.by_severity().items() if count]
    yield f"findings: {', '.join(counts) or 'none'}"
    if found.findings:
        codes = Counter(finding.code for finding in found.findings)
        yield "  " + ", ".join(f"{code} {count}" for code, count in codes.most_common())


def _vulnerabilities(found: Audit) -> Iterator[str]:
    for data in found.vulnerability_data:
        age = "of unknown age" if data.age_days is None else f"{data.age_days} days old"
        yield f"  advisories of {data.source}: {data.advisories}, {age} ({', '.join(data.ecosystems[:5])})"
    if found.vulnerabilities is not None:
        counts = Counter(one.rating for one in found.vulnerabilities)
        said = ", ".join(f"{counts[rating]} {rating}" for rating in Rating if counts[rating])
        yield f"  vulnerabilities: {said or 'none that is known'}"


def _bundle(bundle: BundleFact) -> Iterator[str]:
    audience = f", for {', '.join(bundle.audience)} only" if bundle.audience else ""
    yield (
        f"{bundle.name} {bundle.version}, channel {bundle.channel}, sequence {bundle.sequence}{audience};"
        f" made {render_instant(bundle.made)}"
    )
    signing = bundle.signing
    if not signing.judged:
        count = len(signing.keyids)
        yield f"  {amount(count, 'signature')}, judged by nobody: give --site, or --root and --fingerprint"
    elif signing.problem:
        yield f"  NOT to be believed: {signing.problem}"
    else:
        missing = f"; not signed by {', '.join(signing.missing)}, not needed" if signing.missing else ""
        until = f"; holds until {render_instant(signing.holds_until)}" if signing.holds_until else ""
        yield f"  signed by {', '.join(signing.signers)}{missing}{until}"
    target = bundle.target
    yield f"  for Python {target.python}, {target.platform}, glibc {target.glibc}"
