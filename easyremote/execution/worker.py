"""The worker process: runs one call at a time in its main thread and reports to the node over a socket.

It holds no credential and no connection but that socket. When the node goes away, the worker ends with all that it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import faulthandler
import functools
import gc
import json
import mmap
import os
import queue
import signal
import socket
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from easyremote.errors import UsageError
from easyremote.execution import asking, confinement, offspring, rich_display, shipped_modules, tqdm_bars
from easyremote.execution.bars import Bars
from easyremote.execution.batching import run_tasks_together
from easyremote.execution.bounding import OutputBound
from easyremote.execution.capture import Capture, Stream
from easyremote.execution.context import current, deadline_of, facts_of, run_in_process
from easyremote.execution.credits import Credits, cost_of_item
from easyremote.execution.failure import describe
from easyremote.execution.functions import Loaded, load
from easyremote.execution.output import OutputBuffer
from easyremote.execution.pipe import FrameUnpacker, from_payload, pack_frame, to_payload
from easyremote.execution.post_mortem import PostMortem, uses_gpu
from easyremote.execution.runner import run
from easyremote.execution.sandbox import OWNER_VARIABLE
from easyremote.execution.tasks import BEGUN_BYTES, Tasks, run_tasks
from easyremote.model import CurrentCall
from easyremote.wire import codec
from easyremote.wire.references import resolving, type_text
from easyremote.wire.shared_files import SharedFiles, file_bytes, split
from easyremote.wire.v1 import gateway_pb2 as pb

CONFIG_VARIABLE = "EASYREMOTE_WORKER"
ITEMS_AHEAD = 512
"""Items that a generator may produce before the first of them was taken on by the node."""

_LOADED_FUNCTIONS = 32

_LOOKS = 64

_BUSY_S = 0.001
"""An item that comes so soon after another one leaves with those that follow, from a thread; any other leaves at once."""


class Worker:
    """State of the process."""

    def __init__(
        self, link: socket.socket, capture: Capture, node_id: str, begun: mmap.mmap, shared: SharedFiles
    ) -> None:
        """`begun`: where the number of the task that runs is told to the node, should this process die in it."""
        self.link = link
        self.begun = begun
        self.capture = capture
        self.node_id = node_id
        self.shared = shared
        self.memory: confinement.MemoryLimit | None = None
        self.send_lock = threading.Lock()
        self.submissions: queue.SimpleQueue[_Emitter] = queue.SimpleQueue()
        self.newest: _Emitter | None = None  # it may have to wait for its turn still
        self.running: _Emitter | None = None
        self.packed: queue.SimpleQueue[_Emitter] = queue.SimpleQueue()  # have items to send
        self._holds = 0  # the main thread is where an interrupt would tear a frame or leave a file behind
        self._interrupt_pending = False
        self._pid = os.getpid()
        os.register_at_fork(after_in_child=self._forked)
        self.post_mortem = PostMortem()
        self._functions: OrderedDict[str, Loaded] = OrderedDict()

    def asking(self) -> asking.Asking | None:
        """Questions of the running call."""
        return self.running.asking if self.running is not None else None

    def main(self) -> None:
        signal.signal(signal.SIGINT, self._on_interrupt)
        asking.install(self)
        threading.Thread(target=self._read, name="easyremote-link", daemon=True).start()
        threading.Thread(target=self._send_packed, name="easyremote-items", daemon=True).start()
        self.send(pb.Frame(heartbeat=pb.Heartbeat()))  # ready
        while True:
            emitter = self.submissions.get()
            signal.signal(signal.SIGINT, self._on_interrupt)  # again: debuggers take it
            with contextlib.suppress(KeyboardInterrupt):  # came a moment after the call it was meant for
                self._run(emitter)
            self.running = None

    def _send_packed(self) -> None:
        while True:
            self.packed.get().flush_items()

    def _forked(self) -> None:
        """A child that the function forked: it isn't the worker; what it prints goes through the pipes."""
        self.link.close()
        self.capture.leave()
        sys.stdout = sys.__stdout__ = open(1, "w", errors="replace", buffering=1, closefd=False)  # noqa: SIM115 - for the life of the process
        sys.stderr = sys.__stderr__ = open(2, "w", errors="replace", buffering=1, closefd=False)  # noqa: SIM115

    def send(self, frame: pb.Frame) -> None:
        if os.getpid() != self._pid:
            return
        self.hold_interrupts()
        try:
            with self.send_lock:
                self.link.sendall(pack_frame(frame))
        finally:
            self.let_interrupts()

    def hold_interrupts(self) -> None:
        """From here to `let_interrupts` the main thread isn't interrupted; other threads never are."""
        if threading.current_thread() is threading.main_thread():
            self._holds += 1

    def let_interrupts(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._holds -= 1
            if not self._holds and self._interrupt_pending:
                self._interrupt_pending = False
                raise KeyboardInterrupt

    def _on_interrupt(self, *_: Any) -> None:
        if self.running is None or self.running.has_ended or self.running.was_interrupted:
            return  # it comes again until the call has ended, and must not disturb its `finally`
        self.running.was_interrupted = True
        if self._holds:
            self._interrupt_pending = True
        else:
            raise KeyboardInterrupt

    def _read(self) -> None:
        unpacker = FrameUnpacker()
        try:
            while data := self.link.recv(256 * 1024):
                for frame in unpacker.feed(data):
                    body = frame.WhichOneof("body")
                    if body == "submit":
                        self.newest = _Emitter(self, frame.submit)
                        self.submissions.put(self.newest)
                    elif body == "ack" and self.running is not None:
                        self.running.credits.give(frame.ack.calls[0].seq)
                    elif body == "reply" and self.running is not None:
                        self.running.replied(frame.reply)
                    elif body == "cancel" and self.newest is not None:
                        self.newest.tasks_changed(frame.cancel)
        finally:  # the node is gone
            offspring.kill(offspring.descendants(os.getpid()))
            os.killpg(0, signal.SIGKILL)

    def _run(self, emitter: _Emitter) -> None:
        submit = emitter.submit
        self.capture.buffer = emitter.buffer
        self.capture.due = emitter.bars.due
        self.running = emitter
        run_in_process(emitter)
        if submit.code.kind not in (pb.Code.KIND_CELL, pb.Code.KIND_POST_MORTEM):
            self.post_mortem.drop()
        try:
            if self.memory is not None:
                self.memory.begin(submit.grant.memory_bytes)
            function = self._function(submit)
            args, kwargs = (), {}
            if submit.HasField("arguments"):
                args, kwargs = self.arguments_of(submit, function)
        except BaseException as error:
            emitter.failed(error)
        else:
            emitter.began = time.perf_counter()
            if submit.code.spec.batch:
                emitter.run_together(function)
            elif emitter.tasks is not None:
                run_tasks(function, emitter.tasks, emitter, _run_coroutine)
            else:
                run(function, args, kwargs, emitter, _run_coroutine)
        finally:
            if sys.gettrace() is not None:
                from easyremote.execution.debugging import end_tracing

                end_tracing()
            if os.getpid() != self._pid:
                sys.stdout.flush()
                os._exit(0)
            self.capture.flush()
            self.capture.buffer = self.capture.due = None
            run_in_process(None)

    def arguments_of(self, submit: pb.Submit, function: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decoded, with the values that they mention. Raises where they can't be."""
        with self._with_values(submit, function):
            encoded = from_payload(submit.arguments, self.shared)
            return codec.decode_arguments(encoded, not submit.plain_only, function)

    def _with_values(self, submit: pb.Submit, function: Any = None) -> contextlib.AbstractContextManager[None]:
        load = functools.partial(self._load, may_unpickle=not submit.plain_only, function=function)
        return resolving({ref.ref_id: ref for ref in submit.refs}, load)

    def _load(self, ref: pb.Ref, may_unpickle: bool, function: Any) -> Any:
        """A value that lies in a shared file, which other workers map as well."""
        sizes = list(ref.part_bytes)
        view = self.shared.map(ref.shared_file, file_bytes(sizes)).toreadonly()
        return codec.decode(codec.Encoded(ref.content_type, split(view, sizes)), may_unpickle, function)

    def _function(self, submit: pb.Submit) -> Callable[..., Any]:
        code = submit.code
        if code.kind == pb.Code.KIND_POST_MORTEM:
            return self._look_back(submit)
        if code.kind == pb.Code.KIND_CELL:
            from easyremote.execution.cells import run_cell

            with self._with_values(submit):  # modules that were shipped are there from loading this on
                source, *_, file, sent, bring_back = codec.decode(from_payload(code.payload, self.shared))
                return run_cell(source, file, sent, bring_back, self.node_id)
        loaded = self._functions.get(code.digest)
        if loaded is None:
            shipped_modules.activate({})
            loaded = load(from_payload(code.payload, self.shared))
            self._functions[code.digest] = loaded
            if len(self._functions) > _LOADED_FUNCTIONS:
                self._functions.popitem(last=False)
        self._functions.move_to_end(code.digest)
        shipped_modules.activate(loaded.modules)
        return loaded.function

    def _look_back(self, submit: pb.Submit) -> Callable[[], Any]:
        emitter = self.running
        if emitter is None or not emitter.may_debug:
            raise UsageError("a person approves all code that runs on this node, so nothing is kept there to look at")
        call_id, what = codec.decode(from_payload(submit.code.payload, self.shared))
        return self.post_mortem.work(call_id, what, lambda: emitter.asking.refusal)


class _Emitter:
    """Events of one call, on their way to the node."""

    def __init__(self, worker: Worker, submit: pb.Submit) -> None:
        self.submit = submit
        self.call_id = submit.call_id
        self.node_id = worker.node_id
        self.deadline = deadline_of(submit)
        self.credits = Credits(ITEMS_AHEAD)
        self.buffer = OutputBuffer(self._send_output, self._send_output_due)
        self.bars = Bars(lambda progress: self._send(pb.Event(progress=progress)))
        self._bound = OutputBound(submit.options.output_limit)
        self.tasks = self._tasks_of(submit, worker) if submit.tasks else None
        self.may_unpickle = not submit.plain_only
        self._looked = 0
        self.has_ended = False
        self.was_interrupted = False
        self.began = 0.0
        self._worker = worker
        self._items: list[bytes] = []
        self._items_type = ""
        self._items_lock = threading.RLock()
        self._tasks_lock = threading.Lock()
        self._output_lock = threading.RLock()
        self._items_sent_at = 0.0
        self.accept = submit.options.accept
        self.retry_on: Sequence[str] = submit.options.retry_on
        self._wants_output = submit.options.output
        self.may_debug = not (submit.plain_only or submit.options.no_debugger)
        is_alone = self.tasks is None and not submit.code.spec.batch
        may_ask = is_alone and submit.options.answers
        self.asking = asking.Asking(self._send, may_ask, may_run_code=self.may_debug)

    @staticmethod
    def _tasks_of(submit: pb.Submit, worker: Worker) -> Tasks:
        return Tasks(submit.tasks, submit.skipped_tasks, worker.begun, submit.tasks_content_type)

    def facts(self) -> CurrentCall:
        return facts_of(self.submit, self.node_id, self.deadline)

    def run_together(self, function: Callable[..., Any]) -> None:
        """The submission's tasks are calls that one run takes."""
        token = current.set(self)
        submit = self.submit
        is_whole = submit.code.spec.batch_whole
        try:
            run_tasks_together(function, submit.tasks, is_whole, self, self._worker.arguments_of, _run_coroutine)
            self.result(None, is_exhausted=True)
        except BaseException as error:
            self.failed(error)
        finally:
            current.reset(token)

    def output(self, is_stderr: bool, text: str) -> None:
        self._worker.capture.write(is_stderr, text)

    def display(self, message: dict[str, Any]) -> None:
        if not self._wants_output:
            return
        bundle = message.pop("bundle")
        payload = self._payload(codec.Encoded(codec.JSON, [json.dumps(bundle, default=str).encode()]))
        self._send(pb.Event(display=pb.Display(bundle=payload, **message)))

    def item(self, value: Any) -> None:
        item = codec.encode_item(value, self.accept)  # first: one that can't be sent costs no credit
        self.credits.take(cost_of_item(item))
        self._item(item)

    async def item_async(self, value: Any) -> None:
        item = codec.encode_item(value, self.accept)
        await self.credits.take_async(cost_of_item(item))
        self._item(item)

    def _item(self, data: bytes | codec.Encoded) -> None:
        if isinstance(data, codec.Encoded):
            self._worker.hold_interrupts()  # else the file of an item that isn't sent would stay
            try:
                self._send(pb.Event(item=self._payload(data)))
            finally:
                self._worker.let_interrupts()
            return
        if self._is_printed_past_python() or not self.buffer.is_empty:
            self._worker.capture.flush()
        content_type = codec.PLAIN if self.accept == codec.PLAIN else codec.PICKLE
        if content_type != self._items_type:  # calls that run together may want theirs in different ones
            self.flush_items()
            self._items_type = content_type
        with self._items_lock:
            self._items.append(data)
            is_first = len(self._items) == 1
        if time.monotonic() - self._items_sent_at > _BUSY_S:
            self.flush_items()
        elif is_first:
            self._worker.packed.put(self)

    def _is_printed_past_python(self) -> bool:
        """Whether C code or a child process has printed something that belongs before this item.

        To look costs as much as a small item, and lets other threads in between. So a call that hasn't done it before its first
        items is trusted, until the thread that empties the pipes finds that it has.
        """
        self._looked += 1
        capture = self._worker.capture
        return (capture.is_used or self._looked <= _LOOKS) and capture.has_waiting

    def flush_items(self) -> None:
        """Send the items that wait. Safe from any thread."""
        with self._items_lock:
            if self._items:
                data, self._items = self._items, []
                self._items_sent_at = time.monotonic()
                items = pb.Items(data=data, content_type=self._items_type)
                self._worker.send(pb.Frame(event=pb.Event(call_id=self.call_id, items=items)))

    def replied(self, reply: pb.Reply) -> None:
        """To what it has asked."""
        if reply.call_id == self.call_id:
            self.asking.replied(reply)

    def failure(self, error: BaseException) -> None:
        self._send(pb.Event(failure=describe(error, self.node_id, self.retry_on, self.accept)))

    def tasks_changed(self, cancel: pb.Cancel) -> None:
        """Some of a bundle's tasks aren't wanted any more; or, when none are named, no more are to be begun here."""
        if self.tasks is None or cancel.call_id != self.call_id:
            return
        runs = bool(cancel.tasks) and self.tasks.skip(cancel.tasks)
        if cancel.tasks and not runs:
            return
        with self._tasks_lock:  # the end, which the main thread sends, comes after this
            first = self.tasks.give_back()
            if first is not None or runs:
                returned = pb.Returned(first=self.tasks.count if first is None else first, stop=runs)
                self._worker.send(pb.Frame(event=pb.Event(call_id=self.call_id, returned=returned)))

    def result(self, value: Any, is_exhausted: bool = False) -> None:
        busy_s = time.perf_counter() - self.began
        rich_display.flush_figures()
        keep = self.submit.options.keep
        encoded = codec.encode_as(value, codec.kept_as(self.accept) if keep else self.accept)
        self._worker.hold_interrupts()
        try:
            event = pb.Event(result=self._payload(encoded), is_exhausted=is_exhausted, busy_s=busy_s)
            if keep:
                event.result.kept.type = type_text(value)
            self._end(event)
        finally:
            self._worker.let_interrupts()

    def failed(self, error: BaseException) -> None:
        if self._is_worth_a_look():
            self._worker.post_mortem.keep(self.call_id, error)
        self._end(pb.Event(error=describe(error, self.node_id, self.retry_on, self.accept)))

    def _is_worth_a_look(self) -> bool:
        """Whether what the frames hold is kept. Not what may lie on a GPU, which would stay taken from others meanwhile; a
        session's names stay there anyway."""
        kind = self.submit.code.kind
        if not self.may_debug or self.was_interrupted or kind == pb.Code.KIND_POST_MORTEM:
            return False
        return kind == pb.Code.KIND_CELL or not (self.submit.grant.gpus or uses_gpu())

    def _payload(self, encoded: codec.Encoded) -> pb.Payload:
        return to_payload(encoded, self._worker.shared)

    def _end(self, event: pb.Event) -> None:
        if not self.has_ended:
            self.has_ended = True  # from here on an interrupt is ignored
            with self._tasks_lock:
                pass  # what goes back is on its way
            self.bars.close()
            self._worker.capture.flush()
            with self._output_lock:
                self._send_outputs(self._bound.rest())
            self._send(event)

    def _send(self, event: pb.Event) -> None:
        self._worker.capture.flush()
        self.flush_items()
        event.call_id = self.call_id
        self._worker.send(pb.Frame(event=event))

    def _send_output(self, is_stderr: bool, text: str) -> None:
        if self._wants_output:
            self.flush_items()
            with self._output_lock:
                self._send_outputs(self._bound.take(is_stderr, text))

    def _send_output_due(self) -> None:
        with self._output_lock:
            self._send_outputs(self._bound.due())

    def _send_outputs(self, outputs: list[pb.Output]) -> None:
        for output in outputs:
            self._worker.send(pb.Frame(event=pb.Event(call_id=self.call_id, output=output)))


def _run_coroutine(work: Any) -> Any:
    """Like asyncio.run, but an interrupt reaches the coroutine as KeyboardInterrupt, not as a cancellation."""
    with asyncio.Runner() as runner:
        return runner.run(work)


def main() -> None:
    config = json.loads(os.environ.pop(CONFIG_VARIABLE))
    owner = os.environ.pop(OWNER_VARIABLE, None)
    if owner is None:  # a sandbox ends by itself
        _die_with(config["parent"])
    confinement.limit_process(is_sandboxed=owner is not None)
    confinement.keep_to_itself((config["link"], config["stdout"], config["stderr"]))
    own = [entry for entry in sys.path if entry] if config.get("has_packages") else []
    sys.path[:] = own + config["path"]
    os.environ.pop("PYTHONPATH", None)
    if config["pythonpath"] is not None:
        os.environ["PYTHONPATH"] = config["pythonpath"]
    sys.argv = [""]
    shipped_modules.serve(config["modules"])
    link = socket.socket(fileno=config["link"])
    capture = Capture(config["stdout"], config["stderr"])
    sys.stdout = sys.__stdout__ = Stream(1, "<stdout>", capture.write)
    sys.stderr = sys.__stderr__ = Stream(2, "<stderr>", capture.write)
    if "inline" in os.environ.get(
        "MPLBACKEND", "inline"
    ):  # a kernel's own choice is inherited when it started the node
        os.environ["MPLBACKEND"] = rich_display.BACKEND
    rich_display.install()
    tqdm_bars.install(lambda stream: isinstance(stream, Stream), has_widgets=False)
    # A crash in C code then says in its last output where it was; other threads are the worker's own.
    faulthandler.enable(2, all_threads=False)
    _be_main()
    gc.freeze()  # what is loaded now stays: no collection has to walk through it again
    begun = mmap.mmap(config["begun"], BEGUN_BYTES)
    os.close(config["begun"])
    roots = [Path(root) for root in config.get("shared", ())]
    worker = Worker(link, capture, config["node_id"], begun, SharedFiles(roots, int(owner) if owner else None))
    if config["memory"] is not None:
        worker.memory = confinement.MemoryLimit(config["memory"])
    worker.main()


def _die_with(parent: int) -> None:
    """Have the kernel kill this process when the node dies. The reader thread does that too, with all that was started here, but
    not while C code holds the interpreter lock."""
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != parent:  # it died before
            os._exit(1)


def _be_main() -> None:
    """Give functions that come from a notebook a `__main__` that is theirs, not this module."""
    import types

    sys.modules["__main__"] = types.ModuleType("__main__")


if __name__ == "__main__":
    main()
