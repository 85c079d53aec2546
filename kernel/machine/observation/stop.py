"""Why a run ended."""

from typing import Any, NamedTuple

from callgate.kernel.common.record import record


class Stop(NamedTuple):
    """The end of a run: reason, retired instructions, and details of the reason.

    Reasons: "halt" (HLT that nothing can end), "fuel", "until", "breakpoint", "host" (a host call or
    device asked), "triple-fault", "interrupted", "not-modelled" (a mode of the CPU that this machine does not
    have; `detail` says which).
    """

    reason: str
    retired: int
    eip: int
    detail: Any = None
    clock: int = 0  # virtual time in ns

    def __str__(self) -> str:
        text = f"{self.reason} after {self.retired} instructions at {self.eip:#010x}"
        detail = f"{self.detail:#x}" if isinstance(self.detail, int) else self.detail
        return f"{text}: {detail}" if detail is not None else text

    def __repr__(self) -> str:
        return f"<stop: {self}>"


class Occurrence(NamedTuple):
    """An exception or interrupt that was delivered: clock in ns, name, error code, EIP."""

    clock: int
    name: str
    error_code: int
    eip: int

    def __str__(self) -> str:
        return f"at {self.clock} ns {self.name}, error code {self.error_code:#x}, EIP {self.eip:#010x}"


@record(frozen=True)
class TripleFaultReport:
    """The report of a CPU that shuts down.

    `chain` says what failed, event by event; `code` are bytes at EIP, `stack` the dwords on top, as far as
    either is mapped; `events` the last exceptions and interrupts before.
    """

    chain: tuple[str, ...]
    registers: dict[str, int]
    stack: tuple[int, ...]
    code: bytes = b""
    events: tuple[Occurrence, ...] = ()

    @property
    def instruction(self) -> str:
        """The instruction at EIP, disassembled."""
        from capstone import CS_ARCH_X86, CS_MODE_32, Cs

        for found in Cs(CS_ARCH_X86, CS_MODE_32).disasm(self.code, self.registers["eip"], 1):
            return f"{found.mnemonic} {found.op_str}".rstrip()
        return self.code.hex() or "not mapped"

    def __str__(self) -> str:
        lines = ["triple fault", *(f"  {step}" for step in self.chain)]
        lines.append("  " + " ".join(f"{name}={value:#x}" for name, value in self.registers.items()))
        lines.append(f"  instruction: {self.instruction}")
        if self.stack:
            lines.append("  stack: " + " ".join(f"{value:08x}" for value in self.stack))
        lines.extend(f"  {event}" for event in self.events)
        return "\n".join(lines)
