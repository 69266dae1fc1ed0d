"""`airgap probe`: the facts of this host, as the `[target]` table of a manifest.

What a host says of itself is asked of programs that may be missing, broken or slow, and of files that
need not exist; a fact that cannot be had is left out and said so. Nothing here needs a package.
"""

import os
import platform
import re
import select
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from airgap.model import Card, Platform

ANSWER_SECONDS = 10.0
MAX_ANSWER = 256 * 1024
"""Bytes of a program's answer that are read."""

ENGINES = ("docker", "podman", "nerdctl", "ctr", "skopeo")
MAX_PYTHONS = 32

_ARCHITECTURES = {
    "x86_64": "amd64",
    "amd64": "amd64",
    "aarch64": "arm64",
    "arm64": "arm64",
    "armv7l": "arm/v7",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
}
"""What uname says -> OCI notation (Go's GOARCH)."""

_GPU_FIELDS = ("name", "compute_cap", "memory.total", "driver_version")


@dataclass(frozen=True, slots=True)
class Python:
    """An interpreter on the PATH; `version` is `major.minor.micro`."""

    path: str
    version: str

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])


@dataclass(frozen=True, slots=True)
class Space:
    """Free and total bytes of the file system that holds `path`, and its free inodes, if it counts them."""

    path: str
    free: int
    total: int
    inodes: int | None


@dataclass(frozen=True, slots=True)
class Facts:
    """What a host says of itself. `libc` is `glibc 2.36`, `musl 1.2.4` or ''."""

    pythons: tuple[Python, ...]
    libc: str
    platform: Platform
    kernel: str
    cpu: str
    cpus: int
    cards: tuple[Card, ...]
    engines: tuple[tuple[str, str], ...]
    """Name and version; '' where it does not say."""
    space: tuple[Space, ...]

    @property
    def glibc(self) -> str:
        """`major.minor`; '' on a host without glibc."""
        match = re.fullmatch(r"glibc ([0-9]+\.[0-9]+)(\.[0-9]+)*", self.libc)
        return match[1] if match else ""


def probe(site: Path | None = None) -> Facts:
    """Ask this host. Never fails: what cannot be had is empty."""
    places = [Path("/"), *([site] if site else [])]
    return Facts(
        pythons=find_pythons(os.environ.get("PATH", "")),
        libc=_libc(),
        platform=_platform(),
        kernel=f"{platform.system()} {platform.release()}",
        cpu=_cpu(),
        cpus=os.cpu_count() or 0,
        cards=_cards(),
        engines=tuple((name, _version(ask([name, "--version"]))) for name in ENGINES if shutil.which(name)),
        space=tuple(space for space in map(_space, places) if space),
    )


def ask(command: Sequence[str], *, failing: bool = False) -> str:
    """What a program prints on stdout or stderr; '' when it cannot be run or does not end well in time.

    `failing` takes the word of one that ends with an error, too.

    Read with a deadline and a cap, so that neither a program that hangs nor one that never stops
    talking, nor a child of it that keeps the pipe open, can hold this up.
    """
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    except (OSError, ValueError):
        return ""
    assert process.stdout is not None
    end = time.monotonic() + ANSWER_SECONDS
    said = bytearray()
    with process.stdout as pipe:
        while len(said) < MAX_ANSWER and select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
            chunk = os.read(pipe.fileno(), MAX_ANSWER - len(said))
            if not chunk:
                break
            said += chunk
    try:
        code = process.wait(max(0.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.kill()
        code = process.wait()
    return said.decode("utf-8", "replace") if code == 0 or failing else ""


# ------------------------------------------------------------------ Python and libc


def find_pythons(path: str) -> tuple[Python, ...]:
    """Every Python 3 on `path`: what `python3` is first, then `python3.N`, newest first."""
    found: dict[str, Python] = {}
    for candidate in _candidates(path)[:MAX_PYTHONS]:
        real = os.path.realpath(candidate)
        if real in found:
            continue
        if version := python_version(candidate):
            found[real] = Python(candidate, version)
    first, *others = found.values() if found else (None,)
    if first is None:
        return ()
    newest_first = sorted(others, key=lambda python: [-int(part) for part in python.version.split(".")])
    return (first, *newest_first)


def python_version(path: str) -> str:
    """`major.minor.micro` of an interpreter; '' for what is no Python 3."""
    said = ask([path, "-IS", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])"])
    match = re.fullmatch(r"(3\.[0-9]{1,2}\.[0-9]{1,3})\s*", said)
    return match[1] if match else ""


def _candidates(path: str) -> list[str]:
    """`python3` as the shell finds it, then each `python3.N`; relative entries are nobody's installation."""
    directories = [entry for entry in dict.fromkeys(path.split(os.pathsep)) if os.path.isabs(entry)]
    plain = [os.path.join(d, "python3") for d in directories if os.path.isfile(os.path.join(d, "python3"))][
        :1
    ]
    numbered = [
        os.path.join(directory, name)
        for directory in directories
        for name in _names(directory)
        if re.fullmatch(r"python3\.[0-9]{1,2}", name)
    ]
    return [candidate for candidate in (*plain, *numbered) if os.access(candidate, os.X_OK)]


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def _libc() -> str:
    try:
        said = os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        said = ""
    if re.fullmatch(r"glibc [0-9]+(\.[0-9]+)+", said):
        return said
    # musl's ldd says what it is, and fails.
    return parse_ldd(ask(["ldd", "--version"], failing=True))


def parse_ldd(said: str) -> str:
    """`glibc 2.36` or `musl 1.2.4` from what `ldd --version` prints; '' for anything else."""
    first = said.partition("\n")[0]
    if "musl" in said.lower():
        match = re.search(r"Version ([0-9]+(?:\.[0-9]+)+)", said)
        return f"musl {match[1]}" if match else "musl"
    match = re.search(r"([0-9]+\.[0-9]+)\s*$", first)
    return f"glibc {match[1]}" if match and re.search(r"(?i)glibc|gnu libc", first) else ""


# ------------------------------------------------------------------ machine


def _platform() -> Platform:
    name = _ARCHITECTURES.get(platform.machine().lower(), platform.machine().lower())
    parts = [part for part in re.sub(r"[^a-z0-9._/-]", "", name).split("/") if part] or ["unknown"]
    return Platform(platform.system().lower() or "unknown", *parts[:2])


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    match = re.search(r"^(?:model name|Model|cpu)\s*:\s*(\S.*)$", text, re.M)
    return _plain(match[1]) if match else ""


def _space(path: Path) -> Space | None:
    """Of a directory that is yet to be made, the nearest parent that is there."""
    there = next((parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists()), path)
    try:
        found = os.statvfs(there)
    except OSError:
        return None
    # btrfs counts no inodes.
    inodes = found.f_favail if found.f_files else None
    return Space(str(path), found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize, inodes)


def _cards() -> tuple[Card, ...]:
    """Drivers before 510 do not know `compute_cap`, and answer nothing at all when asked for it."""
    for fields in (_GPU_FIELDS, tuple(name for name in _GPU_FIELDS if name != "compute_cap")):
        said = ask(["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"])
        if cards := tuple(parse_cards(said, fields)):
            return cards
    return ()


def parse_cards(said: str, fields: Sequence[str] = _GPU_FIELDS) -> Iterator[Card]:
    """The lines of nvidia-smi's CSV that are cards; `[N/A]` and whatever is odd is empty."""
    for line in said.splitlines():
        values = [_plain(value) for value in line.split(",")]
        if len(values) != len(fields):
            continue
        row = dict(zip(fields, values, strict=True))
        memory = row["memory.total"]
        yield Card(
            row["name"],
            _matching(row.get("compute_cap", ""), r"[0-9]{1,2}\.[0-9]a?"),
            int(memory) if re.fullmatch(r"[0-9]{1,9}", memory) else 0,
            _matching(row["driver_version"], r"[0-9]+(\.[0-9]+)*"),
        )


def _version(said: str) -> str:
    match = re.search(r"[0-9]+\.[0-9]+(?:\.[0-9]+)*", said)
    return match[0][:40] if match else ""


def _matching(value: str, pattern: str) -> str:
    return value if re.fullmatch(pattern, value) else ""


def _plain(value: str) -> str:
    """One line of printable characters, fit for a comment."""
    return "".join(character if character.isprintable() else "?" for character in value.strip())[:200]


# ------------------------------------------------------------------ as a manifest's table


def most_cards(cards: Sequence[Card]) -> tuple[Card, int] | None:
    """The kind of card there is most of, and how many; a `[target]` holds one kind."""
    if not cards:
        return None
    [(card, count)] = Counter(cards).most_common(1)
    return card, count


def render_target(facts: Facts) -> str:
    """The `[target]` table as TOML, with what does not fit into it as comments.

    A value that is not known, or is not a manifest's, is a comment that begins with its key: the
    manifest's reader then says what is missing.
    """
    lines = ["[target]", *_python_lines(facts), f'platform = "{facts.platform}"', *_libc_lines(facts)]
    lines += [*_gpu_lines(facts), *_host_lines(facts)]
    return "\n".join(lines) + "\n"


def _python_lines(facts: Facts) -> Iterator[str]:
    if not facts.pythons:
        yield "# python: no python3 is on the PATH"
        return
    chosen, *others = facts.pythons
    yield f'python = "{chosen.minor}"  # {_plain(chosen.path)}, {chosen.version}'
    if others:
        there = ", ".join(f"{_plain(python.path)} ({python.version})" for python in others)
        yield f"# also here: {there}"


def _libc_lines(facts: Facts) -> Iterator[str]:
    if facts.glibc:
        yield f'glibc = "{facts.glibc}"'
    elif facts.libc.startswith("musl"):
        yield f"# glibc: this host has {facts.libc}; manylinux wheels do not run on it"
    else:
        yield "# glibc: not found; this host's C library is unknown"


def _gpu_lines(facts: Facts) -> Iterator[str]:
    most = most_cards(facts.cards)
    if most is None:
        yield "# gpu: nvidia-smi names none"
        return
    card, count = most
    gib = card.memory_mib // 1024
    if card.name and card.compute_capability and gib:
        yield (
            f"gpu = {{ name = {_toml(card.name)}, compute_capability = {_toml(card.compute_capability)},"
            f" memory_gib = {gib}, count = {count} }}  # {card.memory_mib} MiB each"
        )
    else:
        known = f"compute capability {card.compute_capability or '?'}, {card.memory_mib or '?'} MiB"
        yield f"# gpu: {count} x {card.name or 'a card without a name'}, {known}; nvidia-smi says no more"
    if card.driver:
        yield f"driver = {_toml(card.driver)}"
    for other, number in Counter(facts.cards).items():
        if other != card:
            known = f"{other.compute_capability or '?'}, {other.memory_mib or '?'} MiB"
            yield f"# also here: {number} x {other.name}, compute capability {known}"


def _host_lines(facts: Facts) -> Iterator[str]:
    yield f"# kernel: {_plain(facts.kernel)}"
    yield f"# cpu: {facts.cpus} x {facts.cpu or 'unknown'}"
    engines = ", ".join(f"{name} {version}".strip() for name, version in facts.engines)
    yield f"# engines: {engines or 'none'}"
    for space in facts.space:
        inodes = "" if space.inodes is None else f", {space.inodes} inodes"
        yield f"# free at {_plain(space.path)}: {space.free / 1e9:.1f} of {space.total / 1e9:.1f} GB{inodes}"


def _toml(value: str) -> str:
    """A basic string (TOML 1.0); `value` is printable."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
