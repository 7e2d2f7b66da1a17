"""A pretend keeper of jobs: the real session core, and a disk that outlives the gateway, with which it lives and dies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from easyremote.core import client_session as core
from easyremote.core.transitions import UNREPEATABLE
from easyremote.testing.clock import Timer
from easyremote.testing.scripts import Asked
from easyremote.testing.sim_client import ClientWorld, Consumer, SimClient, _outcome_of, _size_of
from easyremote.testing.sim_seals import seal_job
from easyremote.wire.v1 import gateway_pb2 as pb

WAITS_S = 40.0
"""A job that says nothing waits so long for a node."""


@dataclass(slots=True)
class KeptJob:
    """What is on disk of a job."""

    asked: Asked
    created: float
    boot: int
    attempt: int = 0
    seq: int = 0
    was_allowed: bool = False
    has_item: bool = False
    has_ended: bool = False


@dataclass(slots=True)
class Disk:
    """Of the machine that gateways run on, one after the other."""

    boots: int = 0
    jobs: dict[bytes, KeptJob] = field(default_factory=dict[bytes, KeptJob])


class SimKeeper(SimClient):
    """Part of a gateway's process. What it takes from nodes counts as taken when it is on disk."""

    def __init__(self, world: ClientWorld, name: str, disk: Disk, seals_for: Sequence[str] = ()) -> None:
        """`seals_for`: jobs are sealed for these nodes."""
        super().__init__(world, name)
        self._seals_for = list(seals_for)
        self._disk = disk
        disk.boots += 1
        runtime = pb.Runtime(python="3.11.7", host=name)
        self.core = core.ClientSession(world.rng.randbytes(16), runtime, disk.boots - 1, allows_itself=True)
        for job in disk.jobs.values():
            if not job.has_ended:
                submit = self._submission(job)
                self.core.restore(submit, job.boot, self.now, job.attempt, job.seq, job.was_allowed, job.has_item)

    def keep(self, asked: Asked) -> None:
        """A job is accepted, and so on disk."""
        job = self._disk.jobs[asked.call_id] = KeptJob(asked, self.world.schedule.now, self._disk.boots)
        self.core.submit(self._submission(job), self.now)
        self.core.check()
        self.flush()

    def end(self, call_id: bytes, outcome: str) -> None:
        """Its user cancels it."""
        job = self._disk.jobs[call_id]
        if not job.has_ended:
            job.has_ended = True
            self.forget(call_id)
            self.core.cancel(call_id, outcome)
            self.core.check()
            self.flush()
            self._client_world.call_ended(job.asked, outcome)

    def _submission(self, job: KeptJob) -> pb.Submit:
        asked = job.asked
        submit = pb.Submit(call_id=asked.call_id, function=asked.function, options=asked.options)
        data = asked.script.encode()
        if asked.script.argument_bytes:
            submit.arguments.CopyFrom(self.transfers.own(asked.call_id, data, asked.call_id))  # a name that stays
        else:
            submit.arguments.data = data
        passed_s = self.world.schedule.now - job.created
        if submit.options.timeout_s:
            left_s = submit.options.timeout_s - passed_s
            submit.options.timeout_s = left_s if left_s > 0 else -1.0
        submit.options.queue_timeout_s = submit.options.queue_timeout_s or WAITS_S
        if self._seals_for:
            seal_job(submit, self._seals_for)
        self.consumers[asked.call_id] = Writer(self, job)
        return submit


class Writer(Consumer):
    """Writes a job's events to disk, some of them together, and only then counts them as taken."""

    def __init__(self, keeper: SimKeeper, job: KeptJob) -> None:
        super().__init__(keeper, job.asked, 0.001)
        self._keeper = keeper
        self._job = job
        self._writes: list[pb.Event] = []
        self._writer: Timer | None = None

    def arrive(self, event: pb.Event) -> None:
        self._writes.append(event)
        if self._writer is None:
            self._writer = self._keeper.after(self._keeper.world.rng.uniform(0.0005, 0.02), self._write)

    def _write(self) -> None:
        """All at once, as a transaction does; what is dropped before it is lost with the process."""
        self._writer = None
        job, keeper = self._job, self._keeper
        events, self._writes = self._writes, []
        if job.has_ended:
            return
        for event in events:
            body = event.WhichOneof("body")
            assert (event.attempt, event.seq) > (job.attempt, job.seq), "an event comes to disk once"
            job.attempt, job.seq = event.attempt, event.seq
            job.has_item = job.has_item or body in UNREPEATABLE
            if body == "item":
                keeper._client_world.item_came(job.asked, event)
            if event.started.waits:
                job.was_allowed = True
                keeper.core.allow(job.asked.call_id, event.attempt)
            keeper.taken(job.asked.call_id, event.attempt, event.seq, _size_of(event))
            if body in ("result", "error"):
                job.has_ended = True
                keeper.forget(job.asked.call_id)
                keeper._client_world.call_ended(job.asked, _outcome_of(event, job.asked))

    def judged(self, error: pb.ErrorInfo) -> None:
        if not self._job.has_ended:
            self._write()
            self._job.has_ended = True
            self._keeper._client_world.call_ended(self._job.asked, error.code, error.may_have_run)
