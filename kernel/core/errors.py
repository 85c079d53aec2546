"""The errors by which policy refuses a call: an error code for the caller, a text for the log.

The class says whose fault it is, so that code that catches an error decides by its class and compares no codes:

* CallerError: an argument of the call.  The same call fails again.
* ServerAnswer: the server works, and reports an error of its files.  ServerShortage: it has no room at present.
  NameAbsent: there is no file of that name, and asking again is no use.
* ServerFault: the server broke the protocol, or has ended.
* Shortage: memory, a table or a share is used up.  Some of it may become free.
* DiskError: the disk cannot be read, or has been removed.
* GivenUp: the thread must not wait any longer.  That says nothing about what it waited for.
"""

from __future__ import annotations

from typing import ClassVar, Final

from callgate.kernel.abi.errors import ERROR_TEXT, SERVER_ERRORS, ErrorCode, error_of_server


class PolicyError(Exception):
    """An error code that ends a system call, request or job; always raised as one of the classes below."""

    CODES: ClassVar[frozenset[ErrorCode]] = frozenset()

    def __init__(self, code: ErrorCode, text: str = "") -> None:
        assert code in self.CODES, f"{type(self).__name__} does not stand for {code.name}"
        super().__init__(code, text)
        self.code = code

    def __str__(self) -> str:
        return str(self.args[1]) or ERROR_TEXT[self.code]

    def fresh(self) -> PolicyError:
        """Return an equal error: a recorded error is raised in several threads, each time as a new object."""
        return type(self)(*self.args)


class CallerError(PolicyError):
    """The caller named something that does not exist, is not its own, or must not be used in this way."""

    CODES = frozenset(
        {
            ErrorCode.BAD_CALL,
            ErrorCode.BAD_ARGUMENT,
            ErrorCode.BAD_ADDRESS,
            ErrorCode.BAD_HANDLE,
            ErrorCode.NOT_FOUND,
            ErrorCode.IS_DIRECTORY,
            ErrorCode.NAME_TOO_LONG,
            ErrorCode.READ_ONLY,
            ErrorCode.NOT_EXECUTABLE,
            ErrorCode.NO_CHILD,
            ErrorCode.NO_SCRATCH,
            ErrorCode.COPIED_PAGE,
            ErrorCode.NOT_WRITABLE,
        }
    )


class ServerAnswer(PolicyError):
    """A server answered with an error that it may use."""

    CODES = frozenset(SERVER_ERRORS.values())


class ServerShortage(ServerAnswer):
    """A server has no memory or no room in its tables; it may have some after it has been told what to release."""

    CODES = frozenset({ErrorCode.NO_MEMORY, ErrorCode.NO_RESOURCES})


class NameAbsent(ServerAnswer):
    """A server answered that there is nothing at a path, and vouches for it until it says that a directory has changed."""

    CODES = frozenset({ErrorCode.NOT_FOUND})


class ServerFault(PolicyError):
    """A server broke the protocol, or has ended."""

    CODES = frozenset({ErrorCode.BAD_REPLY, ErrorCode.SERVER_DIED})


class Shortage(PolicyError):
    """Memory, a table of the kernel or a share of one is used up; some of it may become free."""

    CODES = frozenset({ErrorCode.NO_MEMORY, ErrorCode.NO_RESOURCES})


class DiskError(PolicyError):
    """The disk reported an error, or has been removed."""

    CODES = frozenset({ErrorCode.IO_ERROR, ErrorCode.UNPLUGGED})


class GivenUp(PolicyError):
    """The current thread has been killed, or interrupted by Ctrl-C or a deadline."""

    CODES = frozenset({ErrorCode.KILLED, ErrorCode.INTERRUPTED})


class Overdue(GivenUp):
    """A server has not answered before its deadline."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.INTERRUPTED, "no answer in time")

    def fresh(self) -> Overdue:
        """Return a new Overdue."""
        return Overdue()


#: The kernel's own errors.  No code belongs to two of them.
KERNEL_ERRORS: Final = (CallerError, ServerFault, Shortage, DiskError, GivenUp)


def error_of_code(code: ErrorCode) -> PolicyError:
    """Return the error for one of the kernel's own codes: one from machine code, or that of a dead endpoint.

    StopIteration if `code` is not in KERNEL_ERRORS.
    """
    return next(error(code) for error in KERNEL_ERRORS if code in error.CODES)


def error_of_reply(value: int) -> PolicyError:
    """Return the error for EAX of a server's reply with CF set; ServerFault if a server must not use that code."""
    code = error_of_server(value)
    if code is ErrorCode.BAD_REPLY:
        return ServerFault(code)
    return ServerShortage(code) if code in ServerShortage.CODES else ServerAnswer(code)


class KernelPanic(Exception):
    """The kernel contradicts itself, or ring 0 faulted where no fault is expected."""
