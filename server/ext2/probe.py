"""Is this partition ext2, ext3 or ext4?  Asked of its first bytes, which may be anything.

What knows superblocks is imported only for bytes that have the magic number of one.
"""

from typing import ClassVar, Final

from callgate.kernel.abi.disks.volumes import (
    BOOT_SIGNATURE,
    BOOT_SIGNATURE_OFFSET,
    EXT_MAGIC,
    EXT_MAGIC_OFFSET,
    EXT_SUPERBLOCK_OFFSET,
)
from callgate.server.errors import MountError
from callgate.server.hosted import Recogniser

_UNBOUNDED: Final = 1 << 60  # the partition's size is not known to a probe
_JUMPS: Final = (0xEB, 0xE9)  # boot sectors of early DOS have nothing else


class Ext2Probe(Recogniser):
    """Claims ext2, ext3 and ext4 volumes."""

    name: ClassVar[str] = "ext2"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``ext2``, ``ext3`` or ``ext4`` if the partition that begins with ``first`` says that it is one.

        It says so by its magic number alone, so that mounting can name what is absurd about the rest.  But these two
        bytes are little evidence where a FAT has its table: after a boot sector the numbers must fit, too.
        """
        if first[EXT_MAGIC_OFFSET:][:2] != EXT_MAGIC:
            return None
        from callgate.server.ext2.superblock import parse_superblock, read_features

        raw = first[EXT_SUPERBLOCK_OFFSET:]
        features = read_features(raw)
        if features is None:
            return None
        if first[BOOT_SIGNATURE_OFFSET:][:2] == BOOT_SIGNATURE or first[0] in _JUMPS:
            try:
                parse_superblock(raw, _UNBOUNDED)
            except MountError:
                return None
        return features.kind
