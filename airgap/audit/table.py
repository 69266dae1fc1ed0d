"""files.csv: every file inside, one a line, as a spreadsheet and `csv` both read it (RFC 4180)."""

import csv
import io
from collections.abc import Iterable, Iterator

from airgap.audit.evidence import FileFact

COLUMNS = ("artifact", "path", "type", "size", "sha256", "source", "licence")


def render_files(files: Iterable[FileFact]) -> Iterator[bytes]:
    """The table's lines, head first; sizes in bytes."""
    yield _line(COLUMNS)
    for file in files:
        yield _line(
            (file.artifact, file.path, file.type, str(file.size), file.sha256, file.source, file.licence)
        )


def _line(values: Iterable[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out).writerow([_harmless(value) for value in values])
    return out.getvalue().encode("utf-8", "backslashreplace")


def _harmless(value: str) -> str:
    """A text that no spreadsheet takes for a formula: names are hostile (OWASP, "CSV Injection")."""
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
