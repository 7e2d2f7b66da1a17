"""Hypothesis strategies for any message of the wire, made from its description: a field that is added later is covered too.

Ids and names come from small pools, so that messages are about the same few calls, and numbers from the edges.
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import strategies as st

from easyremote.wire.v1 import gateway_pb2 as pb

CALL_IDS = [bytes([i] * 16) for i in (1, 2, 3)]
REF_IDS = [bytes([0x70 + i] * 16) for i in range(2)]
SESSION_IDS = [bytes([0x50 + i] * 16) for i in range(4)]
EPOCHS = [bytes([0x30 + i] * 16) for i in range(2)]
NODE_NAMES = ["n0", "n1"]
FUNCTIONS = ["f", "g", "h"]

_POOLS: dict[str, list[Any]] = {
    "call_id": [*CALL_IDS, b"", b"short"],
    "parent_id": [*CALL_IDS, b""],
    "hedge_of": [*CALL_IDS, b"", b""],
    "ref_id": [*REF_IDS, b"short"],
    "ref_ids": REF_IDS,
    "released": REF_IDS,
    "dropped": REF_IDS,
    "session_id": [*SESSION_IDS, b"", "", "s"],
    "transfer_id": [b"t1", b"t2", b""],
    "blob_id": [b"b1", *REF_IDS],
    "function": [*FUNCTIONS, "", "F"],
    "describe_function": [*FUNCTIONS, "", "F"],
    "name": FUNCTIONS,
    "statement": [
        pb.CallStatement(epoch=EPOCHS[0]).SerializeToString(),
        pb.CallStatement(epoch=EPOCHS[1]).SerializeToString(),
        *(
            pb.AdmissionStatement(epoch=epoch, node_key=key).SerializeToString()
            for epoch in EPOCHS
            for key in (b"k" * 32, b"l" * 32)
        ),
        b"\xff",
    ],
    "identity": [b"k" * 128, b"l" * 128, b""],
    "node_id": [*NODE_NAMES, "", "elsewhere", "a\x00b"],
    "not_on": NODE_NAMES,
    "strategy": ["", "", "round_robin", "cost_aware", "none such"],
    "python": ["3.11", "3.12.1", ""],
    "code": ["remote", "cancelled", "lost", "worker_crashed"],
    "uuid": ["GPU-1", ""],
    "host": ["", "h"],
    "counts_as": [*FUNCTIONS, ""],
}

_UINT32 = st.one_of(st.sampled_from([0, 1, 1, 2, 3]), st.sampled_from([1000, 1001, 2**31, 2**32 - 1]))
_SINT32 = st.sampled_from([0, 0, 1, -1, 5, 100, -100, 2**31 - 1, -(2**31)])
_UINT64 = st.one_of(st.sampled_from([0, 1, 1, 2, 3, 4]), st.sampled_from([2**32, 2**63, 2**64 - 1]))
_FLOAT = st.one_of(
    st.sampled_from([0.0, 0.001, 1.0, 5.0]), st.sampled_from([-1.0, 1e-320, 1e308, float("inf"), float("nan")])
)

_BY_TYPE: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.TYPE_UINT32: _UINT32,
    FieldDescriptor.TYPE_FIXED32: _UINT32,
    FieldDescriptor.TYPE_UINT64: _UINT64,
    FieldDescriptor.TYPE_SINT32: _SINT32,
    FieldDescriptor.TYPE_DOUBLE: _FLOAT,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_STRING: st.sampled_from(["", "x", "é" * 3]),
    FieldDescriptor.TYPE_BYTES: st.sampled_from([b"", b"\x00\xff"]),
    FieldDescriptor.TYPE_ENUM: st.integers(0, 3),
}


def messages(kind: type[Message]) -> st.SearchStrategy[Any]:
    """Messages of this kind."""
    return st.composite(lambda draw: _fill(draw, kind(), kind.DESCRIPTOR, 0))()


def frames(*bodies: str) -> st.SearchStrategy[pb.Frame]:
    """Frames with one of these bodies; without any: with any, and empty ones."""
    names = list(bodies) or [field.name for field in pb.Frame.DESCRIPTOR.fields]

    @st.composite
    def build(draw: Any) -> pb.Frame:
        frame = pb.Frame()
        if not bodies and draw(st.integers(0, 30)) == 0:
            return frame
        name = draw(st.sampled_from(names))
        field = pb.Frame.DESCRIPTOR.fields_by_name[name]
        body = getattr(frame, name)
        body.SetInParent()
        _fill(draw, body, field.message_type, 0)
        return frame

    return build()


def _fill(draw: Any, message: Any, description: Descriptor, depth: int) -> Any:
    chosen = {oneof.name: draw(st.sampled_from(list(oneof.fields))).name for oneof in description.oneofs}
    for field in description.fields:
        if field.containing_oneof is not None and chosen[field.containing_oneof.name] != field.name:
            continue
        if depth > 2 and field.type == FieldDescriptor.TYPE_MESSAGE:
            continue
        if draw(st.integers(0, 3)) == 0 and field.name not in ("call_id", "attempt", "session_id"):
            continue
        _set(draw, message, field, depth)
    return message


def _set(draw: Any, message: Any, field: FieldDescriptor, depth: int) -> None:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if is_map:
        return
    if field.is_repeated:
        values = getattr(message, field.name)
        for _ in range(draw(st.integers(0, 2))):
            if field.type == FieldDescriptor.TYPE_MESSAGE:
                _fill(draw, values.add(), field.message_type, depth + 1)
            else:
                values.append(draw(_scalar(field)))
    elif field.type == FieldDescriptor.TYPE_MESSAGE:
        child = getattr(message, field.name)
        child.SetInParent()
        _fill(draw, child, field.message_type, depth + 1)
    else:
        setattr(message, field.name, draw(_scalar(field)))


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[Any]:
    wanted = bytes if field.type == FieldDescriptor.TYPE_BYTES else str
    pool = [value for value in _POOLS.get(field.name, []) if isinstance(value, wanted)]
    if pool and field.type in (FieldDescriptor.TYPE_BYTES, FieldDescriptor.TYPE_STRING):
        return st.sampled_from(pool)
    return _BY_TYPE[field.type]
