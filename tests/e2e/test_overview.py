"""What is going on at a gateway, in one round trip, and a call that is stopped by somebody who looks on."""

from __future__ import annotations

import threading

import pytest

from easyremote import CallCancelled, Client, ComputeNode, Server, UsageError
from easyremote.reporting import progress
from tests.conftest import wait_until

pytestmark = pytest.mark.slow


def test_an_overview_has_calls_with_progress_failures_costs_and_versions() -> None:
    go_on = threading.Event()

    def train(epochs: int) -> int:
        progress(1, epochs, "epochs")
        go_on.wait(30)
        return epochs

    def fail() -> None:
        raise ValueError("no such file\nand more")

    with (
        Server(port=0) as server,
        ComputeNode(server.address, token=server.token, node_id="n", slots=2, price=3.0) as node,
        Client(server.address, token=server.token) as client,
    ):
        node.register(train), node.register(fail)
        wait_until(lambda: len(client.list_functions()) == 2)
        call = client.submit("train", 4)
        assert isinstance(client.submit("fail").exception(30), ValueError)
        wait_until(lambda: any(shown.progress is not None for shown in client.overview().calls))
        seen = client.overview()
        (shown,) = seen.calls
        assert (shown.call_id, shown.function, shown.state, shown.node) == (call.call_id, "train", "running", "n")
        assert shown.is_own and shown.version and shown.progress == 0.25
        (failure,) = seen.failures
        assert (failure.function, failure.node, failure.message) == ("fail", "n", "no such file")
        assert failure.type.endswith("ValueError") and seen.spent > 0 and seen.sees_all
        offers = {offer.name: (offer.nodes, offer.stale_nodes) for offer in seen.functions}
        assert offers == {"train": (("n",), ()), "fail": (("n",), ())}
        assert (seen.nodes[0].python != "", seen.running, seen.queued, seen.gateway.running) == (True, 1, 0, 1)
        assert seen.to_dict()["calls"][0]["function"] == "train"

        with Client(server.address, token=server.token) as other:
            assert not other.overview().calls[0].is_own
            other.cancel_call(call.call_id)
            with pytest.raises(CallCancelled):
                call.result(30)
            go_on.set()
            with pytest.raises(UsageError):
                other.cancel_call("no id")
            wait_until(lambda: not other.overview().calls)
            with pytest.raises(UsageError):
                other.cancel_call(call.call_id)
