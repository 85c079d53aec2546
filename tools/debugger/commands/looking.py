"""Commands that look at the machine, by the words of Bochs's debugger, and gdb's for symbols, lines and displays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from callgate.kernel.abi.memory import PTE_USER, PTE_WRITABLE
from callgate.kernel.machine.cpu.descriptors import Segment
from callgate.kernel.machine.cpu.paging import ADDRESS, NX, PageFault
from callgate.kernel.machine.memory.bus import DmaError
from callgate.tools.debugger.commands import views
from callgate.tools.debugger.commands.arguments import numbers_in, place_of
from callgate.tools.debugger.commands.language import Desk, command, count_in
from callgate.tools.debugger.commands.moving import displayed, nothing
from callgate.tools.debugger.debuggee.mappings import mappings
from callgate.tools.debugger.debuggee.registers import CR0, CR4, EFER
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.expressions import Expression
from callgate.tools.debugger.workbench.failure import CommandError

CONTROL: Final = {"cr0": CR0, "cr2": {}, "cr3": {}, "cr4": CR4, "efer": EFER}
WORD_SIZE: Final = 4
MOST_DWORDS: Final = 1024


# Registers.


@command("creg|info creg", "", "the control registers and EFER, with the names of the bits that are set")
def control_registers(desk: Desk, rest: str) -> None:
    """Show control registers."""
    nothing(rest)
    for name, bits in CONTROL.items():
        value = int(getattr(desk.bench.machine.cpu, name))
        names = " ".join(flag for flag, bit in sorted(bits.items(), key=lambda pair: -pair[1]) if value >> bit & 1)
        desk.say(f"{name:<4} {value:08x}  {names}".rstrip())


@command("sreg|info sreg", "", "the segment registers with their bases, and the tables with base and limit")
def segment_registers(desk: Desk, rest: str) -> None:
    """Show segment registers."""
    nothing(rest)
    cpu = desk.bench.machine.cpu
    for name in ("cs", "ss", "ds", "es", "fs", "gs"):
        desk.say(f"{name:<4} {getattr(cpu, name):04x}  base {cpu.segment_base(name):08x}")
    for name in ("gdtr", "idtr", "ldtr", "tr"):
        base, limit = cpu.table(name)
        desk.say(f"{name:<4}       base {base:08x}  limit {limit:08x}")


@command("info eflags|info flags", "", "EFLAGS: those that are set are capitals")
def flags(desk: Desk, rest: str) -> None:
    """Show flags."""
    nothing(rest)
    desk.say(views.registers(desk.bench, None)[-1])


@command("ptime", "", "instructions that have retired, and virtual time in nanoseconds")
def time(desk: Desk, rest: str) -> None:
    """Show the time."""
    nothing(rest)
    clock = desk.bench.machine.clock
    desk.say(f"{clock.retired:,} instructions, {clock.now:,} ns")


# Memory.


@command("xp", "[/NF] ADDRESS", "numbers of physical memory, as x shows linear memory", examples=("xp/4w 0x278000",))
def examine_physical(desk: Desk, rest: str) -> None:
    """Show physical memory."""
    count, size, text, letter = numbers_in(rest, "xp/16b 0x1000")
    address = desk.bench.meanings.value(Expression(text))
    if not isinstance(address, int) or address < 0:
        raise CommandError(f"{text} is not an address")
    data = desk.bench.debuggee.memory.read_physical(address, count * size)
    if not data:
        raise CommandError(f"{address:#x}: no memory has this physical address")
    desk.show(views.numbers(desk.bench, data, address, size, letter))


@command("print-stack", "[N]", "N dwords from ESP on, 16 if not given, with the symbols that they are addresses of")
def stack(desk: Desk, rest: str) -> None:
    """Show the stack."""
    bench, count = desk.bench, count_in(rest, 16)
    if count > MOST_DWORDS:
        raise CommandError(f"at most {MOST_DWORDS} dwords are shown at once: x/{count}w esp shows more")
    process, esp = bench.debuggee.threads.running().process, bench.machine.cpu.esp
    data = bench.debuggee.memory.read(process, esp, count * WORD_SIZE)
    if not data:
        raise CommandError(f"{esp:#010x}: no memory is mapped there")
    for at in range(0, len(data) - len(data) % WORD_SIZE, WORD_SIZE):
        value = int.from_bytes(data[at : at + WORD_SIZE], "little")
        symbol = bench.code.symbol(value, process)
        desk.say(f"{esp + at:08x}  {value:08x}{f'  <{symbol}>' if symbol else ''}")


@command("info tab", "", "all that the page tables map: linear and physical addresses, and rights")
def table(desk: Desk, rest: str) -> None:
    """Show what is mapped."""
    nothing(rest)
    why = views.untranslated(desk.bench)
    if why is not None:
        raise CommandError(f"{why}: linear addresses are taken for physical ones")
    desk.show(runs(desk))


def runs(desk: Desk) -> Iterator[str]:
    """Yield the stretches that lie together in both and have the same rights."""
    machine = desk.bench.machine
    begin = end = physical = 0
    rights = ""
    for linear, entry, size, _ in mappings(machine, machine.cpu.cr3):
        here, now = entry & ADDRESS & -size, rights_of(entry)
        if (linear, here, now) != (end, physical + end - begin, rights):
            if end:
                yield run(begin, end, physical, rights)
            begin, physical, rights = linear, here, now
        end = linear + size
    if end:
        yield run(begin, end, physical, rights)


def rights_of(entry: int) -> str:
    """Return the rights that an entry gives, in letters."""
    letters = ((PTE_USER, "u", "-"), (PTE_WRITABLE, "w", "-"), (NX, "-", "x"))
    return "r" + "".join(yes if entry & bit else no for bit, yes, no in letters)


def run(begin: int, end: int, physical: int, rights: str) -> str:
    """Return a stretch as a line."""
    return f"{begin:08x}-{end - 1:08x} -> {physical:09x}-{physical + end - begin - 1:09x}  {rights}"


# Stops at addresses.


@command("lb", "ADDRESS", "stop before the instruction at a linear address", examples=("lb 0xc01016a5",))
def linear_break(desk: Desk, rest: str) -> None:
    """Add a stop."""
    address = number_of(rest)
    if address is None:
        raise CommandError("lb ADDRESS: a number; break takes symbols, lines and events")
    _stop_at(desk, address)


@command(
    "vb", "SELECTOR:OFFSET", "stop before the instruction at an address of a segment", examples=("vb 0x1b:0x400000",)
)
def virtual_break(desk: Desk, rest: str) -> None:
    """Add a stop."""
    left, _, right = rest.partition(":")
    selector, offset = number_of(left.strip()), number_of(right.strip())
    if selector is None or offset is None:
        raise CommandError("vb SELECTOR:OFFSET, as vb 0x1b:0x400000")
    known = desk.bench.machine.descriptors
    try:
        entries = dict(known.ldt() if selector & 4 else known.gdt())
    except (PageFault, DmaError):
        raise CommandError("the descriptor table lies where no memory is mapped") from None
    segment = entries.get(selector & ~3) or entries.get(selector & ~7)
    if not isinstance(segment, Segment):
        raise CommandError(f"{selector:#x} is no selector of a segment; gdt and ldt list them")
    _stop_at(desk, segment.base + offset & 0xFFFF_FFFF)


def _stop_at(desk: Desk, address: int) -> None:
    stopping = desk.bench.stops.add_address(address, desk.bench.debuggee.threads.running().process)
    desk.say(f"stop {stopping.number} set: {stopping.text}")


# Symbols and lines.


@command("info symbol", "ADDRESS", "the symbol of an address, with the distance from it", examples=("info symbol eip",))
def symbol(desk: Desk, rest: str) -> None:
    """Show a symbol."""
    if not rest:
        raise CommandError("info symbol of which address? info symbol eip")
    address = place_of(desk, rest)
    found = desk.bench.code.symbol(address, desk.bench.debuggee.threads.running().process)
    if not found:
        raise CommandError(f"{address:#010x}: no symbol is known there")
    desk.say(f"{address:#010x} is {found}")


@command(
    "info line", "[PLACE]", "the source line of a place, of EIP if none is named", examples=("info line take_slot",)
)
def line(desk: Desk, rest: str) -> None:
    """Show a line."""
    bench = desk.bench
    address = place_of(desk, rest) if rest else bench.machine.cpu.eip
    found = bench.code.line(address, bench.debuggee.threads.running().process)
    if found is None:
        raise CommandError(f"{address:#010x}: no source line is known there")
    desk.say(f"{bench.code.source_name(found)}: {found.text.strip()}")


# What is shown at each stop.


@command(
    "display", "[EXPRESSION]", "show the value of an expression wherever the system stops; without one, all of them"
)
def display(desk: Desk, rest: str) -> None:
    """Add an expression."""
    if rest:
        Expression(rest)
        desk.displays.append(rest)
    if not desk.displays:
        raise CommandError("display what? display message.eax")
    desk.show(displayed(desk))


@command("undisplay", "[N …]", "show expressions no longer, all of them if none is named")
def undisplay(desk: Desk, rest: str) -> None:
    """Remove expressions."""
    numbers = {number_of(word) for word in rest.split()}
    there = set(range(1, len(desk.displays) + 1))
    if not numbers <= there:
        raise CommandError(f"{rest!r}: give the numbers that display shows; there are {len(there)}")
    desk.displays[:] = [text for number, text in enumerate(desk.displays, 1) if numbers and number not in numbers]
