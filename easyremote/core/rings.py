"""Which nodes can open a sealed call: the admissions that its client has made.

A client seals its calls under the key of an *epoch*, and makes an admission for each node that is to have this key. The gateway
can't read them; it gives each node its own with every call of that epoch. A client's admissions go with its session, and those
that came with a job stay as long as the job is here.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.message import DecodeError

from easyremote.core.records import Call, Node, QueueKey, Session
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_ADMISSIONS = 8192
"""Of one session; further ones are ignored."""

MAX_JOB_ADMISSIONS = 64
"""That come with one job; it isn't taken with more."""

MAX_ADMISSION_BYTES = 1024
EPOCH_BYTES = 16
KEY_BYTES = 32


class Ring:
    """The admissions of one epoch, by the keys of their nodes."""

    __slots__ = ("admissions", "jobs", "of_jobs", "owner")

    def __init__(self) -> None:
        self.owner: Session | None = None  # whose epoch it is, while that is here
        self.admissions: dict[bytes, pb.Admission] = {}
        self.of_jobs: dict[bytes, pb.Admission] = {}
        self.jobs = 0  # calls that have brought some of the latter

    def get(self, node: Node) -> pb.Admission | None:
        """The one for this node."""
        return self.admissions.get(node.sign_key) or self.of_jobs.get(node.sign_key)


class Rings:
    """All of them, by epoch."""

    def __init__(self) -> None:
        self._rings: dict[bytes, Ring] = {}
        self._of: dict[Session, dict[bytes, Ring]] = {}  # those that belong to a session
        self.has_less = False  # a client has taken some back; whoever looks after calls that wait sets it back

    # ---- what clients bring --------------------------------------------------------------------------------------

    def take(self, session: Session, keyring: pb.Keyring) -> None:
        """A client has made these."""
        own = self._of.setdefault(session, {})
        if keyring.complete and own:
            self._drop(own)
            self.has_less = True
        room = MAX_ADMISSIONS - sum(len(ring.admissions) for ring in own.values())
        for admission in keyring.admissions[: max(room, 0)]:
            named = named_by(admission)
            if named is None:
                continue
            epoch, node_key = named
            ring = self._rings.setdefault(epoch, Ring())
            if ring.owner is None:
                ring.owner = session
            if ring.owner is session:
                ring.admissions[node_key] = admission
                own[epoch] = ring
        if not own:
            del self._of[session]

    def session_left(self, session: Session) -> bool:
        """Tells whether it had any."""
        own = self._of.pop(session, {})
        had_some = bool(own)
        self._drop(own)
        return had_some

    def _drop(self, own: dict[bytes, Ring]) -> None:
        for epoch, ring in own.items():
            ring.owner = None
            ring.admissions.clear()
            self._tidy(epoch)
        own.clear()

    def job_came(self, call: Call) -> bool:
        """A call that brings admissions along. Tells whether they are new."""
        call.brings_ring = True
        ring = self._rings.setdefault(call.key.epoch, Ring())
        ring.jobs += 1
        before = len(ring.of_jobs)
        for admission in call.submit.seal.admissions:
            named = named_by(admission)
            if named is not None and named[0] == call.key.epoch and len(ring.of_jobs) < MAX_ADMISSIONS:
                ring.of_jobs[named[1]] = admission
        return len(ring.of_jobs) > before

    def job_left(self, call: Call) -> bool:
        """The same is forgotten here. Tells whether it was the last one of its ring."""
        call.brings_ring = False
        ring = self._rings[call.key.epoch]
        ring.jobs -= 1
        if not ring.jobs:
            ring.of_jobs.clear()
            self._tidy(call.key.epoch)
        return not ring.jobs

    def _tidy(self, epoch: bytes) -> None:
        ring = self._rings[epoch]
        if ring.owner is None and not ring.jobs:
            del self._rings[epoch]

    # ---- who can open what ---------------------------------------------------------------------------------------

    def can_open(self, node: Node, key: QueueKey) -> bool:
        """Whether the node takes such a call: what is sealed it must be able to open, and it may take nothing else."""
        if not key.epoch:
            return not node.sealed_only
        ring = self._rings.get(key.epoch)
        return ring is not None and ring.get(node) is not None

    def admission(self, call: Call, node: Node) -> pb.Admission:
        """The one with which this node opens the call. It has one, or it wouldn't have been chosen."""
        admission = self._rings[call.key.epoch].get(node)
        assert admission is not None, "a sealed call goes to a node that can open it"
        return admission

    def why_not(self, call: Call, nodes: Iterable[Node]) -> pb.ErrorInfo | None:
        """Why none of these nodes, which would do otherwise, takes the call; None: one does."""
        closed = [node for node in nodes if not self.can_open(node, call.key)]
        if any(node not in closed for node in nodes) or not closed:
            return None
        names = ", ".join(f"'{node.node_id}'" for node in closed[:3]) + (", …" if len(closed) > 3 else "")
        error = pb.ErrorInfo(code="no_node", details={"sealed": "yes" if call.key.epoch else "no"})
        if call.key.epoch:
            error.message = (
                f"'{call.title}' is sealed, and its client doesn't trust the key of {names}; it has been told why"
            )
        else:
            error.message = f"'{call.title}' isn't sealed, and {names} takes only sealed calls. {UNSEALED_REMEDY}"
        return error

    def leftovers(self) -> list[str]:
        """What a gateway that nobody uses should not hold, in words."""
        return [f"{ring.jobs} jobs share a ring" for ring in self._rings.values() if ring.jobs]

    def check(self, calls: Iterable[Call], sessions: Iterable[Session]) -> None:
        """Assert that rings are those of sessions and jobs that are here."""
        known = set(map(id, sessions))
        jobs: dict[bytes, int] = {}
        for call in calls:
            if call.brings_ring:
                jobs[call.key.epoch] = jobs.get(call.key.epoch, 0) + 1
        for session, own in self._of.items():
            assert id(session) in known, "a ring's session is here"
            assert own and all(ring.owner is session for ring in own.values()), "and the ring is its own"
            assert sum(len(ring.admissions) for ring in own.values()) <= MAX_ADMISSIONS, (
                "it is no larger than it may be"
            )
        for epoch, ring in self._rings.items():
            assert ring.jobs == jobs.get(epoch, 0), "jobs that bring admissions are counted"
            assert ring.jobs or ring.owner is not None, "no ring is kept for nobody"
            assert ring.owner is None or self._of[ring.owner][epoch] is ring, "a ring is known to its owner"


UNSEALED_REMEDY = (
    "Call again: a client of this version seals its calls once it knows of such a node; upgrade an older one"
)


def named_by(admission: pb.Admission) -> tuple[bytes, bytes] | None:
    """The epoch and the key of the node, or None for one that is none."""
    if len(admission.statement) > MAX_ADMISSION_BYTES or len(admission.signature) > MAX_ADMISSION_BYTES:
        return None
    try:
        statement = pb.AdmissionStatement.FromString(admission.statement)
    except DecodeError:
        return None
    if len(statement.epoch) != EPOCH_BYTES or len(statement.node_key) != KEY_BYTES:
        return None
    return statement.epoch, statement.node_key


def epoch_of(seal: pb.Seal) -> bytes:
    """The epoch under whose key a call is sealed; empty where nobody can tell."""
    try:
        epoch = pb.CallStatement.FromString(seal.statement).epoch
    except DecodeError:
        return b""
    return epoch if len(epoch) == EPOCH_BYTES else b""


def refuse_seal(submit: pb.Submit) -> pb.ErrorInfo | None:
    """What is wrong with a sealed submission in itself, or None."""
    if not epoch_of(submit.seal):
        return pb.ErrorInfo(code="remote_protocol", message="a sealed call states its epoch, 16 bytes")
    if len(submit.seal.admissions) > MAX_JOB_ADMISSIONS:
        text = f"a job brings at most {MAX_JOB_ADMISSIONS} admissions, not {len(submit.seal.admissions)}"
        return pb.ErrorInfo(code="usage", message=text)
    return None
