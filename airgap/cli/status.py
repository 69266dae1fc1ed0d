"""`airgap status`: what a site holds, and whether it still is what was installed."""

from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.receive import progressed_document, show_progressed
from airgap.cli.records import record_document, record_line
from airgap.cli.site import describe, site_option
from airgap.cli.terminal import emit, print_findings, printable, progress_for
from airgap.errors import HostError, IntegrityError
from airgap.isolated.arrival import Arrival, Progressed
from airgap.isolated.catalogue import Catalogue, verify_catalogue
from airgap.isolated.drift import verify_site
from airgap.isolated.memory import Memory, load_memory
from airgap.isolated.site import Site
from airgap.isolated.status import Generation, Status, read_status
from airgap.media import Media, shown
from airgap.model import Finding, Severity
from airgap.pinned import trusted_root
from airgap.records import MAX_KEPT, carried_records
from airgap.trust.instant import render_instant
from airgap.trust.root import Root
from airgap.units import amount, human_bytes


@click.command(
    epilog="""\b
Examples
  airgap status --site /srv/airgap
  airgap status --site /srv/airgap --verify
Exit codes: 0 shown, and with --verify every byte is as installed, 6 something differs,
  7 the root or the memory is gone or damaged, 9 the site cannot be read
"""
)
@site_option
@click.option("--verify", is_flag=True, help="Hash everything that is installed, and name what differs.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Threads that hash; default one per CPU, one for a disc drive.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def status(*, site: Path, verify: bool, jobs: int | None, as_json: bool) -> int:
    """Show what is installed, from which bundles, vouched for by whom, and what the site can go back to."""
    root = trusted_root(site, None, None)
    target = Site(site)
    memory = load_memory(target).following(root)
    findings = _verify(target, jobs, as_json=as_json) if verify else ()
    wrong = [finding for finding in findings if finding.severity is Severity.ERROR]
    found = None if any(f.code == "integrity-link" for f in findings) else read_status(target)
    with Media(target.root) as media:
        records = carried_records(media, root, memory.clock(datetime.now(UTC)), at_most=MAX_KEPT)
    if as_json:
        document = {} if found is None else _document(found, memory)
        emit(
            {
                "site": shown(str(target.root)),
                **document,
                "root": {"version": root.version, "expires": render_instant(root.expires)},
                "records": [record_document(record) for record in records],
                "accepted": {name: one.floor.sequence for name, one in memory.accepted.items()},
                **({"findings": [finding.as_json() for finding in findings]} if verify else {}),
            }
        )
    else:
        print_findings(findings)
        if found is not None:
            _show(found, target, memory)
        for record in records:
            click.echo(record_line(record))
        _show_trust(root, memory)
        if verify:
            click.echo(f"{amount(len(wrong), 'finding')}" if wrong else "every byte is as it was installed")
    return IntegrityError.exit_code if wrong else 0


def _verify(site: Site, jobs: int | None, *, as_json: bool) -> tuple[Finding, ...]:
    """Refuses a site that changes meanwhile: what differs would then say nothing."""
    busy, numbers = site.busy(), site.numbers()
    progress = progress_for(json=as_json)
    findings = () if busy else (*verify_site(site, progress, jobs), *verify_catalogue(site, progress, jobs))
    busy = busy or site.busy()
    if busy:
        raise HostError(f"{site.root}: being changed by {busy}", remedy="wait for it, then repeat")
    if site.numbers() != numbers:
        raise HostError(
            f"{site.root}: was changed by another process while it was hashed",
            remedy="repeat: what was found out says nothing now",
        )
    return findings


def _show(found: Status, site: Site, memory: Memory) -> None:
    name = printable(shown(str(site.root)))
    if found.current is None:
        click.echo(f"{name}: nothing is installed")
    else:
        held = "" if found.bundles else ": nothing is installed"
        click.echo(f"{name}: generation {found.current} is current{held}")
    for bundle in found.bundles:
        click.echo(f"{bundle}, channel {bundle.channel}, signed by {', '.join(bundle.signers)}")
        click.echo(f"  installed {render_instant(bundle.installed_at)}")
        artifacts = found.artifacts.get(bundle.name)
        click.echo(
            f"  {', '.join(artifacts)}" if artifacts else "  its documents are damaged: status --verify"
        )
        if bundle.left_out:
            click.echo(f"  uninstalled: {', '.join(bundle.left_out)}")
    if found.generations:
        click.echo("generations")
    for generation in found.generations:
        click.echo(_line(generation, current=generation.number == found.current))
    for arrival, far in found.arriving:
        _show_arriving(arrival, far, memory)
    if found.busy:
        click.echo(f"being changed by {printable(found.busy)}")
    if found.catalogue:
        _show_catalogue(found.catalogue)
    inodes = "" if found.free.inodes is None else f", {found.free.inodes} inodes"
    click.echo(f"free: {human_bytes(found.free.bytes)}{inodes}")
    if found.unused_bytes:
        click.echo(f"in use by no generation: {human_bytes(found.unused_bytes)}; airgap gc frees it")


def _show_arriving(arrival: Arrival, far: Progressed | None, memory: Memory) -> None:
    name = arrival.payload[:12]
    if far is None:
        click.echo(f"arriving: {arrival.payload} is damaged: airgap receive --forget {name}")
    elif memory.supersedes(far.statement):
        stated = far.statement
        click.echo(f"arriving, {name}: {stated.name} {stated.version}, {stated.place}")
        click.echo("  a newer one was accepted, so no install takes it, and it still takes its room")
        click.echo(f"  -> airgap receive --forget {name}")
    else:
        click.echo(f"arriving, {name}:")
        show_progressed(far)


def _show_catalogue(catalogue: Catalogue) -> None:
    names = ", ".join(sorted(model.name for model in catalogue.models.values())) or "none"
    wrong = (
        f"; NOT in step: {amount(len(catalogue.findings), 'finding')} of --verify"
        if catalogue.findings
        else ""
    )
    click.echo(f"models in {printable(shown(str(catalogue.directory)))}: {names}{wrong}")


def _line(generation: Generation, *, current: bool) -> str:
    made = render_instant(generation.made) if generation.made else "receipt damaged"
    what = ", ".join(str(bundle) for bundle in generation.bundles) or "nothing"
    return f"{'*' if current else ' '} {generation.number}  {made}  {what}"


def _show_trust(root: Root, memory: Memory) -> None:
    click.echo(f"root version {root.version} until {render_instant(root.expires)}")
    for channel, accepted in sorted(memory.accepted.items()):
        click.echo(f"channel {channel}: sequence {accepted.floor.sequence} accepted, nothing older will be")


def _document(found: Status, memory: Memory) -> dict[str, object]:
    last = found.changed
    return {
        "current": found.current,
        "bundles": [
            {**describe(bundle), "artifacts": list(found.artifacts.get(bundle.name, ()))}
            for bundle in found.bundles
        ],
        "generations": [
            {
                "number": generation.number,
                "made": render_instant(generation.made) if generation.made else None,
                "asked": generation.asked,
                "bundles": [describe(bundle) for bundle in generation.bundles],
            }
            for generation in found.generations
        ],
        "last_change": {"action": last.action.value, "at": render_instant(last.at), "asked": last.asked}
        if last
        else None,
        "free": {"bytes": found.free.bytes, "inodes": found.free.inodes},
        "unused_bytes": found.unused_bytes,
        "arriving": [
            progressed_document(far) | {"superseded": memory.supersedes(far.statement)}
            if far
            else {"payload_sha384": arrival.payload, "damaged": True}
            for arrival, far in found.arriving
        ],
        "busy": found.busy,
        "catalogue": {
            "directory": shown(str(found.catalogue.directory)),
            "models": sorted(model.name for model in found.catalogue.models.values()),
            "in_step": not found.catalogue.findings,
        }
        if found.catalogue
        else None,
    }
