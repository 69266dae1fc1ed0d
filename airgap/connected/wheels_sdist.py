"""A wheel from an sdist that the manifest allows: built once, pure Python, the same bytes each time."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from airgap.connected.index import strip_logins
from airgap.errors import InputError
from airgap.tags import WheelName

EPOCH = "315532800"
"""1980-01-01T00:00:00Z, the first second a zip file can hold (SOURCE_DATE_EPOCH)."""


_PIP_WHEEL = (sys.executable, "-P", "-m", "pip", "wheel", "--no-deps", "--no-cache-dir", "--no-input")


@contextmanager
def built_wheel(sdist: Path, name: str, indexes: Sequence[str], cert: str) -> Iterator[Path]:
    """Build `sdist` (a path; `name` its file name) with this interpreter; the wheel goes with the context.

    `indexes` are where the build's own requirements come from, `cert` a CA bundle or ''. Raises
    InputError when it does not build, or when what comes out is not pure Python and so not the target's.
    """
    with TemporaryDirectory() as directory:
        source, out = Path(directory, name), Path(directory, "wheels")
        shutil.copyfile(sdist, source)
        done = subprocess.run(
            [*_PIP_WHEEL, "--wheel-dir", str(out), str(source)],
            capture_output=True,
            text=True,
            check=False,
            cwd=directory,
            env=_environment(indexes, cert),
            umask=0o022,
        )
        if done.returncode != 0:
            said = strip_logins(done.stderr).strip()[-1500:]
            raise InputError(
                f"{name}: no wheel could be built of it:\n{said}",
                remedy="build a wheel by hand and name its directory in find-links",
            )
        [wheel] = out.iterdir()
        tags = WheelName.parse(wheel.name).tags
        if "py3-none-any" not in tags:
            raise InputError(
                f"{name}: expected a py3-none-any wheel, found {', '.join(tags)}",
                remedy="it holds compiled code: build it on the target and name its directory in find-links",
            )
        yield wheel


def _environment(indexes: Sequence[str], cert: str) -> dict[str, str]:
    """pip without the user's own sources; logins travel here, where other users cannot list them."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    environment |= {"SOURCE_DATE_EPOCH": EPOCH, "PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C.UTF-8"}
    if cert:
        environment["PIP_CERT"] = cert
    if indexes:
        environment["PIP_INDEX_URL"] = indexes[0]
        environment["PIP_EXTRA_INDEX_URL"] = " ".join(indexes[1:])
    return environment
