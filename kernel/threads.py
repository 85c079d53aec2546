"""Threads: control block, kernel stack, selector; their making and their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.kernel.abi import selectors
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import field_names, offset_of, size_of
from callgate.kernel.abi.memory import KERNEL_BASE, KERNEL_STACKS, PAGE_SIZE
from callgate.kernel.abi.thread import (
    KERNEL_STACK_SIZE,
    KERNEL_STACK_SPAN,
    TCB_SIZE,
    GateFrame,
    PushedRegisters,
    SwitchFrame,
    ThreadControlBlock,
    ThreadFlags,
)
from callgate.kernel.address_space import KERNEL_DATA
from callgate.kernel.control import ControlBlock
from callgate.kernel.errors import PolicyError
from callgate.kernel.fpu import initial_area
from callgate.kernel.records import PRIORITY_KERNEL, Process, Thread

if TYPE_CHECKING:
    from callgate.kernel.kernel import Kernel

USER_EFLAGS = 0x202  # IF and the bit that is always set


class Threads:
    """Creation and destruction of threads.

    The control block is the last thing in the pages of the kernel stack: what a switch touches lies in one
    page, which is one TLB entry.  The stack has its own range with an unmapped page below, so that an
    overflow is a double fault and not somebody else's data.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel

    def create(self, process: Process, name: str, priority: int, *, routine: str, argument: int = 0) -> Thread:
        """Make a blocked thread that starts in ring 0 at the kernel routine `routine` with EAX = argument.

        PolicyError, and nothing taken, if there is no memory or no selector for it; KILLED if the process is dying:
        nobody would end the new thread, and what waits for the last one would wait for ever.
        """
        kernel = self.kernel
        if process.dying:
            raise PolicyError(ErrorCode.KILLED, f"process {process.number} is dying")
        path_page = kernel.low.allocate()
        try:
            index, stack_top, tcb = self._take_stack()
        except PolicyError:
            kernel.low.release(path_page)
            raise
        selector = (selectors.GDT_FIRST_THREAD + index) * 8
        kernel.gdt.put_data(selector, stack_top, TCB_SIZE - 1)
        state = kernel.state
        thread = Thread(state.tasks.next_thread, selector, tcb // 4, stack_top, process, priority, name)
        state.tasks.next_thread += 1
        state.tasks.threads[selector] = thread
        process.threads.append(thread)

        block = self.block(thread)
        block["esp0"] = stack_top
        block["cr3"] = process.pointers
        block["ldt"] = process.ldt_index * 8
        block["selector"] = selector
        block["process"] = process.number
        block["thread"] = thread.number
        block["priority"] = priority
        block["path_page"] = KERNEL_BASE + path_page
        block["slot"] = 0xFFFF_FFFF
        self._push_switch_frame(thread, stack_top, kernel.address(routine), argument)
        return thread

    def create_kernel(self, name: str, routine: str, argument: int = 0) -> Thread:
        """Make a blocked thread of the kernel's own, which never leaves ring 0: as `create`."""
        process = self.kernel.state.tasks.processes[0]
        return self.create(process, name, PRIORITY_KERNEL, routine=routine, argument=argument)

    def create_user(
        self,
        process: Process,
        name: str,
        priority: int,
        entry: int,
        stack: int,
        *,
        eax: int = 0,
        edi: int = 0,
    ) -> Thread:
        """Make a blocked thread that starts in ring 3 at `entry` with ESP = `stack`, EAX and EDI given.

        PolicyError if the process must not have another one (`Shares.check_thread`).
        """
        self.kernel.shares.check_thread(process)
        thread = self.create(process, name, priority, routine="leave_gate")
        frame_address = thread.stack - size_of(GateFrame)
        frame = self.kernel.overlay_stack(thread, GateFrame, frame_address)
        # The stack may have been another thread's: every register is given a value.
        for register in field_names(GateFrame):
            frame[register] = 0
        for segment in ("ds", "es"):
            frame[segment] = selectors.SELECTOR_USER_DATA
        frame["eax"] = eax
        frame["edi"] = edi
        frame["eflags"] = USER_EFLAGS
        frame["eip"] = entry
        frame["cs"] = selectors.SELECTOR_USER_CODE
        frame["user_esp"] = stack
        frame["user_ss"] = selectors.SELECTOR_USER_DATA
        self._push_switch_frame(thread, frame_address, self.kernel.address("leave_gate"), 0)
        return thread

    def block(self, thread: Thread) -> ControlBlock:
        """Return the thread's control block."""
        return ControlBlock(self.kernel.words, ThreadControlBlock, thread.tcb)

    def kill(self, thread: Thread) -> None:
        """Have `thread` die at its next return to ring 3, or instead of its next or present wait."""
        if thread.killed:
            return
        thread.killed = True
        self.kernel.words[thread.tcb + TCB_FLAGS] |= ThreadFlags.KILLED
        self.kernel.scheduler.wake(thread)

    def finish(self, thread: Thread) -> None:
        """Take the current thread out of every table; its stack is still in use until the switch."""
        kernel = self.kernel
        kernel.scheduler.forget(thread)
        kernel.fpu.forget(thread)
        thread.process.threads.remove(thread)
        del kernel.state.tasks.threads[thread.selector]
        kernel.state.tasks.dead_threads.append(thread)

    def reap(self) -> None:
        """Free control blocks and stacks of threads that have been switched away from for good."""
        kernel = self.kernel
        current = kernel.scheduler.state.current
        for thread in [dead for dead in kernel.state.tasks.dead_threads if dead is not current]:
            kernel.state.tasks.dead_threads.remove(thread)
            index = thread.selector // 8 - selectors.GDT_FIRST_THREAD
            kernel.gdt.clear(thread.selector)
            kernel.low.release(self.block(thread)["path_page"] - KERNEL_BASE)
            kernel.state.tasks.free_thread_slots.append(index)

    def _take_stack(self) -> tuple[int, int, int]:
        """Return a free index, and what `_map_stack` says of it."""
        index = self._take_index()
        try:
            return index, *self._map_stack(index)
        except PolicyError:
            self.kernel.state.tasks.free_thread_slots.append(index)
            raise

    def _take_index(self) -> int:
        free = self.kernel.state.tasks.free_thread_slots
        if free:
            return free.pop()
        index = self.kernel.state.tasks.next_thread_slot
        if index >= selectors.MAX_THREADS:
            raise PolicyError(ErrorCode.NO_RESOURCES)
        self.kernel.state.tasks.next_thread_slot += 1
        return index

    def _map_stack(self, index: int) -> tuple[int, int]:
        """Return the top of stack `index` and the physical address of the cleared control block above it.

        The frames stay with the index for ever.
        """
        kernel = self.kernel
        bottom = KERNEL_STACKS + index * KERNEL_STACK_SPAN + (KERNEL_STACK_SPAN - KERNEL_STACK_SIZE)
        if index not in kernel.state.tasks.stack_frames:
            kernel.state.tasks.stack_frames[index] = self._new_stack(bottom)
        tcb = kernel.state.tasks.stack_frames[index][-1] + PAGE_SIZE - TCB_SIZE
        kernel.machine.ram.view(tcb, TCB_SIZE)[:] = NEW_BLOCK
        return bottom + KERNEL_STACK_SIZE - TCB_SIZE, tcb

    def _new_stack(self, bottom: int) -> list[int]:
        kernel = self.kernel
        # The table first: what follows needs no more than the frames.
        kernel.tables.kernel_entry_address(kernel.state.space, bottom)
        frames = kernel.low.allocate_several(KERNEL_STACK_SIZE // PAGE_SIZE)
        for number, frame in enumerate(frames):
            kernel.tables.map_kernel(kernel.state.space, bottom + number * PAGE_SIZE, frame, KERNEL_DATA)
        return frames

    def _push_switch_frame(self, thread: Thread, top: int, routine: int, argument: int) -> None:
        """Leave on the stack what `switch` pops for a thread that never ran (asm/kernel/switch.asm)."""
        address = top - size_of(SwitchFrame)
        frame = self.kernel.overlay_stack(thread, SwitchFrame, address)
        frame["eflags"] = USER_EFLAGS
        frame["eip"] = routine
        registers = frame.base + offset_of(SwitchFrame, "registers") // 4
        frame.words[registers : registers + len(NO_REGISTERS)] = NO_REGISTERS
        frame.words[registers + PUSHED_EAX] = argument
        self.block(thread)["esp"] = address


NEW_BLOCK = bytes(ThreadControlBlock(fpu=initial_area()))
TCB_FLAGS = offset_of(ThreadControlBlock, "flags") // 4
PUSHED_EAX = 7
NO_REGISTERS = memoryview(bytes(size_of(PushedRegisters))).cast("I")
