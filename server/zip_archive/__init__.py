"""The server of ZIP archives as volumes.

Read: stored and deflated entries, ZIP64, names in UTF-8 and code page 437, padding after the archive and bytes before
it.  Refused by name when opened: encrypted entries and other methods.  A symbolic link is a file that holds its target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from callgate.server.hosted import Recogniser
from callgate.server.zip_archive.probe import explain, probe, probe_end

if TYPE_CHECKING:
    from callgate.server.zip_archive.server import ZipServer


class Zip(Recogniser):
    """Recognises ZIP archives, which `ZipServer` serves."""

    name: ClassVar[str] = "zip"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``zip`` if the image is an archive, else None."""
        return probe(first)

    @classmethod
    def probe_end(cls, last: bytes) -> str | None:
        """Return ``zip`` if the image ends with an archive that begins further on, else None."""
        return probe_end(last)

    @classmethod
    def explain(cls, last: bytes) -> str | None:
        """Name the last part of a split archive."""
        return explain(last)

    @classmethod
    def server_class(cls) -> type[ZipServer]:
        """Import and return the server."""
        from callgate.server.zip_archive.server import ZipServer

        return ZipServer
