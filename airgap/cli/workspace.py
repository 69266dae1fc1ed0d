"""Where the connected side's verbs find the manifest, its lock, and the store."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from airgap.connected.source import Context
from airgap.connected.transfer import Transfer
from airgap.decode import Fields, parse_toml, read_capped
from airgap.destination import read_target
from airgap.errors import InputError
from airgap.lock import Lock, parse_lock, require_current
from airgap.manifest import MAX_MANIFEST, Manifest, WheelsRequest, load_manifest
from airgap.model import Target
from airgap.progress import Progress
from airgap.store import Store


def cache_directory() -> Path:
    """`AIRGAP_CACHE`, else `airgap` in the user's cache directory (XDG Base Directory specification)."""
    chosen = os.environ.get("AIRGAP_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "airgap"


def lock_path(manifest: Path) -> Path:
    """`gemma4.toml` is locked by `gemma4.lock.json` beside it."""
    return manifest.with_name(f"{manifest.stem}.lock.json")


@dataclass(frozen=True, slots=True)
class LockedManifest:
    """A lock as read: its value, its exact bytes, where its relative paths begin.

    `logins` are the manifest's index URLs as written: the lock holds none that carries a password.
    """

    lock: Lock
    data: bytes
    directory: Path
    logins: tuple[str, ...] = field(default=(), repr=False)


def read_locked(path: Path) -> LockedManifest:
    """Read the lock of a manifest, or a lock itself.

    Raises InputError when there is none, or when the manifest has changed since it was made.
    """
    if path.name.endswith(".lock.json"):
        data = read_capped(path)
        return LockedManifest(parse_lock(data, str(path)), data, path.parent)
    manifest = load_manifest(path)
    beside = lock_path(path)
    if not beside.exists():
        raise InputError(f"{path} is not locked: no {beside}", remedy=f"run: airgap lock {path}")
    data = read_capped(beside)
    lock = parse_lock(data, str(beside))
    require_current(lock, manifest.sha256, str(beside))
    return LockedManifest(lock, data, path.parent, index_urls(manifest))


def index_urls(manifest: Manifest) -> tuple[str, ...]:
    """Every index and find-links URL that the manifest names, logins included."""
    wheels = [request for request in manifest.requests if isinstance(request, WheelsRequest)]
    return tuple(
        url for r in wheels for url in (r.index_url, *r.extra_index_urls, *r.find_links) if "://" in url
    )


def open_context(
    target: Target,
    directory: Path,
    progress: Progress,
    logins: tuple[str, ...] = (),
    *,
    provenance: bool = False,
) -> Context:
    """The store, ready, and the one transfer engine on it. Raises HostError."""
    store = Store(cache_directory())
    store.prepare()
    return Context(target, directory, store, Transfer(store, progress), progress, logins, provenance)


def read_target_of(path: Path) -> Target:
    """The `[target]` of a TOML file: a manifest, or what `airgap probe` wrote. Raises InputError."""
    document = Fields(parse_toml(read_capped(path, max_bytes=MAX_MANIFEST), str(path)))
    target = read_target(document.table("target"))
    document.raise_if_bad(str(path))
    return target
