"""Breakpoints of an editor: lines, names, addresses, events, and data; each is a stop of the workbench."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.programs.images import EVENT_PROGRAMS, kernel_image, program_image
from callgate.tools.debugger.dap.protocol import RequestError
from callgate.tools.debugger.debuggee.watchpoints import Kind
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.inspection.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from callgate.kernel.machine import Stop
    from callgate.tools.debugger.dap.protocol import Arguments
    from callgate.tools.debugger.dap.sources import Sources
    from callgate.tools.debugger.workbench.stops import Stopping
    from callgate.tools.debugger.workbench.workbench import Workbench

KINDS: Final = {"read": Kind.READ, "write": Kind.WRITE, "readWrite": Kind.ACCESS}
Numbers = dict[tuple[str, int], int]
NOT_YET: Final = "no program that runs now has an instruction there"


@dataclass(eq=False, slots=True)
class Point:
    """A breakpoint as an editor knows it; `stopping` is None as long as nothing can stop there."""

    number: int
    reason: str
    add: Callable[[], tuple[Stopping, dict[str, Any]]]
    stopping: Stopping | None = None
    message: str = ""


class Points:
    """The breakpoints of one session, by what set them: "lines FILE", "functions" and others."""

    def __init__(self, bench: Workbench, sources: Sources, numbers: Numbers) -> None:
        """`numbers` are those that the editor knows: a system that begins again keeps them."""
        self.bench = bench
        self.sources = sources
        self.numbers = numbers
        self.known: dict[str, list[Point]] = {}

    def _replace(self, key: str, why: str, adders: list[Callable[[], tuple[Stopping, dict[str, Any]]]]) -> list[Any]:
        for point in self.known.pop(key, []):
            if point.stopping is not None and point.stopping.number in self.bench.stops.known:
                self.bench.stops.remove(point.stopping.number)
        self.known[key] = []
        answers = []
        for index, add in enumerate(adders):
            point = Point(self.numbers.setdefault((key, index), len(self.numbers) + 1), why, add)
            self.known[key].append(point)
            answers.append(self._try(point))
        return answers

    def _try(self, point: Point) -> dict[str, Any]:
        """Set a breakpoint; return it as DAP describes it."""
        try:
            point.stopping, more = point.add()
        except CommandError as error:
            point.message = str(error)
            return {"id": point.number, "verified": False, "message": point.message}
        return {"id": point.number, "verified": True, "message": point.stopping.text, **more}

    @property
    def waiting(self) -> bool:
        """Whether there are lines in programs that do not run yet."""
        return any(point.message == NOT_YET for points in self.known.values() for point in points)

    def resolve(self) -> list[dict[str, Any]]:
        """Set what could not be set before; return those that now are."""
        waiting = [p for points in self.known.values() for p in points if p.stopping is None and p.message == NOT_YET]
        tried = [(point, self._try(point)) for point in waiting]
        for point, _ in tried:
            if point.stopping is not None:
                point.message = ""
        return [answer for _, answer in tried if answer["verified"]]

    def hit(self, stop: Stop) -> Point | None:
        """Return the breakpoint that has ended a run."""
        stopping = self.bench.stops.of_stop(stop)
        found = (point for points in self.known.values() for point in points if point.stopping is stopping)
        return None if stopping is None else next(found, None)

    def lines(self, arguments: Arguments) -> list[dict[str, Any]]:
        """Set the breakpoints of a file."""
        source = arguments.within("source")
        file = self.sources.named(source)
        wanted = [(item.number("line"), item.text("condition", "")) for item in arguments.some("breakpoints")]
        return self._replace(
            f"lines {file}", "breakpoint", [self._at_line(file, line, condition) for line, condition in wanted]
        )

    def _at_line(self, file: str, number: int, condition: str) -> Callable[[], tuple[Stopping, dict[str, Any]]]:
        def add() -> tuple[Stopping, dict[str, Any]]:
            found = self.sources.place(file, number)
            if found is None:
                raise CommandError(NOT_YET)
            line, process = found
            stopping = self.bench.stops.add_address(line.address, process, condition or None)
            described = self.sources.described(line)
            return stopping, {"line": line.line, "source": described, "instructionReference": f"{line.address:#x}"}

        return add

    def functions(self, arguments: Arguments) -> list[dict[str, Any]]:
        """Set those of names: of code, or of events."""
        wanted = [(item.text("name"), item.text("condition", "")) for item in arguments.some("breakpoints")]
        return self._replace("functions", "function breakpoint", [self._named(*item) for item in wanted])

    def _named(self, name: str, condition: str) -> Callable[[], tuple[Stopping, dict[str, Any]]]:
        return lambda: (self.bench.stops.add(name, condition or None), {})

    def instructions(self, arguments: Arguments) -> list[dict[str, Any]]:
        """Set those of addresses; in a program's half they are of the process that runs."""
        threads = self.bench.debuggee.threads
        kernel, running = threads.processes()[0], threads.running().process
        wanted = [
            (item.address("instructionReference") + item.number("offset", 0), item.text("condition", ""))
            for item in arguments.some("breakpoints")
        ]

        def adder(address: int, condition: str) -> Callable[[], tuple[Stopping, dict[str, Any]]]:
            where = kernel if address >= KERNEL_BASE else running
            return lambda: (
                self.bench.stops.add_address(address, where, condition or None),
                {"instructionReference": f"{address:#x}"},
            )

        return self._replace("instructions", "instruction breakpoint", [adder(*item) for item in wanted])

    def events(self, arguments: Arguments) -> list[dict[str, Any]]:
        """Set the filters of exceptions: events."""
        wanted = [(name, "") for name in arguments.texts("filters")]
        wanted += [(item.text("filterId"), item.text("condition", "")) for item in arguments.some("filterOptions")]
        return self._replace("events", "exception", [self._named(*item) for item in wanted])

    def data(self, arguments: Arguments) -> list[dict[str, Any]]:
        """Set those of data, by what `data_id` returned."""
        adders = []
        for item in arguments.some("breakpoints"):
            address, _, length = item.text("dataId").partition("/")
            kind = KINDS.get(item.text("accessType", "write"))
            if kind is None or not length.isdigit():
                raise RequestError(f"no data breakpoint: {item.text('dataId')}")
            adders.append(self._watched(kind, address, int(length)))
        return self._replace("data", "data breakpoint", adders)

    def _watched(self, kind: Kind, address: str, length: int) -> Callable[[], tuple[Stopping, dict[str, Any]]]:
        return lambda: (self.bench.stops.watch(kind, f"[{address}]", length), {})

    def data_id(self, name: str) -> dict[str, Any]:
        """Return what `dataBreakpointInfo` wants for an expression."""
        try:
            address, size = self.bench.meanings.place(Expression(name))
        except CommandError as error:
            return {"dataId": None, "description": str(error)}
        return {
            "dataId": f"{address:#x}/{size}",
            "description": f"{name}: {counted(size, 'byte')} at {address:#010x}",
            "accessTypes": list(KINDS),
            "canPersist": False,
        }


def filters() -> list[dict[str, Any]]:
    """Return the filters that an editor offers: exceptions of the CPU, and the phases of requests."""
    images = [kernel_image(), *map(program_image, EVENT_PROGRAMS)]
    phases = sorted({event.name for image in images for event in image.events if event.name.startswith("ipc.")})
    hint = "a condition, as: op == FREE_SPACE and endpoint == 1"
    return [
        {"filter": name, "label": label, "default": False, "supportsCondition": True, "conditionDescription": hint}
        for name, label in [("exception", "Exceptions of the CPU"), *((name, f"IPC: {name}") for name in phases)]
    ]
