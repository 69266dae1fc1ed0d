"""What `airgap check` says of a bundle, for whoever signs or files it."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from airgap.audit.answers import VerdictFact
from airgap.errors import HostError
from airgap.progress import Progress
from airgap.readiness.judgement import Judged, Report, Verdict


def verdicts_of(bundle: Path, progress: Progress) -> tuple[VerdictFact, ...]:
    """One for each component, offline.

    Raises HostError on a host that cannot check, InputError for a site, IntegrityError where the bundle's
    documents are too damaged to be judged.
    """
    if find_spec("requests") is None:
        raise HostError(
            "--check needs what the connected side has",
            remedy="pip install 'airgap[connected]', or leave it out",
        )
    # By name, for the isolated side holds neither check nor what it fetches evidence with.
    report: Report = import_module("airgap.cli.check").judge_bundle(bundle, progress)
    return tuple(_fact(judged) for judged in report.components)


def _fact(judged: Judged) -> VerdictFact:
    worst = [one for one in judged.judgements if one.verdict is judged.verdict] or [
        one for one in judged.judgements if one.verdict is Verdict.UNKNOWN
    ]
    decided = f"{judged.decided} of {len(judged.rules)} rules decided"
    reasons = [one.message for one in worst if one.verdict is not Verdict.NO_BLOCKER]
    return VerdictFact(judged.name, judged.kind, judged.verdict.name.lower(), (*reasons, decided))
