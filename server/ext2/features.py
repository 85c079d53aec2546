"""Features of a volume: their names, those that this reader knows, and the kind of file system that they make.

COMPAT and RO_COMPAT features do not matter to a reader.  An INCOMPAT feature changes where things are, so one
that is not known makes the volume unreadable (ext4 documentation, "Feature flags").
"""

from enum import IntFlag
from typing import Final, NamedTuple


class Compatible(IntFlag):
    """s_feature_compat, as far as it is used here."""

    HAS_JOURNAL = 0x4
    SPARSE_SUPER2 = 0x200


class Incompatible(IntFlag):
    """s_feature_incompat."""

    COMPRESSION = 0x1
    FILETYPE = 0x2
    RECOVER = 0x4
    JOURNAL_DEV = 0x8
    META_BG = 0x10
    EXTENTS = 0x40
    BIT64 = 0x80
    MMP = 0x100
    FLEX_BG = 0x200
    EA_INODE = 0x400
    DIRDATA = 0x1000
    CSUM_SEED = 0x2000
    LARGEDIR = 0x4000
    INLINE_DATA = 0x8000
    ENCRYPT = 0x10000
    CASEFOLD = 0x20000


class ReadOnlyCompatible(IntFlag):
    """s_feature_ro_compat, as far as it is used here."""

    SPARSE_SUPER = 0x1
    LARGE_FILE = 0x2
    BTREE_DIR = 0x4
    GDT_CSUM = 0x10  # uninit_bg
    BIGALLOC = 0x200
    METADATA_CSUM = 0x400


#: By bit, the names that mke2fs -O takes.
INCOMPATIBLE_NAMES: Final = {
    Incompatible.COMPRESSION: "compression",
    Incompatible.FILETYPE: "filetype",
    Incompatible.RECOVER: "needs_recovery",
    Incompatible.JOURNAL_DEV: "journal_dev",
    Incompatible.META_BG: "meta_bg",
    Incompatible.EXTENTS: "extent",
    Incompatible.BIT64: "64bit",
    Incompatible.MMP: "mmp",
    Incompatible.FLEX_BG: "flex_bg",
    Incompatible.EA_INODE: "ea_inode",
    Incompatible.DIRDATA: "dirdata",
    Incompatible.CSUM_SEED: "metadata_csum_seed",
    Incompatible.LARGEDIR: "large_dir",
    Incompatible.INLINE_DATA: "inline_data",
    Incompatible.ENCRYPT: "encrypt",
    Incompatible.CASEFOLD: "casefold",
}

#: What is here either is read (filetype, meta_bg, extent, 64bit, flex_bg, large_dir), or concerns only writers
#: (mmp), extended attributes (ea_inode) or checksums, which are not compared (metadata_csum_seed).  A journal
#: that was not replayed leaves the volume readable as it was before the last changes.
KNOWN: Final = int(
    Incompatible.FILETYPE
    | Incompatible.RECOVER
    | Incompatible.META_BG
    | Incompatible.EXTENTS
    | Incompatible.BIT64
    | Incompatible.MMP
    | Incompatible.FLEX_BG
    | Incompatible.EA_INODE
    | Incompatible.CSUM_SEED
    | Incompatible.LARGEDIR
)

# What ext3 knew; anything else is ext4's.  Plain numbers: the complement of a flag has no bits without names.
_EXT3_INCOMPATIBLE: Final = int(Incompatible.FILETYPE | Incompatible.RECOVER | Incompatible.META_BG)
_EXT3_READ_ONLY: Final = int(
    ReadOnlyCompatible.SPARSE_SUPER | ReadOnlyCompatible.LARGE_FILE | ReadOnlyCompatible.BTREE_DIR
)


class Features(NamedTuple):
    """The three sets, plain numbers because unknown bits are kept.  Revision 0 has none."""

    compatible: int
    incompatible: int
    read_only: int

    @property
    def kind(self) -> str:
        """Return ``ext2``, ``ext3`` or ``ext4``: the oldest that has all these features."""
        if self.incompatible & ~_EXT3_INCOMPATIBLE or self.read_only & ~_EXT3_READ_ONLY:
            return "ext4"
        return "ext3" if self.compatible & Compatible.HAS_JOURNAL else "ext2"

    def unknown(self) -> list[str]:
        """Return the names of unknown features that prevent reading; usually none."""
        bits = (1 << bit for bit in range(32) if self.incompatible & ~KNOWN & 1 << bit)
        return [INCOMPATIBLE_NAMES.get(Incompatible(bit), f"I{bit.bit_length() - 1}") for bit in bits]
