"""A thread as a user sees it: its name, its wait, its ring-3 registers wherever they are.

    >>> system.thread("fat").regs.eax
    >>> system.thread("shell")
    <thread 4 'shell', waits for INPUT, ring 3 at 0x0040012c>

The registers of the thread that runs in ring 3 are the CPU's; those of every other are in the frame that its
way into the kernel left at the top of its kernel stack: a GateFrame, or a TrapFrame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.abi import selectors
from callgate.kernel.abi.layout import Layout, field_names, size_of
from callgate.kernel.abi.thread import GateFrame, ThreadState, TrapFrame
from callgate.kernel.core.records import Process, Thread
from callgate.kernel.machine.cpu.fpu import FloatingPoint

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

KERNEL_PROCESS = 0
GENERAL = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "esp", "eip", "eflags", "cs", "ss", "ds", "es", "fs", "gs")


class Registers:
    """Registers by name, all of ring 3; a copy."""

    def __init__(self, values: dict[str, int]) -> None:
        self.values = values

    def __getattr__(self, name: str) -> int:
        if name in GENERAL and name in self.values:
            return self.values[name]
        raise AttributeError(f"no register {name!r}; there are {', '.join(self.values)}")

    def __repr__(self) -> str:
        return " ".join(f"{name}={value:#x}" for name, value in self.values.items())


class ThreadView:
    """One thread of a system, by `System.thread`."""

    def __init__(self, kernel: Kernel, thread: Thread) -> None:
        self.kernel = kernel
        self.thread = thread

    @property
    def name(self) -> str:
        """Its process's name, as `ps` shows it."""
        return self.thread.name

    @property
    def number(self) -> int:
        """Its id, as events and `ps` show it."""
        return self.thread.number

    @property
    def process(self) -> Process:
        """Its process."""
        return self.thread.process

    @property
    def instructions(self) -> int:
        """Instructions it has retired up to now."""
        return self.kernel.threads.retired(self.thread)

    @property
    def state(self) -> str:
        """In words: running, ready, dead, or "waits for REPLY"."""
        state = self.kernel.scheduler.state_of(self.thread)
        if state is ThreadState.BLOCKED:
            return f"waits for {self.kernel.scheduler.reason_of(self.thread).name}"
        return state.name.lower()

    @property
    def regs(self) -> Registers:
        """Its ring-3 registers now; LookupError for a thread that has none."""
        kernel, machine = self.kernel, self.kernel.machine
        if kernel.scheduler.running is self.thread and machine.cpu.cpl == 3:
            return Registers({name: getattr(machine.cpu, name) for name in GENERAL})
        if self.process.number == KERNEL_PROCESS:
            raise LookupError(f"thread {self.number} ({self.name}) lives in ring 0")
        layout = self._frame_layout()
        frame = kernel.threads.overlay(self.thread, layout, self.thread.stack - size_of(layout))
        values = {name: frame[name] for name in field_names(layout)}
        values["esp"], values["ss"] = values["user_esp"], values["user_ss"]
        return Registers({name: values[name] for name in GENERAL})

    @property
    def fpu(self) -> FloatingPoint:
        """Its x87, MMX and SSE registers now, in the CPU or where they are kept for it."""
        return self.kernel.fpu.of(self.thread)

    def _frame_layout(self) -> type[Layout]:
        """A call gate pushes no EFLAGS, so CS lies one word higher; EFLAGS is never a selector, its bit 1 is set.

        SELECTOR_USER_CODE has bits 3 and 4 besides, and bit 3 of EFLAGS is always clear (SDM vol. 1, 3.4.3).
        """
        gate = self.kernel.threads.overlay(self.thread, GateFrame, self.thread.stack - size_of(GateFrame))
        return GateFrame if gate["cs"] == selectors.SELECTOR_USER_CODE else TrapFrame

    def __repr__(self) -> str:
        try:
            where = f", ring 3 at {self.regs.eip:#010x}"
        except LookupError:
            where = ""
        return f"<thread {self.number} {self.name!r}, {self.state}{where}>"
