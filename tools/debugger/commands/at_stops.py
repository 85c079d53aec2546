"""Lines that are carried out after a stop has ended a run: `commands N`, up to `end`."""

from __future__ import annotations

from typing import Final

from callgate.tools.debugger.commands.language import Action, Desk, Taking, command, find
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.failure import CommandError

END: Final = "end"
SILENT: Final = "silent"
MOST: Final = 1000  # lines of a stop


def take(desk: Desk, text: str) -> None:
    """Take a line for a stop, which gets them by `end`; CommandError if it cannot be one."""
    taking = desk.taking
    assert taking is not None
    if text == END:
        taking.stopping.commands, desk.taking = tuple(taking.lines), None
        return
    if text == SILENT and taking.lines:
        raise CommandError("silent is the first line of a stop's commands, or none")
    entry, _ = find(text)
    if entry.names[0] == "commands":
        raise CommandError("commands of a stop cannot give commands to one")
    if len(taking.lines) == MOST:
        raise CommandError(f"a stop has at most {MOST:,} lines; end ends them")
    taking.lines.append(text)


def complete(desk: Desk) -> None:
    """The last line has come: CommandError if the lines of a stop have no `end`; they are forgotten."""
    taking, desk.taking = desk.taking, None
    if taking is not None:
        number = taking.stopping.number
        raise CommandError(f"commands {number}: `end` is missing after them; the stop has got none of them")


@command(
    "commands",
    "[N]",
    "carry out the lines that follow, up to `end`, when a stop has ended a run; without N the one that was set last",
    examples=("commands 1", "silent", "print message.eax", "continue", "end"),
)
def commands(desk: Desk, rest: str) -> None:
    """Begin to take lines for a stop."""
    known = desk.bench.stops.known
    if not rest and not known:
        raise CommandError("commands for which stop? none is set")
    number = number_of(rest) if rest else max(known)
    if number is None:
        raise CommandError("commands [N]: the number of a stop; info break lists them")
    desk.taking = Taking(desk.bench.stops.numbered(number))


def _refused(why: str) -> Action:
    """Return what a word does that means something among a stop's commands only."""

    def refuse(_desk: Desk, _rest: str) -> None:
        raise CommandError(f"{why}: help commands")

    return refuse


command(SILENT, "", "as the first line of a stop's commands: where it has ended a run is not said")(
    _refused("silent is the first line of a stop's commands")
)
command(END, "", "end the lines of a stop's commands")(
    _refused("end ends the lines of `commands N`, and none are being given")
)
