"""Faults of our own."""

import asyncio
import logging
from time import monotonic

import pytest

from easyremote.config import GatewaySettings
from easyremote.core.broker import Broker
from easyremote.core.records import Action
from easyremote.security.tokens import TokenStore
from easyremote.transport import listener
from easyremote.transport.listener import Listener


class Faulty(Broker):
    """Its first tick raises."""

    def __init__(self) -> None:
        super().__init__(b"g" * 16, GatewaySettings(), "1", monotonic())
        self.ticks = 0
        self.went_on = asyncio.Event()

    def tick(self, now: float) -> list[Action]:
        self.ticks += 1
        if self.ticks == 1:
            raise ZeroDivisionError("float division by zero")
        self.went_on.set()
        return super().tick(now)


def test_a_gateway_whose_tick_raises_says_so_and_goes_on(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "TICK_S", 0.001)

    async def run() -> None:
        broker = Faulty()
        served = Listener(broker, TokenStore(None, "token"))
        await served.start("127.0.0.1", 0)
        try:
            await asyncio.wait_for(broker.went_on.wait(), 30)
        finally:
            await served.stop("the test is over")

    with caplog.at_level(logging.ERROR, "easyremote"):
        asyncio.run(run())
    assert "a fault in this gateway" in caplog.text
