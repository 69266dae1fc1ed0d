"""What Python code imports, what a wheel offers to import, and what of the first the second lacks.

All of it is read from names of files and syntax trees. That a name is missing is said only where the module
is there, was understood whole, and cannot make names up as it goes.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from airgap.errors import InputError
from airgap.readers.python_syntax import MAX_SOURCE, NotUnderstood, parse_source
from airgap.readers.source import Files


class Guard(StrEnum):
    """What stands between an import and a failure when it cannot be had."""

    NONE = ""
    TYPE_CHECKING = "type-checking"
    """Only type checkers run it."""
    IMPORT_ERROR = "import-error"
    """In a `try` that catches the failure, or in the handler that replaces what failed."""
    CONDITION = "condition"
    """Below some other `if`, `match`, loop or handler: it may not be reached."""


@dataclass(frozen=True, slots=True)
class Import:
    """`from module import name`, or `import module` where `name` is ''. `module` is absolute.

    `deferred` means inside of a function: it fails when that is called, not when the file is loaded.
    """

    module: str
    name: str
    member: str
    line: int
    guard: Guard = Guard.NONE
    deferred: bool = False

    def __str__(self) -> str:
        return f"from {self.module} import {self.name}" if self.name else f"import {self.module}"


@dataclass(frozen=True, slots=True)
class Names:
    """What a module binds at its top level, in any branch; `open` is why there may be more."""

    bound: frozenset[str]
    open: NotUnderstood | None = None
    makes_modules: bool = False
    """Whether it mentions `sys.modules`, by which modules exist that have no file."""


@dataclass(frozen=True, slots=True)
class Missing:
    """An import that cannot work; `module_member` is the file without the name, '' for a missing module."""

    wanted: Import
    reason: str
    module_member: str = ""


def read_imports(source: bytes, member: str, module: str) -> tuple[Import, ...] | NotUnderstood:
    """Every import of a file that is loaded as `module` (`pkg.__init__` for a package), in order."""
    tree = parse_source(source, member)
    if isinstance(tree, NotUnderstood):
        return tree
    try:
        return tuple(_walk(tree.body, _Place(member, module)))
    except RecursionError:
        return NotUnderstood(member, 0, "nested too deeply")


@dataclass(frozen=True, slots=True)
class _Place:
    member: str
    module: str
    guard: Guard = Guard.NONE
    deferred: bool = False

    def under(self, guard: Guard) -> "_Place":
        """The same below a guard. The strongest one counts: what nothing runs needs no other excuse."""
        order = list(Guard)
        strongest = {Guard.NONE: 0, Guard.CONDITION: 1, Guard.IMPORT_ERROR: 2, Guard.TYPE_CHECKING: 3}
        kept = max((self.guard, guard), key=lambda g: (strongest[g], order.index(g)))
        return _Place(self.member, self.module, kept, self.deferred)

    def inside_function(self) -> "_Place":
        return _Place(self.member, self.module, self.guard, True)


def _walk(statements: Iterable[ast.stmt], place: _Place) -> Iterator[Import]:
    for node in statements:
        match node:
            case ast.Import() | ast.ImportFrom():
                yield from _imports(node, place)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _walk(node.body, place.inside_function())
            case ast.ClassDef():
                yield from _walk(node.body, place)
            case ast.If():
                yield from _branches(node, place)
            case ast.Try() | ast.TryStar():
                yield from _tries(node, place)
            case ast.With() | ast.AsyncWith():
                suppressing = any(_suppresses(item.context_expr) for item in node.items)
                yield from _walk(node.body, place.under(Guard.IMPORT_ERROR) if suppressing else place)
            case ast.For() | ast.AsyncFor() | ast.While():
                yield from _walk([*node.body, *node.orelse], place.under(Guard.CONDITION))
            case ast.Match():
                inner = [statement for case in node.cases for statement in case.body]
                yield from _walk(inner, place.under(Guard.CONDITION))


def _imports(node: ast.Import | ast.ImportFrom, place: _Place) -> Iterator[Import]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            module, name = alias.name, ""
        else:
            module, name = _absolute(node, place.module), "" if alias.name == "*" else alias.name
        yield Import(module, name, place.member, node.lineno, place.guard, place.deferred)


def _branches(node: ast.If, place: _Place) -> Iterator[Import]:
    negated = isinstance(node.test, ast.UnaryOp) and isinstance(node.test.op, ast.Not)
    test = node.test.operand if isinstance(node.test, ast.UnaryOp) and negated else node.test
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    if name == "TYPE_CHECKING":
        guards = (Guard.NONE, Guard.TYPE_CHECKING) if negated else (Guard.TYPE_CHECKING, Guard.NONE)
    else:
        guards = (Guard.CONDITION, Guard.CONDITION)
    yield from _walk(node.body, place.under(guards[0]))
    yield from _walk(node.orelse, place.under(guards[1]))


def _tries(node: ast.Try | ast.TryStar, place: _Place) -> Iterator[Import]:
    catching = any(_catches(handler.type) and not _raises(handler) for handler in node.handlers)
    yield from _walk(node.body, place.under(Guard.IMPORT_ERROR) if catching else place)
    for handler in node.handlers:
        guard = Guard.IMPORT_ERROR if _catches(handler.type) else Guard.CONDITION
        yield from _walk(handler.body, place.under(guard))
    # What follows in `else` runs only when the body worked, and nothing catches it.
    yield from _walk(node.orelse, place.under(Guard.CONDITION) if catching else place)
    yield from _walk(node.finalbody, place)


_CAUGHT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}


def _catches(caught: ast.expr | None) -> bool:
    if caught is None:
        return True
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught]
    return any(isinstance(kind, ast.Name) and kind.id in _CAUGHT for kind in kinds)


def _raises(handler: ast.ExceptHandler) -> bool:
    """Whether the handler only says the failure in other words."""
    return any(isinstance(statement, ast.Raise) for statement in handler.body)


def _suppresses(context: ast.expr) -> bool:
    """`contextlib.suppress(ImportError)`"""
    if not isinstance(context, ast.Call):
        return False
    function = context.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return name == "suppress" and any(_catches(argument) for argument in context.args)


def _absolute(node: ast.ImportFrom, module: str) -> str:
    """The module an import names; leading dots are counted from the package of `module`."""
    if not node.level:
        return node.module or ""
    package = module.split(".")[: -node.level]
    return ".".join([*package, *filter(None, [node.module])])


def read_names(source: bytes, member: str) -> Names:
    """What a module binds at its top level."""
    tree = parse_source(source, member)
    if isinstance(tree, NotUnderstood):
        return Names(frozenset(), tree)
    bound: set[str] = set()
    reasons: list[NotUnderstood] = []
    for node in _module_scope(tree):
        bound.update(_binds(node))
        if reason := _opens(node):
            reasons.append(NotUnderstood(member, getattr(node, "lineno", 0), reason))
    makes_modules = any(_is_sys_modules(node) for node in ast.walk(tree))
    return Names(frozenset(bound), reasons[0] if reasons else None, makes_modules)


def _is_sys_modules(node: ast.AST) -> bool:
    match node:
        case ast.Attribute(value=ast.Name(id="sys"), attr="modules"):
            return True
        case ast.ImportFrom(module="sys", names=names):
            return any(alias.name in ("modules", "*") for alias in names)
    return False


def _module_scope(tree: ast.Module) -> Iterator[ast.AST]:
    """What runs at import, classes' bodies left out; and the functions' `global` statements."""
    waiting: list[ast.AST] = list(reversed(tree.body))
    while waiting:
        node = waiting.pop()
        yield node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield from (inner for inner in ast.walk(node) if isinstance(inner, ast.Global))
        elif not isinstance(node, ast.Lambda | ast.comprehension):
            waiting.extend(ast.iter_child_nodes(node))


def _binds(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name, ctx=ast.Store()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.Global(names=names):
            yield from names
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            yield from (alias.asname or alias.name.partition(".")[0] for alias in aliases)
        case ast.MatchAs(name=str() as name) | ast.MatchStar(name=str() as name):
            yield name


_DYNAMIC = {"exec", "eval", "globals", "locals", "vars", "setattr"}


def _opens(node: ast.AST) -> str:
    """Why a module may have names that its text does not show; '' when this node is no reason."""
    match node:
        case ast.FunctionDef(name="__getattr__"):
            return "has a module-level __getattr__"
        case ast.Name(id="__getattr__", ctx=ast.Store()):
            return "has a module-level __getattr__"
        case ast.ImportFrom(names=[ast.alias(name="*")], module=module):
            return f"imports every name of {module or '.'}"
        case ast.Call(func=ast.Name(id=name)) if name in _DYNAMIC:
            return f"calls {name}()"
    return "uses sys.modules, and may replace itself" if _is_sys_modules(node) else ""


@dataclass(slots=True)
class Modules:
    """The modules of a tree of files, and what they bind; sources are read when they are asked for."""

    files: Files
    root: str = ""
    """The directory that is on Python's path, '' or one that ends with '/'."""
    _members: Mapping[str, str] = field(init=False)
    _packages: frozenset[str] = field(init=False)
    _names: dict[str, Names] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._members = dict(_modules(self.files.paths(), self.root))
        parents = (name.rpartition(".")[0] for name in self._members)
        self._packages = frozenset(above for name in parents for above in _prefixes(name))

    def top_level(self) -> tuple[str, ...]:
        """Modules and packages without a dot, namespace packages included, sorted."""
        return tuple(sorted({name.partition(".")[0] for name in self._members}))

    def member(self, module: str) -> str:
        """The file of a module; '' when it has none, as a namespace package (PEP 420)."""
        return self._members.get(module, "")

    def has(self, module: str) -> bool:
        return module in self._members or module in self._packages

    def names(self, module: str) -> Names:
        """Raises InputError when the file cannot be read."""
        member = self._members[module]
        if module not in self._names:
            if member.endswith(".py"):
                found = read_names(self.files.read(member, MAX_SOURCE), member)
            else:
                found = Names(
                    frozenset(), NotUnderstood(member, 0, "is compiled: its names are not in a text")
                )
            self._names[module] = found
        return self._names[module]

    def judge(self, wanted: Import) -> Missing | NotUnderstood | None:
        """What is missing for an import from this tree; None when nothing is, or it is from elsewhere."""
        modules = _prefixes(wanted.module)
        if not self.has(modules[0]):
            return None
        try:
            for module in modules:
                if not self.has(module):
                    return self._no_module(wanted, module)
            return self._judge_name(wanted) if wanted.name else None
        except InputError as error:
            return NotUnderstood(self.member(wanted.module), 0, error.message)

    def _no_module(self, wanted: Import, module: str) -> Missing | NotUnderstood:
        for package in _prefixes(module)[:-1]:
            names = self.names(package) if package in self._members else None
            if names and names.open and (names.makes_modules or not names.bound):
                return NotUnderstood(
                    names.open.member, names.open.line, f"may make {module} as it is imported"
                )
        return Missing(wanted, f"there is no module {module}")

    def _judge_name(self, wanted: Import) -> Missing | NotUnderstood | None:
        if self.has(f"{wanted.module}.{wanted.name}"):
            return None
        if wanted.module not in self._members:
            return Missing(wanted, f"{wanted.module} has no module {wanted.name}")
        names = self.names(wanted.module)
        if wanted.name in names.bound:
            return None
        return names.open or Missing(
            wanted, f"{wanted.module} has no {wanted.name}", self.member(wanted.module)
        )


def _prefixes(module: str) -> list[str]:
    """`a.b.c` -> a, a.b, a.b.c"""
    parts = module.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))] if module else []


_MODULE = re.compile(r"(?P<path>\w+(/\w+)*?)(?P<package>/__init__)?(\.(cpython|abi|cp|pypy)[\w-]*)?\.(py|so)")


def _modules(paths: Iterable[str], root: str) -> Iterator[tuple[str, str]]:
    """(module, member) of every file Python would import below `root`."""
    for path in paths:
        landed = re.sub(r"^[^/]+\.data/(purelib|platlib)/", "", path.removeprefix(root))
        match = _MODULE.fullmatch(landed) if path.startswith(root) else None
        if match:
            yield match["path"].replace("/", "."), path
