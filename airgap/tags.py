"""What the target's own pip would answer: its wheel tags, its marker environment, the name of a wheel.

One tag set, derived from the declared target alone, decides what is resolved, which file is chosen and
what is verified on the isolated side. Order and content follow the platform compatibility tags
specification (PEP 425, PEP 600 and its legacy names, PEP 656 left out: the target is glibc).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from airgap.errors import InputError
from airgap.model import Platform, Target

_MACHINES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "386": "i686",
    "arm": "armv7l",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
"""OCI architecture (Go's GOARCH) -> what `uname -m` says, which is what tags and markers hold."""

_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
"""PEP 600: the older names are aliases of these glibc minors."""


def machine(platform: Platform) -> str:
    """The target's `uname -m`. Raises InputError for a platform no Linux wheel can name."""
    if platform.os != "linux" or platform.architecture not in _MACHINES:
        known = ", ".join(f"linux/{name}" for name in _MACHINES)
        raise InputError(f"expected a platform that has manylinux wheels ({known}), found {platform}")
    return _MACHINES[platform.architecture]


def platform_tags(target: Target) -> tuple[str, ...]:
    """Platform tags the target accepts, best first: linux_*, then every manylinux its glibc can run.

    Raises InputError for a platform without such wheels.
    """
    arch = machine(target.platform)
    oldest = 5 if arch in ("x86_64", "i686") else 17
    tags = [f"linux_{arch}"]
    for minor in range(_minor(target.glibc), oldest - 1, -1):
        tags.append(f"manylinux_2_{minor}_{arch}")
        if minor in _LEGACY:
            tags.append(f"{_LEGACY[minor]}_{arch}")
    return tuple(tags)


def supported_tags(target: Target) -> tuple[str, ...]:
    """Every `python-abi-platform` tag CPython on the target accepts, best first, `py3-none-any` near the end.

    Raises InputError for a platform without such wheels.
    """
    minor = _minor(target.python)
    platforms = platform_tags(target)
    here = f"cp3{minor}"
    generic = [f"py3{minor}", "py3", *(f"py3{older}" for older in range(minor - 1, -1, -1))]
    return (
        *(f"{here}-{abi}-{p}" for abi in (here, "abi3", "none") for p in platforms),
        *(f"cp3{older}-abi3-{p}" for older in range(minor - 1, 1, -1) for p in platforms),
        *(f"{python}-none-{p}" for python in generic for p in platforms),
        f"{here}-none-any",
        *(f"{python}-none-any" for python in generic),
    )


def marker_environment(target: Target) -> dict[str, str]:
    """The environment markers of PEP 508 on the target.

    The patch release is taken to be .0: that asks for every backport a marker may want. The kernel's
    release and version are nobody's declared fact, so they are empty, as uv has them.
    """
    full = f"{target.python}.0"
    return {
        "implementation_name": "cpython",
        "implementation_version": full,
        "os_name": "posix",
        "platform_machine": machine(target.platform),
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": full,
        "python_version": target.python,
        "sys_platform": "linux",
    }


@dataclass(frozen=True, slots=True)
class WheelName:
    """The parts of a wheel's file name (PEP 427): `name` as spelled there, `build` '' when absent."""

    name: str
    version: str
    build: str
    tags: tuple[str, ...]
    """The compressed tag set, expanded."""

    @classmethod
    def parse(cls, file: str) -> "WheelName":
        """Raises InputError unless `file` is a wheel's file name."""
        match = _WHEEL.fullmatch(file)
        if not match:
            raise InputError(
                f"expected a wheel's file name such as attrs-25.1-py3-none-any.whl, found {file[:120]!r}"
            )
        return cls(match["name"], match["version"], match["build"] or "", tuple(_expand(match["tags"])))

    def rank(self, supported: tuple[str, ...]) -> int | None:
        """The place of its best tag in `supported`, 0 the best; None when the target accepts none."""
        places = {tag: place for place, tag in enumerate(supported)}
        found = [places[tag] for tag in self.tags if tag in places]
        return min(found) if found else None


_PART = r"[A-Za-z0-9_.+!]+"
_WHEEL = re.compile(
    rf"(?P<name>{_PART})-(?P<version>{_PART})(-(?P<build>[0-9]{_PART[:-1]}*))?"
    r"-(?P<tags>[\w.]+-[\w.]+-[\w.]+)\.whl",
    re.ASCII,
)


def _expand(tags: str) -> Iterator[str]:
    pythons, abis, platforms = tags.split("-")
    for python in pythons.split("."):
        for abi in abis.split("."):
            for platform in platforms.split("."):
                yield f"{python}-{abi}-{platform}".lower()


def normalized_name(name: str) -> str:
    """A project's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _minor(version: str) -> int:
    return int(version.partition(".")[2])
