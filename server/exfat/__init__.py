"""exFAT volumes, read-only: consecutive files and chains, up-case tables, valid data lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from callgate.server.exfat.probe import probe
from callgate.server.hosted import Recogniser

if TYPE_CHECKING:
    from callgate.server.exfat.server import ExfatServer


class Exfat(Recogniser):
    """Recognises exFAT volumes, which `ExfatServer` serves."""

    name: ClassVar[str] = "exfat"

    @classmethod
    def probe(cls, first: bytes) -> str | None:
        """Return ``exfat`` if the partition is one, else None."""
        return probe(first)

    @classmethod
    def server_class(cls) -> type[ExfatServer]:
        """Import and return the server."""
        from callgate.server.exfat.server import ExfatServer

        return ExfatServer
