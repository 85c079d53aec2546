"""Containers of disk images that are damaged, hostile, or of an unsupported kind: each is refused with the reason."""

import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import container_files
import pytest
from callgate.disk.media import Image, ImageError, MediumError, open_image
from container_files import BLOCKS, DISK, GRAINS, KIB, MADE, MIB, STORED, expected, noise, read


def opened(path: Path, data: bytes) -> str:
    """Return how an image is refused, or by which error its first 31 KiB cannot be read."""
    path.write_bytes(data)
    descriptors = container_files.open_files()
    try:
        image = open_image(path)
    except ImageError as error:
        refusal = error
    else:
        return first_error(image)
    assert str(refusal).startswith(f"{path}: ")
    assert container_files.open_files() <= descriptors, "a refused image leaves a file open"
    return str(refusal).removeprefix(f"{path}: ")


def first_error(image: Image) -> str:
    """Return by which error the first 31 KiB cannot be read, "" if they can; close the image."""
    try:
        for lba in range(min(image.sector_count, 62)):
            read(image, lba, 1)
    except MediumError as error:
        return str(error)
    finally:
        image.close()
    return ""


def number(data: bytearray, at: int, form: str, value: int) -> bytearray:
    struct.pack_into(form, data, at, value)
    return data


def qcow2_with(at: int, form: str, value: int, **options: Any) -> bytearray:
    return number(container_files.qcow2(DISK, STORED, **options), at, form, value)


L2_ENTRY = container_files.QCOW2_L2 + 3 * 8
QCOW2 = {
    "cut short": (lambda: qcow2_with(0, "B", 81)[:40], "is a damaged qcow2 image: its header of 48 bytes is cut short"),
    "version 3 cut short": (lambda: qcow2_with(0, "B", 81)[:100], "is a damaged qcow2 image: its header is cut short"),
    "version 4": (
        lambda: qcow2_with(4, ">I", 4),
        "is a qcow2 image of version 4, which is not read; convert it: qemu-img",
    ),
    "version 1": (lambda: qcow2_with(4, ">I", 1), "is a qcow2 image of the older format qcow, which is not read"),
    "encryption": (lambda: qcow2_with(32, ">I", 1), "is a qcow2 image with AES encryption, which is not read"),
    "LUKS": (lambda: qcow2_with(32, ">I", 2), "is a qcow2 image with LUKS encryption, which is not read"),
    "a backing file": (
        lambda: number(number(qcow2_with(8, ">Q", 4), 16, ">I", 4), 4, ">I", 3),
        r"is a qcow2 image with the backing file '\x00\x00\x00\x03', which is not read; put both into one: qemu-img",
    ),
    "a backing file without a name": (lambda: qcow2_with(8, ">Q", 4), "the name of its backing file has 0 bytes"),
    "clusters of 2^8": (lambda: qcow2_with(20, ">I", 8), "its clusters have 2^8 bytes, not 2^9 to 2^21"),
    "clusters of 2^40": (lambda: qcow2_with(20, ">I", 40), "its clusters have 2^40 bytes"),
    "no bytes": (lambda: qcow2_with(24, ">Q", 0), "its disk has 0 bytes"),
    "2^64 bytes": (lambda: qcow2_with(24, ">Q", (1 << 64) - 1), "its disk has 18446744073709551615 bytes"),
    "2^50 bytes": (
        lambda: qcow2_with(24, ">Q", 1 << 50),
        "its L1 table has 1 entries, and its disk of 1125899906842624 bytes",
    ),
    "a giant L1 table": (
        lambda: number(qcow2_with(24, ">Q", 1 << 50), 36, ">I", (1 << 32) - 1),
        "its L1 table has 4294967295 entries, and its disk of 1125899906842624 bytes needs",
    ),
    "an L1 table past the end": (
        lambda: qcow2_with(40, ">Q", 1 << 40),
        "its L1 table at byte 1099511627776 passes the end",
    ),
    "an L1 table at an odd place": (
        lambda: qcow2_with(40, ">Q", 1537),
        "its L1 table at byte 1537 begins in the middle",
    ),
    "an external data file": (
        lambda: qcow2_with(72, ">Q", 4),
        "is a qcow2 image whose data are in another file, which is not",
    ),
    "unknown features": (
        lambda: qcow2_with(72, ">Q", 0x60),
        "is a qcow2 image with the incompatible features 5, 6, which is",
    ),
    "an unknown compression": (
        lambda: number(number(qcow2_with(72, ">Q", 8), 100, ">I", 112), 104, "B", 7),
        "is a qcow2 image with compression type 7, which is not read",
    ),
    "subclusters of 16 bytes": (
        lambda: qcow2_with(72, ">Q", 16),
        "its clusters of 2^9 bytes are too small for subclusters",
    ),
    "an L2 table past the end": (
        lambda: qcow2_with(container_files.QCOW2_L1, ">Q", 1 << 40),
        "sector 0: an L2 table at byte 1099511627776 lies past the end of the file of",
    ),
    "data past the end": (
        lambda: qcow2_with(L2_ENTRY, ">Q", 1 << 40),
        "sector 3: data at byte 1099511627776 lie past the end of the file of",
    ),
    "packed data past the end": (
        lambda: qcow2_with(L2_ENTRY, ">Q", 1 << 62 | 1 << 40),
        "sector 3: a compressed cluster at byte 1099511627776 lies past the end",
    ),
    "packed data that are none": (
        lambda: qcow2_with(L2_ENTRY, ">Q", 1 << 62 | container_files.QCOW2_L2),
        "does not give 512 bytes",
    ),
}


@pytest.mark.parametrize(("make", "reason"), QCOW2.values(), ids=QCOW2)
def test_a_qcow2_image_that_cannot_be_read_says_why(tmp_path: Path, make: Callable[[], bytearray], reason: str) -> None:
    assert reason in opened(tmp_path / "x.qcow2", make())


def test_a_qcow2_image_whose_l2_table_is_its_l1_table_is_read_without_looping(tmp_path: Path) -> None:
    data = qcow2_with(container_files.QCOW2_L1, ">Q", container_files.QCOW2_L1)
    assert opened(tmp_path / "x.qcow2", data) == ""


def test_an_image_that_qemu_has_marked_as_corrupt_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "x.qcow2"
    path.write_bytes(qcow2_with(72, ">Q", 2))
    image = open_image(path)
    assert image.warnings == [f"{path}: QEMU has marked this image as corrupt; repair it: qemu-img check -r all"]
    assert read(image, 0, image.sector_count) == expected(DISK, 512, STORED)


def vhd_with(at: int, form: str, value: int) -> bytearray:
    """Change a VHD's footers and header, and make their checksums right again."""
    data = container_files.vhd(DISK, BLOCKS)
    for start, size, checksum in ((0, 512, 64), (len(data) - 512, 512, 64), (512, 1024, 36)):
        if start <= at < start + size or (start > 1536 and at < 512):
            place = at if start <= at < start + size else start + at
            number(data, place, form, value)
            number(data, start + checksum, ">I", 0)
            number(data, start + checksum, ">I", ~sum(data[start : start + size]) & 0xFFFF_FFFF)
    return data


VHD = {
    "an earlier state's heir": (
        lambda: vhd_with(60, ">I", 4),
        "is a VHD image that holds only what differs from another image",
    ),
    "an unknown type": (lambda: vhd_with(60, ">I", 9), "is a VHD image of type 9, which is not read"),
    "no bytes": (lambda: vhd_with(48, ">Q", 0), "its disk has 0 bytes"),
    "2^60 bytes": (lambda: vhd_with(48, ">Q", 1 << 60), "is a damaged VHD image: its "),
    "a header past the end": (lambda: vhd_with(16, ">Q", 1 << 40), "the header at byte 1099511627776 passes the end"),
    "no header": (lambda: vhd_with(16, ">Q", 0), "there is no header with a right checksum at byte 0"),
    "blocks of 3 bytes": (lambda: vhd_with(512 + 32, ">I", 3), "its blocks have 3 bytes"),
    "blocks of 2^31 bytes": (lambda: vhd_with(512 + 32, ">I", 1 << 31), "its blocks have 2147483648 bytes"),
    "too few blocks": (lambda: vhd_with(512 + 28, ">I", 2), "its table of 2 blocks of 4096 bytes is too small"),
    "a table past the end": (
        lambda: vhd_with(512 + 16, ">Q", 1 << 40),
        "its table at byte 1099511627776 passes the end",
    ),
    "a block past the end": (
        lambda: number(container_files.vhd(DISK, BLOCKS), 1536, ">I", 0xFFFF_FFF0),
        "sector 0: data at byte 2199023247872 lie past the end of the file",
    ),
    "wrong checksums": (
        lambda: container_files.vhd(DISK, BLOCKS).replace(b"win ", b"xxxx"),
        "is a damaged VHD image: the checksum of its footer is wrong",
    ),
}


@pytest.mark.parametrize(("make", "reason"), VHD.values(), ids=VHD)
def test_a_vhd_image_that_cannot_be_read_says_why(tmp_path: Path, make: Callable[[], bytearray], reason: str) -> None:
    assert reason in opened(tmp_path / "x.vhd", make())


def test_a_vhd_image_without_its_last_sector_is_read_by_the_copy_of_the_footer(tmp_path: Path) -> None:
    path = tmp_path / "x.vhd"
    path.write_bytes(container_files.vhd(DISK, BLOCKS)[:-512])
    image = open_image(path)
    assert "no footer at the end (a truncated image?)" in image.warnings[0]
    assert read(image, 0, image.sector_count) == expected(DISK, 4096, BLOCKS)


def test_a_raw_disk_that_only_mentions_vhd_in_its_last_sector_stays_raw(tmp_path: Path) -> None:
    path = tmp_path / "x.img"
    path.write_bytes(bytes(512) + b"conectix".ljust(512, b"x"))
    image = open_image(path)
    assert (image.format, image.sector_count) == ("raw", 2)


def test_a_fixed_vhd_is_the_disk_without_its_footer(tmp_path: Path) -> None:
    disk, path = noise(64 * KIB), tmp_path / "x.vhd"
    path.write_bytes(disk + container_files.vhd_footer(len(disk), 2, (1 << 64) - 1))
    image = open_image(path)
    assert (image.format, image.sector_count) == ("VHD", 128)
    assert read(image, 0, 128) == disk
    path.write_bytes(disk + container_files.vhd_footer(len(disk) + 512, 2, (1 << 64) - 1))
    with pytest.raises(ImageError, match="is a damaged VHD image: its disk of 66048 bytes passes the footer"):
        open_image(path)


def vmdk_with(at: int, form: str, value: int, **options: Any) -> bytearray:
    return number(container_files.vmdk(40 * KIB, GRAINS, **options), at, form, value)


def described(old: bytes, new: bytes) -> bytearray:
    data = container_files.vmdk(40 * KIB, GRAINS)
    assert old in data
    data[512:1536] = data[512:1536].replace(old, new)[:1024].ljust(1024, b"\0")
    return data


TABLE = container_files.VMDK_TABLE * 512
VMDK = {
    "cut short": (lambda: vmdk_with(0, "B", 75)[:40], "is a damaged VMDK image: its header of"),
    "version 9": (lambda: vmdk_with(4, "<I", 9), "is a VMDK image of version 9, which is not read"),
    "no bytes": (lambda: vmdk_with(12, "<Q", 0), "its disk has 0 bytes"),
    "2^62 sectors": (
        lambda: vmdk_with(12, "<Q", 1 << 62),
        "is a damaged VMDK image: its grain directory in sector 3 passes",
    ),
    "grains of 3 sectors": (lambda: vmdk_with(20, "<Q", 3), "its grains have 3 sectors"),
    "grains of 2^40 sectors": (lambda: vmdk_with(20, "<Q", 1 << 40), "its grains have 1099511627776 sectors"),
    "no grain table entries": (lambda: vmdk_with(44, "<I", 0), "its grain tables have 0 entries"),
    "a directory past the end": (
        lambda: vmdk_with(56, "<Q", 1 << 40),
        "its grain directory in sector 1099511627776 passes",
    ),
    "a footer that is none": (lambda: vmdk_with(56, "<Q", (1 << 64) - 1), "where the footer should be"),
    "a table past the end": (
        lambda: vmdk_with(container_files.VMDK_DIRECTORY * 512, "<I", 1 << 30),
        "sector 0: a grain table at byte 549755813888 lies past the end of the file",
    ),
    "a grain past the end": (
        lambda: vmdk_with(TABLE, "<I", 1 << 30),
        "sector 0: data at byte 549755813888 lie past the end",
    ),
    "a packed grain past the end": (
        lambda: vmdk_with(TABLE, "<I", 1 << 30, compressed=True),
        "sector 0: a grain at byte 549755813888 passes the end",
    ),
    "another grain": (
        lambda: vmdk_with(TABLE + 12, "<I", 8, compressed=True),
        "sector 48: the grain in sector 8 is that of sector 0",
    ),
    "a giant packed grain": (
        lambda: vmdk_with(8 * 512 + 8, "<I", 1 << 31, compressed=True),
        "sector 0: the grain in sector 8 has 2147483648 packed bytes",
    ),
    "a packed grain that is none": (
        lambda: vmdk_with(8 * 512 + 12, "<I", 0, compressed=True),
        "sector 0: the grain in sector 8 does not give 8192 bytes",
    ),
    "an unknown compression": (
        lambda: vmdk_with(77, "<H", 2, compressed=True),
        "is a VMDK image with compression type 2, which",
    ),
    "a parent": (
        lambda: described(b"parentCID=ffffffff", b"parentCID=00000001"),
        "is a VMDK image that holds only what differs from another image, which is not read",
    ),
    "encryption": (
        lambda: described(b"version=1", b'encryption.keySafe = "x"'),
        "is a VMDK image with encryption, which is not read",
    ),
}


@pytest.mark.parametrize(("make", "reason"), VMDK.values(), ids=VMDK)
def test_a_vmdk_image_that_cannot_be_read_says_why(tmp_path: Path, make: Callable[[], bytearray], reason: str) -> None:
    assert reason in opened(tmp_path / "x.vmdk", make())


def descriptor(path: Path, *extents: str) -> str:
    text = container_files.DESCRIPTOR.format(kind="custom", extents="\n".join(extents))
    return opened(path, text.encode())


def test_the_extents_of_a_vmdk_descriptor_follow_each_other_on_the_disk(tmp_path: Path) -> None:
    disk = noise(96 * KIB)
    (tmp_path / "a b.flat").write_bytes(b"x" * 1024 + disk[: 16 * KIB])
    (tmp_path / "b.vmdk").write_bytes(container_files.vmdk(40 * KIB, GRAINS))
    assert (
        descriptor(
            tmp_path / "x.vmdk",
            'RW 32 FLAT "a b.flat" 2',
            "RW 8 ZERO",
            'RDONLY 70 SPARSE "b.vmdk"',
            'RW 3 VMFS "a b.flat"',
        )
        == ""
    )
    image = open_image(tmp_path / "x.vmdk")
    assert image.sector_count == 113
    whole = disk[: 16 * KIB] + bytes(8 * 512) + expected(40 * KIB, 8192, GRAINS)[: 70 * 512] + b"x" * 1024 + disk[:512]
    assert read(image, 0, 113) == whole
    assert read(image, 30, 12) == whole[30 * 512 : 42 * 512]
    image.close()


@pytest.mark.parametrize(
    ("extent", "reason"),
    [
        (
            'RW 1 FLAT "/etc/passwd" 0',
            "is a VMDK image whose data are in '/etc/passwd', not in the same directory, which",
        ),
        ('RW 1 FLAT "../x" 0', "is a VMDK image whose data are in '../x', not in the same directory"),
        ('RW 1 FLAT ".." 0', "is a VMDK image whose data are in '..', not in the same directory"),
        ('RW 1 FLAT "gone" 0', "gone: there is no such file"),
        ('RW 9 FLAT "small" 0', "is a damaged VMDK image: 'small' has 1024 bytes, and its extent ends at byte 4608"),
        ('RW 1 FLAT "small" 99999999999', "'small' has 1024 bytes, and its extent ends at byte"),
        ('RW 1 SPARSE "small"', "is a damaged VMDK image: there is no header at byte 0"),
        ('RW 1 SESPARSE "small"', "is a VMDK image with an extent of type RW SESPARSE, which is not read"),
        ('NOACCESS 1 FLAT "small"', "is a VMDK image with an extent of type NOACCESS FLAT, which is not read"),
        ("RW 999999999999999999 ZERO", "is a damaged VMDK image: its extents have 999999999999999999 sectors"),
        ("RW 0 ZERO", "is a damaged VMDK image: one of its extents is empty"),
        ("", "is a damaged VMDK image: its descriptor names no extent"),
    ],
)
def test_a_vmdk_descriptor_can_name_only_sound_files_of_its_own_directory(
    tmp_path: Path, extent: str, reason: str
) -> None:
    (tmp_path / "small").write_bytes(bytes(1024))
    path = tmp_path / "x.vmdk"
    path.write_bytes(container_files.DESCRIPTOR.format(kind="custom", extents=extent).encode())
    descriptors = container_files.open_files()
    with pytest.raises(ImageError) as caught:
        open_image(path)
    assert reason in str(caught.value)
    assert container_files.open_files() <= descriptors


VDI = {
    "format 2": (68, "<I", 0x20001, "is a VDI image of format 2.1, which is not read"),
    "a child": (76, "<I", 4, "is a VDI image that holds only what differs from another image"),
    "blocks of 0 bytes": (376, "<I", 0, "its blocks have 0 bytes"),
    "too few blocks": (384, "<I", 1, "its table of 1 blocks of 1048576 bytes is too small"),
    "a table past the end": (340, "<I", 1 << 31, "its table at byte 2147483648 passes the end"),
    "2^63 bytes": (368, "<Q", 1 << 63, "is too small for its disk of 9223372036854775808 bytes"),
    "no bytes": (368, "<Q", 0, "its disk has 0 bytes"),
    "a block past the end": (512, "<I", 1 << 30, "sector 0: data at byte 1125899906843648 lie past the end"),
}


@pytest.mark.parametrize(("at", "form", "value", "reason"), VDI.values(), ids=VDI)
def test_a_vdi_image_that_cannot_be_read_says_why(tmp_path: Path, at: int, form: str, value: int, reason: str) -> None:
    assert reason in opened(tmp_path / "x.vdi", number(container_files.vdi(3 * MIB // 2, {}), at, form, value))


@pytest.mark.parametrize("name", MADE)
def test_garbage_in_a_container_is_at_most_an_error(
    tmp_path: Path, name: str, some_of: Callable[[range, int], list[int]]
) -> None:
    """`opened` sees to it: another exception, an error that names no file, or one left open fails the test."""
    sound = bytes(MADE[name][1]()[: 8 * KIB])
    said = set()
    for seed in some_of(range(3000), 100):
        source = random.Random(seed)
        data = bytearray(sound)
        for _ in range(source.randrange(1, 6)):
            at = source.choice([source.randrange(120), source.randrange(len(data))])
            data[at : at + 8] = source.choice([bytes(8), b"\xff" * 8, source.randbytes(8), source.randbytes(1)])
        said.add(opened(tmp_path / "x.img", data[: source.choice([len(data), source.randrange(1, len(data))])]))
    assert len(said) > 3, "the garbage is noticed, in more than one way"
