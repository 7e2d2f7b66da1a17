"""Whether the time of a refusal tells its reason: a gateway's port is asked with tokens that are wrong in each way, by turns.

    python -m benchmarks.refusals
    python -m benchmarks.refusals --rounds 2000

Each round has every reason once, in an order of its own, so that whatever else the machine does falls on all alike. Printed is
each one's median, and its ratio to that of a token that nobody has made. The same is measured of the store of tokens alone, where
nothing of gRPC covers a difference.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable

import grpc

from easyremote import Server
from easyremote.core.access import Role
from easyremote.security.tokens import INVITATION, TokenStore

METHOD = "/easyremote.v1.Gateway/Call"


def made_bad(store: TokenStore) -> dict[str, str]:
    """Texts that open nothing any more, or never did, by reason."""
    good, text = store.create("good")
    gone, revoked = store.create("gone")
    store.revoke(gone.token_id)
    _, expired = store.create("short", expires_s=0.001)
    _, invitation = store.create("for Join alone", kind=INVITATION, for_roles=[Role.CALL])
    _, used = store.create("used", kind=INVITATION, for_roles=[Role.CALL], once=True)
    store.use_invitation(used, time.monotonic())
    time.sleep(0.01)
    return {
        "never made": f"er_00000000_{'a' * 43}",
        "wrong secret": f"er_{good.token_id}_{'a' * 43}",
        "last letter wrong": text[:-1] + ("A" if text[-1] != "A" else "B"),
        "revoked": revoked,
        "expired": expired,
        "an invitation": invitation,
        "a used invitation": used,
    }


def measure(refuse: Callable[[str], None], bad: dict[str, str], rounds: int, times: int) -> dict[str, float]:
    """The median time of a refusal in microseconds, by reason; `times` at once make one sample."""
    taken: dict[str, list[float]] = defaultdict(list)
    order = random.Random(1)
    for _ in range(rounds):
        for reason in order.sample(list(bad), len(bad)):
            began = time.perf_counter()
            for _ in range(times):
                refuse(bad[reason])
            taken[reason].append((time.perf_counter() - began) / times * 1e6)
    return {reason: statistics.median(taken[reason]) for reason in bad}


def through_the_port(rounds: int) -> dict[str, float]:
    with Server(port=0) as server, grpc.insecure_channel(server.address) as channel:
        method = channel.unary_unary(METHOD)

        def refuse(token: str) -> None:
            call = method.future(b"", metadata=(("authorization", f"Bearer {token}"),), timeout=10)
            if call.code() is not grpc.StatusCode.UNAUTHENTICATED:  # code() waits for the end
                raise SystemExit(f"not refused, but {call.code()}")

        bad = made_bad(server.tokens)
        measure(refuse, bad, 20, 1)
        return measure(refuse, bad, rounds, 1)


def of_the_store(rounds: int) -> dict[str, float]:
    store = TokenStore(None, "owner")

    def refuse(token: str) -> None:
        assert store.access_of(token, time.monotonic()) is None

    return measure(refuse, made_bad(store), rounds, 20)


def show(title: str, found: dict[str, float]) -> None:
    print(f"{title}\n")
    base = found["never made"]
    for reason, median in found.items():
        print(f"  {reason:<20}{median:>10.1f} us   {median / base:.3f}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=500)
    options = parser.parse_args()
    show("the store of tokens", of_the_store(options.rounds))
    show("a request to a gateway's port", through_the_port(options.rounds))


if __name__ == "__main__":
    main()
