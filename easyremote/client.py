"""`Client`: makes calls."""

from __future__ import annotations

import copy
import queue
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from easyremote import displaying, hedging, interrupts, jobs, joining, needs
from easyremote.bundling import CallTime, Target
from easyremote.calls import BESIDE_EVERY_S, Call
from easyremote.captures import CaptureExplanation, ShippedModule
from easyremote.connection import Connection
from easyremote.errors import BadArguments, FunctionNotFound, NodeGone, NoNodeAvailable, SendLimitError, UsageError
from easyremote.execution import functions as introspect
from easyremote.execution.context import current
from easyremote.execution.explaining import explain_function, too_large
from easyremote.execution.failure import rebuild
from easyremote.jobs import Job
from easyremote.mapping import MAP_WINDOW, encode_task, ordered
from easyremote.model import Explanation, FunctionInfo, GatewayInfo, JobInfo, NodeInfo, Overview, TokenInfo
from easyremote.options import CallOptions
from easyremote.presenting import Presenter
from easyremote.refs import Ref
from easyremote.registering import Registrations
from easyremote.remote_function import RemoteFunction
from easyremote.remote_node import RemoteNode
from easyremote.runtime import python_minor, random_id
from easyremote.shipping import Shipment
from easyremote.sizes import parse_size, parse_span
from easyremote.trusting import Results
from easyremote.views import function_info, gateway_info, node_info, overview, token_info
from easyremote.waiting import explanation_of
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

__all__ = ["Client"]


class Client:
    """A connection to a gateway that makes calls. Thread-safe; one per process is normal.

    `gateway`: "host:port", or an invitation ("er1:…"), which is exchanged once for a credential that this machine keeps; without
    it the gateway is looked for in EASYREMOTE_ADDRESS, this process, the connection file of this user, and the configuration
    folder. `token`: what opens it; found likewise for a gateway of this machine, or one that was joined. What goes to another
    machine goes in TLS; `allow_plaintext_network=True` has it go unprotected.

    `results`: what it takes from nodes. Whoever loads a pickle runs what its sender likes. So "auto" loads pickles only where the
    gateway is this user's own, or a node that the client trusts has sealed them, and has results come as plain data elsewhere
    (docs/plain-data.md); "pickle" loads them from any node of this gateway; "plain" from none. Arguments are pickles, or plain
    data where the token allows calls and not code.

    Raises GatewayNotFound or GatewayUnreachable within 2 s (10 s over a slow network), AuthError when the token is refused,
    UntrustedGateway when what answers isn't the gateway that was joined, or nobody vouches for its certificate.
    """

    def __init__(
        self,
        gateway: str | None = None,
        *,
        token: str | None = None,
        results: Results = "auto",
        allow_plaintext_network: bool = False,
    ) -> None:
        from easyremote import lifetime

        self._connection = Connection(joining.find(gateway, token, allow_plaintext_network), results)
        self._options = CallOptions()
        self._presenter: Callable[[], Presenter] | None = None
        self._cancel, self._taken = self._connection.cancel, self._connection.taken
        self._explain_waiting = self._connection.explain_waiting
        self._known: dict[str, introspect.KnownFunction] = {}
        self._times: dict[str, CallTime] = {}
        self._targets: dict[str, tuple[pb.FunctionSpec, Target]] = {}
        self.registrations = Registrations(self.modules_for)
        self._hedged: dict[str, hedging.Durations] = {}
        lifetime.client_made()

    # ---- calling -------------------------------------------------------------------------------------------------

    @overload
    def call(self, function: str, *args: Any, **kwargs: Any) -> Any: ...
    @overload
    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R: ...
    def call(self, function: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function on a node and wait for its result. A generator function gives the list of its items.

        `function`: a registered name, or a callable, which is shipped and runs in a worker process there.

        Raises what the function raised, with the remote traceback as cause; FunctionNotFound, BadArguments, NoNodeAvailable,
        CallLost and the other errors of `easyremote.errors`. Ctrl-C cancels the call.
        """
        return self._submit(function, args, kwargs, detach=False).result()

    @overload
    def submit(self, function: str, *args: Any, **kwargs: Any) -> Call[Any]: ...
    @overload
    def submit(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Call[R]: ...
    def submit(self, function: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Call[Any]:
        """The same without waiting: a handle that is a future, an awaitable and an iterator.

        Arguments are taken as they are now; what is changed in them later isn't seen by the function.
        """
        return self._submit(function, args, kwargs, detach=True)

    @overload
    def submit_job(self, function: str, *args: Any, **kwargs: Any) -> Job[Any]: ...
    @overload
    def submit_job(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> Job[R]: ...
    def submit_job(self, function: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Job[Any]:
        """`submit` for a call that outlives this client and the gateway: the same as `with_options(durable=True).submit`.

        Returns when the gateway has it on disk. It waits for a node, for days if it has to, and is run again like any call when a
        node is lost. `client.job(id)` finds it again, from any process.

        Raises JobsUnavailable when the gateway keeps no jobs, or its disk takes nothing; OverloadedError at its bounds.
        """
        job = self.with_options(durable=True)._submit(function, args, kwargs, detach=False)
        assert isinstance(job, Job)
        return job

    def invite(
        self,
        role: str = "node",
        *,
        expires: float | str = joining.DEFAULT_EXPIRY_S,
        uses: int = 1,
        name: str = "",
        functions: Iterable[str] = (),
        nodes: Iterable[str] = (),
    ) -> str:
        """An invitation of the gateway, as `Server.invite` makes it. Raises AuthError when this client's token may not
        administer, and UsageError."""
        return self._connection.invite(joining.request(role, expires, uses, name, functions, nodes)).format()

    def submit_jobs(self, function: str | Callable[..., Any], *iterables: Iterable[Any]) -> list[Job[Any]]:
        """A job for each tuple of arguments, as `map` makes calls. Returns when all are on the gateway's disk.

        Raises what `submit_job` raises; jobs that were taken before stay then.
        """
        if not iterables:
            raise UsageError("submit_jobs needs at least one iterable of arguments")
        target = None
        calls: list[tuple[Target, bytes | codec.Encoded]] = []
        client = self.with_options(durable=True)
        make = client._map_target(function)
        for args in zip(*iterables, strict=False):
            target = target or make(args)
            calls.append((target, encode_task(args, client._connection.encoding)))
        return client._keep(calls) if calls else []

    def _submit(
        self, function: str | Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], detach: bool
    ) -> Call[Any]:
        if isinstance(function, str):
            try:
                known = self._check_arguments(function, args, kwargs)
            except BadArguments as error:
                if "durable" in kwargs:
                    raise BadArguments(
                        f"{error.message}. For a job: submit_job(...), or with_options(durable=True)"
                    ) from None
                raise
            self._check_kept(known.spec)
            small = self._connection.encoding.small(args, kwargs)
            if small is not None:
                return self._start(self._target(known.spec), small)
            code = None
            hedge = self._hedging(known.spec)
        elif callable(function):
            known = introspect.KnownFunction(self._spec_of(function))
            known.check_arguments(args, kwargs)
            self._check_kept(known.spec)
            code = self._ship(function, known.spec)
            hedge = self._hedging(known.spec, code[0].digest)
        else:
            raise UsageError(f"a function is called by its name or is a callable, not a {type(function).__name__}")
        arguments = self._connection.encoding.arguments(args, kwargs, known.positional_names)
        named = {**dict(zip(known.positional_names, args, strict=False)), **kwargs}
        self.check_sent(known.spec.name, arguments.size + (code[1].size if code is not None else 0), function, named)
        if detach:
            arguments = arguments.detached()
            code = (code[0], code[1].detached()) if code is not None else None
        return self.start_call(known.spec.name, code, arguments, hedge=hedge)

    def stream(self, function: str | Callable[..., Any], *args: Any, **kwargs: Any) -> Call[Any]:
        """Each item of a generator function as soon as it is produced: `for` and `async for` alike.

        Leaving the loop early stops the generator. A plain function is a stream of one.
        """
        return self.submit(function, *args, **kwargs)

    call_stream = stream

    def call_node(self, node_id: str, function: str, *args: Any, **kwargs: Any) -> Any:
        """`call` on one node. Raises NodeGone when it isn't connected."""
        return self.with_options(node=node_id).call(function, *args, **kwargs)

    def call_with_config(self, function: str, config: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """`call` with options as a mapping, e.g. {"strategy": "cost_aware", "cost_limit": 5.0}.

        Raises UsageError for an unknown option, or a strategy that the gateway doesn't know, listing the known ones.
        """
        return self.with_options(**dict(config)).call(function, *args, **kwargs)

    def map(
        self, function: str | Callable[..., Any], *iterables: Iterable[Any], as_completed: bool = False
    ) -> Iterator[Any]:
        """Call the function for each tuple of arguments, spread over the nodes, and yield the results.

        Results come in the order of the arguments, or with `as_completed=True` as they end. Inputs are read as they are needed.
        The first error is raised where its result would come, and the calls that are still open are cancelled.
        """
        if not iterables:
            raise UsageError("map needs at least one iterable of arguments")
        if self._options.durable:
            raise UsageError("map makes no jobs; submit_jobs does, and takes the same arguments")
        if as_completed:
            results = _as_completed(self._starter(function), zip(*iterables, strict=False))
        else:
            arguments = zip(*iterables, strict=False)
            results = ordered(self._connection, self._map_target(function), self._new_silent, arguments)
        return interrupts.loops.began(results)

    def _map_target(self, function: str | Callable[..., Any]) -> Callable[[tuple[Any, ...]], Target]:
        """The target of a map, made and checked with the first of its arguments."""

        def named(args: tuple[Any, ...]) -> Target:
            assert isinstance(function, str)
            known = self._check_arguments(function, args, {})
            self._check_kept(known.spec)
            return self._target(known.spec)

        if isinstance(function, str):
            return named
        spec = self._spec_of(function)
        self._check_kept(spec)
        options = self._wire_options()
        options.label = options.label or spec.name
        code = self._ship(function, spec)
        may_bundle = spec.kind == pb.FUNCTION_KIND_FUNCTION and self._options.may_bundle
        target = Target(spec.name, options, (code[0], code[1].detached()), may_bundle)
        target.hedging = self._hedging(spec, code[0].digest)
        return lambda _: target

    def _starter(self, function: str | Callable[..., Any]) -> Callable[[tuple[Any, ...]], Call[Any]]:
        make = self._map_target(function)
        target: Target | None = None

        def begin(args: tuple[Any, ...]) -> Call[Any]:
            nonlocal target
            target = target or make(args)
            call = self._new_silent(target.title)
            self._connection.submit(call, target, encode_task(args, self._connection.encoding))
            return call

        return begin

    def put(self, value: T) -> Ref[T]:
        """Take a value as it is now, for calls that need it: a handle that stands for it in their arguments.

        Nothing is sent yet. A node fetches the value with the first call that needs it, once, and keeps it for the others. Values
        that are equal, byte for byte, are one. Arrays come to a function read-only.

        Raises UnpicklableError, OverloadedError where this client holds 10,000 refs.
        """
        return self._connection.refs.put(value)

    def _ship(self, function: Callable[..., Any], spec: pb.FunctionSpec) -> tuple[pb.Code, codec.Encoded]:
        return introspect.ship(function, pb.Code.KIND_CALLABLE, spec, self.modules_for)

    def check_sent(self, name: str, size: int, function: Any, arguments: Mapping[str, Any]) -> None:
        """Raises SendLimitError where this is more than `send_limit` lets be sent, before any of it is. For faces."""
        limit = self._options.send_limit
        if limit is not None and size > parse_size(limit):
            raise SendLimitError(too_large(name, size, parse_size(limit), function, arguments))

    def _check_kept(self, spec: pb.FunctionSpec) -> None:
        """Raises where a result can't stay on its node."""
        if not self._options.keep:
            return
        if spec.kind in (pb.FUNCTION_KIND_GENERATOR, pb.FUNCTION_KIND_ASYNC_GENERATOR):
            raise UsageError(f"'{spec.name}' is a generator; keep=True keeps the one result of a function that returns")
        self._connection.refs.check_room()

    def with_options(self, **changes: Any) -> Client:
        """This client with other options for its calls, over the same connection.

        `timeout` (the whole call), `queue_timeout` (waiting for a node), `run_timeout` (one attempt), in seconds · `node` (its
        name) · `strategy` (one that the gateway knows) · `cost_limit` · `retries` (attempts more, 0 to 1000; 3 where neither
        this nor the function says) · `retry_on` (exception classes or "module.Class" names after which it runs again too) ·
        `backoff` (seconds before the first attempt after an error, 0 to 30, doubled for each; 0.5) · `idempotent` (running it
        twice does no harm) · `hedge` (of idempotent functions: a second copy on another node when it takes too long: seconds,
        or True for what 95 % of the last calls took) · `label` (what lists call it) · `output` (False: don't bring prints back)
        · `priority` (-100 to 100, default 0: of the calls that wait, higher ones go first) · `keep` (True: the result stays on
        the node, and the call gives a `Ref` of it) · `explain_waiting` (False: who waits for a call that no node has isn't told
        why after 2 s) · `durable` (True: calls are jobs, see `submit_job`) · `on_interrupt` ("detach": calls are jobs, and Ctrl-C
        leaves them running; "cancel": it stops them, which is so for calls that aren't jobs).

        `send_limit`: what the arguments and the code of a call may take together, e.g. "100MiB": beyond it SendLimitError says
        which variables make it so large, before anything is sent.

        What a call needs while it runs, instead of what its function says: `slots` · `cpus` · `memory` (bytes, or "4GiB") ·
        `gpus` (whole ones, for it alone) · `gpu_memory` (of each of these; without `gpus` a part of one that others share) ·
        `labels` (that its node must have). It waits where it fits later, and raises InsufficientResources where it never does.

        Of functions that are shipped with the call: `requirements` (packages that they run with, ["numpy<2"]; the node builds
        them into an environment once) · `python` (which patch version, "3.12.4"; its minor version has to be the one here). See
        docs/environments.md.
        """
        return self.with_exactly(CallOptions.checked(self._options, changes))

    def with_exactly(self, options: CallOptions) -> Client:
        """This client with these options, and none of its own. For faces, as `start_call` is."""
        other = copy.copy(self)
        other._options = options
        other._targets = {}
        return other

    def with_presenter(self, presenter: Callable[[], Presenter]) -> Client:
        """This client with another way to show what its calls print and display: `presenter()` makes one for each call."""
        other = copy.copy(self)
        other._presenter = presenter
        other._targets = {}
        return other

    # ---- asking --------------------------------------------------------------------------------------------------

    def list_nodes(self) -> list[NodeInfo]:
        """The nodes that the gateway knows, by name."""
        answer = self._connection.query(pb.Query(list_nodes=pb.Query.ListNodes()))
        return sorted((node_info(record) for record in answer.nodes), key=lambda node: node.node_id)

    def get_node_status(self, node_id: str) -> NodeInfo:
        """One node. Raises NodeGone when the gateway doesn't know it, naming those that it does."""
        nodes = self.list_nodes()
        for node in nodes:
            if node.node_id == node_id:
                return node
        there = ", ".join(node.node_id for node in nodes) or "none"
        raise NodeGone(f"node '{node_id}' isn't connected to this gateway; connected are: {there}")

    def drain_node(self, node_id: str, reason: str = "") -> NodeInfo:
        """Give this node no new calls, e.g. before its machine is serviced. It stays connected, and what runs there ends as it
        would have; what it hasn't begun goes to other nodes, which doesn't count as one of its attempts.

        Calls that only this node could take fail with NoNodeAvailable, or wait where they have a `queue_timeout`. It holds until
        `resume_node`, or until the node's process ends. `reason`: for people, who see it in `easyremote status`.

        Raises NodeGone when the gateway doesn't know the node, UsageError for a reason of more than 200 characters.
        """
        if len(reason) > 200 or not (reason.isprintable() or not reason):
            raise UsageError(f"a reason has at most 200 printable characters, not {reason[:60]!r}")
        return self._change_node(pb.Query(drain_node=pb.Query.DrainNode(node_id=node_id, reason=reason)))

    def resume_node(self, node_id: str) -> NodeInfo:
        """Take `drain_node` back. A node whose own process is about to end takes no new calls all the same; `draining` of what
        is returned says so. Raises NodeGone when the gateway doesn't know the node."""
        return self._change_node(pb.Query(resume_node=node_id))

    def _change_node(self, query: pb.Query) -> NodeInfo:
        answer = self._connection.query(query)
        if answer.HasField("error"):
            raise rebuild(answer.error)
        return node_info(answer.nodes[0])

    def tokens(self) -> list[TokenInfo]:
        """The gateway's tokens but for its own, the oldest first. Raises PermissionDenied where this client's isn't an
        administrator's; so do the next two."""
        return [token_info(record) for record in self._administer(pb.TokenRequest(list=pb.TokenRequest.List())).tokens]

    def create_token(
        self,
        name: str,
        roles: Iterable[str] = ("call",),
        *,
        expires: float | str | None = None,
        functions: Iterable[str] = (),
        nodes: Iterable[str] = (),
        max_calls: int = 0,
        max_bytes: int = 0,
        calls_per_s: float = 0.0,
    ) -> tuple[TokenInfo, str]:
        """Make a token that opens the gateway: what it is, and its text, which can't be had again.

        `roles`: "call", "ship" (code of one's own too), "serve" (be a node), "admin". `expires`: after how long, e.g. "7d" or
        seconds; None: never. `functions`, `nodes`: shell patterns of the names that it is kept to. The others bound what all its
        sessions have at the gateway together: calls at once, bytes of waiting calls, calls a second; 0: no bound of its own.

        Raises UsageError for what can't be, OverloadedError where the gateway has 1,000 tokens.
        """
        seconds = 0.0 if expires is None else parse_span(expires, "expires")
        if expires is not None and not seconds:
            raise UsageError("a token that expires at once opens nothing")
        if min(max_calls, max_bytes) < 0:
            raise UsageError("a bound of a token is a number from 0, which is none")
        wanted = pb.TokenRecord(
            name=name,
            roles=[roles] if isinstance(roles, str) else roles,
            functions=functions,
            nodes=nodes,
            max_calls=max_calls,
            max_bytes=max_bytes,
            calls_per_s=calls_per_s,
            expires=seconds,
        )
        answer = self._administer(pb.TokenRequest(create=wanted))
        return token_info(answer.tokens[0]), answer.text

    def revoke_token(self, token_id: str) -> TokenInfo:
        """Make a token, or an invitation, open nothing any more. Sessions that it opened end within a second, with all that they
        have at the gateway. Raises UsageError where there is none with this id."""
        return token_info(self._administer(pb.TokenRequest(revoke=token_id)).tokens[0])

    def _administer(self, request: pb.TokenRequest) -> pb.TokenAnswer:
        answer = self._connection.query(pb.Query(tokens=request))
        if answer.HasField("error"):
            raise rebuild(answer.error)
        return answer.tokens

    def function(self, name: str) -> RemoteFunction:
        """A function by its name, as an object with its signature and docstring. Raises FunctionNotFound, NoNodeAvailable."""
        return RemoteFunction(self, self._describe(introspect.check_name(name)))

    def list_functions(self) -> list[FunctionInfo]:
        """The functions that can be called, by name, and whether they are what this client has (`is_stale`, `stale_nodes`)."""
        answer = self._connection.query(pb.Query(list_functions=pb.Query.ListFunctions()))
        return [self.registrations.judged(function_info(record)) for record in answer.functions]

    def refresh(self) -> list[str]:
        """Register those functions again that this client registered and of which something has changed since: a helper, a
        constant, a shipped module. Gives their names. Raises what registering raises."""
        stale = self.registrations.stale()
        for registration in stale:
            registration.again()
        return [registration.spec.name for registration in stale]

    def explain(self, function: str | Callable[..., Any], **options: Any) -> Explanation:
        """Where a call of this function could run, what is in the way at each node, what would change it, and when.

        `options`: as for `with_options`, e.g. `node="gpu-1"`. Nothing is called, and an unknown function is no error here. In a
        notebook the answer is shown as a table, and `print` shows it as text.
        """
        choices = CallOptions.checked(self._options, options) if options else self._options
        submit = pb.Submit(options=choices.to_wire())
        if isinstance(function, str):
            submit.function = introspect.check_name(function)
        elif callable(function):
            spec = pb.FunctionSpec(name=_title(function), environment=choices.environment())
            submit.code.CopyFrom(pb.Code(kind=pb.Code.KIND_CALLABLE, python=python_minor(), spec=spec))
        else:
            raise UsageError(f"a function is called by its name or is a callable, not a {type(function).__name__}")
        sealing = self._connection.sealing
        if sealing.is_wanted(submit.options.node_id):
            sealing.explained(submit)
        answer = self._connection.query(pb.Query(explain=submit))
        if answer.HasField("error"):
            raise rebuild(answer.error)
        return explanation_of(answer.explanation)

    def explain_capture(self, function: Callable[..., Any]) -> CaptureExplanation:
        """What a function would bring along: each global, closure, default, helper and class that it reaches, transitively over
        functions of the notebook, with its type and encoded size; what can't be pickled, with the path to it; what looks like a
        secret; and the modules that would have to be there. Nothing is sent.

        In a notebook the answer is shown as tables, and `print` shows it as text.
        """
        if not callable(function):
            raise UsageError(f"only what can be called is shipped, not a {type(function).__name__}")
        return explain_function(function, self.modules_for)

    def ship(self, *modules: str, auto: bool | None = None) -> list[ShippedModule]:
        """Have modules that lie beside the notebook go along with code from now on, with modules beside it that they import.
        Gives all that are shipped.

        `modules`: names, as they are imported; of a package all its files go, also data. `auto`: True: whatever a function needs
        of them goes without being named, False: no longer; the setting EASYREMOTE_SHIP=auto does the same. Files are read when
        code is sent, so an edited module is a new version for the next call, and for functions that are registered again.

        Raises UsageError for a module that isn't there, is installed, has compiled code, more than 2,000 files or 16 MiB.
        """
        shipments = self._connection.shipments
        shipments.add(modules)
        if auto is not None:
            shipments.is_auto = auto
        return shipments.infos()

    @property
    def ships_all(self) -> bool:
        """Whether modules beside the notebook go along without being named."""
        return self._connection.shipments.is_auto

    def modules_for(self, needed: Iterable[str]) -> Shipment:
        """What goes along with code that needs these modules. For faces; `ship` is what people use."""
        return self._connection.shipments.for_code(needed)

    def unship(self, *modules: str) -> list[ShippedModule]:
        """Take `ship` back for these modules. Raises UsageError for one that wasn't shipped."""
        self._connection.shipments.remove(modules)
        return self._connection.shipments.infos()

    def gateway_info(self) -> GatewayInfo:
        """The gateway itself."""
        answer = self._connection.query(pb.Query(list_nodes=pb.Query.ListNodes()))
        return gateway_info(answer.gateway, self.address)

    def overview(self, max_calls: int = 200) -> Overview:
        """What is going on, in one round trip: gateway, nodes, functions, calls that run and wait (at most `max_calls`, up to
        1,000), what failed lately and what it has cost. `%easyremote monitor` and `easyremote top` show it.

        Calls, failures and costs are those of this client's token; an administrator's, like the gateway's own, sees all.
        """
        return overview(self.look(pb.Query.Look(details=True, max_calls=max_calls)), self.address)

    def look(self, look: pb.Query.Look) -> pb.Answer:
        """What `overview` is made of. For faces that ask once a second."""
        answer = self._connection.query(pb.Query(look=look))
        if answer.HasField("error"):
            raise rebuild(answer.error)
        return answer

    def open_calls(self) -> list[Call[Any]]:
        """This client's calls that haven't ended, but for short ones that travel together. For faces."""
        return self._connection.open_calls()

    def explain_call(self, call_id: str) -> Explanation:
        """Why a call of this client waits. Raises UsageError where it has none that waits under this id."""
        answer = self._connection.query(pb.Query(explain=pb.Submit(call_id=_id_of(call_id))))
        if answer.HasField("error"):
            raise rebuild(answer.error)
        return explanation_of(answer.explanation)

    def cancel_call(self, call_id: str) -> None:
        """Stop a call of any client with the same token, by its 32 hex digits as `overview` lists it; an administrator's token
        stops anyone's. Who waits for it gets CallCancelled. Raises UsageError where no such call runs or waits; for jobs there
        is `client.job(id).cancel()`."""
        answer = self._connection.query(pb.Query(cancel_call=_id_of(call_id)))
        if answer.HasField("error"):
            raise rebuild(answer.error)

    def jobs(self, limit: int | None = None) -> list[JobInfo]:
        """The jobs that the gateway keeps, the newest first; at most `limit`. Raises JobsUnavailable when it keeps none.

        They are those of this client's token; an administrator's, like the gateway's own, has all of them.
        """
        return [jobs.info_of(record) for record in jobs.records(self._connection, limit=limit)]

    def job(self, job_id: str) -> Job[Any]:
        """A job by its id, or by as many of its first digits as no other job has. It is read from its first event.

        Raises JobNotFound; UsageError when several begin so.
        """
        return jobs.find(self._connection, job_id, self._presenter)

    def node(self, *node_ids: str) -> RemoteNode:
        """A handle of one node, or of several that are to offer the same functions. Without names: all that are connected
        whenever it is used.

        Raises NodeGone when one isn't connected, or none is.
        """
        for name in node_ids:
            self.get_node_status(name)
        if not node_ids and not self.list_nodes():
            raise NodeGone("no node is connected to this gateway; start one with 'easyremote join ADDRESS'")
        return RemoteNode(self, node_ids)

    @property
    def address(self) -> str:
        """The gateway's address, host:port."""
        return self._connection.endpoint.address

    @property
    def is_connected(self) -> bool:
        return self._connection.is_connected

    @property
    def is_closed(self) -> bool:
        return self._connection.is_closed

    @property
    def connection_id(self) -> int:
        """The same for all faces of one client, as `with_options` makes them."""
        return id(self._connection)

    def monitor(self, language: str | None = None) -> Any:
        """A live picture of the gateway for a notebook: nodes, calls, functions, errors, cost. The last value of a cell shows it.

        `language`: "en" or "zh"; by itself that of the locale. In a terminal: `easyremote top`. Raises UsageError for another
        language.
        """
        return displaying.monitor(self, language=language)

    def _ipython_display_(self) -> None:
        displaying.show(self, self)

    # ---- its life ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Cancel what is open and disconnect. Safe to call twice."""
        self._connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.address}{'' if self.is_connected else ', not connected'}>"

    # ---- making calls --------------------------------------------------------------------------------------------

    def start_call(
        self,
        title: str,
        code: tuple[pb.Code, codec.Encoded] | None,
        arguments: codec.Encoded,
        session_id: str = "",
        presenter: Callable[[], Presenter] | None = None,
        hedge: hedging.Hedging | None = None,
    ) -> Call[Any]:
        """Begin a call whose parts are encoded already. For faces such as the notebook's; `submit` is what people use.

        `code`: shipped code with its payload, or None to call `title` by name. `session_id`: the namespace of a cell.
        """
        options = self._wire_options(presenter)
        options.session_id = session_id
        if code is not None and not options.label:
            options.label = title
        return self._start(Target(title, options, code, hedging=hedge), arguments, presenter)

    def _start(
        self, target: Target, arguments: bytes | codec.Encoded, presenter: Callable[[], Presenter] | None = None
    ) -> Call[Any]:
        if self._options.durable:
            return self._keep([(target, arguments)], presenter)[0]
        call = self._new_call(target.title, presenter)
        self._connection.submit(call, target, arguments)
        return call

    def _keep(
        self, calls: list[tuple[Target, bytes | codec.Encoded]], presenter: Callable[[], Presenter] | None = None
    ) -> list[Job[Any]]:
        """Hand calls to the gateway as jobs."""
        ids = jobs.keep(
            self._connection, (jobs.submission(self._connection, target, arguments) for target, arguments in calls)
        )
        made: list[Job[Any]] = [
            Job(self._connection, job_id, self._options.label or target.title, presenter or self._presenter)
            for job_id, (target, _) in zip(ids, calls, strict=True)
        ]
        for job, (target, _) in zip(made, calls, strict=True):
            job.ends_on_interrupt = self._options.on_interrupt == "cancel"
            job.is_cell = target.code is not None and target.code[0].kind == pb.Code.KIND_CELL
        return made

    def _new_silent(self, title: str) -> Call[Any]:
        """One of many, which ask nothing."""
        call = self._new_call(title)
        call.may_ask = False
        return call

    def _new_call(self, title: str, presenter: Callable[[], Presenter] | None = None) -> Call[Any]:
        if self._connection.is_closed:
            raise UsageError("this client is closed; make a new one")
        timeout = self._options.timeout
        deadline = None if timeout is None else time.monotonic() + timeout
        parent = current.get()
        if parent is not None and parent.deadline is not None:
            deadline = parent.deadline if deadline is None else min(deadline, parent.deadline)
        return Call(
            random_id(),
            self._options.label or title,
            self._cancel,
            self._taken,
            presenter or self._presenter,
            deadline,
            self._explain_waiting if self._options.explain_waiting else None,
            parent.call_id if parent is not None else b"",
            self._connection.may_unpickle_from(self._options.node or ""),
        )

    def _spec_of(self, function: Callable[..., Any]) -> pb.FunctionSpec:
        """Of a function that is shipped with its call."""
        return introspect.spec_of(function, _title(function), environment=self._options.environment())

    def _target(self, spec: pb.FunctionSpec) -> Target:
        """A registered function with this client's options."""
        known, target = self._targets.get(spec.name, (None, None))
        if target is None or known is not spec:  # another face of this client may have asked for it anew
            if spec.batch:
                needs.check_batched(spec.name, self._options.needs())
            is_plain = spec.kind == pb.FUNCTION_KIND_FUNCTION and not spec.batch  # those wait for each other there
            time = self._times.setdefault(spec.name, CallTime())
            may_bundle = is_plain and self._options.may_bundle and not spec.HasField("retry")
            hedge = self._hedging(spec)
            target = Target(spec.name, self._wire_options(), None, may_bundle, time, hedge)
            self._targets[spec.name] = spec, target
        return target

    def _wire_options(self, presenter: Callable[[], Presenter] | None = None) -> pb.Options:
        """The options, with the limit that whoever shows the output sets."""
        options = self._options.to_wire()
        options.output_limit = getattr(presenter or self._presenter, "output_limit", 0)
        return options

    def _hedging(self, spec: pb.FunctionSpec, digest: str = "") -> hedging.Hedging | None:
        """How calls of this function are hedged. Raises UsageError where they can't be."""
        hedge = self._options.hedge
        if not hedge:
            return None
        hedging.check_function(spec, self._options.idempotent)
        durations = self._hedged.setdefault(digest or spec.name, hedging.Durations())
        if len(self._hedged) > hedging.MAX_FUNCTIONS:
            self._hedged.pop(next(iter(self._hedged)), None)
        return hedging.Hedging(None if hedge is True or hedge == "p95" else float(hedge), durations)

    def forget_signature(self, name: str) -> None:
        """Ask for the function's signature anew before its next call."""
        self._known.pop(name, None)
        self._targets.pop(name, None)
        self._times.pop(name, None)

    def _check_arguments(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> introspect.KnownFunction:
        """Against the signature that is known here; before refusing, the current one is asked for."""
        introspect.check_name(name)
        if self._options.environment() is not None:
            raise UsageError(
                f"'{name}' runs with what was said where it was registered; requirements and python are for functions "
                "that are shipped with the call"
            )
        known = self._known.get(name)
        if known is not None:
            try:
                known.check_arguments(args, kwargs)
                return known
            except UsageError:
                pass
        known = self._known[name] = introspect.KnownFunction(self._describe(name))
        known.check_arguments(args, kwargs)
        return known

    def _describe(self, name: str) -> pb.FunctionSpec:
        self.forget_signature(name)
        answer = self._connection.query(pb.Query(describe_function=name))
        if answer.HasField("error"):
            raise rebuild(answer.error)
        if answer.functions:
            return answer.functions[0].spec
        if not self.list_nodes():
            raise NoNodeAvailable(
                f"'{name}' can't run: no node is connected to the gateway {self.address}; start one with "
                f"'easyremote join {self.address}', or `%easyremote start` in a notebook"
            )
        close = list(answer.close_names)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; none of its nodes offers a similar name"
        raise FunctionNotFound(f"no function '{name}' at the gateway {self.address}{hint}", close)


def _id_of(call_id: str) -> bytes:
    try:
        return bytes.fromhex(call_id)
    except ValueError:
        raise UsageError(f"a call's id has 32 hex digits, not {call_id[:60]!r}") from None


def _title(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))[:200]


def _as_completed(
    begin: Callable[[tuple[Any, ...]], Call[Any]], arguments: Iterable[tuple[Any, ...]]
) -> Generator[Any, None, None]:
    open_calls: set[Call[Any]] = set()
    ended: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def take() -> Any:
        while True:
            try:
                call = ended.get(timeout=BESIDE_EVERY_S)
                break
            except queue.Empty:
                for other in list(open_calls):
                    other.show_progress()
        open_calls.discard(call)
        return call.result()

    try:
        for args in arguments:
            call = begin(args)
            open_calls.add(call)
            call.add_done_callback(ended.put)
            if len(open_calls) >= MAP_WINDOW:
                while len(open_calls) > MAP_WINDOW // 2:
                    yield take()
            while not ended.empty():
                yield take()
        while open_calls:
            yield take()
    finally:
        for call in open_calls:
            call.cancel("its map ended early")
