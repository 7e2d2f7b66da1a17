"""Pretend sealing: admissions and statements as the gateway sees them, without keys. Nothing here is secret."""

from __future__ import annotations

from easyremote.core import client_session as core
from easyremote.wire.v1 import gateway_pb2 as pb


class Sealed(AssertionError):
    """A node got what it can't open."""


def identity(name: str) -> bytes:
    """The keys of the node of this name, whatever process it is."""
    return name.encode().ljust(128, b".")


def state_of(name: str) -> pb.NodeState:
    """What a node says that takes only sealed calls."""
    return pb.NodeState(identity=identity(name), sealed_only=True)


class SimSeals:
    """One client's: its epoch, and the nodes that it has heard of, all of which it trusts.

    Once a node was heard of, every call is sealed: an earlier one of a client that knows none fails at once, or waits.
    """

    def __init__(self, session: core.ClientSession, epoch: bytes) -> None:
        self._session = session
        self._epoch = epoch
        self._admitted: dict[bytes, None] = {}

    def came(self, keys: pb.NodeKeys) -> None:
        """The gateway tells which nodes are here."""
        new = [key.identity[:32] for key in keys.nodes if key.identity[:32] not in self._admitted]
        self._admitted.update(dict.fromkeys(new))
        self._session.admit(_admission(node_key, self._epoch) for node_key in new)

    def seal(self, submit: pb.Submit) -> None:
        submit.seal.statement = pb.CallStatement(epoch=self._epoch, call_id=submit.call_id).SerializeToString()


def seal_job(submit: pb.Submit, nodes: list[str]) -> None:
    """A job brings its admissions along."""
    epoch = submit.call_id
    submit.seal.statement = pb.CallStatement(epoch=epoch, call_id=submit.call_id).SerializeToString()
    submit.seal.admissions.extend(_admission(identity(name)[:32], epoch) for name in nodes)


def check(name: str, submit: pb.Submit) -> None:
    """Whether the node of this name can open the call. Raises Sealed."""
    call = pb.CallStatement.FromString(submit.seal.statement)
    admission = pb.AdmissionStatement.FromString(submit.seal.admission.statement)
    if call.call_id != submit.call_id or not call.epoch:
        raise Sealed(f"{name} got a call that isn't sealed")
    if admission.node_key != identity(name)[:32] or admission.epoch != call.epoch:
        raise Sealed(f"{name} got a call with another's admission")
    if submit.seal.admissions:
        raise Sealed(f"{name} got the admissions of others")


def _admission(node_key: bytes, epoch: bytes) -> pb.Admission:
    return pb.Admission(statement=pb.AdmissionStatement(node_key=node_key, epoch=epoch).SerializeToString())
