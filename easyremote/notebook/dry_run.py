"""What a cell brings along besides its names: modules that are shipped; and what `%%remote --dry-run` shows of all of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from IPython.core.inputtransformer2 import TransformerManager

from easyremote.captures import CaptureExplanation
from easyremote.client import Client
from easyremote.execution.explaining import explain_names, modules_needed
from easyremote.execution.shipped_modules import Bundle
from easyremote.notebook.names import names_of
from easyremote.notebook.packing import own_names


def explain_cell(
    source: str,
    namespace: Mapping[str, Any],
    names: Sequence[str] = (),
    title: str = "the cell",
    client: Client | None = None,
    hidden: Mapping[str, Any] | None = None,
) -> CaptureExplanation:
    """What the cell would bring along of this namespace: its `names`, or where none are given those that its code reads.
    `client`: which modules it ships. `hidden`: names that IPython put there.

    Raises UsageError for a cell that isn't Python.
    """
    plain = as_python(source)
    wanted = names or own_names(namespace, names_of(source).reads, hidden or {})
    values = {name: namespace[name] for name in wanted if name in namespace}
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
