"""Facts made by hand for the rules' tests, and those of recorded wheels (tests/readers/recordings.py)."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from airgap.model import Gpu, Kind, Platform, Target
from airgap.readers.model_config import parse_model_config
from airgap.readers.python_tables import Table, read_module
from airgap.readers.serving_tables import VllmTables
from airgap.readers.wheel import Metadata
from airgap.readiness.components import Distribution, Model, NotRead, Stack
from airgap.readiness.judgement import Evidence, Judgement, Verdict
from airgap.readiness.reading import Seen, Tables, read_package, stack_of
from tests.readers.recordings import TRANSFORMERS, VLLM, Replay

L4 = Gpu("NVIDIA L4", "8.9", 24, 4)
TARGET = Target("3.12", Platform("linux", "amd64"), "2.35", L4, "570.86")


def gpu(capability: str) -> Target:
    return Target("3.12", Platform("linux", "amd64"), "2.35", Gpu("GPU", capability, 24), "570.86")


def package(name: str, version: str, *requires: str, file: str = "", python: str = "") -> Seen:
    """A package of these requirements; its wheel is for any platform unless `file` names another."""
    lines = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    lines += [f"Requires-Python: {python}"] if python else []
    metadata = Metadata.parse("\n".join(["Metadata-Version: 2.1", *lines]).encode(), name)
    stem = f"{name.replace('-', '_')}-{version}"
    digest = f"{len(name):064x}"
    return Seen(
        Distribution(file or f"{stem}-py3-none-any.whl", digest, f"{stem}.dist-info/METADATA", metadata),
        Tables(),
    )


def stack(*seen: Seen, closed: bool = True, unread: dict[str, NotRead] | None = None, **more: Any) -> Stack:
    made = stack_of(
        "serving",
        more.pop("kind", Kind.WHEELS),
        seen,
        closed=closed,
        unread=unread or {},
        requirements=more.pop("requirements", ()),
    )
    return replace(made, **more)


def table(source: str, name: str = "TABLE") -> Table:
    found = read_module(source.encode(), "made.py").table(name)
    assert isinstance(found, Table)
    return found


def empty() -> Table:
    return table("TABLE = {}")


def vllm_tables(**tables: Any) -> VllmTables:
    names = ("architectures", "previously_supported", "out_of_tree", "quantization", "model_types")
    return VllmTables(**{name: tables.get(name, empty()) for name in names})


@cache
def recorded(file: str) -> Seen:
    return read_package(Replay().open(file), file)


def recorded_stack(vllm: str, transformers: str) -> Stack:
    """The two as the manifest of the field note pins them."""
    return stack(recorded(VLLM[vllm]), recorded(TRANSFORMERS[transformers]), closed=False)


GEMMA = b"""{"architectures": ["Gemma4ForConditionalGeneration"], "model_type": "gemma4",
"text_config": {"model_type": "gemma4_text", "num_hidden_layers": 60},
"vision_config": {"model_type": "gemma4_vision"}}"""


def model(config: bytes | None = GEMMA, served_by: Stack | None = None, **more: Any) -> Model:
    values: dict[str, Any] = {
        "name": "gemma",
        "repo": "example/gemma",
        "claim": "",
        "gated": "",
        "config": parse_model_config(config, "config.json") if config else None,
        "where": Evidence("gemma/config.json", "c" * 64),
        "files": {"config.json": 100},
        "served_by": served_by,
        "server": served_by.name if served_by else "",
    }
    return Model(**(values | more))


def verdicts(judgements: Sequence[Judgement]) -> list[Verdict]:
    return [judgement.verdict for judgement in judgements]
