"""The requests of a stretch of a run, each with its client, server, operation, error and duration."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.selectors import GDT_FIRST_ENDPOINT
from callgate.kernel.watching.costs import operation_name
from callgate.kernel.watching.requests import slot_at
from callgate.tools.debugger.history import Moment
from callgate.tools.debugger.queries.scanning import Answer, Stretch

if TYPE_CHECKING:
    from callgate.kernel.machine.observation.stream import Event
    from callgate.kernel.machine.observation.structures import Structure
    from callgate.kernel.system import System

BEGIN: Final = ("ipc.take", "ipc.fill")
ANSWERED: Final = ("ipc.reload", "ipc.replied")
END: Final = ("ipc.release", "ipc.abandon")
KINDS: Final = (*BEGIN, "ipc.fetch", *ANSWERED, *END)


@dataclass(slots=True)
class RequestRow:
    """A request; what is not known yet is None: it had not come so far at the end of the stretch."""

    moment: Moment  # at which its slot was taken
    endpoint: int
    endpoint_name: str
    slot: int
    client: int  # number of the thread that took the slot
    client_name: str
    operation: int | None = None
    server: int | None = None  # number of the thread that was given it
    message: Structure | None = None  # as it was when the reply was taken
    end: Moment | None = None

    @property
    def error(self) -> int | None:
        """The ErrorCode of the reply."""
        return None if self.message is None else int(self.message.error)

    @property
    def duration(self) -> int | None:
        """Instructions, of whatever thread, from the taking of the slot to its release."""
        return None if self.end is None else self.end.position.retired - self.moment.position.retired

    @property
    def operation_name(self) -> str:
        """The operation in words."""
        return "?" if self.operation is None else operation_name(self.operation)

    def names(self) -> dict[str, object]:
        """Return what a condition may name; what is not known is left out, and a condition on it does not hold."""
        known: dict[str, object] = {
            "op": self.operation,
            "operation": self.operation,
            "error": self.error,
            "client": self.client,
            "thread": self.client,
            "server": self.server,
            "endpoint": self.endpoint,
            "slot": self.slot,
            "duration": self.duration,
            "begin": self.moment.position.retired,
            "message": self.message,
        }
        return {name: value for name, value in known.items() if value is not None}


NAMES: Final = (
    *("op", "operation", "error", "client", "thread", "server", "endpoint", "slot", "duration", "begin", "message"),
)
"""What a condition on requests may name."""


class _Listener:
    def __init__(self, system: System, stretch: Stretch, answer: Answer[RequestRow]) -> None:
        self.system = system
        self.kernel = system.kernel
        self.stretch = stretch
        self.answer = answer
        self.open: dict[tuple[int, int], RequestRow] = {}

    def __call__(self, event: Event) -> None:
        """Note a step of a request."""
        number, slot = self.system.machine.cpu.gs // 8 - GDT_FIRST_ENDPOINT, _number(event, "slot")
        endpoint = self.kernel.state.endpoints.by_number.get(number)
        if endpoint is None:
            return
        row, moment, kind = self.open.get((number, slot)), self.stretch.history.moment, event.kind
        if row is None:
            if kind not in BEGIN:
                return  # it was taken before the stretch begins
            client = _number(event, "thread")
            row = RequestRow(moment, number, endpoint.name, slot, client, self._name(client))
            self.open[number, slot] = row
            self.answer.add(row)
        if kind == "ipc.fill":
            row.operation = _number(event, "operation")
        elif kind == "ipc.fetch":
            row.server = _number(event, "thread")
        elif kind in ANSWERED:
            row.message = slot_at(self.kernel, endpoint, slot).message
        elif kind in END:
            row.end = moment
            del self.open[number, slot]

    def _name(self, number: int) -> str:
        threads = self.kernel.state.tasks.threads.values()
        return next((thread.name for thread in threads if thread.number == number), "?")


def _number(event: Event, name: str) -> int:
    value = event.fields.get(name)
    return value if isinstance(value, int) else -1


def requests_between(system: System, stretch: Stretch) -> Answer[RequestRow]:
    """Return the requests whose slot was taken in a stretch; ValueError for one that is not in the history."""
    answer: Answer[RequestRow] = Answer()
    listener = _Listener(system, stretch, answer)

    @contextmanager
    def watching() -> Iterator[None]:
        system.machine.stream.subscribe(listener, KINDS, again=True)
        try:
            yield
        finally:
            system.machine.stream.unsubscribe(listener)

    stretch.scan(answer, watching)
    return answer
