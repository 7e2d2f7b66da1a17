"""What a node opens and seals: calls before anything of them is used, events before they leave its process.

Workers and functions get everything as it is, and no key.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from easyremote.errors import ConsentError
from easyremote.execution.values import Value
from easyremote.sealing import digest_of_code, skeleton
from easyremote.security.sealing import MAX_OWN_BYTES, SALT_BYTES, EventKey, Origin, open_box, open_value, seal_value
from easyremote.wire import codec
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.security.consent import Permit
    from easyremote.security.identity import Identity


SEAL_ROOM_BYTES = 64 * 1024
"""So much of a frame is for what sealing adds to an event."""


class RunSeal:
    """Of one attempt that runs here: opens what its call brings, and seals what comes of it."""

    def __init__(self, permit: Permit, identity: Identity, submit: pb.Submit) -> None:
        admission = permit.admission
        origin = Origin(
            identity.public.data, admission.epoch, secrets.token_bytes(SALT_BYTES), submit.seal.own[:MAX_OWN_BYTES]
        )
        shared = identity.agree(admission.client.seal_key)
        self._key = EventKey(admission.key, shared, origin, submit.call_id, submit.attempt)
        self.permit = permit

    @classmethod
    def opened(cls, permit: Permit, identity: Identity, submit: pb.Submit) -> RunSeal:
        """Open the call: its arguments, code and tasks are in `submit` as they were at its client, large ones where they are.

        Raises SealError, and ConsentError for code that isn't what its client signed.
        """
        seal = submit.seal
        content = open_box(permit.admission.key, submit.call_id, seal.statement, seal.box)
        found = cls(permit, identity, submit)
        if content.HasField("arguments"):
            _put_back(submit.arguments, content.arguments)
        if content.code.HasField("payload"):
            _put_back(submit.code.payload, content.code.payload)
            if not submit.code.payload.HasField("blob"):
                found.check_code(codec.Encoded.of(submit.code.payload))
        elif submit.HasField("code"):
            submit.code.ClearField("payload")
            if permit.statement.code_digest:
                raise ConsentError("the code that its client signed didn't come with the call")
        if len(content.tasks) != len(submit.tasks):
            raise ConsentError("tasks of a bundle were left out, or added, on their way")
        submit.tasks[:] = content.tasks
        submit.tasks_content_type = content.tasks_content_type
        named = {ref.ref_id: ref for ref in content.refs}
        for ref in submit.refs:
            if ref.ref_id in named:
                ref.MergeFrom(named[ref.ref_id])
            if not ref.seal_key:
                raise ConsentError("a value that the call names was put there on its way")
        submit.ClearField("seal")
        return found

    def check_code(self, code: codec.Encoded) -> None:
        """Whether this is the code that the client signed. Raises ConsentError."""
        self.permit.check_code(digest_of_code(code))

    def seal(self, event: pb.Event, seq: int) -> pb.Event:
        """The event as it may be seen on its way. `seq`: the number that it will have."""
        outside = skeleton(event)
        outside.sealed = self._key.seal(event, seq)
        return outside

    def open_reply(self, reply: pb.Reply) -> pb.Reply:
        """As the client wrote it. Raises SealError, for one that came in clear as well: a debugger would run it."""
        opened = self._key.open_reply(reply.sealed, reply.ask_id)
        return pb.Reply(
            call_id=reply.call_id, attempt=reply.attempt, ask_id=reply.ask_id, text=opened.text, refusal=opened.refusal
        )


def _put_back(payload: pb.Payload, content: pb.Payload) -> None:
    """A payload as it was, with a large one's bytes where they are."""
    blob = payload.blob if content.seal_key and payload.HasField("blob") else None
    found = pb.Payload(blob=blob)
    found.MergeFrom(content)
    payload.CopyFrom(found)


def seal_in_event(event: pb.Event, field: str, encoded: codec.Encoded) -> codec.Encoded:
    """A value that is too large for its event, or stays here, as it is kept for its receiver; its key goes with the event.

    `field`: of the event, where the value belongs. Takes a while.
    """
    payload = event.display.bundle if field == "display" else getattr(event, field)
    if not encoded.is_large and not payload.kept.type:
        return encoded
    sealed, key = seal_value(encoded)
    (payload.kept if payload.kept.type else payload).seal_key = key
    return sealed


def put_payload(payload: pb.Payload, where: pb.Payload) -> None:
    """Say in an event where its value is. The key that it may have got stays."""
    key = payload.seal_key or payload.kept.seal_key
    payload.CopyFrom(where)
    if key:
        (payload.kept if payload.HasField("kept") else payload).seal_key = key


def opened_value(ref: pb.Ref, value: Value, shared: SharedFiles, in_file: bool) -> Value:
    """The value of a ref for one call, as it is; it is kept sealed. Takes a while. Raises SealError.

    `in_file`: in a shared file, for a worker; whoever asked removes it.
    """
    encoded = open_value(ref.content_type, value.parts, ref.seal_key)
    plain = pb.Ref(ref_id=ref.ref_id, part_bytes=encoded.part_bytes, content_type=ref.content_type)
    parts = [memoryview(part).toreadonly() for part in encoded.parts]
    return Value(plain, parts, shared.write(encoded.parts) if in_file else "")
