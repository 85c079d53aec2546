"""Policy that awaits routines of the kernel: `await routine("block", eax=reason)`.

A host call may be answered by a coroutine.  It awaits routines of the kernel by name; the stub that made the host call
runs each as ordinary code of its thread and reports back with RESUME (asm/kernel/entry/policy.asm).  Coroutines of one
thread nest: a routine may fault, and the fault's handler may be a coroutine too.  A coroutine lives only while its
request is being worked on.  One that has nothing to do after its last routine returns it (`RoutineCall`) instead of
awaiting it, and has ended when the routine runs: no RESUME.
"""

from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from types import coroutine
from typing import Any, NamedTuple

from callgate.kernel.abi.layout import offset_of
from callgate.kernel.abi.thread import ThreadControlBlock

REGISTERS = ("eax", "ebx", "ecx", "edx", "esi", "edi")
CALL_TARGET = offset_of(ThreadControlBlock, "call_target") // 4
CALL_REGISTERS = tuple(offset_of(ThreadControlBlock, f"call_{name}") // 4 for name in REGISTERS)
CALL_EFLAGS = offset_of(ThreadControlBlock, "call_eflags") // 4
CARRY = 1


class RoutineCall(NamedTuple):
    """A routine that a coroutine awaits, or ends with: its name and its registers at entry."""

    name: str
    eax: int = 0
    ebx: int = 0
    ecx: int = 0
    edx: int = 0
    esi: int = 0
    edi: int = 0


class RoutineResult(NamedTuple):
    """The registers as a routine has left them."""

    eax: int
    ebx: int
    ecx: int
    edx: int
    esi: int
    edi: int
    eflags: int

    @property
    def failed(self) -> bool:
        """CF, by which most routines report failure."""
        return bool(self.eflags & CARRY)


Policy = Coroutine[Any, Any, RoutineCall | None]


@coroutine
def routine(
    name: str, *, eax: int = 0, ebx: int = 0, ecx: int = 0, edx: int = 0, esi: int = 0, edi: int = 0
) -> Generator[RoutineCall, RoutineResult, RoutineResult]:
    """Run the kernel routine `name` with these registers on the current thread; return the registers afterwards."""
    result = yield RoutineCall(name, eax, ebx, ecx, edx, esi, edi)
    return result


@coroutine
def execute(call: RoutineCall) -> Generator[RoutineCall, RoutineResult, RoutineResult]:
    """Run a routine that another function has named, as `routine` does."""
    result = yield call
    return result


class Coroutines:
    """The coroutines in flight, innermost last, for every thread."""

    def __init__(self, words: memoryview, address_of: Callable[[str], int], current_tcb: Callable[[], int]) -> None:
        """Take low memory as words, the kernel's symbols, and the current thread's control block."""
        self.words = words
        self.address_of = address_of
        self.current_tcb = current_tcb
        self.stacks: dict[int, list[Policy]] = {}

    @property
    def alive(self) -> int:
        """How many coroutines are in flight; 0 in a quiescent machine."""
        return sum(len(stack) for stack in self.stacks.values())

    def close(self) -> None:
        """End every coroutine where it stands, while the machine on which its `finally` acts still exists."""
        for stack in self.stacks.values():
            for policy in reversed(stack):
                closed = False
                while not closed:
                    with suppress(RuntimeError):  # it awaits a routine while it ends, in a `finally`
                        policy.close()
                        closed = True
        self.stacks.clear()

    def start(self, policy: Policy) -> None:
        """Run `policy` up to the first routine that it awaits."""
        tcb = self.current_tcb()
        self.stacks.setdefault(tcb, []).append(policy)
        self._step(tcb, None)

    def host_resume(self, _value: int) -> None:
        """RESUME: the awaited routine has returned; go on to the next one."""
        tcb = self.current_tcb()
        eax, ebx, ecx, edx, esi, edi = (self.words[tcb + offset] for offset in CALL_REGISTERS)
        self._step(tcb, RoutineResult(eax, ebx, ecx, edx, esi, edi, self.words[tcb + CALL_EFLAGS]))

    def _step(self, tcb: int, result: Any) -> None:
        stack = self.stacks[tcb]
        try:
            call: RoutineCall = stack[-1].send(result)
        except StopIteration as end:
            del stack[-1]
            if not stack:
                del self.stacks[tcb]
            self._end_with(tcb, end.value)
            return
        self._name(tcb, call)
        self.words[tcb + CALL_TARGET] = self.address_of(call.name)

    def _end_with(self, tcb: int, last: RoutineCall | None) -> None:
        """Have the stub run the routine with which a coroutine has ended, if there is one, and go on."""
        if last is None:
            self.words[tcb + CALL_TARGET] = 0
            return
        self._name(tcb, last)
        self.words[tcb + CALL_EFLAGS] = self.address_of(last.name)
        self.words[tcb + CALL_TARGET] = self.address_of("last_routine")

    def _name(self, tcb: int, call: RoutineCall) -> None:
        """Write the registers that a routine gets."""
        for offset, name in zip(CALL_REGISTERS, REGISTERS, strict=True):
            self.words[tcb + offset] = getattr(call, name) & 0xFFFF_FFFF
