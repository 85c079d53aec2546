"""Commands that select a frame of the backtrace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from callgate.tools.debugger.commands import views
from callgate.tools.debugger.commands.language import Desk, command, count_in
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.selection import OF_FRAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from callgate.tools.debugger.workbench.selection import Selected

OF_FRAME: Final = "list, info registers, print and x are about it until the system moves"


@command(
    "frame|f",
    "[N]",
    f"select a frame of the backtrace by its number, or show the one that is selected: {OF_FRAME}",
    examples=("frame 4", "frame"),
)
def frame(desk: Desk, rest: str) -> None:
    """Select a frame."""
    number = number_of(rest) if rest else desk.bench.selection.index
    if number is None:
        raise CommandError("frame [N]: the number of a frame; bt lists them")
    _select(desk, number)


@command("up", "[N]", "select the frame that has called this one, N times", examples=("up", "up 2"), repeats=True)
def up(desk: Desk, rest: str) -> None:
    """Select a caller."""
    _select(desk, desk.bench.selection.index + count_in(rest))


@command("down", "[N]", "select the frame that this one has called, N times", examples=("down",), repeats=True)
def down(desk: Desk, rest: str) -> None:
    """Select a callee."""
    index, count = desk.bench.selection.index, count_in(rest)
    if count > index:
        raise CommandError(f"frame {index} is selected, and frame 0 is the innermost: bt shows them")
    _select(desk, index - count)


def _select(desk: Desk, number: int) -> None:
    bench = desk.bench
    bench.selection.choose(number)
    desk.say(views.backtrace(bench, None)[number])
    selected = bench.selection.now()
    code = bench.machine.cpu.eip if selected is None else selected.frame.code
    line = bench.code.line(code, bench.debuggee.threads.running().process)
    if line is not None:
        desk.say(f"    {line.text.strip()}")


def innermost(desk: Desk) -> None:
    """CommandError if another frame than 0 is selected: what a command means is in the registers of the CPU."""
    index = desk.bench.selection.index
    if index:
        raise CommandError(f"frame {index} is selected, and this is about frame 0: `frame 0` selects it")


def registers(selected: Selected) -> Iterator[str]:
    """Yield the registers of a frame as lines, those that are not known in words."""
    known = {name: selected.register(name) for name in OF_FRAMES}
    yield "  ".join(f"{name} {value:08x}" for name, value in known.items() if value is not None)
    unknown = [name for name, value in known.items() if value is None]
    yield f"of frame {selected.index} not known, since nothing has saved them: {', '.join([*unknown, 'eflags'])}"
