"""The search behind `airgap check --suggest`: each blocked wheels set, at the indexes of its request."""

from dataclasses import replace

from airgap.connected.catalogue import Catalogue
from airgap.connected.metered import Metered
from airgap.connected.offers import Places
from airgap.connected.opener import Opener
from airgap.connected.source import Context
from airgap.manifest import Manifest, WheelsRequest
from airgap.model import Kind
from airgap.readiness.components import Composition
from airgap.readiness.judgement import Judgement, Report, Verdict
from airgap.readiness.search import Search, opened, packages_named
from airgap.readiness.suggestions import Suggested, Unsearched


def suggest(
    manifest: Manifest, composition: Composition, report: Report, context: Context, limit: int
) -> Suggested:
    """What would clear the report's blocks, in at most `limit` requests.

    An index that fails ends the search of that set, which says so.
    """
    blocks = report.judgements(Verdict.BLOCKED)
    meter = Metered(context.store, context.progress, limit=limit)
    places = {
        request.name: Places.of(request, manifest.directory)
        for request in manifest.requests
        if isinstance(request, WheelsRequest)
    }
    found = []
    with Opener(replace(context, transfer=meter)) as opener:
        for stack in composition.stacks:
            models = tuple(m for m in composition.models if m.server == stack.name)
            subjects = {stack.name, *(model.name for model in models)}
            if stack.name in places and any(block.subject in subjects for block in blocks):
                catalogue = Catalogue(places[stack.name], composition.target, opener)
                found.append(Search(opened(stack), models, composition.target, catalogue).run())
    known = {(block.rule, block.subject) for one in found for block in one.blocks}
    others = tuple(
        Unsearched(block, _why(block, composition))
        for block in blocks
        if (block.rule, block.subject) not in known
    )
    return Suggested(tuple(found), others, meter.requests, limit, meter.traffic)


def _why(block: Judgement, composition: Composition) -> str:
    """Why no release was looked for: it is about packages in an image, or about no package."""
    served = {model.name: model.server for model in composition.models}
    for stack in composition.stacks:
        mine = stack.name in (block.subject, served.get(block.subject))
        if (
            stack.kind is Kind.CONTAINER
            and mine
            and (block.subject == stack.name or packages_named(block, stack))
        ):
            return f"{stack.name} is an image, in which no release changes anything: choose or build another"
    return "no release of a package changes it"
