"""Calls of a node that run together: each joins others of its function, and one run ends them all.

A function has one run at a time, in a thread or a worker process, beside the node's slots. A call that isn't wanted any more ends
at once, whether it waits or runs; the run itself is stopped when none of its calls is wanted.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from easyremote.execution import routing
from easyremote.execution.batching import may_run_again, run_batch
from easyremote.execution.context import current
from easyremote.execution.credits import cost_of
from easyremote.execution.failure import describe
from easyremote.execution.gathering import Gatherer
from easyremote.execution.thread_calls import InFile, ThreadEmitter
from easyremote.node_values import by_id, files_for_worker
from easyremote.runtime import random_id
from easyremote.wire import codec
from easyremote.wire.references import resolving
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.execution.pool import WorkerDied, WorkerProcess
    from easyremote.serving import Engine, Registered
    from easyremote.serving import _Run as Run

_GIVEN_UP_AFTER_S = 1.0
"""A thread that was interrupted and hasn't ended by then is given up."""

_COROUTINES = (pb.FUNCTION_KIND_COROUTINE,)


class Member:
    """A call that waits for others, or runs with them."""

    def __init__(self, engine: Engine, run: Run, batcher: Batcher, arguments: codec.Encoded | pb.Payload) -> None:
        """`arguments`: a payload of the worker's link where a worker runs it."""
        self.run = run
        self.batcher = batcher
        self.payload = arguments if isinstance(arguments, pb.Payload) else pb.Payload()
        self._arguments = arguments if isinstance(arguments, codec.Encoded) else None
        self._engine = engine
        self.batch: _InThread | _InWorker | None = None

    @property
    def is_wanted(self) -> bool:
        return self.run.stop is None and not self.run.attempt.has_ended

    @property
    def may_run_again(self) -> bool:
        return may_run_again(self.run.attempt.submit.options)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        assert self._arguments is not None, "what a thread runs has its arguments here"
        function = self.batcher.registered.function
        may_unpickle = not self.run.attempt.submit.plain_only
        with resolving(by_id(self.run.values), lambda value: codec.decode(value, may_unpickle, function)):
            return codec.decode_arguments(self._arguments, may_unpickle, function)

    def result(self, value: Any) -> None:
        if self.is_wanted:
            self._emitter().result(value)

    def failed(self, error: BaseException) -> None:
        if self.is_wanted:
            self._emitter().failed(error)

    def _emitter(self) -> ThreadEmitter:
        assert isinstance(self.batch, _InThread)
        self.batch.lead.flush()
        engine, run, began = self._engine, self.run, self.batch.began

        def post(event: pb.Event | list[bytes], field: str, encoded: codec.Encoded | InFile | None) -> None:
            if isinstance(event, pb.Event):
                event.run_s = monotonic() - began
            engine.post(run, event, field, encoded)

        return ThreadEmitter(engine.node_id, run.attempt.submit, post, engine.shared_for(run))


class Batcher:
    """One function's calls."""

    def __init__(self, engine: Engine, registered: Registered, grant: pb.Grant | None) -> None:
        self.registered = registered
        self.grant = grant or pb.Grant()  # of all of them together: the first one brings it
        self._engine = engine
        self._gatherer = Gatherer[Member](
            registered.spec.batch, registered.spec.batch_wait_s, self._start, lambda member: member.is_wanted
        )
        self._running: _InThread | _InWorker | None = None

    @property
    def is_idle(self) -> bool:
        return self._gatherer.is_idle

    def add(self, run: Run, arguments: codec.Encoded | pb.Payload) -> None:
        member = Member(self._engine, run, self, arguments)
        run.member = member
        self._gatherer.add(member)

    def again_alone(self, member: Member) -> None:
        member.batch = None
        self._gatherer.add_alone(member)

    def drop(self, member: Member) -> None:
        """Its call was told to stop, and ends now."""
        if self._gatherer.remove(member):
            self._engine.forget_payload(member.payload)
        self._engine.end_stopped(member.run)
        batch = member.batch
        if batch is not None and not any(other.is_wanted for other in batch.members):
            batch.interrupt()

    def flush_due(self) -> None:
        if isinstance(self._running, _InThread):
            self._running.lead.flush_due()

    def close(self) -> None:
        self._gatherer.close()

    def _start(self, members: list[Member]) -> None:
        kind = _InThread if self.registered.code is None else _InWorker
        batch = self._running = kind(self._engine, self.registered, members, self._ended)
        for member in members:
            member.batch = batch
        batch.start()

    def _ended(self) -> None:
        self._running = None
        self._gatherer.ended()


class _InThread:
    """A run in a thread of the node's process."""

    def __init__(
        self, engine: Engine, registered: Registered, members: list[Member], ended: Callable[[], None]
    ) -> None:
        self.members = members
        self.began = 0.0
        self._engine = engine
        self._registered = registered
        self._ended: Callable[[], None] | None = ended
        first = members[0].run.attempt.call_id
        submit = pb.Submit(call_id=first, options=_options_of(members), grant=members[0].batcher.grant)
        self.lead = ThreadEmitter(engine.node_id, submit, self._post)
        self.lead.is_async = True  # nobody's output may hold up the others

    def start(self) -> None:
        routing.ensure()
        is_async = self._registered.spec.kind in _COROUTINES
        loop = self._engine._user_loop() if is_async else None
        self._engine._threads.submit(lambda: self._work(loop))

    def interrupt(self) -> None:
        self.lead.interrupt()
        asyncio.get_running_loop().call_later(_GIVEN_UP_AFTER_S, self._give_up)

    def _work(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """In its thread."""
        function = self._registered.function
        assert function is not None
        try:
            if self.lead.entered():
                self.began = monotonic()
                token = current.set(self.lead)
                try:
                    run_batch(function, self.members, self._registered.spec.batch_whole, self._on(loop))
                finally:
                    current.reset(token)
                    self.lead.flush()
        except BaseException as error:
            for member in self.members:
                member.failed(error)
        finally:
            self.lead.left()
            with contextlib.suppress(RuntimeError):  # the loop has ended: so has the node
                self._engine._loop.call_soon_threadsafe(self._end)

    def _on(self, loop: asyncio.AbstractEventLoop | None) -> Callable[[Any], Any]:
        if loop is None:
            return asyncio.run

        def run_there(work: Any) -> Any:
            future = self.lead.future = asyncio.run_coroutine_threadsafe(work, loop)
            if self.lead.is_interrupted:
                future.cancel()
            return future.result()

        return run_there

    def _post(self, event: pb.Event | list[bytes], field: str, encoded: codec.Encoded | InFile | None) -> None:
        """What the function prints, displays and reports goes to the first of its calls that is still wanted."""
        for member in self.members:
            if member.is_wanted and (field != "output" or member.run.attempt.submit.options.output):
                self._engine.post(member.run, event, field, encoded)
                return

    def _give_up(self) -> None:
        """It doesn't react: C code goes on until it returns. The next batch needn't wait for it."""
        if self._ended is not None:
            self._engine._threads.expand()
            self._end()

    def _end(self) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended()


class _InWorker:
    """A run in a worker process."""

    def __init__(
        self, engine: Engine, registered: Registered, members: list[Member], ended: Callable[[], None]
    ) -> None:
        self.members = members
        self._engine = engine
        self._registered = registered
        self._ended = ended
        self._id = random_id()
        self._done = 0  # calls whose end has come
        self._worker: WorkerProcess | None = None
        self._began = 0.0
        self._end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def start(self) -> None:
        self._engine._spawn(self._run())

    def interrupt(self) -> None:
        if self._worker is not None:
            self._worker.interrupt()

    async def _run(self) -> None:
        engine, (code, encoded), grant = self._engine, self._code, self.members[0].batcher.grant
        worker: WorkerProcess | None = None
        try:
            python = await engine.environments.for_code(code, self._tell)
            worker = await engine._pools.take(code.digest, grant, interpreter=python)
            submit = pb.Submit(call_id=self._id, options=_options_of(self.members), grant=grant)
            submit.code.CopyFrom(await engine.code_for(worker, code, encoded, self._id))
            spec = self._registered.spec
            submit.code.spec.CopyFrom(pb.FunctionSpec(batch=spec.batch, batch_whole=spec.batch_whole))
            for member in self.members:
                asked = member.run.attempt.submit
                task = pb.Submit(arguments=member.payload, options=asked.options, plain_only=asked.plain_only)
                task.refs.extend(files_for_worker(member.run.values))
                submit.tasks.append(task.SerializeToString())
            if any(member.is_wanted for member in self.members):
                await self._run_in(worker, submit)
        except Exception as error:
            self._fail(
                [member for member in self.members[self._done :] if member.is_wanted], describe(error, engine.node_id)
            )
        finally:
            if worker is not None:
                if self._worker is not None and not self._end.done():
                    worker.kill()
                self._worker = None
                worker.pool.give_back(worker)
            for member in self.members:
                if member.batch is self:
                    engine.forget_payload(member.payload)
            self._ended()

    @property
    def _code(self) -> tuple[pb.Code, codec.Encoded]:
        assert self._registered.code is not None
        return self._registered.code

    async def _run_in(self, worker: WorkerProcess, submit: pb.Submit) -> None:
        worker.on_event = self._event
        worker.on_death = self._died
        self._worker = worker
        self._began = monotonic()
        worker.run(submit)
        await asyncio.shield(self._end)
        worker.pool.learn(submit.code.digest, monotonic() - self._began)

    def _event(self, event: pb.Event) -> None:
        if event.call_id != self._id:
            return  # of an earlier call in that worker
        body = event.WhichOneof("body")
        if body == "items":
            for data in event.items.data:
                self._end_one(pb.Event(result=pb.Payload(data=data, content_type=event.items.content_type)))
            self._pay(len(event.items.data))
        elif body == "item":
            size = sum(event.item.blob.part_bytes) or len(event.item.data)
            self._end_one(pb.Event(result=event.item))
            self._pay(cost_of(size))
        elif body == "failure":
            self._end_one(pb.Event(error=event.failure))
        elif body in ("result", "error"):
            if body == "error":
                self._fail(self.members[self._done :], event.error)
            if not self._end.done():
                self._end.set_result(None)
        else:
            self._show(event)

    def _pay(self, credits: int) -> None:
        if self._worker is not None:
            self._worker.give_credit(credits)

    def _end_one(self, event: pb.Event) -> None:
        if self._done < len(self.members):
            member = self.members[self._done]
            self._done += 1
            event.run_s = monotonic() - self._began
            self._engine.told_by_worker(member.run, event)

    def _tell(self, event: pb.Event) -> None:
        """What happens before the run begins; each of its calls waits for it."""
        for member in self.members:
            if member.is_wanted:
                own = pb.Event()
                own.CopyFrom(event)
                self._engine.told_by_worker(member.run, own)

    def _show(self, event: pb.Event) -> None:
        is_output = event.HasField("output")
        for member in self.members:
            if member.is_wanted and (not is_output or member.run.attempt.submit.options.output):
                self._engine.told_by_worker(member.run, event)
                return

    def _died(self, error: WorkerDied) -> None:
        """Whose fault it was can't be told, so those that may run again do so alone."""
        left = [member for member in self.members[self._done :] if member.is_wanted]
        is_split = len(self.members) > 1 and not self._registered.spec.batch_whole
        again = [m for m in left if is_split and m.may_run_again and not m.payload.HasField("blob")]
        for member in left:
            if member not in again:
                options = member.run.attempt.submit.options
                self._fail([member], self._engine.crashed(self._registered.spec.name, error, options))
        for member in again:
            member.batcher.again_alone(member)
        if not self._end.done():
            self._end.set_result(None)

    def _fail(self, members: Sequence[Member], error: pb.ErrorInfo) -> None:
        for member in members:
            self._engine.told_by_worker(member.run, pb.Event(error=error))


def _options_of(members: Sequence[Member]) -> pb.Options:
    """Of a run of several calls: the first one shows what it prints."""
    return pb.Options(output=True, output_limit=members[0].run.attempt.submit.options.output_limit)
