"""Thread control block and the kernel's own words."""

from ctypes import c_uint8, c_uint16, c_uint32, c_uint64
from enum import IntEnum, IntFlag
from typing import Final

from callgate.kernel.abi.calls import HOST_CALLS_LIMIT, SERVER_CALLS_LIMIT, SYSTEM_CALLS_LIMIT
from callgate.kernel.abi.fpu import FloatingPointArea
from callgate.kernel.abi.layout import Layout, offset_of, size_of

TCB_SIZE: Final = 1024
KERNEL_STACK_SIZE: Final = 8192
KERNEL_STACK_SPAN: Final = 16384  # distance of two kernel stacks; the page below a stack is unmapped


class ThreadState(IntEnum):
    """State of a thread, in its control block."""

    READY = 0
    RUNNING = 1
    BLOCKED = 2
    DEAD = 3


class ThreadFlags(IntFlag):
    """Flags of a thread."""

    KILLED = 1  # dies at the next return to ring 3 or instead of the next wait
    COROUTINE = 2  # a host call was answered by a coroutine that awaits `call_target`
    INTERRUPTED = 4  # its present or next wait for a server ends: Ctrl-C, or the end of the time set for it
    SIGNALLED = 8  # it was woken before it slept: its next wait returns at once


class ThreadControlBlock(Layout):
    """One per thread; FS in ring 0 is its selector.

    The fields up to `process` are what a switch touches.  `arg*` carry the arguments of host calls;
    `call_*` is the routine that a policy coroutine awaits, with the registers that it takes and returns.
    """

    _fields_ = [
        ("esp", c_uint32),
        ("esp0", c_uint32),
        ("cr3", c_uint32),
        ("ldt", c_uint32),
        ("selector", c_uint32),
        ("flags", c_uint32),
        ("state", c_uint16),
        ("wait_reason", c_uint16),
        ("process", c_uint32),
        ("thread", c_uint32),
        ("priority", c_uint32),
        ("fault_resume", c_uint32),
        ("endpoint", c_uint32),
        ("server_index", c_uint32),
        ("slot", c_uint32),
        ("hosted", c_uint32),
        ("slot_error", c_uint32),
        ("wait_again", c_uint32),
        ("call_target", c_uint32),
        ("call_eax", c_uint32),
        ("call_ebx", c_uint32),
        ("call_ecx", c_uint32),
        ("call_edx", c_uint32),
        ("call_esi", c_uint32),
        ("call_edi", c_uint32),
        ("call_eflags", c_uint32),
        ("frame", c_uint32),
        ("request_operation", c_uint32),
        ("request_endpoint", c_uint32),
        ("request_data", c_uint32),
        ("request_bytes", c_uint32),
        ("request_token", c_uint32),
        ("path_page", c_uint32),
        ("fault_error", c_uint32),
        ("reserved", c_uint8 * (TCB_SIZE - size_of(FloatingPointArea) - 33 * 4)),
        ("fpu", FloatingPointArea),
    ]
    _notes_ = {
        "esp": "saved kernel stack pointer while the thread does not run",
        "esp0": "top of the kernel stack",
        "cr3": "page-directory-pointer table of the process",
        "ldt": "selector of the LDT of servers; 0, no LDT, in threads of other processes",
        "selector": "selector of this block",
        "flags": "ThreadFlags, changed by locked instructions",
        "state": "ThreadState; with `wait_reason` one word, so that both are written at once",
        "process": "process id",
        "thread": "thread id",
        "priority": "0 (idle) to 31",
        "wait_reason": "WaitReason while blocked",
        "fault_resume": "where a fault on user memory in ring 0 goes on; 0 = it is a kernel fault",
        "endpoint": "server threads: selector of the endpoint they serve",
        "server_index": "server threads: bit of this thread in Endpoint.idle",
        "slot": "slot handed over by SLOT_WAIT",
        "hosted": "server threads: linear address of the HostedBlock in the server",
        "slot_error": "why there is no slot: ErrorCode of FIRST_USE, SLOT_WAIT, ipc_request; 0 = take it, or wait",
        "wait_again": "answer of SYSTEM: WaitReason to block for before the call is made again; 0 = it is done",
        "call_target": "routine that a coroutine awaits; 0 = none",
        "call_eflags": "flags that the routine has left; while call_target is last_routine, the routine to end with",
        "frame": "kernel linear address of the registers pushed at the gate (GateFrame)",
        "request_operation": "ipc_request: Operation",
        "request_endpoint": "ipc_request: selector of the endpoint",
        "request_data": "ipc_request: kernel linear address of request data",
        "request_bytes": "ipc_request: bytes of request data, 0 to 4048",
        "request_token": "ipc_post: what Endpoint.tokens is to say of the slot, not 0",
        "path_page": "kernel linear address of the thread's page for paths",
        "fault_error": "ErrorCode of the fault that went on at fault_resume",
        "fpu": "x87, MMX and SSE registers, unless KernelWords.fpu_owner says that the CPU holds them",
    }


assert size_of(ThreadControlBlock) == TCB_SIZE
assert offset_of(ThreadControlBlock, "fpu") % 16 == 0, "FXSAVE wants 16 bytes of alignment"


class GateFrame(Layout):
    """What the system and server gates push: the caller's registers, then the CPU's own frame."""

    _fields_ = [
        ("gs", c_uint32),
        ("fs", c_uint32),
        ("es", c_uint32),
        ("ds", c_uint32),
        ("edi", c_uint32),
        ("esi", c_uint32),
        ("ebp", c_uint32),
        ("esp", c_uint32),
        ("ebx", c_uint32),
        ("edx", c_uint32),
        ("ecx", c_uint32),
        ("eax", c_uint32),
        ("eflags", c_uint32),
        ("eip", c_uint32),
        ("cs", c_uint32),
        ("user_esp", c_uint32),
        ("user_ss", c_uint32),
    ]
    _notes_ = {"esp": "as PUSHAD pushed it; ignored", "eflags": "pushed by the stub: gates do not push it"}


class PushedRegisters(Layout):
    """What PUSHAD leaves, lowest address first."""

    _fields_ = [
        ("edi", c_uint32),
        ("esi", c_uint32),
        ("ebp", c_uint32),
        ("esp", c_uint32),
        ("ebx", c_uint32),
        ("edx", c_uint32),
        ("ecx", c_uint32),
        ("eax", c_uint32),
    ]


PUSHAD_SIZE: Final = size_of(PushedRegisters)


class SwitchFrame(Layout):
    """What the kernel stack of a thread that does not run holds, lowest address first."""

    _fields_ = [
        ("registers", PushedRegisters),
        ("eflags", c_uint32),
        ("eip", c_uint32),
    ]


class TrapFrame(Layout):
    """What the exception and interrupt stubs push, then the CPU's own frame."""

    _fields_ = [
        ("gs", c_uint32),
        ("fs", c_uint32),
        ("es", c_uint32),
        ("ds", c_uint32),
        ("edi", c_uint32),
        ("esi", c_uint32),
        ("ebp", c_uint32),
        ("esp", c_uint32),
        ("ebx", c_uint32),
        ("edx", c_uint32),
        ("ecx", c_uint32),
        ("eax", c_uint32),
        ("vector", c_uint32),
        ("error_code", c_uint32),
        ("eip", c_uint32),
        ("cs", c_uint32),
        ("eflags", c_uint32),
        ("user_esp", c_uint32),
        ("user_ss", c_uint32),
    ]
    _notes_ = {"user_esp": "only when the trap came from ring 3"}


TRAP_CODES_SIZE: Final = 8  # vector and error code


class KernelWords(Layout):
    """Words that Python and machine code share about the one CPU (symbol `kernel_words`)."""

    _fields_ = [
        ("current", c_uint32),
        ("next", c_uint32),
        ("preempt", c_uint32),
        ("arm_timer", c_uint16),
        ("fpu_live", c_uint8),
        ("ready", c_uint8),
        ("endpoints", c_uint32),
        ("ahci_base", c_uint32),
        ("ide_base", c_uint32),
        ("window_table", c_uint32),
        ("ticks", c_uint32),
        ("sector_lists", c_uint32),
        ("console_break", c_uint32),
        ("fpu_owner", c_uint32),
    ]
    _notes_ = {
        "current": "selector of the running thread",
        "next": "selector of the thread to switch to, answered by SCHEDULE and its kin; after the switch, `current`",
        "preempt": "non-zero: the end of an interrupt asks for the next thread",
        "arm_timer": "non-zero: program the timer to interrupt after this many PIT ticks (1 to 65535)",
        "fpu_live": "non-zero: CR0.TS is clear and `fpu_owner` runs; one word with `arm_timer`, for `switch`",
        "ready": "bit 0: a thread is ready; bit 7: policy wants to be asked (--no-fast-path); a word with `arm_timer`",
        "endpoints": "mask: endpoint block exists",
        "ahci_base": "linear address of the AHCI registers, 0 = none",
        "ide_base": "command block port of the first IDE channel, 0 = none",
        "window_table": "linear address of the page-table entry of KERNEL_WINDOW",
        "ticks": "timer interrupts taken",
        "sector_lists": "linear address of the first SectorList that waits for the disk, 0 = none",
        "console_break": "process for which the console has sent a break that it has not taken, 0 = none",
        "fpu_owner": "selector of the thread whose x87, MMX and SSE registers the CPU holds, 0 = none",
    }


assert offset_of(KernelWords, "fpu_live") == offset_of(KernelWords, "arm_timer") + 2
assert offset_of(KernelWords, "ready") == offset_of(KernelWords, "arm_timer") + 3
assert offset_of(KernelWords, "arm_timer") % 4 == 0


class TaskState(Layout):
    """The 32-bit TSS (Intel SDM vol. 3, 8.2.1), as far as the hardware task switch is not used."""

    _fields_ = [
        ("link", c_uint32),
        ("esp0", c_uint32),
        ("ss0", c_uint32),
        ("unused", c_uint32 * 22),
        ("trap", c_uint16),
        ("io_map", c_uint16),
    ]


assert size_of(TaskState) == 104


class HostedBlock(Layout):
    """In the server's own memory, one per thread: what a hosted handler and its stub exchange.

    The stub loads a request out of its page into the block, and saves the reply's registers out of the block into the
    page.  In between they are those of the gate calls that the handler makes.
    """

    _fields_ = [
        ("message", c_uint32),
        ("gate", c_uint32),
        ("eax", c_uint32),
        ("ebx", c_uint32),
        ("ecx", c_uint32),
        ("edx", c_uint32),
        ("esi", c_uint32),
        ("edi", c_uint32),
        ("eflags", c_uint32),
        ("operation", c_uint32),
        ("flags", c_uint32),
        ("count", c_uint32),
        ("reply", c_uint32),
        ("reserved", c_uint32 * 3),
    ]
    _notes_ = {
        "message": "linear address of the message being served; 0 at start",
        "gate": "HostedGate: what the stub does next",
        "eax": "the request's registers; those of the call that the stub makes, and its results; the reply's",
        "operation": "the request's Message.operation",
        "flags": "the request's Message.flags",
        "count": "the request's Message.count",
        "reply": "DONE: the ServerCall by which the reply is sent",
    }


class HostedGate(IntEnum):
    """What a hosted handler's stub does next (`HostedBlock.gate`)."""

    DONE = 0  # save the registers into the page, and send the reply
    SYSTEM = 1  # call the system gate with the block's registers, then step again
    SERVER = 2  # call the server gate so


class LedgerInformation(Layout):
    """Counters that SystemCall.LEDGER copies out; 64 bits each."""

    _fields_ = [
        ("guest_instructions", c_uint64),
        ("ring0_instructions", c_uint64),
        ("ring3_instructions", c_uint64),
        ("host_calls", c_uint64),
        ("cr3_loads", c_uint64),
        ("pte_writes", c_uint64),
        ("tlb_invalidations", c_uint64),
        ("ring_changes", c_uint64),
        ("exceptions", c_uint64),
        ("interrupts", c_uint64),
        ("dma_bytes", c_uint64),
        ("cpu_file_bytes", c_uint64),
        ("blocking_waits", c_uint64),
        ("requests", c_uint64),
        ("fast_requests", c_uint64),
        ("fast_replies", c_uint64),
        ("batched_requests", c_uint64),
        ("fast_handoffs", c_uint64),
        ("metadata_bytes", c_uint64),
        ("program_bytes", c_uint64),
        ("server_bytes", c_uint64),
        ("inflated_bytes", c_uint64),
        ("host_call", c_uint64 * HOST_CALLS_LIMIT),
        ("system_call", c_uint64 * SYSTEM_CALLS_LIMIT),
        ("server_call", c_uint64 * SERVER_CALLS_LIMIT),
    ]
    _notes_ = {
        "fast_requests": "of `requests`, those that took the direct switch",
        "fast_replies": "replies that took it",
        "batched_requests": "requests that came in batches, each of which is one of `requests`",
        "host_call": "host calls by number - HOST_CALL_FIRST; SYSTEM and SERVER: only those whose number is none",
        "system_call": "SYSTEM by SystemCall; `host_calls` is the sum of all three tables",
        "server_call": "SERVER by ServerCall - SERVER_CALL_FIRST",
    }


class ProcessInformation(Layout):
    """One row of `ps`, for SystemCall.PROCESS_INFORMATION (index counts threads)."""

    _fields_ = [
        ("process", c_uint32),
        ("thread", c_uint32),
        ("state", c_uint32),
        ("wait_reason", c_uint32),
        ("priority", c_uint32),
        ("selector", c_uint32),
        ("instructions", c_uint64),
        ("pages", c_uint32),
        ("name", c_uint8 * 28),
    ]
    _notes_ = {
        "instructions": "retired by this thread",
        "pages": "of its process, private",
        "name": "ASCIIZ",
    }


class IpcInformation(Layout):
    """One server as `ipc` shows it, for SystemCall.IPC_INFORMATION."""

    _fields_ = [
        ("number", c_uint32),
        ("unused", c_uint32),
        ("free", c_uint32),
        ("head", c_uint32),
        ("tail", c_uint32),
        ("idle", c_uint32),
        ("slot_waiters", c_uint32),
        ("flags", c_uint32),
        ("requests", c_uint32),
        ("replies", c_uint32),
        ("blocking_waits", c_uint32),
        ("full_waits", c_uint32),
        ("bad_replies", c_uint32),
        ("aborted", c_uint32),
        ("threads", c_uint32),
        ("state", c_uint8 * 32),
        ("fast", c_uint32),
        ("name", c_uint8 * 32),
    ]
