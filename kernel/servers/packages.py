"""Servers of installed packages, found by their entry points; a broken one does not affect the others.

An exception that a package raises at import becomes a sentence that names the server.
"""

from __future__ import annotations

import os
import sys
from functools import lru_cache
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
    """Return the entry points of the packages that are installed now.

    Reading every package's takes some 5 ms, so they are kept for as long as no folder of `sys.path` changes, which it
    does when a package is installed or removed.
    """
    return _entries_in(tuple((folder, _changed(folder)) for folder in sys.path))


@lru_cache(maxsize=1)
def _entries_in(_folders: tuple[tuple[str, int], ...]) -> list[EntryPoint]:
    return sorted(entry_points(group=GROUP), key=lambda entry: (entry.name, entry.value))


def _changed(folder: str) -> int:
    """Return when a folder was last changed, in nanoseconds of the host; 0 if it does not exist."""
    try:
        return os.stat(folder or os.curdir).st_mtime_ns  # noqa: PTH116 - a Path of each costs more than the call
    except OSError:
        return 0


def _loaded(entry: EntryPoint) -> type[HostedServer] | str:
    """Return the class that an entry point names, or why it cannot be used."""
    try:
        server = entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - any exception of a module at import, SystemExit too
        return f"{_name(entry)} is not used: {describe(error)}"
    if isinstance(server, type) and issubclass(server, HostedServer):
        return server
    return f"{_name(entry)} is not used: it is not a HostedServer"


def _name(entry: EntryPoint) -> str:
    package = f" of package {entry.dist.name}" if entry.dist is not None else ""
    return f"server {entry.name}{package} ({entry.value})"
