"""exFAT volumes, read-only: consecutive files and chains, up-case tables, valid data lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING

from callgate.server.exfat.probe import ExfatProbe

if TYPE_CHECKING:
    from callgate.server.exfat.server import ExfatServer


class Exfat(ExfatProbe):
    """Recognises exFAT volumes, which `ExfatServer` serves."""

    @classmethod
    def server_class(cls) -> type[ExfatServer]:
        """Import and return the server."""
        from callgate.server.exfat.server import ExfatServer

        return ExfatServer
