"""Servers of installed packages, found by their entry points; a broken one breaks nothing else.

What a package's Python raises at import becomes a sentence that names the server.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from callgate.server.hosted import HostedServer
from callgate.server.raised import describe

GROUP = "callgate.servers"


def installed_servers() -> list[type[HostedServer]]:
    """Return the server classes that installed packages offer and that can be used, in order of their names."""
    return [found for found in map(_loaded, _entries()) if not isinstance(found, str)]


def broken_servers() -> list[str]:
    """Return a sentence for each server that an installed package offers and that cannot be used."""
    return [found for found in map(_loaded, _entries()) if isinstance(found, str)]


def _entries() -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))


def _loaded(entry: EntryPoint) -> type[HostedServer] | str:
    """Return the class that an entry point names, or why it cannot be had."""
    package = f" of package {entry.dist.name}" if entry.dist is not None else ""
    name = f"server {entry.name}{package} ({entry.value}) is not used"
    try:
        server = entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - whatever a module does when it is imported, SystemExit too
        return f"{name}: {describe(error)}"
    if isinstance(server, type) and issubclass(server, HostedServer):
        return server
    return f"{name}: it is no HostedServer"
