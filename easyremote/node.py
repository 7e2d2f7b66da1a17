"""`ComputeNode`: offers functions to the clients of a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import re
import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar, Unpack, overload

from easyremote import discovery, joining, lifetime, retrying, sealing
from easyremote.config import DRAIN_GRACE_S
from easyremote.errors import EasyRemoteError, UsageError
from easyremote.execution import capacity, functions
from easyremote.execution.approving import APPROVE_MODES, Approver, Terminal
from easyremote.execution.batching import BATCH_WAIT_S, declare
from easyremote.execution.confinement import Confinement
from easyremote.execution.sandbox import Sandbox, check
from easyremote.needs import FunctionNeeds, Size, of_function, offered
from easyremote.node_environments import why_not
from easyremote.retrying import RetryOn
from easyremote.security.audit import node_path, open_log
from easyremote.security.consent import CODE_MODES, consent_of
from easyremote.security.joining import is_invitation
from easyremote.serving import Engine, Registered
from easyremote.sizes import parse_size
from easyremote.transport.link import CONNECT_TIMEOUT_S
from easyremote.transport.loop import shared_loop
from easyremote.wire.v1 import gateway_pb2 as pb

F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["ComputeNode"]


class ComputeNode:
    """A process's offer of functions. It dials out to the gateway, so it may be behind NAT, and reconnects by itself.

    `gateway`: "host:port", or an invitation ("er1:…"), which is exchanged once for a credential that this machine keeps; without
    it the gateway is looked for as `Client` does. `node_id`: its name, unique at the gateway; made from the host's name when it
    isn't given. `allow_plaintext_network=True` has what goes to another machine go without TLS, so that whoever is on the way can
    read and change it. `slots`: calls that it runs at once (1 to 4096; default: the CPUs, at least 4).
    `labels`: facts for people and for choosing. `price`: what one second of one call costs, in a unit of your choice.
    `value_memory`: what values of refs may take here beyond those that running calls use, as bytes or as text ("8GiB"; default: a
    quarter of the machine's memory). `code`: whose code, and whose calls, it takes: "signed" takes only calls that are sealed and
    signed by a key in its `authorized_keys`; "any" takes all that the gateway brings; "none" likewise, but no code, only calls of
    the functions that are registered here; "auto" is "any" at your own gateway on this machine, and "signed" elsewhere.
    `approve`: "ask" shows code that is new here, and arguments that are more than data, at the terminal where the node was
    started, and runs them only after a yes. See docs/keys.md.

    What calls that say what they need may have of it, found by itself where nothing is said: `cpus` (processors), `memory`
    (bytes, or "64GiB"), `gpus` (how many, or a list of their indexes; 0: none), `gpu_memory` (of each GPU at most). See
    docs/resources.md.

    Of worker processes, in which runs what clients ship: `worker_memory`, what a call may take there that doesn't say itself what
    it needs (bytes, or "8GiB"; default: no limit); one that says it may take so much. `sandbox`: True, or a `Sandbox` that says
    what they see and reach; needs bubblewrap, and UsageError says where that can't be used. See docs/workers.md.

    `environments`: whether it builds Python environments with the packages that functions and cells ask for, with `uv`; None:
    where that is installed, and workers aren't in a sandbox without network. See docs/environments.md.

    `audit`: the file that tells what ran here and when, see docs/audit.md; True takes `audit-node-NAME.jsonl` in this user's
    state folder.
    """

    def __init__(
        self,
        gateway: str | None = None,
        node_id: str | None = None,
        *,
        token: str | None = None,
        allow_plaintext_network: bool = False,
        slots: int | None = None,
        cpus: float | None = None,
        memory: Size | None = None,
        gpus: int | Sequence[int] | None = None,
        gpu_memory: Size | None = None,
        labels: Mapping[str, str] | None = None,
        price: float = 0.0,
        value_memory: Size | None = None,
        worker_memory: Size | None = None,
        sandbox: Sandbox | bool = False,
        audit: str | os.PathLike[str] | bool | None = None,
        code: str = "auto",
        approve: str = "",
        environments: bool | None = None,
    ) -> None:
        if environments not in (None, True, False):
            raise UsageError(f"environments is True, False or None, not {environments!r}")
        self._environments = environments
        if code not in CODE_MODES:
            raise UsageError(f"code is one of {', '.join(map(repr, CODE_MODES))}, not {code!r}")
        if approve not in APPROVE_MODES:
            raise UsageError(f"approve is 'ask' or nothing, not {approve!r}")
        self._code = code
        self._approve = approve
        if slots is not None and not 1 <= slots <= 4096:
            raise UsageError(f"slots is a whole number from 1 to 4096, not {slots!r}")
        if node_id is not None and not (1 <= len(node_id) <= 200 and node_id.isprintable()):
            raise UsageError(f"a node's name has 1 to 200 printable characters, not {node_id[:60]!r}")
        if gateway is not None and not is_invitation(gateway):
            discovery.normalize(gateway)
        self._value_bytes = _quarter_of_memory() if value_memory is None else parse_size(value_memory, "value_memory")
        box = Sandbox() if sandbox is True else sandbox or None
        if box is not None:
            check(box)
        worker_bytes = None if worker_memory is None else parse_size(worker_memory, "worker_memory")
        self._confined = Confinement(box, worker_bytes)
        self._audit = audit
        self._offered = offered(cpus, memory, gpus, gpu_memory)
        self._gateway = gateway
        self._token = token
        self._allow_plaintext = allow_plaintext_network
        self._state = pb.NodeState(
            node_id=node_id or _default_name(),
            slots=slots or max(4, os.cpu_count() or 1),
            labels=dict(labels or {}),
            price=price,
        )
        self._functions: dict[str, Registered] = {}
        self._engine: Engine | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._drain_grace_s = DRAIN_GRACE_S

    # ---- what it offers ------------------------------------------------------------------------------------------

    @overload
    def register(
        self,
        function: F,
        *,
        name: str | None = None,
        load_balancing: bool = True,
        isolation: str = "thread",
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
        isolation: str = "thread",
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
        isolation: str = "thread",
        idempotent: bool = False,
        retries: int | None = None,
        retry_on: RetryOn | None = None,
        backoff: float | None = None,
        batch: int | None = None,
        batch_wait: float | str = BATCH_WAIT_S,
        batch_split: bool = True,
        **needs: Unpack[FunctionNeeds],
    ) -> Any:
        """Offer a function: plain, generator, `async def` or async generator. Works as a decorator with and without arguments,
        and returns the function as it is.

        `name`: what it is called by; its own name without it. `load_balancing`: False keeps calls that name no node on the node
        that offered it first. `isolation`: "thread" runs it in this process, "process" in a worker process, where it can be
        killed. After `serve` it takes effect at once: when this returns, calls find it. A name that is registered again is
        replaced for the calls from then on.

        For calls that don't say themselves: `retries`, how often one is run again (0: at most one run); `retry_on`, after
        which exceptions, besides a lost node; `backoff`, seconds before the first attempt after an error. `idempotent`: running
        it twice does no more than running it once, so it may be run again after any loss, and hedged.
        `batch`: one run takes up to so many calls (1 to 1024). Callers see an ordinary function; the function itself gets a list
        for each parameter and returns a list with a result for each call, where an exception fails that call alone.
        `batch_wait`: how long the first call of a batch waits for others at most, in seconds or as a text like "5ms".
        `batch_split`: when a run for several calls raises, each is run again alone; False fails all. See docs/batching.md.

        What each of its calls needs while it runs, so that the gateway sends no more than fit: `slots`, `cpus`, `memory`, `gpus`
        (whole ones, for it alone), `gpu_memory` (of each of these; without `gpus` a part of one that others share), `labels`
        that the node must have. `max_concurrency`: how many of its calls are at work here at once. See docs/resources.md.

        `requirements`: packages that it runs with, such as "scikit-learn==1.7", in worker processes; `python`: with which patch
        version of this Python, "3.12.4". Nothing else that is installed here is there then. They are built into an environment
        at the first call, once for all functions that say the same. See docs/environments.md.

        Raises UsageError for what isn't a function, has no name, or has a bad one.
        """
        wanted = of_function(needs)
        rule = retrying.rule(retries, retry_on, backoff)
        if function is None:
            return functools.partial(
                self.register,
                name=name,
                load_balancing=load_balancing,
                isolation=isolation,
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
        if isolation not in ("thread", "process"):
            raise UsageError(f"isolation is 'thread' or 'process', not {isolation!r}")
        chosen = functions.check_name(name or functions.function_name(function))
        declared = {"load_balancing": load_balancing, "idempotent": idempotent, "retry": rule, **wanted}
        spec = functions.spec_of(function, chosen, version=secrets.token_hex(6), **declared)
        declare(spec, function, batch, batch_wait, batch_split)
        has_environment = spec.HasField("environment")
        if has_environment and (why := why_not(self._environments, self._confined)):
            raise UsageError(
                f"'{chosen}' says which packages it needs, and this node builds no environments: {why}. "
                "Install uv (pip install 'easyremote[environments]'), or leave out requirements and python"
            )
        registered = Registered(spec, function)
        if isolation == "process" or has_environment:
            registered = Registered(spec, code=functions.ship(function, pb.Code.KIND_CALLABLE, spec))
        with self._lock:
            self._functions[chosen] = registered
            self._announce()
        return function

    def unregister(self, name: str) -> None:
        """Take a function away; calls that are running end as they would have. Raises UsageError when there is none."""
        with self._lock:
            if self._functions.pop(name, None) is None:
                raise UsageError(f"node '{self.node_id}' offers no function '{name}'")
            self._announce()

    @property
    def functions(self) -> list[str]:
        """Names of what is offered now."""
        return sorted(self._functions)

    # ---- its life ------------------------------------------------------------------------------------------------

    def serve(
        self,
        blocking: bool = False,
        *,
        connect_timeout: float = CONNECT_TIMEOUT_S,
        warm: bool = False,
        drain_grace: float = DRAIN_GRACE_S,
    ) -> ComputeNode:
        """Connect to the gateway and take calls. Returns when clients find the functions, and the script goes on; with
        `blocking=True` it returns after `stop`, Ctrl-C or SIGTERM.

        A script that only serves a node to a gateway elsewhere stays alive after its last line until Ctrl-C or SIGTERM. Serving
        again does nothing. `warm=True` starts a worker process ahead of the first call that needs one. SIGTERM drains the node
        first, see `drain`, for at most `drain_grace` seconds; another SIGTERM or Ctrl-C then stops it at once.

        Raises GatewayNotFound, GatewayUnreachable (after `connect_timeout` seconds), AuthError, DuplicateNode.
        """
        if not drain_grace >= 0:
            raise UsageError(f"drain_grace is a number of seconds, not {drain_grace!r}")
        self._drain_grace_s = float(drain_grace)
        if not blocking:
            self._ensure_started(connect_timeout, warm)
            return self
        with lifetime.until_told_to_end() as told:
            self._ensure_started(connect_timeout, warm)
            self._wait_stopped()
        self._end(told)
        return self

    def _end(self, told: lifetime.Told) -> None:
        if told.to_terminate:
            self.drain_as_told()
        self.stop()

    def drain_as_told(self) -> None:
        """SIGTERM came: `drain` for as long as `serve` was told, or until another one or Ctrl-C comes."""
        with lifetime.until_told_to_end():
            self.drain(self._drain_grace_s)

    def _ensure_started(self, connect_timeout: float, warm: bool) -> None:
        with self._lock:
            if self._engine is None:
                self._start(connect_timeout, warm)

    def _start(self, connect_timeout: float, warm: bool) -> None:
        endpoint = joining.find(self._gateway, self._token, self._allow_plaintext, as_node=True)
        shared_loop.hold()
        try:
            self._engine = shared_loop.run(self._open(endpoint, connect_timeout, warm))
        except BaseException:
            shared_loop.release()
            raise
        self._stopped.clear()
        lifetime.opened(self, self.stop)
        is_elsewhere = functools.partial(_is_elsewhere, endpoint.address)
        lifetime.serving(self, is_elsewhere, self.drain_as_told)

    async def _open(self, endpoint: discovery.Endpoint, connect_timeout: float, warm: bool) -> Engine:
        said = self._offered
        found = await asyncio.to_thread(capacity.find, said.millicpus, said.memory, said.gpus, said.gpu_memory)
        self._state.capacity.CopyFrom(found)
        approver = Approver(self.node_id, Terminal()) if self._approve else None
        consent = await asyncio.to_thread(consent_of, self.node_id, self._code, endpoint.is_own)
        self._state.sealed_only = consent.sealed_only or (sealing.is_forced() and consent.identity is not None)
        self._state.identity = consent.identity.public.data if consent.identity is not None else b""
        audit = open_log(self._audit, node_path(discovery.state_folder(), self.node_id))
        engine = Engine(
            self.node_id,
            endpoint,
            self._state,
            self._value_bytes,
            self._confined,
            consent,
            approver,
            self._environments,
        )
        engine.functions = self._functions
        engine.audit = audit
        await engine.start(connect_timeout)
        if warm:
            engine.prepare_worker()
        return engine

    def wait(self) -> None:
        """Wait until the node is stopped: by `stop`, Ctrl-C or SIGTERM, the latter two when called in the main thread.

        SIGTERM drains it first, as `serve` says.
        """
        with lifetime.until_told_to_end() as told:
            self._wait_stopped()
        self._end(told)

    def _wait_stopped(self) -> None:
        while not self._stopped.wait(3600):
            pass

    def drain(self, timeout: float = DRAIN_GRACE_S) -> bool:
        """Stop without harm: take no new calls, let those that run end, and have their results collected.

        Calls that were sent here and haven't begun go to other nodes, which doesn't count as one of their attempts. What still
        runs after `timeout` seconds is stopped and counts as lost: it goes to another node where its `retries` allow that, and
        ends with CallLost otherwise. Returns whether all of it ended by itself; the node is stopped then in either case.

        Raises UsageError for a timeout that is no number of seconds.
        """
        if not timeout >= 0:
            raise UsageError(f"timeout is a number of seconds, not {timeout!r}")
        engine = self._engine
        if engine is None or shared_loop.is_parents:
            return True
        has_ended = shared_loop.run(engine.drain(timeout))
        self.stop()
        return has_ended

    def stop(self) -> None:
        """Stop what runs, tell the gateway, disconnect, all at once; `drain` waits. Stopping again does nothing."""
        if shared_loop.is_parents:
            return
        with self._lock:
            engine, self._engine = self._engine, None
            if engine is None:
                self._stopped.set()
                return
            lifetime.closed(self)
            try:
                shared_loop.run(engine.stop("it was stopped"))
            finally:
                shared_loop.release()
                self._stopped.set()

    @property
    def node_id(self) -> str:
        """Its name."""
        return self._state.node_id

    @property
    def code(self) -> str:
        """Whose code it takes: "signed", "any" or "none"; before it serves, perhaps "auto"."""
        engine = self._engine
        return engine.code if engine is not None else self._code

    @property
    def fingerprint(self) -> str:
        """Of the key that clients know it by, as they are shown it; empty where its calls aren't sealed."""
        from easyremote.security.identity import fingerprint_of

        return fingerprint_of(self._state.identity[:32]) if self._state.identity else ""

    @property
    def slots(self) -> int:
        """Calls that it runs at once."""
        return self._state.slots

    @property
    def is_serving(self) -> bool:
        return self._engine is not None

    @property
    def is_connected(self) -> bool:
        """Whether the gateway can be reached at this moment."""
        engine = self._engine
        return engine is not None and engine.is_connected

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new calls: it is about to stop, or somebody asked the gateway to drain it."""
        engine = self._engine
        return engine is not None and engine.is_draining

    @property
    def open_calls(self) -> int:
        """Calls that run here, wait here, or have an end that their client hasn't collected yet."""
        engine = self._engine
        return engine.held_count if engine is not None else 0

    @property
    def last_error(self) -> EasyRemoteError | None:
        """Why the gateway can't be reached, or won't have the node, at this moment; it goes on trying."""
        engine = self._engine
        return engine.last_error if engine is not None and not engine.is_connected else None

    @property
    def address(self) -> str:
        """The gateway's address; empty before `serve`."""
        engine = self._engine
        return engine.address if engine is not None else ""

    def __enter__(self) -> ComputeNode:
        return self.serve()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"serving {self.address}" if self.is_serving else "not serving"
        return f"<ComputeNode {self.node_id}: {len(self._functions)} functions, {state}>"

    def _announce(self) -> None:
        """Make a change of what is offered known, while the gateway can be reached; else it is told on reconnecting."""
        engine = self._engine
        if engine is None:
            return
        if engine.is_connected:
            with contextlib.suppress(TimeoutError):
                shared_loop.run(engine.offers_changed(), 5.0)
        else:
            shared_loop.start(engine.offers_changed())


def _is_elsewhere(address: str) -> bool:
    """Whether its gateway isn't in this process."""
    return not discovery.is_local_gateway(address)


def _quarter_of_memory() -> int:
    import psutil

    return psutil.virtual_memory().total // 4


def _default_name() -> str:
    host = re.sub(r"[^A-Za-z0-9-]", "-", socket.gethostname().split(".")[0])[:40] or "node"
    return f"{host}-{secrets.token_hex(3)}"
