"""Which names a cell reads: never fewer than Python looks up, and none that the cell has bound before."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.notebook.names import names_of

pytestmark = pytest.mark.slow  # hundreds of small programs

_NAMES = ("a", "b", "c", "d", "f", "g")


class _Outer:
    """A value of the notebook that takes whatever a program does to it."""

    def __call__(self, *_: Any) -> _Outer:
        return self

    def __iter__(self) -> Any:
        return iter((self,))

    def __enter__(self) -> _Outer:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __add__(self, _: Any) -> _Outer:
        return self

    __radd__ = __getattr__ = __add__


class _Watched(dict[str, Any]):
    """A namespace that notes what is looked up before it is bound in it."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: set[str] = set()
        self.deleted: set[str] = set()

    def __missing__(self, name: str) -> Any:
        if name in self.deleted or name not in _NAMES:
            raise KeyError(name)
        self.looked_up.add(name)
        return _Outer()

    def __delitem__(self, name: str) -> None:
        if name not in self:
            self.looked_up.add(name)
        else:
            super().__delitem__(name)
        self.deleted.add(name)


_name = st.sampled_from(_NAMES)
_expression = st.recursive(
    _name | st.just("1"),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda p: f"({p[0]} + {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]} and {p[1]})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"),
        st.tuples(_name, inner).map(lambda p: f"{p[0]}({p[1]})"),
        st.tuples(_name, inner).map(lambda p: f"({p[0]} := {p[1]})"),
        st.tuples(inner, _name, inner).map(lambda p: f"[{p[0]} for {p[1]} in {p[2]}]"),
        st.tuples(_name, inner).map(lambda p: f"(lambda {p[0]}=1: {p[1]})()"),
        inner.map(lambda e: f"f'{{{e}}}'"),
    ),
    max_leaves=4,
)


def _indented(body: list[str]) -> str:
    return "\n".join("    " + line for text in body for line in text.split("\n"))


def _compound(inner: Any) -> Any:
    body = st.lists(inner, min_size=1, max_size=3).map(_indented)
    return st.one_of(
        st.tuples(_expression, body, body).map(lambda p: f"if {p[0]}:\n{p[1]}\nelse:\n{p[2]}"),
        st.tuples(_name, _expression, body).map(lambda p: f"for {p[0]} in {p[1]}:\n{p[2]}"),
        st.tuples(_expression, body).map(lambda p: f"while {p[0]}:\n{p[1]}\n    break"),
        st.tuples(body, _name, body, body).map(
            lambda p: f"try:\n{p[0]}\nexcept Exception as {p[1]}:\n{p[2]}\nfinally:\n{p[3]}"
        ),
        st.tuples(_expression, _name, body).map(lambda p: f"with {p[0]} as {p[1]}:\n{p[2]}"),
        st.tuples(_name, _name, _expression, body, _expression).map(
            lambda p: f"def {p[0]}({p[1]}={p[2]}):\n{p[3]}\n    return {p[4]}"
        ),
        st.tuples(_name, _name, body).map(lambda p: f"def {p[0]}():\n    global {p[1]}\n{p[2]}"),
        st.tuples(_name, _name, body).map(lambda p: f"@{p[0]}\ndef {p[1]}():\n{p[2]}"),
        st.tuples(_name, body).map(lambda p: f"class {p[0]}:\n{p[1]}"),
        st.tuples(_expression, _name, body).map(lambda p: f"match {p[0]}:\n    case {p[1]}:\n{_indented([p[2]])}"),
    )


_statement = st.recursive(
    st.one_of(
        st.tuples(_name, _expression).map(lambda p: f"{p[0]} = {p[1]}"),
        st.tuples(_name, _expression).map(lambda p: f"{p[0]} += {p[1]}"),
        st.tuples(_name, _name, _expression).map(lambda p: f"{p[0]}, {p[1]} = {p[2]}"),
        _expression,
        _name.map(lambda n: f"del {n}"),
        _name.map(lambda n: f"import sys as {n}"),
    ),
    _compound,
    max_leaves=6,
)


def _looked_up(source: str) -> set[str]:
    namespace = _Watched()
    with contextlib.suppress(Exception):  # what was looked up until then counts
        exec(compile(source, "<program>", "exec"), namespace)
    return namespace.looked_up


@settings(max_examples=150, deadline=None)
@given(st.lists(_statement, min_size=1, max_size=5).map("\n".join))
def test_whatever_python_looks_up_is_found(source: str) -> None:
    try:
        compile(source, "<program>", "exec")
    except SyntaxError:
        return
    assert _looked_up(source) <= set(names_of(source).reads), source


@pytest.mark.parametrize(
    ("source", "reads"),
    [
        ("x = 1\nx + y", {"y"}),
        ("x += 1", {"x"}),
        ("x[0] = 1\ny.z = 2", {"x", "y"}),
        ("with o(p) as file:\n    t = file.read()\nt", {"o", "p"}),
        ("import numpy as np\nnp.zeros(n)", {"n"}),
        ("def f(x):\n    return x + k\nk = 2\nf(1)", set()),
        ("def f():\n    return k\nf()\nk = 2", {"k"}),
        ("def f():\n    return g()\ndef g():\n    return k\nf()", {"k"}),
        ("def f():\n    return k", {"k"}),
        ("class A(B):\n    size = 3\n    def m(self):\n        return self.size + k\n", {"B", "k"}),
        ("[x * k for x in data if x > least]", {"data", "least", "k"}),
        ("if c:\n    x = 1\nelse:\n    x = 2\nx", {"c"}),
        ("if c:\n    x = 1\nx", {"c", "x"}),
        ("try:\n    x = g()\nexcept E as e:\n    x = e\nx", {"g", "E"}),
        ("for i in rows:\n    last = i\n", {"rows"}),
        ("match v:\n    case {'k': k, **rest}:\n        k, rest", {"v"}),
        ("await asyncio.sleep(t)", {"asyncio", "t"}),
        ("%time model.fit(x)", {"model", "x"}),
        ("%timeit -n 3 -r 2 f(x)", {"f", "x"}),
        ("%%time\ny = f(x)\ny", {"f", "x"}),
        ("!ls $folder {name + '.txt'}", {"folder", "name"}),
        ("files = !ls {folder}\nfiles", {"folder"}),
        ("%matplotlib inline", set()),
        ("get_ipython()", {"get_ipython"}),
        ("this is no python", set()),
        ("", set()),
    ],
)
def test_what_a_cell_has_bound_before_is_not_read(source: str, reads: set[str]) -> None:
    builtins = {"print", "range"}
    assert set(names_of(source).reads) - builtins == reads


def test_what_a_cell_may_bind_and_the_attributes_that_it_uses() -> None:
    found = names_of(
        "def f():\n    global seen\n    seen = 1\nfor i in x:\n    y = (z := i.real)\nimport a.b\nfrom m import n as o"
    )
    assert found.binds == {"f", "seen", "i", "y", "z", "a", "o"}
    assert names_of("scipy.linalg.solve(m)\ndef f(): return scipy.stats.norm").words == {
        "linalg",
        "solve",
        "stats",
        "norm",
    }
