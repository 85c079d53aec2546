"""Threads: control block, kernel stack, selector; their making and their end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from callgate.kernel.abi import selectors
from callgate.kernel.abi.errors import ErrorCode
from callgate.kernel.abi.layout import Layout, field_names, offset_of, size_of
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
    ThreadState,
)
from callgate.kernel.core.control_block import ControlBlock
from callgate.kernel.core.errors import GivenUp, KernelPanic, PolicyError, Shortage
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.records import PRIORITY_KERNEL, Process, Tasks, Thread
from callgate.kernel.machine.observation.turns import SERVER
from callgate.kernel.memory.descriptor_tables import GlobalTable
from callgate.kernel.memory.page_tables import KERNEL_DATA
from callgate.kernel.memory.physical_memory import PhysicalMemory
from callgate.kernel.tasks.fpu import FloatingPointUnit, initial_area
from callgate.kernel.tasks.scheduler import Scheduler

USER_EFLAGS = 0x202  # IF and the bit that is always set


class Threads:
    """Creation and destruction of threads.

    The control block is the last thing in the pages of the kernel stack: a switch touches only one page, which is one
    TLB entry.  The stack has its own range with an unmapped page below, so that an overflow is a double fault and does
    not reach other data.
    """

    def __init__(
        self,
        guest: Guest,
        memory: PhysicalMemory,
        gdt: GlobalTable,
        scheduler: Scheduler,
        fpu: FloatingPointUnit,
        tasks: Tasks,
        check_room: Callable[[Process], None],
    ) -> None:
        """`check_room` raises PolicyError if a process must not have one more thread of ring 3."""
        self.guest = guest
        self.memory = memory
        self.gdt = gdt
        self.scheduler = scheduler
        self.fpu = fpu
        self.tasks = tasks
        self.check_room = check_room
        self.turns = guest.machine.ledger.turns
        self.jobs: dict[int, Job] = {}
        self.observer: Callable[[Thread], None] | None = None  # called with every new thread
        self.end_observer: Callable[[Thread], None] | None = None  # called with every thread that has ended

    def create(self, process: Process, name: str, priority: int, *, routine: str, argument: int = 0) -> Thread:
        """Make a blocked thread that starts in ring 0 at the kernel routine `routine` with EAX = argument.

        PolicyError, and nothing taken, if there is no memory or no selector for it; KILLED if the process is dying:
        nothing would end the new thread, and a wait for the last one would never end.
        """
        if process.dying:
            raise GivenUp(ErrorCode.KILLED, f"process {process.number} is dying")
        path_page = self.memory.low.allocate()
        try:
            index, stack_top, tcb = self._take_stack()
        except PolicyError:
            self.memory.low.release(path_page)
            raise
        selector = (selectors.GDT_FIRST_THREAD + index) * 8
        self.gdt.put_data(selector, stack_top, TCB_SIZE - 1)
        thread = Thread(self.tasks.next_thread, selector, tcb // 4, stack_top, process, priority, name)
        self.tasks.next_thread += 1
        self.tasks.threads[selector] = thread
        process.threads.append(thread)

        block = self.block(thread)
        block["esp0"] = stack_top
        block["cr3"] = process.pointers
        block["ldt"] = selectors.SELECTOR_SERVER_TABLE if process.endpoint >= 0 else 0
        block["selector"] = selector
        block["flags"] = 0
        block["process"] = process.number
        block["thread"] = thread.number
        block["priority"] = priority
        block["path_page"] = KERNEL_BASE + path_page
        block["slot"] = 0xFFFF_FFFF
        self._push_switch_frame(thread, stack_top, self.guest.address(routine), argument)
        self.turns.begin(selector)
        if process.endpoint >= 0:
            self.turns.account(selector, SERVER)
        return thread

    def create_kernel(self, name: str, routine: str, argument: int = 0) -> Thread:
        """Make a blocked thread of the kernel's own, which never leaves ring 0: as `create`."""
        kernel = self.tasks.processes[0]
        return self._made(self.create(kernel, name, PRIORITY_KERNEL, routine=routine, argument=argument))

    def _made(self, thread: Thread) -> Thread:
        if self.observer is not None:
            self.observer(thread)
        return thread

    def start_job(self, name: str, job: Job) -> Thread:
        """Make a blocked thread of the kernel's own that runs `job` and ends; PolicyError as `create`."""
        number = max(self.jobs, default=FIRST_JOB) + 1
        thread = self.create_kernel(name, "policy_thread", number)
        self.jobs[number] = job
        return thread

    async def host_job(self, number: int) -> None:
        """JOB: run the job of a kernel thread."""
        await self.jobs.pop(number)()

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

        PolicyError if the process must not have another one.
        """
        self.check_room(process)
        thread = self.create(process, name, priority, routine="leave_gate")
        frame_address = thread.stack - size_of(GateFrame)
        frame = self.overlay(thread, GateFrame, frame_address)
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
        self._push_switch_frame(thread, frame_address, self.guest.address("leave_gate"), 0)
        return self._made(thread)

    def block(self, thread: Thread) -> ControlBlock:
        """Return the thread's control block."""
        return ControlBlock(self.guest.words, ThreadControlBlock, thread.tcb)

    def kill(self, thread: Thread) -> None:
        """Have `thread` die at its next return to ring 3, or instead of its next or present wait."""
        if thread.killed:
            return
        thread.killed = True
        self.guest.words[thread.tcb + TCB_FLAGS] |= ThreadFlags.KILLED
        self.scheduler.wake(thread)

    def clear_killed(self, thread: Thread) -> None:
        """A killed thread has come to its end."""
        self.guest.words[thread.tcb + TCB_FLAGS] &= ~ThreadFlags.KILLED

    def check_wait(self, thread: Thread) -> None:
        """Raise KILLED or INTERRUPTED if `thread` must not wait (any longer) for a server; an interrupt counts once."""
        if thread.killed:
            raise GivenUp(ErrorCode.KILLED)
        if self.guest.words[thread.tcb + TCB_FLAGS] & ThreadFlags.INTERRUPTED:
            self.clear_interrupt(thread)
            raise GivenUp(ErrorCode.INTERRUPTED)

    def interrupt(self, thread: Thread) -> None:
        """Have a thread's wait for a server end, the present one or the next."""
        self.guest.words[thread.tcb + TCB_FLAGS] |= ThreadFlags.INTERRUPTED
        self.scheduler.wake(thread)

    def clear_interrupt(self, thread: Thread) -> None:
        """An interrupt has been reported."""
        self.guest.words[thread.tcb + TCB_FLAGS] &= ~ThreadFlags.INTERRUPTED & 0xFFFF_FFFF

    def overlay(self, thread: Thread, layout: type[Layout], linear: int) -> ControlBlock:
        """Return a structure on a thread's kernel stack; KernelPanic if it lies elsewhere: ESP of ring 0 is wrong."""
        frames = self.tasks.stack_frames[thread.selector // 8 - selectors.GDT_FIRST_THREAD]
        page, offset = divmod(linear - (thread.stack + TCB_SIZE - KERNEL_STACK_SIZE), PAGE_SIZE)
        if not 0 <= page < len(frames):
            raise KernelPanic(f"ring 0: a frame at {linear:#010x} is not on the stack of thread {thread.selector // 8}")
        return ControlBlock(self.guest.words, layout, (frames[page] + offset) // 4)

    def retired(self, thread: Thread) -> int:
        """Return the instructions that a thread has retired up to now, or before it ended."""
        if self.tasks.threads.get(thread.selector) is thread or thread in self.tasks.dead_threads:
            return self.turns.retired(thread.selector)
        return thread.instructions

    def finish(self, thread: Thread) -> None:
        """Take the current thread out of every table; its stack is still in use until the switch."""
        self.scheduler.forget(thread)
        self.fpu.forget(thread)
        thread.process.threads.remove(thread)
        del self.tasks.threads[thread.selector]
        self.tasks.dead_threads.append(thread)
        if self.end_observer is not None:
            self.end_observer(thread)

    def reap(self) -> None:
        """Free control blocks and stacks of threads that have been switched away from for good."""
        current = self.scheduler.running
        for thread in [dead for dead in self.tasks.dead_threads if dead is not current]:
            self.tasks.dead_threads.remove(thread)
            thread.instructions = self.turns.retired(thread.selector)
            index = thread.selector // 8 - selectors.GDT_FIRST_THREAD
            self.gdt.clear(thread.selector)
            self.memory.low.release(self.block(thread)["path_page"] - KERNEL_BASE)
            self.tasks.free_thread_slots.append(index)

    def _take_stack(self) -> tuple[int, int, int]:
        """Return a free index, and the result of `_map_stack` for it."""
        index = self._take_index()
        try:
            return index, *self._map_stack(index)
        except PolicyError:
            self.tasks.free_thread_slots.append(index)
            raise

    def _take_index(self) -> int:
        free = self.tasks.free_thread_slots
        if free:
            return free.pop()
        index = self.tasks.next_thread_slot
        if index >= selectors.MAX_THREADS:
            raise Shortage(ErrorCode.NO_RESOURCES)
        self.tasks.next_thread_slot += 1
        return index

    def _map_stack(self, index: int) -> tuple[int, int]:
        """Return the top of stack `index` and the physical address of the cleared control block above it.

        The frames stay with the index for ever.
        """
        bottom = KERNEL_STACKS + index * KERNEL_STACK_SPAN + (KERNEL_STACK_SPAN - KERNEL_STACK_SIZE)
        if index not in self.tasks.stack_frames:
            self.tasks.stack_frames[index] = self._new_stack(bottom)
        tcb = self.tasks.stack_frames[index][-1] + PAGE_SIZE - TCB_SIZE
        self.guest.ram.view(tcb, TCB_SIZE)[:] = NEW_BLOCK
        return bottom + KERNEL_STACK_SIZE - TCB_SIZE, tcb

    def _new_stack(self, bottom: int) -> tuple[int, ...]:
        # The table first: the rest needs only the frames.
        self.memory.tables.kernel_entry_address(self.memory.space, bottom)
        frames = self.memory.low.allocate_several(KERNEL_STACK_SIZE // PAGE_SIZE)
        for number, frame in enumerate(frames):
            self.memory.tables.map_kernel(self.memory.space, bottom + number * PAGE_SIZE, frame, KERNEL_DATA)
        return tuple(frames)

    def _push_switch_frame(self, thread: Thread, top: int, routine: int, argument: int) -> None:
        """Leave on the stack the frame that `switch` pops for a new thread (asm/kernel/threads/switch.asm)."""
        address = top - size_of(SwitchFrame)
        frame = self.overlay(thread, SwitchFrame, address)
        frame["eflags"] = USER_EFLAGS
        frame["eip"] = routine
        registers = frame.base + offset_of(SwitchFrame, "registers") // 4
        frame.words[registers : registers + len(NO_REGISTERS)] = NO_REGISTERS
        frame.words[registers + PUSHED_EAX] = argument
        self.block(thread)["esp"] = address


FIRST_JOB = 1  # of the system's first thread, which mounts the volumes and starts the shell
Job = Callable[[], Coroutine[Any, Any, None]]
NEW_BLOCK = bytes(ThreadControlBlock(state=ThreadState.BLOCKED, fpu=initial_area()))
TCB_FLAGS = offset_of(ThreadControlBlock, "flags") // 4
PUSHED_EAX = 7
NO_REGISTERS = memoryview(bytes(size_of(PushedRegisters))).cast("I")
