"""Numbers by which volumes are known: formatters write them, servers and the scan for partitions look for them.

They are the disk's, so assembly does not see them.  Sources: Microsoft, "FAT: General Overview of On-Disk Format",
1.03, and "exFAT file system specification", 2019; ECMA-119 and ECMA-167; UEFI 2.10, 5.2; Linux,
Documentation/filesystems/ext4.
"""

from typing import Final

BOOT_SIGNATURE: Final = b"\x55\xaa"
"""Ends the first sector of disks with a partition table and of FAT and exFAT volumes."""

BOOT_SIGNATURE_OFFSET: Final = 510
"""Where it is in bytes, whatever the sector size."""

FAT12_CLUSTERS: Final = 4085
"""With fewer clusters a FAT volume is FAT12 ("FAT Type Determination")."""

FAT16_CLUSTERS: Final = 65525
"""With fewer clusters, and no less than FAT12_CLUSTERS, it is FAT16, else FAT32."""

FAT32_CLUSTERS: Final = 0x0FFF_FFF5
"""Most clusters whose numbers stay below the mark of a bad one."""

FAT_EXTENDED_SIGNATURE: Final = 0x29
"""BS_BootSig: serial number, label and type string are there."""

FAT_BACKUP_SECTOR: Final = 6
"""Where FAT32 has a copy of its boot sector: "no value other than 6 is recommended"."""

FSINFO_LEAD: Final = 0x4161_5252
FSINFO_STRUCTURE: Final = 0x6141_7272
FSINFO_UNKNOWN: Final = 0xFFFF_FFFF
"""The FSInfo sector of FAT32: FSI_LeadSig, FSI_StrucSig, and a count or cluster that is not known."""

OEM_NAME_OFFSET: Final = 3
"""Where a boot sector names who formatted the volume (BS_OEMName); these do not, but say what it is instead."""

EXFAT_NAME: Final = b"EXFAT   "
NTFS_NAME: Final = b"NTFS    "
REFS_NAME: Final = b"ReFS\0\0\0\0"
BITLOCKER_NAME: Final = b"-FVE-FS-"

EXFAT_REGION_SECTORS: Final = 12
"""Sectors of the main and of the backup boot region (2.2)."""

EXFAT_CHECKSUM_SECTOR: Final = 11
"""The sector of a boot region that holds the checksum of those before it (3.4)."""

EXFAT_NOT_CHECKED: Final = (106, 107, 112)
"""Bytes of the boot sector that change while the volume is used, and are not in the checksum (3.4)."""

EXT_SUPERBLOCK_OFFSET: Final = 1024
EXT_MAGIC_OFFSET: Final = EXT_SUPERBLOCK_OFFSET + 56
EXT_MAGIC: Final = b"\x53\xef"
"""Where the superblock of ext2, ext3 and ext4 is in bytes, and its s_magic."""

ISO_LOGICAL_SECTOR: Final = 2048
ISO_FIRST_DESCRIPTOR: Final = 16
"""Bytes of a logical sector of ISO 9660, and the first one that holds a volume descriptor (6.1.2, 6.2.1)."""

ISO_IDENTIFIER: Final = b"CD001"
"""The standard identifier, at byte 1 of each volume descriptor (8.1.2)."""

UDF_BEGINNING: Final = b"BEA01"
UDF_NAMES: Final = (b"NSR02", b"NSR03")
"""Identifiers of ECMA-167 where ISO 9660 has its own: the recognition area begins, and it is UDF (2/9.2, 3/9.1)."""
