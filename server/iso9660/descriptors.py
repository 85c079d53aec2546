"""Volume descriptors: which directory trees a volume has, and how large its blocks are (ECMA-119, clause 8)."""

from typing import Final, NamedTuple

from callgate.kernel.abi.disks.volumes import (
    ISO_FIRST_DESCRIPTOR,
    ISO_IDENTIFIER,
    ISO_LOGICAL_SECTOR,
    UDF_BEGINNING,
    UDF_NAMES,
)
from callgate.server.disk import SectorReader
from callgate.server.errors import FileSystemError, MountError
from callgate.server.formats.names import text_of_bytes
from callgate.server.iso9660.structures import (
    BLOCK_SIZES,
    DESCRIPTORS_LIMIT,
    JOLIET_ESCAPES,
    PRIMARY,
    SECTORS_PER_LOGICAL,
    SUPPLEMENTARY,
    TERMINATOR,
    Note,
    Record,
    both,
    long_time,
    parse_record,
)

_ROOT_RECORD: Final = slice(156, 190)
_UDF_END: Final = (
    32  # logical sectors that ECMA-167's volume recognition sequence takes at most, ISO 9660's part included
)
_RECOGNISED: Final = (UDF_BEGINNING, b"BOOT2", b"CDW02", b"TEA01")  # what else may be in it, 2/8.3.1


class VolumeDescriptor(NamedTuple):
    """One tree of directories: the primary one or Joliet's."""

    joliet: bool
    label: str
    block_bytes: int
    blocks: int
    root: Record
    created: int  # seconds since 1970


class Descriptors(NamedTuple):
    """The trees that the volume offers, and its faults."""

    primary: VolumeDescriptor
    joliet: VolumeDescriptor | None
    damage: list[str]
    udf: bool  # whether the disc is a UDF volume as well


def kind_by_beginning(first: bytes) -> str:
    """Return ``rockridge``, ``joliet`` or ``iso9660`` for a volume that begins with ``first``, descriptors included.

    A hint from 64 KiB: a root directory further away may have Rock Ridge nevertheless, as mounting then finds.
    """
    joliet = False
    rock_ridge = False
    for number in range(ISO_FIRST_DESCRIPTOR, len(first) // ISO_LOGICAL_SECTOR):
        sector = first[number * ISO_LOGICAL_SECTOR :][:ISO_LOGICAL_SECTOR]
        if sector[1:6] != ISO_IDENTIFIER or sector[0] == TERMINATOR:
            break
        joliet = joliet or is_joliet(sector)
        if sector[0] == PRIMARY:
            size = int.from_bytes(sector[128:130], "little")
            root = int.from_bytes(sector[158:162], "little") * size
            rock_ridge = rock_ridge or first[root + 34 : root + 36] == b"SP"
    return "rockridge" if rock_ridge else "joliet" if joliet else "iso9660"


def is_joliet(sector: bytes) -> bool:
    """Whether a descriptor is the supplementary one whose names are UCS-2 (Joliet, "Escape Sequences")."""
    return sector[0] == SUPPLEMENTARY and sector[88:91] in JOLIET_ESCAPES


async def read_descriptors(reader: SectorReader, partition_sectors: int) -> Descriptors:
    """Read the descriptor set; MountError if there is no usable primary descriptor."""
    found: list[VolumeDescriptor] = []
    damage: list[str] = []
    complaint = "no primary volume descriptor"
    for number in range(ISO_FIRST_DESCRIPTOR, ISO_FIRST_DESCRIPTOR + DESCRIPTORS_LIMIT):
        sector = await _read(reader, number, partition_sectors, damage)
        if sector[1:6] != ISO_IDENTIFIER:
            damage.append(f"sector {number * SECTORS_PER_LOGICAL}: the descriptor set ends without a terminator")
            break
        if sector[0] == TERMINATOR:
            break
        if sector[0] != PRIMARY and not is_joliet(sector):
            continue
        try:
            found.append(_parse(sector, number * SECTORS_PER_LOGICAL, damage))
        except MountError as error:
            complaint = error.text
            damage.append(error.text)
    primary = next((each for each in found if not each.joliet), None)
    joliet = next((each for each in found if each.joliet), None)
    primary = primary or joliet  # a volume whose names are only there in UCS-2 is still a volume
    if primary is None:
        raise MountError(complaint)
    return Descriptors(primary, joliet, damage, await _is_udf(reader, number + 1, partition_sectors))


async def _is_udf(reader: SectorReader, first: int, partition_sectors: int) -> bool:
    """Whether descriptors of UDF follow those of ISO 9660, from logical sector ``first`` on."""
    for number in range(first, min(_UDF_END, partition_sectors // SECTORS_PER_LOGICAL)):
        try:
            sector = await reader.read(number * SECTORS_PER_LOGICAL, SECTORS_PER_LOGICAL)
        except FileSystemError:
            return False
        if sector[1:6] in UDF_NAMES:
            return True
        if sector[1:6] not in _RECOGNISED:
            return False
    return False


async def _read(reader: SectorReader, number: int, partition_sectors: int, damage: list[str]) -> bytes:
    sector = number * SECTORS_PER_LOGICAL
    if sector + SECTORS_PER_LOGICAL > partition_sectors:
        return bytes(ISO_LOGICAL_SECTOR)
    try:
        return await reader.read(sector, SECTORS_PER_LOGICAL)
    except FileSystemError as error:
        damage.append(f"sector {sector}: a volume descriptor cannot be read: {error.text}")
        return bytes([0]) + ISO_IDENTIFIER + bytes(ISO_LOGICAL_SECTOR - 6)


def _parse(sector: bytes, place: int, damage: list[str]) -> VolumeDescriptor:
    def note(text: str) -> None:
        damage.append(f"volume descriptor in sector {place}: {text}")

    block_bytes = both(sector, 128, 2, note, "the logical block size")
    if block_bytes not in BLOCK_SIZES:
        raise MountError(f"volume descriptor in sector {place}: blocks of {block_bytes} bytes, not 512, 1024 or 2048")
    root = _root(sector, place, note)
    joliet = is_joliet(sector)
    label = (sector[40:72].decode("utf-16-be", "replace") if joliet else text_of_bytes(sector[40:72])).strip(" \0")
    created = long_time(sector[813:830])
    return VolumeDescriptor(joliet, label, block_bytes, both(sector, 80, 4, note, "the volume size"), root, created)


def _root(sector: bytes, place: int, note: Note) -> Record:
    root = parse_record(sector[_ROOT_RECORD], 0, place * 512 + _ROOT_RECORD.start, note)
    if root is None:
        raise MountError(f"volume descriptor in sector {place}: its root directory record is damaged")
    return root
