"""Calling conventions of i386: where arguments are passed, what a routine must preserve.

System V psABI for Intel386, section 2.2: EBX, ESI, EDI, EBP and ESP are the caller's, DF is clear on entry and on
return, the x87 stack is empty on entry and holds a result in ST(0) or nothing on return, the control bits of FCW and
MXCSR are the caller's.  `stdcall` and `fastcall` are Microsoft's (the routine removes its arguments), `regparm` is
gcc's regparm(3), with which Linux is compiled.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from struct import pack, unpack
from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.fpu import FPU_CONTROL_INITIAL, MXCSR_INITIAL
from callgate.tools.asmtest.board.result import FLAGS, CallResult

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.fpu import FloatingPoint
    from callgate.tools.asmtest.bare.operations import Operations

STRINGS: Final = 0x3F_0000  # where texts that are arguments lie
STRINGS_END: Final = 0x40_0000
PRESERVED: Final = ("ebx", "esi", "edi", "ebp")
SCRATCH: Final = ("eax", "ecx", "edx")
JUNK: Final = {
    "eax": 0xA55E_0A0A, "ecx": 0xA55E_0C0C, "edx": 0xA55E_0D0D, "ebx": 0xA55E_0B0B,
    "esi": 0xA55E_5151, "edi": 0xA55E_D1D1, "ebp": 0xA55E_B9B9,
}  # fmt: skip
MXCSR_CONTROL: Final = 0xFFC0  # the lower bits are exceptions that have occurred
Argument = int | float | str | bytes | ctypes.Structure | ctypes._SimpleCData  # type: ignore[type-arg]


@dataclass(frozen=True, slots=True)
class Convention:
    """How one routine is called: `registers` take the first arguments of 32 bits; `pops`: it removes the others."""

    name: str
    registers: tuple[str, ...] = ()
    pops: bool = False


CONVENTIONS: Final = {
    convention.name: convention
    for convention in (
        Convention("cdecl"),
        Convention("stdcall", pops=True),
        Convention("fastcall", ("ecx", "edx"), pops=True),
        Convention("regparm", ("eax", "edx", "ecx")),
    )
}
NO_CONVENTION: Final = "none"


@dataclass(frozen=True, slots=True)
class Frame:
    """A call that is ready: registers by name, dwords above the return address."""

    convention: Convention
    registers: dict[str, int]
    stack: list[int]


def convention_named(name: str) -> Convention | None:
    """Return a convention, None for `none`; ValueError lists the known ones."""
    if name == NO_CONVENTION:
        return None
    if name not in CONVENTIONS:
        raise ValueError(f"there is no calling convention {name!r}: there are {', '.join(CONVENTIONS)} and none")
    return CONVENTIONS[name]


def make_frame(
    cpu: Operations,
    convention: Convention,
    arguments: Sequence[Argument],
    given: Mapping[str, int],
    stack: Sequence[int],
) -> Frame:
    """Return a call with these arguments; registers that are not given hold junk, the x87 stack is empty.

    Texts are put into memory with a zero at the end, bytes without, and their addresses passed.  TypeError and
    ValueError for what is not an argument.
    """
    cpu.clear_floating_point()
    registers = JUNK | dict(given)
    free = [name for name in convention.registers if name not in given]
    words: list[int] = []
    place = STRINGS
    for item in arguments:
        argument = item
        if isinstance(item, str | bytes):
            data = item if isinstance(item, bytes) else item.encode() + b"\0"
            if place + len(data) > STRINGS_END:
                raise ValueError(f"texts of more than {STRINGS_END - STRINGS >> 10} KiB; put them into memory yourself")
            cpu.write(place, data)
            argument, place = place, place + -(-len(data) // 16) * 16
        dwords = dwords_of(argument)
        if len(dwords) == 1 and free and isinstance(argument, int):
            registers[free.pop(0)] = dwords[0]
        else:
            words += dwords
    return Frame(convention, registers, [*words, *stack])


def dwords_of(argument: Argument) -> list[int]:
    """Return the bytes of an argument on the stack: a number of 32 bits, a double, or an object of ctypes."""
    if isinstance(argument, bool | int):
        if not -(1 << 31) <= argument < 1 << 32:
            raise ValueError(f"{argument:#x} has more than 32 bits: pass c_uint64({argument:#x}), in a case qword(…)")
        return [argument & 0xFFFF_FFFF]
    if isinstance(argument, float):
        data = pack("<d", argument)
    elif isinstance(argument, ctypes.Structure | ctypes._SimpleCData):
        data = bytes(argument)
    else:
        raise TypeError(f"{argument!r} is not an argument: pass numbers, texts, bytes, or objects of ctypes")
    return list(unpack(f"<{-(-len(data) // 4)}I", data + bytes(-len(data) % 4)))


def violations(
    convention: Convention, before: Mapping[str, int], result: CallResult, arguments: int, fpu: FloatingPoint
) -> list[str]:
    """Return the rules that a routine has broken; `arguments` is the number of dwords on the stack."""
    after = result.registers
    found = [
        f"{name} was {before[name]:#x} and is {after[name]:#x}: {convention.name} preserves it"
        for name in PRESERVED
        if before[name] != after[name]
    ]
    expected = before["esp"] + 4 + (4 * arguments if convention.pops else 0)
    if after["esp"] != expected & 0xFFFF_FFFF:
        off = (after["esp"] - expected + (1 << 31) & 0xFFFF_FFFF) - (1 << 31)
        pops = " and the arguments" if convention.pops and arguments else ""
        found.append(f"esp is off by {off:+}: {convention.name} returns with the return address{pops} removed")
    if after["eflags"] >> FLAGS["DF"] & 1:
        found.append(f"DF is set: {convention.name} returns with DF clear")
    deep = [index for index in range(1, 8) if fpu.used(index)]
    if deep:
        found.append(f"st{deep[0]} is in use: {convention.name} returns with nothing but a result in st0 (or EMMS)")
    if fpu.control != FPU_CONTROL_INITIAL:
        found.append(f"fcw is {fpu.control:#x} and was {FPU_CONTROL_INITIAL:#x}: {convention.name} preserves it")
    if (fpu.mxcsr ^ MXCSR_INITIAL) & MXCSR_CONTROL:
        found.append(
            f"mxcsr is {fpu.mxcsr:#x} and was {MXCSR_INITIAL:#x}: {convention.name} preserves its control bits"
        )
    return found
