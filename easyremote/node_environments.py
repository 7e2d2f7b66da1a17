"""What a node has of environments: whether it builds any, those of its functions and sessions, and what it tells of a build."""

from __future__ import annotations

import os
from collections.abc import Callable

from easyremote.errors import EnvironmentFailed
from easyremote.execution import confinement
from easyremote.execution.confinement import Confinement
from easyremote.execution.environments import uv
from easyremote.execution.environments.builder import STAGES, Environments, Wanted
from easyremote.execution.environments.interpreter import Interpreter
from easyremote.execution.pools import WorkerPools
from easyremote.requirements import described, environment_of, merged
from easyremote.runtime import python_minor
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_SESSIONS = 1000
"""Sessions of which it is kept what they asked for; the one that ran a cell longest ago is forgotten."""

Tell = Callable[[pb.Event], None]


def why_not(said: bool | None, confined: Confinement) -> str:
    """Why a node builds none, in a few words; empty: it does. `said`: what its owner says."""
    if said is False:
        return "its owner allows none"
    if said is None and confined.sandbox is not None and not confined.sandbox.network:
        return "its workers are in a sandbox without network"
    return "" if uv.find() else "uv isn't installed there"


class NodeEnvironments:
    """Of one node. Runs on the loop."""

    def __init__(self, node_id: str, said: bool | None, confined: Confinement, pools: WorkerPools) -> None:
        self._node_id = node_id
        self._pools = pools
        self.why_not = why_not(said, confined)
        variables = confinement.environment(os.environ, confined.secrets)
        self._environments = Environments(node_id, variables, wheels_only=confined.sandbox is not None)
        self._sessions: dict[str, pb.Environment] = {}

    async def for_code(self, code: pb.Code, tell: Tell) -> Interpreter | None:
        """What this code runs with; None: the node's own Python. Raises EnvironmentFailed."""
        if not code.spec.HasField("environment"):
            return None
        return await self._ready(code.spec.environment, code.python, False, tell)

    async def for_session(self, session_id: str, code: pb.Code, tell: Tell) -> Interpreter | None:
        """The same for a cell: it adds to what its session has asked for before. Where that changes what the session has, its
        process ends, and the next one begins with no names."""
        before = self._sessions.pop(session_id, None)
        asked = before
        if code.spec.HasField("environment"):
            asked = merged(before or pb.Environment(), code.spec.environment)
        if asked is None:
            return None
        try:
            interpreter = await self._ready(asked, code.python, True, tell)
        except BaseException:
            if before is not None:
                self._sessions[session_id] = before
            raise
        if asked != before and self._pools.has_session(session_id):
            self._pools.close_session(session_id)
            text = f"[easyremote] this session was started anew with {described(asked)}; the names of before are gone\n"
            tell(pb.Event(output=pb.Output(is_stderr=True, text=text)))
        self._sessions[session_id] = asked
        if len(self._sessions) > MAX_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        return interpreter

    def forget_session(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    def release_unused(self) -> None:
        """Let those be removed that nothing runs in."""
        self._environments.release_unused(self._pools.interpreters)

    async def close(self) -> None:
        await self._environments.close()

    async def _ready(self, asked: pb.Environment, made_by: str, for_cells: bool, tell: Tell) -> Interpreter:
        if self.why_not:
            raise EnvironmentFailed(
                f"node '{self._node_id}' builds no environments: {self.why_not}",
                requirements="\n".join(asked.requirements),
                node=self._node_id,
            )
        wanted = _checked(asked, made_by, for_cells)

        def on_progress(stage: int, text: str) -> None:
            tell(pb.Event(progress=pb.Progress(done=stage, total=STAGES, text=text[:200])))

        return await self._environments.ready(wanted, on_progress)


def _checked(asked: pb.Environment, made_by: str, for_cells: bool) -> Wanted:
    """What a node may build, as `environment_of` has it. Raises UsageError.

    Its client has checked that already, unless it is another's program: and `uv` would run what a path as `python` names, and
    read what a path as a requirement names, outside of the sandbox that its code is to stay in.
    """
    python = asked.python or made_by or python_minor()
    checked = environment_of(asked.requirements, python)
    assert checked is not None
    return Wanted(tuple(checked.requirements), python, for_cells)
