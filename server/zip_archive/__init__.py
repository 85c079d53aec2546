"""The server of ZIP archives as volumes.

Read: stored and deflated entries, ZIP64, names in UTF-8 and code page 437, padding after the archive and bytes before
it.  Refused by name when opened: encrypted entries and other methods.  A symbolic link is a file that holds its target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.server.zip_archive.probe import ZipProbe

if TYPE_CHECKING:
    from callgate.server.zip_archive.server import ZipServer


class Zip(ZipProbe):
    """Recognises ZIP archives, which `ZipServer` serves."""

    @classmethod
    def server_class(cls) -> type[ZipServer]:
        """Import and return the server."""
        from callgate.server.zip_archive.server import ZipServer

        return ZipServer
