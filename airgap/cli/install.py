"""`airgap install`: verify bundles and make them the site's next generation."""

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from airgap.cli.options import asked_policy, no_stream, policy_options
from airgap.cli.receive import reception_code, reception_document, show_reception
from airgap.cli.site import asked, describe, feed_document, show_feed, wait_option
from airgap.cli.terminal import emit, print_findings, printable, progress_for
from airgap.errors import MissingPartError, PolicyError
from airgap.isolated.arrival import Arrival, ArrivedMedia
from airgap.isolated.feeding import require_feed_fits
from airgap.isolated.generation import Member
from airgap.isolated.host import judge_host
from airgap.isolated.install import Brought, Installed, plan_install
from airgap.isolated.install import install as install_bundles
from airgap.isolated.memory import load_memory
from airgap.isolated.plan import Plan, require_fit
from airgap.isolated.receive import Reception, arrived, plan_reception, receive
from airgap.isolated.site import Site
from airgap.isolated.venv import MadeVenv, VenvRequest, make_venv, plan_venv, wheels_targets
from airgap.media import Media, is_volume, shown
from airgap.model import Finding
from airgap.pinned import trusted_root
from airgap.progress import Progress
from airgap.trust.root import Floor
from airgap.units import amount, human_bytes, human_seconds

if TYPE_CHECKING:
    from airgap.cli.policing import Policed, Policing

_PATH = click.Path(path_type=Path, readable=False)


@dataclass(frozen=True, slots=True)
class _Asked:
    """One install, as it was asked for, and what was found on its way."""

    site: Site
    now: datetime
    words: str
    progress: Progress
    wait: float
    dry_run: bool
    policing: "Policing | None"
    models_dir: Path | None
    policed: "list[Policed]" = field(default_factory=list)
    host: list[Finding] = field(default_factory=list)
    """Where wheels do not fit this host."""
    told: set[Finding] = field(default_factory=set)
    """What was said of volumes, and is not said again of their bundle."""

    def receive(self, volumes: Sequence[Media], besides: Sequence[Media]) -> Reception:
        """Receive volumes, or plan to; `besides` are whole bundles."""
        if not self.dry_run:
            return receive(
                volumes, self.site, self.now, asked=self.words, progress=self.progress, wait=self.wait
            )
        if besides:
            raise click.UsageError("--dry-run takes whole bundles or volumes, not both at once")
        return plan_reception(volumes, self.site, self.now)

    def end_of(
        self, reception: Reception, volumes: Sequence[Media], document: dict[str, object] | None
    ) -> int:
        """The exit code where nothing is installed, after what a policy says of it in a dry run.

        Said as JSON where there is the beginning of a `document`.
        """
        code = reception_code(reception)
        if self.dry_run and self.policing and not code:
            known = zip(volumes, (one.reading for one in reception.volumes), strict=True)
            readings = [(media, reading) for media, reading in known if reading]
            self.policed.append(self.policing.receiving(self.site, readings, self.now, self.progress))
        broken = any(one.broken for one in self.policed)
        if document is not None:
            emit(document | reception_document(reception) | self.policy_document())
        elif self.policing and not self.policed:
            click.echo("policy: not judged, as not all is here as signed")
        for line in (line for one in self.policed for line in one.lines() if document is None):
            click.echo(printable(f"  {line}"))
        if broken and document is None:
            click.echo("  would be REFUSED by the policy; nothing was written")
        return code or (PolicyError.exit_code if broken else 0)

    def policy_document(self) -> dict[str, object]:
        return {"policy": self.policed[0].document if self.policed else None}

    def install(self, media: Sequence[Media], request: VenvRequest | None) -> Installed:
        """Install, or plan to; `request` says which host the wheels must fit."""

        def approve(members: Sequence[Member]) -> None:
            if request:
                plan_venv(request, members)
            else:
                self.host.extend(judge_host(wheels_targets(members)))
                print_findings(self.host, err=True)

        if self.dry_run:
            return plan_install(
                *(media, self.site, self.now),
                approve=approve,
                look=self._look if self.policing else None,
                models_dir=self.models_dir,
            )
        return install_bundles(
            *(media, self.site, self.now),
            asked=self.words,
            progress=self.progress,
            wait=self.wait,
            approve=approve,
            accept=self._accept if self.policing else None,
            models_dir=self.models_dir,
        )

    def _accept(self, newcomers: Sequence[Member]) -> None:
        """Judge bundles that are brought by the policy, before anything of them is in force."""
        assert self.policing
        self.policed.append(self.policing.members(self.site, newcomers, self.now, self.progress))

    def _look(self, brought: Sequence[Brought]) -> None:
        """The same before anything is copied: the answer is shown, and nothing is refused yet."""
        assert self.policing
        self.policed.append(self.policing.arriving(self.site, brought, self.now, self.progress))


@click.command(
    epilog="""\b
Examples
  airgap install /media/disc1 --site /srv/airgap --dry-run
  airgap install /media/disc1 /media/disc2 --site /srv/airgap
  airgap install /media/disc1 --site /srv/airgap --venv /opt/serving --set serving
  airgap install /media/disc1 --site /srv/airgap --policy policy.toml
  airgap install /media/disc1 --site /srv/airgap --models-dir /data/weights
Exit codes: 0 installed or already there, 3 not a bundle or no such set, 6 bytes differ,
  7 signatures, root or sequence do not hold, 8 the policy is broken or artifacts of two bundles collide,
  9 no space, no permission, the media cannot be read, or this host cannot make the venv,
  10 a delta counts on what the site lacks
After anything but 0 nothing installed has changed; run the same command again. Where only making
the venv or naming the models in DIR failed, the bundles are installed, and what was there stays.
Newer roots that BUNDLE brings are kept as soon as they are proven.
"""
)
@click.argument("bundles", metavar="[BUNDLE|VOLUME]...", type=_PATH, nargs=-1, callback=no_stream)
@click.option("--site", type=_PATH, metavar="DIR", required=True, help="Where a root is pinned.")
@click.option("--dry-run", is_flag=True, help="Show what would change; write nothing.")
@click.option(
    "--venv", type=_PATH, metavar="DIR", help="Then make DIR a virtual environment of a wheels set."
)
@click.option("--set", "wheels", metavar="NAME", default="", help="The wheels set; default: the only one.")
@click.option("--python", metavar="EXE", default="", help="Of the venv; default: the target's, on the PATH.")
@policy_options
@click.option(
    "--models-dir",
    type=_PATH,
    metavar="DIR",
    help="Keep DIR/<model> in step with the site from now on, for hosts' containers.",
)
@wait_option
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def install(
    bundles: Sequence[Path],
    *,
    site: Path,
    dry_run: bool,
    venv: Path | None,
    wheels: str,
    python: str,
    policy_file: Path | None,
    osv: tuple[str, ...],
    models_dir: Path | None,
    wait: float,
    as_json: bool,
) -> int:
    """Verify each BUNDLE while copying it once, and make all of them the site's next generation.

    A VOLUME is received first (airgap receive); its bundle is installed once all of it has arrived. With
    neither, what has arrived whole is installed.
    Bundles of other names stay; a newer bundle replaces the older one of its name. Wheels for another
    Python, machine or glibc than this host's are told before anything is copied; with --venv they are
    an error. With --policy, what was copied is looked into before anything of it is in force; with
    --dry-run too, all of it is read where it lies, and what would be refused is said.
    """
    if venv is None and (wheels or python):
        raise click.UsageError("--set and --python say how to make --venv DIR")
    policing = asked_policy(policy_file, osv)
    trusted_root(site, None, None)  # before anything is made at a place that was meant otherwise
    target = Site(site)
    request = VenvRequest(venv, wheels, python) if venv else None
    words = asked("install", *bundles)
    progress = progress_for(json=as_json)
    now = datetime.now(UTC).replace(microsecond=0)
    ask = _Asked(target, now, words, progress, wait, dry_run, policing, models_dir)
    root = {"site": shown(str(target.root)), "dry_run": dry_run}
    with ExitStack() as opened:
        given = [opened.enter_context(Media(bundle)) for bundle in bundles]
        volumes = [one for one in given if is_volume(one)]
        media = [one for one in given if one not in volumes]
        arrivals = [] if given else _whole(target)
        if volumes:
            reception = ask.receive(volumes, media)
            if not as_json:
                show_reception(reception, ask.told, dry_run=dry_run)
            arrivals = [far.arrival for far in reception.progressed]
            if dry_run or not reception.complete:
                return ask.end_of(reception, volumes, root if as_json else None)
        media += [opened.enter_context(ArrivedMedia(arrival)) for arrival in arrivals]
        done = ask.install(media, request)
    if not as_json:
        _show(done, ask)
    made = None
    if request and not dry_run:
        made = make_venv(target, request, asked=words, progress=progress, wait=wait)
    if as_json:
        emit(root | _document(done, ask) | {"venv": _venv_document(made) if made else None})
    elif made:
        _show_venv(made)
    return _planned_code(done, ask) if dry_run else 0


def _planned_code(planned: Installed, ask: _Asked) -> int:
    """Of a dry run that was shown. Raises HostError where it does not fit."""
    require_fit(ask.site, planned.plan)
    require_feed_fits(ask.site, planned.feed, planned.plan.needed)
    return PolicyError.exit_code if any(one.broken for one in ask.policed) else 0


def _whole(site: Site) -> list[Arrival]:
    """Of each channel the newest arrival that is whole, and not older than what the site accepted.

    One that was superseded on its way must not stop the others. Raises MissingPartError when there is none.
    """
    memory = load_memory(site)
    newest: dict[str, tuple[Floor, Arrival]] = {}
    for arrival, far in arrived(site):
        if far is None or not far.complete:
            continue
        stated, place = far.statement, Floor(far.statement.epoch, far.statement.sequence)
        best = newest.get(stated.channel)
        if not memory.supersedes(stated) and (best is None or best[0] < place):
            newest[stated.channel] = place, arrival
    if not newest:
        raise MissingPartError(
            f"{site.root}: nothing has arrived whole that could be installed",
            remedy="name a bundle or its volumes; airgap status --site DIR shows what has arrived",
        )
    return [arrival for _, arrival in newest.values()]


def _show_venv(made: MadeVenv) -> None:
    click.echo(
        f"  {printable(shown(str(made.directory)))}: {amount(made.packages, 'package')} of {made.set}",
        nl=False,
    )
    click.echo(f" for {printable(made.python)}, which fit together (pip check)")


def _venv_document(made: MadeVenv) -> dict[str, object]:
    return {
        "directory": shown(str(made.directory)),
        "set": made.set,
        "python": made.python,
        "packages": made.packages,
    }


def _show(done: Installed, ask: _Asked) -> None:
    plan, policed, dry_run = done.plan, ask.policed, ask.dry_run
    print_findings(plan.findings, told=ask.told)
    for bundle in plan.bundles:
        click.echo(f"{bundle}, signed by {', '.join(bundle.signers)}")
    for line in (line for one in policed for line in one.lines()):
        click.echo(printable(f"  {line}"))
    if plan.unchanged and not done.built:
        checked = "" if dry_run else "; every byte of it was checked"
        click.echo(f"  already installed; generation {done.generation} stays current{checked}")
        show_feed(done.feed, dry_run=dry_run)
        return
    _show_plan(plan, "to copy" if dry_run else "copied")
    show_feed(done.feed, dry_run=dry_run)
    if done.rate:
        spent = human_seconds(done.rate.seconds_for(plan.missing_bytes))
        sample = f"{human_bytes(done.rate.sampled)} of it read at {human_bytes(int(done.rate.per_second))}/s"
        click.echo(f"  time: about {spent}, if the site's disk keeps up: {sample} just now")
    if dry_run and any(one.broken for one in policed):
        click.echo("  would be REFUSED by the policy; nothing was written")
    elif dry_run:
        click.echo("  nothing was written")
    else:
        environment = shlex.quote(shown(str(ask.site.root / "current" / "env.sh")))
        click.echo(f"  generation {done.generation} is current: . {environment}")


def _show_plan(plan: Plan, verb: str) -> None:
    for replaced in plan.replaced:
        click.echo(f"  replaces {replaced}")
    click.echo(f"  artifacts: {', '.join(plan.artifacts)}")
    click.echo(
        f"  {verb}: {amount(len(plan.missing), 'blob')}, {human_bytes(plan.missing_bytes)};"
        f" already here: {amount(len(plan.shared), 'blob')}, {human_bytes(plan.shared_bytes)}"
    )
    inodes = "" if plan.free.inodes is None else f", {plan.needed.inodes} of {plan.free.inodes} inodes"
    click.echo(f"  space: {human_bytes(plan.needed.bytes)} of {human_bytes(plan.free.bytes)} free{inodes}")


def _estimate_document(done: Installed) -> dict[str, object] | None:
    if done.rate is None:
        return None
    return {
        "seconds": round(done.rate.seconds_for(done.plan.missing_bytes), 1),
        "bytes_per_second": int(done.rate.per_second),
        "sampled_bytes": done.rate.sampled,
    }


def _document(done: Installed, ask: _Asked) -> dict[str, object]:
    plan = done.plan
    return {
        "generation": done.generation,
        "unchanged": plan.unchanged and not done.built,
        "bundles": [describe(bundle) for bundle in plan.bundles],
        "replaced": [describe(bundle) for bundle in plan.replaced],
        "artifacts": list(plan.artifacts),
        "findings": [finding.as_json() for finding in (*plan.findings, *ask.host)],
        "missing": {"blobs": len(plan.missing), "bytes": plan.missing_bytes},
        "shared": {"blobs": len(plan.shared), "bytes": plan.shared_bytes},
        "needed": {"bytes": plan.needed.bytes, "inodes": plan.needed.inodes},
        "free": {"bytes": plan.free.bytes, "inodes": plan.free.inodes},
        **ask.policy_document(),
        "catalogue": feed_document(done.feed),
        "estimate": _estimate_document(done),
    }
