"""A machine's present state as a core file that gdb opens (System V gABI, and the notes of Linux for i386)."""

import struct

from callgate.kernel.machine import Machine
from callgate.kernel.machine.cpu.paging import PageFault

PAGE = 4096
REGISTERS = (
    "ebx",
    "ecx",
    "edx",
    "esi",
    "edi",
    "ebp",
    "eax",
    "ds",
    "es",
    "fs",
    "gs",
    "",
    "eip",
    "cs",
    "eflags",
    "esp",
    "ss",
)
HEADER, PROGRAM_HEADER = 52, 32
STATUS_HEAD = 72  # bytes of struct elf_prstatus before the registers
ET_CORE, EM_386, PT_LOAD, PT_NOTE, NT_PRSTATUS = 4, 3, 1, 4, 1


def core_file(machine: Machine, ranges: list[range]) -> bytes:
    """Return registers, and those pages of the ranges of linear addresses that are mapped."""
    pages: dict[int, bytes] = {}
    for wanted in ranges:
        for address in range(wanted.start & -PAGE, wanted.stop, PAGE):
            try:
                pages[address] = machine.read(address, PAGE)
            except PageFault:
                continue
    values = [getattr(machine.cpu, name) if name else 0xFFFF_FFFF for name in REGISTERS]
    status = bytes(STATUS_HEAD) + struct.pack("<17I", *values) + bytes(4)
    note = struct.pack("<III", 5, len(status), NT_PRSTATUS) + b"CORE\0\0\0\0" + status
    start = HEADER + PROGRAM_HEADER * (len(pages) + 1)
    headers = struct.pack("<8I", PT_NOTE, start, 0, 0, len(note), 0, 0, 4)
    body = note + bytes(-(start + len(note)) % PAGE)
    for address, data in sorted(pages.items()):
        headers += struct.pack("<8I", PT_LOAD, start + len(body), address, 0, PAGE, PAGE, 6, PAGE)
        body += data
    identity = b"\x7fELF\1\1\1".ljust(16, b"\0")
    header = struct.pack(
        "<16sHHIIIIIHHHHHH",
        *(identity, ET_CORE, EM_386, 1, 0, HEADER, 0, 0, HEADER, PROGRAM_HEADER, len(pages) + 1, 0, 0, 0),
    )
    return header + headers + body
