"""`env.sh`: what a shell must know so that pip, uv and Hugging Face clients use the site and nothing else."""

import os
import shlex
from collections.abc import Sequence
from pathlib import Path

# HF_HOME stays the user's own: clients write there, such as a model's own code, tokens and when they last
# looked for updates.
# A POSIX shell does not tell a sourced file its own name; bash and zsh do. Elsewhere AIRGAP_SITE says
# where the site lies, and without it the place where it was installed.
_TEMPLATE = """\
# airgap: use this generation offline. Read it into a shell with '. SITE/current/env.sh'.
if [ -n "${{BASH_SOURCE:-}}" ]; then
    _airgap=$(cd "$(dirname "$BASH_SOURCE")" && pwd)
elif [ -n "${{ZSH_VERSION:-}}" ]; then
    _airgap=$(eval 'cd "$(dirname "${{(%):-%x}}")" && pwd')
else
    _airgap=${{AIRGAP_SITE:-{site}}}/current
fi
export AIRGAP_GENERATION="$_airgap" HF_HUB_CACHE="$_airgap/hub"
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 HF_HUB_DISABLE_UPDATE_CHECK=1
export PIP_NO_INDEX=1 PIP_DISABLE_PIP_VERSION_CHECK=1
export UV_NO_INDEX=1 UV_OFFLINE=1 UV_PYTHON_DOWNLOADS=never
{links}unset _airgap
"""

# As file URLs, because pip splits its list at spaces and uv at commas.
_LINKS = """\
_airgap=file://$(printf %s "$_airgap" | sed 's/%/%25/g; s/ /%20/g; s/,/%2C/g; s/#/%23/g; s/?/%3F/g')
export PIP_FIND_LINKS="{pip}"
export UV_FIND_LINKS="{uv}"
"""


def render_environment(site: Path, sets: Sequence[str]) -> bytes:
    """The bytes of env.sh for a site with these wheels sets. `sets` are artifact names."""
    directories = [f"$_airgap/wheels/{name}" for name in sorted(sets)]
    links = _LINKS.format(pip=" ".join(directories), uv=",".join(directories)) if directories else ""
    return os.fsencode(_TEMPLATE.format(site=shlex.quote(str(site)), links=links))
