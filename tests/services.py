"""Real tools the tests run. Absent on a developer's machine they skip a test; on CI they fail it."""

import os
import shutil

import pytest


def need(*tools: str) -> None:
    """Require programs on the PATH (`scripts/test` installs them all)."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if not missing:
        return
    message = f"not installed: {', '.join(missing)}; scripts/test installs it"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)
