"""What sessions may do, by the token that each has shown: the broker's part."""

from __future__ import annotations

from easyremote.core.access import OWNER, Access, Role
from easyremote.core.records import Close, Send
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench
from tests.core.test_sessions import hello


def access(token_id: str, *roles: str, **bounds: object) -> Access:
    return Access(token_id, f"token of {token_id}", frozenset(map(Role, roles)), **bounds)  # type: ignore[arg-type]


def refused(bench: Bench, greeting: pb.Hello, allowed: Access) -> pb.Refused | None:
    conn = bench.next_conn()
    actions = bench.broker.connected(conn, greeting, bench.now, allowed)
    bench.broker.check()
    frames = [action.frame for action in actions if isinstance(action, Send) and action.conn == conn]
    if frames[0].HasField("welcome"):
        return None
    assert actions == [Send(conn, frames[0]), Close(conn)]
    return frames[0].refused


def test_a_peer_is_told_what_its_token_allows() -> None:
    bench = Bench()
    (sent,) = bench.broker.connected(7, hello(role=pb.ROLE_CLIENT), bench.now, access("a", "ship", "call"))
    assert isinstance(sent, Send) and list(sent.frame.welcome.roles) == ["call", "ship"]


def test_the_id_of_a_session_is_no_credential() -> None:
    bench = Bench()
    mine, theirs = access("a", "ship"), access("b", "admin")
    greeting = hello(role=pb.ROLE_CLIENT)
    assert refused(bench, greeting, mine) is None
    for thief in (theirs, OWNER):
        found = refused(bench, greeting, thief)
        assert found is not None and found.code == "auth"
        assert not bench.broker.knows(greeting.session_id, thief)  # nor its transfer stream
    assert bench.broker.knows(greeting.session_id, mine)
    assert refused(bench, greeting, mine) is None
