"""What a run did, as plain data: threads, requests with the state at each step, disk commands, switches, host calls.

Times are nanoseconds of virtual time.  Names are those of the trace (docs/trace.md); they may come from disk images and
hold any character.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from callgate.kernel.machine.observation.ledger import Counts

REGISTERS: Final = ("eax", "ebx", "ecx", "edx", "esi", "edi")  # that a request carries
Six = tuple[int, ...]  # their values, in this order
STEPS: Final = (
    *("take", "fill", "post", "fetch", "map", "load", "call", "save", "reply", "unmap", "convert", "replied"),
    *("wake", "reload", "release", "abandon"),
)
OF_SERVER: Final = ("fetch", "map", "load", "call", "save", "reply", "unmap", "convert", "replied")


@dataclass(frozen=True, slots=True)
class ThreadRecord:
    """A thread; `role` is "client", "server" or "kernel"."""

    number: int
    name: str
    process: int
    process_name: str
    role: str


@dataclass(frozen=True, slots=True)
class MessageState:
    """The header of a message page, and the data that belong to it at this step, as text."""

    operation: int
    flags: int
    reply: int
    count: int
    error: int
    registers: Six
    eflags: int
    handle: int
    data: str


@dataclass(frozen=True, slots=True)
class SlotView:
    """The record of a slot and what else its endpoint says of it; selectors of threads with their names."""

    state: str
    physical: int
    linear: int
    selector: int
    client: int
    client_name: str
    server: int
    server_name: str
    handle: int


@dataclass(frozen=True, slots=True)
class EndpointView:
    """Masks and ring of an endpoint."""

    unused: int
    free: int
    idle: int
    head: int
    tail: int
    slot_waiters: int
    flags: int
    ring: bytes


@dataclass(frozen=True, slots=True)
class CpuState:
    """Where the CPU is, and the six registers that it holds."""

    eip: int
    place: str  # symbol
    ring: int
    cr3: int
    registers: Six


@dataclass(frozen=True, slots=True)
class Held:
    """Six registers and where they are kept."""

    where: str
    registers: Six


@dataclass(frozen=True, slots=True)
class Scene:
    """The machine at a step: read there, before the instruction that the event marks is executed."""

    cpu: CpuState
    message: MessageState
    slot: SlotView
    endpoint: EndpointView
    page_entry: int  # of the page tables of the server, for the message page
    page_linear: int  # address that this entry maps
    server_cr3: int
    client: Held | None  # registers of the code that asks, where it keeps them
    server: Held | None  # registers of the code that answers


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a request and its cost: the ledger since the step before, of whatever thread ran."""

    kind: str  # one of STEPS
    clock: int
    thread: int
    cost: Counts
    scene: Scene
    detail: str = ""  # the type of a reply


@dataclass(slots=True)
class Request:
    """A request, from the taking of its slot to the release."""

    number: int  # from 1, in the order in which slots were taken
    endpoint: str
    endpoint_number: int
    slot: int
    client: int  # number of the thread that has taken the slot
    operation: str = "?"
    posted: bool = False  # policy's own: no thread takes the reply
    direct: bool = False  # it takes the direct switch, past the ring
    server: int = 0  # number of the thread that serves it; 0: not fetched
    steps: list[Step] = field(default_factory=list)
    ended: bool = False

    @property
    def first(self) -> int:
        """When the slot was taken."""
        return self.steps[0].clock

    @property
    def last(self) -> int:
        """When the last step that was seen took place."""
        return self.steps[-1].clock

    def at(self, kind: str) -> Step | None:
        """Return the last step of a kind."""
        return next((step for step in reversed(self.steps) if step.kind == kind), None)

    @property
    def error(self) -> int:
        """The ErrorCode of the reply, 0 if it succeeded or has none."""
        seen = self.at("unmap") or self.at("wake")
        return seen.scene.message.error if seen else 0

    @property
    def cost(self) -> Counts:
        """The ledger from the first step to the last."""
        return sum((step.cost for step in self.steps), Counts())


@dataclass(slots=True)
class DiskCommand:
    """A command of a drive."""

    disk: str  # "port 0" or "channel 0.1"
    slot: int
    code: str
    lba: int
    begun: int
    ended: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class Call:
    """A host call or system call, with what the trace says of its argument."""

    clock: int
    thread: int
    name: str
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Switch:
    """Another thread has the CPU."""

    clock: int
    thread: int


@dataclass(frozen=True, slots=True)
class Sample:
    """The value of a counter from a moment on."""

    clock: int
    name: str
    value: int


@dataclass(slots=True)
class RunRecord:
    """All of a run."""

    images: tuple[str, ...]
    command: str
    threads: dict[int, ThreadRecord] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    commands: list[DiskCommand] = field(default_factory=list)
    host_calls: list[Call] = field(default_factory=list)
    system_calls: list[Call] = field(default_factory=list)
    interrupts: list[Call] = field(default_factory=list)  # name: IRQ11, #PF
    switches: list[Switch] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    begin: int = 0
    end: int = 0
    total: Counts = field(default_factory=Counts)

    def only(self, number: int) -> RunRecord:
        """Return what happened during one request, and the system call that asked for it; IndexError.

        Other requests are left out, even if they took place at the same time.
        """
        if not 0 < number <= len(self.requests):
            raise IndexError(number)
        request = self.requests[number - 1]
        begin, end = self._asked(request), request.last

        def during(events: list[Call]) -> list[Call]:
            return [event for event in events if begin <= event.clock <= end]

        at_begin = [Switch(begin, switch.thread) for switch in self.switches if switch.clock < begin]
        return replace(
            self,
            command=f"{self.command} --request {number}",
            requests=[request],
            commands=[each for each in self.commands if begin <= each.begun <= end],
            host_calls=during(self.host_calls),
            system_calls=during(self.system_calls),
            interrupts=during(self.interrupts),
            switches=at_begin[-1:] + [switch for switch in self.switches if begin <= switch.clock <= end],
            samples=[sample for sample in self.samples if begin <= sample.clock <= end],
            begin=begin,
            end=end,
            total=request.cost,
        )

    def _asked(self, request: Request) -> int:
        """Return when the client's system call began, or when a slot was taken if that was not its first request."""
        first = request.first
        calls = [call.clock for call in self.system_calls if call.thread == request.client and call.clock <= first]
        others = [other.first for other in self.requests if other.client == request.client and other.first < first]
        return calls[-1] if calls and not request.posted and calls[-1] > max(others, default=-1) else first

    def running(self) -> Iterator[tuple[int, int, int]]:
        """Yield which thread has the CPU from when to when."""
        ends = [*(switch.clock for switch in self.switches), self.end][1:]
        for switch, end in zip(self.switches, ends, strict=True):
            yield switch.thread, switch.clock, end
