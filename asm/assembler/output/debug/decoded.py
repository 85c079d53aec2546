"""Instructions as the analysis of call frames wants them: what they write, and where they may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from callgate.asm.assembler.encoding.verify import decoder
from callgate.asm.assembler.language.registers import GENERAL8, GENERAL16, GENERAL32

if TYPE_CHECKING:
    from callgate.asm.assembler.output.unit import Unit

WIDE: Final = {
    **dict(zip(GENERAL16, GENERAL32, strict=True)),
    **dict(zip(GENERAL8, GENERAL32[:4] * 2, strict=True)),
    **dict.fromkeys(("flags", "rflags"), "eflags"),
}
#: After these the next instruction is not reached.
ENDS: Final = frozenset(("ret", "retf", "iretd", "iret", "jmp", "ljmp"))
REGISTER, IMMEDIATE = 1, 2  # kinds of operands (X86_OP_REG, X86_OP_IMM)
OPERAND_SIZE = 0x66


@dataclass(frozen=True, slots=True)
class Decoded:
    """An instruction: Capstone's name and operands, the registers that it writes, 32 bits wide.

    `target` is where a direct branch goes; `added` what is added to ESP; `number` the first operand, if it is one;
    `stack_size` the bytes that it pushes or pops.
    """

    address: int
    size: int
    name: str
    text: str
    written: frozenset[str]
    target: int | None = None
    added: int | None = None
    number: int | None = None
    stack_size: int = 4

    @property
    def end(self) -> int:
        """The address after it."""
        return self.address + self.size

    @property
    def goes_on(self) -> bool:
        """Whether the next instruction may follow."""
        return self.name not in ENDS

    @property
    def jumps_by_table(self) -> bool:
        """Whether it is a near jump to where a register or memory says."""
        return self.name == "jmp" and self.target is None


def decode(program: Unit) -> dict[int, Decoded]:
    """Return every instruction of a unit by its address."""
    machine = decoder()
    found: dict[int, Decoded] = {}
    for line in program.lines:
        code = program.code_at(line.address, line.size)
        for instruction in machine.disasm(code, line.address):
            found[instruction.address] = read(instruction)
    return found


def read(instruction: Any) -> Decoded:
    """Return what counts of an instruction that Capstone has decoded."""
    name = instruction.mnemonic.rpartition(" ")[2]
    names = {instruction.reg_name(number) for number in instruction.regs_access()[1]}
    operands = instruction.operands
    number = operands[0].imm if operands and operands[0].type == IMMEDIATE else None
    return Decoded(
        *(instruction.address, instruction.size, name, instruction.op_str),
        frozenset(WIDE.get(register, register) for register in names),
        target_of(name, operands),
        added_to_stack(name, operands, instruction),
        number,
        2 if instruction.prefix[2] == OPERAND_SIZE else 4,
    )


def target_of(name: str, operands: Any) -> int | None:
    """Return where a direct branch goes."""
    if not operands or operands[-1].type != IMMEDIATE or not (name in ("call", "ljmp") or is_branch(name)):
        return None
    return int(operands[-1].imm) & 0xFFFF_FFFF


def is_branch(name: str) -> bool:
    """Whether an instruction jumps near."""
    return name[0] == "j" or name.startswith("loop")


def added_to_stack(name: str, operands: Any, instruction: Any) -> int | None:
    """Return what `add esp`, `sub esp`, or `lea esp, [esp + …]` adds to ESP."""
    if len(operands) != 2 or operands[0].type != REGISTER or instruction.reg_name(operands[0].reg) != "esp":
        return None
    source = operands[1]
    if name in ("add", "sub") and source.type == IMMEDIATE:
        bits = int(source.imm)
        value = (bits & 0xFFFF_FFFF) - ((bits & 0x8000_0000) << 1)
        return value if name == "add" else -value
    if name == "lea" and instruction.reg_name(source.mem.base) == "esp" and not source.mem.index:
        return int(source.mem.disp)
    return None
