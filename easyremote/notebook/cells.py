"""Runs the body of a `%%remote` cell on a node."""

from __future__ import annotations

import dataclasses
import hashlib
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from easyremote.calls import Call
from easyremote.client import Client
from easyremote.errors import UsageError
from easyremote.execution.place import Sent
from easyremote.notebook.display import NotebookPresenter, RemoteValue
from easyremote.notebook.dry_run import modules_for_cell
from easyremote.notebook.places import Parcel
from easyremote.presenting import Presenter
from easyremote.requirements import environment_of
from easyremote.runtime import python_minor, this_runtime
from easyremote.sandbox import sandboxed
from easyremote.wire import codec
from easyremote.wire.references import mentioning
from easyremote.wire.v1 import gateway_pb2 as pb

CLOSE_TIMEOUT_S = 2.0
"""A node that is too busy to close a session within this time keeps it."""


def submit_cell(
    client: Client,
    source: str,
    *,
    node: str,
    session_id: str,
    parcel: Parcel | None = None,
    cell_number: int = 0,
    bring_back: list[str] | None = None,
    name: str = "",
    requirements: Sequence[str] | None = None,
    python: str | None = None,
    options: Mapping[str, Any] | None = None,
    presenter: Callable[[], Presenter] = NotebookPresenter,
) -> Call[dict[str, Any]]:
    """Run `source` in the namespace of `session_id` on `node`. The call's result is what `take_outcome` takes.

    `parcel`: names that go along. `options`: of the call, as for `Client.with_options`. Where the session turns out to lack
    names, the cell doesn't run, and the result is {"wanted": names}.
    `requirements`: packages that the session is to have besides those that it was told before, `python`: which Python, see
    docs/environments.md. Where that changes what it has, it is started anew and has no names.
    """
    file = f"<cell {cell_number}>"
    # The magic's own line was the first of the cell: with a line in its place, line numbers there are those here.
    text = source if source.lstrip().startswith("%%") else f"# %%remote\n{source}"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    spec = pb.FunctionSpec(
        name=name or f"cell {cell_number}",
        version=hashlib.blake2b(text.encode(), digest_size=6).hexdigest(),
        environment=environment_of(requirements, python),
    )
    code = pb.Code(kind=pb.Code.KIND_CELL, spec=spec, python=python_minor(), cloudpickle=this_runtime().cloudpickle)
    parcel = parcel or Parcel({}, {}, {})
    with mentioning() as refs:  # a variable that is one brings its value to the cell
        modules = modules_for_cell(client, text, parcel.reads)
        payload = codec.encode((text, *modules, file, parcel.sent | _figures(), bring_back or []), "the cell")
    said = {"retries": 0, **(options or {}), "node": node or None, "label": spec.name}
    arguments = dataclasses.replace(codec.encode_arguments((), {}), refs=tuple((refs | parcel.refs).values()))
    return client.with_options(**said).start_call(spec.name, (code, payload), arguments, session_id, presenter)


def _figures() -> Sent:
    """In which formats the notebook shows figures, where it has matplotlib or said so."""
    config = sys.modules.get("matplotlib_inline.config")
    if config is None or not config.InlineBackend.initialized():
        return {}
    inline = config.InlineBackend.instance()
    return {"figures": {"formats": sorted(inline.figure_formats), "options": dict(inline.print_figure_kwargs)}}


def close_session(client: Client, node: str, session_id: str) -> None:
    """End the process that holds the session's namespace on this node. Raises what kept it from that."""
    code = pb.Code(kind=pb.Code.KIND_CLOSE_SESSION, spec=pb.FunctionSpec(name="close session"))
    options = client.with_options(node=node, label="close session", timeout=CLOSE_TIMEOUT_S, retries=0)
    nothing = codec.encode_arguments((), {})
    options.start_call("close session", (code, codec.encode(None)), nothing, session_id).result()


def take_outcome(outcome: dict[str, Any], namespace: dict[str, Any], stranger: str = "") -> Any:
    """Put what was brought back into the namespace; the value of the cell's last expression, or how it looks, or None.

    `stranger`: the node, where it isn't trusted to run code here.
    """
    namespace.update(outcome["names"])
    if "value" in outcome:
        return outcome["value"]
    if "bundle" not in outcome:
        return None
    return RemoteValue(sandboxed(outcome["bundle"], stranger) if stranger else outcome["bundle"])


def names_from(text: str | None) -> list[str]:
    """ "a, b" as a list of names. Raises UsageError for what isn't one."""
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if not name.isidentifier():
            raise UsageError(f"'{name}' is no variable's name; write -i a,b without spaces")
    return names


def check_names(names: list[str], namespace: Mapping[str, Any]) -> list[str]:
    """These names. Raises UsageError for one that the notebook doesn't have."""
    missing = [name for name in names if name not in namespace]
    if missing:
        raise UsageError(f"{', '.join(missing)} can't be sent (-i): this notebook has no such variable")
    return names
