"""A node at work: takes attempts from its session, runs them in threads or worker processes, and hands their events back.

Everything here runs on the shared loop; what is called where functions run is in `execution.thread_calls`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from easyremote import discovery
from easyremote.batches import Batcher, Member
from easyremote.config import BATCH_BYTES, WindowSettings
from easyremote.core import node_session as core
from easyremote.errors import (
    ConsentError,
    DeadlineExceeded,
    EasyRemoteError,
    EnvironmentMismatch,
    PayloadError,
    SealError,
    UsageError,
    WorkerCrashed,
)
from easyremote.execution import routing
from easyremote.execution.approving import Approver
from easyremote.execution.confinement import Confinement
from easyremote.execution.context import left_s
from easyremote.execution.credits import cost_of
from easyremote.execution.environments.interpreter import Interpreter
from easyremote.execution.failure import describe
from easyremote.execution.measure import measure
from easyremote.execution.output_files import OutputFiles
from easyremote.execution.pipe import from_payload, to_payload
from easyremote.execution.pool import WorkerDied, WorkerProcess
from easyremote.execution.pools import NO_LIMITS, Limits, WorkerPools
from easyremote.execution.retriable import is_named
from easyremote.execution.shipped_modules import ModuleFolder
from easyremote.execution.tasks import Tasks
from easyremote.execution.thread_calls import InFile, ThreadEmitter, decode_and_run, decode_and_run_async
from easyremote.execution.threads import ThreadPool
from easyremote.execution.values import Value, ValueStore
from easyremote.node_environments import NodeEnvironments
from easyremote.node_sealing import SEAL_ROOM_BYTES, RunSeal, opened_value, put_payload, seal_in_event
from easyremote.node_values import NodeValues, by_id, files_for_worker
from easyremote.runtime import python_minor, random_id, this_runtime
from easyremote.sealing import open_fetched
from easyremote.security.audit import AuditLog
from easyremote.security.consent import Consent
from easyremote.security.sealing import seal_value
from easyremote.transport.link import Link
from easyremote.transport.loop import Mailbox, new_event_loop, run_until_stopped
from easyremote.transport.transfers import BlobLost, Transfers
from easyremote.wire import codec
from easyremote.wire.chunks import WireChunk
from easyremote.wire.events import payload_of
from easyremote.wire.shared_files import SharedFiles, file_bytes, split
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.security.consent import Consent

_log = logging.getLogger("easyremote")

LOAD_EVERY_S = 2.0
TICK_S = 0.02
GIVE_BACK_AFTER_S = 0.05
"""A bundle of calls that runs for so long gives those back that haven't begun."""

_STOP_GRACE_S = 0.5
_COLLECT_S = 1.0
"""A node that has drained for as long as it may waits so much longer for results to be collected, and no longer for calls."""

_MAX_STAGED = 64
"""Functions that wait until all nodes that are to offer them have them too; further ones push out the oldest."""

_ZOMBIE_AFTER_S = 1.0
"""A thread that was interrupted and hasn't ended by then is given up; it goes on until its C code returns."""

_NO_CODE = "code came from a client that may make calls and not ship code; its token, or its key on this node, says so"

_MAX_FAILURES = 64
"""Failed calls of which it is known where they failed, to look at what they left."""

_NOTHING_LEFT = (
    "node '{}' keeps nothing of that call to look at: its process has ended, runs another call, or has failed again since; or "
    "the function runs in the node's own process (isolation='thread')"
)

_COROUTINES = (pb.FUNCTION_KIND_COROUTINE, pb.FUNCTION_KIND_ASYNC_GENERATOR)


@dataclass(slots=True)
class Registered:
    """A function that the node offers: the owner's own, or one that was shipped (or is run in a process) as a payload."""

    spec: pb.FunctionSpec
    function: Callable[..., Any] | None = None
    code: tuple[pb.Code, codec.Encoded] | None = None


class _Failure(NamedTuple):
    """Where a call failed whose worker may be looked at, and whose it was."""

    worker: WorkerProcess
    session_id: str
    whose: tuple[str, str]


class _Run:
    """One attempt that runs here."""

    def __init__(self, attempt: core.Attempt) -> None:
        self.attempt = attempt
        self.stop: tuple[str, str] | None = None  # code and message of why it is to end
        self.task: asyncio.Task[None] | None = None
        self.emitter: ThreadEmitter | None = None
        self.worker: WorkerProcess | None = None
        self.busy_s = 0.0  # how long the function ran, as its worker measured it
        self.gave_back = False  # the tasks of a bundle that hadn't begun
        self.member: Member | None = None  # of a batch
        self.owed = 0  # credits held back while the window is closed
        self.values: list[Value] = []  # of the refs in its arguments
        self.limits = NO_LIMITS  # of the key that it comes from
        self.client = "A client of its gateway"  # for people
        self.pinned: list[Value] = []  # those of them that are kept here; the others were made for it
        self.seal: RunSeal | None = None
        self.outgoing: deque[tuple[pb.Event, Callable[[], None]]] = deque()  # events from one that is being sealed on


_Posted = tuple[_Run, "pb.Event | list[bytes]", str, "codec.Encoded | InFile | None"]
"""An event with the field that its payload goes into, and the payload; or a pack of items."""


class Engine:
    """Made, started and stopped on the shared loop."""

    def __init__(
        self,
        node_id: str,
        endpoint: discovery.Endpoint,
        state: pb.NodeState,
        value_bytes: int = 1 << 30,
        confined: Confinement | None = None,
        consent: Consent | None = None,
        approver: Approver | None = None,
        environments: bool | None = None,
    ) -> None:
        """`consent`: decides which calls it takes; without it takes all that its gateway sends. `approver`: asks a person.
        `environments`: what the owner says of building some."""
        self.node_id = node_id
        self.functions: dict[str, Registered] = {}
        self._slots = state.slots
        self._loop = asyncio.get_running_loop()
        self._shared = SharedFiles()
        self._value_bytes = value_bytes
        self._endpoint = endpoint
        self._consent = consent
        self._approver = approver
        self._runs: dict[tuple[bytes, int], _Run] = {}
        self._threads = ThreadPool(2 * state.slots, f"easyremote-{node_id}")
        self._staged: dict[str, Registered] = {}
        self._modules = ModuleFolder()
        told = {
            "secrets": (endpoint.token,),
            "shared": tuple(self._shared.folders),
            "modules": self._modules.path,
        }
        confined = replace(confined or Confinement(), **told)
        self._pools = WorkerPools(node_id, confined)
        self.environments = NodeEnvironments(node_id, environments, confined, self._pools)
        state.environments = not self.environments.why_not
        state.why_no_environments = self.environments.why_not
        self._core = core.NodeSession(random_id(), this_runtime(), state, WindowSettings())
        self._batchers: dict[str, Batcher] = {}
        self._failures: OrderedDict[bytes, _Failure] = OrderedDict()
        self._session_locks: dict[str, asyncio.Lock] = {}
        self._session_titles: dict[str, str] = {}  # what the newest cell of each is called
        self._mailbox: Mailbox[_Posted] = Mailbox(self._take_events)
        self._confirmations: list[tuple[int, asyncio.Future[None]]] = []
        self._async_loop: asyncio.AbstractEventLoop | None = None
        self._async_thread: threading.Thread | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_routing = False
        self._output_files = OutputFiles(self._output_was_written)
        self.audit: AuditLog | None = None
        self._looked_up: discovery.Endpoint | None = None
        self._is_own_after_all = False

    # ---- its life ------------------------------------------------------------------------------------------------

    async def start(self, connect_timeout_s: float) -> None:
        """Connect and offer what is registered. Raises what the gateway, or the lack of one, gave as a reason."""
        self._core.offer([item.spec for item in self.functions.values()])
        self._link = Link(
            self._core,
            self._endpoint,
            self._perform,
            on_up=lambda: self._transfers.session_up(),
            on_down=lambda: self._transfers.session_down(),
            refresh=discovery.refresh,
        )
        self._transfers = Transfers(
            self._endpoint,
            self._core.session_id,
            self._shared,
            self._send_fetch,
            self._send_chunk,
            lambda: self._link.is_local,
        )
        surroundings = NodeValues(self._core, self._transfers, self._shared, self._value_bytes, self._link.flush)
        self.values = ValueStore(self.node_id, self._shared, self._value_bytes, surroundings)
        try:
            await self._link.connected(connect_timeout_s)
        except BaseException:
            self._threads.close()  # some Pythons need them started ahead
            await self._close_audit()
            if self._consent is not None:
                self._consent.close()
            raise
        routing.install()
        self._is_routing = True
        self._spawn(self._tick())
        self._spawn(self._report())

    async def stop(self, reason: str) -> None:
        """Stop what runs, say goodbye, close."""
        for attempt_run in list(self._runs.values()):
            self._stop_run(attempt_run, "cancelled", f"node '{self.node_id}' is stopping")
        until = monotonic() + _STOP_GRACE_S
        while self._runs and monotonic() < until:  # noqa: ASYNC110 - it is a matter of milliseconds
            await asyncio.sleep(0.01)  # most end at once, and their callers are told why
        for batcher in self._batchers.values():
            batcher.close()
        self._core.goodbye(reason)
        self._link.flush()
        await self._link.drained(1.0)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._link.close()
        await self.values.close()
        await self._transfers.close()
        await self.environments.close()
        await self._pools.close()
        await asyncio.to_thread(self._modules.close)
        if self._consent is not None:
            self._consent.close()
        self._threads.close()
        if self._async_loop is not None and self._async_thread is not None:
            self._async_loop.call_soon_threadsafe(self._async_loop.stop)
            await asyncio.to_thread(self._async_thread.join, 2.0)
        if self._is_routing:
            routing.uninstall()
        await asyncio.to_thread(self._output_files.close)
        await self._close_audit()

    async def _close_audit(self) -> None:
        audit, self.audit = self.audit, None
        if audit is not None:
            await asyncio.to_thread(audit.close)

    async def drain(self, grace_s: float) -> bool:
        """Take no new calls, hand back those that haven't begun, and wait until the others have ended and been collected.

        False: some ran for longer. They count as lost with this node from now on, and `stop` is to follow.
        """
        self._core.leave(monotonic())
        self._link.flush()
        until = monotonic() + grace_s
        left: list[_Run] = []
        try:
            while self._core.held_count and monotonic() < until:  # noqa: ASYNC110 - many things end it
                await asyncio.sleep(TICK_S)
        finally:
            left += [attempt_run for attempt_run in self._runs.values() if not attempt_run.attempt.has_ended]
            for attempt_run in left:
                self._core.disown(attempt_run.attempt)
        until = monotonic() + _COLLECT_S
        while left and self._core.held_count and monotonic() < until:  # noqa: ASYNC110 - an end may be on its way still
            await asyncio.sleep(TICK_S)
        return not left

    def prepare_worker(self) -> None:
        """Start one worker process ahead of the first call that needs it."""
        self._pools.prepare()

    async def offers_changed(self) -> None:
        """Tell the gateway what is offered now, and wait until calls find it."""
        revision = self._core.offer([item.spec for item in self.functions.values()])
        confirmed: asyncio.Future[None] = self._loop.create_future()
        self._confirmations.append((revision, confirmed))
        self._link.flush()
        await confirmed

    @property
    def is_connected(self) -> bool:
        return self._core.is_connected

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new calls."""
        return self._core.is_draining

    @property
    def held_count(self) -> int:
        """Calls that run here, wait here, or have an end that isn't collected yet."""
        return self._core.held_count

    @property
    def code(self) -> str:
        """Whose code it takes."""
        return self._consent.code if self._consent is not None else "any"

    @property
    def address(self) -> str:
        return self._link.endpoint.address

    @property
    def last_error(self) -> EasyRemoteError | None:
        """Why it isn't connected at this moment."""
        return self._link.last_error

    # ---- effects of the session ----------------------------------------------------------------------------------

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, core.Start):
                self._begin(effect.attempt)
            elif isinstance(effect, core.Stop):
                attempt_run = self._runs.get(effect.attempt.key)
                if attempt_run is not None:
                    self._stop_run(attempt_run, effect.code, effect.message)
            elif isinstance(effect, core.Kill):
                attempt_run = self._runs.get(effect.attempt.key)
                if attempt_run is not None and attempt_run.worker is not None:
                    attempt_run.worker.kill()
            elif isinstance(effect, core.StopTasks):
                attempt_run = self._runs.get(effect.attempt.key)
                if attempt_run is not None:
                    self._stop_tasks(attempt_run, effect.tasks)
            elif isinstance(effect, core.Replied):
                attempt_run = self._runs.get(effect.attempt.key)
                if attempt_run is not None:
                    self._replied(attempt_run, effect.reply)
            elif isinstance(effect, core.Release):
                self._transfers.release(effect.attempt.key)
                self.values.settle(effect.attempt.key)
            elif isinstance(effect, core.Discard):
                self.values.discard(effect.ref_ids)
            elif isinstance(effect, core.WindowOpened):
                attempt_run = self._runs.get(effect.attempt.key)
                if attempt_run is not None:
                    self._pay_credits(attempt_run)
            elif isinstance(effect, core.OffersConfirmed):
                self._confirm(effect.revision)
            elif isinstance(effect, core.SendBlob):
                if effect.fetch.of_ref:
                    self.values.touch(effect.fetch.blob_id)
                self._transfers.requested(effect.fetch)
            elif isinstance(effect, core.ChunkCame):
                self._transfers.chunk_came(WireChunk(effect.chunk))

    def _confirm(self, revision: int) -> None:
        waiting, self._confirmations = self._confirmations, []
        for wanted, confirmed in waiting:
            if wanted > revision:
                self._confirmations.append((wanted, confirmed))
            elif not confirmed.done():
                confirmed.set_result(None)

    def _begin(self, attempt: core.Attempt) -> None:
        attempt_run = _Run(attempt)
        self._runs[attempt.key] = attempt_run
        submit = attempt.submit
        if attempt.deadline is not None:
            submit.options.timeout_s = left_s(attempt.deadline)
        try:
            if self._consent is not None:
                self._check_consent(self._consent, attempt_run)
            if self._approver is not None:
                attempt_run.task = self._spawn(self._guard(attempt_run, self._approve(self._approver, attempt_run)))
                return
            self._begin_allowed(attempt_run)
        except Exception as error:
            self._fail(attempt_run, error)

    async def _approve(self, approver: Approver, attempt_run: _Run) -> None:
        """Have a person look at it. Raises ConsentError."""
        submit = attempt_run.attempt.submit
        encoded = None
        if submit.code.HasField("payload"):
            encoded = await self._fetch_code(attempt_run)

        def tell() -> None:
            text = f"[easyremote] node '{self.node_id}' shows this to its owner, who is to say whether it may run\n"
            if submit.options.output:
                self._emit(attempt_run, pb.Event(output=pb.Output(is_stderr=True, text=text)), len(text))

        await approver.check(submit, encoded, attempt_run.client, tell)
        attempt_run.task = None
        self._begin_allowed(attempt_run)

    def _begin_allowed(self, attempt_run: _Run) -> None:
        attempt, submit = attempt_run.attempt, attempt_run.attempt.submit
        try:
            if submit.HasField("code"):
                if submit.plain_only:
                    raise ConsentError(_NO_CODE)
                attempt.started.version = submit.code.spec.version
                attempt.started.kind = submit.code.spec.kind
                attempt_run.task = self._spawn(self._guard(attempt_run, self._run_code(attempt_run)))
                return
            registered = self.functions.get(submit.function)
            if registered is None:
                raise UsageError(f"node '{self.node_id}' no longer offers '{submit.function}'")
            attempt.started.version = registered.spec.version
            attempt.started.kind = registered.spec.kind
            if registered.spec.batch:
                self._join(attempt_run, registered)
            elif registered.code is not None:
                code, encoded = registered.code
                work = self._run_in_worker(attempt_run, code, encoded)
                attempt_run.task = self._spawn(self._guard(attempt_run, work))
            elif submit.arguments.HasField("blob") or submit.refs:
                attempt_run.task = self._spawn(self._guard(attempt_run, self._fetch_and_run(attempt_run, registered)))
            else:
                self._run_in_thread(attempt_run, registered, codec.Encoded.of(submit.arguments))
        except Exception as error:
            self._fail(attempt_run, error)

    def _check_consent(self, consent: Consent, attempt_run: _Run) -> None:
        """Whether the call may run, before anything of it is used; what is sealed is opened. Raises ConsentError, SealError."""
        submit = attempt_run.attempt.submit
        registered = self.functions.get(submit.function)
        retries = registered.spec.retry.retries if registered is not None else 0
        permit = consent.begin(submit, retries, not consent.trusts_own or self._is_own_gateway())
        if permit is None:
            return
        rights = permit.rights
        attempt_run.client = permit.client.fingerprint
        if rights is not None:
            attempt_run.client += f" ({rights.comment})" if rights.comment else ""
            attempt_run.limits = Limits(rights.memory_bytes, rights.gpus is not None)
            submit.plain_only = submit.plain_only or not rights.may_ship
        assert consent.identity is not None, "what it takes that is sealed it can open"
        attempt_run.seal = RunSeal.opened(permit, consent.identity, submit)

    def _is_own_gateway(self) -> bool:
        """Whether it is this user's own. Looked up again where it wasn't: it may have said so a moment after it came."""
        endpoint = self._link.endpoint
        if not endpoint.is_own and endpoint is not self._looked_up:
            self._looked_up = endpoint
            self._is_own_after_all = discovery.refresh(endpoint).is_own
        return endpoint.is_own or (endpoint is self._looked_up and self._is_own_after_all)

    async def _guard(self, attempt_run: _Run, work: Any) -> None:
        """Whatever goes wrong on the way to the function ends the attempt with an error."""
        try:
            await work
        except asyncio.CancelledError:
            self._emit(attempt_run, pb.Event(error=self._stop_error(attempt_run)))
            raise
        except BlobLost as error:
            info = pb.ErrorInfo(
                code="lost", message=f"its arguments can't be had any more: {error}", node_id=self.node_id
            )
            self._emit(attempt_run, pb.Event(error=info))
        except Exception as error:
            self._fail(attempt_run, error)

    def _fail(self, attempt_run: _Run, error: BaseException) -> None:
        self._emit(attempt_run, pb.Event(error=describe(error, self.node_id)))

    # ---- stopping ------------------------------------------------------------------------------------------------

    def _stop_run(self, attempt_run: _Run, code: str, message: str) -> None:
        if attempt_run.stop is not None:
            return
        attempt_run.stop = code, message
        if attempt_run.member is not None:
            attempt_run.member.batcher.drop(attempt_run.member)
        elif attempt_run.worker is not None:
            attempt_run.worker.interrupt()
        elif attempt_run.emitter is not None:
            attempt_run.emitter.interrupt()
            self._loop.call_later(_ZOMBIE_AFTER_S, self._give_up_thread, attempt_run)
        elif attempt_run.task is not None:
            attempt_run.task.cancel()

    def _stop_tasks(self, attempt_run: _Run, unwanted: list[int]) -> None:
        """Begin these tasks of a bundle no more. Where one of them is running, give the others back and stop the attempt."""
        tasks = attempt_run.emitter.tasks if attempt_run.emitter is not None else None
        if attempt_run.worker is not None:
            attempt_run.worker.change_tasks(attempt_run.attempt.call_id, unwanted)
        elif tasks is not None and tasks.skip(unwanted):
            self._give_tasks_back(attempt_run)
            self._stop_run(attempt_run, "cancelled", "the client cancelled it")

    def _give_tasks_back(self, attempt_run: _Run) -> None:
        """The tasks that haven't begun go back to the client, which sends them elsewhere, or one by one."""
        attempt_run.gave_back = True
        if attempt_run.worker is not None:
            attempt_run.worker.change_tasks(attempt_run.attempt.call_id)
            return
        tasks = attempt_run.emitter.tasks if attempt_run.emitter is not None else None
        first = tasks.give_back() if tasks is not None else None
        if first is not None:
            self._emit(attempt_run, pb.Event(returned=pb.Returned(first=first)))

    def _give_up_thread(self, attempt_run: _Run) -> None:
        if attempt_run.attempt.has_ended:
            return
        error = self._stop_error(attempt_run)
        self._threads.expand()
        error.message += (
            "; it didn't react to being interrupted (C code doesn't), and goes on in its thread until it returns"
        )
        self._emit(attempt_run, pb.Event(error=error))

    def _stop_error(self, attempt_run: _Run) -> pb.ErrorInfo:
        code, message = attempt_run.stop or ("cancelled", f"node '{self.node_id}' is stopping")
        error = pb.ErrorInfo(code=code, message=message, node_id=self.node_id)
        if code == "deadline":
            attempt = attempt_run.attempt
            error.details["which"] = attempt.which_timeout
            is_runs = attempt.which_timeout == "run"  # one attempt's; another may do better
            error.retriable = is_runs and is_named(DeadlineExceeded, attempt.submit.options.retry_on)
        return error

    def _replied(self, attempt_run: _Run, reply: pb.Reply) -> None:
        """Hand the answer to whoever asked."""
        if attempt_run.seal is not None:
            try:
                reply = attempt_run.seal.open_reply(reply)
            except SealError as error:
                reply = pb.Reply(call_id=reply.call_id, ask_id=reply.ask_id, refusal=error.message)
        if attempt_run.worker is not None:
            attempt_run.worker.send(pb.Frame(reply=reply))

    # ---- calls that run together ---------------------------------------------------------------------------------

    def _join(self, attempt_run: _Run, registered: Registered) -> None:
        if attempt_run.attempt.submit.tasks:  # its client doesn't know yet that calls come one by one
            self._emit(attempt_run, pb.Event(returned=pb.Returned(first=0)))
            self._succeed(attempt_run, is_exhausted=True)
            return
        batcher = self._batchers.get(registered.spec.name)
        if batcher is None or batcher.registered is not registered:
            grant = batcher.grant if batcher is not None else None
            self._batchers = {
                name: known for name, known in self._batchers.items() if name in self.functions or not known.is_idle
            }
            batcher = self._batchers[registered.spec.name] = Batcher(self, registered, grant)
        if attempt_run.attempt.submit.grant.gpus:
            batcher.grant = attempt_run.attempt.submit.grant
        arguments = attempt_run.attempt.submit.arguments
        if arguments.HasField("blob") or attempt_run.attempt.submit.refs:
            attempt_run.task = self._spawn(self._guard(attempt_run, self._fetch_and_join(attempt_run, batcher)))
        else:
            in_worker = registered.code is not None
            batcher.add(attempt_run, arguments if in_worker else codec.Encoded.of(arguments))

    async def _fetch_and_join(self, attempt_run: _Run, batcher: Batcher) -> None:
        submit = attempt_run.attempt.submit
        in_worker = batcher.registered.code is not None
        await self._use_values(attempt_run, in_worker)
        if in_worker:
            batcher.add(attempt_run, await self._for_worker(submit.call_id, submit.arguments))
        else:
            batcher.add(attempt_run, await self._fetch(submit.call_id, submit.arguments))

    def end_stopped(self, attempt_run: _Run) -> None:
        """It was told to stop, and nobody else will say that it has."""
        self._emit(attempt_run, pb.Event(error=self._stop_error(attempt_run)))

    def forget_payload(self, payload: pb.Payload) -> None:
        """Remove the file of a payload of the workers' link, unless a worker has taken it."""
        if payload.HasField("blob"):
            self._shared.remove(payload.blob.blob_id.decode())

    def shared_for(self, attempt_run: _Run) -> SharedFiles | None:
        """Where its large values are put at once, if their receiver is on this host and may see them as they are."""
        return self._shared if self._link.is_local and attempt_run.seal is None else None

    # ---- the owner's functions -----------------------------------------------------------------------------------

    async def _fetch_and_run(self, attempt_run: _Run, registered: Registered) -> None:
        submit = attempt_run.attempt.submit
        arguments = await self._fetch(submit.call_id, submit.arguments)
        if submit.refs:
            await self._use_values(attempt_run, in_files=False)
        self._run_in_thread(attempt_run, registered, arguments)

    def _run_in_thread(self, attempt_run: _Run, registered: Registered, arguments: codec.Encoded) -> None:
        function = registered.function
        assert function is not None
        routing.ensure()
        emitter = ThreadEmitter(
            self.node_id,
            attempt_run.attempt.submit,
            lambda event, field, encoded: self.post(attempt_run, event, field, encoded),
            self.shared_for(attempt_run),
        )
        attempt_run.emitter = emitter
        emitter.deadline = attempt_run.attempt.ends_at
        self._threads.allow(self._slots + len(self._runs))  # more run than there are slots where calls wait for calls
        emitter.values = by_id(attempt_run.values)
        submit = attempt_run.attempt.submit
        if submit.tasks:
            emitter.tasks = Tasks(submit.tasks, submit.skipped_tasks, None, submit.tasks_content_type)
        if registered.spec.kind in _COROUTINES and not submit.tasks:
            loop = self._user_loop()
            attempt_run.emitter.is_async = True
            work = decode_and_run_async(function, arguments, emitter)
            emitter.future = asyncio.run_coroutine_threadsafe(work, loop)
        else:
            self._threads.submit(lambda: decode_and_run(function, arguments, emitter))

    def _user_loop(self) -> asyncio.AbstractEventLoop:
        """A loop of its own for the owner's coroutines: what they block isn't the connection."""
        if self._async_loop is None:
            loop = self._async_loop = new_event_loop()
            self._async_thread = threading.Thread(
                target=run_until_stopped, args=(loop,), name="easyremote-async", daemon=True
            )
            self._async_thread.start()
        return self._async_loop

    def post(
        self,
        attempt_run: _Run,
        event: pb.Event | list[bytes],
        field: str,
        encoded: codec.Encoded | InFile | None,
    ) -> None:
        """An event, or a pack of items, from another thread, which seals what is large."""
        if attempt_run.seal is not None and isinstance(encoded, codec.Encoded) and isinstance(event, pb.Event):
            encoded = seal_in_event(event, field, encoded)
        with contextlib.suppress(RuntimeError, EasyRemoteError):  # the loop has ended: so has the node
            self._mailbox.post((attempt_run, event, field, encoded))

    def _take_events(self, items: list[_Posted]) -> None:
        for attempt_run, event, field, encoded in items:
            if attempt_run.attempt.has_ended:
                if isinstance(encoded, InFile):
                    self._shared.remove(encoded.name)
                continue  # it was given up, and comes too late
            if isinstance(event, list):
                self._take_pack(attempt_run, event)
                continue
            if encoded is not None:
                try:
                    payload = self._own(attempt_run, encoded, event.result.kept.type if field == "result" else "")
                except PayloadError as error:
                    self._fail(attempt_run, error)
                    continue
                put_payload(event.display.bundle if field == "display" else getattr(event, field), payload)
            self._emit(attempt_run, event, encoded.size if encoded is not None else len(event.output.text))
            if attempt_run.emitter is not None:
                attempt_run.owed += cost_of(encoded.size) if encoded is not None and field == "item" else 1
                self._pay_credits(attempt_run)

    def _own(self, attempt_run: _Run, encoded: codec.Encoded | InFile, kept_type: str) -> pb.Payload:
        key = attempt_run.attempt.key
        if kept_type and isinstance(encoded, codec.Encoded):
            kept = self.values.keep(key, encoded.parts, kept_type, content_type=encoded.content_type)
            return pb.Payload(kept=kept)
        if isinstance(encoded, InFile):
            return self._transfers.own_file(key, encoded.content_type, encoded.part_bytes, encoded.name)
        return self._transfers.own(key, encoded)

    def _take_pack(self, attempt_run: _Run, pack: list[bytes]) -> None:
        emitter = attempt_run.emitter
        assert emitter is not None, "who posts a pack has an emitter"
        data = emitter.packer.take(pack)
        is_plain = attempt_run.attempt.submit.options.accept == codec.PLAIN
        items = pb.Items(data=data, content_type=codec.PLAIN if is_plain else codec.PICKLE)
        self._emit(attempt_run, pb.Event(items=items), sum(map(len, data)))
        attempt_run.owed += len(data)
        self._pay_credits(attempt_run)

    def _pay_credits(self, attempt_run: _Run) -> None:
        """Let the producer go on, unless its consumer is behind."""
        must_wait = self._output_files.is_behind or not self._core.window_is_open(attempt_run.attempt)
        if must_wait and not attempt_run.attempt.has_ended:
            if attempt_run.worker is not None and attempt_run.stop is None:  # else its end would never be read
                attempt_run.worker.pause()
            return
        owed, attempt_run.owed = attempt_run.owed, 0
        if attempt_run.emitter is not None:
            attempt_run.emitter.credits.give(owed)
        elif attempt_run.worker is not None:
            attempt_run.worker.resume()
            if owed:
                attempt_run.worker.give_credit(owed)

    def _output_was_written(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended: so has the node
            self._loop.call_soon_threadsafe(self._pay_all)

    def _pay_all(self) -> None:
        for attempt_run in list(self._runs.values()):
            self._pay_credits(attempt_run)

    # ---- code that came over the wire ----------------------------------------------------------------------------

    async def _run_code(self, attempt_run: _Run) -> None:
        submit = attempt_run.attempt.submit
        code = submit.code
        has_own_python = code.spec.HasField("environment")
        if code.python and code.python != python_minor() and not has_own_python:
            raise EnvironmentMismatch(
                f"this code was made by Python {code.python}; node '{self.node_id}' has {python_minor()} and can't load it"
            )
        if code.kind in (pb.Code.KIND_REGISTER, pb.Code.KIND_STAGE):
            await self._register_shipped(attempt_run)
        elif code.kind == pb.Code.KIND_COMMIT:
            await self._commit(attempt_run)
        elif code.kind == pb.Code.KIND_UNREGISTER:
            if self.functions.pop(code.spec.name, None) is None:
                raise UsageError(f"node '{self.node_id}' offers no function '{code.spec.name}'")
            await self.offers_changed()
            self._succeed(attempt_run)
        elif code.kind == pb.Code.KIND_CLOSE_SESSION:
            self._spawn(self._close_session(submit.options.session_id))
            self._succeed(attempt_run)
        elif code.kind == pb.Code.KIND_POST_MORTEM:
            await self._look_back(attempt_run)
        elif code.kind == pb.Code.KIND_CELL and not submit.options.session_id:
            own = secrets.token_hex(8)  # a namespace that ends with the cell
            try:
                await self._run_cell(attempt_run, own)
            finally:
                self._end_session(own)
        elif code.kind == pb.Code.KIND_CELL:
            lock = self._session_locks.setdefault(submit.options.session_id, asyncio.Lock())
            if lock.locked():
                text = f"easyremote: waits for {self._session_titles.get(submit.options.session_id, 'a cell')} of this session\n"
                self._emit(attempt_run, pb.Event(output=pb.Output(is_stderr=True, text=text)), len(text))
            async with lock:
                self._session_titles[submit.options.session_id] = _title(attempt_run)
                await self._run_cell(attempt_run, submit.options.session_id)
        elif attempt_run.seal is not None and code.payload.HasField("blob"):
            await self._run_in_worker(attempt_run, code, await self._fetch_code(attempt_run))
        else:
            await self._run_in_worker(attempt_run, code, None)

    async def _look_back(self, attempt_run: _Run) -> None:
        """Have the worker where a call failed show what that left. Raises UsageError where there is nothing."""
        submit = attempt_run.attempt.submit
        try:
            failure = self._failures.get(bytes.fromhex(submit.code.spec.version))
        except ValueError:
            failure = None
        if failure is None or failure.worker.is_dead or failure.whose != _whose(attempt_run):
            raise UsageError(_NOTHING_LEFT.format(self.node_id))
        if failure.session_id:
            async with self._session_locks.setdefault(failure.session_id, asyncio.Lock()):
                await self._run_in_worker(attempt_run, submit.code, None, failure.worker)
        elif failure.worker.pool.take_idle(failure.worker):
            await self._run_in_worker(attempt_run, submit.code, None, failure.worker)
        else:
            raise UsageError(_NOTHING_LEFT.format(self.node_id))

    def _note_failure(self, attempt_run: _Run, worker: WorkerProcess) -> None:
        submit = attempt_run.attempt.submit
        if submit.code.kind == pb.Code.KIND_POST_MORTEM:
            return
        session_id = submit.options.session_id if submit.code.kind == pb.Code.KIND_CELL else ""
        self._failures[submit.call_id] = _Failure(worker, session_id, _whose(attempt_run))
        if len(self._failures) > _MAX_FAILURES:
            self._failures.popitem(last=False)

    async def _run_cell(self, attempt_run: _Run, session_id: str) -> None:
        encoded = await self._fetch_code(attempt_run) if attempt_run.seal is not None else None
        submit = attempt_run.attempt.submit
        python = await self.environments.for_session(session_id, submit.code, self.teller(attempt_run))
        worker = self._pools.take_for_session(session_id, submit.grant, attempt_run.limits, python)
        await self._run_in_worker(attempt_run, submit.code, encoded, worker)

    async def _close_session(self, session_id: str) -> None:
        """Once the cells are done that came before: those of a client that went are cancelled, a job goes on."""
        async with self._session_locks.setdefault(session_id, asyncio.Lock()):
            self._end_session(session_id)
        self._session_locks.pop(session_id, None)
        self._session_titles.pop(session_id, None)

    def _end_session(self, session_id: str) -> None:
        self._pools.close_session(session_id)
        self.environments.forget_session(session_id)

    async def _fetch_code(self, attempt_run: _Run) -> codec.Encoded:
        """Raises ConsentError where it isn't what its client signed."""
        submit = attempt_run.attempt.submit
        encoded = await self._fetch(submit.call_id, submit.code.payload)
        if attempt_run.seal is not None:
            attempt_run.seal.check_code(encoded)
        return encoded

    async def _register_shipped(self, attempt_run: _Run) -> None:
        submit = attempt_run.attempt.submit
        encoded = await self._fetch_code(attempt_run)
        code = pb.Code()
        code.CopyFrom(submit.code)
        code.kind = pb.Code.KIND_CALLABLE
        code.ClearField("payload")
        await self.environments.for_code(code, self.teller(attempt_run))  # what can't be built is told now
        registered = Registered(code.spec, code=(code, encoded))
        if submit.code.kind == pb.Code.KIND_STAGE:
            self._staged[code.spec.staged] = registered
            if len(self._staged) > _MAX_STAGED:
                self._staged.pop(next(iter(self._staged)))
        else:
            self.functions[code.spec.name] = registered
            await self.offers_changed()
        self._succeed(attempt_run)

    async def _commit(self, attempt_run: _Run) -> None:
        """Offer what was staged, in the place of what had its name."""
        spec = attempt_run.attempt.submit.code.spec
        registered = self._staged.pop(spec.staged, None)
        if registered is None or registered.spec.name != spec.name:
            raise UsageError(
                f"node '{self.node_id}' has no '{spec.name}' put aside: it began anew meanwhile; register it again"
            )
        registered.spec.staged = ""
        self.functions[spec.name] = registered
        await self.offers_changed()
        self._succeed(attempt_run)

    def _succeed(self, attempt_run: _Run, is_exhausted: bool = False) -> None:
        nothing = codec.encode_as(None, attempt_run.attempt.submit.options.accept)
        self._emit(attempt_run, pb.Event(result=nothing.inline(), is_exhausted=is_exhausted))

    async def _run_in_worker(
        self,
        attempt_run: _Run,
        code: pb.Code,
        encoded: codec.Encoded | None,
        worker: WorkerProcess | None = None,
    ) -> None:
        """Run it in a worker process, any or this one, and wait for its end. `encoded`: the code, where the node holds it."""
        attempt = attempt_run.attempt
        submit = pb.Submit(call_id=attempt.call_id, options=attempt.submit.options, attempt=attempt.number)
        submit.plain_only = attempt.submit.plain_only
        submit.options.no_debugger = self._approver is not None
        if attempt.is_granted:
            submit.grant.CopyFrom(attempt.submit.grant)
        if attempt.ends_at is not None:
            submit.options.timeout_s = left_s(attempt.ends_at)
        if attempt.submit.tasks:
            submit.tasks.extend(attempt.submit.tasks)
            submit.tasks_content_type = attempt.submit.tasks_content_type
            submit.skipped_tasks.extend(attempt.submit.skipped_tasks)
        else:
            submit.arguments.CopyFrom(await self._for_worker(attempt.call_id, attempt.submit.arguments))
        if attempt.submit.refs:
            await self._values_in_files(attempt_run, submit.arguments)
            submit.refs.extend(files_for_worker(attempt_run.values))
        if worker is None:
            python = await self.environments.for_code(code, self.teller(attempt_run))
            worker = await self._take_worker(code.digest, attempt.submit.grant, attempt_run.limits, python)
        began = monotonic()
        try:
            submit.code.CopyFrom(await self.code_for(worker, code, encoded, attempt.call_id))
        except BaseException:
            worker.pool.give_back(worker)
            self.forget_payload(submit.arguments)
            raise
        ended: asyncio.Future[None] = self._loop.create_future()
        worker.on_event = lambda event: self._worker_event(attempt_run, worker, event, ended)
        worker.on_death = lambda error: self._worker_died(attempt_run, error, ended)
        attempt_run.worker = worker
        if worker.is_dead:
            raise UsageError("the worker process ended before the call began; call again")
        worker.run(submit)
        if attempt_run.stop is not None:
            worker.interrupt()
        try:
            await asyncio.shield(ended)
            worker.pool.learn(code.digest, attempt_run.busy_s or monotonic() - began)
        finally:
            attempt_run.worker = None
            if not ended.done():
                worker.kill()
            worker.pool.give_back(worker)
            self.forget_payload(submit.arguments)
            self.forget_payload(submit.code.payload)

    async def code_for(
        self, worker: WorkerProcess, code: pb.Code, encoded: codec.Encoded | None, call_id: bytes
    ) -> pb.Code:
        """What this worker has to be told of the code: all of it where it hasn't loaded it."""
        told = pb.Code(kind=code.kind, digest=code.digest)
        if code.digest and code.digest in worker.loaded:
            return told
        if encoded is None:
            payload = await self._for_worker(call_id, code.payload)
        elif encoded.is_large:
            payload = await asyncio.to_thread(to_payload, encoded, self._shared)
        else:
            payload = encoded.inline()
        told.payload.CopyFrom(payload)
        return told

    def teller(self, attempt_run: _Run) -> Callable[[pb.Event], None]:
        """Tells the call's client something before it begins."""

        def tell(event: pb.Event) -> None:
            wants_it = attempt_run.attempt.submit.options.output or not event.HasField("output")
            if wants_it and not attempt_run.attempt.has_ended:
                self._emit(attempt_run, event, len(event.output.text))

        return tell

    async def _take_worker(
        self, digest: str, grant: pb.Grant, limits: Limits, python: Interpreter | None
    ) -> WorkerProcess:
        try:
            return await self._pools.take(digest, grant, limits, python)
        except OSError as error:
            text = f"node '{self.node_id}' can't start a worker process: {error}"
            raise WorkerCrashed(text, may_have_run=False) from error

    async def _for_worker(self, call_id: bytes, payload: pb.Payload) -> pb.Payload:
        """A payload whose large bytes lie in a shared file."""
        if not payload.HasField("blob"):
            return payload
        if payload.seal_key:
            return await asyncio.to_thread(to_payload, await self._fetch(call_id, payload), self._shared)
        name, sizes = await self._transfers.fetch_to_file(call_id, payload)
        return pb.Payload(content_type=payload.content_type, blob=pb.Blob(blob_id=name.encode(), part_bytes=sizes))

    async def _fetch(self, call_id: bytes, payload: pb.Payload) -> codec.Encoded:
        """A payload as it was at its client."""
        encoded = await self._transfers.fetch(call_id, payload)
        return await asyncio.to_thread(open_fetched, payload, encoded) if payload.seal_key else encoded

    async def _use_values(self, attempt_run: _Run, in_files: bool) -> None:
        """Have the values here that its arguments name."""
        refs = attempt_run.attempt.submit.refs
        if not any(ref.seal_key for ref in refs):
            attempt_run.pinned = attempt_run.values = await self.values.use(refs, in_files)
            return
        attempt_run.pinned = await self.values.use(refs, in_files=False)  # they are kept as they are fetched, sealed
        for ref, value in zip(refs, attempt_run.pinned, strict=True):
            attempt_run.values.append(await asyncio.to_thread(opened_value, ref, value, self._shared, in_files))

    async def _values_in_files(self, attempt_run: _Run, arguments: pb.Payload) -> None:
        try:
            await self._use_values(attempt_run, in_files=True)
        except BaseException:
            if arguments.HasField("blob"):
                self._shared.remove(arguments.blob.blob_id.decode())
            raise

    def _keep_workers_result(self, attempt_run: _Run, result: pb.Payload) -> None:
        """Have it stay here, and say so in its place."""
        key, kept_type, content_type = attempt_run.attempt.key, result.kept.type or "value", result.content_type
        if result.HasField("blob"):
            sizes = list(result.blob.part_bytes)
            name = self._shared.adopt(result.blob.blob_id.decode())  # it outlives its worker
            parts = split(self._shared.map(name, file_bytes(sizes)), sizes)
            kept = self.values.keep(key, parts, kept_type, name, content_type)
        else:
            kept = self.values.keep(key, codec.Encoded.of(result).parts, kept_type, content_type=content_type)
        result.CopyFrom(pb.Payload(kept=kept))

    def _worker_event(
        self, attempt_run: _Run, worker: WorkerProcess, event: pb.Event, ended: asyncio.Future[None]
    ) -> None:
        if event.call_id != attempt_run.attempt.call_id:
            return  # of an earlier call in that worker, e.g. from a process that it forked
        self._in_order(attempt_run, event, lambda: self._take_workers_event(attempt_run, event, ended))

    def _take_workers_event(self, attempt_run: _Run, event: pb.Event, ended: asyncio.Future[None]) -> None:
        size = self._own_payload(attempt_run, event)
        body = event.WhichOneof("body")  # a result that was to stay may have become an error
        if body == "returned" and event.returned.stop:
            self._stop_run(attempt_run, "cancelled", "the client cancelled it")
        if body == "error" and attempt_run.stop is not None:
            event.error.CopyFrom(self._stop_error(attempt_run))
        self._emit(attempt_run, event, size)
        if body in ("result", "error"):
            attempt_run.busy_s = event.busy_s
            if body == "error" and attempt_run.worker is not None:
                self._note_failure(attempt_run, attempt_run.worker)
            if not ended.done():
                ended.set_result(None)
            return
        if body == "items":
            attempt_run.owed += len(event.items.data)
        elif body == "item":
            attempt_run.owed += cost_of(size)
        self._pay_credits(attempt_run)

    def _own_payload(self, attempt_run: _Run, event: pb.Event) -> int:
        """Take over what a worker has put into a shared file. Tells what the event weighs in the window."""
        body = event.WhichOneof("body")
        if body == "items":
            return sum(map(len, event.items.data))
        if body not in ("item", "result", "display"):
            return len(event.output.text)
        if body == "result" and event.result.kept.seal_key:
            return 0
        if body == "result" and attempt_run.attempt.submit.options.keep:
            try:
                self._keep_workers_result(attempt_run, event.result)
            except PayloadError as error:
                event.error.CopyFrom(describe(error, self.node_id))
            return 0
        payload = event.display.bundle if body == "display" else getattr(event, body)
        size = sum(payload.blob.part_bytes) or len(payload.data) + sum(map(len, payload.buffers))
        if payload.HasField("blob") and not payload.seal_key:
            name, parts = payload.blob.blob_id.decode(), list(payload.blob.part_bytes)
            payload.CopyFrom(self._transfers.own_file(attempt_run.attempt.key, payload.content_type, parts, name))
        return size

    def told_by_worker(self, attempt_run: _Run, event: pb.Event) -> None:
        """A worker says this of one of the calls that it runs together. One that has ended meanwhile doesn't want it."""
        if not attempt_run.attempt.has_ended:
            self._in_order(
                attempt_run, event, lambda: self._emit(attempt_run, event, self._own_payload(attempt_run, event))
            )
        elif event.HasField("result"):
            self.forget_payload(event.result)

    def crashed(self, title: str, error: WorkerDied, options: pb.Options) -> pb.ErrorInfo:
        """What is told of a worker's death."""
        death = error.death
        last = f" The last it printed:\n{error.last_output.rstrip()}" if error.last_output.strip() else ""
        how = f"{death.text()}).{death.advice()}"
        return pb.ErrorInfo(
            code="worker_crashed",
            message=f"the worker process of '{title}' on node '{self.node_id}' died ({how}{last}",
            node_id=self.node_id,
            may_have_run=True,
            details={**death.facts(), "last_output": error.last_output},
            task=error.task,
            retriable=is_named(WorkerCrashed, options.retry_on),
        )

    def _worker_died(self, attempt_run: _Run, error: WorkerDied, ended: asyncio.Future[None]) -> None:
        if attempt_run.stop is not None:
            info = self._stop_error(attempt_run)
        else:
            info = self.crashed(_title(attempt_run), error, attempt_run.attempt.submit.options)

        def tell() -> None:
            self._emit(attempt_run, pb.Event(error=info))
            if not ended.done():
                ended.set_result(None)

        self._in_order(attempt_run, pb.Event(), tell)

    # ---- what is large and sealed --------------------------------------------------------------------------------

    def _in_order(self, attempt_run: _Run, event: pb.Event, work: Callable[[], None]) -> None:
        """What a worker says, now, or behind what is being sealed."""
        if not attempt_run.outgoing and not self._is_to_be_sealed(attempt_run, event):
            work()
            return
        attempt_run.outgoing.append((event, work))
        if len(attempt_run.outgoing) == 1:
            self._spawn(self._seal_in_order(attempt_run))

    async def _seal_in_order(self, attempt_run: _Run) -> None:
        while attempt_run.outgoing:
            event, work = attempt_run.outgoing[0]
            try:
                if self._is_to_be_sealed(attempt_run, event):
                    await self._seal_large(attempt_run, event)
            except Exception as error:
                event.error.CopyFrom(describe(error, self.node_id))
            try:
                work()
            except Exception as error:
                self._fail(attempt_run, error)
            attempt_run.outgoing.popleft()

    def _is_to_be_sealed(self, attempt_run: _Run, event: pb.Event) -> bool:
        """Whether it has a value that doesn't travel in the event itself."""
        if attempt_run.seal is None or attempt_run.attempt.has_ended:
            return False
        payload = payload_of(event)
        is_kept = event.HasField("result") and attempt_run.attempt.submit.options.keep
        return is_kept or (payload is not None and payload.HasField("blob"))

    async def _seal_large(self, attempt_run: _Run, event: pb.Event) -> None:
        key, payload = attempt_run.attempt.key, payload_of(event)
        assert payload is not None, "it has a value"
        encoded = await asyncio.to_thread(from_payload, payload, self._shared)
        sealed, seal_key = await asyncio.to_thread(seal_value, encoded)
        if event.HasField("result") and attempt_run.attempt.submit.options.keep:
            kept_type = payload.kept.type or "value"
            kept = self.values.keep(key, sealed.parts, kept_type, content_type=encoded.content_type)
            kept.seal_key = seal_key
            payload.CopyFrom(pb.Payload(kept=kept))
        else:
            payload.CopyFrom(self._transfers.own(key, sealed))
            payload.seal_key = seal_key

    # ---- events out ----------------------------------------------------------------------------------------------

    def _emit(self, attempt_run: _Run, event: pb.Event, size: int = 0) -> None:
        attempt = attempt_run.attempt
        if event.HasField("output") and not self._output_files.take(attempt.key, event.output):
            return
        if event.ByteSize() > (
            BATCH_BYTES if attempt_run.seal is None else BATCH_BYTES - SEAL_ROOM_BYTES
        ):  # it would end the connection, again and again
            text = f"an event of {event.ByteSize():,} bytes doesn't fit into a frame"
            event = pb.Event(error=pb.ErrorInfo(code="payload", message=text, node_id=self.node_id))
            self._stop_run(attempt_run, "payload", text)
        if event.HasField("error") and attempt_run.stop is not None and event.error.code == "remote":
            event.error.CopyFrom(self._stop_error(attempt_run))
        if attempt_run.seal is not None:
            event = attempt_run.seal.seal(event, attempt.seq + 1)
        effects = self._core.emit(attempt, event, size, monotonic())
        if attempt.has_ended:
            self._runs.pop(attempt.key, None)
            self._output_files.ended(attempt.key)
            if self.audit is not None:
                self._note(self.audit, attempt_run, event)
            if attempt_run.pinned:
                self._let_go_of_values(attempt_run)
        if effects:
            self._perform(effects)
        self._link.flush()

    def _note(self, audit: AuditLog, attempt_run: _Run, end: pb.Event) -> None:
        """How an attempt ended, for the audit log."""
        attempt, seal = attempt_run.attempt, attempt_run.seal
        has_failed, submit = end.HasField("error"), attempt.submit
        audit.note(
            {
                "outcome": "failed" if has_failed else "succeeded",
                "error": end.error.code if has_failed else "",
                "function": submit.function or submit.code.spec.name,
                "code": submit.code.digest,
                "key": seal.permit.admission.client.fingerprint if seal is not None else "",
                "node": self.node_id,
                "gateway": self._endpoint.address,
                "call": attempt.call_id,
                "attempt": attempt.number,
                "tasks": len(submit.tasks) or 1,
                "took_s": monotonic() - attempt.started_at if attempt.started_at is not None else 0.0,
            }
        )

    def _let_go_of_values(self, attempt_run: _Run) -> None:
        pinned, attempt_run.pinned = attempt_run.pinned, []
        for value in attempt_run.values:
            if value.file and value not in pinned:  # opened for this call alone
                self._shared.remove(value.file)
        attempt_run.values = []
        self.values.done_with(pinned)

    def _send_fetch(self, fetch: pb.Fetch) -> None:
        self._core.fetch(fetch)
        self._link.flush()

    def _send_chunk(self, chunk: pb.Chunk) -> None:
        self._core.send_chunk(chunk)
        self._link.flush()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S if self._runs else 5 * TICK_S)
            try:
                for attempt_run in list(self._runs.values()):
                    if attempt_run.emitter is not None:
                        attempt_run.emitter.flush_due()
                    self._check_bundle(attempt_run)
                for batcher in self._batchers.values():
                    batcher.flush_due()
                effects = self._core.tick(monotonic())
                if effects:
                    self._perform(effects)
            except Exception:  # timeouts of all other calls hang on this task
                _log.exception("a call of node %s couldn't be looked after", self.node_id)
            if self._core.outbox:
                self._link.flush()

    def _check_bundle(self, attempt_run: _Run) -> None:
        """A bundle is made of calls that were short. Where one isn't, the others mustn't wait for it."""
        attempt = attempt_run.attempt
        if not attempt.submit.tasks or attempt_run.gave_back or attempt.started_at is None:
            return
        if attempt_run.worker is None and attempt_run.emitter is None:
            return  # its code is on the way still
        if monotonic() - attempt.started_at > GIVE_BACK_AFTER_S:
            self._give_tasks_back(attempt_run)

    async def _report(self) -> None:
        while True:
            try:
                load = await self._loop.run_in_executor(None, measure)
            except RuntimeError:
                return  # the interpreter is ending
            except Exception as error:  # e.g. no descriptor is left; later there may be one
                _log.warning("node %s couldn't be measured: %s", self.node_id, error)
                await asyncio.sleep(LOAD_EVERY_S)
                continue
            self._core.report(load)
            self._link.flush()
            self._pools.measured(load.gpus)
            self._pools.trim()
            self.environments.release_unused()
            await asyncio.sleep(LOAD_EVERY_S)

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _whose(attempt_run: _Run) -> tuple[str, str]:
    """The token and the key that a call came with."""
    return attempt_run.attempt.submit.owner, attempt_run.client


def _title(attempt_run: _Run) -> str:
    submit = attempt_run.attempt.submit
    return submit.options.label or submit.function or submit.code.spec.name
