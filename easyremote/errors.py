"""Every exception that EasyRemote raises, in one tree split by who must act.

Each class has a wire code: what a `Verdict`, an `ErrorInfo` or a `Refused` carries instead of an exception object, so that
reporting a failure never unpickles anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from easyremote import foreign

__all__ = [
    "AuthError",
    "BadArguments",
    "CallCancelled",
    "CallLost",
    "ConsentError",
    "CostLimitError",
    "DeadlineExceeded",
    "DuplicateNode",
    "EasyRemoteError",
    "EnvironmentFailed",
    "EnvironmentMismatch",
    "FunctionNotFound",
    "GatewayNotFound",
    "GatewayUnreachable",
    "InsufficientResources",
    "JobNotFound",
    "JobsUnavailable",
    "LocalProtocolError",
    "NoNodeAvailable",
    "NodeGone",
    "OverloadedError",
    "PayloadError",
    "PermissionDenied",
    "PortInUse",
    "ProtocolError",
    "RefLost",
    "RemoteError",
    "RemoteProtocolError",
    "SealError",
    "SendLimitError",
    "Unavailable",
    "UnpicklableError",
    "UntrustedGateway",
    "UsageError",
    "WorkerCrashed",
]


@dataclass(frozen=True, slots=True)
class FailedAttempt:
    """An attempt of a call that was run again. `type` and `message` are its exception's, `traceback` the end of its text."""

    number: int
    node: str
    type: str
    message: str
    traceback: str = ""

    def __str__(self) -> str:
        where = f" on node '{foreign.name(self.node)}'" if self.node else ""
        text = foreign.name(self.message.strip().partition("\n")[0], 1000)
        return f"attempt {self.number}{where}: {foreign.name(self.type)}{': ' if text else ''}{text}"


class EasyRemoteError(Exception):
    """The root of all that EasyRemote raises. `details` holds facts by name, as text; `attempts` the attempts of the call
    that failed before, the newest 10."""

    code: ClassVar[str] = "error"
    attempts: tuple[FailedAttempt, ...] = ()

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details: dict[str, str] = {key: str(value) for key, value in details.items()}

    def __str__(self) -> str:
        return self.message

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: the message, and the user's own lines that led to it."""
        from easyremote.tracebacks import render_local

        return render_local(self, self.message)


class UsageError(EasyRemoteError, ValueError):
    """EasyRemote was called wrongly; fix the call. Raised before anything is sent where that is possible."""

    code = "usage"


class BadArguments(UsageError, TypeError):
    """The arguments don't fit the remote function's signature."""

    code = "bad_arguments"


class FunctionNotFound(UsageError, LookupError):
    """No node offers a function of that name. `close_names` lists similar ones."""

    code = "function_not_found"

    def __init__(self, message: str, close_names: list[str] | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.close_names = close_names or []


class JobNotFound(UsageError, LookupError):
    """The gateway keeps no job of that id: it was forgotten, has expired, or never was."""

    code = "job_not_found"


class UnpicklableError(UsageError):
    """A value can't be sent. `path` leads to the part that is at fault, e.g. `model.opt.lock`."""

    code = "unpicklable"

    def __init__(self, message: str, path: str = "", **details: Any) -> None:
        super().__init__(message, path=path, **details)
        self.path = path


class SendLimitError(UsageError):
    """A call would send more than its `send_limit`. Nothing was sent."""

    code = "send_limit"


class CostLimitError(UsageError):
    """No offer costs as little as `cost_limit` allows."""

    code = "cost_limit"


class EnvironmentMismatch(UsageError):
    """Two Pythons that can't exchange code. Raised before anything is loaded."""

    code = "environment_mismatch"


class EnvironmentFailed(EasyRemoteError):
    """A node couldn't build the environment that a call needs; the message has what the resolver said.

    Attributes: `requirements`, as they were asked for; `node`. `details` has both as text, and `python`.
    """

    code = "environment_failed"

    @property
    def requirements(self) -> tuple[str, ...]:
        return tuple(filter(None, self.details.get("requirements", "").split("\n")))

    @property
    def node(self) -> str:
        return self.details.get("node", "")


class PortInUse(UsageError, OSError):
    """Another program, or another gateway, listens on the port."""

    code = "port_in_use"


class AuthError(EasyRemoteError, PermissionError):
    """The gateway refused this identity."""

    code = "auth"


class UntrustedGateway(AuthError):
    """What answers isn't the gateway that was meant, or can't prove it: another key, or a certificate that has expired, is for
    another host, or is vouched for by nobody. `details` has `reason`, or the fingerprints `expected` and `seen`."""

    code = "untrusted_gateway"


class ConsentError(AuthError):
    """A node doesn't take this call from this key, or not as it came; the message says what to do, mostly on the node.

    `details` may have `key` (the client's, as `easyremote trust` takes it) and `fingerprint`.
    """

    code = "consent"


class PermissionDenied(AuthError):
    """The token is one of the gateway's, and doesn't allow this. `details` has its id and its name: `token`, `token_name`."""

    code = "permission"


class SealError(AuthError):
    """Something sealed was changed, left out, swapped or made up on its way, or came in clear where it may not.

    `details` may have `gateway`, which is between the two that seal. Nothing of it was loaded.
    """

    code = "seal"


class Unavailable(EasyRemoteError):
    """Nothing is wrong with the call, but nobody can take it now. It may be tried again after `retry_after_s` seconds."""

    code = "unavailable"

    def __init__(self, message: str, retry_after_s: float = 0.0, **details: Any) -> None:
        super().__init__(message, **details)
        self.retry_after_s = retry_after_s


class GatewayNotFound(Unavailable):
    """No address was given and none could be found. The message says where it was looked for."""

    code = "gateway_not_found"


class GatewayUnreachable(Unavailable, ConnectionError):
    """There is an address, but no gateway answers there. `may_have_run`: of a call that was given up for that, whether a node
    may have begun it."""

    code = "gateway_unreachable"
    may_have_run: bool = False


class NoNodeAvailable(Unavailable):
    """No connected node can run this call."""

    code = "no_node"


class InsufficientResources(NoNodeAvailable):
    """No connected node will ever have what this call needs. `details` has `wanted_NEED` and `most_NEED` for each such need."""

    code = "insufficient_resources"


class NodeGone(Unavailable):
    """The node that the call names isn't connected."""

    code = "node_gone"


class DuplicateNode(UsageError):
    """A node of that name is connected already."""

    code = "duplicate_node"


class OverloadedError(Unavailable):
    """A bound was reached; the message names it."""

    code = "overloaded"


class JobsUnavailable(Unavailable):
    """The gateway keeps no jobs, or can't write to its journal now; the message says why, and what to do."""

    code = "jobs_unavailable"


class RemoteError(EasyRemoteError):
    """The remote function raised, and this stands for it where its own type can't be loaded here.

    Where the type can be loaded, the original exception is raised with a `RemoteError` as its cause.

    Attributes: `remote_type` (qualified name), `remote_message`, `remote_traceback` (text), `node`, `attempt`,
    `call_id` (32 hex digits; empty where it isn't known).
    """

    code = "remote"
    call_id = ""
    examination: Any = None  # looks at what is left on the node

    def __init__(
        self,
        message: str,
        *,
        remote_type: str = "",
        remote_message: str = "",
        remote_traceback: str = "",
        node: str = "",
        attempt: int = 0,
        frames: tuple[RemoteFrame, ...] = (),
        **details: Any,
    ) -> None:
        super().__init__(message, **details)
        self.remote_type = remote_type
        self.remote_message = remote_message
        self.remote_traceback = remote_traceback
        self.node = node
        self.attempt = attempt
        self.frames = frames

    def __str__(self) -> str:
        return f"{self.message}\n\n{self.remote_traceback.rstrip()}" if self.remote_traceback else self.message

    def debug(self) -> None:
        """Open a debugger (pdb) on the node, where the error was raised; it asks here. `q` ends it.

        What a cell left is kept until its session fails again or ends; what a function left until its process takes another
        call. Raises UsageError where nothing is kept, PermissionDenied or ConsentError where code may not be shipped there.
        """
        self._examined().debug()

    def values(self) -> list[dict[str, str]]:
        """What the variables of each of `frames` were: texts of at most 300 characters by name. Those whose names look like a
        secret's are hidden. Raises as `debug` does."""
        found: list[dict[str, str]] = self._examined().values()
        return found

    def _examined(self) -> Any:
        if self.examination is None:
            raise UsageError("this error was raised by no call of this process, so there is nothing to look at")
        return self.examination

    def _render_traceback_(self) -> list[str]:
        from easyremote import tracebacks

        where = f", on node {foreign.name(self.node)}" if self.node else ""
        values: list[dict[str, str]] = []
        note = ""
        if tracebacks.are_values_wanted() and self.examination is not None:
            try:
                values = self.values()
            except EasyRemoteError as error:
                note = foreign.text(error.message)
        name = self.remote_type or type(self).__name__
        lines = tracebacks.render(name, self.remote_message, self.frames, where, values)
        return [*lines, f"(values: {note})"] if note else lines


class RemoteFrame:
    """One frame of a remote traceback: `file`, `line`, `function`, `source`, and `is_ours` for EasyRemote's own.

    `is_foreign`: its node isn't trusted, so that no file of this machine is read because it names it.
    """

    __slots__ = ("file", "function", "is_foreign", "is_ours", "line", "source")

    def __init__(
        self, file: str, line: int, function: str, source: str, is_ours: bool, is_foreign: bool = False
    ) -> None:
        self.file = file
        self.line = line
        self.function = function
        self.source = source
        self.is_ours = is_ours
        self.is_foreign = is_foreign


class CallLost(EasyRemoteError):
    """The node vanished with the call. `may_have_run` is the truth as far as anyone knows it."""

    code = "lost"

    def __init__(self, message: str, may_have_run: bool = True, **details: Any) -> None:
        super().__init__(message, **details)
        self.may_have_run = may_have_run


class WorkerCrashed(CallLost):
    """The worker process that ran the call died.

    Attributes: `exit_code` (negative: by the signal of that number), `signal` (its name, e.g. "SIGSEGV"; empty: it exited),
    `out_of_memory` ("yes": the kernel's OOM killer ended it; "likely"; "no"), `peak_memory_bytes` (the most it had, 0 where
    that isn't known), `last_output` (the end of what it printed). `details` has the same as text.
    """

    code = "worker_crashed"

    @property
    def exit_code(self) -> int:
        return int(self.details.get("exit_code") or 0)

    @property
    def signal(self) -> str:
        return self.details.get("signal", "")

    @property
    def out_of_memory(self) -> str:
        return self.details.get("out_of_memory", "no")

    @property
    def peak_memory_bytes(self) -> int:
        return int(self.details.get("peak_memory_bytes") or 0)

    @property
    def last_output(self) -> str:
        return self.details.get("last_output", "")


class RefLost(EasyRemoteError, LookupError):
    """The value of a `Ref` can't be had any more: its node is gone, or had no room for it. Make it again.

    `details` has `ref` (its id) and `was_on` (the node, where it is known).
    """

    code = "ref_lost"


class CallCancelled(EasyRemoteError):
    """The call was cancelled."""

    code = "cancelled"


class DeadlineExceeded(EasyRemoteError, TimeoutError):
    """A timeout of the call ran out. `which`: "queue" (it waited for a node), "run" (one attempt) or "total" (the call)."""

    code = "deadline"

    @property
    def which(self) -> str:
        return self.details.get("which", "")


class ProtocolError(EasyRemoteError):
    """The wire contract was broken."""

    code = "protocol"


class LocalProtocolError(ProtocolError):
    """... by this side: a bug in EasyRemote."""

    code = "local_protocol"


class RemoteProtocolError(ProtocolError):
    """... by the other side."""

    code = "remote_protocol"


class PayloadError(EasyRemoteError):
    """A payload is too large, corrupt, or in an encoding that isn't accepted here."""

    code = "payload"


def _descendants(cls: type[EasyRemoteError]) -> list[type[EasyRemoteError]]:
    return [cls] + [found for child in cls.__subclasses__() for found in _descendants(child)]


_BY_CODE: dict[str, type[EasyRemoteError]] = {cls.code: cls for cls in _descendants(EasyRemoteError)}


def from_code(code: str, message: str, **facts: Any) -> EasyRemoteError:
    """Rebuild an error from its wire code; a code that this version doesn't know becomes `EasyRemoteError`.

    `facts` are the class's own keyword arguments (`retry_after_s`, `may_have_run`, `close_names`, `path`) or details.
    """
    return _BY_CODE.get(code, EasyRemoteError)(foreign.text(message), **facts)
