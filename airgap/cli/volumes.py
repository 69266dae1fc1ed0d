"""What the verbs of the isolated side show of volumes: each by itself, then what they are together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from airgap.cli.terminal import print_error, print_findings, printable
from airgap.errors import AirgapError, InputError, IntegrityError, TrustError
from airgap.media import Media, shown
from airgap.model import Finding, Sha384
from airgap.progress import Progress
from airgap.trust.instant import render_instant
from airgap.units import amount, human_bytes
from airgap.verify import Signed
from airgap.verify_volumes import Collection, Judgement, judge_together
from airgap.volume_reading import Reading, read_volume
from airgap.volumes import Medium, medium_options
from airgap.wanted import Wanted, render_only

if TYPE_CHECKING:
    from airgap.cli.policing import Policed


@dataclass(frozen=True, slots=True)
class Refused:
    """A volume whose statement is missing or may not be believed: nothing else on it was read."""

    where: str
    error: AirgapError


@dataclass(frozen=True, slots=True)
class Volumes:
    """All volumes that were named: by the bundle they are of, and those that may not be believed."""

    collections: tuple[Collection, ...] = ()
    refused: tuple[Refused, ...] = ()
    policed: "tuple[Policed | None, ...] | None" = None
    """A policy's answer for each collection, None where not all of it is here as signed."""

    @property
    def untrusted(self) -> bool:
        return any(isinstance(one.error, TrustError) for one in self.refused)

    @property
    def sound(self) -> bool:
        return not self.refused and all(one.sound for one in self.collections)

    @property
    def complete(self) -> bool:
        return all(one.complete for one in self.collections)

    def show(self) -> None:
        """Every volume, and after those of one bundle what they are together."""
        for one in self.refused:
            show_refused(one)
        told: set[Finding] = set()  # what is of the bundle, every volume of it says
        for position, collection in enumerate(self.collections):
            for judgement in collection.judgements:
                show_judgement(judgement, told)
            show_collection(collection, told)
            if self.policed is None:
                continue
            answer = self.policed[position]
            for line in answer.lines() if answer else ("policy: not judged, as not all is here as signed",):
                click.echo(printable(f"  {line}"))

    def document(self) -> dict[str, object]:
        """The same for `--json`."""
        return {
            "collections": [
                collection_document(collection) | {"policy": answer.document if answer else None}
                for collection, answer in zip(self.collections, self._answers(), strict=True)
            ],
            "refused": [refused_document(one) for one in self.refused],
        }

    def _answers(self) -> "tuple[Policed | None, ...]":
        return (None,) * len(self.collections) if self.policed is None else self.policed


Look = Callable[[Sequence[tuple[Media, Reading]]], "tuple[Collection, Policed | None]"]
"""Judges volumes of one statement, and what is inside of them by a policy."""


def judge_volumes(
    volumes: Sequence[Media],
    open_signed: Callable[[Media], Signed],
    *,
    look: Look | None,
    progress: Progress,
    jobs: int | None,
) -> Volumes:
    """Each volume by itself, then all of one bundle together, by `look` where there is a policy.

    Raises HostError. `open_signed` may raise TrustError, InputError or IntegrityError for what may not be
    believed.
    """
    bundles: dict[Sha384, list[tuple[Media, Reading]]] = {}
    refused: list[Refused] = []
    for media in volumes:
        try:
            signed = open_signed(media)
        except (TrustError, InputError, IntegrityError) as error:
            refused.append(Refused(shown(str(media.root)), error))
            continue
        bundles.setdefault(signed.judged.payload, []).append((media, read_volume(media, signed)))
    if look is None:
        found = [judge_together(one, progress=progress, jobs=jobs) for one in bundles.values()]
        return Volumes(tuple(found), tuple(refused))
    looked = [look(one) for one in bundles.values()]
    return Volumes(tuple(found for found, _ in looked), tuple(refused), tuple(answer for _, answer in looked))


def show_refused(refused: Refused) -> None:
    print_error(f"{refused.where}: {refused.error.message}", refused.error.remedy)


def show_judgement(judgement: Judgement, told: set[Finding]) -> None:
    """A volume's findings, but for those that were `told`, then a line on it."""
    print_findings(judgement.findings, told=told)
    offered, good = judgement.reading.offered, judgement.good
    size = human_bytes(sum(item.size for item in good))
    verdict = "as signed and listed"
    if not judgement.sound:
        verdict = f"{amount(len(judgement.findings), 'finding')}; only what is good of it will be taken"
    elif len(good) < len(offered):
        verdict = f"{len(good)} of {len(offered)} files are good"
    where = printable(shown(str(judgement.where)))
    click.echo(
        f"{where}: {describe_volume(judgement.reading)}, {amount(len(good), 'file')}, {size}: {verdict}"
    )


def describe_volume(reading: Reading) -> str:
    """`volume 3 of 12`, as far as that is known."""
    mark = reading.mark
    if mark is None:
        return "a volume without a legible volume.json"
    part = "" if mark.only is None else "part of "
    return f"{part}volume {mark.number} of {mark.count}"


def show_collection(found: Collection, told: set[Finding]) -> None:
    """What is here of one bundle, by whom it is vouched for, and what is still to be burnt."""
    print_findings(found.findings, told=told)
    judged = found.signed.judged
    stated = judged.statement
    click.echo(f"{stated.name} {stated.version}, {stated.place}")
    click.echo(f"  signed by {', '.join(judged.signers)}; holds until {render_instant(judged.holds_until)}")
    size = f"{amount(len(stated.travelling), 'blob')}, {human_bytes(stated.total_bytes)}"
    if found.complete:
        click.echo(f"  {size}: every byte is here and as signed")
    else:
        click.echo(f"  {size}; missing: {human_bytes(found.missing_bytes)}")
        show_wanted(found.wanted, found.medium)


def show_wanted(wanted: Wanted | None, medium: Medium | None) -> None:
    """What lacks in words, then as the stager types it."""
    if not wanted or medium is None:
        click.echo("  no volume.json can be read, so which volumes lack is not known: burn all again")
        return
    for line in missing_lines(wanted):
        click.echo(f"  {line}")
    options = f"{medium_options(medium)} --only {render_only(wanted)}"
    click.echo(f"  -> on the connected side: airgap split BUNDLE {options}")


def missing_lines(wanted: Wanted) -> list[str]:
    """`volumes 2-4`, and a line for each volume of which some items lack."""
    whole = {number: None for number, items in wanted.items() if items is None}
    lines = [f"missing: volume{'s' if len(whole) > 1 else ''} {render_only(whole)}"] if whole else []
    for number, items in sorted(wanted.items()):
        if items is not None:
            _, _, shown_items = render_only({number: items}).partition(":")
            lines.append(f"missing: of volume {number} item{'s' if len(items) > 1 else ''} {shown_items}")
    return lines


def collection_document(found: Collection) -> dict[str, object]:
    """For `--json`; `only` is null when nothing lacks, or nothing says what."""
    judged = found.signed.judged
    stated = judged.statement
    return {
        "name": stated.name,
        "version": stated.version,
        "channel": stated.channel,
        "sequence": stated.sequence,
        "payload_sha384": judged.payload,
        "signers": list(judged.signers),
        "sound": found.sound,
        "complete": found.complete,
        "bytes": stated.total_bytes,
        "missing_bytes": found.missing_bytes,
        "only": render_only(found.wanted) if found.wanted else None,
        "findings": [finding.as_json() for finding in found.findings],
        "volumes": [judgement_document(judgement) for judgement in found.judgements],
    }


def judgement_document(judgement: Judgement) -> dict[str, object]:
    mark = judgement.reading.mark
    return {
        "volume": shown(str(judgement.where)),
        "number": mark.number if mark else None,
        "count": mark.count if mark else None,
        "sound": judgement.sound,
        "good": {"files": len(judgement.good), "bytes": sum(item.size for item in judgement.good)},
        "findings": [finding.as_json() for finding in judgement.findings],
    }


def refused_document(refused: Refused) -> Mapping[str, str]:
    return {"volume": refused.where, "message": refused.error.message, "remedy": refused.error.remedy}
