"""Images made to harm the system: their own volume may be lost, the one beside it is read, and the shell ends.

`callgate fuzz images` tests random damage; here each image is built for one purpose.
"""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from callgate.disk.images.builder import create_image
from callgate.disk.media import MemoryMedium
from callgate.kernel.watching.leaks import leaks

GOOD = b"what the neighbour says\n"
SECTOR = 512
#: Read all of the volume, for a bounded while, then the neighbour.
COMMANDS = (
    "ls /d0; tree /d0; hexdump /d0/A.TXT 0 64; cat /d0/A.TXT; hexdump /d0/BOMB 67108800 64; df; "
    "echo then; cat /d1/GOOD.TXT; exit 3"
)

Arenas = Callable[..., Any]
Evil = Callable[[Path, Any], bytes]


def fat(folder: Path, tree: dict[str, bytes], size: int = 4 << 20) -> bytearray:
    """Return a FAT volume with the files of `tree`."""
    root = folder / "tree"
    for name, data in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    create_image(folder / "fat.img", root, fs="fat12", size=size)
    return bytearray((folder / "fat.img").read_bytes())


def a_directory_that_contains_itself(folder: Path, patcher: Any) -> bytes:
    image = fat(folder, {"D/A.TXT": b"a", "A.TXT": b"a"})
    fields = patcher(image)
    inside = fields.record(b"A       TXT", fields.cluster_offset(fields.first_cluster(fields.record(b"D          "))))
    fields.set_first_cluster(inside, fields.first_cluster(fields.record(b"D          ")))
    image[inside + 11] = 0x10
    image[inside : inside + 11] = b"D          "
    return bytes(image)


def a_file_whose_clusters_go_round_in_a_circle(folder: Path, patcher: Any) -> bytes:
    image = fat(folder, {"A.TXT": bytes(40_000)})
    fields = patcher(image)
    record = fields.record(b"A       TXT")
    chain = fields.chain(fields.first_cluster(record))
    fields.set_fat(chain[-1], chain[0])
    image[record + 28 : record + 32] = struct.pack("<I", 0xFFFF_FFFF)
    return bytes(image)


def a_file_that_begins_outside_the_volume(folder: Path, patcher: Any) -> bytes:
    image = fat(folder, {"A.TXT": b"a" * 3000})
    fields = patcher(image)
    fields.set_first_cluster(fields.record(b"A       TXT"), 0xFFF0)
    return bytes(image)


def a_partition_that_ends_after_the_disk(folder: Path, patcher: Any) -> bytes:
    volume = fat(folder, {"A.TXT": b"a"})
    return master_boot_record([(1, 63, 0xFFFF_FFC0)]) + bytes(62 * SECTOR) + volume


def extended_partitions_in_a_circle(folder: Path, patcher: Any) -> bytes:
    link = bytearray(master_boot_record([(1, 1, 8), (5, 0, 64)]))
    return master_boot_record([(5, 1, 64)]) + bytes(link) + bytes(63 * SECTOR)


def a_partition_table_of_four_thousand_million_entries(folder: Path, patcher: Any) -> bytes:
    header = bytearray(92)
    struct.pack_into("<8sII", header, 0, b"EFI PART", 0x10000, 92)
    struct.pack_into("<QQQQ", header, 24, 1, 199, 34, 160)
    struct.pack_into("<QII", header, 72, 2, 0xFFFF_FFFF, 128)
    struct.pack_into("<I", header, 16, zlib.crc32(bytes(header)))
    disk = bytearray(master_boot_record([(0xEE, 1, 199)])) + bytes(header).ljust(SECTOR, b"\0")
    return bytes(disk) + bytes(198 * SECTOR)


def master_boot_record(entries: list[tuple[int, int, int]]) -> bytes:
    """Return a boot record with partitions (type, first sector, sectors)."""
    record = bytearray(SECTOR)
    for number, (kind, first, count) in enumerate(entries):
        struct.pack_into("<B3xB3xII", record, 446 + number * 16, 0, kind, first, count)
    record[510:] = b"\x55\xaa"
    return bytes(record)


def an_archive_that_unpacks_to_a_thousand_times_its_size(folder: Path, patcher: Any) -> bytes:
    return archive({"A.TXT": b"a", "BOMB": bytes(64 << 20)})


def an_archive_whose_names_lead_out_of_it(folder: Path, patcher: Any) -> bytes:
    return archive({"../../A.TXT": b"a", "/d1/GOOD.TXT": b"forged\n", "a/../../B": b"b", "A.TXT": b"a"})


def archive(entries: dict[str, bytes]) -> bytes:
    """Return a ZIP archive, written by Python."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in entries.items():
            made.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return file.getvalue()


def kept(name: str) -> bytearray:
    """Return one of the volumes that are kept for the fuzzer, made by other people's tools."""
    return bytearray(gzip.decompress((files("callgate.tools.fuzz") / "sound" / f"{name}.img.gz").read_bytes()))


def a_file_system_of_enormous_blocks(folder: Path, patcher: Any) -> bytes:
    image = kept("ext2")
    struct.pack_into("<I", image, 1024 + 24, 31)
    return bytes(image)


def a_file_system_of_no_inodes_a_group(folder: Path, patcher: Any) -> bytes:
    image = kept("ext2")
    struct.pack_into("<I", image, 1024 + 40, 0)
    return bytes(image)


def a_directory_of_four_gibibytes(folder: Path, patcher: Any) -> bytes:
    image = kept("iso9660")
    struct.pack_into("<I", image, 16 * 2048 + 156 + 10, 0xFFFF_F800)
    struct.pack_into(">I", image, 16 * 2048 + 156 + 14, 0xFFFF_F800)
    return bytes(image)


IMAGES: tuple[Evil, ...] = (
    a_directory_that_contains_itself,
    a_file_whose_clusters_go_round_in_a_circle,
    a_file_that_begins_outside_the_volume,
    a_partition_that_ends_after_the_disk,
    extended_partitions_in_a_circle,
    a_partition_table_of_four_thousand_million_entries,
    an_archive_that_unpacks_to_a_thousand_times_its_size,
    an_archive_whose_names_lead_out_of_it,
    a_file_system_of_enormous_blocks,
    a_file_system_of_no_inodes_a_group,
    a_directory_of_four_gibibytes,
)


@pytest.mark.parametrize("evil", IMAGES, ids=lambda evil: evil.__name__.replace("_", " "))
def test_a_damaged_image_harms_only_programs_that_read_it(
    arena: Arenas, tmp_path: Path, patcher: Any, evil: Evil
) -> None:
    bad, good = tmp_path / "bad", tmp_path / "good"
    bad.mkdir()
    good.mkdir()
    neighbour = fat(good, {"GOOD.TXT": GOOD})
    made = arena(MemoryMedium(evil(bad, patcher)), MemoryMedium(neighbour, read_only=True), commands=COMMANDS)
    assert made.run(fuel=20_000_000).reason == "exit", made.log
    assert made.system.exit_code == 3
    assert made.output.endswith(b"then\n" + GOOD), made.output[-300:]
    assert leaks(made.kernel) == []
