"""A peer that says what it likes: it has the token and speaks gRPC, and follows no rule."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import grpc

from easyremote import Server
from easyremote.config import PROTOCOL_VERSION
from easyremote.runtime import this_runtime
from easyremote.wire.v1 import gateway_pb2 as pb

SESSION = "/easyremote.v1.Gateway/Session"
TRANSFER = "/easyremote.v1.Gateway/Transfer"


class Stranger:
    """One session, and its transfer stream when it is asked for. Messages are bytes, whatever they are."""

    def __init__(self, server: Server, method: str = SESSION, **metadata: str) -> None:
        options = [("grpc.max_send_message_length", -1), ("grpc.max_metadata_size", 1 << 20)]
        self._channel = grpc.insecure_channel(server.address, options=options)
        self._outbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[bytes | grpc.RpcError | None] = queue.SimpleQueue()
        self._frames: list[pb.Frame] = []
        call: Any = self._channel.stream_stream(method)
        metadata.setdefault("authorization", f"Bearer {server.token}")
        headers = tuple(metadata.items())
        self._call = call(iter(self._outbox.get, None), metadata=headers)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        try:
            for message in self._call:
                self._inbox.put(message)
            self._inbox.put(None)
        except grpc.RpcError as error:
            self._inbox.put(error)

    def say(self, message: bytes | pb.Batch | pb.Chunk) -> None:
        self._outbox.put(message if isinstance(message, bytes) else message.SerializeToString())

    def frame(self, **body: Any) -> None:
        self.say(pb.Batch(frames=[pb.Frame(**body)]))

    def hello(self, node_id: str = "", *offers: str) -> bytes:
        """As a client, or as a node of this name; waits for the welcome. Returns the session's id."""
        session_id = secrets.token_bytes(16)
        hello = pb.Hello(
            protocol_min=1,
            protocol_max=PROTOCOL_VERSION,
            role=pb.ROLE_NODE if node_id else pb.ROLE_CLIENT,
            session_id=session_id,
            runtime=this_runtime(),
        )
        if node_id:
            hello.node.node_id, hello.node.slots = node_id, 4
            hello.node.offers.extend(pb.FunctionSpec(name=name, load_balancing=True) for name in offers)
        self.frame(hello=hello)
        assert self.hears("welcome")
        return session_id

    def hears(self, *bodies: str, timeout_s: float = 20.0) -> Any:
        """The next frame of one of these kinds. Raises the RpcError, or EOFError, that the stream ends with."""
        while True:
            while not self._frames:
                self._frames += pb.Batch.FromString(self.message(timeout_s)).frames
            frame = self._frames.pop(0)
            if frame.WhichOneof("body") in bodies:
                return getattr(frame, frame.WhichOneof("body"))  # type: ignore[arg-type]

    def message(self, timeout_s: float = 20.0) -> bytes:
        message = self._inbox.get(timeout=timeout_s)
        if message is None:
            raise EOFError("the gateway ended the stream")
        if isinstance(message, grpc.RpcError):
            raise message
        return message

    def ends(self) -> BaseException:
        """What the stream ends with."""
        while True:
            try:
                self.message()
            except (grpc.RpcError, EOFError) as error:
                return error

    def close(self) -> None:
        self._outbox.put(None)
        self._call.cancel()
        self._channel.close()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def strangers(server: Server) -> Iterator[Any]:
    """For a fixture: makes them, and closes them all."""
    made: list[Stranger] = []

    def make(method: str = SESSION, **metadata: str) -> Stranger:
        made.append(Stranger(server, method, **metadata))
        return made[-1]

    yield make
    for stranger in made:
        stranger.close()
