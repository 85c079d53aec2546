"""Sectors of others, windows that show sectors, and the controller itself: ring 3 can read only its own sectors."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.disk.media import MemoryMedium
from callgate.kernel.abi.errors import ErrorCode

HELD = 0
SECTORS = 100
START = 8
MINE, NEIGHBOURS = b"mine", b"keys"
ENDED = 100 + ErrorCode.SERVER_DIED
ATTACKS = {
    "outside": HELD,
    "at_the_end": HELD,
    "unlock_twice": HELD,
    "free_block": HELD,
    "give_block": 100 + ErrorCode.BAD_REPLY,
    "write_block": ENDED,
    "after_unlock": ENDED,
    "read_registers": ENDED,
    "write_registers": ENDED,
    "port_of_ide": ENDED,
    "port_of_interrupts": ENDED,
    "host_call": ENDED,
}
FAULTS = {
    "write_block": "#PF page fault: write of 0xa0200000, protection",
    "after_unlock": "#PF page fault: read of 0xa0200000, page not present",
    "read_registers": "#PF page fault: read of 0xf0000000, protection",
    "write_registers": "#PF page fault: write of 0xf0000138, protection",
    "port_of_ide": "#GP general protection",
    "port_of_interrupts": "#GP general protection",
    "host_call": "#GP general protection",
}
VOLUME = 1  # the ROM has number 0, and the disk of these tests has no file system


def disk() -> MemoryMedium:
    """Return a disk on which only the sectors of the server's partition are its own."""
    sectors = [NEIGHBOURS * 128] * START + [MINE * 128] * SECTORS + [NEIGHBOURS * 128] * 64
    return MemoryMedium(b"".join(sectors))


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_server_can_only_read_and_only_its_own_sectors(arena: Callable[..., Any], attack: str) -> None:
    medium = disk()
    content = bytes(medium.data)
    made = arena(medium)
    defines = {"ATTACK": list(ATTACKS).index(attack), "SECTORS": SECTORS, "MINE": int.from_bytes(MINE, "little")}

    def serve() -> None:
        server = made.server("locker", "evil", **defines)
        server.disk, server.start, server.sectors = (
            made.kernel.disks.key(made.kernel.disks.present()[0]),
            START,
            SECTORS,
        )

    made.wanted.append(serve)
    made.victim()
    made.attacker("asker", VOLUME)
    assert made.run().reason == "halt"
    assert made.results == [ATTACKS[attack]], made.log
    assert attack not in FAULTS or any(FAULTS[attack] in line for line in made.log), made.log
    if attack in FAULTS:
        made.assert_unharmed()
    else:
        assert [victim.exit_code for victim in made.victims] == [HELD]
    assert bytes(medium.data) == content
