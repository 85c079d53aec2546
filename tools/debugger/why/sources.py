"""From where an instruction takes the value that it writes: a register, memory, a constant, or a computation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from callgate.tools.debugger.why.locations import FAR_RETURNS, FOLLOWED, SEGMENTS, WHOLE, InMemory, InRegister, Location
from capstone.x86 import X86_OP_IMM, X86_OP_MEM, X86_OP_REG

MOVES: Final = ("mov", "movzx", "movsx", "movabs")
PUSHED_ALL: Final = ("edi", "esi", "ebp", "esp", "ebx", "edx", "ecx", "eax")  # from ESP upwards after PUSHA
STRING_SIZES: Final = {"b": 1, "w": 2, "d": 4}
ZEROED: Final = ("xor", "sub")
REGISTER_SIZE: Final = 4  # bytes
SIZE_NAMES: Final = {1: "byte", 2: "word"}
CARRY, PARITY, ZERO, SIGN, OVERFLOW = (1 << bit for bit in (0, 2, 6, 7, 11))


def _not(condition: str, eflags: int) -> bool:
    return not _TRUE[condition](eflags)


def _differ(eflags: int) -> bool:
    return bool(eflags & SIGN) != bool(eflags & OVERFLOW)


_TRUE: Final[dict[str, Callable[[int], bool]]] = {  # SDM vol. 1, appendix B
    "o": lambda eflags: bool(eflags & OVERFLOW),
    "b": lambda eflags: bool(eflags & CARRY),
    "e": lambda eflags: bool(eflags & ZERO),
    "be": lambda eflags: bool(eflags & (CARRY | ZERO)),
    "s": lambda eflags: bool(eflags & SIGN),
    "p": lambda eflags: bool(eflags & PARITY),
    "l": _differ,
    "le": lambda eflags: bool(eflags & ZERO) or _differ(eflags),
}
_FALSE: Final = {"no": "o", "ae": "b", "ne": "e", "a": "be", "ns": "s", "np": "p", "ge": "l", "g": "le"}
CONDITIONS: Final = _TRUE | {name: partial(_not, condition) for name, condition in _FALSE.items()}
"""Whether a condition holds, by its suffix, from EFLAGS."""


BY_PORT: Final = "from a device, by a port"  # the note of such a source: which one is said by `ports`


class Source(NamedTuple):
    """Where a value comes from; None, and why, where the chain ends.

    `inputs` are what it was made of, if there are several: registers and `[memory]` as `why` takes them just before the
    instruction, or `[memory] at N` where N instructions had retired.
    """

    location: Location | None
    note: str = ""
    inputs: tuple[str, ...] = ()


class Operands(Protocol):
    """The operands of the instruction, before it is executed."""

    def register(self, name: str) -> int:
        """Return a register."""
        ...

    def memory(self, linear: int, size: int) -> InMemory | None:
        """Return the memory at a linear address, None if it is not mapped."""
        ...

    def effective(self, instruction: Any, operand: Any) -> int:
        """Return the linear address of a memory operand."""
        ...


def source_of_register(instruction: Any, register: str, operands: Operands) -> Source:
    """Return where an instruction takes the value from that it writes to a general register."""
    name = instruction.mnemonic.split()[-1]
    if name == "pop":
        return in_memory(operands, operands.register("esp"), InRegister(register).size)
    if name in FAR_RETURNS:
        return Source(None, "a return to an outer ring clears what that ring may not use")
    if name == "popal":
        return in_memory(operands, operands.register("esp") + 4 * PUSHED_ALL.index(register), 4)
    if name == "leave":
        return in_memory(operands, operands.register("ebp"), 4) if register == "ebp" else Source(InRegister("ebp"))
    if name.startswith("lods") and register == "eax":
        return in_memory(operands, operands.register("esi"), STRING_SIZES.get(name[-1], 4))
    if name == "in":
        return Source(None, BY_PORT)
    if name == "xchg":
        return of_operand(instruction, _other(instruction, register), operands)
    if name in MOVES or name.startswith("cmov"):
        return _partly(instruction, of_operand(instruction, instruction.operands[1], operands))
    return computed(instruction, register, operands)


def _partly(instruction: Any, source: Source) -> Source:
    """Return a source with the note that only a part of a register is written, if that is so."""
    target = instruction.operands[0]
    if target.size >= REGISTER_SIZE or instruction.reg_name(target.reg) in SEGMENTS:
        return source
    note = f"it writes {instruction.reg_name(target.reg)} alone"
    return source._replace(note=f"{note}; {source.note}" if source.note else note)


def takes_effect(instruction: Any, eflags: int, ecx: int) -> bool:
    """Whether an instruction that may write registers does: CMOVcc by its condition, REP with a count."""
    name = instruction.mnemonic
    if name.startswith("rep"):
        return ecx != 0
    if not name.startswith("cmov") or name[4:] not in CONDITIONS:
        return True
    return CONDITIONS[name[4:]](eflags)


def _other(instruction: Any, register: str) -> Any:
    """Return the operand of XCHG that is not a register."""
    first, second = instruction.operands
    mine = first.type == X86_OP_REG and WHOLE.get(instruction.reg_name(first.reg)) == register
    return second if mine else first


def computed(instruction: Any, register: str, operands: Operands) -> Source:
    """Return the only input of a computation that is no constant, if there is only one."""
    name = instruction.mnemonic.split()[-1]
    inputs = instruction.operands
    if name in ZEROED and len(inputs) == 2 and inputs[0].type == inputs[1].type == X86_OP_REG:
        if inputs[0].reg == inputs[1].reg:
            return Source(None, "the constant 0")
    if name == "lea":
        memory = inputs[1].mem
        names = [instruction.reg_name(number) for number in (memory.base, memory.index) if number]
        if len(names) == 1:
            return Source(InRegister(WHOLE[names[0]]), f"computed: {instruction.op_str}")
        return Source(None, f"computed from {' and '.join(names) or 'a constant'}", tuple(names))
    sources = [operand for operand in inputs if operand.type != X86_OP_IMM]
    if len(sources) == 1 and sources[0].type == X86_OP_REG and instruction.mnemonic not in ("imul", "mul", "div"):
        return Source(InRegister(register), f"computed: {instruction.mnemonic} {instruction.op_str}")
    if name.startswith(("movs", "stos", "cmps", "scas", "lods", "rep", "loop")):
        return Source(InRegister(register), f"counted on by {instruction.mnemonic}")
    text = f"{instruction.mnemonic} {instruction.op_str}".rstrip()
    return Source(None, f"computed by {text}", _names(instruction, operands))


def _names(instruction: Any, operands: Operands) -> tuple[str, ...]:
    """Return the operands that are no constants, as `why` takes them; none if there is only one."""
    found = []
    for operand in instruction.operands:
        if operand.type == X86_OP_REG and instruction.reg_name(operand.reg) in WHOLE:
            found.append(WHOLE[instruction.reg_name(operand.reg)])
        elif operand.type == X86_OP_MEM:
            size = SIZE_NAMES.get(operand.size, "")
            found.append(f"{size}[{operands.effective(instruction, operand):#010x}]")
    distinct = tuple(dict.fromkeys(found))
    return distinct if len(distinct) > 1 else ()


def of_operand(instruction: Any, operand: Any, operands: Operands) -> Source:
    """Return what an operand is."""
    if operand.type == X86_OP_IMM:
        return Source(None, f"the constant {operand.imm & 0xFFFF_FFFF:#x}")
    if operand.type == X86_OP_REG:
        name = instruction.reg_name(operand.reg)
        return Source(InRegister(FOLLOWED[name])) if name in FOLLOWED else Source(None, f"from {name}")
    if operand.type == X86_OP_MEM:
        return in_memory(operands, operands.effective(instruction, operand), operand.size)
    return Source(None, "from an operand that is not followed")


def in_memory(operands: Operands, linear: int, size: int) -> Source:
    """Return memory as a source."""
    found = operands.memory(linear, size)
    return Source(found) if found is not None else Source(None, f"from {linear:#010x}, which is not mapped")


def source_of_store(instruction: Any, location: InMemory, operands: Operands) -> Source:
    """Return where an instruction takes the value from that it stores to memory."""
    name = instruction.mnemonic.split()[-1]
    if name == "push":
        return of_operand(instruction, instruction.operands[0], operands)
    if name == "pushal":
        return _pushed(location, operands)
    if name.startswith("movs") and not instruction.mnemonic.startswith("movsx"):
        size = STRING_SIZES.get(name[-1], 4)
        into = operands.memory(operands.register("edi"), size)
        shift = location.physical - into.physical if into is not None else 0
        return in_memory(operands, operands.register("esi") + shift, location.size)
    if name.startswith("stos"):
        return Source(InRegister("eax"))
    if name.startswith("ins"):
        return Source(None, BY_PORT)
    if name in ("call", "lcall"):
        return Source(None, "the address to return to, or the caller's stack")
    if name == "xchg":
        first, second = instruction.operands
        return of_operand(instruction, second if first.type == X86_OP_MEM else first, operands)
    if name in MOVES and len(instruction.operands) == 2:
        return of_operand(instruction, instruction.operands[1], operands)
    text = f"{instruction.mnemonic} {instruction.op_str}".rstrip()
    return Source(None, f"computed by {text}", _names(instruction, operands))


def _pushed(location: InMemory, operands: Operands) -> Source:
    """Return the register that PUSHA has stored at a place."""
    lowest = operands.memory(operands.register("esp") - 4 * len(PUSHED_ALL), 4)
    if lowest is None:
        return Source(None, "pushed")
    index = location.physical - lowest.physical >> 2
    if not 0 <= index < len(PUSHED_ALL):
        return Source(None, "pushed across a page")
    return Source(InRegister(PUSHED_ALL[index]))
