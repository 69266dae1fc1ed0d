"""What a person sees: results on stdout, progress and errors on stderr."""

import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click

from airgap.model import Finding, Severity
from airgap.progress import Progress, Silent

if TYPE_CHECKING:
    from tqdm import tqdm


def emit(document: object) -> None:
    """The one JSON document of a `--json` run."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def print_error(message: str, remedy: str = "") -> None:
    click.echo(f"airgap: {printable(message)}", err=True)
    if remedy:
        click.echo(f"  -> {printable(remedy)}", err=True)


def print_findings(
    findings: Sequence[Finding], *, err: bool = False, told: set[Finding] | None = None
) -> None:
    """Errors first; each with its code, evidence and what clears it. Not again what was `told`."""
    order = list(Severity)
    told = set() if told is None else told
    new = [finding for finding in findings if finding not in told]
    told.update(new)
    for finding in sorted(new, key=lambda f: order.index(f.severity)):
        click.echo(
            f"{finding.severity.value}: {printable(finding.subject)}: {printable(finding.message)}"
            f"  [{finding.code}]",
            err=err,
        )
        for line in (finding.evidence, f"-> {finding.remedy}" if finding.remedy else ""):
            if line:
                click.echo(f"    {printable(line)}", err=err)


def printable(text: str) -> str:
    """Names come from hostile media: no control sequence may reach a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def progress_for(*, json: bool = False) -> Progress:
    """Progress on a terminal, silence in a pipe or beside a JSON document."""
    quiet = json or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb"
    return Silent() if quiet else Bar()


class Bar:
    """One bar: bytes, rate, remaining time. Work within work counts towards the outer bar.

    tqdm is imported by whoever shows one: it takes as long to load as a small bundle to verify.
    """

    def __init__(self) -> None:
        self._bar: tqdm[NoReturn] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def task(self, label: str, total: int | None) -> Iterator[None]:
        outer = self._bar
        if outer is not None:
            outer.set_postfix_str(printable(label)[:40])
            yield
            return
        from tqdm import tqdm  # noqa: PLC0415 - see the class

        # Fixed, because tqdm shows nothing on a terminal that reports no size, as serial consoles do.
        columns, lines = shutil.get_terminal_size()
        with tqdm(
            total=total,
            desc=printable(label),
            unit="B",
            unit_scale=True,
            file=sys.stderr,
            leave=False,
            ncols=columns,
            nrows=lines,
        ) as bar:
            self._bar = bar
            try:
                yield
            finally:
                self._bar = None

    def advance(self, count: int) -> None:
        with self._lock:
            if self._bar is not None:
                self._bar.update(count)

    def note(self, message: str) -> None:
        from tqdm import tqdm  # noqa: PLC0415 - see the class

        tqdm.write(printable(message), file=sys.stderr)
