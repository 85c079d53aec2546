"""The disks as the driver found them: the table in guest memory that it writes (asm/kernel/disk/disk_identify.asm).

A disk is named by its key, which is its place and its generation there: no other disk in that place, earlier or later,
has the same key.
"""

from __future__ import annotations

from callgate.kernel.abi.disks.disk import DISKS, Disk
from callgate.kernel.abi.layout import size_of
from callgate.kernel.core.guest import Guest

GENERATION_SHIFT = 8
PLACE_MASK = 0xFF


def place_of(key: int) -> int:
    """Return the place that a disk's key names."""
    return key & PLACE_MASK


class Disks:
    """Reads the table."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest
        self.table = guest.physical("disk_table")

    def present(self) -> list[int]:
        """Return the places that have a disk."""
        return [place for place in range(DISKS) if self._disk(place).present]

    def key(self, place: int) -> int:
        """Return the key of the disk that is in a place now."""
        return int(self._disk(place).generation) << GENERATION_SHIFT | place

    def there(self, key: int) -> bool:
        """Whether the disk that `key` names is still in its place."""
        place = place_of(key)
        return bool(self._disk(place).present) and self.key(place) == key

    def sectors(self, key: int) -> int:
        """Return the size of a disk in 512-byte sectors."""
        return int(self._disk(place_of(key)).sectors)

    def model(self, key: int) -> str:
        """Return the model name that a disk reports."""
        return bytes(self._disk(place_of(key)).model).rstrip(b" \0").decode("ascii", "replace")

    def _disk(self, place: int) -> Disk:
        return Disk.from_buffer(self.guest.ram.view(self.table + place * size_of(Disk), size_of(Disk)))
