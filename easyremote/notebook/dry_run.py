"""What a cell brings along besides its names: modules that are shipped; and what `%%remote --dry-run` shows of all of it."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from easyremote.captures import CaptureExplanation
from easyremote.client import Client
from easyremote.execution.explaining import explain_names, modules_needed
from easyremote.execution.shipped_modules import Bundle


def explain_cell(
    source: str,
    namespace: Mapping[str, Any],
    names: Sequence[str] = (),
    title: str = "the cell",
    client: Client | None = None,
) -> CaptureExplanation:
    """What the cell would bring along of this namespace: its `names`, or where none are given those that its code reads.
    `client`: which modules it ships.

    Raises UsageError for a cell that isn't Python.
    """
    plain = as_python(source)
    wanted = names or names_read(plain)
    values = {name: namespace[name] for name in wanted if name in namespace and not _is_ipythons(name)}
    return explain_names(title, plain, values, client.modules_for if client is not None else None)


def modules_for_cell(client: Client, source: str, names: Mapping[str, Any]) -> tuple[Bundle, ...]:
    """The modules that go along with a cell that is sent with these names: one bundle of them, or nothing.

    Raises UsageError where they can't be shipped.
    """
    shipments = client._connection.shipments
    if not shipments.is_used:
        return ()
    bundle = shipments.for_code(modules_needed(as_python(source), names)).bundle
    return (bundle,) if bundle is not None else ()


def as_python(source: str) -> str:
    """The cell without IPython's own syntax."""
    return TransformerManager().transform_cell(source)


def _is_ipythons(name: str) -> bool:
    return name.startswith("_") or name in ("In", "Out", "exit", "quit", "get_ipython", "display")


def names_read(source: str) -> list[str]:
    """Names that the code reads, in their order; none where it isn't Python."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load))
    return list(dict.fromkeys(node.id for node in nodes))
