"""Whether a file carries code that runs when somebody only means to load data.

What is dangerous in a pickle is judged by picklescan's lists, which follow what attackers come up with.
"""

import importlib
import io
import logging
import re
from dataclasses import dataclass

MAX_PICKLE = 2 * 1024 * 1024
"""Bytes of a pickle that are disassembled: that of a model with ten thousand tensors has 1 MiB."""

MAX_LINE = 300
"""Characters of a line that a report repeats."""

_PTH_RUNS = re.compile(r"import[ \t]")
"""site.py, `addpackage`: such a line is executed, every other one is a path."""

_LIB = r"data/(?:local/)?[Ll]ib(?:64)?/"
SITE = rf"[^/]+\.data/(?:purelib|platlib|{_LIB}(?:python[^/]*/)?(?:site|dist)-packages)/"
"""What of a wheel's `.data` lands where Python looks (PEP 427; `data` is spread over the environment)."""

_MODULE = r"(?:\.[\w-]+)*\.(?:py|pyc|so)"
_OWN = rf"[^/]+\.data/{_LIB}python[^/]*/(?!(?:site|dist)-packages/).+{_MODULE}"
"""What lands among Python's own modules, of which it imports some at every start."""

STARTUP = re.compile(rf"(?:{SITE})?(?:sitecustomize|usercustomize)(?:/__init__)?{_MODULE}|{_OWN}")


def _json_text(*choices: str) -> bytes:
    """A pattern of texts in JSON, which may write any letter by its number."""
    spelled = ("".join(rf"(?:{one}|\\u(?i:{ord(one):04x}))" for one in choice) for choice in choices)
    return f'"(?:{"|".join(spelled)})"'.encode()


KERAS_LAMBDA = re.compile(rb"%b\s*:\s*%b" % (_json_text("class_name"), _json_text("Lambda", "TFOpLambda")))
"""Keras' serialised config of a layer that is a marshalled Python function."""

KERAS_LONGEST = 64 * 1024
"""Bytes of one, spaces among them, that are seen wherever they lie."""

TORCHSCRIPT = re.compile(r"[^/]+/code/.+\.py")
"""Where torch.jit.save puts the code of a module."""


@dataclass(frozen=True, slots=True)
class PickleSeen:
    """What a pickle imports, `module.name` each: `dangerous` by the scanner's list, `unknown` to it.

    `problem` says why that may not be all.
    """

    dangerous: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    problem: str = ""


def read_pickle(data: bytes, *, whole: bool) -> PickleSeen | None:
    """Disassemble, never load. None where picklescan is not installed."""
    try:
        scanner = importlib.import_module("picklescan.scanner")
    except ModuleNotFoundError:
        return None
    logging.getLogger("picklescan").disabled = True  # it tells the root logger's stderr what it finds
    try:
        found = scanner.scan_pickle_bytes(io.BytesIO(data), "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError, RecursionError) as error:
        return PickleSeen(problem=f"it cannot be disassembled: {type(error).__name__}")
    levels = scanner.SafetyLevel
    names = sorted(
        ((f"{one.module}.{one.name}", one.safety) for one in found.globals), key=lambda pair: pair[0]
    )
    return PickleSeen(
        tuple(name for name, level in names if level is levels.Dangerous),
        tuple(name for name, level in names if level is levels.Suspicious),
        "" if whole else f"only its first {len(data)} bytes were disassembled",
    )


def after_numpy_header(data: bytes) -> bytes:
    """The pickle in a `.npy` file of objects: behind magic, version, length and header (NEP 1)."""
    width = 2 if data[6:7] == b"\x01" else 4
    return data[8 + width + int.from_bytes(data[8 : 8 + width], "little") :]


def pth_lines(data: bytes) -> tuple[tuple[int, str, bool], ...]:
    """Lines of a `.pth` file as site.py takes them: number, text, and whether it is executed."""
    lines = data.decode("utf-8-sig", "replace").splitlines()
    return tuple(
        (number, line.rstrip()[:MAX_LINE], bool(_PTH_RUNS.match(line)))
        for number, line in enumerate(lines, 1)
        if line.strip() and not line.startswith("#")
    )
