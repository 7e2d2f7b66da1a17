"""From whom a client loads pickles."""

from __future__ import annotations

import asyncio
from typing import Literal, get_args

from easyremote import discovery
from easyremote.errors import UsageError

Results = Literal["auto", "plain", "pickle"]
"""What a client takes from nodes. Whoever loads a pickle runs what its sender likes, so "auto" takes pickles only where the
gateway is this user's own, so that its nodes are too, or where a node that the client trusts has authenticated them. "pickle":
from any node of this gateway. "plain": from none."""

_LOOKS = 40
_LOOK_S = 0.05
"""A gateway that was started again says whose it is a moment after it listens."""


class ResultTrust:
    """Whether pickles of a gateway's nodes are loaded. On the loop, but for `may_unpickle`.

    A gateway that was this user's own, and ended, may have another user's in its place. So after each reconnect it is looked up
    anew, and until that is done `is_settled` is False.
    """

    def __init__(self, results: Results, endpoint: discovery.Endpoint) -> None:
        """Raises UsageError for another word."""
        if results not in get_args(Results):
            raise UsageError(f"results is one of {', '.join(map(repr, get_args(Results)))}, not {results!r}")
        self.may_unpickle = results == "pickle" or (results == "auto" and endpoint.is_own)
        self.takes_sealed = results != "plain"  # pickles that a trusted node has sealed
        self.is_settled = True
        self._is_by_gateway = results == "auto" and endpoint.is_own

    def connected(self, endpoint: discovery.Endpoint) -> None:
        """The gateway is here, again."""
        if self._is_by_gateway:
            self.is_settled = endpoint.is_own

    async def settle(self, endpoint: discovery.Endpoint) -> None:
        """Find out whose it is now."""
        for _ in range(_LOOKS):
            if self.is_settled or discovery.refresh(endpoint).is_own:
                self.is_settled = True
                return
            await asyncio.sleep(_LOOK_S)
        self.may_unpickle, self._is_by_gateway, self.is_settled = False, False, True
