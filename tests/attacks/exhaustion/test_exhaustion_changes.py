"""A program that has all pages mapped to be written that it may, and changes none, keeps no other one from writing."""

from callgate.disk.media import MemoryMedium
from written_disks import files
from written_files import BLOCK, IMAGE, Layout, Sessions, straight

__all__ = ["files"]


def test_pages_that_are_mapped_writable_but_unchanged_make_room_for_changed_ones(
    session: Sessions, files: dict[str, Layout]
) -> None:
    """Of 256 that it may change a program has 100 mapped so, and changes none; another one changes 240."""
    files["f"] = straight(240)
    files["g"] = straight(100, first=4000)
    made = session(MemoryMedium(IMAGE), programs=[("writer", "h/d0/g")], scratch=True, high_memory=1 << 22)
    made.reach("writer", "held")
    holder = made.processes[0]
    assert made.kernel.cache.state.claimed == 100
    writer = made.start("writer", "a/d0/f")
    assert made.run(until=lambda: writer.exit_code is not None).reason == "until"
    assert writer.exit_code == 240 * BLOCK
    assert made.kernel.cache.state.evictions == 0, "no other program has made room"
    made.kernel.processes.kill(holder, 9, "killed")
    assert made.run().reason == "halt"
    assert made.kernel.cache.state.changed == 240
    assert made.kernel.cache.state.claimed == 0
    assert made.unaccounted() == []
