"""Credentials for a registry, from where `docker login`, `podman login` and `skopeo login` leave them.

Sources: docker/cli `config.json` and the docker-credential-helpers protocol; containers-auth.json(5).
"""

import base64
import binascii
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from airgap.decode import Fields, parse_json, read_capped
from airgap.errors import HostError, InputError, SourceError
from airgap.oci import DOCKER_HUB

MAX_AUTH_FILE = 4 * 1024 * 1024
HELPER_SECONDS = 60

_HUB_SERVER = "https://index.docker.io/v1/"
_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What was stored for one registry; secrets stay out of `repr`, so no log or traceback shows them."""

    username: str
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    """An OAuth 2 refresh token, exchanged at the token realm."""
    registry_token: str = field(default="", repr=False)
    """A bearer token, sent as it is."""


def find_credentials(registry: str, repository: str, environ: Mapping[str, str]) -> Credentials | None:
    """The first entry for `registry`, or None for anonymous access.

    Read in podman's order: REGISTRY_AUTH_FILE alone if set; else containers/auth.json below
    XDG_RUNTIME_DIR (/run/containers/UID without one) and XDG_CONFIG_HOME, then config.json in
    DOCKER_CONFIG. Raises InputError for a malformed file, HostError for a credential helper that
    is not installed, SourceError for one that failed.
    """
    for path in auth_files(environ):
        if path.is_file():
            found = _from_file(path, registry, repository, environ)
            if found is not None:
                return found
    return None


def auth_files(environ: Mapping[str, str]) -> Iterator[Path]:
    """Where credentials may lie, first to last (containers-auth.json(5))."""
    if environ.get("REGISTRY_AUTH_FILE"):
        yield Path(environ["REGISTRY_AUTH_FILE"])
        return
    home = Path(environ.get("HOME") or "/nonexistent")
    runtime = environ.get("XDG_RUNTIME_DIR")
    yield (Path(runtime) / "containers" if runtime else Path(f"/run/containers/{os.getuid()}")) / "auth.json"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "containers" / "auth.json"
    yield Path(environ.get("DOCKER_CONFIG") or home / ".docker") / "config.json"


def _from_file(path: Path, registry: str, repository: str, environ: Mapping[str, str]) -> Credentials | None:
    what = str(path)
    document = Fields(parse_json(read_capped(path, max_bytes=MAX_AUTH_FILE), what, floats=True))
    document.raise_if_bad(what)
    helper = _helper(document, registry)
    stored = document.optional_table("auths")
    document.raise_if_bad(what)
    if helper:
        found = _ask_helper(helper, registry, what, environ)
        if found is not None:
            return found
    return _stored(stored, registry, repository, what) if stored else None


def _helper(document: Fields, registry: str) -> str:
    """The program suffix for this registry: its own helper before the store for all."""
    helpers = document.optional_table("credHelpers")
    if helpers:
        for key in helpers.all_keys():
            if _same_server(key, registry):
                return helpers.text(key)
    return document.optional_text("credsStore") or ""


def _ask_helper(helper: str, registry: str, what: str, environ: Mapping[str, str]) -> Credentials | None:
    if not re.fullmatch(r"[A-Za-z0-9._-]+", helper):
        raise InputError(f"{what}: expected a credential helper's name, found {helper[:80]!r}")
    program = f"docker-credential-{helper}"
    server = _HUB_SERVER if registry in _HUB_HOSTS else registry
    try:
        done = subprocess.run(
            [program, "get"],
            input=server.encode(),
            capture_output=True,
            timeout=HELPER_SECONDS,
            env=dict(environ),
            check=False,
        )
    except OSError as error:
        raise HostError(
            f"{program}, which {what} names for {registry}, cannot be run: {error.strerror}",
            remedy="install the credential helper, or remove it from that file and log in again",
        ) from None
    except subprocess.TimeoutExpired:
        raise SourceError(
            f"{program} gave no answer for {registry} within {HELPER_SECONDS} s",
            remedy=f"run '{program} get' by hand and unlock the key store it asks for",
        ) from None
    if done.returncode != 0:
        said = (done.stdout or done.stderr).decode(errors="replace").strip()
        if "credentials not found" in said:
            return None
        raise SourceError(
            f"{program} failed for {registry} with exit code {done.returncode}: {said[:200]!r}",
            remedy=f"unlock or repair the key store it uses, then 'docker login {registry}'",
        )
    answer = Fields(parse_json(done.stdout, f"the answer of {program}", max_bytes=MAX_AUTH_FILE))
    username, secret = answer.text("Username"), answer.text("Secret")
    answer.raise_if_bad(f"the answer of {program}")
    # The protocol's mark for a refresh token in place of a password.
    if username == "<token>":
        return Credentials("", identity_token=secret)
    return Credentials(username, secret)


def _stored(auths: Fields, registry: str, repository: str, what: str) -> Credentials | None:
    """The most specific entry: podman keeps them per repository prefix, docker per host."""
    entries = {_normal(key): key for key in auths.all_keys()}
    parts = repository.split("/")
    host = DOCKER_HUB if registry in _HUB_HOSTS else registry
    for length in range(len(parts), -1, -1):
        key = entries.get("/".join([host, *parts[:length]]))
        if key is not None:
            return _entry(auths.table(key), what)
    return None


def _entry(entry: Fields, what: str) -> Credentials | None:
    auth = entry.optional_text("auth") or ""
    username, password = entry.optional_text("username") or "", entry.optional_text("password") or ""
    identity = entry.optional_text("identitytoken") or ""
    registry = entry.optional_text("registrytoken") or ""
    if auth:
        try:
            username, _, password = base64.b64decode(auth, validate=True).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            entry.problem("auth", "expected base64 of user:password")
    entry.raise_if_bad(what)
    if not (username or identity or registry):
        return None
    return Credentials(username, password.rstrip("\0"), identity, registry)


def _same_server(key: str, registry: str) -> bool:
    return _normal(key) == (DOCKER_HUB if registry in _HUB_HOSTS else registry)


def _normal(key: str) -> str:
    """`https://host/v1/` (docker), `host` and `host/prefix` (podman) as `host[/prefix]`."""
    scheme, separator, rest = key.partition("://")
    bare = rest.partition("/")[0] if separator else scheme.rstrip("/")
    host, slash, prefix = bare.partition("/")
    return f"{DOCKER_HUB if host in _HUB_HOSTS else host}{slash}{prefix}"
