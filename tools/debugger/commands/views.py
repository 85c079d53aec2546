"""What the debugger shows, as lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.kernel.abi.memory import PTE_PRESENT, PTE_USER, PTE_WRITABLE
from callgate.kernel.core.records import EndpointState
from callgate.kernel.machine.cpu.descriptors import Gate, Segment
from callgate.kernel.machine.cpu.paging import CR0_PG, PageFault
from callgate.kernel.machine.cpu.setting import SETTABLE
from callgate.kernel.machine.memory.bus import DmaError
from callgate.kernel.programs.kernel_labels import TASK_STATE
from callgate.kernel.watching.requests import REGISTERS, SlotView
from callgate.tools.debugger.commands import formats
from callgate.tools.debugger.debuggee.frames import MOST as MOST_FRAMES
from callgate.tools.debugger.workbench import looks
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench

if TYPE_CHECKING:
    from callgate.kernel.core.records import Process

GATES: Final = {0xC: "call gate", 0xE: "interrupt gate", 0xF: "trap gate", 0x5: "task gate"}
SYSTEM: Final = {0x2: "LDT", 0x9: "TSS, available", 0xB: "TSS, busy"}
CHANGEABLE: Final = SETTABLE
LEVELS: Final = ("PDPTE", "PDE", "PTE")
ENTRY_BITS: Final = {
    PTE_PRESENT: "present",
    PTE_WRITABLE: "writable",
    PTE_USER: "user",
    1 << 5: "accessed",
    1 << 6: "dirty",
    1 << 7: "large",
    1 << 63: "no-execute",
}


def where(bench: Workbench) -> list[str]:
    """Return where the system stands: the position, the thread, the next instruction, its source line."""
    thread = bench.debuggee.threads.running()
    position = bench.machine.position
    past = ", in the past" if bench.history.in_past else ""
    lines = [f"{position}{past}: thread {thread.number} {thread.name!r}, ring {bench.machine.cpu.cpl}"]
    instruction = bench.code.current()
    address = bench.machine.cpu.eip
    lines.append(f"  {bench.code.name(address)}  {instruction or '(cannot be fetched)'}")
    source = bench.code.line(address, thread.process)
    if source is not None:
        lines.append(f"  {bench.code.source_name(source)}: {source.text.strip()}")
    return lines


def registers(bench: Workbench, before: dict[str, int] | None) -> list[str]:
    """Return the registers, a * at those that have changed since `before`."""
    look = looks.registers(bench, before)
    cells = [
        f"{register.name:>3} {register.value:08x}{'*' if register.changed else ' '}" for register in look.registers
    ]
    ladder = " ".join(flag.name if flag.set else flag.name.lower() for flag in look.flags)
    rows = ["  ".join(cells[index : index + 4]).rstrip() for index in range(0, len(cells), 4)]
    return [*rows, f"eflags {look.eflags.value:08x}  {ladder}  IOPL={look.iopl}  CPL={look.cpl}"]


def disassembly(bench: Workbench, place: tuple[int, Process | None], count: int, most: int) -> list[str]:
    """Return instructions from a linear address on, with symbols; => is the next one, * has a breakpoint.

    The address is one of the process, None for the running one.

    If there are fewer than `count`, or than `most`, the last line says why.
    """
    address, process = place
    rows = looks.disassembly(bench, address, min(count, most), process)
    if not rows:
        raise CommandError(f"{address:#010x}: no instruction can be read there")
    marks = [f"{'=>' if row.current else '  '}{'*' if row.point else ' '}" for row in rows]
    places = [f"{row.label} <{row.symbol}>" if row.symbol else row.label for row in rows]
    lines = [f"{mark}{place}  {row.text}" for mark, place, row in zip(marks, places, rows, strict=True)]
    if len(rows) < min(count, most):
        return [*lines, f"after {rows[-1].label} no instruction can be read"]
    if count > most:
        return [
            *lines,
            f"{most:,} instructions are shown at once; go on with: disassemble {rows[-1].label} {count - most + 1}",
        ]
    return lines


def source(bench: Workbench, address: int, around: int, process: Process | None = None) -> list[str]:
    """Return source lines around the one of an address, of a process, or else of the running one; CommandError."""
    name, rows, here = looks.source_at(bench, address, process)
    if not rows:
        raise CommandError(f"{bench.code.name(address)}: no source is known")
    shown = rows[max(here - around, 0) : here + around + 1]
    lines = [
        f"{'=>' if row.current else '  '}{'*' if row.point else ' '}{row.label} {row.text}".rstrip() for row in shown
    ]
    return [f"{name}:{rows[here].label.strip()}", *lines]


def memory(
    bench: Workbench, address: int, count: int, size: int, letter: str = "", process: Process | None = None
) -> list[str]:
    """Return `count` numbers of `size` bytes from a linear address on, 16 bytes a line, in one of gdb's formats.

    The memory is that of a process, by default the running one.
    """
    process = process or bench.debuggee.threads.running().process
    data = bench.debuggee.memory.read(process, address, count * size)
    if not data:
        raise CommandError(f"{address:#010x}: no memory is mapped there")
    lines = numbers(bench, data, address, size, letter)
    if len(data) < count * size:
        lines.append(f"{address + len(data):08x}  not mapped")
    return lines


def numbers(bench: Workbench, data: bytes, address: int, size: int, letter: str) -> list[str]:
    """Return bytes as numbers of `size` bytes: in one of gdb's formats, or as a dump in hexadecimal with characters."""
    if letter in ("", "x"):
        return dump(data, address, size)
    return list(formats.rows(bench, data, address, size, letter))


def dump(data: bytes, address: int, size: int) -> list[str]:
    """Return bytes as numbers of `size` bytes, 16 bytes a line, with the address of each line."""
    lines = []
    for offset in range(0, len(data), 16):
        row = data[offset : offset + 16]
        numbers = [row[at : at + size] for at in range(0, len(row), size)]
        shown = " ".join(f"{int.from_bytes(number, 'little'):0{2 * size}x}" for number in numbers)
        text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        lines.append(f"{address + offset:08x}  {shown:<{(2 * size + 1) * 16 // size}} {text}")
    return lines


def backtrace(bench: Workbench, number: int | None) -> list[str]:
    """Return the frames of a thread, the running one's if no number is given; CommandError."""
    try:
        found = looks.backtrace(bench, number)
    except LookupError as error:
        raise CommandError(str(error)) from None
    lines = [
        f"#{index:<2} {frame.eip:#010x}{f' <{frame.symbol}>' if frame.symbol else ''}"
        f"{f'  {frame.source}' if frame.source else ''}"
        for index, frame in enumerate(found)
    ]
    if len(found) >= MOST_FRAMES:
        lines.append(f"{MOST_FRAMES} frames are looked for; there may be more")
    return lines


def threads(bench: Workbench) -> list[str]:
    """Return the threads, with their states in words and where they stand."""
    return [
        f"{'=>' if look.running else '  '} {look.number:>3} {look.name:<16} process {look.process:<3} "
        f"{look.state:<24} {look.place}"
        for look in looks.threads(bench)
    ]


def endpoint(bench: Workbench, state: EndpointState) -> list[str]:
    """Return an endpoint: masks as bits, the ring, and the slots that are in use."""
    look = looks.endpoint(bench, state)
    block = look.block
    queue = f", waiting: slot {' '.join(map(str, look.queue))}" if look.queue else ", empty"
    lines = [
        f"endpoint {look.number} {look.name}, {look.file_system or 'no file system'}",
        f"  slots  {look.letters}  {looks.LEGEND}",
        f"  ring   head {block.head} tail {block.tail}{queue}",
        f"  idle servers {block.idle:#x}, threads that wait for a slot {block.slot_waiters}",
    ]
    return lines + [f"  {slot!r}" for slot in look.busy]


def request(slot: SlotView) -> list[str]:
    """Return a request: whose it is, and its message page decoded."""
    lines = [repr(slot)]
    message = slot.message
    if message is None:
        return lines
    error = getattr(message.error, "name", f"{message.error:#x}")
    lines.append(f"  operation {slot.operation}, flags {int(message.flags):#x}, count {message.count}, error {error}")
    lines.append("  " + "  ".join(f"{name} {getattr(message, name):08x}" for name in REGISTERS))
    reply = getattr(message.reply, "name", f"{message.reply:#x}") if message.reply else "not yet"
    lines.append(f"  reply {reply}, handle {message.handle:#x}, eflags {message.eflags:08x}")
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in message.data[:32])
    lines.append(f"  data {message.data[:16].hex(' ')}  {text}")
    return lines


def untranslated(bench: Workbench) -> str | None:
    """Return why linear addresses are looked at as physical ones; None if page tables translate them."""
    if bench.machine.paging.mode().paging:
        return None
    if bench.machine.cpu.cr0 & CR0_PG:
        return "paging is on without PAE, and tables of 32-bit entries are not walked"
    return "paging is off"


def walk(bench: Workbench, address: int) -> list[str]:
    """Return the page walk of a linear address, entry by entry."""
    why = untranslated(bench)
    if why is not None:
        return [f"{address:#010x}: {why}: taken for physical {address:#x}"]
    found = bench.machine.paging.walk(address)
    lines = []
    for level, (place, entry) in zip(LEVELS, found.entries, strict=False):
        bits = ", ".join(name for bit, name in ENTRY_BITS.items() if entry & bit)
        lines.append(f"{level:<5} at {place:#x}: {entry:#018x}  {bits or 'not present'}")
    if found.physical is None:
        return [*lines, f"{address:#010x} is not mapped"]
    rights = [
        "user" if found.user else "kernel only",
        "writable" if found.writable else "read-only",
        "executable" if found.executable else "not executable",
    ]
    return [*lines, f"{address:#010x} is physical {found.physical:#x}: {', '.join(rights)}"]


def descriptors(bench: Workbench, table: str) -> list[str]:
    """Return the entries of `gdt`, `ldt`, `idt`, or the fields of `tss`."""
    known = bench.machine.descriptors
    if table == "tss":
        return task_state(bench)
    entries = {"gdt": known.gdt, "ldt": known.ldt, "idt": known.idt}[table]()
    try:
        return [f"{number:#06x}  {in_words(entry)}" for number, entry in entries] or [f"the {table.upper()} is empty"]
    except (PageFault, DmaError):
        raise CommandError(f"the {table.upper()} lies where no memory is mapped") from None


def task_state(bench: Workbench) -> list[str]:
    """Return the kernel's TSS, which is there before TR has been loaded, or the one that TR names; CommandError."""
    base, limit = bench.machine.cpu.table("tr")
    has_kernel = bench.debuggee.target.has_kernel
    if not has_kernel and not (base and limit):
        raise CommandError("no TSS: TR has not been loaded")
    try:
        return bench.machine.structure("TaskState", TASK_STATE if has_kernel else base).lines()
    except (PageFault, DmaError):
        raise CommandError("the TSS lies where no memory is mapped") from None


def in_words(entry: Segment | Gate) -> str:
    """Return a descriptor in words (SDM vol. 3, 3.4.5 and 3.5)."""
    present = "" if entry.present else ", not present"
    if isinstance(entry, Gate):
        kind = GATES.get(entry.type, f"gate of type {entry.type}")
        return f"{kind} to {entry.selector:#06x}:{entry.offset:#010x}, DPL {entry.dpl}{present}"
    kind = SYSTEM.get(entry.type, f"system segment of type {entry.type}")
    if entry.type & 0x10:
        kind = "code" if entry.type & 8 else "data"
        kind += {(8, 2): ", readable", (0, 2): ", writable"}.get((entry.type & 8, entry.type & 2), "")
    return f"{kind}, base {entry.base:#010x}, limit {entry.limit:#x}, DPL {entry.dpl}{present}"


def symbol_or_number(bench: Workbench, value: object) -> str:
    """Return a value for people: hex and decimal, the name of a member, the lines of a structure, a symbol."""
    if isinstance(value, bool) or not isinstance(value, int):
        return repr(value)
    text = f"{value:#x} = {value}" if value >= 0 else str(value)
    name = getattr(value, "name", None)
    if name:
        return f"{name} = {text}"
    named = bench.code.name(value) if 0 <= value < 1 << 32 and bench.debuggee.world.shared(value) else ""
    return f"{text}  {named[11:]}".rstrip() if "<" in named else text
