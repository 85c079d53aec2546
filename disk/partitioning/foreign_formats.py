"""Formats that are not read here, and the bytes by which each is recognised.

A row matches if all of its bytes are at their offsets.  The kinds of file systems are those that blkid prints.  Sources
are the formats' own documents and, for file systems and volume managers, the data that the Linux kernel writes.
"""

from typing import Final, NamedTuple

from callgate.disk.media.containers import magic
from callgate.kernel.abi.disks.volumes import BITLOCKER_NAME, NTFS_NAME, OEM_NAME_OFFSET, REFS_NAME

Bytes = tuple[int, bytes]  # offset, and the bytes there


class Format(NamedTuple):
    """A format: short name, description, remedy, and its bytes by offset."""

    kind: str
    text: str
    hint: str
    bytes: tuple[Bytes, ...]


MOUNT: Final = "mount it elsewhere and make an image of its files: callgate disk create OUT --from DIR"
CONVERT: Final = "convert it: qemu-img convert -O raw IMAGE OUT"
UNPACK: Final = "unpack it: {}"
TOOL: Final = "make a raw image of it with {}"
CUT: Final = "cut a partition out: dd if=IMAGE of=OUT skip=FIRST count=SECTORS"
NOT_A_DISK: Final = "give an image of the disk that holds it"


def _file_system(kind: str, name: str, *places: Bytes, hint: str = MOUNT) -> Format:
    return Format(kind, f"{name}, which no server reads", hint, places)


def _image(kind: str, name: str, *places: Bytes, hint: str = CONVERT) -> Format:
    return Format(kind, f"{name}, which is not read", hint, places)


def _packed(kind: str, name: str, command: str, *places: Bytes) -> Format:
    return Format(kind, name, UNPACK.format(command), places)


DISK_IMAGES: Final = (
    _image("qcow2", "a qcow2 image", (0, magic.QCOW2)),
    _image("qed", "a QED image (QEMU)", (0, b"QED\0")),
    _image("vmdk", "a VMDK image (VMware)", (0, magic.VMDK_SPARSE)),
    _image("vmdk", "a VMDK image (VMware ESX)", (0, b"COWD")),
    _image("vmdk", "a VMDK image (VMware ESX, SEsparse)", (0, b"\xbe\xba\xfe\xca\0\0\0\0")),
    _image("vhdx", "a VHDX image (Hyper-V)", (0, b"vhdxfile")),
    _image("vhd", "a VHD image", (0, magic.VHD)),
    _image("vdi", "a VDI image (VirtualBox)", (magic.VDI_AT, magic.VDI)),
    _image("parallels", "a Parallels image", (0, b"WithoutFreeSpace")),
    _image("parallels", "a Parallels image", (0, b"WithouFreSpacExt")),
    _image("bochs", "a Bochs image", (0, b"Bochs Virtual HD Image")),
    _image("cloop", "a compressed loop image (cloop)", (0, b"#!/bin/sh\n#V2.0 Format")),
    _image(
        "android-sparse", "an Android sparse image", (0, b"\x3a\xff\x26\xed"), hint="convert it: simg2img IMAGE OUT"
    ),
    _image(
        "android-boot", "an Android boot image", (0, b"ANDROID!"), hint="take it apart: unpack_bootimg --boot_img IMAGE"
    ),
    _image("ewf", "an EWF image (EnCase)", (0, b"EVF\t\r\n\xff\0"), hint="convert it: ewfexport IMAGE"),
    _image("ewf", "an EWF image (EnCase)", (0, b"EVF2\r\n\x81\0"), hint="convert it: ewfexport IMAGE"),
    _image(
        "chd", "a CHD image (MAME)", (0, b"MComprHD"), hint="convert it: chdman extracthd -i IMAGE -o OUT, or extractcd"
    ),
    _image(
        "partclone",
        "a partclone image",
        (0, b"partclone-image"),
        hint="convert it: partclone.restore -C -W -s IMAGE -O OUT",
    ),
    _image("wim", "a WIM archive (Windows)", (0, b"MSWIM\0\0\0"), hint="unpack it: wimapply IMAGE 1 DIR"),
    _image("isz", "an ISZ image (UltraISO)", (0, b"IsZ!"), hint=TOOL.format("a program that reads ISZ")),
    _image("cso", "a CSO image (compressed ISO)", (0, b"CISO"), hint="convert it to an ISO image"),
    _image(
        "imd", "an ImageDisk floppy image", (0, b"IMD 1."), hint="convert it to sectors alone: dsktrans, or IMDU /B"
    ),
    _image("hfe", "an HFE floppy image", (0, b"HXCPICFE"), hint="convert it to sectors alone: hxcfe"),
    _image("copyqm", "a CopyQM floppy image", (0, b"CQ\x14"), hint="convert it to sectors alone: dsktrans"),
)

PACKED: Final = (
    _packed("gzip", "gzip-compressed data", "gzip -d", (0, magic.COMPRESSED["gzip"])),
    _packed("xz", "xz-compressed data", "xz -d", (0, magic.COMPRESSED["xz"])),
    _packed("zstd", "zstd-compressed data", "zstd -d", (0, magic.COMPRESSED["zstd"])),
    _packed("bzip2", "bzip2-compressed data", "bzip2 -d", (0, magic.COMPRESSED["bzip2"]), (4, magic.BZIP2_BLOCK)),
    _packed("lz4", "lz4-compressed data", "lz4 -d", (0, b"\x04\x22\x4d\x18")),
    _packed("lz4", "lz4-compressed data (older format)", "lz4 -d", (0, b"\x02\x21\x4c\x18")),
    _packed("lzip", "lzip-compressed data", "lzip -d", (0, b"LZIP\1")),
    _packed("lzop", "lzop-compressed data", "lzop -d", (0, b"\x89LZO\0\r\n\x1a\n")),
    _packed("lzma", "lzma-compressed data", "xz -d --format=lzma", (0, b"\x5d\0\0"), (5, b"\xff" * 8)),
    _packed("compress", "data compressed by compress", "gzip -d", (0, b"\x1f\x9d\x90")),
    _packed("7z", "a 7z archive", "7z x", (0, b"7z\xbc\xaf\x27\x1c")),
    _packed("rar", "a RAR archive", "unrar x", (0, b"Rar!\x1a\x07")),
    _packed("cab", "a CAB archive", "cabextract", (0, b"MSCF\0\0\0\0")),
    _packed("arj", "an ARJ archive", "arj x", (0, b"\x60\xea"), (10, b"\2")),
    _packed("tar", "a tar archive", "tar -xf", (257, b"ustar\0")),
    _packed("tar", "a tar archive", "tar -xf", (257, b"ustar  \0")),
    _packed("cpio", "a cpio archive", "cpio -id", (0, b"070701")),
    _packed("cpio", "a cpio archive", "cpio -id", (0, b"070702")),
    _packed("cpio", "a cpio archive", "cpio -id", (0, b"070707")),
)

FILES: Final = (
    Format("elf", "an ELF file, not a disk image", NOT_A_DISK, ((0, b"\x7fELF"),)),
    Format("pdf", "a PDF file, not a disk image", "", ((0, b"%PDF-"),)),
)

FILE_SYSTEMS: Final = (
    _file_system("ntfs", "an NTFS volume", (OEM_NAME_OFFSET, NTFS_NAME)),
    _file_system("ReFS", "a ReFS volume", (OEM_NAME_OFFSET, REFS_NAME), (16, b"FSRS")),
    _file_system("hpfs", "an HPFS volume", (0x2000, b"\x49\xe8\x95\xf9\xc5\xe9\x53\xfa")),
    _file_system("xfs", "an XFS file system", (0, b"XFSB\0\0")),
    _file_system("btrfs", "a Btrfs file system", (0x10040, b"_BHRfS_M")),
    _file_system(
        "bcachefs",
        "a bcachefs file system",
        (4120, b"\xc6\x85\x73\xf6\x66\xce\x90\xa9\xd9\x6a\x60\xcf\x80\x3d\xf7\xef"),
    ),
    _file_system(
        "bcachefs",
        "a bcachefs file system",
        (4120, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca\x82\x65\xf5\x7f\x48\xba\x6d\x81"),
        (4096, bytes(8)),
    ),
    _file_system("reiserfs", "a ReiserFS file system", (0x10034, b"ReIsEr")),
    _file_system("reiserfs", "a ReiserFS file system", (0x2034, b"ReIsErFs")),
    _file_system("reiser4", "a Reiser4 file system", (0x10000, b"ReIsEr4")),
    _file_system("jfs", "a JFS file system", (0x8000, b"JFS1")),
    _file_system("f2fs", "an F2FS file system", (0x400, b"\x10\x20\xf5\xf2")),
    _file_system("erofs", "an EROFS file system", (0x400, b"\xe2\xe1\xf5\xe0")),
    _file_system("nilfs2", "a NILFS2 file system", (0x400, b"\2\0\0\0"), (0x406, b"\x34\x34")),
    _file_system("gfs2", "a GFS2 file system", (0x10000, b"\1\x16\x19\x70")),
    _file_system("ocfs2", "an OCFS2 file system", (0x400, b"OCFSV2")),
    _file_system("ocfs2", "an OCFS2 file system", (0x800, b"OCFSV2")),
    _file_system("ocfs2", "an OCFS2 file system", (0x1000, b"OCFSV2")),
    _file_system("ocfs2", "an OCFS2 file system", (0x2000, b"OCFSV2")),
    _file_system("squashfs", "a SquashFS file system", (0, b"hsqs"), hint="unpack it: unsquashfs IMAGE"),
    _file_system("squashfs", "a SquashFS file system", (0, b"sqsh"), hint="unpack it: unsquashfs IMAGE"),
    _file_system("cramfs", "a cramfs file system", (0, b"\x45\x3d\xcd\x28"), (16, b"Compressed ROMFS")),
    _file_system("cramfs", "a cramfs file system", (0, b"\x28\xcd\x3d\x45"), (16, b"Compressed ROMFS")),
    _file_system("cramfs", "a cramfs file system", (512, b"\x45\x3d\xcd\x28"), (528, b"Compressed ROMFS")),
    _file_system("romfs", "a romfs file system", (0, b"-rom1fs-")),
    _file_system("befs", "a BeFS file system", (544, b"1SFB")),
    _file_system("befs", "a BeFS file system", (32, b"BFS1")),
    _file_system("hfsplus", "an HFS+ volume", (0x400, b"H+\0\4")),
    _file_system("hfsplus", "an HFS+ volume (HFSX)", (0x400, b"HX\0\5")),
    _file_system("hfsplus", "an HFS+ volume", (0x400, b"BD"), (0x47C, b"H+")),
    _file_system("apfs", "an APFS container", (32, b"NXSB")),
    _file_system("ubifs", "a UBIFS file system", (0, b"\x31\x18\x10\x06")),
    _file_system("ubi", "a UBI image", (0, b"UBI#\1"), hint="take its volumes out: ubireader_extract_images IMAGE"),
    _file_system("jffs2", "a JFFS2 file system", (0, b"\x85\x19\3\x20")),
    _file_system("jffs2", "a JFFS2 file system", (0, b"\x85\x19\1\xe0")),
    _file_system("jffs2", "a JFFS2 file system", (0, b"\x85\x19\2\xe0")),
    *(
        _file_system("ufs", f"a UFS{number} file system", (at + 1372, word[::order]))
        for number, word in ((1, b"\x54\x19\1\0"), (2, b"\x19\1\x54\x19"))
        for at in (0x2000, 0x10000, 0x40000)
        for order in (1, -1)
    ),
    _file_system("bfs", "an SCO boot file system", (0, b"\xce\xfa\xad\x1b")),
    _file_system("highsierra", "a High Sierra CD", (0x8009, b"CDROM\1")),
    _file_system("xdvdfs", "an Xbox disc", (0x10000, b"MICROSOFT*XBOX*MEDIA"), hint="unpack it: extract-xiso IMAGE"),
    *(
        _file_system(
            "affs", "an Amiga volume", (0, b"DOS" + bytes([number])), hint="unpack it: xdftool IMAGE unpack DIR"
        )
        for number in range(8)
    ),
)

_SWAP: Final = (
    ("swap", "swap space of Linux, no volume", b"SWAPSPACE2"),
    ("swap", "swap space of Linux, no volume", b"SWAP-SPACE"),
    ("swsuspend", "swap space of Linux that holds a suspended system, no volume", b"S1SUSPEND\0"),
    ("swsuspend", "swap space of Linux that holds a suspended system, no volume", b"S2SUSPEND\0"),
    ("swsuspend", "swap space of Linux that holds a suspended system, no volume", b"LINHIB0001"),
)

MANAGERS: Final = (
    Format(
        "crypto_LUKS",
        "a LUKS volume, which is encrypted",
        "open it and copy what is in it: cryptsetup open",
        ((0, b"LUKS\xba\xbe"),),
    ),
    Format(
        "BitLocker",
        "a BitLocker volume, which is encrypted",
        "open it and copy what is in it: cryptsetup bitlkOpen",
        ((OEM_NAME_OFFSET, BITLOCKER_NAME),),
    ),
    Format("DM_verity_hash", "hashes of a verity device, no volume", "", ((0, b"verity\0\0\1\0\0\0"),)),
    *(
        Format(
            "LVM2_member",
            "an LVM physical volume",
            "activate it and copy a logical volume: vgchange -ay, dd if=/dev/VG/LV of=OUT",
            ((sector * 512, b"LABELONE"), (sector * 512 + 24, b"LVM2 001")),
        )
        for sector in range(4)
    ),
    *(
        Format(
            "linux_raid_member",
            "a part of a Linux RAID",
            "assemble it and copy the array: mdadm --assemble, dd if=/dev/mdN of=OUT",
            ((at, b"\xfc\x4e\x2b\xa9\1\0\0\0"),),
        )
        for at in (0, 4096)
    ),
    *(
        Format(kind, text, "", ((page - 10, signature),))
        for page in (4096, 8192, 16384, 32768, 65536)
        for kind, text, signature in _SWAP
    ),
    Format("apm", "an Apple partition map, which is not read", CUT, ((0, b"ER"), (512, b"PM\0\0"))),
    *(
        Format("rdb", "an Amiga partition table, which is not read", CUT, ((sector * 512, b"RDSK\0\0\0"),))
        for sector in range(16)
    ),
    Format(
        "bsd",
        "a BSD disk label, which is not read",
        CUT,
        ((512, b"\x57\x45\x56\x82"), (512 + 132, b"\x57\x45\x56\x82")),
    ),
)

ENDS: Final = (  # offsets count from the end
    _image("dmg", "an Apple disk image (DMG)", (-512, b"koly\0\0\0\4"), hint=CONVERT),
    _image("nrg", "a Nero CD image", (-12, b"NER5"), hint="convert it: nrg2iso IMAGE OUT"),
    _image("nrg", "a Nero CD image", (-8, b"NERO"), hint="convert it: nrg2iso IMAGE OUT"),
)
