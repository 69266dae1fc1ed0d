"""Rules over what a model would fetch or ask for when it is loaded: code, other models, a licence."""

from collections.abc import Collection, Iterator

from airgap.model import Target
from airgap.readers.model_config import RemoteCode
from airgap.readers.python_tables import Entry
from airgap.readiness.components import Model
from airgap.readiness.judgement import Judgement, Rule
from airgap.readiness.rules_models import look_up_type

DOWNLOADS = Rule("runtime-download", 2, "nothing is fetched when the model is loaded")
REMOTE_CODE = Rule("remote-code", 1, "the model runs without trust_remote_code")
GATED = Rule("gated", 1, "nobody has to accept a licence first")


def judge_downloads(model: Model, target: Target, carried: Collection[str]) -> Iterator[Judgement]:
    """Code in other repositories (`auto_map`) and the base of an adapter; `carried` are repositories here."""
    if model.config is None and not model.checkpoints:
        yield DOWNLOADS.unknown(model.name, "it has no config.json", settle="add its JSON files")
        return
    found = False
    for code in _code(model):
        missing = _missing(code, model, carried)
        if missing:
            found = True
            yield _judge_code(model, code, missing)
    for checkpoint in model.checkpoints:
        base = checkpoint.adapter.base if checkpoint.adapter else ""
        if base and base not in carried:
            found = True
            yield DOWNLOADS.unknown(
                model.name,
                f"it is an adapter of {base}, which is not among the models here",
                settle=f"add [[models]] with repo = {base!r}, or name a path that the site has",
                evidence=[
                    model.shows(checkpoint.at("adapter_config.json"), f"base_model_name_or_path: {base}")
                ],
            )
    if not found:
        yield DOWNLOADS.clear(model.name, "its configs name no code and no base from elsewhere")


def _judge_code(model: Model, code: RemoteCode, missing: str) -> Judgement:
    evidence = [model.says(f"{code.key}: {code.reference}")]
    if _needs_code(model):
        return DOWNLOADS.blocked(
            model.name,
            f"{code.key} names code in {missing}, which does not travel, and nothing here knows the model",
            gap=f"code from {missing} is fetched at run time",
            things=(code.reference, "a site without internet"),
            evidence=evidence,
            remedy=f"carry {missing} and let {code.key} name it",
        )
    return DOWNLOADS.clear(
        model.name,
        f"{code.key} names code in {missing}, which trust_remote_code=True would fetch",
        evidence=evidence,
        remedy="do not set trust_remote_code, or carry that code",
        warning=True,
    )


def judge_remote_code(model: Model, target: Target) -> Iterator[Judgement]:
    """Whether `trust_remote_code` is needed: it runs code that came with the weights."""
    if model.config is None:
        yield REMOTE_CODE.unknown(model.name, "it has no config.json", settle="add its config.json")
    elif not model.config.remote_code:
        yield REMOTE_CODE.clear(model.name, "its config names no code of its own")
    else:
        evidence = [model.says(f"{code.key}: {code.reference}") for code in model.config.remote_code[:3]]
        needed = _needs_code(model)
        yield REMOTE_CODE.clear(
            model.name,
            "it needs trust_remote_code: code that came with the weights runs on the site"
            if needed
            else "it brings code, which trust_remote_code would run; its type is known without",
            evidence=evidence,
            remedy="review that code, and pin the revision" if needed else "do not set trust_remote_code",
            warning=needed,
        )


def judge_gate(model: Model, target: Target) -> Iterator[Judgement]:
    """A gate on the hub is a licence that somebody accepted; it binds the site, too."""
    if model.gated:
        licence = f" ({model.licence})" if model.licence else ""
        yield GATED.clear(
            model.name,
            f"its repository is gated: a licence{licence} was accepted for it",
            evidence=[model.says(f"gated: {model.gated}")],
            remedy="make sure that the site may use it",
            warning=True,
        )


def _code(model: Model) -> tuple[RemoteCode, ...]:
    own = model.config.remote_code if model.config else ()
    return own + tuple(code for c in model.checkpoints if c.adapter for code in c.adapter.remote_code)


def _missing(code: RemoteCode, model: Model, carried: Collection[str]) -> str:
    """The repository that does not travel, or the file that is not among the model's own; '' for neither."""
    if code.repository and code.repository != model.repo:
        return "" if code.repository in carried else code.repository
    return "" if code.file in model.files else code.file


def _needs_code(model: Model) -> bool:
    """Whether no table of what serves it has the model's type."""
    if model.config is None or model.served_by is None:
        return True
    found, _ = look_up_type(model.config.model_type, model.served_by)
    return not isinstance(found, Entry)
