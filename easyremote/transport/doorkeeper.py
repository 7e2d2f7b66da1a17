"""Who may call anything at all: whoever shows a token that is good here. All others are refused in the same words."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from time import monotonic
from typing import Any

import grpc
import grpc.aio

from easyremote.security.tokens import TokenStore
from easyremote.transport.joining import JOIN

_BEARER = b"Bearer "
_BEHAVIOURS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")


class Doorkeeper(grpc.aio.ServerInterceptor):
    """Lets nobody in without a token, whatever the method. The refusal is the same for every reason.

    What the token allows is for each method to ask. An invitation opens `Join` and nothing else. `note_token` is told the peer of
    each connection on which something was let in.
    """

    def __init__(self, tokens: TokenStore, note_token: Callable[[str], None]) -> None:
        self._tokens = tokens
        self._note_token = note_token

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        token, now = token_in(handler_call_details.invocation_metadata), monotonic()
        if handler_call_details.method == JOIN:
            is_welcome = self._tokens.invitation_of(token, now) is not None
        else:
            is_welcome = self._tokens.access_of(token, now) is not None
        return self._noting(await continuation(handler_call_details)) if is_welcome else _refuse

    def _noting(self, handler: Any) -> Any:
        """The same method, which tells first on which connection it is called: an interceptor isn't told."""
        behaviours = {
            kind: _after(self._note_peer, getattr(handler, kind))
            for kind in _BEHAVIOURS
            if getattr(handler, kind, None)
        }
        return handler and handler._replace(**behaviours)

    def _note_peer(self, context: Any) -> None:
        self._note_token(context.peer())


def _after(note: Callable[[Any], None], behaviour: Any) -> Any:
    if inspect.isasyncgenfunction(behaviour):

        async def stream(request: Any, context: Any) -> Any:
            note(context)
            async for reply in behaviour(request, context):
                yield reply

        return stream

    async def single(request: Any, context: Any) -> Any:
        note(context)
        return await behaviour(request, context)

    return single


def token_in(metadata: Any) -> bytes:
    """What was shown as a token."""
    for key, value in metadata:
        if key == "authorization":
            given = value.encode(errors="replace") if isinstance(value, str) else value
            return given[len(_BEARER) :] if given.startswith(_BEARER) else b""
    return b""


async def refuse(_: Any, context: Any) -> None:
    """End an RPC, in the words that all refusals have."""
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, "credentials are missing or not valid here")


_refuse = grpc.stream_stream_rpc_method_handler(refuse)
