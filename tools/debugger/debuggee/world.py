"""What there is on a target beside its machine: threads, address spaces, programs.

A booted system has what its kernel has made; a machine without a kernel has one thread and one address space, which is
whatever its page tables say now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from callgate.asm.assembler import Program
from callgate.kernel.abi.memory import KERNEL_BASE
from callgate.kernel.core.records import Process
from callgate.kernel.programs.images import kernel_image, program_image
from callgate.tools.debugger.debuggee.programs import KERNEL, debug_file, program_of
from callgate.tools.debugger.debuggee.threads import DebugThread, ThreadList
from callgate.tools.debugger.target import BareMachine, NoKernel, Target

if TYPE_CHECKING:
    from callgate.kernel.watching.thread_view import ThreadView

ONLY_THREAD: Final = 1
Around = Callable[[str, Callable[[], None]], None]


class Threads(Protocol):
    """The threads of a target."""

    def __iter__(self) -> Iterator[DebugThread]:
        """Yield the threads by number."""
        ...

    def running(self) -> DebugThread:
        """Return the thread that the CPU executes."""
        ...

    def forget(self) -> None:
        """The CPU's state has been changed by something other than an instruction."""
        ...

    def by_number(self, number: int) -> DebugThread | None:
        """Return a thread, None if there is none of this number."""
        ...

    def of_process(self, number: int) -> list[DebugThread]:
        """Return the threads of a process."""
        ...

    def processes(self) -> list[Process]:
        """Return the processes by number."""
        ...

    def view(self, thread: DebugThread) -> ThreadView:
        """Return a thread as `System.thread` does; LookupError if no kernel knows it."""
        ...

    def state(self, thread: DebugThread) -> str:
        """Return a thread's state in words."""
        ...


class World(Protocol):
    """What a debuggee knows of its target."""

    @property
    def threads(self) -> Threads:
        """The threads."""
        ...

    def answering(self, around: Around | None) -> str:
        """Return what answers host calls, in words for what has been written; ask `around` of each that is not seen.

        That is one that a recording has the effects of: it is given what does them, and has to call it.  None: no more.
        """
        ...

    def shared(self, address: int) -> bool:
        """Whether a linear address means the same in every address space."""
        ...

    def process(self, number: int) -> Process | None:
        """Return a process, another record after a restore; None if there is none now."""
        ...

    def physical(self, process: Process, linear: int) -> int | None:
        """Return where a linear address lies, None if it is not mapped."""
        ...

    def image(self, address: int, process: Process) -> Program | None:
        """Return the program that an address of a process belongs to; None for one of which nothing is known."""
        ...

    def images(self, process: Process) -> list[Program]:
        """Return the programs of a process."""
        ...

    def linked(self, address: int, process: Process) -> int:
        """Return the address that the assembler knows code by."""
        ...

    def early(self, address: int) -> int | None:
        """Return where code that the assembler knows by an address runs before paging is on; None if nowhere."""
        ...

    def debug_file(self, address: int, process: Process) -> bytes | None:
        """Return the ELF file that has the call frames of code; None where they are not known."""
        ...


class BootedWorld:
    """Threads and processes of a kernel; the upper half of every address space is the kernel's."""

    def __init__(self, target: Target) -> None:
        self.machine = target.machine
        self.kernel = target.system.kernel
        self.threads = ThreadList(target.system)

    def answering(self, around: Around | None) -> str:
        """Policy does; a host call is all that it does at once."""
        return "policy"

    def shared(self, address: int) -> bool:
        """Whether it is in the kernel's half."""
        return address >= KERNEL_BASE

    def process(self, number: int) -> Process | None:
        """Return a process."""
        return self.kernel.state.tasks.processes.get(number)

    def physical(self, process: Process, linear: int) -> int | None:
        """Return where a linear address lies.

        Before paging is on, a linear address is a physical one, and the kernel's half is where its page tables, which
        the loader has made, are going to map it.
        """
        if not self.machine.paging.mode().paging and linear < KERNEL_BASE:
            return linear if linear < self.machine.ram.low_size else None
        return self.machine.paging.walk(linear, process.pointers).physical

    def image(self, address: int, process: Process) -> Program | None:
        """Return the program of ours that an address belongs to; None for others' code."""
        name = self._program(address, process)
        return kernel_image() if name == KERNEL else None if name is None else program_image(name)

    def images(self, process: Process) -> list[Program]:
        """Return the one program that a process runs, if it is ours."""
        image = self.image(0, process)
        return [] if image is None else [image]

    def _program(self, address: int, process: Process) -> str | None:
        return KERNEL if address >= KERNEL_BASE else program_of(process)

    def linked(self, address: int, process: Process) -> int:
        """Return the address that the assembler knows code by: before paging is on, the kernel runs below its base."""
        early = process.number == 0 and address < KERNEL_BASE and not self.machine.paging.mode().paging
        return address + KERNEL_BASE if early else address

    def early(self, address: int) -> int | None:
        """Return the physical address of code of the kernel, which begins there."""
        early = address - KERNEL_BASE
        return early if 0 <= early < self.machine.ram.low_size else None

    def debug_file(self, address: int, process: Process) -> bytes | None:
        """Return the file of the kernel, or of a program of ours."""
        name = self._program(address, process)
        return None if name is None else debug_file(name)


class OnlyThread:
    """The one thread of a machine without a kernel."""

    def __init__(self, target: BareMachine) -> None:
        self.machine = target.machine
        self.space = Process(0, target.name, 0, 0)
        self.thread = DebugThread(ONLY_THREAD, target.name, self.space, None)

    def __iter__(self) -> Iterator[DebugThread]:
        """Yield it."""
        return iter([self.thread])

    def running(self) -> DebugThread:
        """Return it."""
        return self.thread

    def forget(self) -> None:
        """It is always this thread."""

    def by_number(self, number: int) -> DebugThread | None:
        """Return it if it has this number."""
        return self.thread if number == ONLY_THREAD else None

    def of_process(self, number: int) -> list[DebugThread]:
        """Return it if the process is the only one."""
        return [self.thread] if number == self.space.number else []

    def processes(self) -> list[Process]:
        """Return what stands for the address space."""
        return [self.space]

    def view(self, thread: DebugThread) -> ThreadView:
        """NoKernel."""
        raise NoKernel

    def state(self, thread: DebugThread) -> str:
        """Return the ring that it runs in."""
        return f"running, ring {self.machine.cpu.cpl}"


class BareWorld:
    """One thread, one address space, and the programs that the target was made with."""

    def __init__(self, target: BareMachine) -> None:
        self.machine = target.machine
        self.programs = target.programs
        self.calls = target.calls
        self.threads = OnlyThread(target)
        self.files: dict[int, bytes] = {}  # by the number of a program

    def answering(self, around: Around | None) -> str:
        """Python does, whose effects a recording of a test repeats."""
        if self.calls is not None:
            self.calls.around = around or (lambda _name, do: do())
        return "Python"

    def shared(self, address: int) -> bool:
        """Every address is: there is one address space."""
        return True

    def process(self, number: int) -> Process | None:
        """Return what stands for the address space."""
        return self.threads.space if number == self.threads.space.number else None

    def physical(self, process: Process, linear: int) -> int | None:
        """Return where a linear address lies by the page tables that the CPU uses now."""
        if not self.machine.paging.mode().paging:
            return linear if linear < self.machine.ram.low_size else None
        return self.machine.paging.walk(linear).physical

    def image(self, address: int, process: Process) -> Program | None:
        """Return the program with a section there; for an address in none, the only one."""
        index = self._index(address)
        return None if index is None else self.programs[index]

    def images(self, process: Process) -> list[Program]:
        """Return all of them."""
        return self.programs

    def _index(self, address: int) -> int | None:
        for index, program in enumerate(self.programs):
            if any(section.address <= address < section.address + section.size for section in program.sections):
                return index
        return 0 if len(self.programs) == 1 else None

    def linked(self, address: int, process: Process) -> int:
        """Return the address: programs run where they are linked."""
        return address

    def early(self, address: int) -> int | None:
        """Programs run where they are linked, and nowhere else."""
        return None

    def debug_file(self, address: int, process: Process) -> bytes | None:
        """Return the file of the program there, with what the assembler knows of its call frames."""
        index = self._index(address)
        if index is None:
            return None
        if index not in self.files:
            self.files[index] = self.programs[index].elf(whole=False)
        return self.files[index]


def world_of(target: Target) -> World:
    """Return what there is on a target."""
    return BareWorld(target) if isinstance(target, BareMachine) else BootedWorld(target)
