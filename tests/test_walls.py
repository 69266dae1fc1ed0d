"""The arrows of the house (design, section 8), asserted over what each module imports.

Imports are read from the syntax tree, function bodies included: a late import is an import.
"""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "airgap"

ISOLATED_PACKAGES = {"click", "cryptography", "tqdm"}
"""What the isolated side may need beyond the standard library."""

NETWORK = {
    "socket", "ssl", "socketserver", "http", "urllib.request", "urllib.error", "urllib3", "requests", "httpx",
    "aiohttp", "ftplib", "smtplib", "imaplib", "poplib", "telnetlib", "xmlrpc", "asyncio", "huggingface_hub",
}  # fmt: skip

HTTP_OF_PUSH = "airgap.isolated.push_http"
"""The one module of the isolated side that has a network; push alone may import it."""

TOKENS = "airgap.pkcs11"
"""Of whoever signs: the package is looked for once a key file names a token, and need not be there."""

BILLS = {
    "airgap.audit.sbom_cyclonedx": {"cyclonedx", "packageurl"},
    "airgap.audit.sbom_spdx": {"license_expression", "spdx_tools"},
}
"""What writes bills of materials, by their own projects' libraries; imported when `audit -o` asks."""

LEVELS = [
    {"model", "errors", "progress", "units", "__init__"},
    {"decode", "store", "workers", "oci", "tags", "base32", "patch"},
    {"destination"},
    {
        "lock",
        "manifest",
        "pylock",
        "modelpack",
        "provenance",
        "image_signatures",
        "media",
        "image_tar",
        "registry_credentials",
        "registry_protocol",
    },
    {"trust", "layout", "readers", "volumes", "wanted"},
    {
        *(
            "verify",
            "verify_entries",
            "verify_volumes",
            "volume_reading",
            "pinned",
            "records",
            "pkcs11",
            "keyfiles",
            "probe",
        ),
        *("inventory", "receipt"),
    },
    {"isolated", "connected", "readiness", "audit"},
    {"cli", "__main__", "bootstrap"},
]
"""Rooms from the ground up. A room imports its own level and those below."""


def modules() -> list[str]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]


@cache
def syntax(module: str) -> ast.Module:
    return ast.parse((ROOT / Path(*module.split("."))).with_suffix(".py").read_bytes())


@cache
def imports(module: str) -> frozenset[str]:
    """Absolute names of the modules that `module` imports; `from a import b` yields a and a.b."""
    found: set[str] = set()
    for node in ast.walk(syntax(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative imports hide an arrow"
            assert node.module
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def room(module: str) -> str:
    """The room a module of airgap is in: `airgap.trust.keys` is in trust."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def isolated_side() -> list[str]:
    """Everything the isolated side runs: its own rooms and all that they import."""
    known = set(modules())
    starts = {m for m in known if room(m) in ("isolated", "trust", "verify", "media", "pinned")}
    starts |= {"airgap.audit.run", "airgap.audit.site", "airgap.audit.table"}
    starts |= {
        f"airgap.cli.{verb}"
        for verb in (
            "__init__",
            "verify",
            "receive",
            "volumes",
            "install",
            "status",
            "rollback",
            "uninstall",
            "gc",
            "inventory",
            "receipt",
            "export",
            "load",
            "push",
            "diff",
            "probe",
            "smoke",
            "attest",
            "audit",
        )
    }
    pending, found = list(starts), set(starts)
    while pending:
        for name in imports(pending.pop()):
            for candidate in (name, f"{name}.__init__"):
                if candidate in known - found:
                    found.add(candidate)
                    pending.append(candidate)
    return sorted(found)


def uses(module: str, names: set[str]) -> set[str]:
    """Which of `names` (a module, or anything in it) the module imports."""
    return {name for name in names for used in imports(module) if used == name or used.startswith(f"{name}.")}


def test_the_walls_see_the_house() -> None:
    assert {"airgap.isolated.install", "airgap.trust.decide", "airgap.layout", "airgap.lock"} <= set(
        isolated_side()
    )
    assert "airgap.isolated.install" in set(imports("airgap.cli.install"))


@pytest.mark.parametrize("module", isolated_side())
def test_the_isolated_side_needs_three_packages_and_holds_no_network(module: str) -> None:
    allowed = ISOLATED_PACKAGES | {"airgap"} | set(sys.stdlib_module_names) | BILLS.get(module, set())
    allowed |= {"pkcs11"} if module == TOKENS else set()
    assert {name.partition(".")[0] for name in imports(module)} <= allowed
    assert not uses(module, NETWORK) or module == HTTP_OF_PUSH
    assert not uses(module, {"airgap.connected"})


@pytest.mark.parametrize("module", [m for m in modules() if room(m) == "connected"])
def test_connected_never_imports_isolated(module: str) -> None:
    assert not uses(module, {"airgap.isolated"})


def is_push(module: str) -> bool:
    return module == "airgap.cli.push" or module.startswith("airgap.isolated.push")


@pytest.mark.parametrize("module", [m for m in modules() if not is_push(m)])
def test_nothing_but_push_imports_push(module: str) -> None:
    """So that an installer can leave it out, and with it the only HTTP client."""
    assert not {name for name in imports(module) if is_push(name)}


@pytest.mark.parametrize("module", [m for m in modules() if room(m) != "connected" and m != HTTP_OF_PUSH])
def test_http_is_spoken_only_on_the_connected_side(module: str) -> None:
    assert not uses(module, NETWORK)


@pytest.mark.parametrize("module", modules())
def test_arrows_point_down(module: str) -> None:
    level = {name: number for number, names in enumerate(LEVELS) for name in names}
    assert room(module) in level, f"{module}: give its room a level in LEVELS"
    for name in imports(module):
        if name.startswith("airgap.") and room(name) in level:
            assert level[room(name)] <= level[room(module)], f"{module} imports {name}"


@pytest.mark.parametrize("module", [m for m in modules() if room(m) == "trust"])
def test_trust_does_no_io(module: str) -> None:
    assert not uses(module, {"pathlib", "shutil", "tempfile", "io", "subprocess", "airgap.store"})
    nodes = list(ast.walk(syntax(module)))
    assert "open" not in {node.id for node in nodes if isinstance(node, ast.Name)}
    # Randomness is the one thing it asks of the operating system.
    of_os = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    assert of_os <= {"urandom"}
    assert not {name for name in imports(module) if name.startswith("os.")}


def test_the_isolated_verbs_start_without_the_connected_packages() -> None:
    """Proven by running, for whatever the syntax tree does not show."""
    code = (
        "import sys, airgap.cli.verify, airgap.cli.install, airgap.cli.export, airgap.cli.receipt;"
        "assert not {'requests', 'urllib3', 'huggingface_hub', 'pip', 'pkcs11', 'airgap.connected'}"
        " & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
