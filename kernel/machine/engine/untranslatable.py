"""Instructions at which the engine's translator gives up, and with it the host's process: they become #UD.

LOCK before BT, BTS, BTR or BTC of a register makes the translator load through an address that it has never computed;
it calls `abort`.  A CPU raises #UD.  Translation is not part of an instruction, so there is nothing to undo, and the
engine itself leaves its translator by a jump to the run loop where code cannot be fetched. So while an engine runs,
SIGABRT is answered by host code that raises #UD in it, which takes that jump; `Traps` then finds out by single steps at
which instruction of the block it was.

Where host code cannot be made, or the engine does not export the symbols needed, SIGABRT ends the process as usual.
Other code of the process may set a handler of its own (`faulthandler` does, and takes back all set after it when it is
disabled), so each run but single steps looks whether ours is still there.  An abort of other code goes on to the
handler found before.
"""

from __future__ import annotations

import ctypes
import mmap
import struct
import threading
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

from callgate.kernel.machine.engine.counter import native_available
from unicorn import UC_ARCH_X86, UC_MODE_32, Uc
from unicorn import x86_const as x86
from unicorn.unicorn_py3.unicorn import uclib

SIGABRT: Final = 6
SA_NODEFER: Final = 0x4000_0000  # the jump does not come back to unblock the signal
THREADS: Final = 32  # that may run machines at the same time; one more runs without this protection
FIRST_CPU: Final = -1
SEARCHED: Final = 1 << 16  # bytes of the engine's CPU before its registers
PIECE: Final = 1 << 11  # that are looked at in one step
MARKS: Final = (0x1357_9BDF, 0x0246_8ACE)  # EAX and ECX, which lie first


class Slot(ctypes.Structure):
    """What a thread of the host runs: `engine` is the engine's CPU registers (`CPUX86State`), 0 while it runs none."""

    _fields_ = [("thread", ctypes.c_uint64), ("engine", ctypes.c_uint64), ("taken", ctypes.c_uint64)]


class RescueState(ctypes.Structure):
    """What the host code reads and writes; `taken` of a slot counts how often an engine was kept from its end.

    `passed` is 1 while the handler before ours runs.  If that one sends the signal again, ours does nothing: they may
    have been set in turns, and would call each other for ever.
    """

    _fields_ = [
        ("raise_exception", ctypes.c_void_p),
        ("previous", ctypes.c_void_p),
        ("passed", ctypes.c_uint64),
        ("slots", Slot * THREADS),
    ]


class SignalAction(ctypes.Structure):
    """`struct sigaction`."""

    _fields_ = [
        ("handler", ctypes.c_void_p),
        ("mask", ctypes.c_uint8 * 128),
        ("flags", ctypes.c_int),
        ("restorer", ctypes.c_void_p),
    ]


# handler(edi=signal, rsi=siginfo_t, rdx=ucontext_t).  FS:0 is what Python calls the identity of a thread.
SIGNAL_TEMPLATE: Final = """
    movabs r8, {state}
    xor r9d, r9d
    mov r9, fs:[r9]
    lea rax, [r8+{slots}]
    mov ecx, {threads}
slot:
    cmp [rax], r9
    je found
    add rax, {slot_size}
    dec ecx
    jnz slot
previous:
    mov rax, [r8+{previous}]
    cmp rax, 1
    jbe done
    cmp qword ptr [r8+{passed}], 0
    jne done
    mov qword ptr [r8+{passed}], 1
    push r8
    call rax
    pop r8
    mov qword ptr [r8+{passed}], 0
done:
    ret
found:
    mov r10, [rax+{engine}]
    test r10, r10
    jz previous
    inc qword ptr [rax+{taken}]
    mov rdi, r10
    mov esi, 6
    jmp [r8+{raise_exception}]
"""
# What GNU as and Keystone make of the source above after its first instruction; a test assembles it again.
SIGNAL_CODE: Final = bytes.fromhex(
    "4531c9644d8b09498d4018b9200000004c390874304883c018ffc975f3498b40084883f801761d4983781000751649c7"
    "4010010000004150ffd0415849c7401000000000c34c8b50084d85d274cf48ff40104c89d7be0600000041ff20"
)


def source_of(state: int) -> str:
    """Return the assembly source of the handler for a state at an address."""
    offsets = {name: getattr(RescueState, name).offset for name, *_ in RescueState._fields_}
    offsets |= {name: getattr(Slot, name).offset for name in ("engine", "taken")}
    return SIGNAL_TEMPLATE.format(state=state, threads=THREADS, slot_size=ctypes.sizeof(Slot), **offsets)


class Rescue:
    """The handler of this process's SIGABRT, and which thread runs which engine."""

    def __init__(self) -> None:
        """Install the handler; OSError or AttributeError where that is impossible."""
        self.sigaction = ctypes.CDLL(None, use_errno=True).sigaction
        self.sigaction.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self.state = RescueState()
        function = ctypes.cast(uclib.raise_exception_x86_64, ctypes.c_void_p)
        uclib.qemu_get_cpu_x86_64.restype = ctypes.c_void_p
        self.offset = self._registers()
        self.state.raise_exception = function.value
        self.page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        code = b"\x49\xb8" + struct.pack("<Q", ctypes.addressof(self.state)) + SIGNAL_CODE
        self.page[: len(code)] = code
        self.handler = ctypes.addressof(ctypes.c_char.from_buffer(self.page))
        self.action = SignalAction(handler=self.handler, flags=SA_NODEFER)
        self.present = SignalAction()
        self.place = ctypes.addressof(self.present)
        self.install()

    @staticmethod
    def cpu(handle: Any) -> int:
        """Return the address of an engine's CPU."""
        return int(uclib.qemu_get_cpu_x86_64(handle, ctypes.c_int(FIRST_CPU)))

    def _registers(self) -> int:
        """Return where in an engine's CPU its registers lie: found once, by their values."""
        engine = Uc(UC_ARCH_X86, UC_MODE_32)
        for register, mark in zip((x86.UC_X86_REG_EAX, x86.UC_X86_REG_ECX), MARKS, strict=True):
            engine.reg_write(register, mark)
        base = self.cpu(engine._uch)
        wanted = struct.pack("<QQ", *MARKS)
        for offset in range(0, SEARCHED, PIECE):  # the registers' structure is larger than a piece
            found = ctypes.string_at(base + offset, PIECE).find(wanted)
            if found >= 0 and found % 16 == 0:
                return offset + found
        raise OSError("the engine's registers are not where they were")

    def install(self) -> None:
        """Make the handler that of SIGABRT if another one is (2 µs if not); OSError if that is impossible."""
        if self.sigaction(SIGABRT, None, self.place):
            raise OSError(ctypes.get_errno(), "SIGABRT cannot be handled")
        if self.present.handler == self.handler:
            return
        self.state.previous = self.present.handler
        if self.sigaction(SIGABRT, ctypes.addressof(self.action), None):
            raise OSError(ctypes.get_errno(), "SIGABRT cannot be handled")

    def slot(self) -> Slot:
        """Return this thread's slot; an unused one if there are too many threads."""
        thread = threading.get_ident()
        free: Slot | None = None
        slots: Iterable[Slot] = self.state.slots
        for slot in slots:
            if slot.thread == thread:
                return slot
            if free is None and not slot.engine:
                free = slot
        if free is None:
            return Slot()
        free.thread, free.taken = thread, 0
        return free


@cache
def rescue() -> Rescue | None:
    """Return the handler of this process, None where there is none."""
    try:
        return Rescue() if native_available() else None
    except (OSError, AttributeError):
        return None


class Translator:
    """Watches one engine's translator for giving up."""

    def __init__(self, handle: Any) -> None:
        self.rescue = rescue()
        self.engine = 0
        if self.rescue is not None:
            self.rescue.install()
            self.engine = self.rescue.cpu(handle) + self.rescue.offset
        self.slot = Slot()
        self.seen = 0

    def guard(self, *, briefly: bool) -> int:
        """From now on the engine runs, in this thread; `briefly` spares the look whether the handler is still ours.

        Return what `release` is to be given.
        """
        if self.rescue is None:
            return 0
        if not briefly:
            self.rescue.install()
        if self.slot.thread != threading.get_ident():  # else it is still this thread's
            self.slot = self.rescue.slot()
        slot = self.slot
        outer: int = slot.engine
        slot.engine = self.engine
        self.seen = slot.taken
        return outer

    def release(self, outer: int) -> None:
        """The engine does not run any longer."""
        self.slot.engine = outer

    def gave_up(self) -> bool:
        """Whether the translator has given up since the last call: this #UD has no other cause."""
        before, self.seen = self.seen, self.slot.taken
        return bool(self.seen != before)
