"""Breakpoints: sites of the counting hook, each for the threads of one process or, in the kernel's half, for all.

Nothing is written into memory: a breakpoint is there before its page is loaded, while paging is switched on, and after
the page has been replaced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process
    from callgate.kernel.machine import Machine
    from callgate.tools.debugger.debuggee.world import World

Condition = Callable[[], bool]
HIT = "debugger breakpoint"  # reason of the machine's stop; its detail is the Breakpoint


@dataclass(eq=False, slots=True)
class Breakpoint:
    """One breakpoint; `process` is a number, None if it is for all.

    It ends a run if it has no `conditions` or one holds.
    """

    address: int
    process: int | None
    conditions: list[Condition] = field(default_factory=list)
    sites: list[int] = field(default_factory=list)
    hits: int = 0

    def __repr__(self) -> str:
        where = f" of process {self.process}" if self.process else ""
        return f"<breakpoint at {self.address:#010x}{where}, hit {self.hits} times>"


class Breakpoints:
    """The breakpoints of one target under a debugger."""

    def __init__(self, machine: Machine, world: World) -> None:
        self.machine = machine
        self.world = world
        self.known: list[Breakpoint] = []
        self.passed = (-1, 0)  # count of instructions and address at which the last run ended by a breakpoint

    def add(
        self, address: int, process: Process | None = None, conditions: list[Condition] | None = None
    ) -> Breakpoint:
        """Add a breakpoint at a linear address, for the threads of a process.

        Where all processes share memory it may be for all; elsewhere the process says which memory is meant
        (ValueError).
        """
        if process is None and not self.world.shared(address):
            raise ValueError(f"{address:#x} is an address of ring 3: name the process")
        point = Breakpoint(address, None if process is None else process.number, conditions or [])
        self._place(point)
        self.known.append(point)
        return point

    def _place(self, point: Breakpoint) -> None:
        address = point.address
        point.sites.append(self.machine.probe(address, lambda: self._reached(point, address)))
        early = self.world.early(address)
        if early is not None:
            point.sites.append(self.machine.probe(early, lambda: self._reached_early(point, early)))

    def _lift(self, point: Breakpoint) -> None:
        while point.sites:
            self.machine.unprobe(point.sites.pop())

    def remove(self, point: Breakpoint) -> None:
        """Remove a breakpoint, if it is still there."""
        if point in self.known:
            self.known.remove(point)
            self._lift(point)

    def clear(self) -> None:
        """Remove all of them."""
        for point in list(self.known):
            self.remove(point)

    @contextmanager
    def lifted(self) -> Iterator[None]:
        """Have none within the block, which runs where nothing is looked for."""
        for point in self.known:
            self._lift(point)
        try:
            yield
        finally:
            for point in self.known:
                if not point.sites:
                    self._place(point)

    def at(self, address: int) -> Breakpoint | None:
        """Return a breakpoint that would end a run if the CPU came to `address` now."""
        for point in self.known:
            if point.address == address and self._here(point) and self._holds(point):
                return point
        return None

    def _reached_early(self, point: Breakpoint, address: int) -> None:
        """The CPU has come to where the code lies in physical memory: that counts before paging is on."""
        if not self.machine.paging.mode().paging:
            self._reached(point, address)

    def _reached(self, point: Breakpoint, address: int) -> None:
        passed = int(self.machine.state.count), address
        if passed == self.passed or not self._here(point) or not self._holds(point):
            return
        self.passed = passed
        point.hits += 1
        self.machine.request_stop(HIT, point)

    def _here(self, point: Breakpoint) -> bool:
        """Whether the CPU is in the breakpoint's address space.  Page tables are used again, a process not."""
        if point.process is None:
            return True
        process = self.world.process(point.process)
        if process is None:
            return False
        if self.world.shared(point.address):
            return self.world.threads.running().process.number == process.number
        mode = self.machine.paging.mode()
        return mode.cr3 == process.pointers if mode.paging else process.number == 0

    def _holds(self, point: Breakpoint) -> bool:
        return not point.conditions or any(condition() for condition in point.conditions)
