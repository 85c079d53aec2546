"""`monitor` (qRcmd): commands to the stub itself.

Those of QEMU's monitor that debuggers' scripts run are answered in QEMU's formats, so that what reads them (pwndbg,
gef, a script of one's own) works here.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING

from callgate.kernel.common.near_miss import nearest
from callgate.kernel.machine.cpu.exceptions import name_of
from callgate.kernel.machine.memory.accounts import Account
from callgate.kernel.machine.memory.bus import DmaError
from callgate.tools.debugger.debuggee import gate_calls
from callgate.tools.debugger.gdb.monitoring import qemu_views

if TYPE_CHECKING:
    from callgate.tools.debugger.debuggee import Debuggee
    from callgate.tools.debugger.debuggee.threads import DebugThread
    from callgate.tools.debugger.gdb.monitoring.terminal_commands import TerminalCommands

Command = Callable[[str, "DebugThread"], str]
EXCEPTIONS = {"de": 0, "ud": 6, "nm": 7, "ts": 10, "np": 11, "ss": 12, "gp": 13, "pf": 14, "mf": 16, "xm": 19}
CATCH = f"""catch {"|".join(EXCEPTIONS)}|all|none: stop where an exception is delivered
         catch call NAME...|all|none: stop where a gate is called, and before it goes back"""
VIEWS = ("registers", "mem", "tlb", "mtree", "pic", "cpus", "kvm", "version")  # of info, as QEMU has them
UNITS = {"b": 1, "h": 2, "w": 4, "g": 8}
MOST_KEPT = 1 << 13  # characters, of up to four bytes, that are answered in one packet
MOST_SHOWN = 1 << 16  # items of xp


class Monitor:
    """The commands: those here, then those of the terminal debugger."""

    def __init__(
        self,
        debuggee: Debuggee,
        terminal: TerminalCommands | None = None,
        say: Callable[[str], None] = print,
        wanted: Callable[[], bool] = lambda: False,
    ) -> None:
        """`say` shows a text in gdb's console while a command runs, `wanted()` is true after gdb has sent Ctrl-C."""
        self.debuggee = debuggee
        self.terminal = terminal
        self.say = say
        self.wanted = wanted
        self.commands: dict[str, tuple[str, Command]] = {
            "help": ("these commands", self._help),
            "info": ("registers, mem, tlb, mtree, pic, cpus, kvm or version, as QEMU shows them", self._info),
            "xp": ("xp/COUNT FORMAT UNIT ADDRESS: physical memory, as xp/4xw 0x8000", self._physical),
            "gva2gpa": ("gva2gpa ADDRESS: where a linear address lies", self._translate),
            "gpa2hva": ("not here: guest memory has no address that a debugger could use", self._no_host_address),
            "clock": ("retired instructions and virtual time", self._clock),
            "catch": (CATCH, self._catch),
            "calls": ("the numbers and names of the gates' calls, for catch call and QCatchSyscalls", self._calls),
            "input": ("input TEXT: type on the guest's console; \\n is the Enter key", self._input),
        }

    def run(self, line: str, thread: DebugThread) -> str:
        """Return a command's output, and for one that there is not, which is like it."""
        word, _, rest = line.strip().partition(" ")
        name = word.partition("/")[0]
        terminal = self.terminal
        known = {*self.commands, *(() if terminal is None else terminal.words())}
        if name not in known:
            return f"there is no command {name!r}; try {', '.join(nearest(name, known)) or 'help'}\n"
        try:
            if terminal is not None and self._is_terminals(name, rest):
                return self._by_terminal(terminal, line.strip())
            return self.commands[name][1](f"{word[len(name) :]} {rest}".strip(), thread)
        except (ValueError, LookupError) as error:
            return f"{name}: {error}\n"

    def _by_terminal(self, terminal: TerminalCommands, line: str) -> str:
        """Carry out a command of the terminal debugger; what would not fit into a packet is shown meanwhile."""
        kept: list[str] = []

        def say(text: str) -> None:
            kept.append(text)
            if sum(map(len, kept)) > MOST_KEPT:
                self.say("".join(kept))
                kept.clear()

        terminal.run(line, say, self.wanted)
        return "".join(kept)

    def _is_terminals(self, name: str, rest: str) -> bool:
        """Whether a command is the terminal debugger's: QEMU's views keep their names."""
        if name == "info":
            return rest.split(" ", maxsplit=1)[0] not in VIEWS
        if name == "help":
            return rest.strip() not in ("", *self.commands)
        return name not in self.commands

    def _help(self, _text: str, _thread: DebugThread) -> str:
        lines = [f"{name:<8} {what}" for name, (what, _) in self.commands.items()]
        if self.terminal is not None:
            lines += ["", "and the terminal debugger's, for the thread that runs; help COMMAND says more:"]
            lines += [f"{name:<40} {what}" for name, what in self.terminal.names().items()]
        return "\n".join(lines) + "\n"

    def _info(self, text: str, thread: DebugThread) -> str:
        name = text.split(" ", maxsplit=1)[0] if text else ""
        views: dict[str, Callable[[], str]] = {
            "registers": lambda: qemu_views.registers(self.debuggee, thread),
            "mem": lambda: qemu_views.memory(self.debuggee, thread.process),
            "tlb": lambda: qemu_views.translations(self.debuggee, thread.process),
            "mtree": lambda: qemu_views.memory_tree(self.debuggee),
            "pic": lambda: qemu_views.interrupt_controller(self.debuggee),
            "cpus": lambda: "* CPU #0: thread_id=1\n",
            "kvm": lambda: "kvm support: disabled\n",
            "version": lambda: f"{version('callgate')} (callgate)\n",
        }
        if name not in views:
            raise ValueError(f"{name or 'nothing'} is not one of {', '.join(views)}")
        return views[name]()

    def _physical(self, text: str, _thread: DebugThread) -> str:
        options, _, place = text.partition(" ")
        if not options.startswith("/"):
            options, place = "/", text
        digits = "".join(letter for letter in options if letter.isdecimal())
        count, unit = int(digits or 1), next((UNITS[letter] for letter in options if letter in UNITS), 4)
        if not 0 < count <= MOST_SHOWN:
            raise ValueError(f"1 to {MOST_SHOWN} items, not {count}")
        address, per_row = int(place, 0), 16 // unit
        try:
            data = self.debuggee.machine.ram.read(address, count * unit, Account.OBSERVER)
        except DmaError:
            raise ValueError(f"{address:#x} and {count * unit} bytes on are not all RAM") from None
        items = [
            f"{int.from_bytes(data[at : at + unit], 'little'):#0{2 + 2 * unit}x}" for at in range(0, len(data), unit)
        ]
        rows = range(0, count, per_row)
        return "".join(f"{address + row * unit:016x}: {' '.join(items[row : row + per_row])}\n" for row in rows)

    def _translate(self, text: str, thread: DebugThread) -> str:
        physical = self.debuggee.memory.physical(thread.process, int(text, 0))
        return "Unmapped\n" if physical is None else f"gpa: {physical:#x}\n"

    def _no_host_address(self, _text: str, _thread: DebugThread) -> str:
        raise ValueError("guest memory is in another process than yours; read it through gdb")

    def _clock(self, _text: str, _thread: DebugThread) -> str:
        clock = self.debuggee.machine.clock
        return f"{clock.retired} instructions, {clock.now} ns\n"

    def _calls(self, _text: str, _thread: DebugThread) -> str:
        return "\n".join(gate_calls.table()) + "\n"

    def _catch_calls(self, words: list[str]) -> str:
        gates = self.debuggee.gates
        if "none" in words:
            gates.catch(None)
        elif words:
            gates.catch([] if "all" in words else [gate_calls.number_of(word) for word in words])
        if gates.wanted is None:
            return "no call of a gate will stop the machine\n"
        names = ", ".join(gate_calls.name_of(number) for number in sorted(gates.wanted)) or "every call of a gate"
        return f"{names} will stop the machine, and the return from it\n"

    def _catch(self, text: str, _thread: DebugThread) -> str:
        if text.split(" ", maxsplit=1)[0] == "call":
            return self._catch_calls(text.lower().replace(",", " ").split()[1:])
        caught = self.debuggee.catch
        for word in text.lower().replace(",", " ").split():
            if word == "none":
                caught.clear()
            elif word == "all":
                caught.update(EXCEPTIONS.values())
            elif word in EXCEPTIONS:
                caught.add(EXCEPTIONS[word])
            else:
                raise ValueError(f"{word} is none of {', '.join(EXCEPTIONS)}, all, none")
        names = ", ".join(name_of(vector) for vector in sorted(caught)) or "no exception"
        return f"{names} will stop the machine\n"

    def _input(self, text: str, _thread: DebugThread) -> str:
        data = text.encode("utf-8", "replace").decode("unicode_escape").encode("latin-1", "replace")
        self.debuggee.machine.serial.feed(data)
        return f"{len(data)} bytes are on their way\n"
