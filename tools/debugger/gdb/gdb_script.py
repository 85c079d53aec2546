"""Printers and commands for gdb's own Python: `source` this file in gdb.

It is executed by gdb, whose Python has no callgate: it knows what the symbols, `info os` and `monitor` say.

    print $_endpoint("fat")               an endpoint: masks as sets of slots, and the slots that are in use
    print $_slot("d0p1", 0)               the record of a slot
    print $_message("d0p1", 0).operation  its message page
    print $_thread_name()                 the selected thread's
    catch call OPEN                       stop at calls of the gates by name, and at their returns
    callgate step phase                   a command of `monitor`; it goes where that one waits for `continue`
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import gdb
import gdb.printing

KERNEL_BASE = 0xC000_0000  # where physical memory is mapped for the kernel
SLOTS = 32
DATA = 64  # bytes of a message page that are shown
WAITS = re.compile(r"^type ([a-z-]+): it will be ", re.MULTILINE)
COLUMNS = re.compile(r"^(\d+) +(\S+) +(0x[0-9a-f]+) +(.*?) *$", re.MULTILINE)


def slots_of(mask: int) -> str:
    """Return a mask as the numbers of its bits: {0-3,5}."""
    runs: list[list[int]] = []
    for slot in (slot for slot in range(SLOTS) if mask >> slot & 1):
        if runs and runs[-1][1] == slot - 1:
            runs[-1][1] = slot
        else:
            runs.append([slot, slot])
    return "{" + ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in runs) + "}"


class EndpointPrinter:
    """Prints a struct Endpoint."""

    MASKS = ("unused", "free", "idle")

    def __init__(self, value: gdb.Value) -> None:
        self.value = value

    def to_string(self) -> str:
        """Return the head."""
        head, tail = int(self.value["head"]), int(self.value["tail"])
        return f"endpoint {int(self.value['number'])}, {tail - head & 0xFFFF_FFFF} posted"

    def children(self) -> Iterator[tuple[str, object]]:
        """Yield masks, the words of the ring, and each slot that is in use."""
        for name in self.MASKS:
            yield name, slots_of(int(self.value[name]))
        for name in ("head", "tail", "slot_waiters", "flags", "selector"):
            yield name, self.value[name]
        for slot in range(SLOTS):
            state = self.value["state"][slot]
            if str(state) != "FREE":
                record = self.value["slots"][slot]
                yield f"slot {slot}", f"{state}, client {int(record['client']):#x}, page {int(record['physical']):#x}"


class MessagePrinter:
    """Prints a struct Message: of its data only the beginning."""

    def __init__(self, value: gdb.Value) -> None:
        self.value = value

    def to_string(self) -> str:
        """Return the operation."""
        return str(self.value["operation"])

    def children(self) -> Iterator[tuple[str, object]]:
        """Yield the fields."""
        for field in self.value.type.fields():
            if field.name != "data":
                yield field.name, self.value[field.name]
        yield "data", bytes(int(self.value["data"][at]) for at in range(DATA)).rstrip(b"\0").decode("latin-1")


def endpoint(which: gdb.Value) -> gdb.Value:
    """Return an endpoint by number, name or file system; gdb.GdbError names those there are."""
    is_text = which.type.strip_typedefs().code == gdb.TYPE_CODE_ARRAY
    wanted = which.string() if is_text else str(int(which))
    rows = COLUMNS.findall(gdb.execute("info os endpoints", to_string=True))
    for matches in (
        [row for row in rows if wanted in row[:2]],
        [row for row in rows if wanted.lower() in row[3].lower()],
    ):
        if matches:
            kind = gdb.lookup_type("struct Endpoint").pointer()
            return gdb.Value(int(matches[0][2], 16)).cast(kind).dereference()
    raise gdb.GdbError(f"no endpoint {wanted}; there is {', '.join(row[1] for row in rows) or 'none yet'}")


def slot_number(value: gdb.Value) -> int:
    """Return the number of a slot; gdb.GdbError."""
    if not 0 <= int(value) < SLOTS:
        raise gdb.GdbError(f"slots are 0 to {SLOTS - 1}, not {int(value)}")
    return int(value)


class EndpointFunction(gdb.Function):
    """$_endpoint("d0p1"): an endpoint by name, file system or number."""

    def invoke(self, which: gdb.Value) -> gdb.Value:
        """Return it."""
        return endpoint(which)


class SlotFunction(gdb.Function):
    """$_slot("d0p1", N): the record of a slot."""

    def invoke(self, which: gdb.Value, number: gdb.Value) -> gdb.Value:
        """Return it."""
        return endpoint(which)["slots"][slot_number(number)]


class MessageFunction(gdb.Function):
    """$_message("d0p1", N): the message page of a slot, as the kernel sees it."""

    def invoke(self, which: gdb.Value, number: gdb.Value) -> gdb.Value:
        """Return it; gdb.GdbError if the slot has no page yet."""
        physical = int(endpoint(which)["slots"][slot_number(number)]["physical"])
        if not physical:
            raise gdb.GdbError(f"slot {int(number)} has never been used: it has no page")
        return gdb.Value(KERNEL_BASE + physical).cast(gdb.lookup_type("struct Message").pointer()).dereference()


class ThreadNameFunction(gdb.Function):
    """$_thread_name(): the name of the selected thread, "" if there is none."""

    def invoke(self) -> str:
        """Return it."""
        thread = gdb.selected_thread()
        return "" if thread is None else thread.name or ""


class CallgateCommand(gdb.Command):
    """callgate COMMAND: a command of callgate's terminal debugger; `callgate help` lists them.

    callgate step phase, step request, back phase, back request and goto move the machine.
    """

    def invoke(self, line: str, _from_tty: bool) -> None:
        """Carry it out by `monitor`, and go where it waits to go."""
        text = gdb.execute(f"monitor {line or 'help'}", to_string=True)
        waits = WAITS.match(text)
        if waits is None:
            gdb.write(text)
        else:
            gdb.execute(waits[1])


class CatchCall(gdb.Command):
    """catch call NAME...: stop where a gate is called by these names or numbers, and before the call returns.

    `catch call all`, `catch call none`; `monitor calls` lists them.  gdb's `catch syscall` is for Linux and FreeBSD.
    """

    def invoke(self, line: str, _from_tty: bool) -> None:
        """Carry it out by `monitor`."""
        gdb.execute(f"monitor catch call {line}")


def load() -> None:
    """Make them known to gdb."""
    printers = gdb.printing.RegexpCollectionPrettyPrinter("callgate")
    printers.add_printer("Endpoint", "^Endpoint$", EndpointPrinter)
    printers.add_printer("Message", "^Message$", MessagePrinter)
    gdb.printing.register_pretty_printer(None, printers, replace=True)
    EndpointFunction("_endpoint")
    SlotFunction("_slot")
    MessageFunction("_message")
    ThreadNameFunction("_thread_name")
    CallgateCommand("callgate", gdb.COMMAND_DATA)
    CatchCall("catch call", gdb.COMMAND_BREAKPOINTS)


load()
