"""Which file system a partition holds, told from its first sectors and from nothing else.

The FAT width follows from the number of clusters, never from the type string (Microsoft FAT specification
1.03, "FAT Type Determination").
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SECTOR = 512
SUPERBLOCK = 1024  # of ext2, ext3, ext4
ISO_DESCRIPTOR = 32768
ZIP_SIGNATURES = (b"PK\3\4", b"PK\5\6", b"PK\6\6")  # a local header, or the end of an empty archive
HEAD_SECTORS = ISO_DESCRIPTOR // SECTOR + 4  # what has to be read of a partition
SECTOR_SIZES = (512, 1024, 2048, 4096)
EXT_HAS_JOURNAL = 0x4
EXT_64BIT = 0x80
EXT3_INCOMPATIBLE = 0x2 | 0x4 | 0x10  # filetype, needs_recovery, meta_bg: what is beyond these is ext4's
EXT3_READ_ONLY = 0x1 | 0x2 | 0x4  # sparse_super, large_file, btree_dir
FAT12_CLUSTERS, FAT16_CLUSTERS = 4085, 65525
_BPB = struct.Struct("<HBHBHHBHHHII")


@dataclass(frozen=True, slots=True)
class Recognised:
    """A file system: its name ("" if it is none that is known), label, numbers of note, and problems."""

    kind: str
    label: str = ""
    details: dict[str, int | str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def recognise(head: bytes, sectors: int) -> Recognised:
    """Judge a partition of `sectors` 512-byte sectors that begins with `head`; never fails."""
    head = head.ljust(HEAD_SECTORS * SECTOR, b"\0")
    judges: tuple[Callable[[bytes, int], Recognised | None], ...] = (_exfat, _ntfs, _zip, _ext, _fat, _iso)
    for judge in judges:
        found = judge(head, sectors)
        if found is not None:
            return found
    return Recognised("")


def _exfat(head: bytes, sectors: int) -> Recognised | None:
    if head[3:11] != b"EXFAT   ":
        return None
    length = int.from_bytes(head[72:80], "little")
    shift, per_cluster = head[108], head[109]
    if shift not in (9, 10, 11, 12) or shift + per_cluster > 25:
        return Recognised("exfat", problems=[f"sectors of 2^{shift} bytes, 2^{per_cluster} of them a cluster"])
    serial = int.from_bytes(head[100:104], "little")
    details: dict[str, int | str] = {
        "sector_bytes": 1 << shift,
        "cluster_bytes": 1 << shift + per_cluster,
        "clusters": int.from_bytes(head[92:96], "little"),
        "fats": head[110],
        "fat_sectors": int.from_bytes(head[84:88], "little"),
        "data_sector": int.from_bytes(head[88:92], "little"),
        "serial": f"{serial >> 16:04X}-{serial & 0xFFFF:04X}",
    }
    return Recognised("exfat", details=details, problems=_too_long(length << shift >> 9, sectors))


def _ntfs(head: bytes, sectors: int) -> Recognised | None:
    if head[3:11] != b"NTFS    ":
        return None
    length = int.from_bytes(head[40:48], "little")
    size = int.from_bytes(head[11:13], "little")
    return Recognised("ntfs", details={"sectors": length}, problems=_too_long(length * size // SECTOR, sectors))


def _ext(head: bytes, sectors: int) -> Recognised | None:
    block = head[SUPERBLOCK : SUPERBLOCK + 1024]
    if block[56:58] != b"\x53\xef":
        return None
    blocks, shift = int.from_bytes(block[4:8], "little"), int.from_bytes(block[24:28], "little") % 32
    revised = any(block[76:80])  # revision 0 has no features
    compatible, incompatible, read_only = (
        int.from_bytes(block[at : at + 4], "little") * revised for at in (92, 96, 100)
    )
    newer = incompatible & ~EXT3_INCOMPATIBLE or read_only & ~EXT3_READ_ONLY
    kind = "ext4" if newer else "ext3" if compatible & EXT_HAS_JOURNAL else "ext2"
    if incompatible & EXT_64BIT:
        blocks |= int.from_bytes(block[336:340], "little") << 32
    details: dict[str, int | str] = {"block_bytes": 1024 << shift, "blocks": blocks}
    return Recognised(kind, _text(block[120:136]), details, _too_long(blocks * (2 << shift), sectors))


def _iso(head: bytes, sectors: int) -> Recognised | None:
    at = ISO_DESCRIPTOR
    if head[at + 1 : at + 6] != b"CD001":
        return None
    size, blocks = (
        int.from_bytes(head[at + 128 : at + 130], "little"),
        int.from_bytes(head[at + 80 : at + 84], "little"),
    )
    details: dict[str, int | str] = {"block_bytes": size, "blocks": blocks}
    problems = _too_long(size * blocks // SECTOR, sectors) if head[at] == 1 else []
    return Recognised("iso9660", _text(head[at + 40 : at + 72]), details, problems)


def _zip(head: bytes, sectors: int) -> Recognised | None:
    del sectors
    return Recognised("zip") if head[:4] in ZIP_SIGNATURES else None


def _fat(head: bytes, sectors: int) -> Recognised | None:
    says_so = head[510:512] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:85] == b"FAT")
    size, per_cluster, reserved, fats, root, total16, media, fat16, _, _, _, total32 = _BPB.unpack_from(head, 11)
    problem = _absurd(size, per_cluster, reserved, fats, media)
    if problem:
        return Recognised("fat", problems=[problem]) if says_so else None
    if not says_so and head[0] not in (0xEB, 0xE9):
        return None
    fat_size = fat16 or int.from_bytes(head[36:40], "little")
    total = total16 or total32
    data = reserved + fats * fat_size + -(-root * 32 // size)
    if not total or not fat_size or data >= total:
        return Recognised("fat", problems=[f"{total} sectors do not hold FATs and root directory of {data} sectors"])
    clusters = (total - data) // per_cluster
    width = 12 if clusters < FAT12_CLUSTERS else 16 if clusters < FAT16_CLUSTERS else 32
    problems = _too_long(total * size // SECTOR, sectors)
    if fat_size * size * 8 < (clusters + 2) * width:
        problems.append(f"the FAT of {fat_size} sectors is too small for {clusters} clusters")
    if (width == 32) != (fat16 == 0):
        problems.append(f"{clusters} clusters make it FAT{width}, but the boot sector is laid out otherwise")
    at = 64 if fat16 == 0 else 36
    signed = head[at + 2] in (0x28, 0x29)
    details: dict[str, int | str] = {
        "sector_bytes": size,
        "cluster_bytes": size * per_cluster,
        "clusters": clusters,
        "fats": fats,
        "fat_sectors": fat_size,
        "root_entries": root,
        "reserved_sectors": reserved,
        "data_sector": data,
        "serial": "{3:02X}{2:02X}-{1:02X}{0:02X}".format(*head[at + 3 : at + 7]) if signed else "",
    }
    label = _text(head[at + 7 : at + 18]) if head[at + 2] == 0x29 else ""
    return Recognised(f"fat{width}", "" if label == "NO NAME" else label, details, problems)


def _absurd(size: int, per_cluster: int, reserved: int, fats: int, media: int) -> str:
    """Return what no FAT volume can have, or nothing."""
    if size not in SECTOR_SIZES:
        return f"{size} bytes per sector"
    if not per_cluster or per_cluster & per_cluster - 1:
        return f"{per_cluster} sectors per cluster"
    if not reserved:
        return "no reserved sectors"
    if not fats:
        return "no FATs"
    return f"media byte {media:#04x}" if media < 0xF0 else ""


def _too_long(length: int, sectors: int) -> list[str]:
    if length <= sectors:
        return []
    return [f"the file system has {length} sectors of 512 bytes, its partition {sectors}"]


def _text(data: bytes) -> str:
    """Return a padded text field, what cannot be printed replaced."""
    text = data.split(b"\0")[0].decode("ascii", "replace").strip()
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
