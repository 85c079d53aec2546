"""The emulated CPU at the instructions that `host_float` executes on the host's."""

import struct
from collections.abc import Sequence

from callgate.kernel.abi.fpu import FloatingPointArea
from callgate.kernel.machine import Machine
from host_float import Answer, Request

CODE, MEMORY, AREA, STACK = 0x10_0000, 0x2000, 0x4000, 0x9000
SPAN = 96  # bytes of code for each request
OSFXSR = 0x600
SIGNALS = {"#GP": 11, "#UD": 4, "#XM": 8, "#MF": 8, "#NM": 11}  # as Linux has them


def program(request: Request) -> bytes:
    """Return code that loads the registers, executes the instruction, stores them and halts."""
    return (
        b"\x68" + struct.pack("<I", request.eflags & ~0x200) + b"\x9d"  # push eflags; popfd
        + b"\xb8" + struct.pack("<I", request.eax)
        + b"\xba" + struct.pack("<I", request.edx)
        + b"\xb9" + struct.pack("<I", MEMORY + request.offset)
        + b"\x0f\xae\x0d" + struct.pack("<I", AREA)  # fxrstor
        + request.code
        + b"\x0f\xae\x05" + struct.pack("<I", AREA)  # fxsave
        + b"\xf4\xeb\xfe"  # the jump ends what the machine looks through for instructions that it has to mend
    )  # fmt: skip


def ask(requests: Sequence[Request], counter: str = "native") -> list[Answer]:
    """Execute each request in ring 0 of one machine, without paging."""
    with Machine(memory=8 << 20, high_memory=0, counter=counter) as machine:
        machine.cpu.cr4 = OSFXSR
        machine.cpu.cr0 |= 0x20
        answers = []
        for index, request in enumerate(requests):
            code = CODE + index * SPAN
            machine.ram.write(code, program(request))
            machine.ram.write(MEMORY, request.memory.ljust(512, b"\0"))
            machine.ram.write(AREA, bytes(request.area))
            machine.cpu.eip, machine.cpu.esp = code, STACK
            answers.append(answer(machine))
        return answers


def answer(machine: Machine) -> Answer:
    """Run a request and return its result."""
    stop = machine.run(fuel=100)
    signal = 0 if stop.reason == "halt" else SIGNALS[stop.detail.chain[0][:3]]
    if signal:
        fpu = machine.fpu
        area = FloatingPointArea(control=fpu.control, status=fpu.status, tags=fpu.tags, mxcsr=fpu.mxcsr)
        for number, value in enumerate(fpu.raw):
            area.stack[16 * number : 16 * number + 10] = value.to_bytes(10, "little")
        area.xmm[:] = b"".join(value.to_bytes(16, "little") for value in fpu.xmm)
    else:
        area = FloatingPointArea.from_buffer_copy(machine.ram.read(AREA, 512))
    cpu = machine.cpu
    return Answer(signal, 0, cpu.eax, cpu.edx, cpu.ecx, cpu.eflags, bytes(machine.ram.read(MEMORY, 512)), area)
