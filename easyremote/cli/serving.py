"""`easyremote join` and `easyremote node`: a node in the foreground."""

from __future__ import annotations

import difflib
import importlib
import inspect
import operator
import os
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from easyremote.cli.exits import tell
from easyremote.cli.signals import StopSignals
from easyremote.config import DRAIN_GRACE_S
from easyremote.errors import GatewayNotFound, GatewayUnreachable, UsageError
from easyremote.execution.measure import measure
from easyremote.node import ComputeNode
from easyremote.transport.link import CONNECT_TIMEOUT_S
from easyremote.wire.v1 import gateway_pb2 as pb

_LOOK_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """What both commands take. `wait_s`: how long a gateway that isn't there yet is waited for. `drain_grace_s`: how long calls
    may go on after SIGTERM."""

    name: str | None
    slots: int | None
    labels: dict[str, str]
    price: float
    wait_s: float
    drain_grace_s: float = DRAIN_GRACE_S
    offered: dict[str, Any] = field(default_factory=dict[str, Any])  # more arguments of ComputeNode
    workers: dict[str, Any] = field(default_factory=dict[str, Any])  # likewise


def run(gateway: str | None, functions: Mapping[str, Callable[..., Any]], options: NodeOptions) -> None:
    """A node, until a signal ends it."""
    with StopSignals() as signals:
        node = ComputeNode(
            gateway,
            options.name,
            slots=options.slots,
            labels=options.labels,
            price=options.price,
            **options.offered,
            **options.workers,
        )
        machine = measure()
        for name, function in functions.items():
            node.register(function, name=name)
        try:
            _connect(node, options)
            signals.ready()
            print(_summary(node, functions, options, machine), flush=True)
            if signals.wait(_Watch(node).look) == signal.SIGTERM:
                _drain(node, options.drain_grace_s)
        finally:
            node.stop()
    tell(f"Node '{node.node_id}' has stopped.")


def _drain(node: ComputeNode, grace_s: float) -> None:
    """SIGTERM: what runs may end."""
    count = node.open_calls
    if count and grace_s:
        tell(
            f"Node '{node.node_id}' takes no new calls, and waits up to {grace_s:g} s for {count} that it has. "
            "Ctrl-C, or SIGTERM again, stops it at once."
        )
    node.drain_as_told()


def _connect(node: ComputeNode, options: NodeOptions) -> None:
    wait_s, grace_s = options.wait_s, options.drain_grace_s
    until = time.monotonic() + wait_s
    try:
        node.serve(warm=True, drain_grace=grace_s)
        return
    except (GatewayNotFound, GatewayUnreachable) as error:
        if wait_s <= CONNECT_TIMEOUT_S:
            raise
        tell(f"{error.message}\nWaiting for a gateway for {wait_s:g} s ...")
    while True:
        left = until - time.monotonic()
        try:
            node.serve(warm=True, connect_timeout=max(left, _LOOK_EVERY_S), drain_grace=grace_s)
            return
        except GatewayNotFound:  # nobody has told an address yet
            if left <= 0:
                raise
            time.sleep(_LOOK_EVERY_S)


class _Watch:
    """Tells when the connection is lost and when it is back."""

    def __init__(self, node: ComputeNode) -> None:
        self._node = node
        self._was_connected = True

    def look(self) -> None:
        is_connected = self._node.is_connected
        if is_connected != self._was_connected:
            self._was_connected = is_connected
            at = f"the gateway at {self._node.address}"
            tell(f"Connected to {at} again." if is_connected else f"The connection to {at} is lost; trying again ...")


# ---- what it offers ----------------------------------------------------------------------------------------------------


def _summary(
    node: ComputeNode, functions: Mapping[str, Callable[..., Any]], options: NodeOptions, machine: pb.Load
) -> str:
    memory = machine.memory_total_bytes / 2**30
    facts = [
        ("Machine", f"{machine.cpus} CPUs, {memory:.1f} GiB memory, Python {platform.python_version()}"),
        *(("GPU", f"{gpu.index}: {gpu.name}, {gpu.memory_total_bytes / 2**30:.1f} GiB") for gpu in machine.gpus),
        ("Slots", f"{node.slots} calls at once"),
    ]
    if options.offered:
        offered = ", ".join(f"{name}={value}" for name, value in options.offered.items())
        facts.append(("Offers", f"{offered}; else what is found"))
        if missing := _missing_gpus(options.offered.get("gpus", 0), {gpu.index for gpu in machine.gpus}):
            facts.append(("Missing", f"{missing}: NVML shows no such GPU here, so no call gets it"))
    if held := _held(options.workers):
        facts.append(("Workers", held))
    if options.labels:
        facts.append(("Labels", ", ".join(f"{key}={value}" for key, value in options.labels.items())))
    if options.price:
        facts.append(("Price", f"{options.price:g} for each second of a call"))
    facts += [("Function", f"{name}{_signature(function)}") for name, function in functions.items()]
    facts.append(("Also takes" if functions else "Takes", _takes(node)))
    facts += [("Key", key) for key in [node.fingerprint] if key]
    lines = "\n".join(f"  {key:12}{text}" for key, text in facts)
    return f"Node '{node.node_id}' joined the gateway at {node.address}\n\n{lines}\n\nCtrl-C stops the node."


def _held(workers: Mapping[str, Any]) -> str:
    """How worker processes are held, for people."""
    said: list[str] = []
    if box := workers.get("sandbox"):
        said.append("in a sandbox with the network" if box.network else "in a sandbox without network")
    if memory := workers.get("worker_memory"):
        said.append(f"{memory} of memory for a call that doesn't say what it needs")
    return ", ".join(said)


def _takes(node: ComputeNode) -> str:
    """Whose code."""
    return {
        "signed": "calls, functions and notebook cells that are sealed by keys it trusts (easyremote keys)",
        "none": "no code, only calls of these functions",
    }.get(node.code, "functions and notebook cells that clients ship to it")


def _missing_gpus(said: int | Sequence[int], there: Collection[int]) -> str:
    """Which of the GPUs that the owner named aren't there, for people."""
    if isinstance(said, int):
        return f"{said - len(there)} of {said} GPUs" if said > len(there) else ""
    absent = [str(index) for index in said if index not in there]
    return f"GPU {', '.join(absent)}" if absent else ""


def _signature(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return "(...)"


# ---- functions from modules --------------------------------------------------------------------------------------------


def load_functions(targets: Iterable[str]) -> dict[str, Callable[..., Any]]:
    """Functions by the name they are to be called by, from `module:function` or `module:function=name`.

    Raises UsageError for what can't be found or isn't a function, and for a name that comes twice.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    functions: dict[str, Callable[..., Any]] = {}
    for target in targets:
        place, _, public_name = target.partition("=")
        module_name, colon, path = place.partition(":")
        if not (module_name and colon and path) or target.endswith("="):
            raise UsageError(
                f"'{target}' names no function; write module:function, e.g. recipes:train, or recipes:train=train_model"
            )
        name = public_name or path.rpartition(".")[2]
        if name in functions:
            raise UsageError(f"two functions would be called '{name}'; give one another name: {place}=other_name")
        functions[name] = _find(_import(module_name), path)
    return functions


def _import(module_name: str) -> Any:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise _broken(module_name, error) from None
        raise UsageError(
            f"there is no module '{module_name}': neither in {os.getcwd()} nor where it is installed"
        ) from None
    except Exception as error:
        raise _broken(module_name, error) from None


def _broken(module_name: str, error: Exception) -> UsageError:
    """The module is there but raised; its own lines say where."""
    tb = error.__traceback__
    while tb is not None and tb.tb_frame.f_code.co_filename in (__file__, importlib.__file__):
        tb = tb.tb_next
    while tb is not None and tb.tb_frame.f_code.co_filename.startswith("<frozen importlib"):
        tb = tb.tb_next
    tell("".join(traceback.format_exception(type(error), error, tb)).rstrip())
    return UsageError(f"the module '{module_name}' can't be imported: {type(error).__name__}")


def _find(module: Any, path: str) -> Callable[..., Any]:
    try:
        function = operator.attrgetter(path)(module)
    except AttributeError:
        public = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        close = difflib.get_close_matches(path, public, 3)
        hint = f"; did you mean {' or '.join(close)}?" if close else ""
        raise UsageError(f"the module '{module.__name__}' has no '{path}'{hint}") from None
    if not callable(function):
        raise UsageError(f"'{path}' in the module '{module.__name__}' is a {type(function).__name__}, not a function")
    return function
