"""Which names of the notebook a cell may look up before it has bound them itself, found without running it.

The cell is walked in the order in which Python runs it, with the names that are bound on every way to that point. What a function
or a class body made in the cell reads counts where the function is first used, or at the end of the cell. Where it can't be
known (a branch, a loop that may not run), the name counts as read: a value more is sent, and none is missing.
"""

from __future__ import annotations

import ast
import re
import symtable
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

_CODE_MAGICS = ("time", "timeit", "prun", "capture", "memit", "mprun", "lprun")
"""Magics whose line or body is Python."""

_OPTION = re.compile(r"\s*-\w+(\s+\d\S*)?(?=\s)")
_EXPANDED = re.compile(r"(?<![\\$])\$(?:\{([^{}]+)\}|([A-Za-z_]\w*))|\{([^{}]+)\}")
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass
class CellNames:
    """`reads`: looked up before the cell has bound them, in the order of their first use. `binds`: what the cell may bind in its
    namespace. `words`: every attribute that it names, which tells the submodules that it uses."""

    reads: dict[str, None] = field(default_factory=dict[str, None])
    binds: set[str] = field(default_factory=set[str])
    words: set[str] = field(default_factory=set[str])


def names_of(source: str) -> CellNames:
    """The names of a cell, in IPython's syntax: `!command`, magics and top-level `await` are understood. Of a cell that isn't
    right nothing is known, and it reads no name: Python says there what is wrong."""
    walk = _Walk()
    walk.source(source)
    walk.resolve_all()
    return walk.found


class _Walk:
    """One pass over a cell. `bound`: the names that are bound on every way to where it is now."""

    def __init__(self) -> None:
        self.found = CellNames()
        self.bound: set[str] = set()
        self._local: list[set[str]] = []  # of comprehensions and class bodies around
        self._pending: dict[str, set[str]] = {}  # what functions and classes of the cell read when they are used

    def source(self, text: str) -> None:
        tree = _parsed(_plain_python(text))
        if tree is not None:
            self.statements(tree.body)

    # ---- what is found -------------------------------------------------------------------------------------------

    def read(self, name: str) -> None:
        if any(name in names for names in self._local):
            return
        if name not in self.bound:
            self.found.reads.setdefault(name)
        for later in sorted(self._pending.pop(name, ())):
            self.read(later)

    def bind(self, name: str) -> None:
        if self._local:
            self._local[-1].add(name)
        else:
            self._resolve(name)  # what the name stood for until now may have been passed on
            self.bound.add(name)
            self.found.binds.add(name)

    def bind_outside(self, name: str) -> None:
        """By `:=` in a comprehension, which binds in the scope around it and may not run."""
        self.found.binds.add(name)

    def resolve_all(self) -> None:
        for name in list(self._pending):
            self._resolve(name)

    def _resolve(self, name: str) -> None:
        for later in sorted(self._pending.pop(name, ())):
            self.read(later)

    # ---- statements ----------------------------------------------------------------------------------------------

    def statements(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self.visit(statement)

    def visit(self, node: ast.AST | None) -> None:
        if node is None:
            return
        method = getattr(self, f"visit_{type(node).__name__}", None)
        if method is not None:
            method(node)
        else:
            self.children(node)

    def children(self, node: ast.AST) -> None:
        for child in ast.iter_child_nodes(node):
            self.visit(child)

    def _branches(self, *branches: Iterable[ast.AST]) -> None:
        """One of these runs: what all of them bind is bound."""
        before, ends = set(self.bound), list[set[str]]()
        for branch in branches:
            self.bound = set(before)
            for node in branch:
                self.visit(node)
            ends.append(self.bound)
        self.bound = set.intersection(*ends)

    def _maybe(self, body: Iterable[ast.AST]) -> None:
        self._branches(body, ())

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.read(node.id)
        elif isinstance(node.ctx, ast.Del):
            self.read(node.id)
            self.bind(node.id)  # from here on it isn't looked up elsewhere
        else:
            self.bind(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self.found.words.add(node.attr)
        self.visit(node.value)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self.visit(target)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        if isinstance(node.target, ast.Name):
            self.read(node.target.id)
        self.visit(node.value)
        self.visit(node.target)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self.visit(node.target)
        elif not isinstance(node.target, ast.Name):
            self.visit(node.target)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.visit(node.target)

    def visit_Import(self, node: ast.Import) -> None:
        for item in node.names:
            self.bind(item.asname or item.name.split(".")[0])

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for item in node.names:
            if item.name != "*":
                self.bind(item.asname or item.name)

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        self._branches(node.body, node.orelse)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self.visit(node.test)
        self._branches([node.body], [node.orelse])

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self.visit(node.values[0])
        self._maybe(node.values[1:])

    def visit_Compare(self, node: ast.Compare) -> None:
        self.visit(node.left)
        self.visit(node.comparators[0])
        self._maybe(node.comparators[1:])

    def visit_For(self, node: ast.For | ast.AsyncFor) -> None:
        self.visit(node.iter)
        self._maybe([node.target, *node.body])
        self._maybe(node.orelse)

    visit_AsyncFor = visit_For

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._maybe(node.body)
        self._maybe(node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        before = set(self.bound)
        self.statements([*node.body, *node.orelse])
        ends = [self.bound]
        for handler in node.handlers:
            self.bound = set(before)
            self.visit(handler)
            ends.append(self.bound)
        after = set.intersection(*ends)
        self.bound = set(before)  # the end runs on every way out
        self.statements(node.finalbody)
        self.bound |= after

    visit_TryStar = visit_Try

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self.visit(node.type)
        if node.name:
            self.bind(node.name)
        self.statements(node.body)

    def visit_Match(self, node: ast.Match) -> None:
        self.visit(node.subject)
        for case in node.cases:
            self._maybe([case.pattern, *filter(None, [case.guard]), *case.body])

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self.visit(node.pattern)
        if node.name:
            self.bind(node.name)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        if node.name:
            self.bind(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self.children(node)
        if node.rest:
            self.bind(node.rest)

    def visit_MatchClass(self, node: ast.MatchClass) -> None:
        self.found.words.update(node.kwd_attrs)
        self.children(node)

    # ---- scopes of their own -------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for outside in (*node.decorator_list, node.args, node.returns):
            self.visit(outside)
        self._note_words(node)
        reads, binds = _globals_of(node)
        self.found.binds |= binds
        if node.decorator_list or self._local:  # a decorator may call it at once
            for name in sorted(reads - {node.name}):
                self.read(name)
            self.bind(node.name)
        else:
            self.bind(node.name)
            self._pending[node.name] = reads

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arguments(self, node: ast.arguments) -> None:
        for argument in (*node.posonlyargs, *node.args, *node.kwonlyargs, node.vararg, node.kwarg):
            self.visit(argument.annotation if argument is not None else None)
        for default in (*node.defaults, *node.kw_defaults):
            self.visit(default)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.args)
        self._note_words(node)
        for name in sorted(_globals_of(ast.Expr(node))[0]):
            self.read(name)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for outside in (*node.decorator_list, *node.bases, *(keyword.value for keyword in node.keywords)):
            self.visit(outside)
        self._local.append(set())
        self.statements([item for item in node.body if not isinstance(item, _FUNCTIONS)])
        self._local.pop()
        methods: set[str] = set()
        for item in ast.walk(node):
            if isinstance(item, _FUNCTIONS):
                for outside in (*item.decorator_list, item.args, item.returns):
                    self._visit_inside(node, outside)
                self._note_words(item)
                methods |= _globals_of(item)[0]
        self.bind(node.name)
        self._pending[node.name] = methods - {node.name}

    def _visit_inside(self, around: ast.ClassDef, node: ast.AST | None) -> None:
        """An expression of a class body: what the body binds isn't looked up outside."""
        names = [item for item in ast.walk(around) if isinstance(item, ast.Name)]
        stored = {item.id for item in names if isinstance(item.ctx, ast.Store)}
        self._local.append(stored | _function_names(around))
        self.visit(node)
        self._local.pop()

    def _comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.visit(node.generators[0].iter)
        for inner in ast.walk(node):
            if isinstance(inner, ast.NamedExpr):
                self.bind_outside(inner.target.id)
        self._local.append(set())
        for number, generator in enumerate(node.generators):
            if number:
                self.visit(generator.iter)
            self.visit(generator.target)
            for condition in generator.ifs:
                self.visit(condition)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(part)
        self._local.pop()

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension

    def _note_words(self, node: ast.AST) -> None:
        self.found.words.update(item.attr for item in ast.walk(node) if isinstance(item, ast.Attribute))

    # ---- what IPython adds ---------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        texts = [item.value for item in node.args if isinstance(item, ast.Constant) and isinstance(item.value, str)]
        if not _is_ipythons(node) or len(texts) != len(node.args):
            self.children(node)
        else:
            self._magic(node.func.attr if isinstance(node.func, ast.Attribute) else "", texts)

    def _magic(self, method: str, texts: list[str]) -> None:
        if method.startswith("run_") and texts and texts[0] in _CODE_MAGICS:
            code = texts[-1] if method == "run_cell_magic" else _without_options(texts[-1])
            if method == "run_cell_magic" and texts[0] == "timeit":
                self.source(_without_options(texts[1]))
            before = set(self.bound)
            self.source(code)
            if texts[0] not in ("time", "capture"):
                self.bound = before  # they run it in a namespace of their own
        else:
            for text in texts[:2]:
                self._expanded(text)

    def _expanded(self, text: str) -> None:
        """`$name` and `{expression}` in the line of a command."""
        for braced, name, expression in _EXPANDED.findall(text):
            self.source(name or braced or expression)


def _is_ipythons(node: ast.Call) -> bool:
    """Whether it is what IPython made of a magic or a command."""
    target = node.func.value if isinstance(node.func, ast.Attribute) else None
    return isinstance(target, ast.Call) and isinstance(target.func, ast.Name) and target.func.id == "get_ipython"


def _plain_python(text: str) -> str:
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        return TransformerManager().transform_cell(text)
    except SyntaxError:
        return text


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError):
        return None


def _without_options(line: str) -> str:
    """The code in the line of `%timeit -n 3 f(x)`."""
    while (found := _OPTION.match(line)) is not None:
        line = line[found.end() :]
    return line.strip()


def _function_names(node: ast.ClassDef) -> set[str]:
    return {item.name for item in node.body if isinstance(item, (*_FUNCTIONS, ast.ClassDef))}


def _globals_of(node: ast.stmt) -> tuple[set[str], set[str]]:
    """What the functions in this statement look up, and what they bind, in the namespace of the cell."""
    text = ast.unparse(node)
    try:
        table = symtable.symtable(text, "<cell>", "exec")
    except SyntaxError:  # e.g. a `nonlocal` of the function around it
        return set(), set()
    changed = {
        item.target.id
        for item in ast.walk(node)
        if isinstance(item, ast.AugAssign) and isinstance(item.target, ast.Name)
    }
    reads, binds = set[str](), set[str]()
    for symbol in (symbol for inner in _tables(table) for symbol in inner.get_symbols()):
        if not symbol.is_global():
            continue
        name = symbol.get_name()
        if symbol.is_referenced() or name in changed:
            reads.add(name)
        if symbol.is_assigned():
            binds.add(name)
    return reads, binds


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _tables(child)
