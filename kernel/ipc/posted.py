"""Requests that policy has posted for itself, and what hears of their replies.

Nobody waits for such a request: a READ of file data, or what is given back to a server.  `EndpointState.posted` says
of a slot which of them it holds.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from callgate.kernel.core.records import RELEASES, EndpointState


class Sender(Enum):
    """Whose request a slot holds."""

    CLIENT = 1  # of a thread; it may have been killed, or have gone on
    RELEASES = 2
    FILE_DATA = 3


class Listener(Protocol):
    """What hears of the replies to the requests of one sender."""

    async def replied(self, endpoint: EndpointState, slot: int, message: memoryview) -> None:
        """CONVERT: an object, sectors or data have come."""

    def dropped(self, endpoint: EndpointState, slot: int, message: memoryview) -> None:
        """SLOT_DROP: a reply has come that brings nothing but registers, or that nobody has waited for."""

    def failed(self, endpoint: EndpointState, slot: int) -> None:
        """Policy has answered, with `endpoint.error`: the server is gone."""


class Posted:
    """Finds the listener of a slot's request."""

    def __init__(self) -> None:
        self.listeners: dict[Sender, Listener] = {}
        self.granted: Callable[[EndpointState, int], None]  # (endpoint, slot): for the oldest deferred release

    def register(self, sender: Sender, listener: Listener) -> None:
        """Have `listener` hear of the replies to a sender's requests."""
        self.listeners[sender] = listener

    def of(self, endpoint: EndpointState, slot: int) -> Listener:
        """Return what hears of the reply in a slot."""
        number = endpoint.posted.get(slot)
        if number is None:
            return self.listeners[Sender.CLIENT]
        return self.listeners[Sender.RELEASES if number == RELEASES else Sender.FILE_DATA]
