"""Looking into a machine, and changing it by hand: what `Machine` offers to people."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from callgate.kernel.machine.cpu.cpu import Cpu
from callgate.kernel.machine.cpu.disassembly import disassembly, named
from callgate.kernel.machine.cpu.paging import Paging
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.outside import Outside, Write
from callgate.kernel.machine.memory.ram import Ram
from callgate.kernel.machine.observation.structures import Structure, layout_named, structure_size


class Looking(ABC):
    """The part of `Machine` that reads, writes and shows."""

    cpu: Cpu
    paging: Paging
    ram: Ram
    outside: Callable[[Outside], None]
    symbols: Callable[[int], str] | None

    @abstractmethod
    def address(self, place: int | str) -> int:
        """Return the linear address that a number or a name means."""

    @abstractmethod
    def code_changed(self, physical: int, length: int) -> None:
        """Tell the CPU that memory that may hold code was written by something else."""

    def read(self, place: int | str, length: int) -> bytes:
        """Return linear memory as ring 0 sees it; PageFault where it is not mapped."""
        return self.paging.read_linear(self.address(place), length)

    def structure(self, name: str, place: int | str) -> Structure:
        """Return a structure of the ABI in linear memory, as ring 0 sees it: `m.structure("TaskState", "task_state")`.

        KeyError for a name that is none, PageFault where it is not mapped.
        """
        address = self.address(place)
        return Structure(layout_named(name), self.read(address, structure_size(name)), address)

    def write(self, place: int | str, data: bytes) -> None:
        """Write linear memory as ring 0 may, code included; PageFault before any byte is written if it may not."""
        for physical, piece in self.paging.split(self.address(place), bytes(data)):
            self.write_physical(physical, piece)

    def write_physical(self, physical: int, data: bytes) -> None:
        """Write RAM by hand, code included; DmaError, and nothing has come from outside, where there is none."""
        self.ram.read(physical, len(data))
        self.outside(Write(physical, data))
        self.ram.write(physical, data, Account.MACHINE)
        self.code_changed(physical, len(data))

    @property
    def regs(self) -> str:
        """The registers as a table."""
        return self.cpu.describe()

    def disassemble(self, place: int | str, count: int = 8, symbols: Callable[[int], str] | None = None) -> list[str]:
        """Return lines of disassembly from a linear address, as far as it is mapped; `symbols` names addresses."""
        return disassembly(self.paging, self.address(place), count, symbols or self.symbols)

    def name_address(self, place: int | str) -> str:
        """Return an address in hex, with its symbol if there is one."""
        address = self.address(place)
        return named(address, self.symbols(address) if self.symbols else "")
