"""Exceptions: which are repaired, which end a process, which are panics, and what the report says.

A page fault on a user page that is given on demand (the stack, pages of files) is repaired and retried; any other
fault of ring 3 ends its process; a fault of ring 0 on user memory continues at the thread's `fault_resume`;
any other fault of ring 0 is a panic.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import Any

from callgate.kernel.abi import memory as layout
from callgate.kernel.abi.errors import ERROR_TEXT, ErrorCode
from callgate.kernel.abi.selectors import SELECTOR_USER_CODE
from callgate.kernel.abi.thread import ThreadControlBlock, TrapFrame
from callgate.kernel.common.record import record, replaced
from callgate.kernel.core.control_block import ControlBlock, word
from callgate.kernel.core.coroutines import routine
from callgate.kernel.core.errors import GivenUp, KernelPanic, PolicyError
from callgate.kernel.core.guest import Guest
from callgate.kernel.core.log import Log
from callgate.kernel.core.records import Process, Thread
from callgate.kernel.core.symbols import symbol_of
from callgate.kernel.files.reading import Reading
from callgate.kernel.servers.lifecycle import Servers
from callgate.kernel.tasks.fpu import FloatingPointUnit
from callgate.kernel.tasks.processes import FAULT_EXIT_CODE, Processes
from callgate.kernel.tasks.threads import Threads

PAGE_FAULT = 14
DEBUG = 1
TRAP_FLAG = 0x100
VM_FLAG = 0x2_0000
IOPL_FLAGS = 0x3000
GATES = ("system_gate", "ipc_gate", "server_gate")
PF_PRESENT = 1
PF_WRITE = 2
PF_INSTRUCTION = 16
FAULT_RESUME = word(ThreadControlBlock, "fault_resume")
FAULT_ERROR = word(ThreadControlBlock, "fault_error")

NAMES = {
    0: "#DE divide error",
    1: "#DB debug exception",
    2: "NMI",
    3: "#BP breakpoint",
    4: "#OF overflow",
    5: "#BR bound range exceeded",
    6: "#UD invalid opcode",
    7: "#NM device not available",
    8: "#DF double fault",
    10: "#TS invalid TSS",
    11: "#NP segment not present",
    12: "#SS stack-segment fault",
    13: "#GP general protection",
    14: "#PF page fault",
    16: "#MF x87 floating-point error",
    17: "#AC alignment check",
    19: "#XM SIMD floating-point exception",
}


@record(frozen=True)
class Fault:
    """The facts of an exception for its report."""

    vector: int
    error_code: int
    address: int | None
    eip: int
    registers: dict[str, int]
    reason: str = ""  # why the page of a file could not be provided
    error: ErrorCode = ErrorCode.OK
    symbol: str = ""  # the name and offset of EIP

    def describe(self) -> str:
        """Return one line: exception, access and address of a page fault or the error code, EIP."""
        name = NAMES.get(self.vector, f"vector {self.vector}")
        place = f"{self.eip:#010x} <{self.symbol}>" if self.symbol else f"{self.eip:#010x}"
        if self.address is None:
            return f"{name}, error code {self.error_code:#06x}, at {place}"
        access = "write" if self.error_code & PF_WRITE else "fetch" if self.error_code & PF_INSTRUCTION else "read"
        why = self.reason or ("protection" if self.error_code & PF_PRESENT else "page not present")
        return f"{name}: {access} of {self.address:#010x}, {why}, at {place}"


class Faults:
    """Answers to EXCEPTION."""

    def __init__(
        self,
        guest: Guest,
        threads: Threads,
        processes: Processes,
        servers: Servers,
        reading: Reading,
        fpu: FloatingPointUnit,
        log: Log,
    ) -> None:
        self.guest = guest
        self.threads = threads
        self.scheduler = threads.scheduler
        self.processes = processes
        self.servers = servers
        self.reading = reading
        self.writing = reading.mapping.writing
        self.fpu = fpu
        self.log = log
        self.gates = frozenset(guest.address(name) for name in GATES)

    def host_exception(self, address: int) -> Coroutine[Any, Any, None] | None:
        """EXCEPTION: repair the fault or end its process; the TrapFrame lies at linear `address`.  KernelPanic.

        The return from a trap does not test which thread is to run next (asm/kernel/entry/traps.asm).  For exceptions
        of ring 0 the gate tests at its end; for one of ring 3 it is done here, or threads that the exception has woken
        would wait for a thread that never makes a call.
        """
        thread = self.scheduler.current
        work = self._exception(address)
        if work is None and not self._choice_due(thread, address):
            return None
        return self._then_choose(thread, address, work)

    async def _then_choose(self, thread: Thread, address: int, work: Coroutine[Any, Any, None] | None) -> None:
        """Await the repair of a fault, then let a thread of higher priority run, and have the timer armed if needed."""
        if work is not None:
            await work
        if self._choice_due(thread, address):
            await routine("yield")

    def _choice_due(self, thread: Thread, address: int) -> bool:
        """Whether a thread that returns to ring 3 must yield first; a killed one need not, since it ends."""
        if thread.killed or not self.scheduler.choice_due:
            return False
        return bool(self.threads.overlay(thread, TrapFrame, address)["cs"] & 3)

    def _exception(self, address: int) -> Coroutine[Any, Any, None] | None:
        thread = self.scheduler.current
        frame = self.threads.overlay(thread, TrapFrame, address)
        vector, code = frame["vector"], frame["error_code"]
        cr2 = self.guest.machine.cpu.cr2 if vector == PAGE_FAULT else None
        virtual = leave_virtual_mode(frame)
        if thread.killed:
            self._killed_fault(thread, frame, Fault(vector, code, cr2, frame["eip"], registers_of(frame)))
            return None
        if cr2 is not None and not virtual and not code & PF_PRESENT and self.processes.provide(thread.process, cr2):
            return None
        fault = Fault(vector, code, cr2, frame["eip"], registers_of(frame))
        if virtual:
            self._user_fault(thread, frame, fault)
            return None
        found = self.reading.at(thread.process, cr2) if cr2 is not None and not code & PF_INSTRUCTION else None
        if found is not None and code & PF_WRITE and (code & PF_PRESENT or not found[0].writable):
            try:
                self.writing.allow(thread.process, *found, fault.address or 0)
            except PolicyError as error:
                fault = refused(fault, error.code)
            else:
                return None
        elif found is not None and not code & PF_PRESENT:
            return self._file_fault(thread, frame, fault)
        self._unrepaired(thread, frame, fault)
        return None

    async def _file_fault(self, thread: Thread, frame: ControlBlock, fault: Fault) -> None:
        """A file window was touched where nothing is mapped: fetch the data and retry, or report the error."""
        interrupted = False
        try:
            if await self.reading.fault(thread.process, fault.address or 0):
                return
        except PolicyError as error:
            fault, interrupted = refused(fault, error.code), isinstance(error, GivenUp)
        # Without a handler for the fault, the access is retried after an interrupt, which must not end the shell.
        watched = not frame["cs"] & 3 or self._handled(thread.process, fault)
        # A killed thread faults once more, which `_killed_fault` handles.
        if not thread.killed and (watched or not interrupted):
            self._unrepaired(thread, frame, fault)

    def _killed_fault(self, thread: Thread, frame: ControlBlock, fault: Fault) -> None:
        """A killed thread has faulted: give it no page, since it might have to wait for one.

        In ring 3 the return from the trap ends it (`trap_return`).  In ring 0 the instruction must not be retried: it
        would fault for ever, and never reach the test that ends the thread.
        """
        if not frame["cs"] & 3:
            self._unrepaired(thread, frame, fault)

    def _unrepaired(self, thread: Thread, frame: ControlBlock, fault: Fault) -> None:
        if frame["cs"] & 3:
            self._user_fault(thread, frame, fault)
        elif fault.vector == DEBUG:
            # A caller's TF survives a call gate.  The gate's first instruction pushes it with the flags that the
            # caller gets back; it is cleared only after that instruction, and the kernel runs without it.
            if fault.eip not in self.gates:
                frame["eflags"] &= ~TRAP_FLAG
        else:
            self._kernel_fault(thread.tcb, frame, fault)

    def _user_fault(self, thread: Thread, frame: ControlBlock, fault: Fault) -> None:
        process = thread.process
        if self._handled(process, fault):
            frame["eax"], frame["eip"] = fault.error, process.file_handler[0]
            return
        fault = replaced(fault, symbol=symbol_of(process.symbols, fault.eip))
        title = f"process {process.number} ({process.name}) ended by {fault.describe()}"
        self.log.urgent([title, *self._report(process, fault)], process)
        if self.fpu.touched(thread):
            self.log.urgent([f"  {line}" for line in self.fpu.of(thread).describe()], process)
        if process.endpoint >= 0:
            self.servers.kill(process, fault.describe())
        else:
            self.processes.kill(process, FAULT_EXIT_CODE, fault.describe())

    def _report(self, process: Process | None, fault: Fault) -> list[str]:
        """Return the registers and next instructions of a fault as lines, with the process's or kernel's symbols."""
        rows = [" ".join(f"{name}={value:08x}" for name, value in fault.registers.items())]
        name = partial(symbol_of, process.symbols) if process else self.guest.image.symbol_at
        rows.extend(self.guest.machine.disassemble(fault.eip, 3, name))
        return [f"  {row}" for row in rows]

    def _handled(self, process: Process, fault: Fault) -> bool:
        """Whether a file page cannot be provided, and the process has a FILE_HANDLER for code at the fault's EIP."""
        _, begin, end = process.file_handler
        return bool(fault.error) and begin <= fault.eip < end

    def _kernel_fault(self, tcb: int, frame: ControlBlock, fault: Fault) -> None:
        resume = self.guest.words[tcb + FAULT_RESUME]
        if resume and fault.address is not None and fault.address < layout.USER_END:
            frame["eip"] = resume
            self.guest.words[tcb + FAULT_ERROR] = fault.error or ErrorCode.BAD_ADDRESS
            return
        fault = replaced(fault, symbol=self.guest.image.symbol_at(fault.eip))
        report = "\n".join(self._report(None, fault))
        raise KernelPanic(f"ring 0: {fault.describe()}\n{report}")


def refused(fault: Fault, code: ErrorCode) -> Fault:
    """Return a fault in a file window with the reason why its page cannot be provided or written."""
    return replaced(fault, reason=f"{ERROR_TEXT[code]} (a page of a file)", error=code)


def leave_virtual_mode(frame: ControlBlock) -> bool:
    """Whether the trap came from virtual-8086 mode, which is ring 3 whatever CS says; if so, make the frame ring 3's.

    This should never happen: ring 3 cannot set VM, and ring 0 never does.
    """
    if not frame["eflags"] & VM_FLAG:
        return False
    frame["eflags"] &= ~(VM_FLAG | IOPL_FLAGS)
    frame["cs"] = SELECTOR_USER_CODE
    return True


def registers_of(frame: ControlBlock) -> dict[str, int]:
    """Return the general registers of a TrapFrame by name."""
    names = ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp", "eip", "eflags", "cs", "ds", "es", "fs", "gs")
    values = {name: frame[name] for name in names}
    if frame["cs"] & 3:
        values["esp"], values["ss"] = frame["user_esp"], frame["user_ss"]
    return values
