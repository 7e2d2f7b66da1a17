"""Exceptions across the wire: as text and facts always, as an object where it can be pickled there and loaded here."""

from __future__ import annotations

import contextlib
import linecache
import traceback
from collections.abc import Iterable
from types import TracebackType
from typing import Any

from easyremote.config import INLINE_BYTES, TRACEBACK_BYTES
from easyremote.errors import EasyRemoteError, RemoteError, RemoteFrame, from_code
from easyremote.execution.output import wire_text
from easyremote.execution.retriable import is_named
from easyremote.tracebacks import is_internal
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

_MAX_FRAMES = 100


def describe(error: BaseException, node_id: str, retry_on: Iterable[str] = ()) -> pb.ErrorInfo:
    """All that the client is told about an exception. Never raises. `retry_on`: types after which its call runs again."""
    try:
        info = _described(error, node_id)
        if retry_on and is_named(type(error), retry_on):
            info.retriable = True
        return info
    except Exception as broken:
        text = f"{type(error).__name__} (it can't be described: {type(broken).__name__})"
        return pb.ErrorInfo(code="remote", node_id=node_id, type=type(error).__name__, message=text, traceback=text)


def _described(error: BaseException, node_id: str) -> pb.ErrorInfo:
    if isinstance(error, EasyRemoteError):
        details = {key: wire_text(value, 10_000) for key, value in error.details.items()}
        info = pb.ErrorInfo(code=error.code, message=_message(error), node_id=node_id, details=details)
        if not isinstance(error, RemoteError) and _skip_ours(error.__traceback__) is None:
            return info
    else:
        info = pb.ErrorInfo(code="remote", node_id=node_id)
    info.type = wire_text(_type_name(error), 400)
    info.message = _message(error)
    info.traceback = _text(error)
    info.frames.extend(_frames(error.__traceback__))
    try:
        encoded = codec.encode(error, "the exception")
        if encoded.size <= INLINE_BYTES:
            info.exception.CopyFrom(encoded.inline())
    except Exception:  # an exception that can't be pickled travels as text
        pass
    return info


def rebuild(info: pb.ErrorInfo, attempt: int = 0) -> BaseException:
    """The exception to raise here: its own type where that loads, with a RemoteError as its cause that has the traceback."""
    if not info.traceback:
        return from_code(info.code, info.message, **_facts(info))
    where = f" on node '{info.node_id}'" if info.node_id else ""
    remote = RemoteError(
        f"{info.type}: {info.message}{where}" if info.message else f"{info.type}{where}",
        remote_type=info.type,
        remote_message=info.message,
        remote_traceback=info.traceback,
        node=info.node_id,
        attempt=attempt,
        frames=tuple(RemoteFrame(f.file, f.line, f.function, f.source, f.is_ours) for f in info.frames),
    )
    original = _original(info)
    if original is None:
        return remote
    original.__cause__ = remote
    with contextlib.suppress(Exception):  # an exception class may forbid attributes
        original._render_traceback_ = remote._render_traceback_  # type: ignore[attr-defined]
    return original


def _original(info: pb.ErrorInfo) -> BaseException | None:
    if not info.HasField("exception"):
        return None
    try:
        error = codec.decode(codec.Encoded.of(info.exception))
    except BaseException:  # its module may be missing here, or its constructor may want what it isn't given
        return None
    # SystemExit and KeyboardInterrupt of the function are its business and must not end this process.
    return error if isinstance(error, Exception) else None


def _facts(info: pb.ErrorInfo) -> dict[str, Any]:
    facts: dict[str, Any] = dict(info.details)
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


def _skip_ours(tb: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that isn't EasyRemote's own (or IPython's, which runs cells for it)."""
    while tb is not None and is_internal(tb.tb_frame.f_code.co_filename):
        tb = tb.tb_next
    return tb


def _text(error: BaseException) -> str:
    try:
        tb = _skip_ours(error.__traceback__)
        text = "".join(traceback.format_exception(type(error), error, tb))
    except BaseException as broken:
        text = f"{_type_name(error)}: {_message(error)}\n(its traceback can't be shown: {type(broken).__name__})\n"
    text = wire_text(text)
    if len(text) <= TRACEBACK_BYTES:
        return text
    half = TRACEBACK_BYTES // 2
    return f"{text[:half]}\n... {len(text) - 2 * half:,} characters left out ...\n{text[-half:]}"


def _frames(tb: TracebackType | None) -> list[pb.ErrorInfo.Frames]:
    frames: list[pb.ErrorInfo.Frames] = []
    for frame, line in traceback.walk_tb(_skip_ours(tb)):
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
    return frames if len(frames) <= _MAX_FRAMES else frames[: _MAX_FRAMES // 2] + frames[-_MAX_FRAMES // 2 :]
