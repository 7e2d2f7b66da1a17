"""`RemoteNode`: a node as a place to register functions on, from elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, overload

from easyremote import foreign, retrying
from easyremote.calls import Call
from easyremote.errors import NodeGone, UsageError
from easyremote.execution import functions as introspect
from easyremote.execution.batching import BATCH_WAIT_S, declare
from easyremote.execution.environments.uv import BUILD_TIMEOUT_S
from easyremote.model import NodeInfo
from easyremote.needs import FunctionNeeds, of_function
from easyremote.options import CallOptions
from easyremote.registering import Registration
from easyremote.retrying import RetryOn
from easyremote.runtime import random_id
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.client import Client

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["RemoteNode"]


class RemoteNode:
    """One or several nodes as a place to register functions on and to call. Made by `Client.node`.

    Made without names it stands for all nodes that are connected whenever it is used.
    """

    def __init__(self, client: Client, node_ids: tuple[str, ...] = ()) -> None:
        self._client = client
        self._names = node_ids

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Their names. Of all nodes: those that are connected now."""
        return self._names or tuple(node.node_id for node in self._client.list_nodes() if node.status == "connected")

    def _wanted(self) -> tuple[str, ...]:
        names = self.node_ids
        if not names:
            raise NodeGone(
                f"no node is connected to {self._client.address}; `easyremote join` on a machine makes it one, with the line "
                "that `%easyremote invite` (client.invite()) gives"
            )
        return names

    @overload
    def register(
        self,
        function: F,
        *,
        name: str | None = None,
        load_balancing: bool = True,
        idempotent: bool = False,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
        backoff: float | None = None,
        batch: int | None = None,
        batch_wait: float | str = BATCH_WAIT_S,
        batch_split: bool = True,
        **needs: Unpack[FunctionNeeds],
    ) -> F: ...
    @overload
    def register(
        self,
        *,
        name: str | None = None,
        load_balancing: bool = True,
        idempotent: bool = False,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
        backoff: float | None = None,
        batch: int | None = None,
        batch_wait: float | str = BATCH_WAIT_S,
        batch_split: bool = True,
        **needs: Unpack[FunctionNeeds],
    ) -> Callable[[F], F]: ...
    def register(
        self,
        function: Any = None,
        *,
        name: str | None = None,
        load_balancing: bool = True,
        idempotent: bool = False,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
        backoff: float | None = None,
        batch: int | None = None,
        batch_wait: float | str = BATCH_WAIT_S,
        batch_split: bool = True,
        **needs: Unpack[FunctionNeeds],
    ) -> Any:
        """Ship a function there, with what it needs from here. It runs in worker processes, by its name, until the node ends.

        Works as a decorator, with and without arguments, and returns the function as it is. Registering a name again replaces
        it for the calls from then on: on all of these nodes, or, where one refuses or is away, on none. `idempotent`, `retries`,
        `retry_on` and `backoff` hold for calls that don't say themselves, as with `ComputeNode.register`; with `batch`, one run
        takes several calls, as there. So does what each call needs: `slots`, `cpus`, `memory`, `gpus`, `gpu_memory`, `labels`,
        `max_concurrency`. `requirements` and `python` say what it runs with there; the environment is built before this returns.
        Raises UnpicklableError, EnvironmentMismatch, EnvironmentFailed.
        """
        rule, wanted = retrying.rule(retries, retry_on, backoff), of_function(needs)
        if function is None:
            return functools.partial(
                self.register,
                name=name,
                load_balancing=load_balancing,
                idempotent=idempotent,
                retries=retries,
                retry_on=retry_on,
                backoff=backoff,
                batch=batch,
                batch_wait=batch_wait,
                batch_split=batch_split,
                **needs,
            )
        if not callable(function):
            raise UsageError(f"only functions can be registered, not a {type(function).__name__}")
        chosen = introspect.check_name(name or introspect.function_name(function))
        spec = introspect.spec_of(
            function, chosen, shipped=True, load_balancing=load_balancing, idempotent=idempotent, retry=rule, **wanted
        )
        declare(spec, function, batch, batch_wait, batch_split)
        self._offer(function, spec)
        return function

    def _offer(self, function: Callable[..., Any], declared: pb.FunctionSpec) -> None:
        """Have all these nodes offer it, or, where one of them refuses or is away, leave all as they are."""
        node_ids = self._wanted()
        spec = pb.FunctionSpec()
        spec.CopyFrom(declared)
        name = spec.name
        is_staged = len(node_ids) > 1
        if is_staged:
            spec.staged = random_id().hex()
        kind = pb.Code.KIND_STAGE if is_staged else pb.Code.KIND_REGISTER
        shipped = introspect.ship(function, kind, spec, self._client.modules_for)
        self._client.check_sent(name, shipped[1].size, function, {})
        self._everywhere(node_ids, f"register {name}", shipped)
        if is_staged:
            staged = pb.FunctionSpec(name=name, staged=spec.staged)
            commit = (pb.Code(kind=pb.Code.KIND_COMMIT, spec=staged), codec.encode(None))
            self._everywhere(node_ids, f"register {name}", commit)
        self._client.forget_signature(name)
        self._client.registrations.add(Registration(function, spec, functools.partial(self._offer, function, declared)))

    def unregister(self, name: str) -> None:
        """Take a function away. Calls that are running end as they would have."""
        code = pb.Code(kind=pb.Code.KIND_UNREGISTER, spec=pb.FunctionSpec(name=name))
        self._everywhere(self._wanted(), f"unregister {name}", (code, codec.encode(None)))
        self._client.forget_signature(name)
        self._client.registrations.remove(name)

    def call(self, function: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """`Client.call`, here. With several nodes: on any of them that the gateway chooses."""
        return self.submit(function, *args, **kwargs).result()

    def submit(self, function: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Call[Any]:
        """`Client.submit`, here."""
        client = self._client
        if len(self._names) == 1:
            client = client.with_options(node=self._names[0])
        return client.submit(function, *args, **kwargs)

    @property
    def node_id(self) -> str:
        """The names, with commas between them."""
        return ",".join(self.node_ids)

    @property
    def functions(self) -> list[str]:
        """Names of the functions that are offered there now."""
        names = {name for node_id in self.node_ids for name in self._client.get_node_status(node_id).functions}
        return sorted(names)

    def status(self) -> list[NodeInfo]:
        """What the gateway knows of these nodes."""
        return [self._client.get_node_status(node_id) for node_id in self.node_ids]

    def __repr__(self) -> str:
        what = {0: "All nodes", 1: "Node"}.get(len(self._names), "Nodes")
        names = "".join(f" {foreign.name(name)}" for name in [",".join(self._names)] if name)
        return f"<{what}{names} at {self._client.address}>"

    def _everywhere(self, node_ids: tuple[str, ...], label: str, code: tuple[pb.Code, codec.Encoded]) -> None:
        nothing = codec.encode_arguments((), {})
        timeout_s = BUILD_TIMEOUT_S if code[0].spec.HasField("environment") else 60.0
        options = [
            CallOptions(timeout=timeout_s, node=node_id, label=label) for node_id in node_ids
        ]  # none of the client's
        calls = [self._client.with_exactly(own).start_call(label, code, nothing) for own in options]
        for call in calls:
            call.result()
