"""The log under attack: each source has its lines, and what is left out is counted."""

import re
import struct
from collections.abc import Callable
from typing import Any

import pytest
import synthetic_server as synthetic
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi import limits
from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.servers import volumes

FUEL = 400_000_000
HELD = 0
SECTORS = 2048
IMAGE = synthetic.disk(SECTORS)
Arenas = Callable[..., Any]

# The log.


class GivesForeignSectors(synthetic.Synthetic):
    """Answers READ with sectors that are not its own."""

    async def serve(self, message: int) -> ServerCall:
        kind = await super().serve(message)
        if kind == ServerCall.REPLY_SECTORS:
            self.memory.write(message + 8, struct.pack("<I", 1))
            self.memory.write(message + 48, struct.pack("<Q", 1 << 40))
        return kind


def test_a_source_that_floods_the_log_has_its_first_lines_shown_and_the_others_counted(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "installed_servers", lambda: [GivesForeignSectors])
    synthetic.Synthetic.files = {"f": synthetic.Layout(1 << 30, [(8, 1 << 21)])}
    logs = []
    for _ in range(2):
        made = arena(MemoryMedium(IMAGE))
        made.attacker("holes", ROUNDS=200, FAILING=1)
        made.victim()
        assert made.run(FUEL).reason == "halt"
        written = [line for line in made.log if "refused" in line]
        assert limits.LOG_BURST <= len(written) <= limits.LOG_BURST + limits.LOG_LINES_PER_SECOND
        made.kernel.log.finish()
        left_out = sum(int(found[1]) for line in made.log if (found := re.match(r"/d0: (\d+) more lines? left", line)))
        assert len(written) + left_out == 200
        assert [victim.exit_code for victim in made.victims] == [HELD]
        logs.append(made.log)
    assert logs[0] == logs[1]


def test_lines_that_a_flood_has_lost_are_counted_before_the_next_line_of_another_source(
    arena: Arenas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server floods and is silent then: what it has hidden shows when anything else is said."""
    monkeypatch.setattr(volumes, "installed_servers", lambda: [GivesForeignSectors])
    monkeypatch.setattr(synthetic.Synthetic, "files", {"f": synthetic.Layout(1 << 30, [(8, 1 << 21)])})
    made = arena(MemoryMedium(IMAGE))
    made.attacker("holes", ROUNDS=60, FAILING=1)
    assert made.run(FUEL).reason == "halt"
    written = sum("refused" in line for line in made.log)
    assert written < 60
    assert not any("left out" in line for line in made.log)
    made.system.machine.clock.idle += 2_000_000_000
    made.start("privilege", bytes([1 + 1]))  # it is ended by a fault, which is logged
    made.system.machine.pic.lower_line(4)
    made.system.machine.pic.raise_line(4)
    assert made.run(FUEL).reason == "halt"
    count = made.log.index(f"/d0: {60 - written} more lines left out")
    assert any("ended by" in line for line in made.log[count:])


def test_a_line_of_control_characters_is_no_longer_than_any_other_although_each_is_written_as_four(
    arena: Arenas,
) -> None:
    made = arena()
    made.kernel.log("\x07" * limits.LOG_LINE_CHARACTERS)
    assert made.log[-1] == ("\\x07" * limits.LOG_LINE_CHARACTERS)[: limits.LOG_LINE_CHARACTERS]


def test_a_source_that_was_silenced_can_log_again_after_a_while_and_the_lost_lines_are_counted_first(
    arena: Arenas,
) -> None:
    made = arena()
    made.run()
    kernel = made.kernel
    loud = kernel.state.endpoints.by_number[0]
    del made.log[:]
    for number in range(100):
        kernel.log(f"line {number}", loud)
    assert made.log == [f"line {number}" for number in range(limits.LOG_BURST)]
    kernel.log("the kernel has something to say")
    assert made.log[-1] == "the kernel has something to say"
    made.system.machine.clock.idle += 2_000_000_000
    kernel.log("again", loud)
    assert made.log[-2:] == [f"/rom: {100 - limits.LOG_BURST} more lines left out", "again"]
    kernel.log("x" * 5000, loud)
    assert len(made.log[-1]) == limits.LOG_LINE_CHARACTERS


def test_a_source_that_writes_in_the_nanosecond_in_which_it_may_hides_no_lost_lines_by_that(arena: Arenas) -> None:
    """SLEEP lets a server choose the moment; its next line then leaves it with nothing to write again."""
    made = arena()
    made.run()
    loud = made.kernel.state.endpoints.by_number[0]
    del made.log[:]
    for number in range(limits.LOG_BURST + 8):
        made.kernel.log(f"line {number}", loud)
    made.system.machine.clock.idle += 1_000_000_000 // limits.LOG_LINES_PER_SECOND
    made.kernel.log("again", loud)
    assert made.log[limits.LOG_BURST :] == ["/rom: 8 more lines left out", "again"]
