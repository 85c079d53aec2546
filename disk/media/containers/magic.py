"""The first bytes of a file that is not a raw image.  Loaded with every image: it must stay small."""

from typing import Final

COMPRESSED: Final = {"gzip": b"\x1f\x8b\x08", "xz": b"\xfd7zXZ\0", "bzip2": b"BZh", "zstd": b"\x28\xb5\x2f\xfd"}
BZIP2_BLOCK: Final = b"1AY&SY"
_BZIP2_NEXT: Final = (BZIP2_BLOCK, b"\x17rE8P\x90")  # after the level: a block, or the end of an empty stream
_SKIPPED: Final = tuple(bytes([first]) for first in range(0x50, 0x60))
QCOW2: Final = b"QFI\xfb"
VMDK_SPARSE: Final = b"KDMV"
VMDK_DESCRIPTOR: Final = b"# Disk DescriptorFile"
VDI: Final = b"\x7f\x10\xda\xbe"
VDI_AT: Final = 64
VHD: Final = b"conectix"
VHD_FOOTER_BYTES: Final = 512
HEAD_BYTES: Final = 512  # bytes of a file that have to be read


def goes_on(kind: str, rest: bytes) -> bool:
    """Whether the bytes after a stream begin another one; Zstandard's may be one to be skipped (RFC 8878, 3.1.2)."""
    return rest.startswith(COMPRESSED[kind]) or (
        kind == "zstd" and rest[:1] in _SKIPPED and rest[1:4] == b"\x2a\x4d\x18"
    )


def compression_of(head: bytes) -> str:
    """Return the kind of compression of a file that begins with `head`; "" if it has none that can be unpacked."""
    for kind, magic in COMPRESSED.items():
        if head.startswith(magic) and (kind != "bzip2" or head[4:10] in _BZIP2_NEXT):
            return kind
    return ""
