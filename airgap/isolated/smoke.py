"""`airgap smoke`: run a command against a site's generation, and say exactly which bytes were there to run.

Everything of the generation is rehashed just before, against what was signed, and has to be the same files,
untouched, just after. Nothing is written to the site, and no lock is taken: a change of the site while the
command runs is found afterwards. What the command reads is its own affair: whoever signs the record
vouches that it ran this composition.
"""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePath

from airgap.errors import InputError, IntegrityError
from airgap.isolated.command import Ran
from airgap.isolated.drift import survey_generation
from airgap.isolated.generation import load_member
from airgap.isolated.record import InstalledBundle
from airgap.isolated.site import Site
from airgap.layout import BundledArtifact, blob_path
from airgap.media import Media, shown
from airgap.model import Sha256
from airgap.probe import ENGINES, Facts, python_version
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.trust.smoke import RanArtifact, RanBundle, RanOn, SmokeRun
from airgap.verify import hash_files, refuse

ENVIRONMENT_FILE = "env.sh"

Stamp = tuple[int, int, int, int]
"""Device, inode, size and time of modification in nanoseconds: what a write or a replacement alters."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What of a generation is vouched for: artifacts, their bundles, and what is signed of their blobs."""

    number: int
    bundles: tuple[InstalledBundle, ...]
    artifacts: tuple[BundledArtifact, ...]
    blobs: Mapping[Sha256, StatedBlob]


def choose(site: Site, names: Collection[str]) -> Chosen:
    """The artifacts of these names, all without any, of the current generation.

    Raises InputError for a name that is not installed, and where nothing is; IntegrityError.
    """
    site.require_installed()
    number = site.current()
    assert number is not None  # something is installed
    members = [load_member(site, bundle) for bundle in site.record(number).bundles]
    everything = [bundled for member in members for bundled in member.artifacts]
    there = sorted({bundled.artifact.name for bundled in everything})
    if unknown := sorted(set(names) - set(there)):
        raise InputError(
            f"{site.root}: no artifact is named {', '.join(unknown)}",
            remedy=f"installed are {', '.join(there) or 'none'}",
        )
    bundles: list[InstalledBundle] = []
    artifacts: dict[str, BundledArtifact] = {}
    blobs: dict[Sha256, StatedBlob] = {}
    for member in members:
        taken = [b for b in member.artifacts if not names or b.artifact.name in names]
        bundles += [member.bundle] if taken else []
        artifacts |= {bundled.artifact.name: bundled for bundled in taken}
        digests = {d for b in taken for d in (b.digest, *(layer.sha256 for layer in b.layers))}
        blobs |= {digest: member.blobs[digest] for digest in sorted(digests)}
    return Chosen(number, tuple(bundles), tuple(artifacts[name] for name in sorted(artifacts)), blobs)


def rehash(site: Site, chosen: Chosen, progress: Progress) -> dict[str, Stamp]:
    """Hash the chosen blobs and every file of the generation that is no blob; stamps of them by path.

    Raises IntegrityError naming everything that is not what was installed, HostError.
    """
    surveyed = survey_generation(site, chosen.number)
    refuse(surveyed.findings, str(site.root))
    wanted = {str(blob_path(digest)) for digest in chosen.blobs}
    files = {
        path: stated
        for path, stated in surveyed.files.items()
        if path in wanted or path.startswith("generations/")
    }
    before = stamps(site, files)
    with Media(site.root) as media:
        refuse(hash_files(media, files, progress), str(site.root))
    return before


def stamps(site: Site, paths: Collection[str]) -> dict[str, Stamp]:
    """Raises IntegrityError for a file that is gone."""
    found = {}
    for path in paths:
        try:
            status = os.lstat(site.root / path)
        except OSError as error:
            raise _touched(site, path) from error
        found[path] = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    return found


def require_untouched(site: Site, chosen: Chosen, before: Mapping[str, Stamp]) -> None:
    """Raise IntegrityError where the site changed while the command ran: nobody can say what it read."""
    after = stamps(site, before.keys())
    if touched := [path for path, stamp in after.items() if stamp != before[path]]:
        raise _touched(site, touched[0])
    if site.current() != chosen.number:
        raise _touched(site, "current")


def environment_file(site: Site, chosen: Chosen) -> Path:
    """Of the generation itself: `current` may move on while the command runs."""
    return site.generation(chosen.number) / ENVIRONMENT_FILE


def run_of(chosen: Chosen, command: Sequence[str], ran: Ran, host: RanOn, lifetime: timedelta) -> SmokeRun:
    """The record's content; it counts for `lifetime` from when the run began."""
    return SmokeRun(
        tuple(map(shown, command)),
        ran.status,
        ran.began,
        ran.began + lifetime,
        ran.milliseconds,
        ran.output,
        host,
        tuple(RanBundle(b.name, b.version, b.payload) for b in chosen.bundles),
        tuple(RanArtifact(a.artifact.kind, a.artifact.name, a.digest) for a in chosen.artifacts),
        {digest: blob.sha384 for digest, blob in chosen.blobs.items()},
    )


def ran_on(facts: Facts, command: Sequence[str], gpus: Sequence[int]) -> RanOn:
    """The host as far as it matters to the run. Raises InputError for a GPU that is not here."""
    if gpus and max(gpus) >= len(facts.cards):
        raise InputError(
            f"--gpu {max(gpus)}: this host has {len(facts.cards)} GPUs",
            remedy="count from 0, as nvidia-smi does",
        )
    cards = tuple(facts.cards[gpu] for gpu in gpus) if gpus else facts.cards
    named = re.fullmatch(r"python3?(\.[0-9]+)?", PurePath(command[0]).name)
    python = python_version(command[0]) if named else ""
    on_path = facts.pythons[0].version if facts.pythons else ""
    return RanOn(cards, python or on_path, facts.libc, facts.platform, facts.kernel, _engine(command, facts))


def _engine(command: Sequence[str], facts: Facts) -> tuple[str, str] | None:
    """The container engine that a word of the command names."""
    known = dict(facts.engines)
    named = next((name for word in command if (name := PurePath(word).name) in ENGINES), None)
    return (named, known.get(named, "")) if named else None


def _touched(site: Site, path: str) -> IntegrityError:
    return IntegrityError(
        f"{site.root / path}: changed while the command ran, so nobody can say what it read",
        remedy="let nothing else change the site, then run it again; nothing was recorded",
    )
