"""Where the two partitions of the demo image lie."""

from callgate.disk.partitioning.mbr import pack_entry, pack_sector

MEGABYTE = 2048  # sectors of 1 MiB
FIRST_START, FIRST_SIZE = MEGABYTE, 24 * MEGABYTE
SECOND_START, SECOND_SIZE = 25 * MEGABYTE, 36 * MEGABYTE
IMAGE_SECTORS = 62 * MEGABYTE


def boot_record() -> bytes:
    """Return a master boot record with the two partitions."""
    first = pack_entry(0x0E, FIRST_START, FIRST_SIZE, active=True)
    return pack_sector(first + pack_entry(0x0C, SECOND_START, SECOND_SIZE))
