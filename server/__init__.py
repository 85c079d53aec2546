"""The ring-3 server runtime and the file-system servers; they know the ABI only.

What a server's author needs is here; docs/writing-a-server.md shows how it goes together.
"""

from callgate.server.disk import Disk, SectorReader
from callgate.server.errors import FileSystemError, MountError, ReplyError
from callgate.server.gate import (
    GateCall,
    GateResult,
    allocate,
    complete,
    directory_changed,
    free,
    lock_blocks,
    unlock_blocks,
)
from callgate.server.hosted import HostedServer, VolumeGeometry, operation
from callgate.server.listing import ListedFile, build_pages, fitting_pages, read_pages
from callgate.server.message import (
    Data,
    Failure,
    Object,
    Registers,
    RegisterValues,
    Reply,
    Request,
    Sectors,
    ServerMemory,
)
from callgate.server.mounted import MountedServer, position_of, sectors_reply
from callgate.server.open_files import OpenFiles
from callgate.server.paths import Path, parse_path
from callgate.server.pieces import Extract, cut, cut_hole
from callgate.server.versions import DirectoryVersions, Pages

__all__ = [
    "Data",
    "DirectoryVersions",
    "Disk",
    "Extract",
    "Failure",
    "FileSystemError",
    "GateCall",
    "GateResult",
    "HostedServer",
    "ListedFile",
    "MountError",
    "MountedServer",
    "Object",
    "OpenFiles",
    "Pages",
    "Path",
    "RegisterValues",
    "Registers",
    "Reply",
    "ReplyError",
    "Request",
    "SectorReader",
    "Sectors",
    "ServerMemory",
    "VolumeGeometry",
    "allocate",
    "build_pages",
    "complete",
    "cut",
    "cut_hole",
    "directory_changed",
    "fitting_pages",
    "free",
    "lock_blocks",
    "operation",
    "parse_path",
    "position_of",
    "read_pages",
    "sectors_reply",
    "unlock_blocks",
]
