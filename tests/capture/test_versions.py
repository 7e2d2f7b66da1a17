"""The version of a function: what it reaches changes it, and nothing else does."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.execution.functions import version_of

_HOW = ("call", "default", "class", "constant")


def _built(edges: dict[int, list[tuple[int, str]]], values: dict[int, int], shift: int) -> Any:
    """Functions f0, f1, … of a notebook, each with a value of its own, and what it uses of the others; f0."""
    lines = ["# a comment more"] * shift
    for node in sorted(edges, reverse=True):
        uses = "".join(f" + g{other}.go(x)" if how == "class" else f" + f{other}(x)" for other, how in edges[node])
        lines += [f"K{node} = [{values[node]}, {{'a', 'b', 'c'}}]"]
        lines += [f"def f{node}(x):", f"    return K{node}[0]{uses}"]
        lines += [f"class g{node}:", "    @staticmethod", "    def go(x):", f"        return f{node}(x)"]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("\n".join(lines), f"<cell {shift}>", "exec"), namespace)
    return namespace["f0"]


@st.composite
def _graphs(draw: st.DrawFn) -> dict[int, list[tuple[int, str]]]:
    count = draw(st.integers(1, 7))
    edge = st.tuples(st.integers(0, count - 1), st.sampled_from(["call", "class"]))
    return {node: draw(st.lists(edge, max_size=3)) for node in range(count)}


def _reached(edges: dict[int, list[tuple[int, str]]]) -> set[int]:
    found, pending = set(), [0]
    while pending:
        node = pending.pop()
        if node not in found:
            found.add(node)
            pending += [other for other, _ in edges[node]]
    return found


@settings(max_examples=60, deadline=None)
@given(_graphs(), st.data())
def test_changing_what_is_reached_changes_the_version_and_changing_the_rest_does_not(
    edges: dict[int, list[tuple[int, str]]], data: st.DataObject
) -> None:
    values = dict.fromkeys(edges, 1)
    before = version_of(_built(edges, values, 0))
    assert version_of(_built(edges, values, 3)) == before  # other lines, another cell, other objects
    changed = data.draw(st.sampled_from(sorted(edges)))
    after = version_of(_built(edges, values | {changed: 2}, 0))
    assert (after != before) == (changed in _reached(edges))


def _version(source: str, **names: Any) -> str:
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(source, "<cell 1>", "exec"), namespace)
    return version_of(namespace["f"])


def test_what_counts_and_what_does_not() -> None:
    plain = _version("def f(x): return x + 1")
    assert plain == _version("# said before\n\ndef f(x):\n    # and inside\n    return x + 1")
    assert plain != _version("def f(x): return x + 2")
    assert plain != _version("def f(x, y=1): return x + 1")
    assert _version("def f(x, y=1): return x") != _version("def f(x, y=2): return x")
    assert _version("def f(x): return len(x)") == _version("N = 1\ndef f(x): return len(x)")
    counted = "def f(x): return A.sum() + x"
    assert _version(counted, A=np.arange(9)) == _version(counted, A=np.arange(9))
    assert _version(counted, A=np.arange(9)) != _version(counted, A=np.arange(10))
    assert _version(counted, A=np.zeros(1 << 18)) != _version(counted, A=np.ones(1 << 18))


def test_closures_attributes_of_classes_and_objects_count() -> None:
    def made(number: int) -> Any:
        namespace: dict[str, Any] = {"__name__": "__main__"}
        text = "class C:\n    step = {n}\n    def go(self): return self.step\nc = C()\ndef outer(k):\n    def f(): return c.go() + k\n    return f\nf = outer(1)"
        exec(text.replace("{n}", str(number)), namespace)
        return namespace

    assert version_of(made(1)["f"]) == version_of(made(1)["f"]) != version_of(made(2)["f"])
    one, two = made(1), made(1)
    two["c"].more = 1
    assert version_of(one["f"]) != version_of(two["f"])
    assert version_of(one["outer"](1)) != version_of(one["outer"](2))


def test_what_goes_round_in_circles_ends() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert _version("def f(x): return L[0] + f(x)", L=loop) == _version("def f(x): return L[0] + f(x)", L=loop)


def test_a_value_that_is_too_large_to_look_at_counts_by_its_type_and_size() -> None:
    source = "def f(): return L"
    assert _version(source, L=list(range(400_000))) != _version(source, L=list(range(400_001)))
