"""Programs of these tests on a system with disks and no shell; servers of a test's own, and a shell."""

from file_sessions import session
from own_servers import served

__all__ = ["served", "session"]
