"""When a call is run again, after how long, and what is kept of the attempts before.

Rules:
- A call has one attempt and `retries` more, whatever ended them: its node was lost, or it raised an error of its `retry_on`.
- A lost attempt is made up for at once. After an error there is a wait, doubled for each attempt and drawn by chance from the
  upper half of that, so that calls which failed together don't come back together.
- A call that has delivered an item isn't run again: its consumer would see the items twice.
- It prefers nodes where it hasn't failed yet.
"""

from __future__ import annotations

import zlib

from easyremote.core.records import MAX_RETRIES, Call, Node
from easyremote.wire.v1 import gateway_pb2 as pb

BACKOFF_S = 0.5
"""The wait before the first further attempt after an error, where the call doesn't say."""

MAX_BACKOFF_S = 30.0
"""No wait is longer."""

IDEMPOTENT_RETRIES = 3
"""Attempts more of an idempotent call that doesn't say, at a gateway that allows others none."""

MAX_EARLIER = 10
"""Ends of attempts that are kept with a call; older ones are forgotten."""

_NAME, _MESSAGE, _TRACEBACK = 200, 500, 2000


def allowed(options: pb.Options, default: int) -> int:
    """Attempts that such a call may have beyond the first."""
    if options.retries_set:
        return min(options.retries, MAX_RETRIES)
    return max(default, IDEMPOTENT_RETRIES) if options.idempotent else default


def take_rules(call: Call, node: Node) -> None:
    """What the owner of the function wants holds where the call itself says nothing."""
    spec = node.rules.get(call.key.function)
    if spec is None:
        return
    options, rule = call.submit.options, spec.retry
    if rule.retries_set and not options.retries_set and not (options.idempotent and not rule.retries):
        options.retries_set, options.retries = True, min(rule.retries, MAX_RETRIES)
    if rule.retry_on and not options.retry_on:
        options.retry_on.extend(rule.retry_on)
    if rule.HasField("backoff_s") and not options.HasField("backoff_s"):
        options.backoff_s = rule.backoff_s
    options.idempotent = options.idempotent or spec.idempotent


def why_not(call: Call, retries: int, wait_s: float, now: float) -> str:
    """Why the call, whose attempt ended with an error of its `retry_on`, isn't run again; empty: it is."""
    if call.sent_item:
        return "it had delivered items already"
    if call.runs > retries:
        return f"it had run {times(call.runs)} and {retries} retries are allowed"
    if call.deadline is not None and now + wait_s >= call.deadline:
        return "its timeout would be over before"
    return ""


def wait_s(call: Call) -> float:
    """How long it waits now that it has failed. The same for the same call and attempt, so that the core needs no chance."""
    options = call.submit.options
    first_s = options.backoff_s if options.HasField("backoff_s") else BACKOFF_S
    if not 0 <= first_s <= MAX_BACKOFF_S:
        first_s = MAX_BACKOFF_S
    longest_s = min(first_s * 2.0 ** min(max(call.runs - 1, 0), 30), MAX_BACKOFF_S)
    drawn = zlib.crc32(call.call_id, call.attempt & 0xFFFF) / 2**32
    return longest_s * (0.5 + 0.5 * drawn)


def note_end(call: Call, error: pb.ErrorInfo, node_id: str) -> None:
    """Keep with the call how its attempt ended, and prefer other nodes."""
    submit = call.changed_submit()
    if node_id and node_id not in submit.options.not_on:
        submit.options.not_on.append(node_id)
    if len(submit.earlier) >= MAX_EARLIER:
        del submit.earlier[: len(submit.earlier) - MAX_EARLIER + 1]
    submit.earlier.append(
        pb.ErrorInfo(
            code=error.code[:_NAME],
            type=error.type[:_NAME],
            message=error.message[:_MESSAGE],
            traceback=error.traceback[-_TRACEBACK:],
            node_id=node_id,
            details={"attempt": str(call.attempt)},
        )
    )


def what_happened(call: Call) -> str:
    """Why a call that has run waits again, for people."""
    earlier = call.submit.earlier
    if earlier and earlier[-1].code != "lost":
        return f"'{call.title}' failed ({brief(earlier[-1])}) and was to run again"
    return f"its node vanished with '{call.title}'"


def brief(error: pb.ErrorInfo) -> str:
    """An error in one line, for people."""
    first_line = error.message.strip().partition("\n")[0][:200]
    return ": ".join(part for part in (error.type or error.code, first_line) if part)


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
