"""`airgap check`: what cannot run on the target, with evidence."""

import shutil
from collections.abc import Collection
from pathlib import Path

import click

from airgap.cli.options import FILE, json_option
from airgap.cli.stated import read_envelope, read_stated_lock
from airgap.cli.terminal import emit, printable, progress_for
from airgap.cli.workspace import index_urls, lock_path, open_context
from airgap.connected.asked import gather_manifest
from airgap.connected.evidence import Gathered, gather_lock
from airgap.connected.opener import Opener
from airgap.decode import Fields, parse_toml, read_capped
from airgap.lock import Lock, parse_lock
from airgap.manifest import MAX_MANIFEST, Manifest, load_manifest, read_target, target_table
from airgap.media import Media
from airgap.model import Sha256, Target
from airgap.progress import Progress
from airgap.readiness.check import judge
from airgap.readiness.judgement import Report
from airgap.readiness.table import render
from airgap.trust.decide import survey


@click.command(
    epilog="""\b
Example
  airgap check gemma4.toml
  airgap check out/gemma4-serving-2026.11 --strict
Exit codes: 0 nothing blocked (--strict: and nothing unknown), 3 no manifest, lock or bundle, 5 blocked
"""
)
@click.argument("subject", type=FILE, metavar="MANIFEST|LOCK|BUNDLE")
@click.option(
    "--target", "target_file", type=FILE, metavar="FILE", help="Judge for the [target] in this TOML."
)
@click.option("--strict", is_flag=True, help="Fail also on what is unknown.")
@json_option
def check(subject: Path, target_file: Path | None, *, strict: bool, as_json: bool) -> int:
    """Say what cannot run on the target, from the bytes that are locked, never running them.

    Packages, models and their sources are read by ranges where nobody has fetched them yet. Without a
    current lock exactly what the manifest pins is read. A bundle is read offline; verify judges its bytes.
    """
    other = _read_target(target_file) if target_file else None
    progress = progress_for(json=as_json)
    target, gathered = _gather(subject, other, progress)
    report = judge(gathered.composition, notes=gathered.notes, traffic=gathered.traffic)
    if as_json:
        emit(_document(subject, target, report, strict=strict))
    else:
        for line in render(report, target, shutil.get_terminal_size((100, 24)).columns):
            click.echo(printable(line))
    return report.exit_code(strict=strict)


def judge_bundle(bundle: Path, progress: Progress) -> Report:
    """What `airgap check` says of a bundle for its own target; opens no connection."""
    _, gathered = _gather(bundle, None, progress)
    return judge(gathered.composition, notes=gathered.notes, traffic=gathered.traffic)


def _gather(subject: Path, other: Target | None, progress: Progress) -> tuple[Target, Gathered]:
    """The evidence of a bundle, of a lock, of a manifest's current lock, or of the manifest alone."""
    if subject.is_dir():
        lock, elsewhere = _bundle_lock(subject)
        return _gather_lock(lock, subject, other, progress, (), bundle=subject, elsewhere=elsewhere)
    if subject.name.endswith(".lock.json"):
        lock = parse_lock(read_capped(subject), str(subject))
        return _gather_lock(lock, subject.parent, other, progress, ())
    manifest = load_manifest(subject)
    current = _current_lock(subject, manifest)
    if current:
        return _gather_lock(current, subject.parent, other, progress, index_urls(manifest))
    target = other or manifest.target
    context = open_context(target, manifest.directory, progress, index_urls(manifest))
    with progress.task("reading evidence", None), Opener(context) as opener:
        return target, gather_manifest(manifest, target, opener)


def _bundle_lock(path: Path) -> tuple[Lock, Collection[Sha256]]:
    """The lock that the bundle states, whoever signed it, and the blobs that do not travel in it.

    Raises InputError or IntegrityError.
    """
    with Media(path) as media:
        stated = survey(read_envelope(media, also=", a lock, or a manifest"), None).statement
        return read_stated_lock(media, stated), stated.counted_on.keys()


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
) -> tuple[Target, Gathered]:
    target = other or lock.target
    context = open_context(target, directory, progress, logins)
    with progress.task("reading evidence", None), Opener(context, bundle, elsewhere) as opener:
        return target, gather_lock(lock, target, opener)


def _read_target(path: Path) -> Target:
    """The `[target]` of a TOML file, which may be a manifest or what `airgap probe` wrote."""
    document = Fields(parse_toml(read_capped(path, max_bytes=MAX_MANIFEST), str(path)))
    target = read_target(document.table("target"))
    document.raise_if_bad(str(path))
    return target


def _document(subject: Path, target: Target, report: Report, *, strict: bool) -> dict[str, object]:
    return {
        "subject": str(subject),
        "target": target_table(target),
        "strict": strict,
        "exit_code": report.exit_code(strict=strict),
        **report.as_json(),
    }
