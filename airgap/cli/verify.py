"""`airgap verify`: signatures, and every byte of a bundle."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airgap.cli.options import asked_policy, no_stream, policy_options
from airgap.cli.records import record_document, record_line
from airgap.cli.stated import base_document, delta_lines
from airgap.cli.terminal import emit, print_findings, printable, progress_for
from airgap.errors import IntegrityError, MissingPartError, PolicyError, TrustError
from airgap.isolated.counted import Lacking, counted_by, lost_blobs, uses_of
from airgap.isolated.identity import load_recipient, make_recipient
from airgap.isolated.memory import Memory, load_memory
from airgap.isolated.site import Site
from airgap.media import Media, is_volume, shown
from airgap.pinned import carried_roots, newest, trusted_root
from airgap.progress import Progress
from airgap.records import Record, carried_records, record_findings
from airgap.trust.decide import Recipient
from airgap.trust.instant import render_instant
from airgap.trust.root import Root
from airgap.units import amount, human_bytes
from airgap.verify import Signed, Verification, examine, open_signed

if TYPE_CHECKING:
    from airgap.cli.policing import Policed, Policing
    from airgap.cli.volumes import Volumes


@dataclass(frozen=True, slots=True)
class _Verified:
    """A bundle as it was found; `lacking` is None where there is no site to lack anything."""

    bundle: Path
    verification: Verification
    lacking: Lacking | None
    records: tuple[Record, ...]
    policed: "Policed | None"
    """None without a policy, and for a bundle that is not as signed."""


@dataclass(frozen=True, slots=True)
class _By:
    """By what everything that was named is judged, but for the root."""

    policing: "Policing | None"
    site: Site | None
    now: datetime
    recipient: Recipient
    progress: Progress
    jobs: int | None

    def bundle(self, media: Media, signed: Signed, root: Root) -> _Verified:
        policed = None
        if self.policing:
            examined, policed = self.policing.verified(
                media, signed, self.now, self.recipient, self.progress, self.jobs
            )
            contents, findings = examined.contents, examined.findings
        else:
            contents, findings = examine(media, signed, progress=self.progress, jobs=self.jobs)
        records = carried_records(media, root, self.now)
        findings = (*findings, *signed.judged.findings, *record_findings(records))
        verification = Verification(signed.judged, contents, findings)
        lacking = _lacking(verification, self.site, media.root) if self.site else None
        return _Verified(media.root, verification, lacking, records, policed)

    def volumes(self, volumes: Sequence[Media], signed_by: Callable[[Media], Signed]) -> "Volumes":
        from airgap.cli.volumes import judge_volumes  # noqa: PLC0415 - whole bundles start faster without

        look = None
        if self.policing:
            look = partial(
                self.policing.volumes,
                now=self.now,
                recipient=self.recipient,
                progress=self.progress,
                jobs=self.jobs,
            )
        return judge_volumes(volumes, signed_by, look=look, progress=self.progress, jobs=self.jobs)


_PATH = click.Path(path_type=Path, readable=False)


@click.command(
    epilog="""\b
Examples
  airgap verify /media/disc1 --site /srv/airgap
  airgap verify /media/disc1 /media/disc2 --site /srv/airgap
  airgap verify /media/disc1 --root 1.root.json --fingerprint "9f3a 01c4 …"
  airgap verify /media/disc1 --site /srv/airgap --policy policy.toml
Exit codes: 0 every byte is as signed, 3 not a bundle, 6 bytes differ,
  7 signatures, root or sequence do not hold, 8 the policy is broken, 9 the media cannot be read,
  10 all as signed, but volumes lack, or what a delta counts on
"""
)
@click.argument(
    "bundles", metavar="BUNDLE|VOLUME...", type=_PATH, nargs=-1, required=True, callback=no_stream
)
@click.option("--site", type=_PATH, metavar="DIR", help="Judge by the root and the memory of this site.")
@click.option("--root", type=_PATH, metavar="FILE", help="Judge by this root, where there is no site yet.")
@click.option("--fingerprint", metavar="TEXT", help="The root's fingerprint, as the holders read it to you.")
@click.option("--site-name", metavar="NAME", help="Which site to be for a bundle's audience, without --site.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads that hash; default one per CPU, one for a disc drive.",
)
@policy_options
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def verify(
    bundles: Sequence[Path],
    *,
    site: Path | None,
    root: Path | None,
    fingerprint: str | None,
    site_name: str | None,
    jobs: int | None,
    policy_file: Path | None,
    osv: tuple[str, ...],
    as_json: bool,
) -> int:
    """Check the signatures and every byte of each BUNDLE, and report every difference at once.

    Of a bundle in volumes any of them may be here, in any order: each is judged by itself, then all
    together, with the shortest list of what must be burnt again or still lacks.
    Newer roots that a BUNDLE brings are applied before it is judged, and kept by airgap install only.
    With --policy it is looked into while it is read, and judged where it is as signed; volumes where all
    of them are here.
    """
    policing = asked_policy(policy_file, osv)
    if site and site_name:
        raise click.UsageError("--site-name is for where there is no --site yet: a site has its name")
    trusted = trusted_root(site, root, fingerprint)
    memory = (load_memory(Site(site)) if site else Memory()).following(trusted)
    recipient = load_recipient(Site(site)) if site else make_recipient(site_name or "", ())
    now = memory.clock(datetime.now(UTC).replace(microsecond=0))
    by = _By(policing, Site(site) if site else None, now, recipient, progress_for(json=as_json), jobs)
    found: list[_Verified] = []

    def signed_as_trusted(media: Media) -> Signed:
        nonlocal trusted
        trusted = newest(trusted, carried_roots(media, trusted))
        return open_signed(media, trusted, now, memory.accepted, recipient)

    with ExitStack() as opened:
        given = [opened.enter_context(Media(bundle)) for bundle in bundles]
        volumes = [media for media in given if is_volume(media)]
        for media in (one for one in given if one not in volumes):
            signed = signed_as_trusted(media)
            found.append(by.bundle(media, signed, trusted))
            if not as_json:
                _show(found[-1])
        judged = by.volumes(volumes, signed_as_trusted) if volumes else None
    if as_json:
        of_volumes = judged.document() if judged else {"collections": [], "refused": []}
        emit({"bundles": [_document(one) for one in found], **of_volumes})
    elif judged:
        judged.show()
    return _exit_code(found, judged)


def _exit_code(found: Sequence[_Verified], volumes: "Volumes | None") -> int:
    """The gravest first: trust, then bytes that differ, then what is not here."""
    if volumes and volumes.untrusted:
        return TrustError.exit_code
    if not all(one.verification.sound for one in found) or (volumes and not volumes.sound):
        return IntegrityError.exit_code
    if any(one.lacking and one.lacking.blobs for one in found) or (volumes and not volumes.complete):
        return MissingPartError.exit_code
    answers = [*(one.policed for one in found), *(volumes.policed or () if volumes else ())]
    return PolicyError.exit_code if any(one and one.broken for one in answers) else 0


def _lacking(verification: Verification, site: Site, bundle: Path) -> Lacking:
    """What a delta counts on and the site has not, by name and size; each bundle is judged by itself."""
    stated = verification.judged.statement
    artifacts = verification.contents.artifacts if verification.contents else ()
    return Lacking(bundle, stated, lost_blobs(site, counted_by(stated, site)), uses_of(artifacts, stated))


def _show(verified: _Verified) -> None:
    verification = verified.verification
    judged = verification.judged
    stated = judged.statement
    print_findings(verification.findings)
    click.echo(f"{stated.name} {stated.version}, {stated.place}")
    missing = f"; not signed by {', '.join(judged.missing)}, not needed" if judged.missing else ""
    until = f"holds until {render_instant(judged.holds_until)}"
    if judged.root and judged.root.expires == judged.holds_until:
        until += f", when root version {judged.root.version} expires"
    click.echo(f"  signed by {', '.join(judged.signers)}{missing}; {until}")
    size = human_bytes(stated.total_bytes)
    verdict = "every byte is as signed" if verification.sound else "NOT what was signed: do not install it"
    click.echo(
        f"  {amount(len(stated.artifacts), 'artifact')}, {amount(len(stated.travelling), 'blob')}, {size}:"
        f" {verdict}"
    )
    for line in delta_lines(stated):
        click.echo(f"  {line}")
    if stated.base and verified.lacking:
        _show_lacking(verified.lacking)
    for record in verified.records:
        click.echo(f"  {record_line(record)}")
    for line in verified.policed.lines() if verified.policed else ():
        click.echo(printable(f"  {line}"))
    if not verification.sound:
        click.echo(
            f"  {amount(len(verification.findings), 'finding')} in {printable(shown(str(verified.bundle)))}"
        )


def _show_lacking(lacking: Lacking) -> None:
    if not lacking.blobs:
        click.echo("  which the site holds")
        return
    size = human_bytes(lacking.total_bytes)
    click.echo(f"  of which the site LACKS {len(lacking.blobs)}, {size}: it will be refused")
    for line in lacking.lines():
        click.echo(printable(f"    {line}"))


def _document(verified: _Verified) -> dict[str, object]:
    verification, lacking = verified.verification, verified.lacking
    judged = verification.judged
    stated = judged.statement
    return {
        "bundle": shown(str(verified.bundle)),
        "sound": verification.sound,
        "name": stated.name,
        "version": stated.version,
        "channel": stated.channel,
        "audience": list(stated.audience),
        "epoch": stated.epoch,
        "sequence": stated.sequence,
        "payload_sha384": judged.payload,
        "created_at": render_instant(stated.created_at),
        "expires_at": render_instant(stated.expires_at),
        "holds_until": render_instant(judged.holds_until),
        "root_version": judged.root.version if judged.root else None,
        "signers": list(judged.signers),
        "missing": list(judged.missing),
        "artifacts": [{"kind": a.kind.value, "name": a.name, "digest": a.digest} for a in stated.artifacts],
        "blobs": len(stated.travelling),
        "bytes": stated.total_bytes,
        "base": base_document(stated),
        "lacking": sorted(lacking.blobs) if lacking else None,
        "records": [record_document(record) for record in verified.records],
        "findings": [finding.as_json() for finding in verification.findings],
        "policy": verified.policed.document if verified.policed else None,
    }
