"""What a client seals and opens: its epochs, the nodes that it trusts, and the calls of which it awaits sealed events.

A client seals where a node demands it. At a gateway that isn't this user's own it does so always from then on, so that one which
hides its nodes gets nothing in clear; at its own, while such a node is here. EASYREMOTE_SEAL=1 seals everywhere.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from easyremote.errors import ConsentError, EasyRemoteError, SealError, UsageError
from easyremote.wire import codec
from easyremote.wire.events import payload_of
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.security.identity import Identity, PublicIdentity
    from easyremote.security.known_nodes import KnownNodes
    from easyremote.security.sealing import EventKey, Origin

SEAL_VARIABLE = "EASYREMOTE_SEAL"
"""Set to 1: clients seal all their calls and nodes take no others, on one machine as well."""

EPOCH_S = 12 * 3600.0
"""Calls are sealed under a new key after so long."""

EPOCH_CALLS = 1_000_000
"""And after so many of them."""

CALL_VALID_S = 24 * 3600.0
"""A sealed call doesn't begin to run later than so long after it was made, unless its timeouts are longer."""

JOB_VALID_S = 30 * 86400.0
"""The same of a job."""

MAX_NODES = 4096
"""Nodes that a client admits to its calls; of further ones the first that came are kept."""

MAX_JOBS = 256
"""Jobs whose keys are kept at hand; those of a further one are worked out again when they are needed."""

_OWN_VALID_S = 20 * 365 * 86400.0
_LARGEST_TIME_S = 1e10

_log = logging.getLogger("easyremote")


def is_forced() -> bool:
    """Whether everything is to be sealed, on one machine as well."""
    return os.environ.get(SEAL_VARIABLE) == "1"


class Prepared(NamedTuple):
    """A large value that is sealed already."""

    sealed: codec.Encoded
    key: bytes

    @property
    def refs(self) -> Any:
        return self.sealed.refs


class _Epoch:
    """A key, and the calls that are sealed under keys derived from it."""

    def __init__(self, valid_s: float) -> None:
        from easyremote.security.statements import EPOCH_BYTES, KEY_BYTES, mac_key

        self.epoch_id = secrets.token_bytes(EPOCH_BYTES)
        self.key = secrets.token_bytes(KEY_BYTES)
        self.mac_key = mac_key(self.key)
        self.made_at = time.monotonic()
        self.expires = time.time() + valid_s
        self.calls = 0
        self.open_calls = 0

    @property
    def is_worn(self) -> bool:
        return time.monotonic() - self.made_at > EPOCH_S or self.calls >= EPOCH_CALLS


class _OpenCall:
    """A sealed call that hasn't ended for this side, with the keys of its attempts."""

    __slots__ = ("epoch", "keys")

    def __init__(self, epoch: _Epoch) -> None:
        self.epoch = epoch
        self.keys: dict[int, EventKey] = {}


class Sealing:
    """One connection's. `seal` and `prepare` may be called in any thread, the rest on the loop.

    `gateway`: what its nodes are known under. `admit`: takes admissions to the gateway, and whether they are all.
    """

    def __init__(self, gateway: str, is_own: bool, admit: Callable[[Iterable[pb.Admission], bool], None]) -> None:
        self.gateway = gateway
        self._is_own = is_own
        self._admit = admit
        self._lock = threading.RLock()
        self._identity_made: Identity | None = None
        self._known_nodes: KnownNodes | None = None
        self._nodes: dict[str, PublicIdentity] = {}  # by name, those that are trusted
        self._demanding: set[str] = set()
        self._refused: dict[str, ConsentError] = {}
        self._trusted: dict[bytes, PublicIdentity] = {}  # by its bytes: whoever was ever trusted here
        self._shared: dict[bytes, bytes] = {}
        self._epochs: list[_Epoch] = []  # the newest last
        self._job_epoch: _Epoch | None = None
        self._open: dict[bytes, _OpenCall] = {}
        self._of_jobs: OrderedDict[bytes, dict[int, EventKey]] = OrderedDict()
        self._is_required = is_forced() or self._has_met_nodes()

    # ---- who is there --------------------------------------------------------------------------------------------

    def keys_came(self, keys: pb.NodeKeys) -> None:
        """The gateway tells which nodes are here."""
        from easyremote.security.identity import PublicIdentity

        with self._lock:
            if keys.complete:
                self._nodes.clear()
                self._demanding.clear()
                self._refused.clear()
            for node_id in keys.gone:
                self._nodes.pop(node_id, None)
                self._demanding.discard(node_id)
                self._refused.pop(node_id, None)
            new: list[PublicIdentity] = []
            for told in keys.nodes:
                if told.sealed_only:
                    self._demanding.add(told.node_id)
                else:
                    self._demanding.discard(told.node_id)
                try:
                    node = self._trusted.get(told.identity) or PublicIdentity.parse(told.identity)
                    self._trust(told.node_id, node)
                except EasyRemoteError as error:
                    self._refuse(told.node_id, error)
                    continue
                self._refused.pop(told.node_id, None)
                self._nodes[told.node_id] = node
                if told.identity not in self._trusted and len(self._trusted) < MAX_NODES:
                    self._trusted[told.identity] = node
                    new.append(node)
            self._is_required = self._is_required or (bool(self._demanding) and not self._is_own)
            if new:
                self._admit([admission for epoch in self._epochs for admission in self._admissions(epoch, new)], False)

    def _trust(self, node_id: str, node: PublicIdentity) -> None:
        """Raises ConsentError where its key isn't the one that it had."""
        if self._is_own:
            return
        from easyremote.security.known_nodes import Standing

        standing = self._known.trust(self.gateway, node_id, node)
        if standing is Standing.NEW:
            _log.warning(
                "node '%s' at %s is trusted from now on by its key %s; compare it with what 'easyremote keys' shows there",
                node_id,
                self.gateway,
                node.fingerprint,
            )

    def _refuse(self, node_id: str, error: EasyRemoteError) -> None:
        self._nodes.pop(node_id, None)
        refused = error if isinstance(error, ConsentError) else ConsentError(error.message, **error.details)
        if node_id not in self._refused:
            _log.warning("%s", refused.message)
        self._refused[node_id] = refused

    @property
    def _known(self) -> KnownNodes:
        if self._known_nodes is None:
            from easyremote.security.known_nodes import KnownNodes

            self._known_nodes = KnownNodes()
        return self._known_nodes

    def _has_met_nodes(self) -> bool:
        """Whether this user has ever trusted a node of this gateway: then one must not be able to hide them all."""
        if self._is_own:
            return False
        try:
            return any(known.gateway == self.gateway for known in self._known)
        except EasyRemoteError:
            return True  # a file that can't be read is no reason to send anything in clear

    def is_wanted(self, node_id: str = "") -> bool:
        """Whether a call is to be sealed. `node_id`: only there; at one without a key it can't be."""
        if self._is_required:
            return True
        return bool(self._demanding) and (not node_id or node_id in self._nodes or node_id in self._demanding)

    def refusal(self, node_id: str) -> ConsentError | None:
        """Why no call goes to this node: its key isn't the one that is known."""
        return self._refused.get(node_id) if node_id else None

    # ---- calls ---------------------------------------------------------------------------------------------------

    def prepare(self, encoded: codec.Encoded) -> codec.Encoded | Prepared:
        """Arguments, or code, as a call that is to be sealed has them: sealed already where they are large. Takes a while."""
        if not encoded.is_large:
            return encoded
        from easyremote.security.sealing import seal_value

        sealed, key = seal_value(encoded)
        return Prepared(codec.Encoded(sealed.content_type, sealed.parts, sealed.size, encoded.refs), key)

    def seal(self, submit: pb.Submit, code_digest: str) -> None:
        """Seal a call that is complete but for what the gateway sets. Large values in it are sealed already, and have their keys.

        Raises UsageError for a ref whose value isn't sealed.
        """
        with self._lock:
            epoch = self._current_epoch()
            epoch.calls += 1
            epoch.open_calls += 1
            self._open[submit.call_id] = _OpenCall(epoch)
        options = submit.options
        wait_s = max(options.timeout_s, options.queue_timeout_s, 0.0)
        self._seal(submit, epoch, code_digest, CALL_VALID_S + min(wait_s, _LARGEST_TIME_S))

    def seal_job(self, submit: pb.Submit, code_digest: str) -> None:
        """The same for a job, which brings its admissions along and may be read by another process of this user."""
        from easyremote.core.rings import MAX_JOB_ADMISSIONS
        from easyremote.security.statements import admit

        with self._lock:
            epoch = self._job_epoch
            if epoch is None or epoch.is_worn:
                epoch = self._job_epoch = _Epoch(JOB_VALID_S + EPOCH_S)
            epoch.calls += 1
            pinned = self._nodes.get(submit.options.node_id)
            nodes = [pinned] if pinned is not None else list(self._nodes.values())
            identity = self._identity
            own = admit(identity, identity.public, epoch.epoch_id, epoch.key, time.time() + _OWN_VALID_S)
            submit.seal.own = own.SerializeToString()
            submit.seal.admissions.extend(self._admissions(epoch, nodes[-MAX_JOB_ADMISSIONS:]))
        self._seal(submit, epoch, code_digest, JOB_VALID_S)

    def _seal(self, submit: pb.Submit, epoch: _Epoch, code_digest: str, valid_s: float) -> None:
        from easyremote.security.sealing import seal_box
        from easyremote.security.statements import mac_call, sign_call, state_call

        _trim(submit)
        content = _taken_out(submit)
        now = time.time()
        stated = state_call(submit, epoch.epoch_id, code_digest, now, now + valid_s)
        statement = submit.seal.statement = stated.SerializeToString()
        submit.seal.mac = mac_call(epoch.mac_key, statement)
        if submit.HasField("code"):
            submit.seal.signature = sign_call(self._identity, statement)
        submit.seal.box = seal_box(epoch.key, submit.call_id, statement, content)

    def explained(self, submit: pb.Submit) -> None:
        """Let a call that is only asked about count as one that is sealed."""
        with self._lock:
            submit.seal.statement = pb.CallStatement(epoch=self._current_epoch().epoch_id).SerializeToString()

    def ended(self, call_id: bytes) -> None:
        """Nothing more of the call is to be opened."""
        if call_id not in self._open:
            return
        with self._lock:
            call = self._open.pop(call_id)
            epoch = call.epoch
            epoch.open_calls -= 1
            if not epoch.open_calls and epoch is not self._epochs[-1]:
                self._epochs.remove(epoch)
                self._tell_all()

    def _current_epoch(self) -> _Epoch:
        if not self._epochs or self._epochs[-1].is_worn:
            self._epochs = [epoch for epoch in self._epochs if epoch.open_calls]
            self._epochs.append(_Epoch(2 * EPOCH_S + CALL_VALID_S))
            self._tell_all()
        return self._epochs[-1]

    def _tell_all(self) -> None:
        nodes = list(self._trusted.values())
        self._admit([admission for epoch in self._epochs for admission in self._admissions(epoch, nodes)], True)

    def _admissions(self, epoch: _Epoch, nodes: Iterable[PublicIdentity]) -> list[pb.Admission]:
        from easyremote.security.statements import admit

        return [admit(self._identity, node, epoch.epoch_id, epoch.key, epoch.expires) for node in nodes]

    @property
    def _identity(self) -> Identity:
        if self._identity_made is None:
            from easyremote.security.identity import own_identity

            self._identity_made = own_identity()
        return self._identity_made

    # ---- what comes of them --------------------------------------------------------------------------------------

    def is_sealed(self, call_id: bytes) -> bool:
        """Whether events of this call have to be sealed."""
        return call_id in self._open

    def open(self, event: pb.Event) -> pb.Event:
        """An event of a sealed call, as its node sent it; what is left of it in clear is the gateway's word.

        Raises SealError, which names the gateway.
        """
        call = self._open[event.call_id]
        try:
            return self._opened(event, call.keys, call.epoch)
        except SealError as error:
            raise self._blamed(error) from None

    def seal_reply(self, reply: pb.Reply) -> None:
        """Seal what is to be said to an attempt of an open call that has asked, as its sealed event told. Raises SealError."""
        key = self._open[reply.call_id].keys.get(reply.attempt)
        if key is None:
            raise SealError("a question came from a node that has sent nothing of its own")
        reply.sealed = key.seal_reply(pb.Reply(text=reply.text, refusal=reply.refusal), reply.ask_id)
        reply.ClearField("text")
        reply.ClearField("refusal")

    def open_of_job(self, event: pb.Event, call_id: bytes) -> pb.Event:
        """The same of a job, which this process needn't have made. Where calls needn't be sealed, its events needn't either."""
        if not event.sealed and not self._is_required:
            return event
        event.call_id = call_id
        with self._lock:
            keys = self._of_jobs.setdefault(call_id, {})
            if len(self._of_jobs) > MAX_JOBS:
                self._of_jobs.popitem(last=False)
        try:
            return self._opened(event, keys, None)
        except SealError as error:
            raise self._blamed(error) from None

    def _opened(self, event: pb.Event, keys: dict[int, EventKey], epoch: _Epoch | None) -> pb.Event:
        body = event.WhichOneof("body")
        if not event.sealed:
            return _unsealed(event, body)
        from easyremote.security.sealing import Origin

        origin, behind = Origin.of(event.sealed)
        inner = self._key_of(event, origin, keys, epoch).open(behind, event.seq)
        if inner.WhichOneof("body") != body:
            raise SealError("an event was made into another kind of event on its way")
        _put_back(event, inner, body)
        return event

    def _key_of(self, event: pb.Event, origin: Origin, keys: dict[int, EventKey], epoch: _Epoch | None) -> EventKey:
        with self._lock:
            known = keys.get(event.attempt)
            if known is not None:
                if known.origin != origin:
                    raise SealError("events of two runs were mixed")
                return known
            from easyremote.security.sealing import EventKey

            node = self._trusted_node(origin.node)
            if epoch is not None and origin.epoch != epoch.epoch_id:
                raise SealError("an event of another call came in its place")
            epoch_key = epoch.key if epoch is not None else self._key_of_job(origin)
            shared = self._shared.get(origin.node)
            if shared is None:
                shared = self._shared[origin.node] = self._identity.agree(node.seal_key)
            key = keys[event.attempt] = EventKey(epoch_key, shared, origin, event.call_id, event.attempt)
            return key

    def _key_of_job(self, origin: Origin) -> bytes:
        from easyremote.security.statements import open_admission

        if self._job_epoch is not None and self._job_epoch.epoch_id == origin.epoch:
            return self._job_epoch.key
        try:
            own = open_admission(pb.Admission.FromString(origin.own), self._identity, time.time())
        except (EasyRemoteError, ValueError):
            own = None
        if own is None or own.epoch != origin.epoch or own.client != self._identity.public:
            raise SealError("the job was sealed by another key than this user's")
        return own.key

    def _trusted_node(self, identity: bytes) -> PublicIdentity:
        from easyremote.security.identity import PublicIdentity

        node = self._trusted.get(identity)
        if node is None:  # of a job: it needn't be here any more
            node = PublicIdentity.parse(identity)
            known = (known for known in self._known if known.gateway == self.gateway)
            if not self._is_own and not any(entry.fingerprint == node.fingerprint for entry in known):
                raise SealError(f"it comes from a node whose key, {node.fingerprint}, isn't trusted here")
            if len(self._trusted) < MAX_NODES:
                self._trusted[identity] = node
        return node

    def _blamed(self, error: SealError) -> SealError:
        return SealError(
            f"what came from the gateway {self.gateway} isn't what a node sent: {error.message}. Don't trust this gateway with "
            "anything more before you know why",
            gateway=self.gateway,
        )


# ---- what is left outside ----------------------------------------------------------------------------------------------


def digest_of_code(encoded: codec.Encoded) -> str:
    from easyremote.security.statements import digest_of

    return digest_of(memoryview(part).cast("B") for part in encoded.parts)


def _trim(submit: pb.Submit) -> None:
    """Leave out what only people would read of code that is to run once."""
    if submit.code.kind in (pb.Code.KIND_CALLABLE, pb.Code.KIND_CELL):
        spec = submit.code.spec
        spec.ClearField("doc")
        for parameter in spec.parameters:
            parameter.ClearField("default_text")
            parameter.ClearField("annotation_text")


def _taken_out(submit: pb.Submit) -> pb.Submit:
    """What is to be sealed of a call. Of it stays where large values are, and how many tasks there are."""
    content = pb.Submit(tasks=submit.tasks, tasks_content_type=submit.tasks_content_type)
    submit.tasks[:] = [b""] * len(submit.tasks)
    if submit.HasField("arguments"):
        _take_payload(submit.arguments, content.arguments)
    if submit.code.HasField("payload"):
        _take_payload(submit.code.payload, content.code.payload)
    for ref in submit.refs:
        if not ref.seal_key:
            raise UsageError(
                "a Ref in the arguments was made when no node demanded sealed calls; make it again: client.put(...)"
            )
        content.refs.add(ref_id=ref.ref_id, seal_key=ref.seal_key, type=ref.type, content_type=ref.content_type)
        ref.ClearField("seal_key")
        ref.ClearField("type")
    return content


def _take_payload(outside: pb.Payload, content: pb.Payload) -> None:
    content.CopyFrom(outside)
    content.ClearField("blob")
    blob = outside.blob if outside.HasField("blob") else None
    outside.CopyFrom(pb.Payload(blob=blob))


def skeleton(event: pb.Event) -> pb.Event:
    """What may be seen of an event on its way: which kind it is, how much it is, and what decides where it goes."""
    body = event.WhichOneof("body")
    outside = pb.Event(run_s=event.run_s, busy_s=event.busy_s, is_exhausted=event.is_exhausted)
    if body in ("error", "failure"):
        error = getattr(event, body)
        kept = pb.ErrorInfo(
            code=error.code,
            node_id=error.node_id,
            message="its text is sealed: only its client can read it",
            may_have_run=error.may_have_run,
            retry_after_s=error.retry_after_s,
            task=error.task,
            retriable=error.retriable,
        )
        getattr(outside, body).CopyFrom(kept)
    elif body == "items":
        outside.items.data.extend([b""] * len(event.items.data))
    elif body == "returned":
        outside.returned.CopyFrom(event.returned)
    elif body == "asked":
        outside.asked.ask_id = event.asked.ask_id
    elif body is not None:
        getattr(outside, body).SetInParent()
        payload = payload_of(event)
        if payload is not None:
            _show_where(payload, outside.display.bundle if body == "display" else getattr(outside, body))
    return outside


def _show_where(payload: pb.Payload, outside: pb.Payload) -> None:
    """A large value's bytes are fetched through the gateway, and one that stays is known to it by its id."""
    if payload.HasField("blob"):
        outside.blob.CopyFrom(payload.blob)
    if payload.HasField("kept"):
        outside.kept.CopyFrom(payload.kept)
        outside.kept.ClearField("seal_key")
        outside.kept.ClearField("type")


def _put_back(event: pb.Event, inner: pb.Event, body: str | None) -> None:
    """The event as its node made it, with large values where they are now."""
    payload = payload_of(event)
    blob = pb.Blob()
    if payload is not None and payload.HasField("blob"):
        blob.CopyFrom(payload.blob)
    earlier = list(event.error.earlier) if body == "error" else []
    if body is not None:
        event.ClearField(body)
        getattr(event, body).CopyFrom(getattr(inner, body))
    event.is_exhausted = inner.is_exhausted
    event.ClearField("sealed")
    for attempt in earlier:
        event.error.earlier.append(_as_text(attempt))
    payload = payload_of(event)
    if payload is not None and payload.seal_key:
        payload.blob.CopyFrom(blob)
    elif payload is not None and payload.HasField("blob"):
        raise SealError("a large value came without its key")


def _unsealed(event: pb.Event, body: str | None) -> pb.Event:
    """What may come in clear: that the call began, and why it can't run, as the gateway could say by itself."""
    if body is None:
        return event
    if body == "error" and event.error.code != "remote" and not event.error.traceback:
        event.error.CopyFrom(_as_text(event.error))
        return event
    raise SealError(f"{_KINDS.get(body, 'an event')} of a sealed call came in clear")


_KINDS = {
    "result": "the result",
    "item": "an item",
    "items": "items",
    "error": "an error",
    "failure": "an error",
    "asked": "a question",
}


def _as_text(error: pb.ErrorInfo) -> pb.ErrorInfo:
    """An error without anything that would be loaded."""
    told = pb.ErrorInfo()
    told.CopyFrom(error)
    told.ClearField("exception")
    return told


def sealed_payload(ref: pb.Ref) -> pb.Payload:
    """The value of a ref, as `open_fetched` wants it."""
    return pb.Payload(content_type=ref.content_type, seal_key=ref.seal_key)


def open_fetched(payload: pb.Payload, fetched: codec.Encoded) -> codec.Encoded:
    """A large value that was fetched. Takes a while. Raises SealError."""
    from easyremote.security.sealing import open_value

    return open_value(payload.content_type, fetched.parts, payload.seal_key)
