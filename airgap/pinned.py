"""The root a site trusts: `<site>/trust/root.json`, written once by `airgap trust pin`, read by every verb.

The site's directory is trusted to hold what was put there, not to hold it as a link to elsewhere:
nothing below the site is followed.
"""

import os
import stat
from pathlib import Path

from airgap.decode import read_capped
from airgap.errors import HostError, InputError, TrustError
from airgap.store import fsync_directory, host_errors, write_durably
from airgap.trust.root import MAX_ROOT, Root, load_pinned, verify_first

TRUST_DIRECTORY = "trust"
ROOT_FILE = "root.json"

_DIRECTORY_MODE = 0o755


def trusted_root(site: Path | None, root: Path | None, fingerprint: str | None) -> Root:
    """The root to judge by: the one pinned in `site`, or the file `root` where its fingerprint is known.

    With both, the site's decides and the file must be the same root. Raises TrustError when there is
    none, when it lacks its own signatures, or when it is not the one the fingerprint or the site names;
    InputError when the file `root` cannot be read.
    """
    pinned = _read_pinned(site) if site else None
    given = _read_given(root, fingerprint) if root or fingerprint else None
    if pinned and given and pinned != given:
        raise TrustError(
            f"{root}: expected the root that {site} pins (version {pinned.version}),"
            f" found another (version {given.version})",
            remedy="leave --root out to judge by the site's own",
        )
    found = pinned or given
    if found is None:
        where = f"{site} pins no root" if site else "no root was given"
        raise TrustError(
            f"{where}: without one nothing can be believed",
            remedy="airgap trust pin ROOT --site DIR --fingerprint …, or give --root FILE --fingerprint …",
        )
    return found


def pin(site: Path, data: bytes, fingerprint: str, what: str) -> Root:
    """Make `data` the root of a site, durably. Pinning the same root again changes nothing.

    Raises TrustError for another fingerprint, missing signatures, or a site that pins another root;
    InputError when `data` is no root; HostError when the site cannot be written.
    """
    root = verify_first(data, fingerprint, what)
    pinned = _read_pinned(site)
    if pinned == root:
        return root
    if pinned:
        raise TrustError(
            f"{site} already pins version {pinned.version} of another root",
            remedy="a new root must be signed by the holders of the old one; a new site may pin any",
        )
    trust = site / TRUST_DIRECTORY
    with host_errors(trust):
        trust.mkdir(parents=True, exist_ok=True)
        trust.chmod(_DIRECTORY_MODE)
        write_durably(trust / ROOT_FILE, data)
        fsync_directory(site)
        fsync_directory(site.parent)
    return root


def _read_given(root: Path | None, fingerprint: str | None) -> Root:
    if root is None or fingerprint is None:
        raise TrustError(
            "a root file and its fingerprint belong together, found only one of them",
            remedy="give --root FILE and --fingerprint '…', the latter as the holders read it to you",
        )
    return verify_first(read_capped(root, max_bytes=MAX_ROOT), fingerprint, str(root))


def _read_pinned(site: Path) -> Root | None:
    """None when nothing was ever pinned. Raises TrustError when the pinned root is not a plain file."""
    path = site / TRUST_DIRECTORY / ROOT_FILE
    try:
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path.parent, error) from error
    try:
        descriptor = os.open(ROOT_FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    finally:
        os.close(directory)
    with open(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise TrustError(f"{path}: expected the pinned root, found something that is no regular file")
        data = stream.read(MAX_ROOT + 1)
    try:
        return load_pinned(data, str(path))
    except InputError as error:
        raise TrustError(
            error.message, remedy="the pinned root is damaged: restore it from a backup"
        ) from error


def _unreadable(path: Path, error: OSError) -> HostError | TrustError:
    if isinstance(error, PermissionError):
        return HostError(f"{path}: {error.strerror}", remedy="run as a user who may read the site")
    return TrustError(
        f"{path}: expected the site's trust memory, found {error.strerror or error}",
        remedy="nothing in it may be a link: find out who changed it before trusting this site",
    )
