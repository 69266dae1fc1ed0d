"""Looking at a site as the tests need to: what is current, and whether it is whole."""

import hashlib
from pathlib import Path

from airgap.isolated.site import Site

OWN = ("receipt.json", "site.json", "SHA384SUMS")
"""Files that differ from one run to the next: they hold a time and a generation's number, or their digest."""


def snapshot(site: Path) -> dict[str, bytes] | None:
    """Every file of the current generation, by its path; None before the first install."""
    current = site / "current"
    if not current.is_symlink():
        return None
    files = (path for path in current.rglob("*") if path.is_file())
    return {str(p.relative_to(current)): p.read_bytes() for p in files if p.name not in OWN}


def problems(site: Path) -> list[str]:
    """Everything about a site that is at rest which should not be so."""
    found = [f"{path}: left over" for path in (site / "staging").iterdir()]
    found += [f"{path}: left over" for path in (site / "generations").glob("*.tmp")]
    found += [f"{path}: left over" for path in site.glob("**/.*")]
    for blob in (site / "blobs" / "sha256").iterdir():
        if hashlib.sha256(blob.read_bytes()).hexdigest() != blob.name:
            found.append(f"{blob}: not the bytes it is named for")
    current = Site(site).current()
    if current is not None and not (site / "receipts" / f"{current}.json").exists():
        found.append(f"generation {current} has no receipt")
    numbers = {path.name for path in (site / "generations").iterdir()}
    found += [
        f"generation {n} was never current" for n in numbers if not (site / "receipts" / f"{n}.json").exists()
    ]
    return found
