"""The ISO 9660 file-system server, and the reader it is built on.

Read: blocks of 512, 1,024 and 2,048 bytes; Rock Ridge names, links, modes, times and relocated directories; Joliet
names; multi-extent files.  Refused by name when opened: interleaved files, zisofs, special files.  UDF is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from callgate.server.hosted import Recogniser
from callgate.server.iso9660.probe import probe

if TYPE_CHECKING:
    from callgate.server.iso9660.server import IsoServer


class Iso9660(Recogniser):
    """Recognises ISO 9660 volumes, which `IsoServer` serves."""

    name: ClassVar[str] = "iso9660"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``rockridge``, ``joliet`` or ``iso9660`` if the partition is one, else None."""
        return probe(first)

    @classmethod
    def server_class(cls) -> type[IsoServer]:
        """Import and return the server."""
        from callgate.server.iso9660.server import IsoServer

        return IsoServer
