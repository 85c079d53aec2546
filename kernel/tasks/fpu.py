"""The owner of the x87, MMX and SSE registers: policy's view of asm/kernel/threads/fpu.asm, which does the work."""

from __future__ import annotations

from callgate.kernel.abi.fpu import FPU_CONTROL_INITIAL, MXCSR_INITIAL, FloatingPointArea
from callgate.kernel.abi.layout import offset_of, size_of
from callgate.kernel.abi.memory import PAGE_SIZE
from callgate.kernel.abi.selectors import GDT_FIRST_THREAD
from callgate.kernel.abi.thread import TCB_SIZE, KernelWords, ThreadControlBlock
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import Tasks, Thread
from callgate.kernel.machine.cpu.fpu import FloatingPoint, changed, from_area, to_area

CR0_TS = 8
AREA = offset_of(ThreadControlBlock, "fpu")
LIVE_WORD = (offset_of(KernelWords, "arm_timer")) // 4  # fpu_live is its third byte
LIVE_SHIFT = 16


def initial_area() -> FloatingPointArea:
    """Return the registers of a thread that begins: as FNINIT and a reset leave them, everything else zero."""
    return FloatingPointArea(control=FPU_CONTROL_INITIAL, mxcsr=MXCSR_INITIAL)


CLEAN = bytes(initial_area())


class FloatingPointUnit:
    """Reads and changes the registers of every thread."""

    def __init__(self, guest: Guest, tasks: Tasks) -> None:
        self.guest = guest
        self.tasks = tasks

    @property
    def live(self) -> bool:
        """Whether the running thread may use the registers without a trap."""
        words = self.guest.kernel_words
        return bool(words.words[words.base + LIVE_WORD] >> LIVE_SHIFT & 0xFF)

    def of(self, thread: Thread) -> FloatingPoint:
        """Return a thread's registers, wherever they are."""
        if self.guest.kernel_words["fpu_owner"] == thread.selector:
            return self.guest.machine.fpu
        return from_area(bytes(self._area(thread)))

    def put(self, thread: Thread, name: str, value: int) -> None:
        """Change one of a thread's registers by hand, wherever it is; ValueError, in words, if that cannot be."""
        if self._in_transit():
            raise ValueError(f"{name}: the registers are being handed to another thread: go on to the end of trap_7")
        if self.guest.kernel_words["fpu_owner"] == thread.selector:
            self.guest.machine.set_register(name, value)
            return
        known = self.tasks.threads.get(thread.selector)
        if known is None or known.number != thread.number:
            raise ValueError(f"{name}: thread {thread.number} has ended")
        area = bytes(self._area(thread))
        self.guest.machine.write_physical(thread.tcb * 4 + AREA, to_area(changed(from_area(area), name, value), area))

    def _in_transit(self) -> bool:
        return self.guest.address("trap_7") <= self.guest.machine.cpu.eip < self.guest.address("fpu_end")

    def touched(self, thread: Thread) -> bool:
        """Whether a thread's registers are other than those of a new one."""
        return self.of(thread) != from_area(CLEAN)

    def forget(self, thread: Thread) -> None:
        """A thread has ended, and given up the registers (fpu_drop): clear its save area."""
        assert self.guest.kernel_words["fpu_owner"] != thread.selector, "a dead thread owns the FPU"
        self._area(thread)[:] = CLEAN

    def check(self) -> list[str]:
        """Return contradictions of fpu.asm's rules as text; none while its own code runs."""
        guest = self.guest
        if self._in_transit():
            return []
        owner = guest.kernel_words["fpu_owner"]
        found = []
        if owner and owner not in self.tasks.threads:
            found.append(f"the FPU belongs to {owner:#x}, which is not a thread")
        if self.live == bool(guest.machine.cpu.cr0 & CR0_TS):
            found.append("CR0.TS and fpu_live do not agree")
        if self.live and owner != guest.kernel_words["current"]:
            found.append("the FPU can be used by a thread that does not own it")
        if not owner and any((*guest.machine.fpu.raw, *guest.machine.fpu.xmm)):
            found.append("the FPU belongs to no thread and holds values")
        return found + [f"stack {index} keeps registers of a dead thread" for index in self._unclean()]

    def _unclean(self) -> list[int]:
        """Return the stacks that no thread has and whose save area is not clean."""
        taken = {selector // 8 - GDT_FIRST_THREAD for selector in self.tasks.threads}
        blocks = {index: frames[-1] + PAGE_SIZE - TCB_SIZE for index, frames in self.tasks.stack_frames.items()}
        return [index for index, block in blocks.items() if index not in taken and self._view(block) != CLEAN]

    def _area(self, thread: Thread) -> memoryview:
        return self._view(thread.tcb * 4)

    def _view(self, block: int) -> memoryview:
        """Return the save area of the control block at physical `block`."""
        return self.guest.machine.ram.view(block + AREA, size_of(FloatingPointArea))
