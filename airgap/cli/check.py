"""`airgap check`: what cannot run on the target, with evidence."""

import shutil
from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import click

from airgap.cli.options import FILE, byte_count, json_option, root_options
from airgap.cli.stated import read_stated_lock
from airgap.cli.terminal import emit, printable, progress_for
from airgap.cli.weighing import gather_records, weigh
from airgap.cli.workspace import index_urls, lock_path, open_context, read_target_of
from airgap.connected.asked import gather_manifest
from airgap.connected.evidence import Gathered, gather_lock
from airgap.connected.opener import IMAGE_LIMIT, Opener
from airgap.connected.serving_code import GivenCode, read_given, with_unmet
from airgap.connected.suggest import suggest
from airgap.decode import read_capped
from airgap.destination import target_table
from airgap.layout import read_envelope
from airgap.lock import Lock, parse_lock
from airgap.manifest import Manifest, load_manifest
from airgap.media import Media
from airgap.model import Sha256, Target
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.readiness.check import judge
from airgap.readiness.judgement import Report
from airgap.readiness.known_bad import age
from airgap.readiness.suggestions import render_suggested
from airgap.readiness.table import render
from airgap.trust.decide import survey


@dataclass(frozen=True, slots=True)
class Reach:
    """How far the evidence may reach: bytes of an image that are fetched, and code that was named."""

    image_limit: int = IMAGE_LIMIT
    code: tuple[GivenCode, ...] = ()


DEFAULT_REACH = Reach()


@click.command(
    epilog="""\b
Example
  airgap check gemma4.toml
  airgap check gemma4.toml --suggest
  airgap check gemma4.toml --code backend/
  airgap check out/gemma4-serving-2026.11 --strict
Exit codes: 0 nothing blocked (--strict: and nothing unknown), 3 a file is not what it should be, 5 blocked
"""
)
@click.argument("subject", type=FILE, metavar="MANIFEST|LOCK|BUNDLE")
@click.option(
    "--target", "target_file", type=FILE, metavar="FILE", help="Judge for the [target] in this TOML."
)
@click.option(
    "--record", "files", type=FILE, multiple=True, metavar="FILE", help="Of a smoke run; may repeat."
)
@root_options
@click.option(
    "--image-limit",
    type=byte_count,
    default="2GiB",
    show_default=True,
    metavar="SIZE",
    help="Fetch no more of an image to read it.",
)
@click.option(
    "--code",
    multiple=True,
    metavar="[NAME=]PATH",
    help="Python that serves on wheels set or container NAME, else on each that has vLLM; may repeat.",
)
@click.option("--strict", is_flag=True, help="Fail also on what is unknown.")
@click.option(
    "--suggest", "suggesting", is_flag=True, help="Search the nearest releases that clear what is blocked."
)
@click.option(
    "--requests",
    "limit",
    type=click.IntRange(1, 10_000),
    default=200,
    show_default=True,
    help="Of --suggest: no more than this many.",
)
@json_option
def check(
    subject: Path,
    target_file: Path | None,
    files: tuple[Path, ...],
    site: Path | None,
    root: Path | None,
    fingerprint: str | None,
    *,
    image_limit: int,
    code: tuple[str, ...],
    strict: bool,
    suggesting: bool,
    limit: int,
    as_json: bool,
) -> int:
    """Say what cannot run on the target, from the bytes that are locked, never running them.

    Packages, models and their sources are read by ranges where nobody has fetched them yet; layers of images
    are fetched, and kept. Without a current lock exactly what the manifest pins is read. A bundle is read
    offline; verify judges its bytes.
    Records of smoke runs, those in a bundle and each --record, make READY what they prove; --site, or --root
    and --fingerprint, say whose records are believed.
    """
    trusted = trusted_root(site, root, fingerprint) if site or root or fingerprint else None
    records = gather_records(subject, files, trusted)
    other = read_target_of(target_file) if target_file else None
    if suggesting and code:
        raise click.UsageError("--suggest does not judge by --code: check again what it suggests")
    manifest = _searchable(subject) if suggesting else None
    progress = progress_for(json=as_json)
    reach = Reach(image_limit, tuple(read_given(text) for text in code))
    target, gathered = _gather(subject, other, progress, reach)
    gathered = replace(gathered, composition=with_unmet(gathered.composition, reach.code))
    weighed = weigh(records, gathered.composition)
    notes = (*gathered.notes, *(one.note for one in weighed), age(datetime.now(UTC).date()))
    ran = [one.evidence for one in weighed if one.evidence]
    report = judge(gathered.composition, notes=notes, traffic=gathered.traffic, records=ran)
    suggested = None
    if manifest:
        context = open_context(target, manifest.directory, progress, index_urls(manifest))
        with progress.task("searching releases", None):
            suggested = suggest(manifest, gathered.composition, report, context, limit)
    if as_json:
        more: dict[str, object] = {"records": [one.as_json() for one in weighed]}
        more |= {"suggested": suggested.as_json()} if suggested else {}
        emit(_document(subject, target, report, strict=strict) | more)
    else:
        lines = render(report, target, shutil.get_terminal_size((100, 24)).columns)
        for line in [*lines, *(render_suggested(suggested) if suggested else [])]:
            click.echo(printable(line))
    return report.exit_code(strict=strict)


def judge_bundle(bundle: Path, progress: Progress) -> Report:
    """What `airgap check` says of a bundle for its own target; opens no connection."""
    _, gathered = _gather(bundle, None, progress)
    return judge(gathered.composition, notes=gathered.notes, traffic=gathered.traffic)


def _gather(
    subject: Path, other: Target | None, progress: Progress, reach: Reach = DEFAULT_REACH
) -> tuple[Target, Gathered]:
    """The evidence of a bundle, of a lock, of a manifest's current lock, or of the manifest alone."""
    if subject.is_dir():
        lock, elsewhere = _bundle_lock(subject)
        return _gather_lock(
            lock, subject, other, progress, (), bundle=subject, elsewhere=elsewhere, reach=reach
        )
    if subject.name.endswith(".lock.json"):
        lock = parse_lock(read_capped(subject), str(subject))
        return _gather_lock(lock, subject.parent, other, progress, (), reach=reach)
    manifest = load_manifest(subject)
    current = _current_lock(subject, manifest)
    if current:
        urls = index_urls(manifest)
        return _gather_lock(current, subject.parent, other, progress, urls, reach=reach)
    target = other or manifest.target
    context = open_context(target, manifest.directory, progress, index_urls(manifest))
    opened = Opener(context, image_limit=reach.image_limit, code=reach.code)
    with progress.task("reading evidence", None), opened as opener:
        return target, gather_manifest(manifest, target, opener)


def _searchable(subject: Path) -> Manifest:
    """The manifest whose indexes are searched: a lock does not name them, and a bundle is judged offline."""
    if subject.is_dir() or subject.name.endswith(".lock.json"):
        raise click.UsageError("--suggest searches the indexes of a manifest: name that")
    return load_manifest(subject)


def _bundle_lock(path: Path) -> tuple[Lock, Collection[Sha256]]:
    """The lock that the bundle states, whoever signed it, and the blobs that do not travel in it.

    Raises InputError or IntegrityError.
    """
    with Media(path) as media:
        stated = survey(read_envelope(media, also=", a lock, or a manifest"), None).statement
        return read_stated_lock(media, stated), stated.absent


def _current_lock(path: Path, manifest: Manifest) -> Lock | None:
    """The lock beside a manifest where it answers that manifest."""
    beside = lock_path(path)
    if not beside.exists():
        return None
    lock = parse_lock(read_capped(beside), str(beside))
    return lock if lock.manifest == manifest.sha256 else None


def _gather_lock(
    lock: Lock,
    directory: Path,
    other: Target | None,
    progress: Progress,
    logins: tuple[str, ...],
    *,
    bundle: Path | None = None,
    elsewhere: Collection[Sha256] = (),
    reach: Reach = DEFAULT_REACH,
) -> tuple[Target, Gathered]:
    target = other or lock.target
    context = open_context(target, directory, progress, logins)
    opened = Opener(context, bundle, elsewhere, image_limit=reach.image_limit, code=reach.code)
    with progress.task("reading evidence", None), opened as opener:
        return target, gather_lock(lock, target, opener)


def _document(subject: Path, target: Target, report: Report, *, strict: bool) -> dict[str, object]:
    return {
        "subject": str(subject),
        "target": target_table(target),
        "strict": strict,
        "exit_code": report.exit_code(strict=strict),
        **report.as_json(),
    }
