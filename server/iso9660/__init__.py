"""The ISO 9660 file-system server, and the reader it is built on.

Read: blocks of 512, 1,024 and 2,048 bytes; Rock Ridge names, links, modes, times and relocated directories; Joliet
names; multi-extent files.  Refused by name when opened: interleaved files, zisofs, special files.  UDF is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.server.iso9660.probe import Iso9660Probe

if TYPE_CHECKING:
    from callgate.server.iso9660.server import IsoServer


class Iso9660(Iso9660Probe):
    """Recognises ISO 9660 volumes, which `IsoServer` serves."""

    @classmethod
    def server_class(cls) -> type[IsoServer]:
        """Import and return the server."""
        from callgate.server.iso9660.server import IsoServer

        return IsoServer
