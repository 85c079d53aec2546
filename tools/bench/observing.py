"""The cost of counting what the CPU touches of file data: the same loops over file data and over plain memory.

Blocks of files lie above 4 GiB, where each load and store is counted by the running code; memory below is not observed.
A bare machine maps both, so nothing else differs between the two runs of a loop.
"""

from __future__ import annotations

import struct
import time
from statistics import median
from typing import Any, Final

from callgate.kernel.abi.memory import HIGH_MEMORY
from callgate.kernel.machine import Machine
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.programs.images import program_image
from callgate.tools.bench.measuring import BenchmarkError, timing
from callgate.tools.bench.reading import pattern

BYTES: Final = 16 << 20  # that a loop goes over
LARGE: Final = 2 << 20  # bytes of a page that is mapped
TABLES, BOOT, RETURN, STACK = 0x1000, 0x8000, 0x9000, 0x1_0000
PLAIN, MEMORY = 16 << 20, 50 << 20
COPY: Final = (32 << 20) + (512 << 10)  # not a multiple of 1 MiB away: the engine's TLB would hold one of the two pages
FILE: Final = 0x8000_0000  # linear address at which the machine has file data
PRESENT: Final = 0x83  # of an entry: writable, 2 MiB
LOOPS: Final = {
    # l: four times (mov eax, [esi + n]; add ebx, eax); add esi, 16; dec ecx; jnz l; ret
    "loads": (16, "8b0601c38b460401c38b460801c38b460c01c383c6104975e7c3"),
    # l: movzx eax, byte [esi]; add ebx, eax; inc esi; dec ecx; jnz l; ret
    "bytes": (1, "0fb60601c3464975f7c3"),
    "copy": (4, "f3a5c3"),  # rep movsd; ret
}
CHECKSUM: Final = "crc32"  # the shell's own loop


def boot(machine: Machine) -> None:
    """Turn paging on, with NX: low memory at its own addresses, file data at `FILE`."""
    ram = machine.ram
    for index, directory in ((0, TABLES + 0x1000), (FILE >> 30, TABLES + 0x2000)):
        ram.put_u64(TABLES + 8 * index, directory | 1)
    for page in range(MEMORY // LARGE):
        ram.put_u64(TABLES + 0x1000 + 8 * page, page * LARGE | PRESENT)
    for page in range(BYTES // LARGE):
        ram.put_u64(TABLES + 0x2000 + 8 * page, HIGH_MEMORY + page * LARGE | PRESENT)
    # CR4.PAE, CR3, EFER.NXE, CR0.PG and WP; hlt
    tables = struct.pack("<I", TABLES).hex()
    source = f"0f20e0 0d20060000 0f22e0 b8{tables} 0f22d8 b9800000c0 0f32 0d00080000 0f30 0f20c0 0d00000180 0f22c0 f4"
    ram.write(BOOT, bytes.fromhex(source))
    ram.write(RETURN, b"\xf4")
    machine.cpu.eip = BOOT
    machine.run(fuel=100)


def pass_over(machine: Machine, name: str, address: int) -> tuple[float, int, int]:
    """Run a loop over the bytes at a linear address; return seconds, instructions, and the bytes that were counted."""
    cpu = machine.cpu
    if name == CHECKSUM:
        cpu.eip, cpu.eax, cpu.ecx = program_image("shell").address("crc_add"), address, BYTES
        until = program_image("shell").address("crc_added")
    else:
        at_once, code = LOOPS[name]
        machine.ram.write(BOOT, bytes.fromhex(code))
        machine.code_changed(BOOT, len(code) // 2)
        cpu.eip, cpu.ecx, until = BOOT, BYTES // at_once, RETURN
    cpu.esi, cpu.edi, cpu.ebx, cpu.esp = address, COPY, 0, STACK
    machine.ram.put_u32(STACK, RETURN)
    counted, retired = sum(machine.ledger.counts().cpu_file_bytes.values()), machine.clock.retired
    begin = time.perf_counter()
    stop = machine.run(until=until)
    spent = time.perf_counter() - begin
    if cpu.eip != until:
        raise BenchmarkError(f"the loop {name} did not come to its end: {stop}")
    return (
        spent,
        machine.clock.retired - retired,
        sum(machine.ledger.counts().cpu_file_bytes.values()) - counted,
    )


def bench_observing(name: str, rounds: int) -> dict[str, Any]:
    """Return the element of one loop: seconds over file data, and over memory that is not observed."""
    observed, plain, data = [], [], pattern(BYTES)
    with Machine(memory=MEMORY, high_memory=BYTES, counter="blocks") as machine:
        machine.counter.patience = 0
        for section in program_image("shell").sections:
            machine.ram.write(section.address, bytes(section.data))
        machine.ram.write(HIGH_MEMORY, data, Account.DEVICE)
        machine.ram.write(PLAIN, data)
        boot(machine)
        pass_over(machine, name, PLAIN)  # translates it
        for _ in range(rounds):
            spent, instructions, counted = pass_over(machine, name, FILE)
            observed.append(spent)
            without, as_many, none = pass_over(machine, name, PLAIN)
            plain.append(without)
            if (as_many, none) != (instructions, 0) or counted < BYTES:
                raise BenchmarkError(f"of {BYTES} bytes {counted} were counted, of others {none}")
    return {
        "name": f"observed-{name}",
        "n": rounds,
        "guest_instructions": instructions,
        "file_bytes_counted": counted,
        "wall_us": timing(observed, 1),
        "plain_wall_us": timing(plain, 1),
        "ratio_to_plain_memory": round(median(other / mine for mine, other in zip(observed, plain, strict=True)), 3),
    }
