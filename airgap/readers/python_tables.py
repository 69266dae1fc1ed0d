"""Tables in Python source, evaluated from the syntax tree alone: nothing is imported and nothing runs.

A module is followed statement by statement as the interpreter would, for the forms in which registries
are written: literals, `OrderedDict(…)` and `dict(…)`, spreads, `.update(…)`, `|=`, keys that are assigned
and deleted, names imported from a module that was read before. What is not understood becomes a value
that says so, with its line, and so does everything that depends on it: an answer is right, or it is
`NotUnderstood`. Taken for granted: other modules that import a table do not change it.
"""

import ast
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from airgap.readers.python_syntax import (
    Effect,
    Exhausted,
    NotUnderstood,
    changed,
    effects,
    executed,
    parse_source,
)

MAX_ENTRIES = 2_000_000
"""Entries copied from table to table while one module is read; real ones copy some thousands."""

Scalar = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key of a table and the line that sets it. `value` is None where it was not understood.

    `certain` is False for a key that a comprehension may or may not bring.
    """

    key: str
    value: Scalar | None
    member: str
    line: int
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Entries by key; `open` is what may have added or replaced others, and was not understood."""

    entries: Mapping[str, Entry]
    line: int
    open: tuple[NotUnderstood, ...] = ()

    def get(self, key: str) -> Entry | NotUnderstood | None:
        """The entry; None when the table is proven not to have the key."""
        return self.entries.get(key) or (self.open[0] if self.open else None)


Value = Table | NotUnderstood | str | tuple["Value", ...] | None


@dataclass(frozen=True, slots=True)
class Module:
    """The names at the top level of one module, after its last statement."""

    member: str
    names: Mapping[str, Value]
    problem: NotUnderstood | None = None
    """Why nothing in it can be decided: it does not parse, or may bind anything."""

    def table(self, name: str) -> Table | NotUnderstood:
        value = self._value(name)
        if isinstance(value, Table | NotUnderstood):
            return value
        return NotUnderstood(self.member, 0, f"expected a table {name}, found something else")

    def text(self, name: str) -> str | NotUnderstood | None:
        """A string, or None where the module says None."""
        value = self._value(name)
        if value is None or isinstance(value, str | NotUnderstood):
            return value
        return NotUnderstood(self.member, 0, f"expected a string {name}, found something else")

    def _value(self, name: str) -> Value:
        missing = NotUnderstood(self.member, 0, f"expected {name}, found no such name")
        return self.problem or self.names.get(name, missing)


def read_module(source: bytes, member: str, imports: Mapping[str, Module] | None = None) -> Module:
    """Evaluate a module. `imports` maps modules it may take tables from, spelled as it imports them."""
    tree = parse_source(source, member)
    if isinstance(tree, NotUnderstood):
        return Module(member, {}, tree)
    try:
        reader = _Reader(member, imports or {}, effects(tree))
        for statement in tree.body:
            reader.run(statement)
    except RecursionError:
        return Module(member, {}, NotUnderstood(member, 0, "nested too deeply"))
    except Exhausted:
        return Module(member, {}, NotUnderstood(member, 0, "more work than any real module is"))
    return Module(member, reader.names, reader.problem)


_ORDERED = "OrderedDict"
_REBINDING = {"exec", "eval", "globals", "locals", "vars", "__import__"}
"""Functions with which code can bind any name: no table is certain where a module calls them."""


@dataclass(slots=True)
class _Reader:
    """The names of the module so far, and what they hold. Statements are methods named after their node."""

    member: str
    imports: Mapping[str, Module]
    effects: Mapping[str, Effect]
    names: dict[str, Value] = field(default_factory=dict)
    constructors: set[str] = field(default_factory=lambda: {"dict"})
    """Names that make a table of what they are given."""
    literals: set[str] = field(default_factory=set)
    problem: NotUnderstood | None = None
    budget: int = MAX_ENTRIES

    def run(self, statement: ast.stmt) -> None:
        """Follow one statement; what it changes in a way that is not understood is lost."""
        for node in executed(statement):
            self._judge_call(node)
            if isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
                self.problem = self.problem or self._unclear(node, f"imports every name of {node.module}")
        handler: Callable[[ast.stmt], bool] | None = getattr(self, f"_{type(statement).__name__}", None)
        if handler is None or not handler(statement):
            for name in changed([statement]):
                self._lose(name, statement, "is set or changed in a form that is not understood")

    def _judge_call(self, node: ast.AST) -> None:
        decorators = node.decorator_list if isinstance(node, ast.FunctionDef | ast.ClassDef) else []
        for function in [node.func] if isinstance(node, ast.Call) else decorators:
            if not isinstance(function, ast.Name):
                continue
            if function.id in _REBINDING:
                self.problem = self.problem or self._unclear(node, f"calls {function.id}()")
            effect = self.effects.get(function.id, Effect(frozenset(), arguments=False))
            lost = set(effect.names)
            if effect.arguments and isinstance(node, ast.Call):
                given = [*node.args, *(keyword.value for keyword in node.keywords)]
                lost |= {argument.id for argument in given if isinstance(argument, ast.Name)}
            for name in lost & self.names.keys():
                self._lose(name, node, f"may be changed by {function.id}()")

    def _lose(self, name: str, node: ast.AST, reason: str) -> None:
        self._bind(name, self._unclear(node, f"{name} {reason}"))

    def _bind(self, name: str, value: Value) -> None:
        self.names[name] = value
        self.constructors.discard(name)
        self.literals.discard(name)

    def _unclear(self, node: ast.AST, reason: str) -> NotUnderstood:
        return NotUnderstood(self.member, getattr(node, "lineno", 0), reason)

    # Statements. Each returns whether it understood everything that it changes.

    def _Assign(self, node: ast.Assign) -> bool:
        match node.targets:
            case _ if any(True for _ in changed([node.value])):
                return False
            case [ast.Name(id=name)]:
                value = self._evaluate(node.value)
                if isinstance(node.value, ast.Name) and isinstance(value, Table):
                    # Both names are one object, and change together.
                    self._lose(node.value.id, node, "has two names")
                    value = self.names[node.value.id]
                self._bind(name, value)
                return True
            case [ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() as key))]:
                return self._update(name, self._single(key, node.value, node.lineno))
        return False

    def _AnnAssign(self, node: ast.AnnAssign) -> bool:
        if node.value is None:
            return isinstance(node.target, ast.Name)
        return self._Assign(ast.copy_location(ast.Assign([node.target], node.value), node))

    def _AugAssign(self, node: ast.AugAssign) -> bool:
        """`NAME |= …`"""
        match node:
            case ast.AugAssign(target=ast.Name(id=name), op=ast.BitOr(), value=value):
                return not any(True for _ in changed([value])) and self._update(name, self._table(value))
        return False

    def _Expr(self, node: ast.Expr) -> bool:
        """`NAME.update(…)`; of other expressions, what they change is lost."""
        match node.value:
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="update")) as call:
                quiet = not any(True for _ in changed([*call.args, *call.keywords]))
                return quiet and self._update(name, self._construct(call))
        return False

    def _update(self, name: str, change: Table | NotUnderstood) -> bool:
        table = self.names.get(name)
        if not isinstance(table, Table):
            return False
        self.names[name] = self._joined(table.line, [table, change])
        return True

    def _Delete(self, node: ast.Delete) -> bool:
        """`del NAME["key"]`"""
        match node.targets:
            case [ast.Subscript(value=ast.Name(id=name), slice=ast.Constant(value=str() as key))]:
                table = self.names.get(name)
                if isinstance(table, Table) and key in table.entries:
                    kept = {other: entry for other, entry in table.entries.items() if other != key}
                    self._spend(len(kept))
                    self.names[name] = replace(table, entries=kept)
                    return True
        return False

    def _ImportFrom(self, node: ast.ImportFrom) -> bool:
        module = "." * node.level + (node.module or "")
        source = self.imports.get(module)
        for alias in node.names:
            name = alias.asname or alias.name
            unclear = self._unclear(node, f"{name} is imported from {module}, which was not read")
            self._bind(name, source.table(alias.name) if source else unclear)
            if (module, alias.name) in (("collections", _ORDERED), ("typing", _ORDERED)):
                self.constructors.add(name)
            if (module, alias.name) in (("typing", "Literal"), ("typing_extensions", "Literal")):
                self.literals.add(name)
        return True

    def _FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        self._bind(node.name, self._unclear(node, f"{node.name} is a function"))
        return set(changed([node])) == {node.name}

    _AsyncFunctionDef = _FunctionDef

    def _ClassDef(self, node: ast.ClassDef) -> bool:
        """A class that only reads otherwise than dict does makes tables, too."""
        methods = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
        rest = [item for item in node.body if not isinstance(item, ast.FunctionDef | ast.Expr | ast.Pass)]
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        plain = not (rest or node.decorator_list or node.keywords) and methods <= {"__getitem__", "__repr__"}
        makes_tables = plain and len(node.bases) == len(bases) == 1 and bases[0] in self.constructors
        for name in changed(node.body):
            if isinstance(self.names.get(name), Table):
                self._lose(name, node, f"is named in the class {node.name}")
        self._bind(node.name, self._unclear(node, f"{node.name} is a class"))
        if makes_tables:
            self.constructors.add(node.name)
        return True

    # Expressions. Each gives a value, or says that it was not understood.

    def _evaluate(self, node: ast.expr) -> Value:
        match node:
            case ast.Constant(value=None | str() as constant):
                return constant
            case ast.Tuple(elts=items) | ast.List(elts=items):
                return tuple(self._evaluate(item) for item in items)
        return self._table(node)

    def _table(self, node: ast.expr) -> Table | NotUnderstood:
        """The table an expression makes. A list of pairs is one, as `dict` takes it."""
        match node:
            case ast.Name(id=name):
                value = self.names.get(name)
                known = isinstance(value, Table | NotUnderstood)
                return value if known else self._unclear(node, f"{name} is not a table")  # type: ignore[return-value]
            case ast.Dict(keys=keys, values=values):
                pairs = zip(keys, values, strict=True)
                return self._joined(node.lineno, (self._part(key, value) for key, value in pairs))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return self._joined(node.lineno, map(self._pair, items))
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._joined(node.lineno, [self._table(left), self._table(right)])
            case ast.Call(func=ast.Subscript(value=function) | function) if self._constructs(function):
                return self._construct(node)
            case ast.Subscript(value=ast.Name(id=name), slice=choices) if name in self.literals:
                items = choices.elts if isinstance(choices, ast.Tuple) else [choices]
                return self._joined(node.lineno, map(self._choice, items))
            case ast.DictComp():
                return self._comprehension(node)
        return self._unclear(node, f"{type(node).__name__} is not a form that is understood")

    def _constructs(self, function: ast.expr) -> bool:
        return isinstance(function, ast.Name) and function.id in self.constructors

    def _construct(self, call: ast.Call) -> Table | NotUnderstood:
        """The arguments of `dict(…)` and of `.update(…)`: at most one table, then keywords."""
        if len(call.args) > 1:
            return self._unclear(call, "expected one positional argument at most")
        parts = [self._table(argument) for argument in call.args]
        for keyword in call.keywords:
            named = keyword.arg and self._single(keyword.arg, keyword.value, keyword.lineno)
            parts.append(named or self._table(keyword.value))
        return self._joined(call.lineno, parts)

    def _part(self, key: ast.expr | None, value: ast.expr) -> Table | NotUnderstood:
        """One `key: value` or `**value` of a dictionary."""
        match key:
            case None:
                return self._table(value)
            case ast.Constant(value=str() as text):
                return self._single(text, value, key.lineno)
        return self._unclear(key, "expected a string as key")

    def _pair(self, node: ast.expr) -> Table | NotUnderstood:
        match node:
            case ast.Tuple(elts=[ast.Constant(value=str() as key), value]):
                return self._single(key, value, node.lineno)
        return self._unclear(node, "expected a pair of a string and a value")

    def _choice(self, node: ast.expr) -> Table | NotUnderstood:
        """One choice of a `Literal[…]` (PEP 586), as an entry whose value is its key."""
        match node:
            case ast.Constant(value=str() as text):
                return self._single(text, node, node.lineno)
        return self._table(node)

    def _single(self, key: str, value: ast.expr, line: int) -> Table:
        return Table({key: Entry(key, _scalar(self._evaluate(value)), self.member, line)}, line)

    def _comprehension(self, node: ast.DictComp) -> Table | NotUnderstood:
        """`{k: v for k, v in TABLE.items() if …}`: keys of TABLE, each of them perhaps."""
        match node.key, node.generators:
            case (
                ast.Name(id=key),
                [
                    ast.comprehension(
                        target=ast.Tuple(elts=[ast.Name(id=first), content]),
                        iter=ast.Call(func=ast.Attribute(value=ast.Name() as owner, attr="items"), args=[]),
                        is_async=0,
                    )
                ],
            ) if key == first:
                table = self._table(owner)
                if isinstance(table, Table):
                    self._spend(len(table.entries))
                    same = ast.unparse(node.value) == ast.unparse(content)
                    entries = {
                        name: replace(entry, value=entry.value if same else None, certain=False)
                        for name, entry in table.entries.items()
                    }
                    return replace(table, entries=entries)
        return self._unclear(node, "a comprehension, but not over the items of a known table")

    def _joined(self, line: int, parts: Iterable[Table | NotUnderstood]) -> Table:
        """One table, as `dict.update` makes it: the later part wins, an unclear one may hold any key."""
        entries: dict[str, Entry] = {}
        unclear: list[NotUnderstood] = []
        for part in parts:
            table = Table({}, line, (part,)) if isinstance(part, NotUnderstood) else part
            self._spend(len(table.entries))
            if table.open:
                self._spend(len(entries))
                entries = {key: replace(entry, value=None) for key, entry in entries.items()}
                unclear += table.open[: 8 - len(unclear)]
            for key, new in table.entries.items():
                old = entries.get(key)
                if new.certain or old is None:
                    entries[key] = new
                elif old.value != new.value:
                    entries[key] = replace(old, value=None)
        return Table(entries, line, tuple(unclear))

    def _spend(self, count: int) -> None:
        self.budget -= count
        if self.budget < 0:
            raise Exhausted


def _scalar(value: Value) -> Scalar | None:
    """A string or a flat tuple of strings; None for anything else."""
    if isinstance(value, tuple) and all(isinstance(item, str) for item in value):
        return tuple(item for item in value if isinstance(item, str))
    return value if isinstance(value, str) else None
