"""The FAT12, FAT16 and FAT32 file-system server, and the reader it is built on (`tree`, `consistency`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.server.fat.probe import FatProbe

if TYPE_CHECKING:
    from callgate.server.fat.server import FatServer


class Fat(FatProbe):
    """Recognises FAT12, FAT16 and FAT32 volumes, which `FatServer` serves."""

    @classmethod
    def server_class(cls) -> type[FatServer]:
        """Import and return the server."""
        from callgate.server.fat.server import FatServer

        return FatServer
