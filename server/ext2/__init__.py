"""The ext2, ext3 and ext4 file-system server, read-only, and the reader it is built on.

Read: revisions 0 and 1; blocks of 1 to 64 KiB; inodes of 128 bytes and more; pointers and extents, holes,
extents without data; file types, hashed directories, symbolic links; filetype, meta_bg, extent, 64bit, flex_bg,
large_dir, bigalloc, uninit_bg, and features that matter only to writers or attributes (features.py).  Free blocks are
counted in the bitmaps.  A bad superblock or group descriptor is replaced by its backup.

Not read: volumes with inline_data, encrypt, casefold, compression, dirdata or a feature without a name: they are
refused by its name.  A journal is not replayed; the volume is mounted as it was without it, marked as dirty, and
that is reported.  Checksums (metadata_csum) are not compared, extended attributes are not shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.server.ext2.probe import Ext2Probe

if TYPE_CHECKING:
    from callgate.server.ext2.server import Ext2Server


class Ext2(Ext2Probe):
    """Recognises ext2, ext3 and ext4 volumes, which `Ext2Server` serves."""

    @classmethod
    def server_class(cls) -> type[Ext2Server]:
        """Import and return the server."""
        from callgate.server.ext2.server import Ext2Server

        return Ext2Server
