"""The description of the machine that gdb is given: registers (target.xml), and how their values are sent.

gdb wants the standard features complete (gdb/features/i386): without st0 to fop in the core it takes the whole
description for wrong.  The system registers follow as a feature of our own, in the group `system`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from callgate.tools.debugger.debuggee.registers import CR0, CR4, EFER
from callgate.tools.debugger.gdb.protocol.errors import Refused

if TYPE_CHECKING:
    from callgate.kernel.machine.cpu.fpu import FloatingPoint
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.debuggee.threads import DebugThread

Fields = Mapping[str, int | tuple[int, int]]  # name of a flag -> its bit, or first and last bit
EFLAGS: Final[Fields] = {
    "CF": 0, "": 1, "PF": 2, "AF": 4, "ZF": 6, "SF": 7, "TF": 8, "IF": 9, "DF": 10, "OF": 11, "IOPL": (12, 13),
    "NT": 14, "RF": 16, "VM": 17, "AC": 18, "VIF": 19, "VIP": 20, "ID": 21,
}  # fmt: skip
FLAGS: Final = {"i386_eflags": EFLAGS, "cr0_flags": CR0, "cr4_flags": CR4, "efer_flags": EFER}
GENERAL: Final = ("eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi")
SEGMENTS: Final = ("cs", "ss", "ds", "es", "fs", "gs")
X87: Final = ("fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop")
SYSTEM: Final = (
    "cr0", "cr2", "cr3", "cr4", "efer", "cpl",
    "cs_base", "ss_base", "ds_base", "es_base", "fs_base", "gs_base", "dr0", "dr1", "dr2", "dr3", "dr6", "dr7",
    "gdtr_base", "gdtr_limit", "idtr_base", "idtr_limit", "ldtr_base", "ldtr_limit", "tr_base", "tr_limit",
)  # fmt: skip
TYPES: Final = {
    "esp": "data_ptr", "ebp": "data_ptr", "eip": "code_ptr", "eflags": "i386_eflags",
    "cr0": "cr0_flags", "cr4": "cr4_flags", "efer": "efer_flags", "cr2": "data_ptr",
}  # fmt: skip
NAMES_OF_STOP: Final = (*GENERAL, "eip", "eflags", *SEGMENTS)  # sent with each stop: what gdb asks for anyway


@dataclass(frozen=True, slots=True)
class Register:
    """A register as gdb numbers them: by its place in the list."""

    name: str
    bits: int
    type: str
    group: str = ""


CORE: Final = [
    *(Register(name, 32, TYPES.get(name, "int32")) for name in (*GENERAL, "eip", "eflags", *SEGMENTS)),
    *(Register(f"st{index}", 80, "i387_ext") for index in range(8)),
    *(Register(name, 32, "int", "float") for name in X87),
]
SSE: Final = [
    *(Register(f"xmm{index}", 128, "vec128") for index in range(8)),
    Register("mxcsr", 32, "i386_mxcsr", "vector"),
]
OURS: Final = [Register(name, 32, TYPES.get(name, "uint32"), "system") for name in SYSTEM]
REGISTERS: Final = [*CORE, *SSE, *OURS]
MXCSR: Final = {
    "IE": 0, "DE": 1, "ZE": 2, "OE": 3, "UE": 4, "PE": 5, "DAZ": 6, "IM": 7, "DM": 8, "ZM": 9, "OM": 10, "UM": 11,
    "PM": 12, "FZ": 15,
}  # fmt: skip
VECTOR_TYPES: Final = """\
<vector id="v4f" type="ieee_single" count="4"/>
<vector id="v2d" type="ieee_double" count="2"/>
<vector id="v16i8" type="int8" count="16"/>
<vector id="v8i16" type="int16" count="8"/>
<vector id="v4i32" type="int32" count="4"/>
<vector id="v2i64" type="int64" count="2"/>
<union id="vec128">
<field name="v4_float" type="v4f"/><field name="v2_double" type="v2d"/><field name="v16_int8" type="v16i8"/>
<field name="v8_int16" type="v8i16"/><field name="v4_int32" type="v4i32"/><field name="v2_int64" type="v2i64"/>
<field name="uint128" type="uint128"/>
</union>
"""


def flags_type(name: str, fields: Fields) -> str:
    """Return the XML of a type of flags."""
    text = f'<flags id="{name}" size="4">\n'
    for field, place in fields.items():
        first, last = place if isinstance(place, tuple) else (place, place)
        text += f'<field name="{field}" start="{first}" end="{last}"/>\n'
    return text + "</flags>\n"


def feature(name: str, types: str, registers: list[Register]) -> str:
    """Return the XML of a feature."""
    text = f'<feature name="{name}">\n{types}'
    for register in registers:
        group = f' group="{register.group}"' if register.group else ""
        text += f'<reg name="{register.name}" bitsize="{register.bits}" type="{register.type}"{group}/>\n'
    return text + "</feature>\n"


def target_xml() -> str:
    """Return target.xml."""
    ours = "".join(flags_type(name, FLAGS[name]) for name in ("cr0_flags", "cr4_flags", "efer_flags"))
    return (
        '<?xml version="1.0"?>\n<!DOCTYPE target SYSTEM "gdb-target.dtd">\n<target version="1.0">\n'
        "<architecture>i386</architecture>\n<osabi>none</osabi>\n"
        + feature("org.gnu.gdb.i386.core", flags_type("i386_eflags", EFLAGS), CORE)
        + feature("org.gnu.gdb.i386.sse", VECTOR_TYPES + flags_type("i386_mxcsr", MXCSR), SSE)
        + feature("org.callgate.system", ours, OURS)
        + "</target>\n"
    )


def hexed(value: int | None, bits: int) -> str:
    """Return a register's value as bytes in memory's order, in hex; `x` for one that is not known."""
    size = bits // 8
    if value is None:
        return "xx" * size
    return (value & (1 << bits) - 1).to_bytes(size, "little").hex()


class RegisterFile:
    """The registers of one system's threads by gdb's numbers."""

    def __init__(self, debuggee: Debuggee) -> None:
        self.debuggee = debuggee

    def values(self, thread: DebugThread) -> list[int | None]:
        """Return all of them, in order."""
        registers = self.debuggee.registers
        general = registers.general(thread)
        system = registers.system_registers(thread)
        values = [general[name] for name in (*GENERAL, "eip", "eflags", *SEGMENTS)]
        values += floating_values(registers.floating(thread))
        return values + [system[name] for name in SYSTEM]

    def all(self, thread: DebugThread) -> str:
        """Return what `g` answers: the features of the standard; gdb asks for each of the others when it wants it."""
        known = zip(REGISTERS, self.values(thread), strict=True)
        return "".join(hexed(value, register.bits) for register, value in known if register not in OURS)

    def one(self, thread: DebugThread, number: int) -> str:
        """Return what `p` answers; Refused for a number that there is not."""
        if not 0 <= number < len(REGISTERS):
            raise Refused(f"there is no register {number}; the last is {len(REGISTERS) - 1}")
        register = REGISTERS[number]
        if number < len(GENERAL) + 2 + len(SEGMENTS):
            return hexed(self.debuggee.registers.general(thread)[register.name], register.bits)
        return hexed(self.values(thread)[number], register.bits)

    def of_stop(self, thread: DebugThread) -> str:
        """Return the registers that are sent with a stop: those of the first ones that are known."""
        general = self.debuggee.registers.general(thread)
        values = [general[name] for name in NAMES_OF_STOP]
        digits = struct.pack("<16I", *(value or 0 for value in values)).hex()
        return "".join(f"{n:02x}:{digits[8 * n : 8 * n + 8]};" for n, value in enumerate(values) if value is not None)

    def put(self, thread: DebugThread, number: int, data: bytes) -> None:
        """Change one; Refused, with the reason, for one that cannot be changed."""
        from callgate.tools.debugger.debuggee.registers import NotWritable

        if not 0 <= number < len(REGISTERS) or len(data) * 8 != REGISTERS[number].bits:
            raise Refused(f"register {number} does not exist, or has not {len(data)} bytes")
        try:
            if self.one(thread, number) != data.hex():
                self.debuggee.registers.set(thread, REGISTERS[number].name, int.from_bytes(data, "little"))
        except (NotWritable, LookupError) as error:
            raise Refused(str(error)) from None

    def put_all(self, thread: DebugThread, data: bytes) -> None:
        """Change those that `G` gives another value; Refused if one of them cannot be changed."""
        at = 0
        for number, register in enumerate(REGISTERS):
            size = register.bits // 8
            if at + size > len(data):
                break
            self.put(thread, number, data[at : at + size])
            at += size


def floating_values(fpu: FloatingPoint) -> list[int | None]:
    """Return st0 to fop, xmm0 to mxcsr.  FXSAVE's pointers to the last instruction are not kept by the engine."""
    return [*fpu.raw, fpu.control, fpu.status, fpu.tag_word, 0, 0, 0, 0, 0, *fpu.xmm, fpu.mxcsr]
