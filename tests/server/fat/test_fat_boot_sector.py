"""Boot sectors: absurd values are named with field, offset, value and what was expected."""

from collections.abc import Callable
from typing import Any

import pytest
from callgate.kernel.abi.calls import Operation
from callgate.kernel.abi.errors import ErrorCode
from callgate.server import FileSystemError, MountError
from callgate.server.fat.boot_sector import parse_boot_sector
from callgate.server.fat.server import FatServer
from callgate.server.testing import Rehearsal

FORMATS = {12: (1440, "-F", "12"), 16: (8000, "-F", "16", "-s", "1"), 32: (36_000, "-F", "32", "-s", "1")}

# width, offset, bytes, value, part of the message
ABSURD = [
    (12, 11, 2, 0, "offset 11: BPB_BytsPerSec is 0 (0x0); expected 512, 1024, 2048 or 4096"),
    (12, 11, 2, 513, "BPB_BytsPerSec is 513"),
    (32, 11, 2, 8192, "BPB_BytsPerSec is 8192"),
    (16, 13, 1, 0, "offset 13: BPB_SecPerClus is 0"),
    (16, 13, 1, 3, "expected a power of two from 1 to 128"),
    (16, 14, 2, 0, "offset 14: BPB_RsvdSecCnt is 0"),
    (16, 14, 2, 0xFFFF, "BPB_RsvdSecCnt is 65535 (0xffff); expected less than the 16000 sectors"),
    (16, 16, 1, 0, "offset 16: BPB_NumFATs is 0 (0x0); expected 1 or more"),
    (32, 16, 1, 255, "255 FATs and a root directory"),
    (12, 17, 2, 0, "offset 17: BPB_RootEntCnt is 0 (0x0); expected 1 or more on FAT12 and FAT16"),
    (12, 17, 2, 0xFFFF, "a root directory of 4096 sectors"),
    (12, 19, 2, 0, "offset 32: BPB_TotSec32 is 0"),
    (12, 19, 2, 0xFFFF, "the volume is larger than its partition of 2880 disk sectors"),
    (12, 19, 2, 20, "take 33 sectors and the volume has 20"),
    (12, 21, 1, 0x42, "offset 21: BPB_Media is 66 (0x42)"),
    (12, 22, 2, 1, "offset 22: BPB_FATSz16 is 1 (0x1); expected at least 9"),
    (12, 22, 2, 2000, "expected less: reserved sectors, 2 FATs"),
    (16, 22, 2, 0, "BPB_RootEntCnt is 512"),
    (32, 32, 4, 0, "offset 32: BPB_TotSec32 is 0"),
    (32, 32, 4, 0xFFFFFFFF, "larger than its partition"),
    (32, 36, 4, 0, "offset 36: BPB_FATSz32 is 0"),
    (32, 36, 4, 1, "BPB_FATSz32 is 1 (0x1); expected at least"),
    (32, 36, 4, 0xFFFFFFFF, "expected less"),
    (32, 40, 2, 0x8F, "offset 40: BPB_ExtFlags is 143 (0x8f); expected an active FAT below 2"),
    (32, 42, 2, 1, "offset 42: BPB_FSVer is 1"),
    (32, 44, 4, 0, "offset 44: BPB_RootClus is 0"),
    (32, 44, 4, 0x0FFFFFFF, "BPB_RootClus is 268435455"),
]


@pytest.fixture
def image_of(fat_image: Callable[..., Any]) -> Callable[[int], bytearray]:
    return lambda bits: fat_image(*FORMATS[bits]).read()


def start(image: bytes | bytearray | memoryview, sectors: int | None = None) -> FatServer:
    rehearsal = Rehearsal(FatServer, image, sectors=sectors)
    rehearsal.start()
    assert isinstance(rehearsal.server, FatServer)
    return rehearsal.server


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize(("bits", "offset", "size", "value", "text"), ABSURD)
def test_an_absurd_value_in_the_fat_boot_sector_is_named(
    bits: int, offset: int, size: int, value: int, text: str, image_of: Callable[[int], bytearray]
) -> None:
    image = image_of(bits)
    for sector in (0, 6) if bits == 32 else (0,):  # the backup too, or it would save the volume
        image[sector * 512 + offset : sector * 512 + offset + size] = value.to_bytes(size, "little")
    with pytest.raises(MountError) as caught:
        start(image)
    assert text in caught.value.text
    assert caught.value.text.startswith("boot sector, offset ")
    assert caught.value.code is ErrorCode.CORRUPT
    assert FatServer.probe(bytes(image[:65536])) is not None, "a broken volume must be claimed to be reported"


def test_an_empty_partition_is_refused_as_fat_by_name() -> None:
    with pytest.raises(MountError, match="the partition is empty"):
        start(b"")


def test_a_boot_sector_that_is_too_short_is_named() -> None:
    with pytest.raises(MountError, match="100 bytes are there, 512 are needed"):
        parse_boot_sector(bytes(100), 1000)


@pytest.mark.parametrize("bits", [12, 16, 32])
def test_a_fat_volume_that_ends_before_its_partition_is_accepted(
    bits: int, image_of: Callable[[int], bytearray]
) -> None:
    assert start(image_of(bits) + bytes(5120)).volume.layout.bits == bits


class TestBackupBootSector:
    def test_the_backup_boot_sector_is_used_when_the_first_is_bad(self, image_of: Callable[[int], bytearray]) -> None:
        image = image_of(32)
        sound = start(image).volume.layout
        image[0:512] = bytes(512)
        assert FatServer.probe(bytes(image[:65536])) == "fat32"
        server = start(image)
        assert server.volume.layout == sound
        assert server.volume.dirty
        (report,) = server.take_reports()
        assert report.startswith("d0p1: boot sector, offset 11: BPB_BytsPerSec is 0")
        assert report.endswith("the backup in disk sector 6 is used instead")

    def test_the_backup_boot_sector_is_found_with_larger_sectors(self, fat_image: Callable[..., Any]) -> None:
        made = fat_image(300_000, "-F", "32", "-S", "4096", "-s", "1")
        with made.path.open("r+b") as file:
            file.write(b"\xff" * 512)
        image = made.view()
        assert FatServer.probe(bytes(image[:65536])) == "fat32"
        assert start(image).volume.layout.sector_bytes == 4096

    def test_the_error_of_the_first_boot_sector_is_reported_when_the_backup_is_no_better(
        self, image_of: Callable[[int], bytearray]
    ) -> None:
        image = image_of(32)
        image[11:13] = image[6 * 512 + 11 : 6 * 512 + 13] = b"\0\0"
        with pytest.raises(MountError, match="BPB_BytsPerSec is 0"):
            start(image)


class TestProbe:
    @pytest.mark.parametrize("bits", [12, 16, 32])
    def test_the_fat_probe_claims_volumes_that_mkfs_made(self, bits: int, image_of: Callable[[int], bytearray]) -> None:
        image = image_of(bits)
        assert FatServer.probe(bytes(image[:65536])) == f"fat{bits}"
        assert FatServer.probe(bytes(image[:512])) == f"fat{bits}"

    @pytest.mark.parametrize(
        "first",
        [
            b"",
            bytes(511),
            bytes(512),
            bytes(65536),
            b"\xff" * 65536,
            bytes(510) + b"\x55\xaa",
            bytes(range(256)) * 256,
            b"\xeb\x52\x90NTFS    " + bytes(499) + b"\x55\xaa",
            b"\xeb\x76\x90EXFAT   " + bytes(499) + b"\x55\xaa",
        ],
    )
    def test_the_fat_probe_claims_nothing_else(self, first: bytes) -> None:
        assert FatServer.probe(first) is None

    def test_the_fat_probe_does_not_claim_a_master_boot_record(self) -> None:
        entry = (
            bytes([0x80, 1, 1, 0, 0x0C, 254, 255, 255]) + (2048).to_bytes(4, "little") + (99999).to_bytes(4, "little")
        )
        assert FatServer.probe(bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes(65024)) is None


def test_fat32_with_few_clusters_is_fat32(fat_image: Callable[..., Any]) -> None:
    """mkfs.fat -F 32 makes these; by count alone they would be read as FAT12 and their files destroyed."""
    image = fat_image(2000, "-F", "32", "-s", "1").read()
    assert start(image).volume.layout.kind == "fat32"


@pytest.mark.parametrize("clusters", [4084, 4085, 65524])
def test_the_width_follows_the_number_of_clusters(clusters: int) -> None:
    sector = bytearray(512)
    fat_sectors = 300
    values = {
        11: (2, 512),
        13: (1, 1),
        14: (2, 1),
        16: (1, 1),
        17: (2, 16),
        21: (1, 0xF8),
        22: (2, fat_sectors),
    }
    values[32] = (4, 1 + fat_sectors + 1 + clusters)
    for offset, (size, value) in values.items():
        sector[offset : offset + size] = value.to_bytes(size, "little")
    layout = parse_boot_sector(bytes(sector), 1 << 20)
    assert (layout.clusters, layout.bits) == (clusters, 12 if clusters < 4085 else 16)


def test_too_many_clusters_for_fat16_are_refused() -> None:
    sector = bytearray(512)
    for offset, size, value in (
        (11, 2, 512),
        (13, 1, 1),
        (14, 2, 1),
        (16, 1, 1),
        (17, 2, 16),
        (21, 1, 0xF8),
        (22, 2, 300),
        (32, 4, 302 + 65525),
    ):
        sector[offset : offset + size] = value.to_bytes(size, "little")
    with pytest.raises(MountError, match="65525 clusters, too many for FAT16"):
        parse_boot_sector(bytes(sector), 1 << 20)


def test_a_disk_that_cannot_be_read_is_an_io_error(image_of: Callable[[int], bytearray]) -> None:
    rehearsal = Rehearsal(FatServer, image_of(12))
    rehearsal.bad_sectors = {0}
    with pytest.raises(FileSystemError) as caught:
        rehearsal.start()
    assert caught.value.code is ErrorCode.IO_ERROR
    assert caught.value.text == "reading sectors 0 to 0: disk error"


class TestRootEntriesOnFat32:
    """BPB_RootEntCnt should be 0; by the formula of the specification, clusters begin after this many records."""

    def test_root_entries_on_fat32_move_the_clusters_if_the_root_directory_lies_there(
        self, fat_image: Callable[..., Any], client: Any
    ) -> None:
        """A volume as Linux makes it, with its backup boot sector unchanged."""
        made = fat_image(*FORMATS[32])
        made.put("HELLO.TXT", b"hello\n")
        image = made.read()
        start_of_data = start(image).volume.layout.data_start * 512
        image[start_of_data:] = bytes(512 * 32) + image[start_of_data : -512 * 32]
        image[17:19] = (512).to_bytes(2, "little")
        served = client(image)
        assert served.contents("HELLO.TXT") == b"hello\n"
        assert "BPB_RootEntCnt is 512, expected 0 on FAT32; clusters begin after" in served.server.take_reports()[0]

    def test_root_entries_on_fat32_are_ignored_if_the_root_directory_lies_right_after_the_fats(
        self, fat_image: Callable[..., Any], client: Any
    ) -> None:
        made = fat_image(*FORMATS[32])
        made.put("HELLO.TXT", b"hello\n")
        image = made.read()
        image[17:19] = (512).to_bytes(2, "little")
        served = client(image)
        assert served.contents("HELLO.TXT") == b"hello\n"
        assert "BPB_RootEntCnt is 512, expected 0 on FAT32; it is not used" in served.server.take_reports()[0]


def test_an_older_volumes_backup_is_not_taken_for_that_of_a_newer_fat16_volume(
    image_of: Callable[[int], bytearray],
) -> None:
    image, older = image_of(16), image_of(32)
    image[6 * 512 : 7 * 512] = older[6 * 512 : 7 * 512]
    image[16] = 0
    with pytest.raises(MountError, match="BPB_NumFATs is 0"):
        start(image)


@pytest.mark.parametrize(
    ("records", "boot", "label"),
    [
        ([(b"ROOT       ", 0x08)], b"BOOT       ", b"ROOT"),
        ([(b"ROOT       ", 0x28)], b"NO NAME    ", b"ROOT"),
        ([], b"BOOT       ", b""),
        ([(b"\xe5OOT       ", 0x08)], b"BOOT       ", b""),
        ([(b"FOLDER     ", 0x18)], b"BOOT       ", b""),
        ([(b"FOLDER     ", 0x18), (b"ROOT       ", 0x08)], b"BOOT       ", b"ROOT"),
        ([(b"\x05OOT       ", 0x08)], b"NO NAME    ", "σOOT".encode()),
    ],
)
def test_the_label_is_the_root_directorys_as_for_blkid_and_mtools(
    fat_image: Callable[..., Any], client: Any, records: list[tuple[bytes, int]], boot: bytes, label: bytes
) -> None:
    made = fat_image(*FORMATS[12])
    image = made.read()
    image[43:54] = boot
    root = client(image).server.volume.layout.root_start * 512
    for index, (name, attributes) in enumerate(records):
        image[root + 32 * index : root + 32 * index + 12] = name + bytes([attributes])
    assert client(image).request(Operation.VOLUME).data == label
    made.path.write_bytes(image)
    shown = made.run("mlabel", "-s", "-i", str(made.path), "::").split(" is ")[1:]
    assert bool(shown) == bool(label)
    if label.isascii():
        assert [text.strip().encode() for text in shown] == [label] * bool(label)
