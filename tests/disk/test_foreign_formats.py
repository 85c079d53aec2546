"""Formats that no server reads are named: file systems made by their own tools, headers made from their documents.

The kinds of file systems are those of blkid, which is asked as well.
"""

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import host_programs
import pytest
from callgate.disk.partitioning.foreign import FIRST_SECTORS, LAST_SECTORS, Foreign, has_udf, identify, name_foreign
from callgate.disk.partitioning.foreign_formats import DISK_IMAGES, ENDS, FILE_SYSTEMS, FILES, MANAGERS, PACKED
from callgate.disk.partitioning.partitions import ReadError, run_sync
from callgate.kernel.servers.packages import installed_servers

MIB = 1 << 20


def identified(data: bytes) -> Foreign | None:
    """Identify a whole disk."""
    data += bytes(-len(data) % 512)
    return identify(data[: FIRST_SECTORS * 512], data[-LAST_SECTORS * 512 :], len(data) // 512)


def kind(data: bytes) -> str:
    found = identified(data)
    return found.kind if found else ""


def identified_file(path: Path) -> Foreign | None:
    """Identify a file without reading all of it."""
    sectors = -(-path.stat().st_size // 512)

    async def read(sector: int, count: int) -> bytes:
        with path.open("rb") as file:
            file.seek(sector * 512)
            return file.read(count * 512).ljust(count * 512, b"\0")

    return run_sync(name_foreign(read, sectors))


# By other people's tools: what kind, megabytes, command; {} is the image, {folder} one with a file in it.

LUKS = "cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 --key-file {folder}/key"
MADE = {
    "btrfs": ("btrfs", 128, "mkfs.btrfs -q {}"),
    "xfs": ("xfs", 300, "mkfs.xfs -q {}"),
    "ntfs": ("ntfs", 8, "mkfs.ntfs -F -Q -q {}"),
    "udf": ("udf", 8, "mkudffs {}"),
    "udf with blocks of 512 bytes": ("udf", 8, "mkudffs -b 512 {}"),
    "udf with blocks of 4096 bytes": ("udf", 8, "mkudffs -b 4096 {}"),
    "squashfs": ("squashfs", 0, "mksquashfs {folder} {} -noappend -quiet"),
    "erofs": ("erofs", 0, "mkfs.erofs {} {folder}"),
    "romfs": ("romfs", 0, "genromfs -f {} -d {folder}"),
    "cramfs": ("cramfs", 0, "mkfs.cramfs {folder} {}"),
    "f2fs": ("f2fs", 64, "mkfs.f2fs -q {}"),
    "jfs": ("jfs", 16, "mkfs.jfs -q {}"),
    "nilfs2": ("nilfs2", 136, "mkfs.nilfs2 -q {}"),
    "reiserfs": ("reiserfs", 40, "mkreiserfs -q -ff {}"),
    "minix 1": ("minix", 1, "mkfs.minix -1 {}"),
    "minix 2": ("minix", 1, "mkfs.minix -2 {}"),
    "minix 3": ("minix", 1, "mkfs.minix -3 {}"),
    "bfs": ("bfs", 1, "mkfs.bfs {}"),
    "swap": ("swap", 1, "mkswap {}"),
    "swap with large pages": ("swap", 2, "mkswap -p 65536 {}"),
    "LUKS 1": ("crypto_LUKS", 20, LUKS + " --type luks1 {}"),
    "LUKS 2": ("crypto_LUKS", 20, LUKS + " --type luks2 {}"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "folder"
    path.mkdir()
    (path / "key").write_bytes(b"secret" * 4)
    return path


def run(command: str, path: Path, folder: Path) -> None:
    host_programs.run(*[word.format(path, folder=folder) for word in command.split()])


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize(("expected", "size", "command"), MADE.values(), ids=MADE)
def test_a_file_system_that_its_own_tool_has_made_is_named_as_blkid_names_it(
    tmp_path: Path, folder: Path, expected: str, size: int, command: str
) -> None:
    path = tmp_path / "made.img"
    if size:
        with path.open("wb") as file:
            file.truncate(size * MIB)
    run(command, path, folder)
    found = identified_file(path)
    assert found is not None
    assert found.kind == expected
    head = path.read_bytes()[: 64 << 10]
    assert [server.name for server in installed_servers() if server.probe(head) is not None] == []
    blkid = host_programs.attempt("blkid", "-p", "-o", "value", "-s", "TYPE", path).stdout.decode().strip()
    assert blkid in (expected, "")  # older versions of blkid do not know all


PACKERS = {
    "gzip": "gzip -nk {folder}/key",
    "xz": "xz -k {folder}/key",
    "bzip2": "bzip2 -k {folder}/key",
    "zstd": "zstd -q {folder}/key",
    "lz4": "lz4 -q {folder}/key {folder}/key.lz4",
    "lzip": "lzip -k {folder}/key",
    "lzma": "xz --format=lzma -k {folder}/key",
    "7z": "7z a {folder}/key.7z {folder}/key",
    "tar": "tar -cf {folder}/key.tar {folder}",
    "wim": "wimcapture {folder} {folder}.wim",
    "android-sparse": "img2simg {folder}/key.img {folder}/key.simg",
    "vhdx": "qemu-img create -q -f vhdx {folder}/key.vhdx 1M",
    "qed": "qemu-img create -q -f qed {folder}/key.qed 1M",
    "parallels": "qemu-img create -q -f parallels {folder}/key.hds 1M",
    "vdi": "qemu-img create -q -f vdi {folder}/key.vdi 1M",
}


@pytest.mark.thorough(one_in=3)
@pytest.mark.parametrize(("expected", "command"), PACKERS.items())
def test_an_archive_or_image_that_its_own_tool_has_made_is_named(folder: Path, expected: str, command: str) -> None:
    (folder / "key.img").write_bytes(bytes(8192))
    before = set(folder.parent.rglob("*"))
    run(command, folder, folder)
    (path,) = set(folder.parent.rglob("*")) - before
    found = identified_file(path)
    assert found is not None
    assert found.kind == expected


# From the formats' documents.


def lvm() -> bytes:
    """Make a physical volume's label; blkid checks its sum (lib/format_text/layout.h of LVM2)."""
    data = bytearray(2 * MIB)
    label = bytearray(512)
    label[:8], label[24:32] = b"LABELONE", b"LVM2 001"
    struct.pack_into("<QII", label, 8, 1, 0, 32)
    label[32:64] = b"abcdefghijklmnopqrstuvwxyz012345"
    struct.pack_into("<I", label, 16, ~zlib.crc32(bytes(label[20:]), ~0xF597A6CF & 0xFFFF_FFFF) & 0xFFFF_FFFF)
    data[512:1024] = label
    return bytes(data)


def raid(version: str) -> bytes:
    """Make a member of an array of one disk (include/uapi/linux/raid/md_p.h)."""
    data = bytearray(2 * MIB)
    sectors = len(data) // 512
    if version == "0.90":
        block = bytearray(4096)
        struct.pack_into("<IIII", block, 0, 0xA92B4EFC, 0, 90, 0)
        place = (sectors & ~127) - 128
    else:
        block = bytearray(1024)
        place = {"1.0": (sectors - 16) & ~7, "1.1": 0, "1.2": 8}[version]
        struct.pack_into("<II", block, 0, 0xA92B4EFC, 1)
        block[16:32] = bytes(range(16))
        struct.pack_into("<Q", block, 144, place)
        total = sum(struct.unpack("<64I", block[:256]))
        struct.pack_into("<I", block, 216, ((total & 0xFFFF_FFFF) + (total >> 32)) & 0xFFFF_FFFF)
    data[place * 512 : place * 512 + len(block)] = block
    return bytes(data)


def with_content_at(size: int, *places: tuple[int, bytes]) -> bytes:
    data = bytearray(size)
    for offset, content in places:
        data[offset : offset + len(content)] = content
    return bytes(data)


def apfs() -> bytes:
    """Make a container's superblock (Apple File System Reference): its sum is Fletcher's over 32-bit words."""
    block = bytearray(4096)
    struct.pack_into("<QQIIII", block, 8, 1, 1, 0x80000001, 0, 0x4253584E, 4096)
    low = high = 0
    for (word,) in struct.iter_unpack("<I", block[8:]):
        low = (low + word) % 0xFFFF_FFFF
        high = (high + low) % 0xFFFF_FFFF
    first = 0xFFFF_FFFF - (low + high) % 0xFFFF_FFFF
    second = 0xFFFF_FFFF - (low + first) % 0xFFFF_FFFF
    struct.pack_into("<Q", block, 0, second << 32 | first)
    return bytes(block) + bytes(MIB)


def hfs_plus() -> bytes:
    """Make a volume header (Technical Note TN1150): version 4, blocks of 4 KiB, 256 of them."""
    header = struct.pack(">2sHI4s", b"H+", 4, 1 << 8, b"10.0") + bytes(28) + struct.pack(">II", 4096, 256)
    return with_content_at(MIB, (1024, header))


def zfs() -> bytes:
    """Make a label: name-value pairs, and uberblocks in the ring after them."""
    places = [(at << 10, struct.pack("<QQQ", 0x00BAB10C, 5000, at)) for at in range(128, 140)]
    return with_content_at(2 * MIB, (16 << 10, b"\1\1\0\0"), *places)


def floppy(size: int, media: int) -> bytes:
    return with_content_at(size << 10, (0, b"\xeb\x2f\x14" + b"DOS boot code"), (512, bytes([media]) + b"\xff\xff"))


def raw_cd(size: int) -> bytes:
    sync = b"\0" + b"\xff" * 10 + b"\0"
    return b"".join((sync + bytes([0, 2, sector, 1])).ljust(size, b"x") for sector in range(20))


BUILT: dict[str, tuple[str, Callable[[], bytes]]] = {
    "LVM": ("LVM2_member", lvm),
    "RAID 0.90": ("linux_raid_member", lambda: raid("0.90")),
    "RAID 1.0": ("linux_raid_member", lambda: raid("1.0")),
    "RAID 1.1": ("linux_raid_member", lambda: raid("1.1")),
    "RAID 1.2": ("linux_raid_member", lambda: raid("1.2")),
    "APFS": ("apfs", apfs),
    "HFS+": ("hfsplus", hfs_plus),
    "HFS": (
        "hfs",
        lambda: with_content_at(MIB, (1024, struct.pack(">2sIIHHHHHI", b"BD", 0, 0, 0, 9, 0, 0, 2000, 512))),
    ),
    "ZFS": ("zfs_member", zfs),
    "BitLocker": ("BitLocker", lambda: with_content_at(MIB, (0, b"\xeb\x58\x90-FVE-FS-"), (510, b"\x55\xaa"))),
    "ReFS": ("ReFS", lambda: with_content_at(MIB, (0, b"\0\0\0ReFS\0\0\0\0"), (16, b"FSRS"))),
    "UFS1": ("ufs", lambda: with_content_at(MIB, (8192 + 1372, struct.pack("<I", 0x011954)))),
    "UFS2": ("ufs", lambda: with_content_at(MIB, (65536 + 1372, struct.pack("<I", 0x19540119)))),
    "UFS1 of a big-endian machine": ("ufs", lambda: with_content_at(MIB, (8192 + 1372, struct.pack(">I", 0x011954)))),
    "BeFS": ("befs", lambda: with_content_at(MIB, (512, b"name".ljust(32, b"\0") + struct.pack("<I", 0x42465331)))),
    "HPFS": ("hpfs", lambda: with_content_at(MIB, (16 * 512, struct.pack("<II", 0xF995E849, 0xFA53E9C5)))),
    "High Sierra": ("highsierra", lambda: with_content_at(MIB, (16 * 2048 + 8, b"\1CDROM\1"))),
    "DOS 1 floppy, one side": ("dos", lambda: floppy(160, 0xFE)),
    "DOS 1 floppy, two sides": ("dos", lambda: floppy(320, 0xFF)),
    "raw CD": ("raw-cd", lambda: raw_cd(2352)),
    "raw CD with subchannels": ("raw-cd", lambda: raw_cd(2448)),
    "DMG": ("dmg", lambda: with_content_at(MIB, (MIB - 512, b"koly\0\0\0\4\0\0\2\0"))),
    "Nero": ("nrg", lambda: with_content_at(MIB, (MIB - 12, b"NER5"))),
    "CHD": ("chd", lambda: with_content_at(MIB, (0, b"MComprHD\0\0\0\x7c\0\0\0\5"))),
    "Sun": ("sun", lambda: with_content_at(MIB, (0, b"\xda\xbe"), (508, b"\xda\xbe\0\0"))),
    "ELF": ("elf", lambda: Path("/proc/self/exe").read_bytes()[:4096]),
    "PE": ("pe", lambda: with_content_at(4096, (0, b"MZ"), (60, struct.pack("<I", 128)), (128, b"PE\0\0"))),
}


@pytest.mark.parametrize(("expected", "make"), BUILT.values(), ids=BUILT)
def test_a_format_that_only_its_document_describes_is_named(expected: str, make: Callable[[], bytes]) -> None:
    data = make()
    assert kind(data) == expected
    assert [server.name for server in installed_servers() if server.probe(data[: 64 << 10]) is not None] == []


@pytest.mark.parametrize(
    "name", ["LVM", "RAID 0.90", "RAID 1.0", "RAID 1.1", "RAID 1.2", "APFS", "HFS+", "ZFS", "UFS2"]
)
def test_blkid_agrees_with_the_headers_of_these_tests(host_tool: Any, tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(BUILT[name][1]())
    if name == "ZFS":  # it takes no smaller pool for one
        os.truncate(path, 80 * MIB)
    assert host_tool("blkid", "-p", "-o", "value", "-s", "TYPE", path).strip() == BUILT[name][0]


# The tables.

ROWS = [*DISK_IMAGES, *PACKED, *MANAGERS, *FILE_SYSTEMS, *FILES]


def test_every_row_of_the_tables_of_magic_numbers_is_found_at_its_offset() -> None:
    for row in ROWS:
        found = identified(with_content_at(MIB, *row.bytes))
        assert found is not None
        assert found.kind == row.kind
    for row in ENDS:
        data = bytearray(MIB)
        for offset, magic in row.bytes:
            data[MIB + offset : MIB + offset + len(magic)] = magic
        assert kind(bytes(data)) == row.kind


def test_every_description_of_a_format_is_a_phrase_and_every_hint_says_what_to_do() -> None:
    for row in [*ROWS, *ENDS]:
        assert row.text[0].islower() or row.text.startswith(row.kind)
        assert not row.text.endswith(".")
        assert not row.hint or row.hint[0].islower()


def test_garbage_and_zeros_are_recognised_as_no_format() -> None:
    assert identified(bytes(MIB)) is None
    assert identified(b"") is None
    for seed in range(100):
        source = random.Random(seed)
        assert identified(source.randbytes(source.choice([1, 512, 2048, 160 << 10, 300 << 10]))) is None


def test_two_bytes_alone_are_not_recognised_as_a_file_system() -> None:
    assert identified(with_content_at(MIB, (1024, b"BD"))) is None
    assert identified(with_content_at(MIB, (1040, b"\x7f\x13"))) is None
    assert identified(with_content_at(MIB, (508, b"\xda\xbe"))) is None
    assert identified(with_content_at(MIB, (0, b"MZ"))) is None
    assert identified(with_content_at(161 << 10, (512, b"\xfe\xff\xff"))) is None
    assert identified(with_content_at(MIB, (512, b"?"))) is None


def test_sectors_that_cannot_be_read_do_not_hide_a_format_in_others() -> None:
    data = with_content_at(MIB, (0x10040, b"_BHRfS_M"))

    async def read(sector: int, count: int) -> bytes:
        if sector == 0:
            raise ReadError("bad sector")
        return data[sector * 512 : (sector + count) * 512]

    found = run_sync(name_foreign(read, len(data) // 512))
    assert found is not None
    assert found.kind == "btrfs"


def test_udf_is_seen_beside_iso_9660(host_tool: Any, tmp_path: Path, folder: Path) -> None:
    for options, expected in (["-udf"], True), ([], False):
        host_tool("genisoimage", "-quiet", *options, "-o", tmp_path / "x.iso", folder)
        assert has_udf((tmp_path / "x.iso").read_bytes()[: 64 << 10]) is expected
