"""Worker processes of a node: started when needed, kept warm, killed to cancel. Runs on the shared loop.

Started with `subprocess` (exec, never a bare fork: gRPC doesn't survive one), each in a session of its own, so that it can be
killed together with everything it started.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from time import monotonic

from easyremote.execution import confinement, offspring, sandbox
from easyremote.execution.confinement import Confinement
from easyremote.execution.deaths import Death, KillCounter, explain, peak_bytes
from easyremote.execution.environments.interpreter import own_modules
from easyremote.execution.pipe import FrameUnpacker, pack_frame
from easyremote.execution.tasks import BEGUN_BYTES, begun_task
from easyremote.execution.worker import CONFIG_VARIABLE
from easyremote.wire.v1 import gateway_pb2 as pb

KILL_AFTER_S = 1.5
"""A worker that was interrupted and still runs its call is killed after this."""

INTERRUPT_EVERY_S = 0.2
"""Until then it is interrupted again and again: Python overlooks a signal that comes just before it waits for a lock."""

IDLE_AFTER_S = 60.0
"""An idle worker beyond the first ends after this."""

SHORT_S = 0.03
PATIENCE_S = 0.05
"""A call of a function that runs for less than `SHORT_S` waits for a busy worker while one is given back so often."""

FIRST_PATIENCE_S = 0.1
"""The same where it isn't known how long the function runs."""

STARTS_WITHIN_S = 5.0
"""A worker that has said nothing for so long isn't counted on any more."""

ANOTHER_AFTER_S = 0.25
"""Where calls have waited without a pause for so long, another worker is started for them."""

WATCH_EVERY_S = 0.25
"""A worker's death shows at its link at once, but not always: what it forked may hold the link, and libuv stops to watch a socket
whose other end closed with bytes unread."""

_FUNCTIONS_KNOWN = 1000

_LAST_OUTPUT_BYTES = 4096


class WorkerDied(Exception):
    """`last_output`: the end of what it printed. `task`: the number of the one that ran, if the call was a bundle."""

    def __init__(self, death: Death, last_output: str, task: int) -> None:
        super().__init__(death.exit_code)
        self.death = death
        self.last_output = last_output
        self.task = task


class WorkerProcess:
    """One process. `on_event(event)` gets what it reports, `on_death(error)` its end."""

    def __init__(
        self,
        node_id: str,
        pool: WorkerPool,
        environment: Mapping[str, str],
        kills: KillCounter,
        confined: Confinement,
    ) -> None:
        """`environment`: what is added to the node's own, or replaces it."""
        self._confined = confined
        self.pool = pool
        self._kills = kills
        self._peak_bytes = 0
        self._was_killed = False
        self._mark = offspring.new_mark()
        self.idle_since = self._started_at = time.monotonic()
        self._is_ready = False
        self._inner: int | None = None
        self.loaded: set[str] = set()  # digests of functions that it holds
        self.on_event: Callable[[pb.Event], None] | None = None
        self.on_death: Callable[[WorkerDied], None] | None = None
        self.is_dead = False
        self._pending = bytearray()
        self._loop = asyncio.get_running_loop()
        self._unpacker = FrameUnpacker()
        self._is_reading = self._is_writing = False
        self._reaper: asyncio.Task[None] | None = None
        self._gone = asyncio.Event()
        self._start(node_id, environment)
        self.resume()
        self._killer: asyncio.TimerHandle | None = None
        self._interrupter: asyncio.TimerHandle | None = None
        self._recent = ""
        self._call_began = 0

    def _start(self, node_id: str, more: Mapping[str, str]) -> None:
        ours, theirs = socket.socketpair()
        out_read, out_write = os.pipe()
        err_read, err_write = os.pipe()
        with tempfile.TemporaryFile() as memory:
            memory.truncate(BEGUN_BYTES)
            self._begun = mmap.mmap(memory.fileno(), BEGUN_BYTES)
            begun = os.dup(memory.fileno())
        config = {
            "begun": begun,
            "link": theirs.fileno(),
            "stdout": out_read,
            "stderr": err_read,
            "path": _search_path(),
            "node_id": node_id,
            "parent": os.getpid(),
            "memory": self._confined.memory_bytes,
            "modules": None if self._confined.sandbox is not None else self._confined.modules,
            "pythonpath": os.environ.get("PYTHONPATH"),
        }
        command = [sys.executable, "-c", "from easyremote.execution.worker import main; main()"]
        python = self._confined.interpreter
        if python is not None:
            config["path"] = own_modules(config["path"])
            config["has_packages"] = True
            command = python.command()
        box = self._confined.sandbox
        if box is not None:
            config["shared"] = [str(folder.parent) for folder in self._confined.shared]
            command = sandbox.command(box, self._confined.shared, command)
        environment = confinement.environment(os.environ, self._confined.secrets, box) | dict(more)
        environment[CONFIG_VARIABLE] = json.dumps(config)
        environment[offspring.MARK] = self._mark
        if python is not None:
            environment = python.variables(environment)
        else:
            environment["PYTHONPATH"] = os.pathsep.join(config["path"])
        self._peak_here = peak_bytes(os.getpid())
        try:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out_write,
                stderr=err_write,
                pass_fds=(begun, theirs.fileno(), out_read, err_read),
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(out_read)
            os.close(err_read)
            raise
        finally:
            theirs.close()
            os.close(begun)
            os.close(out_write)
            os.close(err_write)
        self._started_ticks = offspring.began(self.process.pid)
        ours.setblocking(False)
        self._link = ours
        self._pipes = (out_read, err_read)

    @property
    def is_starting(self) -> bool:
        return not self._is_ready and monotonic() - self._started_at < STARTS_WITHIN_S

    def send(self, frame: pb.Frame) -> None:
        self._pending += pack_frame(frame)
        self._write_some()

    def run(self, submit: pb.Submit) -> None:
        self._call_began = offspring.boot_ticks()
        self.send(pb.Frame(submit=submit))
        if submit.code.digest:
            self.loaded.add(submit.code.digest)

    def give_credit(self, count: int) -> None:
        self.send(pb.Frame(ack=pb.Ack(calls=[pb.Acknowledged(seq=count)])))

    def change_tasks(self, call_id: bytes, unwanted: Iterable[int] = ()) -> None:
        """Don't begin these tasks of the running bundle, and stop the one that runs; none named: begin no more of them."""
        self.send(pb.Frame(cancel=pb.Cancel(call_id=call_id, tasks=unwanted)))

    def pause(self) -> None:
        """Read no more from it for now; what it prints fills its pipe and then makes it wait."""
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._link)

    def resume(self) -> None:
        if not self._is_reading and not self.is_dead:
            self._is_reading = True
            self._loop.add_reader(self._link, self._read)

    def interrupt(self) -> None:
        """Ask the running call to stop; kill the process when it doesn't."""
        self.resume()
        if self.is_dead or self._killer is not None:
            return
        self._killer = self._loop.call_later(KILL_AFTER_S, self.kill)
        self._send_interrupt()

    def _send_interrupt(self) -> None:
        if self.is_dead or self._killer is None:
            return  # the call has ended
        self._signal(signal.SIGINT)
        self._interrupter = self._loop.call_later(INTERRUPT_EVERY_S, self._send_interrupt)

    def _stop_interrupting(self) -> None:
        for timer in (self._killer, self._interrupter):
            if timer is not None:
                timer.cancel()
        self._killer = self._interrupter = None

    def settled(self) -> None:
        """The call has ended; the process lives on."""
        if self._killer is not None:  # it was to stop, and so is what it has started
            arguments = (self.process.pid, self._call_began, offspring.boot_ticks(), self._mark)
            threading.Thread(target=offspring.end_offspring, args=arguments, name="easyremote-end", daemon=True).start()
        self._stop_interrupting()
        self.on_event = self.on_death = None
        self._recent = ""
        self.resume()
        self.idle_since = time.monotonic()

    def _signal(self, number: int) -> None:
        if self._exit_code() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._inner_pid(), number)

    def _inner_pid(self) -> int:
        """Of the worker itself. In a sandbox it is the child of the sandbox's own first process."""
        if self._confined.sandbox is not None and self._is_ready and self._inner is None:
            first = offspring.children(self.process.pid)
            inner = offspring.children(first[0]) if first else []
            self._inner = inner[0] if inner else None
        return self._inner or self.process.pid

    def kill(self) -> None:
        """End the process and all that it started. What has hidden is found when the process has ended."""
        self.resume()
        self._was_killed = True
        started = offspring.descendants(self.process.pid) if self._exit_code() is None else []
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        offspring.kill(started)

    async def close(self) -> None:
        self.kill()
        while not self._gone.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._gone.wait(), WATCH_EVERY_S)
            self.check()

    def check(self) -> None:
        """See whether it has died unnoticed, and what memory it has."""
        if self.is_dead:
            return
        if self._exit_code() is not None:
            self._lost()
        else:
            self._peak_bytes = max(self._peak_bytes, peak_bytes(self._inner_pid()))

    def _exit_code(self) -> int | None:
        """None while it runs. As Popen.poll, which would throw away what the system measured."""
        process = self.process
        if process.returncode is None:
            try:
                pid, status, used = os.wait4(process.pid, os.WNOHANG)
            except ChildProcessError:  # somebody else in this process waits for all of its children
                return process.poll()
            if pid:
                process.returncode = self._code_of(os.waitstatus_to_exitcode(status))
                peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
                is_its_own = self._confined.sandbox is None and peak > self._peak_here
                if is_its_own:  # else it is the size of this process, from which it was forked, or of a sandbox's first
                    self._peak_bytes = max(self._peak_bytes, peak)
        return process.returncode

    def _code_of(self, exit_code: int) -> int:
        """A sandbox ends with 128 and the number of the signal that killed what was in it, as shells do."""
        return 128 - exit_code if self._confined.sandbox is not None and exit_code > 128 else exit_code

    def _write_some(self) -> None:
        try:
            while self._pending and not self.is_dead:
                sent = self._link.send(self._pending)
                del self._pending[:sent]
        except BlockingIOError:
            if not self._is_writing:
                self._is_writing = True
                self._loop.add_writer(self._link, self._write_some)
            return
        except OSError:
            # Its end of the link is closed. Who sends isn't to be told in the midst of it.
            self._loop.call_soon(self._lost)
        self._stop_writing()

    def _stop_writing(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._loop.remove_writer(self._link)

    def _read(self) -> None:
        """Take what came. A worker that was killed has sent until then, so all of it counts."""
        data = self._receive()
        if data:
            self._take(data)
        elif data is not None:
            self._ended()

    def _lost(self) -> None:
        """It has died, or its link is closed, whatever the reader knows of it."""
        while not self.is_dead:
            data = self._receive()
            if data:
                self._take(data)
            else:
                self._ended()

    def _receive(self) -> bytes | None:
        """What came; empty at the link's end, None where nothing is there now."""
        try:
            return self._link.recv(256 * 1024)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def _ended(self) -> None:
        self.pause()
        self._stop_writing()
        self.is_dead = True
        self._reaper = self._loop.create_task(self._reap())

    def _take(self, data: bytes) -> None:
        self._is_ready = True
        for frame in self._unpacker.feed(data):
            if not frame.HasField("event"):
                continue  # it has started
            if frame.event.HasField("output"):
                self._recent = (self._recent + frame.event.output.text)[-_LAST_OUTPUT_BYTES:]
            if self.on_event is not None:
                self.on_event(frame.event)

    async def _reap(self) -> None:
        """The link is closed: the process has died, or is about to."""
        try:
            self._stop_interrupting()
            self._link.close()
            for _ in range(200):
                if self._exit_code() is not None:
                    break
                await asyncio.sleep(0.01)
            was_killed = self._was_killed
            self.kill()  # what it started may live on
            while (exit_code := self._exit_code()) is None:  # noqa: ASYNC110 - nobody is told when it is
                await asyncio.sleep(0.01)
            last = self._recent + "".join(_read_rest(fd) for fd in self._pipes)
            if self.on_death is not None:
                death = explain(exit_code, self._peak_bytes, was_killed, self._kills)
                self.on_death(WorkerDied(death, last[-_LAST_OUTPUT_BYTES:], begun_task(self._begun)))
            await asyncio.to_thread(offspring.end_offspring, self.process.pid, self._started_ticks, None, self._mark)
        finally:
            self._begun.close()
            self._gone.set()


def _search_path() -> list[str]:
    """sys.path as texts; people put Path objects there too."""
    return [os.fspath(entry) or os.getcwd() for entry in sys.path if isinstance(entry, (str, os.PathLike))]


def _read_rest(fd: int) -> str:
    os.set_blocking(fd, False)
    data = b""
    with contextlib.suppress(BlockingIOError):
        while piece := os.read(fd, 65536):
            data = (data + piece)[-_LAST_OUTPUT_BYTES:]
    os.close(fd)
    return data.decode(errors="replace")


class WorkerPool:
    """Idle workers, and those that belong to notebook sessions. `environment`: what all of them see. `confined`: how they are
    held."""

    def __init__(
        self, node_id: str, environment: Mapping[str, str] | None = None, confined: Confinement | None = None
    ) -> None:
        self._node_id = node_id
        self._confined = confined or Confinement()
        self._environment = environment or {}
        self._idle: list[WorkerProcess] = []
        self._all: set[WorkerProcess] = set()
        self._sessions: dict[str, WorkerProcess] = {}
        self._mean_s: OrderedDict[str, float] = OrderedDict()  # how long calls of a function run, by its digest
        self._waiting: deque[asyncio.Future[WorkerProcess]] = deque()
        self._waited_since = 0.0  # since when somebody has waited at each moment
        self._freed_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._watcher: asyncio.TimerHandle | None = None
        self._kills = KillCounter()

    def prepare(self) -> None:
        """Have one worker warm, so that the first call needn't wait for an interpreter to start."""
        if not self._all:
            self._idle.append(self._new())

    async def take(self, digest: str) -> WorkerProcess:
        """A worker for one call: one that holds the function already, else any idle one, else a new one.

        Unless the function is known to be long, a busy worker is waited for while some are given back again and again: to start a
        process takes as much as thousands of short calls. Where calls have waited without a pause for a while, one is started.
        """
        worker = self._idle_one(digest)
        if worker is not None:
            return worker
        mean_s = self._mean_s.get(digest)
        if (mean_s or 0.0) >= SHORT_S or len(self._all) == len(self._sessions):
            return self._new()
        patience_s = FIRST_PATIENCE_S if mean_s is None else PATIENCE_S
        freed: asyncio.Future[WorkerProcess] = self._loop.create_future()
        if not self._waiting:
            self._waited_since = monotonic()
        self._waiting.append(freed)
        try:
            while not (await asyncio.wait((freed,), timeout=patience_s))[0]:
                if self._needs_another(patience_s):
                    self._waited_since = monotonic()
                    return self._new()
            return freed.result()
        except BaseException:
            if freed.done():
                self.give_back(freed.result())
            raise
        finally:
            freed.cancel()
            with contextlib.suppress(ValueError):
                self._waiting.remove(freed)

    def _needs_another(self, patience_s: float) -> bool:
        """Whether whoever has waited so long would wait in vain, or too long."""
        self._forget_dead()
        now = monotonic()
        if any(worker.is_starting for worker in self._all):
            return False
        return now - self._waited_since >= ANOTHER_AFTER_S or now - self._freed_at >= patience_s

    def _idle_one(self, digest: str) -> WorkerProcess | None:
        self._forget_dead()
        for worker in reversed(self._idle):
            if digest in worker.loaded:
                self._idle.remove(worker)
                return worker
        return self._idle.pop() if self._idle else None

    def take_idle(self, worker: WorkerProcess) -> bool:
        """Take this very worker, if it waits for a call."""
        if worker.is_dead or worker not in self._idle:
            return False
        self._idle.remove(worker)
        return True

    def take_for_session(self, session_id: str) -> WorkerProcess:
        """The session's own worker; its namespace lives as long as it does."""
        worker = self._sessions.get(session_id)
        if worker is not None:
            worker.check()
        self._forget_dead()
        worker = self._sessions.get(session_id)
        if worker is None:
            worker = self._sessions[session_id] = self._idle.pop() if self._idle else self._new()
        return worker

    def has_session(self, session_id: str) -> bool:
        worker = self._sessions.get(session_id)
        return worker is not None and not worker.is_dead

    def learn(self, digest: str, run_s: float) -> None:
        """A call of this function ran so long."""
        mean_s = self._mean_s.pop(digest, run_s)
        self._mean_s[digest] = mean_s + 0.3 * (run_s - mean_s)
        if len(self._mean_s) > _FUNCTIONS_KNOWN:
            self._mean_s.popitem(last=False)

    def give_back(self, worker: WorkerProcess) -> None:
        worker.settled()
        if worker in self._sessions.values() or worker.is_dead:
            return
        self._freed_at = monotonic()
        while self._waiting:
            freed = self._waiting.popleft()
            if not freed.done():
                freed.set_result(worker)
                return
        self._idle.append(worker)

    def close_session(self, session_id: str) -> None:
        worker = self._sessions.pop(session_id, None)
        if worker is not None:
            worker.kill()

    def trim(self, keep: int = 1) -> None:
        """End workers that were idle for long, but for so many."""
        self._forget_dead()
        now = time.monotonic()
        for worker in self._idle[: len(self._idle) - keep]:
            if now - worker.idle_since > IDLE_AFTER_S:
                self._idle.remove(worker)
                worker.kill()

    def end_idle(self) -> None:
        """End all workers that wait for a call."""
        idle, self._idle = self._idle, []
        for worker in idle:
            worker.kill()

    @property
    def is_empty(self) -> bool:
        """Whether it has no worker, and nobody waits for one."""
        self._forget_dead()
        return not self._all and not self._waiting

    async def close(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        workers, self._all = self._all, set()
        self._idle.clear()
        self._sessions.clear()
        await asyncio.gather(*(worker.close() for worker in workers))

    def _new(self) -> WorkerProcess:
        worker = WorkerProcess(self._node_id, self, self._environment, self._kills, self._confined)
        self._all.add(worker)
        if self._watcher is None:
            self._watcher = self._loop.call_later(WATCH_EVERY_S, self._watch)
        return worker

    def _watch(self) -> None:
        self._kills.sample()
        for worker in list(self._all):
            worker.check()
        self._watcher = self._loop.call_later(WATCH_EVERY_S, self._watch) if self._all else None

    def _forget_dead(self) -> None:
        self._idle = [worker for worker in self._idle if not worker.is_dead]
        self._all = {worker for worker in self._all if not worker.is_dead}
        for session_id in [key for key, worker in self._sessions.items() if worker.is_dead]:
            del self._sessions[session_id]
