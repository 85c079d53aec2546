"""Registers of any thread.

Those of the thread that the CPU executes are the CPU's.  Every other one stands in the kernel, in `switch`: its
registers are in the SwitchFrame on its kernel stack, and it resumes where that frame returns to.  A switch keeps
neither ES nor GS (asm/kernel/threads/switch.asm): they are not known.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.selectors import SELECTOR_KERNEL_CODE, SELECTOR_KERNEL_DATA
from callgate.kernel.abi.thread import PushedRegisters, SwitchFrame
from callgate.kernel.machine.cpu.cpu import EFLAGS_VM
from callgate.kernel.machine.cpu.fpu import FLOATING
from callgate.kernel.machine.cpu.live_fpu import from_cpu
from callgate.kernel.machine.cpu.setting import SETTABLE

if TYPE_CHECKING:
    from callgate.kernel.core.control_block import ControlBlock
    from callgate.kernel.kernel import Kernel
    from callgate.kernel.machine.cpu.fpu import FloatingPoint
    from callgate.tools.debugger.debuggee.threads import DebugThread
    from callgate.tools.debugger.debuggee.world import Threads
    from callgate.tools.debugger.target import Target

GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags")
SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
PUSHED: Final = ("eax", "ecx", "edx", "ebx", "ebp", "esi", "edi")
CONTROL: Final = ("cr0", "cr2", "cr3", "cr4")
DEBUG: Final = ("dr0", "dr1", "dr2", "dr3", "dr6", "dr7")
#: Bits of control registers by name, and of EFER (Intel SDM vol. 3, 2.5 and 2.2.1).
CR0: Final = {"PE": 0, "MP": 1, "EM": 2, "TS": 3, "ET": 4, "NE": 5, "WP": 16, "AM": 18, "NW": 29, "CD": 30, "PG": 31}
CR4: Final = {
    "VME": 0, "PVI": 1, "TSD": 2, "DE": 3, "PSE": 4, "PAE": 5, "MCE": 6, "PGE": 7, "PCE": 8, "OSFXSR": 9,
    "OSXMMEXCPT": 10, "UMIP": 11, "SMEP": 20, "SMAP": 21,
}  # fmt: skip
EFER: Final = {"SCE": 0, "LME": 8, "LMA": 10, "NXE": 11}
FRAME_WORDS: Final = offset_of(SwitchFrame, "registers") // 4
LOADS: Final = {"gdtr": "LGDT", "idtr": "LIDT", "ldtr": "LLDT", "tr": "LTR"}
READ_ONLY: Final = {
    **{f"{name}_base": f"it comes from the descriptor that {name} selects: change {name}" for name in SEGMENTS},
    **{f"{table}_{part}": f"{how} loads it" for table, how in LOADS.items() for part in ("base", "limit")},
    **dict.fromkeys(("fiseg", "fioff", "foseg", "fooff", "fop"), "the emulated CPU does not keep it"),
    "cpl": "it changes with CS and SS together, by a gate or a return",
    "efer": "WRMSR loads it",
}
"""Registers that cannot be changed by hand, and why."""


class NotWritable(ValueError):
    """A register that a debugger cannot change here; the text says why."""


class ThreadRegisters:
    """Reads and writes the registers of the threads of one target."""

    def __init__(self, target: Target, threads: Threads) -> None:
        self.target = target
        self.machine = target.machine
        self.threads = threads

    @property
    def kernel(self) -> Kernel:
        """The kernel, which keeps the registers of threads that do not run; NoKernel."""
        return self.target.system.kernel

    def general(self, thread: DebugThread) -> dict[str, int | None]:
        """Return GENERAL and SEGMENTS by name; None for a register that is not known."""
        if thread == self.threads.running():
            return dict(self.machine.cpu.registers())
        frame = self._frame(thread)
        words, base = frame.words, frame.base + FRAME_WORDS
        values: dict[str, int | None] = {name: words[base + offset_of(PushedRegisters, name) // 4] for name in PUSHED}
        values["esp"] = self._saved_esp(thread) + size_of(SwitchFrame)
        values["eip"], values["eflags"] = frame["eip"], frame["eflags"]
        values |= {"cs": SELECTOR_KERNEL_CODE, "ss": SELECTOR_KERNEL_DATA, "ds": SELECTOR_KERNEL_DATA}
        return values | {"es": None, "fs": thread.selector, "gs": None}

    def floating(self, thread: DebugThread) -> FloatingPoint:
        """Return the x87, MMX and SSE registers, in the CPU or where they are kept for the thread."""
        self.machine.filters.floating.gather()
        if thread.record is None:
            return from_cpu(self.machine.handle)
        return self.kernel.fpu.of(thread.record)

    def system_registers(self, thread: DebugThread) -> dict[str, int | None]:
        """Return control and debug registers, EFER, CPL, segment bases, and the registers of tables.

        All are the CPU's, except those that a switch changes: CR3, CPL and the bases; None for one that is not known.
        """
        cpu = self.machine.cpu
        values: dict[str, int | None] = {name: getattr(cpu, name) for name in (*CONTROL, *DEBUG)}
        values["efer"] = cpu.efer
        if thread == self.threads.running():
            values["cpl"] = cpu.cpl
            values |= {f"{name}_base": cpu.segment_base(name) for name in SEGMENTS}
        else:
            control_block = None if thread.record is None else thread.record.stack
            values |= {"cr3": thread.process.pointers, "cpl": 0, "fs_base": control_block}
            values |= {"cs_base": 0, "ss_base": 0, "ds_base": 0, "es_base": None, "gs_base": None}
        for table in ("gdtr", "idtr", "ldtr", "tr"):
            values[f"{table}_base"], values[f"{table}_limit"] = cpu.table(table)
        return values

    def set(self, thread: DebugThread, name: str, value: int) -> None:
        """Change a register; NotWritable, with the reason, for one that cannot be, or for such a value."""
        try:
            if name in FLOATING:
                self._set_floating(thread, name, value)
            elif name not in SETTABLE:
                raise NotWritable(f"{name} cannot be changed: {READ_ONLY.get(name, 'there is no such register')}")
            elif thread == self.threads.running():
                self.machine.set_register(name, value)
                self.threads.forget()
            else:
                self._set_saved(thread, name, value)
        except ValueError as error:
            raise NotWritable(str(error)) from None

    def _set_floating(self, thread: DebugThread, name: str, value: int) -> None:
        if thread.record is None:
            raise NotWritable(f"{name}: no thread has the floating-point registers yet")
        self.machine.filters.floating.gather()
        self.kernel.fpu.put(thread.record, name, value)

    def _set_saved(self, thread: DebugThread, name: str, value: int) -> None:
        """Change one of GENERAL where it is kept for a thread that does not run."""
        if name not in GENERAL:
            raise NotWritable(f"{name} of a thread that does not run is loaded when it goes on, or is the CPU's")
        if name == "eflags" and value & EFLAGS_VM:
            raise NotWritable("eflags: the machine has no virtual-8086 mode: leave bit 17, VM, clear")
        if name == "esp":
            raise NotWritable("esp of a thread that does not run says where its registers are kept")
        frame = self._frame(thread)
        if name in ("eip", "eflags"):
            index = offset_of(SwitchFrame, name) // 4
        else:
            index = FRAME_WORDS + offset_of(PushedRegisters, name) // 4
        self.machine.write_physical((frame.base + index) * 4, (value & 0xFFFF_FFFF).to_bytes(4, "little"))

    def _saved_esp(self, thread: DebugThread) -> int:
        assert thread.record is not None  # the CPU before the first switch is the running thread as long as it exists
        return self.kernel.threads.block(thread.record)["esp"]

    def _frame(self, thread: DebugThread) -> ControlBlock:
        if thread.record is None:
            raise LookupError("the CPU has switched to a thread since")
        try:
            return self.kernel.threads.overlay(thread.record, SwitchFrame, self._saved_esp(thread))
        except (LookupError, IndexError):
            raise LookupError(f"thread {thread.number} has no frame: its saved ESP is not on its stack") from None
