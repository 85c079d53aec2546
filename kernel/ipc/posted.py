"""Requests that policy has posted for itself, and what hears of their replies.

Nobody waits for such a request: a READ of file data, or what is given back to a server.  `Endpoint.tokens` says of a
slot which of them it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from callgate.kernel.abi.message import TOKEN_RELEASES
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.records import EndpointState


class Listener(Protocol):
    """What hears of the replies to requests that policy has posted.  The slot's token is taken out of it before."""

    async def replied(self, endpoint: EndpointState, token: int, message: memoryview) -> RoutineCall | None:
        """REPLIED: the server has answered, whatever it says; return the routine to end with, if there is one."""

    def failed(self, endpoint: EndpointState, token: int) -> None:
        """Policy has answered, with `endpoint.error`: the server is gone."""


class Posted:
    """Who hears of what becomes of slots for which no client waits."""

    file_data: Listener
    releases: Listener
    granted: Callable[[EndpointState, int], None]  # (endpoint, slot): for the oldest deferred release
    unclaimed: Callable[[EndpointState, memoryview], None]  # (endpoint, message): a reply whose client is gone

    def of(self, token: int) -> Listener:
        """Return what hears of the reply to the request with a token that is not 0."""
        return self.releases if token == TOKEN_RELEASES else self.file_data
