"""Requests that policy has posted for itself, and the managers that receive their replies.

No thread takes the reply of such a request: a READ of file data, or a deferred release.  `Endpoint.tokens` says which
of them a slot holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from callgate.kernel.abi.message import TOKEN_RELEASES
from callgate.kernel.core.coroutines import RoutineCall
from callgate.kernel.core.records import EndpointState


class Listener(Protocol):
    """A manager that receives the replies to requests it has posted.  The slot's token is cleared before."""

    async def replied(self, endpoint: EndpointState, token: int, message: memoryview) -> RoutineCall | None:
        """REPLIED: the server has answered, with data or an error; return the routine to end with, if there is one."""

    def failed(self, endpoint: EndpointState, token: int) -> None:
        """Policy has answered with `endpoint.error`, because the server has ended."""


class Posted:
    """The managers that are told when a slot for which no client waits is granted or answered."""

    file_data: Listener
    releases: Listener
    granted: Callable[[EndpointState, int], None]  # (endpoint, slot): for the oldest deferred release
    unclaimed: Callable[[EndpointState, memoryview], None]  # (endpoint, message): a reply whose client is gone

    def of(self, token: int) -> Listener:
        """Return the manager that receives the reply to the request with a token; the token is not 0."""
        return self.releases if token == TOKEN_RELEASES else self.file_data
