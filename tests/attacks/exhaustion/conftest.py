"""Programs of the tests of files, run on a system with disks and no shell."""

from file_sessions import session

__all__ = ["session"]
