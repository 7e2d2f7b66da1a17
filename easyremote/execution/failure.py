"""Exceptions across the wire: as text and facts always; as an object where it can be pickled there, and whoever gets it trusts
the node with that; else a builtin one is made anew of its arguments, where these are plain data."""

from __future__ import annotations

import builtins
import contextlib
import linecache
import traceback
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any

from easyremote import foreign
from easyremote.config import INLINE_BYTES, TRACEBACK_BYTES
from easyremote.errors import EasyRemoteError, RemoteError, RemoteFrame, from_code
from easyremote.execution.output import wire_text
from easyremote.execution.retriable import is_named
from easyremote.tracebacks import is_internal
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

_MAX_FRAMES = 100

_BUILTIN: dict[str, type[Exception]] = {
    name: cls
    for name, cls in vars(builtins).items()
    if isinstance(cls, type) and issubclass(cls, Exception) and cls is not ExceptionGroup
}
"""Those that anybody may have made here: none does anything but keep its arguments."""

_OWN_FACTS = frozenset({"self", "code", "message", "frames", "retry_after_s", "may_have_run"})
"""What an error has besides its details; a detail must not take its place."""


def describe(
    error: BaseException, node_id: str, retry_on: Iterable[str] = (), accept: str = codec.PICKLE
) -> pb.ErrorInfo:
    """All that the client is told about an exception. Never raises. `retry_on`: types after which its call runs again. `accept`:
    what the client takes values as."""
    try:
        info = _described(error, node_id, accept)
        if retry_on and is_named(type(error), retry_on):
            info.retriable = True
        return info
    except Exception as broken:
        text = f"{type(error).__name__} (it can't be described: {type(broken).__name__})"
        return pb.ErrorInfo(code="remote", node_id=node_id, type=type(error).__name__, message=text, traceback=text)


def _described(error: BaseException, node_id: str, accept: str) -> pb.ErrorInfo:
    if isinstance(error, EasyRemoteError):
        details = {key: wire_text(value, 10_000) for key, value in error.details.items()}
        info = pb.ErrorInfo(code=error.code, message=_message(error), node_id=node_id, details=details)
        if not isinstance(error, RemoteError) and skip_ours(error.__traceback__) is None:
            return info
    else:
        info = pb.ErrorInfo(code="remote", node_id=node_id)
    info.type = wire_text(_type_name(error), 400)
    info.message = _message(error)
    info.traceback = _text(error)
    info.frames.extend(_frames(error.__traceback__))
    try:
        encoded = _as_object(error, accept)
        if encoded is not None and encoded.size <= INLINE_BYTES:
            info.exception.CopyFrom(encoded.inline())
    except Exception:  # an exception that can't be pickled travels as text
        pass
    return info


def _as_object(error: BaseException, accept: str) -> codec.Encoded | None:
    if accept != codec.PLAIN:
        return codec.encode(error, "the exception")
    return (
        codec.encode_plain(list(error.__reduce__()[1])) if _BUILTIN.get(type(error).__name__) is type(error) else None
    )


def rebuild(info: pb.ErrorInfo, attempt: int = 0, may_unpickle: bool = False) -> BaseException:
    """The exception to raise here: its own type where that loads, with a RemoteError as its cause that has the traceback.

    `may_unpickle`: whoever sent it is trusted to run code here. Never raises.
    """
    if not info.traceback:
        return from_code(info.code, info.message, **_facts(info))
    if not may_unpickle:
        info = _harmless(info)
    where = f" on node '{foreign.name(info.node_id)}'" if info.node_id else ""
    remote = RemoteError(
        f"{info.type}: {info.message}{where}" if info.message else f"{info.type}{where}",
        remote_type=info.type,
        remote_message=info.message,
        remote_traceback=info.traceback,
        node=info.node_id,
        attempt=attempt,
        frames=tuple(
            RemoteFrame(f.file, f.line, f.function, f.source, f.is_ours, not may_unpickle) for f in info.frames
        ),
    )
    original = _original(info, may_unpickle)
    if original is None:
        return remote
    original.__cause__ = remote
    with contextlib.suppress(Exception):  # an exception class may forbid attributes
        original._render_traceback_ = remote._render_traceback_  # type: ignore[attr-defined]
    return original


def _harmless(info: pb.ErrorInfo) -> pb.ErrorInfo:
    """The same with texts that do nothing where they are shown."""
    shown = pb.ErrorInfo()
    shown.CopyFrom(info)
    shown.type = foreign.name(info.type)
    shown.message = foreign.text(info.message)
    shown.traceback = foreign.traceback(info.traceback)
    for frame in shown.frames:
        frame.file, frame.function = foreign.name(frame.file, 1000), foreign.name(frame.function)
        frame.source = foreign.name(frame.source, 400)
    return shown


def _original(info: pb.ErrorInfo, may_unpickle: bool) -> BaseException | None:
    if not info.HasField("exception"):
        return None
    encoded = codec.Encoded.of(info.exception)
    try:
        if encoded.content_type == codec.PICKLE and not may_unpickle:
            return None
        error = codec.decode(encoded, may_unpickle)
        if encoded.content_type == codec.PLAIN:
            error = _BUILTIN[info.type](*(foreign.text(part) if isinstance(part, str) else part for part in error))
    except BaseException:  # its module may be missing here, or its constructor may want what it isn't given
        return None
    # SystemExit and KeyboardInterrupt of the function are its business and must not end this process.
    return error if isinstance(error, Exception) else None


def _facts(info: pb.ErrorInfo) -> dict[str, Any]:
    facts: dict[str, Any] = {key: text for key, text in info.details.items() if key not in _OWN_FACTS}
    if info.code in ("lost", "worker_crashed"):
        facts["may_have_run"] = info.may_have_run
    if info.code in ("unavailable", "overloaded", "no_node", "node_gone", "jobs_unavailable") and info.retry_after_s:
        facts["retry_after_s"] = info.retry_after_s
    if info.code == "function_not_found":
        facts["close_names"] = [name for name in facts.pop("close_names", "").split("\n") if name]
    if info.node_id:
        facts["node"] = info.node_id
    return facts


def _type_name(error: BaseException) -> str:
    cls = type(error)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__main__") else f"{cls.__module__}.{cls.__qualname__}"


def _message(error: BaseException) -> str:
    try:
        return wire_text(str(error)[:10_000])
    except BaseException as broken:
        return f"<its __str__ raised {type(broken).__name__}>"


def skip_ours(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that isn't EasyRemote's own (or IPython's, which runs cells for it)."""
    while tb is not None and is_internal(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def _text(error: BaseException) -> str:
    try:
        tb = skip_ours(error.__traceback__)
        text = "".join(traceback.format_exception(type(error), error, tb))
    except BaseException as broken:
        text = f"{_type_name(error)}: {_message(error)}\n(its traceback can't be shown: {type(broken).__name__})\n"
    text = wire_text(text)
    if len(text) <= TRACEBACK_BYTES:
        return text
    half = TRACEBACK_BYTES // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"


def frames_of(tb: TracebackType | None) -> list[tuple[FrameType, int]]:
    """The frames that are told of, and their lines, outermost first."""
    frames = list(traceback.walk_tb(skip_ours(tb)))
    return frames if len(frames) <= _MAX_FRAMES else frames[: _MAX_FRAMES // 2] + frames[-_MAX_FRAMES // 2 :]


def _frames(tb: TracebackType | None) -> list[pb.ErrorInfo.Frames]:
    frames: list[pb.ErrorInfo.Frames] = []
    for frame, line in frames_of(tb):
        code = frame.f_code
        source = linecache.getline(code.co_filename, line, frame.f_globals).strip()[:400]
        frames.append(
            pb.ErrorInfo.Frames(
                file=code.co_filename,
                line=line,
                function=code.co_name,
                source=source,
                is_ours=is_internal(code.co_filename),
            )
        )
    return frames
