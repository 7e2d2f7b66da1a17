"""T5: a node that speaks the protocol by hand and sends pickles wherever a client could load one. None is."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest

from easyremote import Client, EasyRemoteError, Server
from easyremote.presenting import DefaultPresenter
from easyremote.wire import codec, plain
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.attack.conftest import Canary
from tests.e2e.conftest import Wire
from tests.faults.stranger import Stranger

pytestmark = pytest.mark.attack

Bodies = Callable[[bytes], list[dict[str, Any]]]
"""What a node answers a call with, given a pickle that must not be loaded."""


def error_info(evil: bytes, **facts: Any) -> pb.ErrorInfo:
    """An exception with all that could be looked into."""
    info = pb.ErrorInfo(code="remote", type="ValueError", message="m", traceback="Traceback …", node_id="n", **facts)
    info.exception.data = evil
    info.earlier.add(code="remote", type="KeyError", message="e", traceback="t").exception.data = evil
    info.details["path"] = evil.decode("latin-1")
    return info


def as_plain(evil: bytes) -> pb.Payload:
    """What says that it is plain data, and is not."""
    return pb.Payload(content_type=plain_type, data=evil)


plain_type = codec.PLAIN

ANSWERS: dict[str, Bodies] = {
    "a result": lambda evil: [{"result": pb.Payload(data=evil)}],
    "a result that says it is plain": lambda evil: [{"result": as_plain(evil)}],
    "a result of an unknown kind": lambda evil: [{"result": pb.Payload(content_type="pickle", data=evil)}],
    "bytes with a pickle as buffer": lambda evil: [{"result": pb.Payload(data=b"x", buffers=[evil])}],
    "an item": lambda evil: [{"item": pb.Payload(data=evil)}],
    "items": lambda evil: [{"items": pb.Items(data=[evil])}],
    "items that say they are plain": lambda evil: [{"items": pb.Items(data=[evil], content_type=plain_type)}],
    "an exception": lambda evil: [{"error": error_info(evil)}],
    "a plain exception": lambda evil: [
        {"error": pb.ErrorInfo(code="remote", type="open", traceback="t", exception=pb.Payload(content_type=plain_type, data=plain.encode([evil.decode("latin-1"), "w"])[0]))}
    ],
    "an error of ours": lambda evil: [{"error": error_info(evil, may_have_run=True)}],
    "an error with odd details": lambda evil: [
        {"error": pb.ErrorInfo(code=code, message="m", details={"code": "x", "message": "y", "self": "z", "frames": "f", "1 2": "3"})}
        for code in ("worker_crashed",)
    ],
    "a failure of a task": lambda evil: [{"failure": error_info(evil)}],
    "a display": lambda evil: [
        {"display": pb.Display(bundle=pb.Payload(data=evil))},
        {"display": pb.Display(bundle=pb.Payload(content_type="application/json", data=evil))},
    ],
    "progress": lambda evil: [{"progress": pb.Progress(done=1, total=2, text=evil.decode("latin-1"))}],
    "a log": lambda evil: [{"output": pb.Output(text=evil.decode("latin-1"))}],
    "a kept ref": lambda evil: [{"result": pb.Payload(kept=pb.Ref(ref_id=b"r" * 16, part_bytes=[len(evil)], node_id="n"))}],
}  # fmt: skip


class HostileNode:
    """Answers each call with what `bodies` says."""

    def __init__(self, server: Server, spec: pb.FunctionSpec | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.peer = Stranger(server)
        self.peer.hello("hostile", "f")
        if spec is not None:
            self.peer.frame(offers=pb.Offers(revision=2, offers=[spec], slots=4))
            self.peer.hears("offers_taken")
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                submit = self.peer.hears("submit", timeout_s=600)
            except (grpc.RpcError, EOFError):
                return
            bodies = list(self.bodies)
            if not any("result" in body or "error" in body for body in bodies):
                bodies.append({"result": codec.encode_as(None, codec.PLAIN).inline()})
            for seq, body in enumerate(bodies, 1):
                event = pb.Event(
                    call_id=submit.call_id, attempt=submit.attempt, seq=seq, is_exhausted="items" in str(bodies), **body
                )
                if seq == 1:
                    event.started.node_id = "hostile"
                self.peer.frame(event=event)


@pytest.fixture
def hostile(server: Server) -> Iterator[HostileNode]:
    node = HostileNode(server)
    yield node
    node.peer.close()


@pytest.fixture
def far_client(server: Server, hostile: HostileNode) -> Iterator[Client]:
    """Its gateway isn't its user's own, as far as it knows."""
    wire = Wire(server.address)
    with Client(wire.address, token=server.token) as client:
        yield client
    wire.close()


class Looks(DefaultPresenter):
    """Looks at everything that comes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def output(self, is_stderr: bool, text: str) -> None:
        self.seen.append(text)

    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None:
        self.seen.append(repr(bundle))

    def progress(self, progress: pb.Progress) -> None:
        self.seen.append(repr(progress))


def looked_at(work: Callable[[], Any]) -> Any:
    """What comes of it, with all that somebody would look at."""
    try:
        value = work()
        if hasattr(value, "get"):
            value = value.get(5)
        return repr(value)
    except Exception as error:
        str(error), repr(error), getattr(error, "attempts", None), error.__cause__, error.__context__
        for name in dir(error):
            try:
                repr(getattr(error, name, None))
            except Exception:  # e.g. an exit code that is no number
                continue
        return error


@pytest.mark.parametrize("way", ["call", "stream", "map", "together", "keep", "async", "job", "exception"])
@pytest.mark.parametrize("answer", ANSWERS)
def test_no_pickle_of_a_hostile_node_is_loaded(
    far_client: Client, hostile: HostileNode, canary: Canary, answer: str, way: str
) -> None:
    """The canary's fixture looks for the file at the end."""
    evil = pickle.dumps(canary, protocol=0)  # text, so that it goes into texts too
    hostile.bodies = ANSWERS[answer](evil)
    client = far_client.with_presenter(Looks).with_options(timeout=20, retries=0)
    works: dict[str, Callable[[], Any]] = {
        "call": lambda: client.call("f", 1),
        "stream": lambda: list(client.stream("f", 1)),
        "map": lambda: list(client.map("f", [1, 2])),
        "together": lambda: [call.exception() for call in [client.submit("f", n) for n in range(3)]],
        "keep": lambda: client.with_options(keep=True).call("f", 1),
        "async": lambda: __import__("asyncio").run(awaited(client)),
        "job": lambda: client.submit_job("f", 1).result(20),
        "exception": lambda: client.submit("f", 1).exception(),
    }
    looked_at(works[way])


async def awaited(client: Client) -> Any:
    return await client.submit("f", 1)


def test_a_reconnecting_client_trusts_no_more_than_before(
    far_client: Client, hostile: HostileNode, canary: Canary
) -> None:
    hostile.bodies = [{"result": pb.Payload(data=pickle.dumps(canary))}]
    far_client._connection._link._stream.cut()  # type: ignore[union-attr]
    assert isinstance(looked_at(lambda: far_client.call("f", 1)), EasyRemoteError)


SPECS = {
    "pickles as texts": lambda evil: pb.FunctionSpec(
        name="f", load_balancing=True, has_signature=True, doc=evil, version=evil,
        parameters=[pb.Parameter(name="x", kind=1, has_default=True, default_text=evil, annotation_text=evil)],
    ),
    "code as a name": lambda evil: pb.FunctionSpec(
        name="f", load_balancing=True, has_signature=True,
        parameters=[pb.Parameter(name="__import__('os')", kind=1), pb.Parameter(name="x", kind=99), pb.Parameter(name="x", kind=0)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SPECS)
def test_what_a_hostile_node_says_of_its_functions_is_text(server: Server, canary: Canary, kind: str) -> None:
    evil = pickle.dumps(canary, protocol=0).decode("latin-1")
    node = HostileNode(server, SPECS[kind](evil))
    node.bodies = []
    try:
        with Client(server.address) as client:
            client._connection._trust.may_unpickle = False
            for work in (
                lambda: client.list_functions(),
                lambda: client.list_nodes(),
                lambda: client.call("f", 1),
                lambda: client.call("f"),
                lambda: client.call("f", 1, 2, y=3),
                lambda: client.explain("f"),
                lambda: client.call_node("hostile", "f", 1),
            ):
                outcome = looked_at(work)
                assert not isinstance(outcome, Exception) or isinstance(outcome, EasyRemoteError), repr(outcome)
    finally:
        node.peer.close()


def test_the_gateway_loads_no_pickle_whatever_passes_through_it(
    monkeypatch: pytest.MonkeyPatch, canary: Canary, tmp_path: Any
) -> None:
    """T7: in a process of its own, where loading one raises; with jobs, refs, Invoke and shipped code."""
    import subprocess
    import sys

    code = (
        "import pickle, sys, io\n"
        "def refuse(*a, **k): print('LOADED', flush=True); raise SystemError('the gateway loads no pickle')\n"
        "pickle.loads = pickle.load = pickle.Unpickler = pickle._Unpickler = refuse\n"
        "import _pickle; _pickle.loads = _pickle.load = refuse\n"
        "from easyremote import Server\n"
        "import cloudpickle; cloudpickle.loads = cloudpickle.load = refuse\n"
        "server = Server(port=0, journal=sys.argv[1]).start_background()\n"
        "print(server.address, server.token, flush=True)\nsys.stdin.read()\nserver.stop()\n"
    )
    from easyremote import ComputeNode

    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "jobs.sqlite")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        address, token = process.stdout.readline().split()
        with ComputeNode(address, "n", token=token) as node, Client(address, token=token) as client:
            node.register(lambda x: x, name="echo")
            assert client.call("echo", {1, 2}) == {1, 2}
            assert client.call(lambda x: [x], 3) == [3]
            assert client.call("echo", client.put({4})) == {4}
            assert client.with_options(keep=True).call("echo", {5}).get() == {5}
            assert client.submit_job("echo", {6}).result(30) == {6}
            assert client.call("echo", bytes(3_000_000)) == bytes(3_000_000)
            assert list(client.map("echo", range(50))) == list(range(50))
        process.stdin.close()
        assert process.stdout.read() == ""
        assert process.wait(30) == 0
