"""The root a site trusts: pinned once by `airgap trust pin`, then succeeded by the roots that follow it.

    trust/root.json        the root in force
    trust/<n>.root.json    every version since the pinned one, so that the chain can be audited

`<n>.root.json` is durable before root.json is replaced, and reading goes on from root.json along what
lies beside it: killed between the two, or given an older root.json, a site trusts the end of the chain.
The site's directory is trusted to hold what was put there, not to hold it as a link to elsewhere:
nothing below the site is followed.
"""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from airgap.decode import read_capped
from airgap.errors import HostError, InputError, TrustError
from airgap.layout import ROOT_NAME, ROOTS_DIRECTORY, root_name
from airgap.media import Media, shown
from airgap.store import emptiness, fsync_directory, host_errors, write_durably
from airgap.trust.root import MAX_ROOT, Root, load_pinned, verify_first
from airgap.trust.succession import MAX_VERSIONS, Successor, follow

TRUST_DIRECTORY = "trust"
ROOT_FILE = "root.json"

_DIRECTORY_MODE = 0o755


def trusted_root(site: Path | None, root: Path | None, fingerprint: str | None) -> Root:
    """The root to judge by: the one in force in `site`, or the file `root` where its fingerprint is known.

    With both, the site's decides and the file must be the same root. Raises TrustError when there is
    none, when it lacks its own signatures, or when it is not the one the fingerprint or the site names;
    InputError when the file `root` cannot be read.
    """
    pinned = _read_pinned(site) if site else None
    given = _read_given(root, fingerprint) if root or fingerprint else None
    if pinned and given and pinned != given:
        raise TrustError(
            f"{root}: expected the root that {site} trusts (version {pinned.version}),"
            f" found another (version {given.version})",
            remedy="leave --root out to judge by the site's own",
        )
    found = pinned or given
    if found is None:
        where = f"{site} pins no root" if site else "no root was given"
        raise TrustError(
            f"{where}: without one nothing can be believed",
            remedy=_how_to_pin(site)
            if site
            else "give --site DIR where one is pinned, or --root FILE --fingerprint …",
        )
    return found


def _how_to_pin(site: Path) -> str:
    """A site whose disk is not mounted, or whose name is misspelt, looks as one that was never set up."""
    pinning = f"airgap trust pin ROOT --site {shown(str(site))} --fingerprint …"
    absent = emptiness(site)
    return f"{absent}; for a new site: {pinning}" if absent else pinning


def pin(site: Path, data: bytes, fingerprint: str, what: str) -> Root:
    """Make `data` the root of a site, durably; returns the root in force.

    Pinning again what the site has pinned or followed changes nothing. Raises TrustError for another
    fingerprint, missing signatures, or a site that trusts another root; InputError when `data` is no
    root; HostError when the site cannot be written.
    """
    root = verify_first(data, fingerprint, what)
    pinned = _read_pinned(site)
    if pinned is None:
        _write(site, [Successor(root, data)])
        return root
    name = root_name(root.version)
    kept = read_trust(site, name, max_bytes=MAX_ROOT)
    if root != pinned and (kept is None or _load(kept, name) != root):
        raise TrustError(
            f"{site} already pins version {pinned.version} of another root",
            remedy="a new root must be signed by the holders of the old one; a new site may pin any",
        )
    return pinned


def extend(site: Path, chain: Sequence[Successor]) -> None:
    """Make what `follow` returned the site's, durably; the caller holds the site. Raises HostError."""
    if chain:
        _write(site, chain)


def carried_roots(media: Media, root: Root) -> tuple[Successor, ...]:
    """The roots after `root` that a bundle brings in `roots/`, each proven by the one before it.

    Versions up to `root` are not read. Raises TrustError for a gap or a root that does not follow,
    IntegrityError for a link in place of one, HostError when the media cannot be read.
    """
    names = media.names(ROOTS_DIRECTORY, at_most=MAX_VERSIONS)
    versions = [int(match[1]) for name in names if (match := ROOT_NAME.fullmatch(name))]

    def read(version: int) -> bytes:
        return media.read(f"{ROOTS_DIRECTORY}/{root_name(version)}", max_bytes=MAX_ROOT)

    return follow(root, versions, read)


def newest(root: Root, chain: Sequence[Successor]) -> Root:
    """The end of the chain, or `root` where nothing followed it."""
    return chain[-1].root if chain else root


def read_trust(site: Path, name: str, *, max_bytes: int) -> bytes | None:
    """At most `max_bytes` + 1 bytes of a file in `<site>/trust/`; None when it is not there.

    Raises TrustError when the directory is a link, or the file is no regular one; HostError.
    """
    path = site / TRUST_DIRECTORY / name
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path.parent, error) from error
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(directory)
    with open(descriptor, "rb") as stream, host_errors(path):
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError(
                f"{path}: expected the site's trust memory, found something that is no regular file",
                remedy="find out who changed it before trusting this site",
            )
        return stream.read(max_bytes + 1)


def _read_given(root: Path | None, fingerprint: str | None) -> Root:
    if root is None or fingerprint is None:
        raise TrustError(
            "a root file and its fingerprint belong together, found only one of them",
            remedy="give --root FILE and --fingerprint '…', the latter as the holders read it to you",
        )
    return verify_first(read_capped(root, max_bytes=MAX_ROOT), fingerprint, str(root))


def _read_pinned(site: Path) -> Root | None:
    """The root in force; None when nothing was ever pinned. Raises TrustError when it is damaged."""
    data = read_trust(site, ROOT_FILE, max_bytes=MAX_ROOT)
    if data is None:
        return None
    root = _load(data, str(site / TRUST_DIRECTORY / ROOT_FILE))
    with host_errors(site / TRUST_DIRECTORY):
        names = os.listdir(site / TRUST_DIRECTORY)
    versions = [int(match[1]) for name in names if (match := ROOT_NAME.fullmatch(name))]

    def read(version: int) -> bytes:
        return read_trust(site, root_name(version), max_bytes=MAX_ROOT) or b""

    return newest(root, follow(root, versions, read))


def _load(data: bytes, what: str) -> Root:
    try:
        return load_pinned(data, what)
    except InputError as error:
        raise TrustError(
            error.message, remedy="the pinned root is damaged: restore it from a backup"
        ) from error


def _write(site: Path, chain: Sequence[Successor]) -> None:
    trust = site / TRUST_DIRECTORY
    with host_errors(trust):
        trust.mkdir(parents=True, exist_ok=True)
        trust.chmod(_DIRECTORY_MODE)
        for successor in chain:
            write_durably(trust / root_name(successor.root.version), successor.data)
        write_durably(trust / ROOT_FILE, chain[-1].data)
        fsync_directory(site)
        fsync_directory(site.parent)


def _unreadable(path: Path, error: OSError) -> HostError | TrustError:
    if isinstance(error, PermissionError):
        return HostError(f"{path}: {error.strerror}", remedy="run as a user who may read the site")
    return TrustError(
        f"{path}: expected the site's trust memory, found {error.strerror or error}",
        remedy="nothing in it may be a link: find out who changed it before trusting this site",
    )
