"""Commands that show and change things."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from callgate.kernel.watching.requests import request_of
from callgate.tools.debugger.commands import formats, frames, views
from callgate.tools.debugger.commands.arguments import code_of, memory_at, numbers_in, place_of
from callgate.tools.debugger.commands.language import Desk, command, count_in, words_in
from callgate.tools.debugger.commands.moving import nothing
from callgate.tools.debugger.commands.scripting import python
from callgate.tools.debugger.debuggee.registers import CONTROL, DEBUG, GENERAL, SEGMENTS
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.expressions import Expression, Several
from callgate.tools.debugger.workbench.facts import endpoints_of
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.names import REGISTERS

if TYPE_CHECKING:
    from callgate.tools.debugger.why import Link

MOST_INSTRUCTIONS: Final = 1000
MOST_LINES: Final = 10_000  # around one; a larger number is an address
MOST_LINKS: Final = 64


# Looking.


@command(
    "registers|r|regs|info registers|info r|info reg",
    "[NAME …]",
    "the registers, or those that are named; * marks those that have changed since the last time",
    examples=("registers", "info registers eax esp"),
)
def registers(desk: Desk, rest: str) -> None:
    """Show registers."""
    if rest:
        for name in rest.split():
            value = desk.bench.value(Expression(name))
            if name not in REGISTERS:
                raise CommandError(f"{name} is no register; there is {', '.join(REGISTERS)}")
            desk.say(f"{name:<8} {views.symbol_or_number(desk.bench, value)}")
        return
    selected = desk.bench.selection.now()
    if selected is not None:
        desk.show(frames.registers(selected))
        return
    desk.show(views.registers(desk.bench, desk.before))
    desk.before = desk.bench.machine.cpu.registers()


@command(
    "disassemble|disas",
    "[PLACE] [N]",
    "N instructions from a place on, 10 from EIP",
    examples=("disassemble", "disassemble take_slot 20"),
)
def disassemble(desk: Desk, rest: str) -> None:
    """Show instructions."""
    words = words_in(rest)
    count = count_in(words.pop()) if len(words) == 2 else 10
    place = code_of(desk, words[0]) if words else (place_of(desk, "eip"), None)
    desk.show(views.disassembly(desk.bench, place, count, MOST_INSTRUCTIONS))


@command(
    "list|l",
    "[PLACE] [N]",
    "source lines around a place, N before and after it; 8 around the next instruction",
    examples=("list", "list take_slot", "list slots.asm:40 20"),
)
def list_(desk: Desk, rest: str) -> None:
    """Show source."""
    words = words_in(rest)
    number = number_of(words[0]) if len(words) == 1 else None
    here = not words or (number is not None and number <= MOST_LINES)
    around = count_in(words.pop(), 8) if words and (here or len(words) > 1) else 8
    selected = desk.bench.selection.now()
    standing = desk.bench.machine.cpu.eip if selected is None else selected.frame.code
    address, process = (standing, None) if here else code_of(desk, " ".join(words))
    desk.show(views.source(desk.bench, address, around, process))


@command(
    "x",
    "[/NF] ADDRESS",
    "N numbers of memory; F is b, h, w or g: 1, 2, 4 or 8 bytes, with one of gdb's letters for how they are shown: "
    "x, d, u, o, t, c, a; or i: instructions, or s: texts",
    examples=("x esp", "x/16b message.data", "x/8w 0xa0020000", "x/5i eip", "x/4db esp", "x/8a esp", "x/2s shell:line"),
)
def examine(desk: Desk, rest: str) -> None:
    """Show memory, or instructions."""
    instructions = re.fullmatch(r"/(\d*)i\s+(.+)", rest)
    if instructions is not None:
        count = count_in(instructions[1])
        desk.show(views.disassembly(desk.bench, code_of(desk, instructions[2]), count, MOST_INSTRUCTIONS))
        return
    text = re.fullmatch(r"/(\d*)s\s+(.+)", rest)
    if text is not None:
        address, process = memory_at(desk, text[2])
        desk.show(formats.texts(desk.bench, process, address, min(count_in(text[1]), MOST_INSTRUCTIONS)))
        return
    count, size, place, letter = numbers_in(rest, "x/16b esp")
    address, process = memory_at(desk, place)
    desk.show(views.memory(desk.bench, address, count, size, letter, process))


@command(
    "print|eval|calc",
    "[/F] EXPRESSION",
    "the value of an expression; F is one of gdb's letters: x, d, u, o, t, c, a",
    examples=("print eax + 4", "print message.error", "p eax", "print/t eflags"),
)
def print_(desk: Desk, rest: str) -> None:
    """Show a value."""
    if not rest:
        raise CommandError("print what? help expressions")
    letter, text = formats.format_in(rest)
    value = desk.bench.value(Expression(text))
    if letter:
        desk.say(formats.printed(desk.bench, text, value, letter))
    elif isinstance(value, Several):
        desk.show(f"{text}[{number}]  {repr(one).splitlines()[0]}" for number, one in value.each())
    else:
        desk.show(views.symbol_or_number(desk.bench, value).splitlines())


@command("threads|info threads|t|tasks", "", "the threads, with their states in words")
def threads(desk: Desk, rest: str) -> None:
    """Show threads."""
    nothing(rest)
    desk.show(views.threads(desk.bench))


@command(
    "backtrace|bt|info stack",
    "[THREAD]",
    "the calls that a thread is in, through gates and interrupts: the running thread's, if none is named",
    examples=("bt", "bt 12"),
)
def backtrace(desk: Desk, rest: str) -> None:
    """Show a stack."""
    number = number_of(rest) if rest else None
    if rest and number is None:
        raise CommandError(f"bt THREAD: the number of a thread, not {rest!r}; threads lists them")
    desk.show(views.backtrace(desk.bench, number))


@command(
    "slots|ipc",
    "[ENDPOINT]",
    "an endpoint's masks, ring and slots; all endpoints if none is named",
    examples=("slots", "slots d0p1"),
)
def slots(desk: Desk, rest: str) -> None:
    """Show endpoints."""
    debuggee = desk.bench.debuggee
    named = endpoints_of(debuggee, rest) if rest else list(debuggee.kernel.state.endpoints.by_number.values())
    for endpoint in named:
        desk.show(views.endpoint(desk.bench, endpoint))
    if not named:
        desk.say("no server takes requests yet")


@command("message|m|request", "", "the request of the running thread: its slot, and the message page decoded")
def message(desk: Desk, rest: str) -> None:
    """Show the request."""
    nothing(rest)
    kernel = desk.bench.system.kernel
    record = desk.bench.debuggee.threads.running().record
    found = None if record is None else request_of(kernel, record)
    if found is None:
        raise CommandError("the running thread has no request: it neither makes, awaits nor serves one")
    desk.show(views.request(found))


@command("walk|page", "ADDRESS", "the page tables' way to a linear address", examples=("walk 0xa0020000", "walk esp"))
def walk(desk: Desk, rest: str) -> None:
    """Show a page walk."""
    if not rest:
        raise CommandError("walk to which address? walk esp")
    desk.show(views.walk(desk.bench, place_of(desk, rest)))


for table in ("gdt", "ldt", "idt", "tss"):

    def _table(desk: Desk, rest: str, name: str = table) -> None:
        nothing(rest)
        desk.show(views.descriptors(desk.bench, name))

    command(f"{table}|info {table}", "", f"the {table.upper()}, decoded")(_table)


@command(
    "why",
    "[-c] REGISTER|PLACE",
    "what wrote a value last, and when; -c follows it back to where it comes from. `goto #N` goes to one of its rows",
    examples=("why eax", "why slot[0].client", "why -c [esp+8]", "why -c message.eax"),
)
def why(desk: Desk, rest: str) -> None:
    """Say where a value comes from."""
    option, _, followed = rest.partition(" ")
    text, most = (followed.strip(), MOST_LINKS) if option == "-c" else (rest, 1)
    shown: list[Link] = []
    for link in desk.bench.why(text, most):
        shown.append(link)
        desk.bench.found = {number: known.moment for number, known in enumerate(shown, 1)}
        desk.show(f"#{len(shown)} {link}".splitlines())
    if len(shown) == MOST_LINKS and shown[-1].source is not None:
        last = shown[-1]
        place = f"goto {last.moment.position.retired}, why -c {last.source}"
        desk.say(f"{MOST_LINKS} links are shown at once; go on with: {place}")


# Changing.


@command(
    "set",
    "REGISTER = VALUE | [ADDRESS] = VALUE",
    "change a register or memory; in the past that begins a run of its own",
    examples=("set eax = 5", "set fs = 0x238", "set [esp] = 0", "set byte[0x401000] = 0x90"),
)
def set_(desk: Desk, rest: str) -> None:
    """Change something."""
    frames.innermost(desk)
    target, equals, value_text = rest.removeprefix("var ").partition("=")  # gdb: set var $eax = 5
    if not equals:
        raise CommandError("set what to what? set eax = 5, set [esp] = 0x10")
    bench = desk.bench
    value = bench.meanings.number(Expression(value_text))
    name = target.strip()
    if name in views.CHANGEABLE:
        if name in (*GENERAL, *SEGMENTS, *CONTROL, *DEBUG):
            check_fits(value, 32, name)
        try:
            bench.debuggee.registers.set(bench.debuggee.threads.running(), name, value)
        except ValueError as error:
            raise CommandError(str(error)) from None
        return
    if name in REGISTERS:
        raise CommandError(f"{name} cannot be changed by hand")
    address, size = bench.meanings.place(Expression(name))
    check_fits(value, 8 * size, name)
    process = bench.debuggee.threads.running().process
    data = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    pieces = list(bench.debuggee.memory.pieces(process, address, size))
    if sum(piece for _, _, piece in pieces) != size:
        raise CommandError(f"{address:#010x}: no memory is mapped there")
    for linear, physical, length in pieces:
        bench.machine.write_physical(physical, data[linear - address : linear - address + length])
    bench.machine.flush_tlb()  # it may have been a page table


def check_fits(value: int, bits: int, name: str) -> None:
    """CommandError for a number, signed or not, that has more bits than that."""
    if not -(1 << bits - 1) <= value < 1 << bits:
        raise CommandError(f"{value:#x} does not fit: {name} has {bits} bits")


@command("type", "TEXT", "send a line to the guest's console, as if it had been typed", examples=("type ls -l",))
def type_(desk: Desk, rest: str) -> None:
    """Type a line."""
    desk.bench.machine.serial.feed(as_typed(rest))


def as_typed(line: str) -> bytes:
    """Return the bytes that a terminal sends for a line."""
    return line.encode("utf-8", "surrogateescape") + b"\n"


@command(
    "py|python|pi",
    "EXPRESSION|STATEMENT",
    "Python, with machine, system, history, bench, debuggee and kernel; names that are set stay",
    examples=("py hex(machine.cpu.eax)", "py system.slots('d0p1')[0]", "py machine.cpu.eax = 5"),
)
def py(desk: Desk, rest: str) -> None:
    """Evaluate or execute Python."""
    if not rest:
        raise CommandError("py what? py machine.cpu.eax")
    desk.show(python(desk.bench, desk.scope, rest))


@command("quit|q|exit", "", "leave the debugger")
def quit_(desk: Desk, rest: str) -> None:
    """Leave."""
    nothing(rest)
    desk.ended = True
