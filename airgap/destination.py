"""What a bundle is for: the host it can run on and the sites it is meant for.

Manifest, lock, statement and smoke record each say it, with the same two tables.
"""

import re

from airgap.decode import Fields
from airgap.model import NAME_EXPECTED, NAME_PATTERN, Gpu, Platform, Target


def read_audience(fields: Fields) -> tuple[str, ...]:
    """The `audience` of a manifest, lock or statement: names of sites; absent means every site."""
    if not fields.has("audience"):
        return ()
    names = fields.texts("audience")
    if not names or len(set(names)) != len(names):
        fields.problem("audience", "expected distinct names of sites, or no such key for every site")
    for name in names:
        if not re.fullmatch(NAME_PATTERN, name):
            fields.problem("audience", f"expected {NAME_EXPECTED}, found {name[:80]!r}")
    return names


def read_target(fields: Fields) -> Target:
    """A `[target]` table, in a manifest, a lock or a statement."""
    python = fields.text("python", pattern=r"3\.[0-9]{1,2}", expected="a Python version such as 3.12")
    platform = fields.parsed("platform", Platform.parse, Platform("linux", "amd64"))
    glibc = fields.text("glibc", pattern=r"2\.[0-9]{1,2}", expected="a glibc version such as 2.35")
    gpu = fields.optional_table("gpu")
    driver = fields.optional_text("driver", pattern=r"[0-9]+(\.[0-9]+)*", expected="such as 570.86")
    target = Target(python, platform, glibc, _gpu(gpu) if gpu else None, driver or "")
    fields.done()
    return target


def target_table(target: Target) -> dict[str, object]:
    """The inverse of `read_target`, for locks and statements."""
    table: dict[str, object] = {
        "python": target.python,
        "platform": str(target.platform),
        "glibc": target.glibc,
    }
    if target.gpu:
        table["gpu"] = {
            "name": target.gpu.name,
            "compute_capability": target.gpu.compute_capability,
            "memory_gib": target.gpu.memory_gib,
            "count": target.gpu.count,
        }
    if target.driver:
        table["driver"] = target.driver
    return table


def _gpu(fields: Fields) -> Gpu:
    gpu = Gpu(
        fields.text("name"),
        fields.text("compute_capability", pattern=r"[0-9]{1,2}\.[0-9]a?", expected="such as 8.9"),
        fields.integer("memory_gib", minimum=1),
        fields.integer("count", default=1, minimum=1),
    )
    fields.done()
    return gpu
