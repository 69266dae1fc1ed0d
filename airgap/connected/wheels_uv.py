"""The second opinion: uv resolves the same question, and must find the same pins.

Two resolvers that share no code rarely make the same mistake about a machine neither of them runs on.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import unquote

from airgap.connected.index import strip_logins
from airgap.connected.resolver_protocol import Answer, Question
from airgap.errors import InputError
from airgap.model import Finding, Severity, Target
from airgap.tags import WheelName, machine, normalized_name


def find_uv() -> str | None:
    """uv beside this interpreter, else on the PATH."""
    beside = Path(sys.executable).parent
    return shutil.which("uv", path=f"{beside}{os.pathsep}{os.environ.get('PATH', '')}")


@cache
def uv_version() -> str | None:
    """Its version; None when there is no uv."""
    uv = find_uv()
    if uv is None:
        return None
    said = subprocess.run([uv, "--version"], capture_output=True, text=True, check=False).stdout.split()
    return said[1] if len(said) > 1 else None


def cross_check(name: str, question: Question, answer: Answer, target: Target) -> list[Finding]:
    """Compare pip's pins with uv's. Raises InputError that names each package they disagree on.

    A finding says when uv could not be asked, or not for exactly this target.
    """
    uv = find_uv()
    if uv is None:
        return [_unchecked(name, "uv is not installed", "install uv to have the pins cross-checked")]
    platform = _nearest_platform(uv, target)
    if platform is None:
        return [_unchecked(name, f"uv has no name for {target.platform} with glibc {target.glibc}", "")]
    with TemporaryDirectory() as directory:
        done = subprocess.run(
            [uv, *_arguments(question, answer, platform, Path(directory))],
            capture_output=True,
            text=True,
            check=False,
            cwd=question.directory,
            env=_environment(question, answer),
        )
        if done.returncode != 0:
            return [
                _unchecked(name, "uv gave no answer", "read what uv says", strip_logins(done.stderr)[-1500:])
            ]
        theirs = _pins(Path(directory, "pins").read_text(encoding="utf-8"))
    exact = platform.endswith(f"_{target.glibc.replace('.', '_')}")
    differences = list(_differences(answer, theirs))
    if differences and exact:
        raise InputError(
            f"{name}: pip and uv resolve the requirements differently for this target",
            problems=differences,
            remedy="pin these packages in requirements or constraints",
        )
    if differences:
        message = f"pip and uv differ, but uv was asked about {platform}: {'; '.join(differences)}"
        return [_unchecked(name, message, "compare these packages by hand, or pin them")]
    return [] if exact else [_near(name, platform, target)]


def _nearest_platform(uv: str, target: Target) -> str | None:
    """The newest manylinux that this uv can be asked about and the target still runs."""
    arguments = [uv, "pip", "compile", "--help"]
    told = subprocess.run(arguments, capture_output=True, text=True, check=False).stdout
    arch = machine(target.platform)
    minors = {int(minor) for minor in re.findall(rf"\b{arch}-manylinux_2_(\d+)", told)}
    usable = [minor for minor in minors if minor <= int(target.glibc.partition(".")[2])]
    return f"{arch}-manylinux_2_{max(usable)}" if usable else None


def _arguments(question: Question, answer: Answer, platform: str, directory: Path) -> list[str]:
    inline, pins = directory / "requirements.in", directory / "pins"
    inline.write_text("\n".join(question.requirements), encoding="utf-8")
    # uv prefers the pins of an existing output file, as pip-compile does: the same question again.
    pins.write_text("".join(f"{n}=={v}\n" for n, v in (question.pins or {}).items()), encoding="utf-8")
    arguments = ["pip", "compile", str(inline), *filter(None, [question.requirements_file])]
    arguments += ["--output-file", str(pins), "--no-config", "--no-header", "--no-annotate", "--quiet"]
    arguments += ["--python", sys.executable, "--python-version", question.python]
    arguments += ["--python-platform", platform, "--index-strategy", "unsafe-best-match"]
    for path in question.constraints:
        arguments += ["--constraint", path]
    for place in question.find_links:
        arguments += ["--find-links", place]
    sdists = {normalized_name(name) for name in question.allow_sdist}
    wheels = [c.name for c in answer.choices if c.name not in sdists] if sdists else [":all:"]
    for package in wheels:
        arguments += ["--only-binary", package]
    if all(choice.sha256 for choice in answer.choices):
        # Where the index gives no digests uv would download every file to make them.
        arguments.append("--generate-hashes")
    return arguments


def _environment(question: Question, answer: Answer) -> dict[str, str]:
    """The manifest's sources alone; logins travel here, where other users cannot list them."""
    kept = {"UV_CACHE_DIR", "UV_HTTP_TIMEOUT", "UV_NATIVE_TLS", "UV_SYSTEM_CERTS"}
    environment = {key: v for key, v in os.environ.items() if not key.startswith("UV_") or key in kept}
    environment |= {"UV_DEFAULT_INDEX": answer.index_url, "UV_PYTHON_DOWNLOADS": "never"}
    if question.extra_index_urls:
        environment["UV_INDEX"] = " ".join(question.extra_index_urls)
    bundle = answer.cert or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    if bundle:
        environment["SSL_CERT_FILE"] = bundle
    return environment


def _pins(text: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Package -> its version and the sha256 of its files, from a requirements file of uv's."""
    pins = {}
    for entry in re.sub(r"\\\n", " ", text).splitlines():
        digests = frozenset(re.findall(r"--hash=sha256:([0-9a-f]{64})", entry))
        pin = re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?\s*(?:===?\s*([^\s;]+)|@)", entry)
        path = re.match(r"(?:\S*/)?([^/\s]+\.whl)(?:\s|$)", entry)
        if pin:
            pins[normalized_name(pin[1])] = (pin[2] or "", digests)
        elif path:
            wheel = WheelName.parse(unquote(path[1]))
            pins[normalized_name(wheel.name)] = (wheel.version, digests)
    return pins


def _differences(answer: Answer, theirs: Mapping[str, tuple[str, frozenset[str]]]) -> Iterator[str]:
    ours = {choice.name: choice for choice in answer.choices}
    for name in sorted(ours.keys() | theirs.keys()):
        choice = ours.get(name)
        version, digests = theirs.get(name, (None, frozenset()))
        if choice is None or version is None:
            yield f"{name}: pip {choice.version if choice else 'not needed'}, uv {version or 'not needed'}"
        elif version not in ("", choice.version):
            yield f"{name}: pip {choice.version}, uv {version}"
        elif digests and choice.sha256 not in digests and len(choice.found_on) == 1:
            yield f"{name} {version}: the file pip chose (sha256 {choice.sha256}) is none that uv saw"


def _unchecked(name: str, message: str, remedy: str, evidence: str = "") -> Finding:
    said = f"the pins were not cross-checked: {message}"
    return Finding("wheels-not-cross-checked", Severity.WARNING, name, said, evidence, remedy)


def _near(name: str, platform: str, target: Target) -> Finding:
    said = f"uv agrees for {platform}, the nearest it knows to glibc {target.glibc}"
    return Finding("wheels-cross-checked-nearby", Severity.INFO, name, said)
