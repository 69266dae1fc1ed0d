"""The documentation is true: its sessions run, its tables are complete, its links lead somewhere.

Every ```console block is executed, page by page, in bash, in one directory that begins with what a
checkout has. A command must end with 0 unless `$ echo $?` follows it; what it prints must be what the
page shows, where `…` stands for anything, and digests, times and sizes for others of their kind.
"""

import importlib.machinery
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType

import click
import pytest

from airgap.audit import policy
from airgap.audit.findings import RULES
from airgap.audit.vulnerabilities import UNKNOWN, VULNERABLE
from airgap.cli import INTERRUPTED
from airgap.errors import AirgapError
from airgap.manifest import (
    ContainerRequest,
    FileRequest,
    ModelRequest,
    WheelsRequest,
    load_manifest,
    parse_manifest,
)
from airgap.model import Gpu, Target
from tests.services import need

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])

PLACES = {
    "/srv/airgap": "srv/airgap",
    "/srv/plant": "srv/plant",
    "/media/disc1": "media/disc1",
    "/media/disc2": "media/disc2",
    "/media/disc3": "media/disc3",
}
"""Where the pages say a site and a medium are -> where they are in the test's directory."""

FINGERPRINT = re.compile(r"(?:[0-9a-f]{4} ){11}[0-9a-f]{4}")


# ------------------------------------------------------------------ sessions


@dataclass(frozen=True)
class Step:
    """A command of a page, and the lines that the page shows after it."""

    where: str
    command: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class Ran:
    """What a command printed, stderr included, and how it ended."""

    output: str
    code: int


def blocks(page: Path, language: str) -> Iterator[tuple[int, list[str]]]:
    """Fenced blocks of a language: the number of their first line, and their lines."""
    begin: int | None = None
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        if begin is None and line == f"```{language}":
            begin = number + 1
        elif begin is not None and line == "```":
            yield begin, lines[begin - 1 : number - 1]
            begin = None
    assert begin is None, f"{page.name}: a block is not closed"


def session(page: Path) -> list[Step]:
    """Every command of a page's console blocks, in order. A trailing backslash continues a command."""
    steps: list[Step] = []
    for begin, lines in blocks(page, "console"):
        for number, line in enumerate(lines, start=begin):
            if line.startswith("$ "):
                steps.append(Step(f"{page.name}:{number}", line[2:], ()))
            elif steps[-1].command.endswith("\\") and not steps[-1].shown:
                steps[-1] = Step(steps[-1].where, f"{steps[-1].command}\n{line}", ())
            else:
                steps[-1] = Step(steps[-1].where, steps[-1].command, (*steps[-1].shown, line))
    return steps


def run(steps: list[Step], directory: Path) -> list[Ran]:
    """Run commands one after the other in one bash, as a person would type them."""
    mark = "===8<=== "
    script = ['said() { return "$1"; }', "code=0"]
    for step in steps:
        typed = directory / "typed"
        typed.mkdir(exist_ok=True)
        file = typed / str(len(script))
        file.write_text(step.command + "\n")
        script += [f"typed=$(cat {file})", 'said $code; eval "$typed"', f'code=$?; echo "{mark}$code"']
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "AIRGAP_"))
    }
    environment |= {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "AIRGAP_CACHE": str(directory / "cache"),
        "LC_ALL": "C.UTF-8",
    }
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=directory,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=300,
    )
    parts = re.split(rf"^{mark}([0-9]+)\n", done.stdout, flags=re.MULTILINE)
    return [Ran(output, int(code)) for output, code in zip(parts[0::2], parts[1::2], strict=False)]


def alike(text: str) -> str:
    """A line without what differs from run to run."""
    text = FINGERPRINT.sub("FINGERPRINT", text)
    text = re.sub(r"[0-9a-f]{64,96}", "DIGEST", text)
    text = re.sub(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}Z", "TIME", text)
    text = re.sub(r"[0-9.]+ (B|kB|MB|GB|TB)\b", "SIZE", text)
    text = re.sub(r"[0-9]+ of [0-9]+ inodes", "INODES", text)
    return re.sub(r"\s+", " ", text).strip()


def shown_as(step: Step, output: str) -> bool:
    pattern = ""
    for line in step.shown:
        if line.strip() == "…":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(alike(part)) for part in line.split("…")) + "\n"
    lines = "".join(f"{alike(line)}\n" for line in output.splitlines())
    return re.fullmatch(pattern.replace(r"\ .*", r"\ ?.*"), lines) is not None


def check(page: Path, directory: Path) -> None:
    """Run a page's session, moved into `directory`; fail at the first command that is not as shown."""
    told = (directory / "fingerprint").read_text() if (directory / "fingerprint").exists() else ""
    steps = session(page)
    assert steps, f"{page.name} has no session"
    moved = []
    for step in steps:
        command = FINGERPRINT.sub(told, step.command)
        for place, here in PLACES.items():
            command = command.replace(place, str(directory / here))
        moved.append(Step(step.where, command, step.shown))
    results = run(moved, directory)
    following = [*(step.command for step in steps[1:]), ""]
    for step, after, ran in zip(steps, following, results, strict=False):
        output = ran.output
        for place, here in PLACES.items():
            output = output.replace(str(directory / here), place)
        context = f"{step.where}: $ {step.command}\n{output}"
        if ran.code != 0 and after != "echo $?":
            pytest.fail(f"exit code {ran.code} of {context}", pytrace=False)
        if not shown_as(step, output):
            shown = "\n".join(step.shown)
            pytest.fail(f"{context}\nthe page shows\n{shown}", pytrace=False)
    assert len(results) == len(steps), f"the session of {page.name} ended at its command {len(results)}"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the README's session has run, and what the other pages begin with."""
    need("bash")
    directory = tmp_path_factory.mktemp("docs")
    for path in ("scripts/make-quickstart", "manifests/quickstart.toml"):
        (directory / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, directory / path)
    manifest = directory / "manifests" / "quickstart.toml"
    here = "{}.{}".format(*sys.version_info[:2])  # the isolated side of the pages is this machine
    manifest.write_text(re.sub(r'(?m)^python = ".*"$', f'python = "{here}"', manifest.read_text()))
    check(ROOT / "README.md", directory)
    shutil.copytree(directory / "out" / "quickstart-1", directory / PLACES["/media/disc1"])
    shutil.copy(directory / "trust" / "1.root.json", directory)
    (directory / "srv").mkdir()
    plant = directory / PLACES["/srv/plant"] / "trust"
    plant.mkdir(parents=True)
    shutil.copy(directory / "1.root.json", plant / "root.json")
    bundle, volumes = directory / "out" / "quickstart-1", directory / "volumes"
    [done] = run([Step("", f"airgap split {bundle} --size 700kB -o {volumes}", ())], directory)
    assert done.code == 0, done.output
    for place, number in (("/media/disc3", 1), ("/media/disc2", 2)):
        shutil.copytree(volumes / f"quickstart-1.{number}of2", directory / PLACES[place])
    [told] = run([Step("", "airgap trust fingerprint 1.root.json", ())], directory)
    (directory / "fingerprint").write_text(told.output.strip())
    return directory


@pytest.mark.parametrize("name", ["operate", "audit", "stage"])
def test_the_page_shows_what_happens(name: str, checkout: Path) -> None:
    need("skopeo", "openssl")
    check(DOCS / f"{name}.md", checkout)


def test_no_session_is_left_out() -> None:
    with_session = {page.stem for page in PAGES if list(blocks(page, "console"))}
    assert with_session == {"README", "operate", "audit", "stage"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_not_run_are_at_least_shell(page: Path) -> None:
    for begin, lines in blocks(page, "sh"):
        read = subprocess.run(
            ["bash", "-n"], input="\n".join(lines), text=True, capture_output=True, check=False
        )
        assert read.returncode == 0, f"{page.name}:{begin}: {read.stderr}"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (("one",), "two\n"),
        (("one",), "one\ntwo\n"),
        (("one", "two"), "one\n"),
        (("0 findings",), "3 findings\n"),
        (("a … c",), "a b\n"),
        ((), "unexpected\n"),
    ],
)
def test_output_that_differs_is_seen(shown: tuple[str, ...], printed: str) -> None:
    assert not shown_as(Step("", "", shown), printed)


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        (("one", "…"), "one\ntwo\nthree\n"),
        (("…/site is 1.2 MB",), "/tmp/x/site is 13 kB\n"),
        (("until 2026-11-23T16:22:28Z",), "until 2027-01-01T00:00:00Z\n"),
    ],
)
def test_output_of_the_same_kind_passes(shown: tuple[str, ...], printed: str) -> None:
    assert shown_as(Step("", "", shown), printed)


# ------------------------------------------------------------------ the manifest's page


WHOLE = {
    "[bundle]": '[bundle]\nname = "example"\nversion = "1"\n',
    "[target]": '[target]\npython = "3.12"\nplatform = "linux/amd64"\nglibc = "2.35"\n',
    "[[": '[[files]]\nname = "any"\npath = "any"\n',
}


def toml_blocks() -> list[tuple[str, str]]:
    found = [(page, begin, lines) for page in PAGES for begin, lines in blocks(page, "toml")]
    return [(f"{page.name}:{begin}", "\n".join(lines) + "\n") for page, begin, lines in found]


@pytest.mark.parametrize(("where", "text"), toml_blocks(), ids=[where for where, _ in toml_blocks()])
def test_examples_are_manifests(where: str, text: str) -> None:
    """An example need not repeat the tables it is not about."""
    if where.startswith("policy.md:"):
        assert policy.parse_policy(text.encode(), where).rules
        return
    missing = [table for begin, table in WHOLE.items() if not re.search(f"^{re.escape(begin)}", text, re.M)]
    parse_manifest("\n".join([text, *missing]).encode(), where, Path("."))


@pytest.mark.parametrize("path", sorted((ROOT / "manifests").glob("*.toml")), ids=lambda path: path.name)
def test_manifests_that_ship_are_valid(path: Path) -> None:
    assert load_manifest(path).requests


@pytest.mark.parametrize(
    ("heading", "value"),
    [
        ("## `[target]`", Target),
        ("The `gpu` table:", Gpu),
        ("## `[[wheels]]`", WheelsRequest),
        ("## `[[models]]`", ModelRequest),
        ("## `[[containers]]`", ContainerRequest),
        ("## `[[files]]`", FileRequest),
    ],
)
def test_every_key_is_described(heading: str, value: type) -> None:
    text = (DOCS / "manifest.md").read_text()
    _, found, rest = text.partition(f"{heading}\n")
    assert found
    table = re.search(r"(?:^\|.*\n)+", rest, re.M)
    assert table
    described = re.findall(r"^\| `([^`]+)` \|", table.group(), re.M)
    separator = "_" if value is Gpu else "-"
    assert sorted(described) == sorted(field.name.replace("_", separator) for field in fields(value))


def test_every_rule_of_a_policy_is_described() -> None:
    text = (DOCS / "policy.md").read_text()
    assert [rule for rule in (*policy.RULES, *policy.CHECKS) if f"`{rule}`" not in text] == []


# ------------------------------------------------------------------ the commands' page


def reference() -> ModuleType:
    path = ROOT / "scripts" / "make-reference"
    spec = importlib.util.spec_from_loader(
        "make_reference", importlib.machinery.SourceFileLoader("make_reference", str(path))
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EVERY = list(reference().every_command())
LEAVES = [pytest.param(c, id=x.command_path) for x, c in EVERY if not isinstance(c, click.Group)]


def test_the_reference_is_up_to_date() -> None:
    found = (DOCS / "commands.md").read_text(encoding="utf-8")
    assert found == reference().page(), "run scripts/make-reference"


@pytest.mark.parametrize("command", LEAVES)
def test_every_command_helps(command: click.Command) -> None:
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{option.opts} has no help"
    epilog = command.epilog or ""
    assert re.search(r"^Examples?$", epilog, re.M)
    assert re.search(r"^  airgap \S", epilog, re.M)
    assert "Exit codes: 0 " in epilog
    assert any(option.name == "as_json" for option in command.params), "every verb has --json"


def test_every_verb_is_named_in_the_readme_and_no_other() -> None:
    table = re.search(r"\| who \| verbs \|(.*?)\n\n", (ROOT / "README.md").read_text(), re.S)
    assert table
    verbs = [context.info_name for context, _ in EVERY if context.parent and not context.parent.parent]
    assert sorted(re.findall(r"`([a-z]+)`", table.group(1))) == sorted(filter(None, verbs))


# ------------------------------------------------------------------ findings, codes and links


def test_every_exit_code_is_explained() -> None:
    _, _, section = (DOCS / "operate.md").read_text().partition("\n## Exit codes\n")
    explained = {int(code) for code in re.findall(r"^\| ([0-9]+) \|", section, re.M)}
    used = {cls.exit_code for cls in AirgapError.__subclasses__()}
    assert explained == used | {0, AirgapError.exit_code, click.UsageError.exit_code, INTERRUPTED}


def test_every_finding_is_explained() -> None:
    code = "".join(path.read_text() for path in (ROOT / "airgap").rglob("*.py"))
    emitted = set(
        re.findall(
            r'"((?:integrity|volume|layout|sequence|wheels|model|container|file)-[a-z]+(?:-[a-z]+)*)"', code
        )
    )
    explained = "".join((DOCS / f"{name}.md").read_text() for name in ("operate", "stage", "check"))
    assert emitted
    media_types = {"wheel-from-sdist", "image-manifest"}
    assert {one for one in emitted - media_types if f"`{one}`" not in explained} == set()


def test_every_finding_of_an_audit_is_explained_with_its_severity() -> None:
    """And none that no audit makes."""
    _, _, section = (DOCS / "audit.md").read_text().partition("\n### Findings\n")
    rows = re.findall(r"^\| `(audit-[a-z-]+)` \| (error|warning|info) \|", section, re.M)
    made = [(rule.code, rule.severity.value) for rule in RULES]
    assert sorted(rows) == sorted([*made, (VULNERABLE, "warning"), (UNKNOWN, "warning")])


def slug(heading: str) -> str:
    """The anchor GitHub gives a heading."""
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading.strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        found = (page.parent / path).resolve() if path else page
        assert found.exists(), target
        if anchor:
            assert anchor in {slug(h) for h in re.findall(r"^#+ (.*)$", found.read_text(), re.M)}, target


def test_the_index_of_decisions_names_each_as_it_names_itself() -> None:
    rows = re.findall(
        r"^\| \[([0-9]{4})\]\((.*?)\) \| (.*?) \|$", (DOCS / "adr" / "README.md").read_text(), re.M
    )
    listed = [f"# {int(number)}. {title}" for number, _, title in rows]
    written = [path for path in sorted((DOCS / "adr").glob("*.md")) if path.name != "README.md"]
    assert [name for _, name, _ in rows] == [path.name for path in written]
    assert listed == [path.read_text().splitlines()[0] for path in written]
