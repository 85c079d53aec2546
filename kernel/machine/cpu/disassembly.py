"""Disassembly of memory as ring 0 sees it."""

from collections.abc import Callable
from contextlib import suppress

from callgate.kernel.machine.cpu.paging import PageFault, Paging
from callgate.kernel.machine.memory.bus import DmaError

LONGEST = 15  # bytes of an instruction (SDM vol. 2, 2.3.11)


def disassembly(paging: Paging, address: int, count: int, symbols: Callable[[int], str] | None) -> list[str]:
    """Return up to `count` lines from a linear address, as far as it is mapped; `symbols` names addresses."""
    from capstone import CS_ARCH_X86, CS_MODE_32, Cs

    data = b""
    with suppress(PageFault, DmaError):
        while len(data) < count * LONGEST:
            data += paging.read_linear(address + len(data), 16)
    lines = []
    for instruction in Cs(CS_ARCH_X86, CS_MODE_32).disasm(data, address, count):
        name = symbols(instruction.address) if symbols else ""
        place = f" <{name}>" if name and not name.startswith("0x") else ""
        lines.append(f"{instruction.address:08x}{place} {instruction.mnemonic} {instruction.op_str}".rstrip())
    return lines


def named(address: int, name: str) -> str:
    """Return an address in hex, with its symbol if `name` is one."""
    return f"{address:#010x} <{name}>" if name and not name.startswith("0x") else f"{address:#010x}"
