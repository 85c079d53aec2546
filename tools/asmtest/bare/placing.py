"""Linked objects in the board's memory: rights, pages beyond its 8 MiB, and names that Python functions answer."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from struct import unpack
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.ram import Ram
from callgate.tools.asmtest.board.board import MEMORY, POINTERS, PRESENT, RIGHTS, TABLES, USER
from callgate.tools.asmtest.board.result import RoutineError
from callgate.tools.asmtest.objects.linking import FRAMES, TABLE_PAGES, LinkedProgram

if TYPE_CHECKING:
    from callgate.tools.asmtest.bare.operations import Function, Operations

TOP_BIT: Final = 31


class PageMaker:
    """Maps pages beyond memory; frames for tables come from the end of FRAMES."""

    def __init__(self, ram: Ram) -> None:
        self.ram = ram
        self.free = iter(range(FRAMES[1] - TABLE_PAGES * PAGE_SIZE, FRAMES[1], PAGE_SIZE))

    def map(self, page: int, frame: int, rights: str) -> None:
        """Map a linear page to a physical one, for both rings; RuntimeError if too many tables were needed."""
        directory = self._next(POINTERS + 8 * (page >> 18), PRESENT)
        table = self._next(directory + 8 * (page >> 9 & 511), RIGHTS["rw"] | USER)
        self.ram.put_u64(table + 8 * (page & 511), frame * PAGE_SIZE | RIGHTS[rights] | USER)

    def _next(self, entry: int, flags: int) -> int:
        value = self.ram.u64(entry)
        if not value & PRESENT:
            address = next(self.free, None)
            if address is None:
                raise RuntimeError(f"segments lie in more than {TABLE_PAGES} places of 2 MiB each")
            value = address | flags
            self.ram.put_u64(entry, value)
        return value & -PAGE_SIZE & 0xFFFF_FFFF


def prepare(machine: Machine, program: LinkedProgram) -> None:
    """Give each page of the objects its rights; map what is linked beyond memory."""
    maker = PageMaker(machine.ram)
    for page, rights in program.rights.items():
        if page in program.frames:
            maker.map(page, program.frames[page], rights)
            machine.ram.put_u64(TABLES + 8 * program.frames[page], 0)  # one place for each byte
        else:
            machine.ram.put_u64(TABLES + 8 * page, page * PAGE_SIZE | RIGHTS[rights] | USER)
    machine.cpu.cr3 = POINTERS
    machine.flush_tlb()


def pieces(frames: dict[int, int], address: int, length: int) -> Iterator[tuple[int, int]]:
    """Yield the physical address and length of each piece of a linear range; where nothing is mapped, unchanged."""
    if not frames or address + length <= MEMORY:
        yield address, length
        return
    while length > 0:
        size = min(length, PAGE_SIZE - address % PAGE_SIZE)
        page = address // PAGE_SIZE
        yield frames.get(page, page) * PAGE_SIZE + address % PAGE_SIZE, size
        address, length = address + size, length - size


def answer(cpu: Operations, name: str) -> Callable[[], None]:
    """Return the function for calls of an undefined name: the one that the test gave for it."""

    def called() -> None:
        function = cpu.stubs.get(name)
        if function is None:
            raise RoutineError(
                f"{name} was called, which no object defines: give it with ;@ extern {name} = …, "
                f"in Python with load(…, extern={{{name!r}: function}})"
            )
        registers = cpu.machine.cpu
        count = arguments_of(function, name)
        words = unpack(f"<{count}I", cpu.ram_at(registers.esp + 4, 4 * count))
        result = function(*words)
        if result is None:
            return
        if not isinstance(result, int) or not -(1 << TOP_BIT) <= result < 1 << TOP_BIT + 1:
            raise TypeError(f"the function for {name} returned {result!r}: what goes into EAX is a number of 32 bits")
        registers.eax = result

    return called


def arguments_of(function: Function, name: str) -> int:
    """Return how many dwords of the stack a function takes; TypeError if that is unknown."""
    parameters = inspect.signature(function).parameters.values()
    if any(item.kind not in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD) for item in parameters):
        raise TypeError(f"the function for {name} must name its arguments, each a dword of the stack")
    return sum(item.default is item.empty for item in parameters)
