"""`easyremote doctor`."""

from __future__ import annotations

import asyncio
import json

from easyremote import discovery, joining
from easyremote.cli.exits import code_of, tell
from easyremote.errors import EasyRemoteError, UsageError
from easyremote.security import credentials
from easyremote.security.joining import Invitation, is_invitation
from easyremote.transport.checking import Step, examine


def run(address: str | None, role: str | None, as_json: bool) -> None:
    """Print each step. Ends the process with the code of the error that stopped it, if one did."""
    if role is not None and role not in joining.ROLES:
        raise UsageError(f"there is no role '{role}'; roles are node, call, ship and admin")
    wanted = joining.ROLES[role].value if role else ""
    endpoint = _endpoint(address, as_node=role == "node")
    steps = asyncio.run(_examine(endpoint, wanted, as_json))
    failed = steps[-1].error
    if as_json:
        facts = [{"step": step.name, "ok": step.error is None, "text": step.text} for step in steps]
        print(json.dumps({"address": endpoint.address, "ok": failed is None, "steps": facts}, ensure_ascii=False))
    elif failed is None and not endpoint.token:
        tell("All well so far. The invitation isn't tried, since that would use it up: easyremote join tells.")
    elif failed is None:
        tell("All well.")
    if failed is not None:
        raise SystemExit(code_of(failed))


async def _examine(endpoint: discovery.Endpoint, role: str, as_json: bool) -> list[Step]:
    steps: list[Step] = []

    def add(step: Step) -> None:
        steps.append(step)
        if not as_json:
            print(f"{'ok  ' if step.error is None else 'FAIL'}  {step.name:12}{step.text}", flush=True)

    add(Step("address", f"{endpoint.address}, from {endpoint.source}"))
    async for step in examine(endpoint, role):
        add(step)
    return steps


def _endpoint(address: str | None, as_node: bool) -> discovery.Endpoint:
    """Where to look; an invitation isn't exchanged for that."""
    text = address or discovery.given_address()
    if text is None or not is_invitation(text):
        try:
            return discovery.find(address, None, as_node=as_node)
        except EasyRemoteError:
            if as_node:
                raise
            return discovery.find(address, None, as_node=True)
    invitation = Invitation.parse(text)
    for known in credentials.load_all():
        if known.invitation_id == invitation.invitation_id:
            return discovery.of_credential(known, "the invitation, which this machine has joined with")
    return joining.endpoint_of(invitation, token="")
