"""Slow: the static reader equals the real import of transformers, every entry, in a scratch environment."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from airgap.readers.python_tables import Table
from airgap.readers.serving_tables import read_transformers
from airgap.readers.source import FileSource
from airgap.readers.zip import Archive

COUNTS = {"4.57.6": 421, "5.5.4": 499, "5.23.0": 804}

IMPORT = """
import json, sys
from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
assert "torch" not in sys.modules
print(json.dumps(dict(CONFIG_MAPPING_NAMES)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("version", COUNTS)
def test_equals_the_real_import(version: str, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", f"transformers=={version}"], check=True)
    subprocess.run(
        [*pip, "download", "--no-deps", "--dest", tmp_path, f"transformers=={version}"], check=True
    )
    imported = subprocess.run([python, "-c", IMPORT], check=True, capture_output=True, text=True).stdout
    [wheel] = tmp_path.glob("*.whl")
    with FileSource(wheel) as source:
        table = read_transformers(Archive(source, wheel.name)).model_types
    assert isinstance(table, Table)
    assert not table.open
    assert {key: entry.value for key, entry in table.entries.items()} == json.loads(imported)
    assert len(table.entries) == COUNTS[version]
