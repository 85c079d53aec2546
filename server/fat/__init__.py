"""The FAT12, FAT16 and FAT32 file-system server, and the reader it is built on (`tree`, `consistency`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from callgate.server.fat.probe import probe
from callgate.server.hosted import Recogniser

if TYPE_CHECKING:
    from callgate.server.fat.server import FatServer


class Fat(Recogniser):
    """Recognises FAT12, FAT16 and FAT32 volumes, which `FatServer` serves."""

    name: ClassVar[str] = "fat"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``fat12``, ``fat16``, ``fat32`` or ``fat`` if the partition is one, else None."""
        return probe(first)

    @classmethod
    def server_class(cls) -> type[FatServer]:
        """Import and return the server."""
        from callgate.server.fat.server import FatServer

        return FatServer
