"""What `airgap check --suggest` says: the moves, a line to paste, what was looked at in vain, the cost."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

from airgap.readiness.judgement import Judgement
from airgap.readiness.search import Found, Suggestion, Vain
from airgap.units import human_bytes


@dataclass(frozen=True, slots=True)
class Unsearched:
    """A block for which no release was looked for, and why."""

    block: Judgement
    why: str


@dataclass(frozen=True, slots=True)
class Suggested:
    """The searches of all sets, and what they cost of the `limit` requests that were allowed."""

    found: tuple[Found, ...]
    others: tuple[Unsearched, ...]
    requests: int
    limit: int
    traffic: int

    def as_json(self) -> dict[str, object]:
        return {
            "requests": self.requests,
            "limit": self.limit,
            "traffic_bytes": self.traffic,
            "sets": [_as_json(found) for found in self.found],
            "not_searched": [
                {"subject": one.block.subject, "message": one.block.message, "why": one.why}
                for one in self.others
            ],
        }


def render_suggested(suggested: Suggested) -> list[str]:
    """Lines for a person; `requirements = […]` is TOML as the manifest takes it."""
    if not suggested.found and not suggested.others:
        return ["nothing is blocked, so nothing was searched"]
    cost = f"{suggested.requests} of at most {suggested.limit} requests, {human_bytes(suggested.traffic)}"
    lines = ["", f"suggested, each judged by the same rules: {cost}"]
    for found in suggested.found:
        lines += _found(found)
    for one in suggested.others:
        lines += [f"not searched: {one.block.subject}: {one.block.message}", f"    {one.why}"]
    return lines


def pasteable(requirements: tuple[str, ...]) -> str:
    """The key of a `[[wheels]]` table, as TOML (a JSON string is one of TOML's)."""
    return f"requirements = [{', '.join(json.dumps(line, ensure_ascii=False) for line in requirements)}]"


def _found(found: Found) -> Iterator[str]:
    for suggestion in found.suggestions:
        yield f"{found.stack}: {' and '.join(map(str, suggestion.moves))}"
        yield f"    {pasteable(suggestion.requirements)}"
        if len(suggestion.clears) < len(found.blocks):
            yield from (f"    clears only: {block.message}" for block in suggestion.clears)
        if suggestion.undecided:
            yield f"    no longer decided with it: {', '.join(suggestion.undecided)}"
    if not found.suggestions:
        yield f"{found.stack}: {found.why_not or 'nothing was found'}"
    yield from (f"    in vain: {_vain(vain)}" for vain in found.vain)
    if found.stopped:
        yield f"    stopped: {found.stopped}"


def _vain(vain: Vain) -> str:
    who = f"{vain.projects[0]} alone" if len(vain.projects) == 1 else " with ".join(vain.projects)
    age = "newer" if vain.newer else "older"
    what = f"{age} releases" if len(vain.projects) == 1 else f"pairs of {age} releases"
    mostly = "" if vain.unanimous else "mostly "
    return f"{who}, {vain.looked} {what} as far as {vain.farthest}: {mostly}{vain.reason}"


def _as_json(found: Found) -> dict[str, object]:
    return {
        "name": found.stack,
        "blocked": [block.message for block in found.blocks],
        "suggestions": [_suggestion(suggestion) for suggestion in found.suggestions],
        "in_vain": [
            {
                "projects": list(vain.projects),
                "candidates": vain.looked,
                "newer": vain.newer,
                "farthest": vain.farthest,
                "reason": vain.reason,
            }
            for vain in found.vain
        ],
        "why_not": found.why_not,
        "stopped": found.stopped,
    }


def _suggestion(suggestion: Suggestion) -> dict[str, object]:
    return {
        "clears": [block.message for block in suggestion.clears],
        "moves": [
            {
                "project": move.project,
                "from": str(move.before),
                "to": str(move.after.version),
                "steps": move.after.steps,
            }
            for move in suggestion.moves
        ],
        "requirements": list(suggestion.requirements),
        "toml": pasteable(suggestion.requirements),
        "undecided": list(suggestion.undecided),
    }
