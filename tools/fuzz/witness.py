"""The files that a damaged volume must still give: those of which no sector was touched, nor of the path to them.

The path to a file is all that its server reads from the disk, from mounting to the last byte.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from callgate.disk.media import Medium
from callgate.kernel.abi.calls import ServerCall
from callgate.kernel.abi.thread import HostedGate
from callgate.server.errors import FileSystemError
from callgate.server.hosted import HostedServer
from callgate.server.testing import Rehearsal
from callgate.tools.inspection.volume_walk import VolumeWalk

FILES_LIMIT = 60  # of a volume
SIZE_LIMIT = 1 << 20  # bytes of a file


class Witness(NamedTuple):
    """A file of the sound volume: its content, and every sector on which that depends."""

    path: str
    data: bytes
    sectors: frozenset[int]


def locked_sectors(rehearsal: Rehearsal) -> Iterable[int]:
    """Yield the sectors that a server has locked so far, in order."""
    for call in rehearsal.calls:
        if (call.gate, call.eax) == (HostedGate.SERVER, ServerCall.LOCK_BLOCKS):
            first = call.edx << 32 | call.esi
            yield from range(first, first + call.ecx)


def content(walk: VolumeWalk, path: str, number: int, size: int) -> tuple[bytes, set[int]]:
    """Return the bytes of an open file, as far as they can be read, and the sectors that held them."""
    made = bytearray()
    sectors: set[int] = set()
    while len(made) < size:
        reply = walk.read(path, number, len(made))
        if reply is None:
            break
        start, covered, answer = reply
        data = walk.data(start, covered, answer)
        if start + len(data) <= len(made):
            break
        made[start:] = data
        for first, count in answer.sectors:
            sectors.update(range(first, first + count) if first is not None else ())
    return bytes(made), sectors


def witnesses(server: type[HostedServer], medium: Medium) -> tuple[list[Witness], list[int]]:
    """Return the files of a sound volume, and the sectors of its structures, the first ones first.

    None and none if it cannot be mounted.
    """
    found = []
    structures: dict[int, None] = {}
    try:
        walk = VolumeWalk(server, medium)
    except FileSystemError:
        return [], []
    paths = [entry.path for entry in walk.entries(FILES_LIMIT) if not entry.is_directory]
    structures |= dict.fromkeys(locked_sectors(walk.rehearsal))
    for path in paths:
        walk = VolumeWalk(server, medium)
        opened = walk.open(path)
        if opened is None or opened[1] > SIZE_LIMIT:
            continue
        data, sectors = content(walk, path, *opened)
        if len(data) == opened[1]:
            way = dict.fromkeys(locked_sectors(walk.rehearsal))
            structures |= way
            found.append(Witness(path, data, frozenset(sectors | set(way))))
    return found, list(structures)
