"""Nodes on which a function keeps failing rest: its calls go elsewhere for a while, then one of them tries the node again.

Rules:
- There is a circuit for each node and function, and one for a node as a whole. A circuit that isn't kept here is closed.
- A failure speaks against the node where it is of a kind that machines have: a worker that died or couldn't be started, another
  environment, CUDA, a call lost with its node. `HARD` of them in a row open the circuit.
- An exception of the function's own speaks against the node where the same function succeeds elsewhere: after `SOFT` in a row,
  while it succeeded elsewhere and hardly ever failed there. Where nobody else had any such call, after `UNSURE` in a row.
- What fails everywhere is the function's fault: no circuit is opened where it fails elsewhere too, and those that are open are
  closed.
- An open circuit *rests*, first for `REST_S`, doubled each time up to `MAX_REST_S`. Then it is *due*: the next call that goes
  there is its *probe*, and no other goes there meanwhile. Success closes the circuit, failure lets it rest again.
- Where all nodes that could take a call rest or are being probed, the one whose rest ends first takes it: nothing is refused.
- Two losses of a node with calls on it, or failures of several functions there, without a success in between, open the circuit of
  the node as a whole.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from easyremote.wire.v1 import gateway_pb2 as pb

HARD = 3
SOFT = 5
UNSURE = 10
"""Failures in a row that open a circuit."""

LOSSES = 2
"""Losses of a node that do, without a success there in between."""

REST_S = 1.0
MAX_REST_S = 60.0

FORGOTTEN_AFTER_S = 600.0
"""Failures without a new one for so long say nothing any more."""

MAX_CIRCUITS = 4096
"""Circuits that are kept; failures of further nodes and functions are not counted."""

CODE = " code from clients"
"""Stands for the function where the code came with the call. No function's name begins with a space."""

EVERYTHING = ""
"""Stands for the function in the circuit of a node as a whole."""

_SUCCESSES = 3
_PART = 0.25
_FUNCTIONS = 8

_OUTSIDE = frozenset(
    {"cancelled", "deadline", "usage", "bad_arguments", "function_not_found", "unpicklable", "payload"}
)
_MACHINE = frozenset({"worker_crashed", "environment_mismatch"})
_CUDA = re.compile(
    r"CUDA (driver )?(error|initialization)|CUDA out of memory|cuda(Error|rt)|NVML|CUBLAS_STATUS|CUDNN_STATUS"
)


class Fault(enum.Enum):
    """Whom a failure speaks against."""

    NOBODY = "nobody"
    SOFT = "the function, or the node"
    HARD = "the node"


class State(enum.Enum):
    """Of a circuit."""

    CLOSED = "closed"
    RESTING = "resting"
    DUE = "due"
    PROBED = "being probed"


def fault_of(error: pb.ErrorInfo) -> Fault:
    """Whom the error with which an attempt ended speaks against."""
    if error.code in _MACHINE:
        return Fault.HARD
    if error.code == "lost" or error.code in _OUTSIDE:
        return Fault.NOBODY
    if error.code == "remote" and (_CUDA.search(error.message[:500]) or "OutOfMemoryError" in error.type[-100:]):
        return Fault.HARD
    return Fault.SOFT


@dataclass(slots=True)
class _Tally:
    """How a function fared on all nodes since it began to fail on one."""

    succeeded: int = 0
    failed: int = 0
    nodes: dict[str, None] = field(default_factory=dict)  # whose circuits for it are kept


@dataclass(slots=True)
class Circuit:
    """What is held against a node."""

    node_id: str
    function: str
    state: State = State.CLOSED
    failures: int = 0  # in a row
    hard: int = 0  # of them
    losses: int = 0
    succeeded_before: int = 0  # of the tally, when the row began
    failed_before: int = 0
    functions: dict[str, None] = field(default_factory=dict)  # that failed; of the circuit of a node as a whole
    rest_s: float = 0.0
    until: float = 0.0  # its rest ends, or ended, then
    failed_at: float = 0.0
    probe: bytes = b""  # the call that tries the node
    why: str = ""


class Circuits:
    """Of all nodes. `is_open`: whether any isn't closed. `has_changed`: what waits may go elsewhere now."""

    def __init__(self) -> None:
        self.is_open = False
        self.has_changed = False
        self._kept: dict[tuple[str, str], Circuit] = {}
        self._open: dict[tuple[str, str], Circuit] = {}
        self._open_functions: dict[str, int] = {}  # how many of the open ones are of this function
        self._tallies: dict[str, _Tally] = {}

    @property
    def is_used(self) -> bool:
        """Whether any failure is remembered, so that successes matter."""
        return bool(self._kept)

    # ---- choosing ------------------------------------------------------------------------------------------------

    def concerns(self, function: str) -> bool:
        """Whether a node may rest for this function."""
        return function in self._open_functions or EVERYTHING in self._open_functions

    def trusts(self, node_id: str, function: str) -> bool:
        """Whether calls of it go there as to any other node, or one goes there as a probe."""
        return all(circuit.state is State.DUE for circuit in self._of(node_id, function))

    def first_to_end(self, node_ids: Iterable[str], function: str) -> str | None:
        """Of nodes that all rest or are probed, the one whose rest ends first. None: there is one that doesn't."""
        first: tuple[float, str] | None = None
        for node_id in node_ids:
            untils = [circuit.until for circuit in self._of(node_id, function) if circuit.state is not State.DUE]
            if not untils:
                return None
            if first is None or max(untils) < first[0]:
                first = max(untils), node_id
        return first[1] if first is not None else None

    def _of(self, node_id: str, function: str) -> list[Circuit]:
        """The open ones."""
        both = self._open.get((node_id, function)), self._open.get((node_id, EVERYTHING))
        return [circuit for circuit in both if circuit is not None]

    # ---- what happened -------------------------------------------------------------------------------------------

    def sent(self, node_id: str, function: str, call_id: bytes) -> None:
        """A call went there: it is the probe where one is due."""
        for circuit in self._of(node_id, function):
            if circuit.state is State.DUE:
                circuit.state, circuit.probe = State.PROBED, call_id
                self.has_changed = True

    def left(self, node_id: str, function: str, call_id: bytes) -> None:
        """A call isn't there any more, or has ended in a way that says nothing."""
        for circuit in self._of(node_id, function):
            if circuit.state is State.PROBED and circuit.probe == call_id:
                circuit.state, circuit.probe = State.DUE, b""
                self.has_changed = True

    def succeeded(self, node_id: str, function: str) -> None:
        tally = self._tallies.get(function)
        if tally is not None:
            tally.succeeded += 1
        for key in ((node_id, function), (node_id, EVERYTHING)):
            if key in self._kept:
                self._close(self._kept[key])

    def failed(self, node_id: str, function: str, call_id: bytes, error: pb.ErrorInfo, now: float) -> None:
        """An attempt ended there with this error."""
        fault = fault_of(error)
        if fault is Fault.SOFT and function == CODE:
            fault = Fault.NOBODY  # each is a function of its own
        if fault is Fault.NOBODY:
            self.left(node_id, function, call_id)
            return
        if fault is Fault.SOFT and (node_id, EVERYTHING) in self._kept:
            self._close(self._kept[node_id, EVERYTHING])  # it ran, and said how it ended: the node is well
        circuit = self._circuit(node_id, function)
        if circuit is None:
            self.left(node_id, function, call_id)
            return
        tally = self._tallies[function]
        tally.failed += 1
        circuit.failures += 1
        circuit.hard = circuit.hard + 1 if fault is Fault.HARD else 0
        circuit.failed_at = now
        circuit.why = _words(circuit.failures, "call" if function == CODE else f"call of '{function}'", error)
        if self._is_the_functions_fault(circuit, tally):
            for other in (
                [self._kept[name, function] for name in tally.nodes] if function in self._open_functions else ()
            ):
                self._shut(other)
        elif circuit.probe == call_id or (circuit.state is State.CLOSED and self._speaks_against_node(circuit, tally)):
            self._rest(circuit, now)
        if fault is Fault.HARD:
            self._failed_as_a_whole(node_id, function, call_id, now, circuit.why)

    def lost(self, node_id: str, now: float) -> None:
        """The node vanished, and calls with it."""
        circuit = self._circuit(node_id, EVERYTHING)
        if circuit is None:
            return
        circuit.losses += 1
        circuit.failed_at = now
        if circuit.losses >= LOSSES:
            circuit.why = f"it vanished {circuit.losses} times with calls that ran there"
            self._rest(circuit, now)

    def forget(self, node_id: str) -> None:
        """The node has said goodbye: whoever comes under its name is another process."""
        for circuit in [circuit for circuit in self._kept.values() if circuit.node_id == node_id]:
            self._close(circuit)

    def tick(self, now: float) -> None:
        """Rests end, and what happened long ago is forgotten."""
        for circuit in list(self._open.values()):
            if circuit.state is State.RESTING and now >= circuit.until:
                circuit.state = State.DUE
                self.has_changed = True
        if self._kept:
            for circuit in list(self._kept.values()):
                if now - circuit.failed_at > FORGOTTEN_AFTER_S and circuit.state is not State.PROBED:
                    self._close(circuit)

    # ---- judging -------------------------------------------------------------------------------------------------

    def _is_the_functions_fault(self, circuit: Circuit, tally: _Tally) -> bool:
        """It succeeded nowhere since it began to fail, and another node has had as many failures."""
        if tally.succeeded or circuit.failures < HARD:
            return False
        others = (self._kept[name, circuit.function] for name in tally.nodes if name != circuit.node_id)
        return any(other.failures >= HARD for other in others)

    def _speaks_against_node(self, circuit: Circuit, tally: _Tally) -> bool:
        succeeded = tally.succeeded - circuit.succeeded_before
        failed = tally.failed - circuit.failed_before - circuit.failures
        if circuit.hard >= HARD:
            return failed < 2 or failed <= succeeded
        if circuit.failures >= UNSURE and failed == 0:
            return True
        return circuit.failures >= SOFT and succeeded >= _SUCCESSES and failed <= _PART * succeeded

    def _failed_as_a_whole(self, node_id: str, function: str, call_id: bytes, now: float, why: str) -> None:
        circuit = self._circuit(node_id, EVERYTHING)
        if circuit is None:
            return
        circuit.hard += 1
        circuit.failed_at = now
        if len(circuit.functions) < _FUNCTIONS:
            circuit.functions[function] = None
        if circuit.state is State.PROBED and circuit.probe == call_id:
            circuit.why = why
            self._rest(circuit, now)
        elif circuit.state is State.CLOSED and circuit.hard > HARD and len(circuit.functions) > 1:
            circuit.why = f"{circuit.hard} calls of several functions in a row failed there; {why}"
            self._rest(circuit, now)

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _circuit(self, node_id: str, function: str) -> Circuit | None:
        """The one that is kept, or a new one; None where too many are."""
        circuit = self._kept.get((node_id, function))
        if circuit is None and len(self._kept) < MAX_CIRCUITS:
            circuit = self._kept[node_id, function] = Circuit(node_id, function)
            tally = self._tallies.setdefault(function, _Tally())
            tally.nodes[node_id] = None
            circuit.succeeded_before, circuit.failed_before = tally.succeeded, tally.failed
        return circuit

    def _rest(self, circuit: Circuit, now: float) -> None:
        circuit.rest_s = min(2 * circuit.rest_s, MAX_REST_S) if circuit.rest_s else REST_S
        circuit.until = now + circuit.rest_s
        circuit.state, circuit.probe = State.RESTING, b""
        key = circuit.node_id, circuit.function
        if key not in self._open:
            self._open[key] = circuit
            self._open_functions[circuit.function] = self._open_functions.get(circuit.function, 0) + 1
        self.is_open = self.has_changed = True

    def _shut(self, circuit: Circuit) -> None:
        """Let calls go there again; what happened there is still known."""
        if self._open.pop((circuit.node_id, circuit.function), None) is None:
            return
        circuit.state, circuit.probe, circuit.rest_s = State.CLOSED, b"", 0.0
        self._open_functions[circuit.function] -= 1
        if not self._open_functions[circuit.function]:
            del self._open_functions[circuit.function]
        self.is_open = bool(self._open)
        self.has_changed = True

    def _close(self, circuit: Circuit) -> None:
        self._shut(circuit)
        del self._kept[circuit.node_id, circuit.function]
        tally = self._tallies[circuit.function]
        del tally.nodes[circuit.node_id]
        if not tally.nodes:
            del self._tallies[circuit.function]

    # ---- showing and checking ------------------------------------------------------------------------------------

    def in_the_way(self, node_id: str, function: str, now: float) -> tuple[str, float | None] | None:
        """Why such calls don't go there and for how much longer, which isn't known of a probe. None: they do."""
        if self.trusts(node_id, function):
            return None
        circuits = [circuit for circuit in self._of(node_id, function) if circuit.state is not State.DUE]
        longest = max(circuits, key=lambda circuit: circuit.until)
        is_probed = any(circuit.state is State.PROBED for circuit in circuits)
        return longest.why, None if is_probed else max(longest.until - now, 0.0)

    def resting(self, node_id: str, now: float) -> list[pb.NodeRecord.Resting]:
        """What this node rests from, for people."""
        return [
            pb.NodeRecord.Resting(
                function=circuit.function.strip(),
                rests_s=max(circuit.until - now, 0.0) if circuit.state is State.RESTING else 0.0,
                reason=circuit.why,
                is_probed=circuit.state is State.PROBED,
            )
            for circuit in self._open.values()
            if circuit.node_id == node_id
        ]

    def check(self) -> None:
        """Assert every invariant."""
        assert len(self._kept) <= MAX_CIRCUITS, "few circuits are kept"
        assert self.is_open == bool(self._open), "it is known whether any is open"
        for key, circuit in self._kept.items():
            assert (circuit.state is not State.CLOSED) == (key in self._open), "open ones are known as open"
            assert bool(circuit.probe) == (circuit.state is State.PROBED), "who is probed has a probe"
            assert circuit.node_id in self._tallies[circuit.function].nodes, "a function's circuits are known"
            assert REST_S <= circuit.rest_s <= MAX_REST_S or circuit.state is State.CLOSED, "rests are bounded"
        assert sum(len(tally.nodes) for tally in self._tallies.values()) == len(self._kept), "and no others"
        for function, count in self._open_functions.items():
            assert count == sum(key[1] == function for key in self._open) > 0, "open ones of a function are counted"

    def probes(self) -> list[tuple[str, bytes]]:
        """Nodes that are being probed, and the calls that do it."""
        return [(circuit.node_id, circuit.probe) for circuit in self._open.values() if circuit.probe]


def _words(count: int, what: str, error: pb.ErrorInfo) -> str:
    """Why a node rests."""
    last = (error.message or error.type or error.code).strip().partition("\n")[0][:120]
    return f"{count} {what.replace('call', 'calls', 1) if count > 1 else what} in a row failed there, the last with: {last}"
