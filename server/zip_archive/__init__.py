"""The server of ZIP archives as volumes.

Read: stored and deflated entries, ZIP64, names in UTF-8 and code page 437, padding after the archive and bytes before
it.  Refused by name when opened: encrypted entries and other methods.  A symbolic link is a file that holds its target.
"""

from callgate.server.zip_archive.server import ZipServer

__all__ = ["ZipServer"]
