"""The command language: names, help and arguments of commands, and how a line is carried out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from callgate.kernel.common.near_miss import did_you_mean
from callgate.kernel.core.errors import KernelPanic
from callgate.tools.debugger.history import HistoryInterrupted
from callgate.tools.debugger.target import NoKernel
from callgate.tools.debugger.workbench.code import number_of
from callgate.tools.debugger.workbench.failure import CommandError
from callgate.tools.debugger.workbench.workbench import Workbench

if TYPE_CHECKING:
    from callgate.tools.debugger.workbench.stops import Stopping

Say = Callable[[str], None]


@dataclass(slots=True)
class Taking:
    """The lines that are being given to a stop, as its commands."""

    stopping: Stopping
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Desk:
    """What a command gets: the system under the debugger, and where its lines go."""

    bench: Workbench
    say: Say
    before: dict[str, int] | None = None  # registers as they were when they were last shown
    ended: bool = False
    scope: dict[str, object] = field(default_factory=dict)  # names that `py` has set
    displays: list[str] = field(default_factory=list)  # expressions that are shown wherever the system stops
    taking: Taking | None = None  # the lines that are being given to a stop: up to `end` none is carried out
    due: Stopping | None = None  # the stop that has ended the last run, if it has commands
    progress: Callable[[float], None] = lambda _share: None  # told how much of a query is done, from 0 to 1

    def show(self, lines: Iterable[str]) -> None:
        """Say lines."""
        for line in lines:
            self.say(line)


Action = Callable[[Desk, str], None]


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its names (the first is the one that help shows), its arguments, and what it does in a line."""

    names: tuple[str, ...]
    arguments: str
    purpose: str
    action: Action
    examples: tuple[str, ...] = ()
    repeats: bool = False  # an empty line does it again


TEXT_AFTER: Final = ("py", "type")  # commands after which anything may stand
FORMATTED: Final = re.compile(r"^(x|xp|p|print)\s*/\s*")
REGISTER: Final = re.compile(r"\$([a-z]\w*)")  # as gdb has it: $eax, $pc
GDB_NAMES: Final = {"pc": "eip", "sp": "esp", "fp": "ebp"}
ORDER: Final = ("language", "moving", "stopping", "at_stops", "showing", "frames", "looking", "asking")
"""Modules, as help lists their commands."""
HELP_COLUMN: Final = 24  # where purposes begin
HELP_WIDTH: Final = 79
COMMANDS: Final[list[Command]] = []


def command(
    names: str, arguments: str, purpose: str, *, examples: tuple[str, ...] = (), repeats: bool = False
) -> Callable[[Action], Action]:
    """Make a function a command: `names` are separated by `|`; several words are one name."""

    def made(action: Action) -> Action:
        COMMANDS.append(Command(tuple(names.split("|")), arguments, purpose, action, examples, repeats))
        return action

    return made


def ordered() -> list[Command]:
    """Return the commands in the order of ORDER, whichever module was imported first."""

    def place(entry: Command) -> int:
        module = entry.action.__module__.rpartition(".")[2]
        return ORDER.index(module) if module in ORDER else len(ORDER)

    return sorted(COMMANDS, key=place)


def by_name() -> dict[str, Command]:
    """Return the commands by each of their names."""
    return {name: entry for entry in ordered() for name in entry.names}


def spelt_out(line: str) -> str:
    """Return a line without gdb's short forms: `x/8w`, `p/x eax`, `i r`, and `p eax` beside Bochs's `p 3`, a step."""
    line = FORMATTED.sub(r"\1 /", line)
    word, _, rest = line.partition(" ")
    if word == "i" and rest:
        return f"info {rest}"
    return f"print {rest}" if word == "p" and rest and number_of(rest.strip()) is None else line


def find(line: str) -> tuple[Command, str]:
    """Return a line's command and the rest of the line; CommandError for an unknown one.

    The longest name wins: `back step` before `back`.
    """
    known = by_name()
    line = spelt_out(line)
    words = line.split()
    for count in range(min(3, len(words)), 0, -1):
        name = " ".join(words[:count])
        if name in known:
            misspelt = did_you_mean(
                " ".join(words[: count + 1]), [other for other in known if other.startswith(f"{name} ")]
            )
            if misspelt and len(words) == count + 1 and number_of(words[count]) is None:
                raise CommandError(f"no command {line!r}; {misspelt}")
            rest = line.split(None, count)
            return known[name], rest[count].strip() if len(rest) > count else ""
    longer = [name for name in known if name.startswith(f"{words[0]} ")]
    if longer:
        raise CommandError(f"{words[0]} needs another word: {', '.join(longer)}")
    hint = did_you_mean(words[0], known) or "try: help"
    raise CommandError(f"no command {words[0]!r}; {hint}")


def carry_out(desk: Desk, line: str) -> Command:
    """Carry a line out; CommandError."""
    entry, rest = find(line)
    if entry.names[0] not in TEXT_AFTER:
        rest = REGISTER.sub(lambda found: GDB_NAMES.get(found[1], found[1]), rest)
    perform(desk, entry, rest)
    return entry


def perform(desk: Desk, entry: Command, rest: str) -> None:
    """Carry a command out; CommandError.  If Ctrl-C ends a way through the past, all of the command is undone."""
    history = desk.bench.history
    origin = history.moment
    try:
        with desk.bench.following():
            entry.action(desk, rest)
    except HistoryInterrupted:
        if history.moment != origin:
            history.come_back(origin)
        raise CommandError("interrupted; the system stands where it stood") from None
    except NoKernel as error:
        raise CommandError(str(error)) from None
    except KernelPanic as panic:
        raise CommandError(f"the kernel has panicked: {panic}") from None


def count_in(text: str, default: int = 1) -> int:
    """Return a count that is the only argument; CommandError."""
    if not text:
        return default
    number = number_of(text)
    if number is None or number < 1:
        raise CommandError(f"{text!r} is not a count: give a number from 1 on")
    return number


def conditional(text: str) -> tuple[str, str | None]:
    """Return the parts of `PLACE [if CONDITION]`; CommandError for an `if` without a condition."""
    place, given, condition = f"{text} ".partition(" if ")
    if given and not condition.strip():
        raise CommandError(f"{place} if what? a condition: {place} if thread == 12")
    return place.strip(), condition.strip() or None


def words_in(text: str) -> list[str]:
    """Return words, those in quotes whole; CommandError for a quote that is not closed."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise CommandError(f"{text}: {error}") from None


@command("help|h|?", "[COMMAND]", "the commands, or one of them with examples")
def help_(desk: Desk, rest: str) -> None:
    """Say what there is."""
    if rest == "expressions":
        desk.show(EXPRESSIONS)
        return
    longer = [entry for entry in ordered() if any(name.startswith(f"{rest} ") for name in entry.names)] if rest else []
    if longer and rest not in by_name():
        for entry in longer:
            desk.show(help_rows(f"{entry.names[0]} {entry.arguments}".rstrip(), entry.purpose))
        return
    if rest:
        entry, _ = find(rest)
        desk.say(f"{' | '.join(entry.names)}  {entry.arguments}".rstrip())
        desk.show(wrap(entry.purpose, HELP_WIDTH, initial_indent="  ", subsequent_indent="  "))
        desk.show(f"  example: {example}" for example in entry.examples)
        return
    for entry in ordered():
        desk.show(help_rows(f"{entry.names[0]} {entry.arguments}".rstrip(), entry.purpose))
    desk.say("An empty line does the last step or run again.  help COMMAND says more, and")
    desk.say("help expressions says what may stand where a value is wanted.")


def help_rows(head: str, purpose: str) -> list[str]:
    """Return a command with its purpose beside it, or below it where there is no room."""
    beside = len(head) <= HELP_COLUMN - 2
    rows = wrap(purpose, HELP_WIDTH, initial_indent=" " * HELP_COLUMN, subsequent_indent=" " * HELP_COLUMN)
    return (
        [head + rows[0][len(head) :], *rows[1:]]
        if beside
        else [*wrap(head, HELP_WIDTH, subsequent_indent="    "), *rows]
    )


EXPRESSIONS: Final = (
    "registers      eax … edi, eip, eflags, cs … gs, cr0 … cr4, cpl",
    "memory         [ADDRESS] is a dword; byte[…], word[…], qword[…]",
    "the request    op, message.eax, message.error, request.state, slot[5].client: of the running thread",
    "endpoints      endpoint[d0p1].free, endpoint[1].state[5]; slot == 0, endpoint == 1: the request's",
    "labels         [kernel_words], take_slot.retry: of the kernel and of the running program",
    "the run        clock, retired, thread, process",
    "at an event    its fields: slot, type, call, vector, …",
    "numbers        12, 0x0c, and names of the ABI: OPEN, NOT_FOUND, free_space",
    "operators      + - * // % & | ^ ~ << >>   == != < <= > >=   and or not",
)
