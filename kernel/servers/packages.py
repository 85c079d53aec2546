"""Servers of installed packages, found by their entry points; a broken one does not affect the others.

An entry point names a server's class, or a `Recogniser` that imports it for a partition that it claims.  An exception
that a package raises at import becomes a sentence that names the server.

`importlib.metadata` reads what every package declares; importing it is a twentieth of a boot.  So what it found is kept
in callgate's cache for as long as the packages' declarations are the same files, by name, time and size.
"""

from __future__ import annotations

import json
import os
import sys
from functools import lru_cache
from hashlib import sha256
from importlib import import_module
from importlib.machinery import PathFinder
from operator import attrgetter
from pathlib import Path
from typing import Final, NamedTuple

from callgate.asm.assembler.cache import cache_directory
from callgate.kernel.common.checked_files import read_checked, write_checked
from callgate.server.hosted import Recogniser
from callgate.server.raised import describe

GROUP: Final = "callgate.servers"
DECLARATIONS: Final = "entry_points.txt"
INFORMATION: Final = (".dist-info", ".egg-info", "EGG-INFO")  # how the names of folders with declarations end


class Entry(NamedTuple):
    """A server that a package offers: its name, where it is as the package says it, and the package's name."""

    name: str
    value: str
    package: str

    def load(self) -> object:
        """Return the object `module:attribute [extras]`; raises what the module raises at import."""
        module, _, attribute = self.value.partition("[")[0].strip().partition(":")
        found = import_module(module.strip())
        return attrgetter(attribute.strip())(found) if attribute else found


Declared = tuple[tuple[str, tuple[tuple[str, int, int], ...]], ...]
"""The folders of `sys.path` with declarations of packages; of each file its name, time in nanoseconds, bytes."""


def installed_servers() -> list[type[Recogniser]]:
    """Return the usable recognisers of servers that installed packages offer, in order of their names."""
    return [found for found in map(_loaded, _entries()) if not isinstance(found, str)]


def broken_servers() -> list[str]:
    """Return a sentence for each server that an installed package offers and that cannot be used."""
    return [found for found in map(_loaded, _entries()) if isinstance(found, str)]


def _entries() -> list[Entry]:
    """Return what the packages that are installed now declare."""
    declared = ((folder, _declarations(folder or os.curdir)) for folder in sys.path)
    return _entries_of(tuple((folder, files) for folder, files in declared if files))


def _declarations(folder: str) -> tuple[tuple[str, int, int], ...]:
    """Return name, time and size of each file in a folder of `sys.path` that declares entry points.

    Of an archive that is imported from, the file itself.
    """
    try:
        state = os.stat(folder)  # noqa: PTH116 - no Path for each
        names = _information(folder, state.st_dev, state.st_ino, state.st_mtime_ns)
    except NotADirectoryError:
        names = [""]
    except OSError:
        return ()
    found = []
    for name in names:
        try:
            state = os.stat(f"{folder}/{name}/{DECLARATIONS}" if name else folder)  # noqa: PTH116
        except OSError:
            continue
        found.append((name, state.st_mtime_ns, state.st_size))
    return tuple(sorted(found))


@lru_cache(maxsize=64)
def _information(folder: str, _device: int, _inode: int, _changed: int) -> list[str]:
    """Return the folders with declarations of packages in a folder, which is read again when it has been changed.

    By the time of its last change: Python's own finder of modules relies on that, too.
    """
    return [name for name in os.listdir(folder) if name.endswith(INFORMATION)]  # noqa: PTH208


@lru_cache(maxsize=1)
def _entries_of(declared: Declared) -> list[Entry]:
    """Return the entries of our group, out of the cache if it has them."""
    others = [finder for finder in sys.meta_path if finder is not PathFinder and hasattr(finder, "find_distributions")]
    try:
        known = json.dumps([sys.version, sys.prefix, declared])
        kept = cache_directory() / f"servers-{sha256(known.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
    except RuntimeError:
        return _read_entries()
    if others:  # packages that lie in no folder of `sys.path`
        return _read_entries()
    entries = _kept_entries(kept)
    if entries is None:
        entries = _read_entries()
        write_checked(kept, json.dumps(entries).encode())
    return entries


def _kept_entries(path: Path) -> list[Entry] | None:
    try:
        content = read_checked(path)
    except OSError:
        return None
    return None if content is None else [Entry(*entry) for entry in json.loads(content)]


def _read_entries() -> list[Entry]:
    from importlib.metadata import entry_points

    found = entry_points(group=GROUP)
    return sorted(Entry(entry.name, entry.value, entry.dist.name if entry.dist else "") for entry in found)


def _loaded(entry: Entry) -> type[Recogniser] | str:
    """Return the class that an entry point names, or why it cannot be used."""
    try:
        found = entry.load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001 - any exception of a module at import, SystemExit too
        return f"{_name(entry)} is not used: {describe(error)}"
    if isinstance(found, type) and issubclass(found, Recogniser):
        return found
    return f"{_name(entry)} is not used: it is neither a HostedServer nor a Recogniser"


def _name(entry: Entry) -> str:
    package = f" of package {entry.package}" if entry.package else ""
    return f"server {entry.name}{package} ({entry.value})"
