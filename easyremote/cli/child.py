"""A gateway or a node as the child of a program that starts it: `python -m easyremote.cli.child gateway|node`.

It reads one line of JSON from standard input, starts, and writes one line of JSON to standard output:

    gateway   {"port": 0, "token": null, "journal": …, "bind": …,
               "advertise": […]}                                                   {"address": …, "token": …, "pid": …}
    node      {"address": …, "token": …, "node_id": …, "slots": …, "labels": …,
               "cpus": …, "memory": …, "gpus": …, "gpu_memory": …}                 {"node_id": …, "pid": …}

or {"error": message, "code": wire code}, and exits with 1. It lives until its standard input ends, its parent ends, or SIGTERM; a
parent that dies in any way takes it along. SIGINT does nothing: the kernel of a notebook is interrupted together with its whole
process group. Whatever it prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import selectors
import signal
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

from easyremote.cli.signals import StopSignals
from easyremote.cluster import TEMPORARY
from easyremote.errors import EasyRemoteError, UsageError

if TYPE_CHECKING:
    from easyremote.node import ComputeNode
    from easyremote.server import Server

PARENT_CHECK_S = 1.0
"""How often the parent is looked for where the system has no pidfd."""

STOP_WITHIN_S = 5.0
"""A service that hasn't closed by then is left as it is, and the process ends."""


def main() -> None:
    parent = os.getppid()
    signal.signal(signal.SIGINT, lambda *_: None)  # not SIG_IGN, which worker processes would inherit
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    with StopSignals((signal.SIGTERM,)) as signals:
        service = _start(sys.argv[1:], answer)
        gc.freeze()  # what is loaded now stays: no collection has to walk through it again
        signals.ready()
        _wait(signals, parent)
    watchdog = threading.Timer(STOP_WITHIN_S, os._exit, (0,))
    watchdog.daemon = True
    watchdog.start()
    service.stop()


def _start(arguments: list[str], answer: Any) -> Server | ComputeNode:
    try:
        service, ready = _service(arguments)
    except Exception as error:
        if not isinstance(error, EasyRemoteError):
            import traceback

            traceback.print_exc()
        code = error.code if isinstance(error, EasyRemoteError) else EasyRemoteError.code
        _tell(answer, {"error": str(error) or type(error).__name__, "code": code})
        raise SystemExit(1) from None
    _tell(answer, ready)
    return service


def _service(arguments: list[str]) -> tuple[Server | ComputeNode, dict[str, Any]]:
    """What was asked for, started, and the answer that says so. It is imported before the request is waited for."""
    if arguments == ["gateway"]:
        from easyremote.server import Server

        request = _request()
        server = Server(
            request.get("port", 0),
            request.get("bind") or "127.0.0.1",
            token=request.get("token"),
            journal=_journal(request.get("journal", False)),
            advertise=request.get("advertise") or (),
        ).start_background()
        return server, {"address": server.address, "token": server.token, "pid": os.getpid()}
    if arguments == ["node"]:
        from easyremote.node import ComputeNode

        request = _request()
        node = ComputeNode(
            request["address"],
            request.get("node_id"),
            token=request.get("token"),
            slots=request.get("slots"),
            labels=request.get("labels"),
            cpus=request.get("cpus"),
            memory=request.get("memory"),
            gpus=request.get("gpus"),
            gpu_memory=request.get("gpu_memory"),
        )
        node.serve(warm=True)
        return node, {"node_id": node.node_id, "pid": os.getpid()}
    raise UsageError(f"start it as 'python -m easyremote.cli.child gateway' or '… node', not with {arguments}")


_temporary: list[tempfile.TemporaryDirectory[str]] = []  # go when this process ends


def _journal(wanted: str | bool) -> str | bool:
    """Where jobs are kept. "temporary": in a folder that ends with this process, however its parent ends."""
    if wanted != TEMPORARY:
        return wanted
    _temporary.append(tempfile.TemporaryDirectory(prefix="easyremote-jobs-", ignore_cleanup_errors=True))
    return os.path.join(_temporary[0].name, "jobs.sqlite")


def _request() -> dict[str, Any]:
    """The line from the parent. Ends the process when there is none: the parent is gone."""
    line = sys.stdin.buffer.readline()
    if not line:
        raise SystemExit(0)
    request = json.loads(line)
    if not isinstance(request, dict):
        raise UsageError(f"the request is a JSON object, not {line[:60]!r}")
    return request


def _tell(answer: Any, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError), answer:  # a parent that is gone is noticed by `_wait`
        answer.write(json.dumps(message) + "\n")


def _wait(signals: StopSignals, parent: int) -> None:
    """Until SIGTERM, the end of standard input, or the end of the parent.

    Both of the latter: a parent may close the pipe and live on, and another child of it may hold the pipe open after its death.
    """
    poller = selectors.PollSelector()
    poller.register(signals, selectors.EVENT_READ)
    poller.register(0, selectors.EVENT_READ)
    pidfd = _pidfd(parent)
    if pidfd is not None:
        poller.register(pidfd, selectors.EVENT_READ)
    while os.getppid() == parent and not signals.was_told():
        for key, _ in poller.select(PARENT_CHECK_S if pidfd is None else None):
            if key.fd == pidfd or (key.fd == 0 and not os.read(0, 65536)):
                return


def _pidfd(pid: int) -> int | None:
    with contextlib.suppress(OSError, AttributeError):
        return os.pidfd_open(pid)
    return None


if __name__ == "__main__":
    main()
