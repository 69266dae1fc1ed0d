"""The field note's matrix, read from the bytes of the wheels: replayed from recordings, and once online.

The recordings are ranges of the real files as the public index serves them (see recordings.py).
"""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest

from airgap.model import Platform, Target
from airgap.readers.imports import Import, Missing, Modules, read_imports
from airgap.readers.python_syntax import NotUnderstood
from airgap.readers.python_tables import Entry, Table
from airgap.readers.requires import pins
from airgap.readers.serving_tables import read_transformers, read_vllm
from airgap.readers.wheel import read_wheel
from airgap.readers.zip import Archive
from airgap.tags import marker_environment
from tests.readers.recordings import TRANSFORMERS, VLLM, Online, Replay

TARGET = Target(python="3.12", platform=Platform("linux", "amd64"), glibc="2.35")
ARCHITECTURE, MODEL_TYPE = "Gemma4ForConditionalGeneration", "gemma4"

TRAFFIC = 20_000_000
"""Bytes that the whole matrix may cost."""

BACKEND = (
    b"from vllm.inputs.data import TokensPrompt\nfrom vllm import LLM\nfrom vllm.inputs import TokensPrompt\n"
)


class Wheels(Protocol):
    def open(self, file: str) -> Archive: ...


@dataclass(frozen=True)
class Vllm:
    registry: Table
    architecture: Entry | NotUnderstood | None
    transformers_pin: str
    allows: dict[str, bool]
    """transformers version -> whether METADATA's pin lets it in."""
    broken_imports: list[str]


def read_everything(wheels: Wheels) -> tuple[dict[str, Vllm], dict[str, Table]]:
    """What the matrix is made of: every vLLM, and every transformers' table of model types."""
    vllms = {version: _read_vllm(wheels.open(file), file) for version, file in VLLM.items()}
    tables = {}
    for version, file in TRANSFORMERS.items():
        wheel = read_wheel(wheels.open(file), file)
        assert wheel.metadata.version == version
        table = read_transformers(wheel.archive).model_types
        assert isinstance(table, Table), table
        tables[version] = table
    return vllms, tables


def _read_vllm(archive: Archive, file: str) -> Vllm:
    wheel = read_wheel(archive, file)
    tables = read_vllm(archive)
    assert isinstance(tables.architectures, Table), tables.architectures
    for table in (tables.previously_supported, tables.quantization, tables.model_types):
        assert isinstance(table, Table), table
        assert table.entries and not table.open
    [pin] = [pin for pin in pins(wheel.metadata, marker_environment(TARGET)) if pin.name == "transformers"]
    imports = read_imports(BACKEND, "backend.py", "backend")
    assert isinstance(imports, tuple)
    modules = Modules(archive)
    judged = [modules.judge(wanted) for wanted in imports]
    assert not any(isinstance(found, NotUnderstood) for found in judged), judged
    return Vllm(
        registry=tables.architectures,
        architecture=tables.architectures.get(ARCHITECTURE),
        transformers_pin=pin.specifier,
        allows={version: pin.allows(version) for version in TRANSFORMERS},
        broken_imports=[str(found.wanted) for found in judged if isinstance(found, Missing)],
    )


def assert_matrix(vllms: dict[str, Vllm], tables: dict[str, Table]) -> None:
    lines = {
        version: found.architecture.line if isinstance(found.architecture, Entry) else found.architecture
        for version, found in vllms.items()
    }
    assert lines == {"0.17.1": None, "0.19.0": 385, "0.19.1": 385, "0.33.0": 427}

    types = {
        v: entry.line if isinstance(entry := t.get(MODEL_TYPE), Entry) else entry for v, t in tables.items()
    }
    assert types == {"4.57.6": None, "5.5.0": 177, "5.5.4": 177, "5.19.0": 229, "5.23.0": 241}
    assert {v: len(t.entries) for v, t in tables.items() if v in ("4.57.6", "5.23.0")} == {
        "4.57.6": 421,
        "5.23.0": 804,
    }

    allowed = {v: {t for t, yes in found.allows.items() if yes} for v, found in vllms.items()}
    assert allowed == {
        "0.17.1": {"4.57.6"},
        "0.19.0": {"4.57.6"},
        "0.19.1": {"4.57.6", "5.5.4", "5.19.0", "5.23.0"},
        "0.33.0": {"5.19.0"},
    }

    gone = ["from vllm.inputs.data import TokensPrompt"]
    assert {v: found.broken_imports for v, found in vllms.items()} == {
        "0.17.1": [],
        "0.19.0": gone,
        "0.19.1": gone,
        "0.33.0": gone,
    }

    runs = {
        (v, t)
        for v, found in vllms.items()
        for t in tables
        if found.architecture and found.allows[t] and tables[t].get(MODEL_TYPE)
    }
    assert runs == {("0.19.1", t) for t in ("5.5.4", "5.19.0", "5.23.0")} | {("0.33.0", "5.19.0")}


def test_the_matrix_from_recorded_bytes() -> None:
    vllms, tables = read_everything(Replay())
    assert_matrix(vllms, tables)
    assert vllms["0.19.0"].transformers_pin == "<5,>=4.56.0"
    for found in vllms.values():
        assert not found.registry.open
        assert all(entry.value and entry.certain for entry in found.registry.entries.values())


def test_the_matrix_from_the_public_index(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wheels = Online(tmp_path)
    assert_matrix(*read_everything(wheels))
    whole = sum(source.size for source in wheels.sources.values())
    requests = sum(source.requests for source in wheels.sources.values())
    with capsys.disabled():
        print(f"\nthe matrix took {wheels.traffic:,} bytes of {whole:,} in {requests} requests")
    assert wheels.traffic < TRAFFIC


def test_the_recordings_are_small() -> None:
    from tests.readers.recordings import DIRECTORY

    assert sum(path.stat().st_size for path in DIRECTORY.iterdir()) < 1_500_000


def test_a_table_that_moved_is_unknown_and_names_the_file() -> None:
    file = VLLM["0.19.0"]

    class Moved:
        """The wheel without one file: what a release that moved it would look like."""

        digest = ""

        def __init__(self) -> None:
            self._archive = Replay().open(file)

        def paths(self) -> tuple[str, ...]:
            return tuple(p for p in self._archive.paths() if p != "vllm/model_executor/models/registry.py")

        def read(self, path: str, max_bytes: int) -> bytes:
            return self._archive.read(path, max_bytes)

    tables = read_vllm(Moved())
    assert isinstance(tables.architectures, NotUnderstood)
    assert tables.architectures.member == "vllm/model_executor/models/registry.py"
    assert isinstance(tables.architectures.get(ARCHITECTURE), NotUnderstood)
    assert isinstance(tables.quantization, Table)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"_VLLM_MODELS = {", b"_VLLM_MODELS = build(lambda: {"),
        (b"_VLLM_MODELS = {", b"_ALL_MODELS = {"),
        (b"_SUBPROCESS_COMMAND = [", b"_VLLM_MODELS.pop(sys.argv[1])\n_SUBPROCESS_COMMAND = ["),
        (b"_SUBPROCESS_COMMAND = [", b"exec('_VLLM_MODELS = {}')\n_SUBPROCESS_COMMAND = ["),
        (b"_SUBPROCESS_COMMAND = [", b"if sys:\n    _VLLM_MODELS = {}\n_SUBPROCESS_COMMAND = ["),
    ],
)
def test_a_registry_written_in_another_form_is_unknown(old: bytes, new: bytes) -> None:
    archive = Replay().open(VLLM["0.19.0"])

    class Mutated:
        digest = ""

        def paths(self) -> tuple[str, ...]:
            return archive.paths()

        def read(self, path: str, max_bytes: int) -> bytes:
            data = archive.read(path, max_bytes)
            if not path.endswith("models/registry.py"):
                return data
            assert old in data
            changed = data.replace(old, new)
            return (
                changed.replace(b"_TRANSFORMERS_BACKEND_MODELS,\n}", b"_TRANSFORMERS_BACKEND_MODELS,\n})")
                if (b"lambda" in new)
                else changed
            )

    assert isinstance(read_vllm(Mutated()).architectures.get(ARCHITECTURE), NotUnderstood)


def test_memory_stays_small() -> None:
    """Every table of every wheel, in a process of its own. (Its ru_maxrss would begin with this one's.)"""
    code = (
        "from tests.readers.test_field_note import *; read_everything(Replay());"
        "print(Path('/proc/self/status').read_text())"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    [peak] = re.findall(r"VmHWM:\s+(\d+) kB", done.stdout)
    assert int(peak) < 150 * 1024


def test_an_import_knows_where_it_stands() -> None:
    found = read_imports(BACKEND, "backend.py", "backend")
    assert isinstance(found, tuple)
    assert found[0] == Import("vllm.inputs.data", "TokensPrompt", "backend.py", 1)
