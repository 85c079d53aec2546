"""Watches calls, gates and interrupts of a running system: which calls have not returned, without a look at CFI."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from callgate.asm.assembler import Program
from callgate.asm.assembler.encoding.verify import decoder
from callgate.kernel.abi.memory import KERNEL_STACKS
from callgate.kernel.abi.thread import KERNEL_STACK_SPAN
from callgate.kernel.machine import Machine

GENERAL = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
GATES = ("system_gate", "ipc_gate", "server_gate")
RETURNS = ("ret", "retf", "iretd")
USER_STACK_SPAN = 0x10_0000
WITH_CODE = (8, 10, 11, 12, 13, 14, 17)


@dataclass(frozen=True)
class Call:
    """A call that has not returned: where its return address lies, the address, registers after the return."""

    slot: int
    eip: int
    registers: dict[str, int]
    stack: int | None = None  # ESP in ring 3, if the caller ran there


class ShadowStack:
    """The calls of every stack: those of the kernel by their addresses, those of programs by page tables too."""

    def __init__(self, machine: Machine, kernel: Program, programs: list[Program]) -> None:
        self.machine = machine
        self.calls: dict[tuple[int, int], dict[int, Call]] = {}
        self.programs = (kernel, *programs)
        for name in GATES:
            machine.probe(kernel.address(name), lambda: self._entered(0, gate=True))
        for symbol in kernel.symbols.values():
            if symbol.name.startswith("trap_") and symbol.name[5:].isdigit():
                skipped = 4 if int(symbol.name[5:]) in WITH_CODE else 0
                machine.probe(symbol.address, lambda skipped=skipped: self._entered(skipped, gate=False))
        machine.probe(kernel.address("exit_thread"), lambda: self.stack().clear())

    def watch_calls(self) -> None:
        """Watch calls and returns too; probes made before see a RET before its call is forgotten."""
        for program in self.programs:
            self._watch_code(program)

    def _watch_code(self, program: Program) -> None:
        for line in program.lines:
            for code in decoder().disasm(program.code_at(line.address, line.size), line.address):
                if code.mnemonic == "call":
                    self._probe(code.address, bytes(code.bytes), self._call_probe(code.address + code.size))
                elif code.mnemonic in RETURNS:
                    self._probe(code.address, bytes(code.bytes), self._returned)

    def _probe(self, address: int, code: bytes, function: Callable[[], None]) -> None:
        """Call a function before an instruction, if it is this one: programs lie at the same addresses."""
        machine = self.machine
        machine.probe(address, lambda: function() if machine.read(address, len(code)) == code else None)

    def key(self, esp: int) -> tuple[int, int]:
        """Return the stack that holds an address."""
        if esp >= KERNEL_STACKS:
            return (0, (esp - KERNEL_STACKS - 1) // KERNEL_STACK_SPAN)
        return (self.machine.cpu.cr3, esp // USER_STACK_SPAN)

    def stack(self, esp: int | None = None) -> dict[int, Call]:
        """Return the calls of a stack by their slots; of the present one by default."""
        return self.calls.setdefault(self.key(self.machine.cpu.esp if esp is None else esp), {})

    def word(self, address: int) -> int:
        """Return a dword of the present address space."""
        return int.from_bytes(self.machine.read(address, 4), "little")

    def _call_probe(self, eip: int) -> Callable[[], None]:
        def called() -> None:
            cpu = self.machine.cpu
            registers = {name: getattr(cpu, name) for name in GENERAL}
            self.stack()[cpu.esp - 4] = Call(cpu.esp - 4, eip, registers)

        return called

    def _entered(self, skipped: int, *, gate: bool) -> None:
        """Note that the CPU has entered the kernel by itself."""
        cpu = self.machine.cpu
        slot = cpu.esp + skipped
        registers = {name: getattr(cpu, name) for name in GENERAL}
        ring3 = gate or self.word(slot + 4) & 3 == 3
        above = slot + (8 if gate else 12)
        registers["esp"] = self.word(above) if ring3 else above
        stack = self.stack()
        for old in [old for old in stack if ring3 and old < slot]:
            del stack[old]
        stack[slot] = Call(slot, self.word(slot), registers, registers["esp"] if ring3 else None)

    def _returned(self) -> None:
        stack, esp = self.stack(), self.machine.cpu.esp
        for slot in [slot for slot in stack if slot <= esp + 8]:
            if slot <= esp or stack[slot].stack is not None:
                del stack[slot]

    def open_calls(self) -> Iterator[Call]:
        """Yield the calls that have not returned, the innermost first."""
        esp: int | None = self.machine.cpu.esp
        while esp is not None:
            stack, top, esp = self.stack(esp), esp, None
            for slot in sorted(stack):
                if slot >= top:
                    yield stack[slot]
                    esp = stack[slot].stack
                    if esp is not None:
                        break
