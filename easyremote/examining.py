"""What a failed call left in its worker, looked at from here: `RemoteError.debug()` and `RemoteError.values()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from easyremote.bundling import Target
from easyremote.calls import Call
from easyremote.presenting import DefaultPresenter
from easyremote.runtime import random_id
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.connection import Connection

VALUES_WITHIN_S = 10.0
"""A node that doesn't say within this time what the variables were is asked no longer."""


class Examination:
    """Of one failed call."""

    def __init__(self, connection: Connection, node: str, call_id: bytes) -> None:
        self._connection = connection
        self._node = node
        self._call_id = call_id.hex()

    def debug(self) -> None:
        """Raises UsageError where nothing is kept any more, EOFError where nobody can be asked."""
        self._start("debug").result()

    def values(self) -> list[dict[str, str]]:
        """Names and texts of the variables of each frame. Raises UsageError where nothing is kept any more."""
        call = self._start("values", VALUES_WITHIN_S)
        call.may_ask = False
        found = call.result()
        texts = isinstance(found, list) and all(isinstance(frame, dict) for frame in found)
        return [{str(name): str(text) for name, text in frame.items()} for frame in found] if texts else []

    def _start(self, what: str, timeout_s: float = 0.0) -> Call[Any]:
        connection = self._connection
        spec = pb.FunctionSpec(name="post-mortem", version=self._call_id)
        code = pb.Code(kind=pb.Code.KIND_POST_MORTEM, spec=spec)
        options = pb.Options(node_id=self._node, label=f"{what} of a failed call", retries_set=True, output=True)
        options.timeout_s = timeout_s
        target = Target(spec.name, options, (code, codec.encode((self._call_id, what))))
        may_unpickle = connection.may_unpickle_from(self._node)
        call: Call[Any] = Call(
            random_id(),
            options.label,
            connection.cancel,
            connection.taken,
            DefaultPresenter,
            may_unpickle=may_unpickle,
        )
        connection.submit(call, target, codec.encode_arguments((), {}))
        return call
