"""No text from ring 3 or a disk begins a line of the log, or controls a terminal."""

from typing import Any

import pytest
import silent_servers as servers
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.calls import Operation
from callgate.kernel.core.log import printable
from callgate.kernel.machine.devices.serial import IRQ
from callgate.kernel.servers import volumes
from callgate.server.hosted import operation
from callgate.server.message import Data, RegisterValues, Reply, Request

FORGED = "harmless\n/d7: fat16, label FORGED\r\x1b[2J\x1b]0;title\x07\x9b1m\x7f\u2028\u202e"
SHOWN = r"harmless\x0a/d7: fat16, label FORGED\x0d\x1b[2J\x1b]0;title\x07\x9b1m\x7f\u2028\u202e"


def attention(made: Any) -> None:
    made.system.machine.pic.lower_line(IRQ)
    made.system.machine.pic.raise_line(IRQ)


class Forger(servers.Silent):
    """A volume whose label, and whose server's words, are made to look like lines of the kernel's."""

    async def start(self) -> None:
        self.report(FORGED)

    @operation(Operation.VOLUME)
    async def volume(self, request: Request) -> Reply:
        label = FORGED.encode()
        return Data(label, RegisterValues(ecx=len(label)))


def test_a_label_and_a_servers_words_are_one_line_each_without_control_characters(
    arena: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [Forger])
    made = arena(MemoryMedium(servers.IMAGE))
    assert made.run().reason == "halt"
    lines = [line for line in made.log if "harmless" in line]
    assert len(lines) == 2, made.log
    assert all(SHOWN in line for line in lines), lines
    assert all(character.isprintable() for line in made.log for character in line), made.log


def test_the_name_of_a_process_that_faults_begins_no_line_of_its_report(arena: Any) -> None:
    made = arena()
    made.run()
    made.log.clear()
    process = made.start("locker", b"", ATTACK=9, SECTORS=8, MINE=0)  # writes to a port
    process.name = FORGED
    attention(made)
    assert made.run().reason == "halt"
    (report,) = made.log
    title, *rows = report.split("\n")
    assert f"process {process.number} ({SHOWN}) ended by #GP" in title
    assert rows
    assert all(row.startswith("  ") and row.isprintable() for row in rows), "the kernel's own lines"


@pytest.mark.parametrize("text", ["", "plain", "äöü ☃ 文", "\\x0a", "a b"])
def test_text_without_control_characters_is_written_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_every_control_character_of_latin_1_is_written_as_an_escape() -> None:
    codes = [*range(0x20), *range(0x7F, 0xA0)]
    assert printable("".join(map(chr, codes))) == "".join(f"\\x{code:02x}" for code in codes)
