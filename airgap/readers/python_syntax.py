"""Python source as a syntax tree: what a statement runs, binds and changes. Nothing is imported or run."""

import ast
import re
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

MAX_SOURCE = 1024 * 1024
"""Bytes of one module; the longest of vLLM and transformers has 320 KB."""

MAX_TOKENS = 70_000
"""Words and signs, half as many again as that module has: a tree takes up to 2 KB for each."""

MAX_CALLS = 50_000_000
"""Functions times calls between them; modules of the size above are near one million."""

_PARSING = threading.Lock()
"""CPython up to 3.12 counts the depth of all threads' trees in one place, and raises SystemError."""

_TOKEN = re.compile(rb"\w+|[^\s\w]")
_READING = {"items", "keys", "values", "get", "copy", "index", "count"}
"""Methods of containers that leave them as they are."""


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """What could not be decided, and where; `line` is 0 where a file or a name was looked for in vain."""

    member: str
    line: int
    reason: str

    def get(self, key: str) -> "NotUnderstood":
        """No key can be decided in a table that was not understood."""
        return self

    def __str__(self) -> str:
        return f"{self.member}{f':{self.line}' if self.line else ''}: {self.reason}"


class Exhausted(Exception):
    """A module made to cost more than any real one does; its reader says NotUnderstood."""


def parse_source(source: bytes, member: str) -> ast.Module | NotUnderstood:
    """The syntax tree; NotUnderstood for what is too long, or not in the grammar of the running Python."""
    if len(source) > MAX_SOURCE:
        return NotUnderstood(member, 0, f"{len(source)} bytes, more than the {MAX_SOURCE} allowed")
    if sum(1 for _ in _TOKEN.finditer(source)) > MAX_TOKENS:
        return NotUnderstood(member, 0, f"more than {MAX_TOKENS} words and signs")
    try:
        with _PARSING:
            return ast.parse(source)
    except SyntaxError as error:
        return NotUnderstood(member, error.lineno or 0, f"not Python as this version reads it: {error.msg}")
    except (ValueError, RecursionError, MemoryError) as error:
        return NotUnderstood(member, 0, f"not Python as this version reads it: {type(error).__name__}")


def executed(statement: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the statement does. Bodies of functions wait until they are called."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        yield node
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                continue
            if name == "target" and isinstance(node, ast.comprehension):  # bound in a scope of its own
                continue
            waiting.extend(child for child in _listed(value) if isinstance(child, ast.AST))


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def changed(statements: Iterable[ast.AST]) -> Iterator[str]:
    """Names that running the statements may bind or delete, or whose object it may change."""
    for statement in statements:
        yield from _bound(statement)
        yield from _mutated(statement)


def _bound(statement: ast.AST) -> Iterator[str]:
    for node in executed(statement):
        match node:
            case ast.Name(id=name, ctx=ast.Store() | ast.Del()):
                yield name
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
                yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
            case ast.ExceptHandler(name=str() as name) | ast.MatchAs(name=str() as name):
                yield name
            case ast.MatchStar(name=str() as name) | ast.MatchMapping(rest=str() as name):
                yield name


def _mutated(statement: ast.AST) -> Iterator[str]:
    """Taken for granted: a function of another module does not change what is passed to it."""
    for node in executed(statement):
        match node:
            case ast.Subscript(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                yield name
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()):
                yield name
            case ast.AugAssign(target=ast.Name(id=name)):
                yield name
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=method)):
                if method not in _READING:
                    yield name
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[ast.Name(id=name), *_]):
                yield name


@dataclass(frozen=True, slots=True)
class Effect:
    """What calling a function or class of the module may change: global names, and what is passed to it."""

    names: frozenset[str]
    arguments: bool


_Function = ast.FunctionDef | ast.AsyncFunctionDef
_CONSTRUCTORS = {"__new__", "__init__", "__post_init__"}


def effects(tree: ast.Module) -> dict[str, Effect]:
    """Every function and class by name, with what they call in turn. Raises Exhausted."""
    changes: dict[str, set[str]] = {}
    calls: dict[str, set[str]] = {}
    arguments: dict[str, bool] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            bodies = [statement for function in _called(node) for statement in function.body]
            changes.setdefault(node.name, set()).update(changed(bodies))
            calls.setdefault(node.name, set()).update(_calls(bodies))
            passed = any(_parameters(function) & set(_mutations(function)) for function in _called(node))
            arguments[node.name] = arguments.get(node.name, False) or passed
    if len(calls) * sum(map(len, calls.values())) > MAX_CALLS:
        raise Exhausted
    return {
        name: Effect(
            frozenset(change for called in _reachable(name, calls) for change in changes[called]),
            any(arguments[called] for called in _reachable(name, calls)),
        )
        for name in changes
    }


def _called(node: _Function | ast.ClassDef) -> list[_Function]:
    """The functions that run when the name is called: of a class, those that make its objects."""
    if not isinstance(node, ast.ClassDef):
        return [node]
    functions = [item for item in node.body if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [function for function in functions if function.name in _CONSTRUCTORS]


def _parameters(function: _Function) -> set[str]:
    found = {part.arg for part in ast.walk(function.args) if isinstance(part, ast.arg)}
    return found - {"self", "cls"}


def _mutations(function: _Function) -> Iterator[str]:
    for statement in function.body:
        yield from _mutated(statement)


def _calls(bodies: Iterable[ast.AST]) -> Iterator[str]:
    for statement in bodies:
        for node in executed(statement):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id


def _reachable(start: str, calls: dict[str, set[str]]) -> set[str]:
    found, waiting = {start}, [start]
    while waiting:
        new = {name for name in calls[waiting.pop()] if name in calls} - found
        found |= new
        waiting.extend(new)
    return found
