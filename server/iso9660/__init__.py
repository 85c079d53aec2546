"""The ISO 9660 file-system server, and the reader it is built on.

Read: blocks of 512, 1,024 and 2,048 bytes; Rock Ridge names, links, modes, times and relocated directories; Joliet
names; multi-extent files.  Refused by name when opened: interleaved files, zisofs, special files.  UDF is not read.
"""

from callgate.server.iso9660.server import IsoServer
from callgate.server.iso9660.volume import IsoVolume

__all__ = ["IsoServer", "IsoVolume"]
