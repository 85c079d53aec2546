"""Exceptions that a server may raise on purpose: an error code for the client and a sentence for the log.

Any other exception that leaves a handler is a fault of the server and kills it; clients then see SERVER_DIED.
"""

from callgate.kernel.abi.errors import ErrorCode


class FileSystemError(Exception):
    """A request fails with ``code``; the server lives on.

    ``text`` names the place and the reason, for the log; the client gets the code alone.
    """

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class MountError(FileSystemError):
    """The volume cannot be served at all: it is reported and skipped."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.CORRUPT) -> None:
        super().__init__(code, text)


class ReplyError(ValueError):
    """A handler built a reply that no message can carry: a mistake in the server, which it kills."""
