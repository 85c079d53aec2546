"""The trace: its columns, events and fields as documented, and the names in place of numbers."""

import json
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callgate.kernel.machine.observation.stream import Event
from callgate.kernel.programs.images import EVENT_PROGRAMS, kernel_image, program_image
from callgate.kernel.system import System, SystemOptions
from callgate.tools.session.trace import Trace, is_trace

ROOT = Path(__file__).parents[3]
DOCUMENT = (ROOT / "docs" / "trace.md").read_text("utf-8")
ROW = re.compile(r"^\| `([a-z_.]+)` \| ((?:`\w+` ?)+)\|", re.MULTILINE)
EMITTED = re.compile(r"emit\(\s*\"([a-z.]+)\", ([^)]*(?:\([^)]*\)[^)]*)*)\)")
KEY = re.compile(r"(\w+)=")


def documented() -> dict[str, set[str]]:
    return {event: set(re.findall(r"\w+", fields)) for event, fields in ROW.findall(DOCUMENT)}


def in_the_sources() -> dict[str, set[str]]:
    """Return the fields of every event that assembly sources, machine and disk controllers have, without `thread`."""
    found: dict[str, set[str]] = defaultdict(set)
    for program in (kernel_image(), *map(program_image, EVENT_PROGRAMS)):
        for event in program.events:
            found[event.name].update(key for key, _ in event.fields)
    for path in ("disk/ahci/port.py", "disk/ide/channel.py", "kernel/machine/cpu/traps.py"):
        for event, fields in EMITTED.findall((ROOT / path).read_text("utf-8")):
            found[event].update(KEY.findall(fields))
    for event in ("exception", "int"):  # traps.py gives them from a dictionary
        found[event] = {"vector", "error", "eip"}
    found["exception"].add("cr2")
    return dict(found)


def test_the_trace_document_lists_every_event_with_its_fields() -> None:
    assert documented() == in_the_sources()


def run(command_line: Callable[..., Any], form: str) -> list[str]:
    commands = "cat README.TXT; /rom/crash r"
    arguments = ("boot", "-q", "--no-fast-path", "-c", commands, "--trace", "t", "--trace-format", form)
    assert command_line(*arguments).status == 139
    assert is_trace(Path("t").read_bytes()[:4096])
    return Path("t").read_text("utf-8").splitlines()


def test_both_trace_formats_hold_the_same_data_in_the_columns_of_the_document(command_line: Callable[..., Any]) -> None:
    fields = documented()
    lines, objects = run(command_line, "text"), [json.loads(line) for line in run(command_line, "jsonl")]
    assert len(lines) == len(objects)
    for line, entry in zip(lines, objects, strict=True):
        clock, event, *rest = line.split()
        assert (line[:12], clock, event) == (clock.rjust(12), str(entry.pop("clock")), entry.pop("event"))
        for key, value in (word.split("=") for word in rest):
            assert key == "thread" or key in fields[event], line
            meant = entry.pop(key)
            if (name := entry.pop(f"{key}_name", None)) is not None:
                meant = f"{meant}:{name.replace(' ', '_')}"
            assert value == (meant if isinstance(meant, str) else f"{meant:#x}")
        assert entry == {}


def test_numbers_with_names_are_written_by_name_in_a_trace(command_line: Callable[..., Any]) -> None:
    trace = "\n".join(run(command_line, "text"))
    for wanted in (
        r"ipc\.take thread=\d+:shell slot=0x0 endpoint=d0p1$",
        r"ipc\.fill thread=\d+:shell slot=0x0 operation=OPEN$",
        r"ipc\.reply thread=\d+:hosted:d0p1 slot=0x0 type=REPLY_SECTORS$",
        r"thread\.switch thread=(\d+:shell) to=\1$",
        r"gate\.system thread=\d+:shell call=OPEN$",
        r"gate\.host thread=\d+:hosted:d0p1 call=SERVER value=HOSTED_STEP$",
        r"gate\.host thread=\d+:rom call=SCHEDULE value=REQUEST$",
        r"gate\.host thread=\d+:\S+ call=HANDOFF value=\d+:shell$",
        r"disk\.command port=0x0 slot=0x0 code=READ_FPDMA_QUEUED lba=0x800$",
        r"disk\.done thread=\d+:\w+ request=0x[0-9a-f]{8} status=DONE$",
        r"exception vector=#PF error=0x4 eip=0x40005b cr2=0x0$",
        r"interrupt vector=IRQ11$",
    ):
        assert re.search(wanted, trace, re.MULTILINE), wanted


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Event(7, "ipc.reply", {"type": 0x103}), "           7 ipc.reply type=REPLY_DATA+NO_WAIT"),
        (Event(7, "ipc.reply", {"type": 77}), "           7 ipc.reply type=0x4d"),
        (Event(7, "ipc.fill", {"operation": 0x100}), "           7 ipc.fill operation=0x100"),
        (Event(7, "disk.error", {"reason": "bad\nsector 5"}), "           7 disk.error reason=bad_sector_5"),
        (Event(7, "thread.switch", {"thread": 99, "to": 0x9000}), "           7 thread.switch thread=0x63 to=0x9000"),
        (Event(7, "trap", {}), "           7 trap"),
    ],
)
def test_numbers_without_names_stay_numbers_in_a_trace_and_a_value_is_one_word(event: Event, line: str) -> None:
    with System([], SystemOptions(shell=False)) as system:
        assert Trace(system, "text").line(event) == f"{line}\n"


@pytest.mark.parametrize("head", [b"", b"notes\n", b"{}\n", b"[1]\n", b'{"event": 1, "clock": 2}\n', b"   12 a.b=1\n"])
def test_a_file_that_is_not_a_trace_is_not_taken_for_one(head: bytes) -> None:
    assert not is_trace(head)
