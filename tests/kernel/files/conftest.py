"""Programs of these tests, run on a system with disks and no shell."""

from file_sessions import session

__all__ = ["session"]
